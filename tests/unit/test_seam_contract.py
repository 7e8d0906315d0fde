"""Protects the batch seam: what we override in Faust and aiokafka must exist and be called as when it was written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import aiokafka
import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from faust.app.base import App, BootStrategy
from faust.serializers.schemas import Schema
from faust.streams import Stream
from faust.tables.recovery import Recovery
from faust.topics import Topic
from faust.transport import consumer as base
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver
from faust.types.transports import SchedulingStrategyT
from faust.types.tuples import ConsumerMessage, Message
from mode.threads import ServiceThread

from streamproc.shell import seam
from streamproc.shell.app import FilelessApp


def test_the_pinned_versions_are_those_the_seam_was_written_for() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka") == "0.14.0"


# What we override -> the parameters it has in the library.
OVERRIDDEN: list[tuple[type, type, str, list[str]]] = [
    (seam.BatchScheduler, SchedulingStrategyT, "iterate", ["self", "records"]),
    (seam.BatchConsumer, driver.Consumer, "_new_consumer_thread", ["self"]),
    (seam.BatchConsumer, driver.Consumer, "_to_message", ["self", "tp", "record"]),
    (seam.BatchConsumer, base.Consumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
    (seam.BatchConsumer, base.Consumer, "ack", ["self", "message"]),
    (seam.BatchConsumer, driver.Consumer, "verify_event_path", ["self", "now", "tp"]),
    (seam.BatchConsumer, base.Consumer, "force_commit", ["self", "topics", "start_new_transaction"]),
    (seam.BatchConsumer, base.Consumer, "perform_seek", ["self"]),
    (seam.BatchConsumer, base.Consumer, "on_partitions_revoked", ["self", "revoked"]),
    (seam.BatchConsumer, base.Consumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
    (seam.ConsumerThread, driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
    (seam.ConsumerThread, driver.AIOKafkaConsumerThread, "_commit", ["self", "offsets"]),
    (
        seam.ConsumerThread,
        driver.AIOKafkaConsumerThread,
        "_fetch_records",
        ["self", "consumer", "active_partitions", "timeout", "max_records"],
    ),
    (
        seam.ConsumerThread,
        driver.AIOKafkaConsumerThread,
        "_seek_wait",
        ["self", "consumer", "partitions"],
    ),
    (FilelessApp, App, "_create_directories", ["self"]),
]


@pytest.mark.parametrize(("ours", "theirs", "name", "parameters"), OVERRIDDEN, ids=lambda v: str(v)[:60])
def test_an_overridden_method_has_the_signature_we_know(
    ours: type, theirs: type, name: str, parameters: list[str]
) -> None:
    assert name in vars(ours), f"{ours.__name__} no longer overrides {name}: take it from this list"
    assert list(inspect.signature(vars(theirs)[name]).parameters) == parameters
    assert list(inspect.signature(vars(ours)[name]).parameters) == parameters
    assert inspect.iscoroutinefunction(inspect.unwrap(vars(theirs)[name])) == inspect.iscoroutinefunction(
        vars(ours)[name]
    )


def test_nothing_else_of_faust_is_overridden() -> None:
    """The list above is complete: a new override must be added to it with its caller."""
    known = {(ours, name) for ours, _, name, _ in OVERRIDDEN}
    pairs = [
        (seam.BatchScheduler, SchedulingStrategyT),
        (seam.BatchConsumer, driver.Consumer),
        (seam.ConsumerThread, driver.AIOKafkaConsumerThread),
        (FilelessApp, App),
    ]
    for ours, theirs in pairs:
        own = {n for n, v in vars(ours).items() if inspect.isfunction(v) and n != "__init__"}
        unlisted = {n for n in own if hasattr(theirs, n) and (ours, n) not in known}
        assert not unlisted


# Caller -> a piece of its source that reaches what we override, or that we rely on.
CALLED: list[tuple[Callable[..., Any], str]] = [
    (base.Consumer.__init__, "self.scheduler = self.app.conf.ConsumerScheduler()"),
    (base.Consumer.getmany, "self.scheduler.iterate(records)"),
    (base.Consumer.getmany, "to_message = self._to_message"),
    (base.Consumer.getmany, "new_generation_id != generation_id"),
    (base.Consumer._drain_messages, "await self._add_gap("),
    (base.Consumer._drain_messages, "get_read_offset = self._read_offset.__getitem__"),
    (base.Consumer._drain_messages, "if r_offset is None or offset >= r_offset:"),
    (base.ThreadDelegateConsumer.threadsafe_partitions_assigned, "self.on_partitions_assigned"),
    (Recovery._resume_streams, "consumer.resume_flow()"),
    (base.Consumer.commit, "await self.force_commit("),
    (base.Consumer._commit_handler, "await self.commit()"),
    (base.Consumer.on_stop, "await self.commit_and_end_transactions()"),
    (base.Consumer.commit_and_end_transactions, "await self.commit("),
    (base.Consumer.perform_seek, "self._committed_offset.update("),
    (base.Consumer.verify_all_partitions_active, "self.verify_event_path("),
    (base.ThreadDelegateConsumer.__init__, "self._new_consumer_thread()"),
    (base.ThreadDelegateConsumer._commit, "self._thread.commit("),
    (base.ThreadDelegateConsumer.seek_wait, "self._thread.seek_wait("),
    (base.ThreadDelegateConsumer.threadsafe_partitions_revoked, "self.on_partitions_revoked"),
    (driver.AIOKafkaConsumerThread.commit, "self._commit"),
    (driver.AIOKafkaConsumerThread.getmany, "self._fetch_records"),
    (driver.AIOKafkaConsumerThread._fetch_records, "fetcher.fetched_records("),
    (driver.AIOKafkaConsumerThread.seek_wait, "self._seek_wait"),
    (base.ThreadDelegateConsumer._getmany, "return await self._thread.getmany("),
    (driver.AIOKafkaConsumerThread._create_consumer, "self._create_worker_consumer(transport)"),
    (driver.AIOKafkaConsumerThread.on_start, "self._create_consumer("),
    (driver.AIOKafkaConsumerThread._seek_wait, "self.consumer._read_offset[tp] = offset"),
    (driver.ConsumerRebalanceListener.on_partitions_revoked, "thread.on_partitions_revoked("),
    (driver.ConsumerRebalanceListener.on_partitions_assigned, "consumer_generation_id = generation"),
    (ConsumerMessage.on_final_ack, "consumer.ack(self)"),
    (Message.ack, "self.on_final_ack(consumer)"),
    (Recovery._resume_streams, "consumer.perform_seek()"),
    (Conductor._subscriber, "self.app.consumer.subscribe("),
    (Topic._compile_decode, "self.schema.compile("),
    (Schema.compile, "create_event = app.create_event"),
    (Stream.noack, "enable_acks=False"),
    (Stream.ack, "event.ack()"),
    (App._on_partitions_revoked, "self.flow_control.clear)"),
    (App.on_first_start, "self._create_directories()"),
    (BootStrategy._should_enable_kafka_producer, "self.enable_kafka_producer"),
    (ServiceThread.__init__, "thread_loop or asyncio.new_event_loop()"),
]


def named(value: object) -> str:
    """Return a name that is the same in every process: no address."""
    return getattr(value, "__qualname__", None) or str(value).partition(" at 0x")[0]


@pytest.mark.parametrize(("caller", "piece"), CALLED, ids=named)
def test_what_we_override_is_still_called(caller: Callable[..., Any], piece: str) -> None:
    task = getattr(caller, "fun", caller)  # mode wraps a Service.task in an object
    source = " ".join(inspect.getsource(inspect.unwrap(task)).split())
    wanted = " ".join(piece.split())
    assert wanted in source or wanted.replace("(", "( ") in source


def test_the_constructors_take_what_we_give_them() -> None:
    consumer = inspect.signature(aiokafka.AIOKafkaConsumer.__init__).parameters
    for name in (
        "fetch_max_wait_ms",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "partition_assignment_strategy",
        "isolation_level",
        "max_poll_interval_ms",
        "check_crcs",
    ):
        assert name in consumer
    producer = inspect.signature(aiokafka.AIOKafkaProducer.__init__).parameters
    for name in ("enable_idempotence", "linger_ms", "max_batch_size", "max_request_size", "acks"):
        assert name in producer
    assert RangePartitionAssignor.name == "range"


def test_a_producer_can_still_be_left_with_what_it_holds() -> None:
    """`publish` fails what an abandoned producer holds, and ends its sending task."""
    assert list(inspect.signature(MessageAccumulator.fail_all).parameters) == ["self", "exception"]
    assert isinstance(vars(Sender)["sender_task"], property)
    source = inspect.getsource(aiokafka.AIOKafkaProducer.stop)
    assert "self._message_accumulator.close()" in source
    assert "self._sender.sender_task" in source


def test_the_stream_still_acknowledges_what_it_only_skips() -> None:
    """Why Faust's acks must never reach a commit. Should this change, the seam may become simpler."""
    source = inspect.getsource(Stream._py_aiter)
    assert "do_ack or value is skipped_value" in source

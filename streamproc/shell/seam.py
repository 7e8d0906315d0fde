"""Faust over batches, with commits of our own: the one place that touches the inside of Faust and aiokafka.

Stock Faust spends four tasks on each record, commits a record whose agent raised, and commits an input whose
output was refused. Through its public seams (a scheduler, a schema, a transport) we change three things:

    BatchScheduler   one partition's fetch becomes ONE record-like object instead of thousands
    BatchSchema      that object becomes one Faust event, without decoding
    BatchConsumer    what may be committed is what the ledger says, nothing else

    aiokafka fetch ── BatchScheduler ── BatchConsumer._to_message ── agent ── host
                                             │ ledger.deliver                  │ ledger.acknowledge, .allow
                                             └─────────── ledger ──────────────┘
                                                            └── force_commit ── broker

Faust's own notion of "acked" never reaches a commit: its stream acknowledges messages that it merely skips
(another generation, flow suspended), and takes a single hole in offsets for a compacted record. What Faust
acks only leaves its set of pending messages.

The names with an underscore that are overridden here are listed, with their callers, in
`tests/unit/test_seam_contract.py`; both libraries are pinned exactly for that reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.transports import SchedulingStrategyT
from yarl import URL

from streamproc.config import BrokerTable
from streamproc.shell.ledger import Ledger, Tp
from streamproc.shell.site_file import client_settings
from streamproc.values import Record

log = logging.getLogger(__name__)
# Faust's services log each start and stop under the module of their class: these words are Faust's, not ours.
FAUST_LOG = logging.getLogger("faust.streamproc")

NO_GENERATION = -1
POLL_INTERVAL_MAX_MS = 300_000  # a worker that does not poll for this long leaves its group
LAST_COMMITS_MAX = 3  # tries, when partitions go


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition, as fetched; the value of a Faust event. `tp` is the wire name."""

    tp: Tp
    generation: int
    records: Sequence[ConsumerRecord]

    @property
    def last_offset(self) -> int:
        """Return the offset of the last record."""
        return int(self.records[-1].offset)


def to_records(tp: Tp, batch: Batch) -> list[Record]:
    """Return the records of a batch as the core sees them."""
    topic, partition = tp
    new = tuple.__new__  # what Record(...) does, at two thirds of the price
    return [
        new(Record, (topic, partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())))
        for r in batch.records
    ]


class Owner(Protocol):
    """What the seam asks of the worker when partitions come and go; all on the worker's event loop."""

    def readers(self, tp: Tp) -> Sequence[str]:
        """Return the stages that read a partition: each answers every batch of it."""

    async def take_over(self, committed: Mapping[Tp, int | None], generation: int) -> Mapping[Tp, int]:
        """Rebuild the states of these partitions; return where to read from, if not the committed offset."""

    async def surrender(self, revoked: frozenset[Tp]) -> None:
        """Finish what is under way and save it: the partitions go. Bounded in time; never raises."""


class BatchRecord:
    """Looks like one aiokafka record to Faust; `value` is the list of records of one partition."""

    __slots__ = ("offset", "partition", "timestamp", "topic", "value")

    timestamp_type = 0
    headers: ClassVar[tuple[()]] = ()
    key = None
    checksum = None
    serialized_key_size = 0
    serialized_value_size = 0

    def __init__(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        last = records[-1]
        self.topic, self.partition = tp.topic, tp.partition
        self.offset, self.timestamp = last.offset, last.timestamp
        self.value = records


class Fetched(dict[TP, list[ConsumerRecord]]):
    """What one fetch brought, with the number of seeks that came before it."""

    def __init__(self, records: Mapping[TP, list[ConsumerRecord]], epoch: int) -> None:
        super().__init__(records)
        self.epoch = epoch


class BatchScheduler(SchedulingStrategyT):
    """Gives Faust one object per partition and fetch, of at most `records_max` records."""

    records_max: ClassVar[int] = BrokerTable().max_batch_records

    def __init__(self) -> None:
        self.consumer: BatchConsumer | None = None

    def iterate(self, records: Mapping[TP, list[ConsumerRecord]]) -> Iterator[tuple[TP, Any]]:
        """Yield the batches round robin over partitions, so that none waits for a long queue of another."""
        consumer = self.consumer
        if consumer is not None and isinstance(records, Fetched) and not consumer.is_current(records):
            return
        step = self.records_max
        longest = max(map(len, records.values()), default=0)
        for start in range(0, longest, step):
            for tp, fetched in records.items():
                if start < len(fetched):
                    batch = fetched if len(fetched) <= step else fetched[start : start + step]
                    if consumer is not None:
                        consumer.note(tp, batch)  # before Faust can drop it
                    yield tp, BatchRecord(tp, batch)


def scheduler_of(records_max: int) -> type[BatchScheduler]:
    """Return a scheduler class with this batch size (Faust makes the instance itself)."""
    return type("BatchScheduler", (BatchScheduler,), {"records_max": records_max})


class BatchSchema(Schema):  # type: ignore[type-arg]  # not subscriptable at run time
    """One event per batch; the records in it stay raw bytes."""

    def compile(self, app: Any, **_decoders: Any) -> Any:  # noqa: ANN401  (Faust's own loose signature)
        """Return the function that wraps a message as an event."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ANN401, ARG001
            return create_event(None, message.value, None, message)

        return decode


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread with a client configured for a control room, and commits that may fail."""

    logger = FAUST_LOG
    epoch = 0

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        self.epoch += 1  # no await between this and the seeks: what is fetched from here on is new
        await super()._seek_wait(consumer, partitions)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Fetched:
        # A fetch that was under way during a seek may bring records from before it. Faust would deliver them as
        # the first after the seek; what lies between would never come.
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        return Fetched(records, self.epoch)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:  # noqa: ANN401
        broker: BrokerTable = transport.broker
        # Range: partition p of all topics with the same number of partitions goes to the same worker, which a
        # stage with two inputs needs. Faust's default here (round robin) parts them.
        self._assignor = RangePartitionAssignor
        return AIOKafkaConsumer(
            client_id=transport.client_id,
            group_id=broker.group,
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=None,
            max_poll_interval_ms=POLL_INTERVAL_MAX_MS,
            fetch_max_wait_ms=broker.fetch_max_wait_ms,
            session_timeout_ms=broker.session_timeout_ms,
            heartbeat_interval_ms=broker.heartbeat_interval_ms,
            rebalance_timeout_ms=broker.rebalance_timeout_ms,
            check_crcs=True,
            **client_settings(broker),
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # Stock: any Kafka error here crashes the app, so a broker restart would end every worker.
        given = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        try:
            await self._ensure_consumer().commit(given)
        except (CommitFailedError, IllegalStateError):
            return False  # rebalanced meanwhile: whoever has the partitions now commits for himself
        except KafkaError as error:
            log.warning("commit failed, tried again at the next", extra={"error": repr(error)})
            return False
        return True


class BatchConsumer(driver.Consumer):
    """Faust's consumer with batches for messages and the ledger for commits."""

    logger = FAUST_LOG

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self.ledger = Ledger()
        super().__init__(*args, **kwargs)
        scheduler: Any = self.scheduler
        scheduler.consumer = self
        # Faust drops what lies below the last offset it has handed out, and sets that offset also after a seek
        # back: records between would be lost. The host knows what it has seen.
        self._read_offset = _NeverRead()

    def is_current(self, records: Fetched) -> bool:
        """Return whether these were fetched after the last seek."""
        thread: Any = self._thread
        return bool(records.epoch == thread.epoch)

    def note(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        """Enter a batch into the ledger."""
        place = Tp(tp.topic, tp.partition)
        readers = self._owner.readers(place)
        self.ledger.deliver(place, self._generation, records[0].offset, records[-1].offset, readers)

    @property
    def _owner(self) -> Owner:
        owner: Owner = self.transport.owner  # type: ignore[attr-defined]
        return owner

    @property
    def _generation(self) -> int:
        known = self.app.consumer_generation_id
        return NO_GENERATION if known is None else int(known)

    def _assigned(self) -> set[Tp]:
        return {Tp(tp.topic, tp.partition) for tp in self.assignment()}

    def _new_consumer_thread(self) -> ConsumerThread:
        loop = uvloop.new_event_loop()
        self.transport.loops.append(loop)  # type: ignore[attr-defined]
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon, thread_loop=loop)

    def _to_message(self, tp: TP, record: Any) -> Any:  # noqa: ANN401
        message: Any = super()._to_message(tp, record)
        message.generation_id = self._generation
        batch = Batch(Tp(tp.topic, tp.partition), message.generation_id, record.value)
        message.value = batch
        return message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: a batch carries its range, the holes between batches are nobody's."""

    def ack(self, message: Any) -> bool:  # noqa: ANN401
        """Only end Faust's own tracking of a message; commits follow the ledger."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: our own watch judges progress (`streamproc.shell.watch`)."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ANN401, ARG002
        """Commit what the ledger permits, of the partitions that are ours now."""
        assigned = self._assigned()
        due = {tp: place for tp, place in self.ledger.committable().items() if tp in assigned}
        if not due or not await self._commit({TP(*tp): offset for tp, (_, offset) in due.items()}):
            return False
        for tp, (generation, offset) in due.items():
            self.ledger.committed(tp, generation, offset)
        return True

    async def commit_all(self) -> None:
        """Commit all that may be committed, before the partitions go.

        Once is not enough: Faust's `commit` does nothing when another one, begun before the last state was saved, is
        under way; and a coordinator may refuse once.
        """
        for _ in range(LAST_COMMITS_MAX):
            await self.commit()
            if not self.ledger.committable():
                return

    async def perform_seek(self) -> None:
        """Go to the committed offsets, let the worker rebuild its states, and start where it says.

        The flow is stopped meanwhile. What was fetched before and is still on its way is unknown to the ledger
        afterwards, and is dropped where it arrives: it will be fetched again.
        """
        self.ledger.clear()
        await super().perform_seek()
        committed = {tp: self._committed_offset.get(TP(*tp)) for tp in self._assigned()}
        starts = await self._owner.take_over(committed, self._generation)
        if starts:
            await self.seek_wait({TP(*tp): offset for tp, offset in starts.items()})
        self.ledger.clear()

    async def read_again(self) -> None:
        """Go back to what is safe, as after a rebalance: something fetched did not reach the host."""
        self.stop_flow()
        await self.perform_seek()
        self.resume_flow()

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:  # noqa: ANN401
        """Let nothing through until the states are there (Faust only stops a flow that had partitions)."""
        self.stop_flow()
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ANN401
        """Let the worker save what it has, commit that, and forget the partitions."""
        gone = frozenset(Tp(tp.topic, tp.partition) for tp in revoked)
        await self._owner.surrender(gone)
        await self.commit_all()
        self.ledger.drop(gone)
        await super().on_partitions_revoked(revoked)


class _NeverRead(dict[TP, Any]):
    """Stands in for Faust's last read offsets: always unknown."""

    def __getitem__(self, _tp: TP) -> None:
        return None

    def __setitem__(self, _tp: TP, _offset: object) -> None: ...

    def update(self, *_pairs: Any, **_more: Any) -> None:  # noqa: ANN401
        """Keep nothing."""


class BatchTransport(driver.Transport):
    """The transport to set as `app.transport`; `owner` is asked when partitions come and go."""

    Consumer = BatchConsumer

    def __init__(self, app: Any, broker: BrokerTable, owner: Owner, client_id: str) -> None:  # noqa: ANN401
        self.broker, self.owner, self.client_id = broker, owner, client_id
        self.loops: list[Any] = []
        # Faust wants an address of its own form; our client takes it from the broker table.
        super().__init__([URL("kafka://unused:9092")], app)

    def close_loops(self) -> None:
        """Close the event loops of consumer threads that have ended."""
        for loop in self.loops:
            if not loop.is_running() and not loop.is_closed():
                loop.close()

"""The worker: the stages as Faust agents over the batch seam. The only place that knows Faust's App.

    Faust (group, assignment, fetch) ── batch ── agent ── StageHost ── Publisher ── Kafka
                                                              │ allow
                                                           Ledger ── BatchConsumer ── commit

It ends in one of three ways: drained (SIGTERM: no new batches, states saved and committed, exit 0, within
`drain_timeout_ms`), at once (a second signal; nothing is lost, the successor repeats), or with a failure that
must not be hidden (nothing can be written, a partition is stuck, the consumer crashed): one line, exit 1, and
what was not acknowledged is not committed.

A worker can also live inside somebody else's event loop (`streamproc demo`, tests): then signals and the exit
are the owner's, `failure` is set and `drain` is called.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
import numpy as np

from streamproc.config import SiteConfig
from streamproc.errors import ShellError, StreamprocError
from streamproc.shell.beat import Beat
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.config_feed import ConfigFeed
from streamproc.shell.health import HealthServer
from streamproc.shell.host import StageHost
from streamproc.shell.ledger import Place, Tp
from streamproc.shell.metrics import Metrics
from streamproc.shell.publish import KafkaPublisher
from streamproc.shell.seam import (
    FAUST_LOG,
    Batch,
    BatchConsumer,
    BatchSchema,
    BatchTransport,
    scheduler_of,
    to_records,
)
from streamproc.shell.shard import Surroundings
from streamproc.shell.state_store import StateStore
from streamproc.shell.topics import wire_name
from streamproc.shell.watch import Outlook
from streamproc.values import DLQ_SUFFIX, TOPIC_HEALTH, TOPIC_STATE, Record, Stage

log = logging.getLogger(__name__)

BUFFERED_BATCHES = 8  # batches waiting in front of one agent; more would only hold memory
TAKE_OVER_TIMEOUT_S = 60.0  # states loaded and pending outputs sent after an assignment
BEAT_S = 1.0
FAILED_DRAIN_S = 3.0
FOREVER_S = 1e9


class FilelessApp(faust.App):
    """Faust without its directories: nothing of ours is kept in files, so a kill leaves none behind."""

    logger = FAUST_LOG

    def _create_directories(self) -> None:
        """Make none."""


class Worker:
    """One process's share of the work: `start`, then wait for `failure` or call `drain`."""

    def __init__(
        self,
        config: SiteConfig,
        stages: Sequence[Stage[Any]],
        metrics: Metrics | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.config, self.clock = config, clock
        self.metrics = metrics or Metrics(clock)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.joined_s: float | None = None  # None: between two assignments
        self.draining = False
        broker = config.broker
        self.publisher = KafkaPublisher(broker, self.name)
        self.outlook = Outlook(broker, self.name)
        broadcast = sorted({topic for stage in stages for topic in stage.broadcast})
        self._feed = ConfigFeed(broker, broadcast, self.name)
        around = Surroundings(
            group=broker.group,
            publisher=self.publisher,
            store=StateStore(broker, self.name),
            feed=self._feed,
            metrics=self.metrics,
            allow=self._allow,
            log_start=lambda tp: self.outlook.start_of(self.wire(tp)),
            clock=clock,
            now_s=clock.monotonic_s,
        )
        self.hosts = tuple(StageHost(stage, around) for stage in stages)
        self._readers: dict[str, tuple[str, ...]] = {}
        for stage in stages:
            for topic in stage.inputs:
                self._readers[topic] = (*self._readers.get(topic, ()), stage.name)
        self._app = self._faust_app()
        for host in self.hosts:
            self._add_agent(host)
        self.beat = Beat(self)
        worker = config.worker
        self.http = HealthServer(
            self.metrics,
            not_live=self.beat.why_not_live,
            not_ready=self.beat.why_not_ready,
            host=worker.http_host,
            port=worker.http_port,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def consumer(self) -> BatchConsumer:
        """Return the consumer; it exists from the start of the app on."""
        consumer: BatchConsumer = self._app.consumer
        return consumer

    @property
    def crash_reason(self) -> BaseException | None:
        """Return why Faust's app has crashed, or None."""
        reason: BaseException | None = self._app.crash_reason if self._app.crashed else None
        return reason

    def wire(self, tp: Tp) -> Tp:
        """Return the partition under its name on the wire."""
        return Tp(wire_name(self.config, tp.topic), tp.partition)

    async def start(self) -> None:
        """Connect and join the group in the background; raise ShellError if Kafka or a topic is not there."""
        await self.http.start()
        await self.publisher.start()
        await self.outlook.start()
        await self._check_topics()
        await self._feed.start()
        snapshot_s = self.config.broker.snapshot_interval_ms / 1000
        self._tasks = [
            asyncio.create_task(self._guarded(self._app.start), name="faust"),
            asyncio.create_task(self._every(BEAT_S, self.beat.once), name="beat"),
            asyncio.create_task(self._every(snapshot_s, self._save), name="save"),
        ]

    async def drain(self) -> bool:
        """Finish what is in hand, save, commit and leave; False if `drain_timeout_ms` was not enough."""
        self.draining = self.beat.stopping()
        try:
            async with asyncio.timeout(self.drain_limit_s()):
                await self._drain()
        except TimeoutError:
            log.warning("not drained in time; what is not committed will be read again")
            return False
        self._transport.close_loops()
        return True

    def drain_limit_s(self) -> float:
        """Return how long `drain` may take; after a failure there is nothing to save."""
        limit_s = self.config.worker.drain_timeout_ms / 1000
        return min(limit_s, FAILED_DRAIN_S) if self.failure.done() else limit_s

    def fail(self, error: BaseException | str) -> None:
        """Note the first failure: the worker must end."""
        if not self.failure.done():
            told = str(error) if isinstance(error, StreamprocError | str) else repr(error)
            log.error("worker fails", extra={"error": told})
            self.failure.set_result(told)

    async def take_over(self, committed: Mapping[Tp, int | None], generation: int) -> Mapping[Tp, int]:
        """Rebuild the states of the partitions that are ours now (`seam.Owner`)."""
        if self.draining:
            return {}
        ours = {self._plain(tp): at for tp, at in committed.items()}
        starts: dict[Tp, int] = {}
        try:
            await self._feed.catch_up()
            for host in self.hosts:
                for tp, at in (await host.take_over(ours, generation)).items():
                    starts[tp] = min(at, starts.get(tp, at))  # a stage leaves away what it has answered
        except StreamprocError as error:
            self.fail(error)
            return {}
        for tp in ours.keys() - starts.keys():
            # Nobody has committed here yet. The consumer may have read ahead before the states were there.
            starts[tp] = await self.outlook.start_of(self.wire(tp))
        self.joined_s = self.clock.monotonic_s()
        log.info("partitions taken over", extra={"generation": generation, "partitions": len(committed)})
        return {self.wire(tp): offset for tp, offset in starts.items()}

    async def surrender(self, revoked: frozenset[Tp]) -> None:
        """Save what goes away, in half the time that the group waits for us (`seam.Owner`)."""
        self.joined_s = None
        gone = frozenset(map(self._plain, revoked))
        try:
            async with asyncio.timeout(self.config.broker.rebalance_timeout_ms / 2000):
                for host in self.hosts:
                    await host.surrender(gone)
        except (TimeoutError, ShellError) as error:
            log.warning("partitions go unsaved, the successor repeats", extra={"error": repr(error)})
        finally:
            for host in self.hosts:
                host.drop({tp.partition for tp in gone if tp.topic in host.stage.inputs})

    async def _drain(self) -> None:
        for task in self._tasks[1:]:
            task.cancel()
        # Faust's start may return after the first batches have been answered: it is not asked.
        if self.joined_s is not None and not self.failure.done():
            assigned = self.consumer.assignment()
            await self.surrender(frozenset(Tp(tp.topic, tp.partition) for tp in assigned))
            await self.consumer.commit_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._app.started:
            await self._app.stop()
        await self._feed.stop()
        await self.outlook.stop()
        await self.publisher.stop()
        await self.http.stop()

    async def _check_topics(self) -> None:
        topics = {TOPIC_STATE, TOPIC_HEALTH}
        for host in self.hosts:
            topics |= {*host.stage.inputs, *host.stage.broadcast}
            topics |= {topic + DLQ_SUFFIX for topic in host.stage.inputs}
        missing = await self.outlook.missing(wire_name(self.config, topic) for topic in topics)
        if missing:
            raise ShellError(f"missing topics: {', '.join(missing)}; `streamproc topics apply` makes them")

    def _faust_app(self) -> Any:  # noqa: ANN401  (Faust's App is half typed)
        broker = self.config.broker
        app = FilelessApp(
            broker.group,
            broker="kafka://unused:9092",  # the transport has the real one
            store="memory://",
            key_serializer="raw",
            value_serializer="raw",
            web_enabled=False,
            producer_threaded=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            broker_commit_interval=broker.snapshot_interval_ms / 1000,
            broker_session_timeout=broker.session_timeout_ms / 1000,
            broker_request_timeout=TAKE_OVER_TIMEOUT_S,
            broker_commit_livelock_soft_timeout=FOREVER_S,
            stream_buffer_maxsize=BUFFERED_BATCHES,
            stream_recovery_delay=0.0,
            stream_wait_empty=False,
            ConsumerScheduler=scheduler_of(broker.max_batch_records),
        )
        # All output goes through our own producer; Faust's would be a connection that nobody uses.
        app.boot_strategy.enable_kafka_producer = False
        self._transport = BatchTransport(app, broker, self, f"streamproc-{self.name}")
        app.transport = self._transport
        return app

    def _add_agent(self, host: StageHost[Any]) -> None:
        names = [wire_name(self.config, topic) for topic in host.stage.inputs]
        channel = self._app.topic(*names, schema=BatchSchema())

        async def agent(stream: Any) -> None:  # noqa: ANN401  (Faust's Stream)
            batches = stream.noack()
            async for batch in batches:
                await self._take(host, batch)
                await batches.ack(batches.current_event)

        self._app.agent(channel, name=f"streamproc.{host.stage.name}", concurrency=1)(agent)

    async def _take(self, host: StageHost[Any], batch: Batch) -> None:
        """Have a batch answered, then say so to the ledger; return only if the worker may go on."""
        ledger = self.consumer.ledger
        reader = host.stage.name
        place = ledger.place(batch.tp, batch.generation, batch.last_offset, reader)
        if place is not Place.NEXT:
            if place is Place.AFTER_A_LOST_ONE and self.joined_s is not None:
                log.warning("a batch was lost on its way, reading again", extra={"topic": batch.tp.topic})
                await self.consumer.read_again()
            return
        tp = self._plain(batch.tp)
        records = to_records(tp, batch)
        self._note_arrival(records)
        try:
            if await host.take(tp, batch.generation, records):
                ledger.acknowledge(batch.tp, batch.generation, batch.last_offset, reader)
            return
        except ShellError as error:
            self.fail(error)
        except Exception as error:  # a fault of ours: never acknowledged, never hidden
            log.exception("stage failed", extra={"stage": host.stage.name})
            self.fail(f"stage {host.stage.name}: {error!r}")
        await asyncio.Event().wait()  # hold the agent: nothing may be acknowledged any more

    def _note_arrival(self, records: Sequence[Record]) -> None:
        sent_ms = np.array([r.ts_ms for r in records], np.float64)
        self.metrics.observe_stage("broker_to_worker", (self.clock.wall_ns() / 1e6 - sent_ms) / 1000)

    def readers(self, tp: Tp) -> Sequence[str]:
        """Return the stages that read a partition (`seam.Owner`)."""
        return self._readers.get(self._plain(tp).topic, ())

    def _allow(self, reader: str, tp: Tp, generation: int, offset: int) -> bool:
        return self.consumer.ledger.allow(self.wire(tp), generation, offset, reader)

    def _plain(self, tp: Tp) -> Tp:
        return Tp(tp.topic.removeprefix(self.config.broker.topic_prefix), tp.partition)

    async def _save(self) -> None:
        for host in self.hosts:
            await host.tick()
        if self.joined_s is not None:
            await self.consumer.commit()

    async def _guarded(self, action: Callable[[], Awaitable[object]]) -> None:
        try:
            await action()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever ends a task of the worker ends the worker)
            self.fail(error)

    async def _every(self, interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
        while not self.failure.done():
            await asyncio.sleep(interval_s)
            await self._guarded(action)

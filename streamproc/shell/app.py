"""The worker: the stages as Faust agents over the batch seam. The only place that knows Faust's App.

    Faust (group, assignment, fetch) ── batch ── agent ── StageHost ── Publisher ── Kafka
                                                             |
                                                   allow_commit ── BatchConsumer ── commit

Ends in one of three ways: drained (SIGTERM: no new batches, snapshots, commits, exit 0), second signal (exit at once,
uncommitted), or a failure that must not be hidden (ShellError: one line, exit 1, uncommitted).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import faust
from faust.types import TP
from yarl import URL

from streamproc.config import SiteConfig
from streamproc.core.messages import Health, encode
from streamproc.errors import ShellError
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.config_feed import ConfigFeed
from streamproc.shell.health import HealthServer
from streamproc.shell.host import StageHost
from streamproc.shell.metrics import Metrics
from streamproc.shell.publish import Publisher, PublishRefused, PublishUnreachable
from streamproc.shell.seam import BatchConsumer, BatchSchema, BatchTransport, scheduler_of
from streamproc.shell.site_file import client_settings
from streamproc.shell.state_store import StateStore
from streamproc.values import TOPIC_HEALTH, Output, Record, Stage

log = logging.getLogger(__name__)

BUFFERED_BATCHES = 8  # batches waiting in front of one agent; more would only hold memory
HEARTBEAT_S = 1.0


class Worker:
    """One process's share of the work. `start`, then wait for `failed` or call `drain`."""

    def __init__(
        self,
        config: SiteConfig,
        stages: Sequence[Stage[Any]],
        metrics: Metrics | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.config, self.clock = config, clock
        self.metrics = metrics or Metrics(clock)
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        table = config.broker
        settings = client_settings(table)
        prefix = table.topic_prefix
        self._prefix = prefix
        self._publisher = Publisher(
            settings, prefix=prefix, delivery_timeout_s=table.delivery_timeout_ms / 1e3
        )
        store = StateStore(settings, prefix=prefix)
        self._feed = ConfigFeed(
            settings, sorted({t for stage in stages for t in stage.broadcast}), prefix=prefix
        )
        self._datadir = tempfile.TemporaryDirectory(prefix="streamproc-")
        self._app = self._faust_app()
        self._hosts = [
            StageHost(
                stage,
                self._publisher,
                store,
                self.metrics,
                group=table.group,
                allow_commit=self._allow_commit,
                feed=self._feed if stage.broadcast else None,
                snapshot_interval_s=table.snapshot_interval_ms / 1e3,
                clock=clock,
            )
            for stage in stages
        ]
        for host in self._hosts:
            self._add_agent(host)
        self.http = HealthServer(
            self.metrics,
            not_live=self._why_not_live,
            not_ready=self._why_not_ready,
            host=config.worker.http_host,
            port=config.worker.http_port,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False
        self._progress_s = clock.monotonic_s()
        self._beats = 0

    async def start(self) -> None:
        """Join the group and work; returns when the group is joined. The HTTP port answers before that."""
        await self.http.start()
        await self._app.start()
        self._tasks = [
            asyncio.create_task(self._every(HEARTBEAT_S, self._heartbeat), name="heartbeat"),
            asyncio.create_task(
                self._every(self.config.broker.snapshot_interval_ms / 1e3, self._save), name="snapshot"
            ),
        ]

    async def drain(self) -> None:
        """Finish what is in hand, save, commit and leave the group; at most `drain_timeout_ms`."""
        self._draining = True
        async with asyncio.timeout(self.config.worker.drain_timeout_ms / 1e3):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if not self.failure.done():
                for host in self._hosts:
                    await host.snapshot_all()
                await self._app.consumer.commit()
            await self._close()

    async def _close(self) -> None:
        await self._app.stop()
        await self._feed.stop()
        await self._publisher.stop()
        await self.http.stop()
        self._datadir.cleanup()

    def _faust_app(self) -> faust.App:
        table = self.config.broker
        BatchConsumer.fetch_max_wait_ms = table.fetch_max_wait_ms
        app = faust.App(
            table.group,
            broker=f"kafka://{table.bootstrap.replace(',', ';')}",
            broker_credentials=_credentials(client_settings(table)),
            datadir=self._datadir.name,
            store="memory://",
            key_serializer="raw",
            value_serializer="raw",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=table.snapshot_interval_ms / 1e3,
            broker_session_timeout=table.session_timeout_ms / 1e3,
            broker_heartbeat_interval=table.heartbeat_interval_ms / 1e3,
            broker_rebalance_timeout=table.rebalance_timeout_ms / 1e3,
            broker_request_timeout=max(table.request_timeout_ms, table.session_timeout_ms) / 1e3,
            broker_max_poll_records=None,
            stream_buffer_maxsize=BUFFERED_BATCHES,
            stream_wait_empty=False,
            ConsumerScheduler=scheduler_of(table.max_batch_records),
        )
        transport = BatchTransport([URL(f"kafka://{server}") for server in table.bootstrap.split(",")], app)
        app.transport = transport
        worker = self

        class Consumer(BatchConsumer):
            on_revoked = staticmethod(lambda revoked: worker._revoked(revoked))  # noqa: SLF001, PLW0108

        transport.Consumer = Consumer  # type: ignore[misc]
        return app

    def _add_agent(self, host: StageHost[Any]) -> None:
        names = [self._prefix + topic for topic in host.stage.inputs]
        topic = self._app.topic(*names, schema=BatchSchema())

        async def agent(stream: Any) -> None:  # noqa: ANN401 - Faust's Stream
            stream = stream.noack()
            async for records in stream:
                event = stream.current_event
                message = event.message
                if message.generation_id == self._app.consumer_generation_id:
                    await self._handle(host, message.topic, message.partition, records)
                await stream.ack(event)

        self._app.agent(topic, name=f"streamproc.{host.stage.name}", concurrency=1)(agent)

    async def _handle(
        self, host: StageHost[Any], wire_topic: str, partition: int, records: Iterable[Any]
    ) -> None:
        topic = wire_topic.removeprefix(self._prefix)
        plain = [
            Record(topic, partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ()))
            for r in records
        ]
        try:
            await host.handle(topic, partition, plain)
        except asyncio.CancelledError:
            raise
        except ShellError as error:
            await self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - a bug of ours: never acknowledged, never hidden
            log.exception("stage failed", extra={"stage": host.stage.name})
            await self._fail(f"stage {host.stage.name}: {type(error).__name__}: {error}")
        self._progress_s = self.clock.monotonic_s()

    async def _fail(self, line: str) -> None:
        if not self.failure.done():
            self.failure.set_result(line)
        await asyncio.Event().wait()  # holds the agent: nothing may be acknowledged any more

    def _allow_commit(self, topic: str, partition: int, offset: int) -> None:
        consumer: Any = self._app.consumer
        consumer.allow_commit(TP(self._prefix + topic, partition), offset)

    def _revoked(self, revoked: Iterable[TP]) -> None:
        for host in self._hosts:
            mine = {self._prefix + topic for topic in host.stage.inputs}
            host.drop({tp.partition for tp in revoked if tp.topic in mine})

    async def _every(self, interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
        while not self.failure.done():
            await asyncio.sleep(interval_s)
            try:
                await action()
            except ShellError as error:
                if not self.failure.done():
                    self.failure.set_result(str(error))

    async def _save(self) -> None:
        for host in self._hosts:
            await host.snapshot_all()

    async def _heartbeat(self) -> None:
        self._beats += 1
        now_us = self.clock.wall_ns() // 1000
        name = f"{socket.gethostname()}:{os.getpid()}"
        outputs = []
        for host in self._hosts:
            for (topic, partition), offset in host.positions().items():
                lag = self._lag(topic, partition, offset)
                beat = Health(
                    worker=name,
                    stage=host.stage.name,
                    partition=partition,
                    seq=self._beats,
                    ts_us=now_us,
                    next_offsets={topic: offset},
                    lag_records=lag,
                )
                outputs.append(Output(TOPIC_HEALTH, name.encode(), encode(beat), now_us // 1000))
        self._check_progress()
        try:
            await self._publisher.publish(outputs)
        except (PublishRefused, PublishUnreachable) as error:
            log.warning("heartbeat not sent", extra={"detail": str(error)})

    def _lag(self, topic: str, partition: int, offset: int) -> int | None:
        try:
            end = self._app.consumer.highwater(TP(self._prefix + topic, partition))
        except (KeyError, AssertionError, AttributeError):
            return None
        lag = max(0, end - offset) if end else 0
        self.metrics.set_lag(topic, partition, lag)
        return lag

    def _check_progress(self) -> None:
        """A consumer that is alive but stuck ends itself: silence with a green light is the worst failure."""
        positions = {k: v for host in self._hosts for k, v in host.positions().items()}
        behind = any(
            (self._lag(topic, partition, offset) or 0) > 0 for (topic, partition), offset in positions.items()
        )
        now_s = self.clock.monotonic_s()
        if not behind:
            self._progress_s = now_s
        stall_s = now_s - self._progress_s
        if stall_s > self.config.worker.stall_timeout_ms / 1e3 and not self.failure.done():
            self.failure.set_result(f"no progress for {stall_s:.0f} s although records are waiting")

    def _why_not_live(self) -> Sequence[str]:
        return [self.failure.result()] if self.failure.done() else []

    def _why_not_ready(self) -> Sequence[str]:
        reasons = list(self._why_not_live())
        if self._draining:
            reasons.append("draining")
        if self._app.rebalancing or not self._app.consumer.assignment():
            reasons.append("no partitions assigned yet")
        return reasons


def _credentials(settings: dict[str, Any]) -> Any:  # noqa: ANN401 - one of Faust's credential classes
    """Return the same security as `client_settings`, in Faust's words; None for plain text."""
    context = settings.get("ssl_context")
    if settings.get("sasl_mechanism"):
        return faust.SASLCredentials(
            username=settings["sasl_plain_username"],
            password=settings["sasl_plain_password"],
            mechanism=settings["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def build_stages(config: SiteConfig) -> tuple[Stage[Any], ...]:
    """Return the four stages with their models loaded; raises ModelError."""
    from streamproc.pipeline import make_stages  # noqa: PLC0415 - models take a second to load: only when asked for
    from streamproc.shell.forecast_model import load_forecaster  # noqa: PLC0415
    from streamproc.shell.models import ModelSet  # noqa: PLC0415
    from streamproc.shell.solver import solve  # noqa: PLC0415

    models = ModelSet.load(config.worker.bundle, config.detector)
    return make_stages(config, models, load_forecaster(), solve)


async def run_worker(config: SiteConfig, stages: Sequence[Stage[Any]], say: Callable[[str], None]) -> int:
    """Work until SIGTERM or SIGINT (0), or until a failure that must not be hidden (1)."""
    worker = Worker(config, stages)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)  # the second signal: at once, uncommitted
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await worker.start()
    say(f"streamproc: working, metrics at {worker.http.url}/metrics")
    ended = asyncio.create_task(stop.wait())
    waited: set[asyncio.Future[Any]] = {ended, worker.failure}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if worker.failure.done():
        say(f"streamproc: {worker.failure.result()}")
        code = 1
    try:
        await worker.drain()
    except TimeoutError:
        say("streamproc: not drained in time; what is uncommitted will be read again")
        code = 1
    return code

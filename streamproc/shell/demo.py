"""The demo: the whole path on one machine, with real captures and a simulated grid whose truth is known.

    captures, fleet, points ── Sender ── broker ── worker (own process) ── broker ── Reader ── Board

The broker is the in-memory development broker in this process, or a real Apache Kafka of its own. The worker
is `streamproc run` with a site file that lies beside its log in the demo's directory; nothing in it knows of
the demo. What is shown was read back from the output topics and from the worker's own `/metrics`.

It ends on Ctrl-C, or by itself after `seconds`; then it is an error if no alert of a true event, no forecast
or no recommendation was seen. Everything it starts it ends by its own process id, at once: what is in the
broker is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.config import SiteConfig
from streamproc.core.messages import encode
from streamproc.errors import ShellError
from streamproc.reader import Reader
from streamproc.shell import demo_script as script
from streamproc.shell.clock import SYSTEM
from streamproc.shell.demo_view import Board
from streamproc.shell.demo_worker import DemoWorker
from streamproc.shell.kafka_broker import KAFKA_VERSION, KafkaBroker
from streamproc.shell.memory_broker import NAME as MEMORY_NAME
from streamproc.shell.memory_broker import MemoryBroker
from streamproc.shell.replay import paced, replay
from streamproc.shell.scrape import parse_metrics
from streamproc.shell.sender import Sender
from streamproc.shell.topics import apply, wanted_topics
from streamproc.shell.view import advice_line, ahead_line, alert_line, card_line, forecast_line
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import RISING_FEEDER, RISING_LIMIT_MW, ScadaPoints
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_CARDS,
    TOPIC_FORECASTS,
    TOPIC_SCADA,
    TOPIC_SETPOINTS,
    Record,
)

DIRECTORY = Path(".cache") / "streamproc-demo"
CAPTURE_PAUSE_S = 150.0  # between two rounds of a capture: longer than any window, so that it begins anew
POLL_S = 1.0
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says."""

    broker: Literal["memory", "kafka"] = "memory"
    seconds: float | None = None  # after the worker's start; None: until Ctrl-C
    cache_dir: Path = Path(".cache")


class Screen(Protocol):
    """Where the demo shows itself: lines, or a picture that is drawn again and again."""

    def say(self, line: str, elapsed_s: float = 0.0) -> None:
        """Show one line of what has just happened, so long after the worker's start."""

    def refresh(self, board: Board, elapsed_s: float) -> None:
        """Show the present state; called about twice a second."""


def run_demo(options: DemoOptions, screen: Screen) -> int:
    """Run the demo; return 0, or raise ShellError with the one reason why it is no success."""
    directory = DIRECTORY.absolute()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory / "kafka", ignore_errors=True)
        name, bootstrap = _start_broker(options, screen, directory, stack)

        async def run() -> int:
            return await Demo(options, screen, directory, bootstrap, name).run()

        return asyncio.run(run())


def _start_broker(
    options: DemoOptions, screen: Screen, directory: Path, stack: contextlib.ExitStack
) -> tuple[str, str]:
    """Return name and address of a broker that ends with the stack, at once: what is in it is thrown away."""
    if options.broker == "kafka":
        # Started here, in the main thread: the kernel ends it with the thread that started it.
        kafka = KafkaBroker(directory / "kafka", cache_dir=options.cache_dir, say=screen.say)
        stack.callback(kafka.kill)
        return f"Apache Kafka {KAFKA_VERSION}", kafka.start().bootstrap
    # It knows no CreateTopics: a topic appears when somebody asks for it.
    memory = MemoryBroker().start(topic.name for topic in wanted_topics(SiteConfig()))
    stack.callback(memory.stop)
    return MEMORY_NAME, memory.bootstrap


class Demo:
    """One run, from a broker that answers to the summary."""

    def __init__(
        self, options: DemoOptions, screen: Screen, directory: Path, bootstrap: str, broker: str
    ) -> None:
        self.options, self.screen = options, screen
        self.captures = script.captures()
        rules = directory / "rules.toml"
        rules.write_text(script.RULES, encoding="utf-8")
        self.site = script.site(bootstrap, self.captures.values(), str(rules))
        self.worker = DemoWorker(self.site, directory)
        self.stop = asyncio.Event()
        self.fleet: Fleet | None = None
        self._begin_s = SYSTEM.monotonic_s()
        self.board = Board(
            broker=f"{broker} at {bootstrap}",
            sources=self._sources(),
            watched_series=RISING_FEEDER,
            ahead_series=script.AHEAD_SERIES,
            limit=RISING_LIMIT_MW,
        )

    @property
    def elapsed_s(self) -> float:
        """Return seconds since the worker's start."""
        return SYSTEM.monotonic_s() - self._begin_s

    def _say(self, line: str) -> None:
        self.screen.say(line, self.elapsed_s)

    def _sources(self) -> str:
        found = [path.name for path in self.captures]
        told = (
            f"real captures {', '.join(found)}"
            if found
            else "no captures (they come with a clone of the repository)"
        )
        return (
            f"{told}; a simulated fleet of {script.N_PMU} PMUs at {script.RATE_HZ} frames/s; 60 SCADA points"
        )

    async def run(self) -> int:
        """Run to the end, whatever ends it, and leave nothing behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop.set)
        self._say(f"broker: {self.board.broker}")
        self._say(f"sources: {self.board.sources}")
        try:
            if self.options.broker == "kafka":
                await apply(self.site)
            async with Sender(self.site) as sender:
                await self._until_end(sender)
        finally:
            await self.worker.end()
        return self._summary()

    async def _until_end(self, sender: Sender) -> None:
        points = ScadaPoints(script.AREA, seed=1, pivot_ns=SYSTEM.wall_ns())
        await self._send_history(sender, points)
        self._begin_s = SYSTEM.monotonic_s()
        started = asyncio.create_task(self.worker.start())
        stopped = asyncio.create_task(self.stop.wait())
        await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if self.stop.is_set():
            started.cancel()
            return
        self.board.metrics_url = f"{await started}/metrics"
        self._say(f"the worker is up; metrics: {self.board.metrics_url}")
        jobs = [
            self._play(sender, points),
            self._watch(TOPIC_ALERTS, "alert_id", self._on_alert),
            self._watch(TOPIC_CARDS, "card_id", self._on_card),
            self._watch(TOPIC_SETPOINTS, "recommendation_id", self._on_advice),
            self._watch_forecasts(),
            self._poll_metrics(),
            self._show(),
            self._time_out(),
            self.worker.watch(),
        ]
        await self._run_all(jobs, stopped)

    async def _run_all(self, jobs: list[Coroutine[Any, Any, None]], stopped: asyncio.Task[Any]) -> None:
        """Run until asked to stop; the first job that fails ends the demo with its reason."""
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            pending: set[asyncio.Task[Any]] = {*tasks, stopped}
            while not stopped.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopped}:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _time_out(self) -> None:
        if self.options.seconds is not None:
            await asyncio.sleep(max(0.0, self.options.seconds - self.elapsed_s))
            self.stop.set()

    async def _send_history(self, sender: Sender, points: ScadaPoints) -> None:
        """Send two weeks of quarter hours for the 48-hour forecasts, then three hours of every point."""
        now_s = points.pivot_ns // 1_000_000_000
        for record in script.quarter_hours(points.pivot_ns):
            await sender.send(record)
        for t_s in range(now_s - script.HISTORY_S, now_s, script.HISTORY_STEP_S):
            await sender.send(_scada_record(points, t_s * 1_000_000_000))
        await sender.flush()
        self._say(
            f"sent {script.HISTORY_DAYS} days of quarter hours and {script.HISTORY_S // 60} minutes of history "
            "for 60 SCADA points"
        )

    async def _play(self, sender: Sender, points: ScadaPoints) -> None:
        """Play everything as soon as the worker has its partitions: what came before would only wait."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
            while not await self._is_ready(session):
                await asyncio.sleep(0.1)
        self._say("the worker is ready: captures, fleet and points are live")
        await asyncio.gather(
            self._play_fleet(sender),
            self._play_points(sender, points),
            *(self._play_capture(sender, path, area) for path, area in self.captures.items()),
        )

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(self.board.metrics_url.replace("/metrics", "/readyz")) as reply:
                return reply.status == 200
        return False

    async def _play_points(self, sender: Sender, points: ScadaPoints) -> None:
        while True:
            await sender.send(_scada_record(points, SYSTEM.wall_ns()))
            await asyncio.sleep(script.LIVE_STEP_S)

    async def _play_fleet(self, sender: Sender) -> None:
        start_ns = (SYSTEM.wall_ns() // 1_000_000_000 + 1) * 1_000_000_000
        settings = FleetSettings(
            n_pmu=script.N_PMU, rate_hz=script.RATE_HZ, start_ns=start_ns, events=script.events()
        )
        self.fleet = Fleet(settings)
        records = fleet_records(self.fleet, script.AREA, DAY_S)

        def lead_s(_: Record) -> float:
            return (start_ns - SYSTEM.wall_ns()) / 1e9

        async for record in paced(records, speed=1.0, lead_s=lead_s):
            await sender.send(record)

    async def _play_capture(self, sender: Sender, path: Path, area: str) -> None:
        read = partial(script.first_seconds, path, area)
        while True:
            await replay(read, sender, speed=1.0, now=True)
            await asyncio.sleep(CAPTURE_PAUSE_S)

    async def _watch(self, topic: str, id_field: str, take: Callable[[Any], None]) -> None:
        async with Reader(self.site.broker.bootstrap, topic=topic, id_field=id_field) as reader:
            async for transition in reader:
                take(transition.value)

    def _on_alert(self, alert: dict[str, Any]) -> None:
        self.board.take_alert(alert)
        self._say(alert_line(alert))

    def _on_advice(self, setpoint: dict[str, Any]) -> None:
        # What was advised while the history went through has expired: counted, not told.
        if self.board.take_advice(setpoint, SYSTEM.wall_ns() // 1000):
            self._say(f"recommendation {advice_line(setpoint)}")

    def _on_card(self, card: dict[str, Any]) -> None:
        self.board.counts["cards"] += card["seq"] == 1
        if card["annunciate"]:
            self._say(f"card {card_line(card)}")

    async def _watch_forecasts(self) -> None:
        """Read forecasts; each stands for itself, so there is nothing to de-duplicate."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.site.broker.bootstrap, auto_offset_reset="earliest"
        )
        live_us = (SYSTEM.wall_ns() // 1000) - 120_000_000  # the history's forecasts are counted, not told
        try:
            await consumer.start()
            consumer.assign([TopicPartition(TOPIC_FORECASTS, 0)])
            async for record in consumer:
                forecast = orjson.loads(record.value)
                shown = self.board.take_forecast(forecast)
                if shown and forecast["horizon"] == "PT48H":
                    self._say(ahead_line(forecast))
                elif shown and forecast["issued_at_us"] >= live_us:
                    self._say(forecast_line(forecast, self.board.limit))
        except (KafkaError, OSError) as error:
            raise ShellError(f"the broker does not answer any more: {error}") from error
        finally:
            await consumer.stop()

    async def _poll_metrics(self) -> None:
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(self.board.metrics_url) as reply:
                        self.board.take_reading(parse_metrics(await reply.text(), SYSTEM.monotonic_s()))
                await asyncio.sleep(POLL_S)

    async def _show(self) -> None:
        while True:
            self.screen.refresh(self.board, self.elapsed_s)
            await asyncio.sleep(0.5)

    def _summary(self) -> int:
        """Say what was seen; raise ShellError if the demo ended by itself without having shown everything."""
        board = self.board
        p50_ms, p99_ms = board.latency_ms("end_to_end")
        known = not math.isnan(p99_ms)
        latency = f"end to end p50 {p50_ms:.1f} ms p99 {p99_ms:.1f} ms" if known else "no latency yet"
        frames, dead = board.total("streamproc_frames_total"), board.total("streamproc_dead_letters_total")
        self._say(
            f"summary: {frames} frames, {board.counts['alerts']} alerts ({len(board.open_alerts)} open), "
            f"{board.counts['forecasts']} forecasts, {board.counts['recommendations']} recommendations, "
            f"{latency}, {dead} dead letters"
        )
        truths = self.fleet.truths() if self.fleet is not None else []
        found = script.compare(truths, board.alerts, SYSTEM.wall_ns())
        for event in found:
            self._say(f"true event: {event.line()}")
        if self.options.seconds is None or self.elapsed_s < self.options.seconds:
            return 0
        seen = {
            "alert of a true event": any(event.alert is not None for event in found),
            "forecast": board.forecast is not None,
            "recommendation": board.counts["recommendations in force"] > 0,
        }
        unseen = [what for what, there in seen.items() if not there]
        if unseen:
            raise ShellError(
                f"within {self.options.seconds:g} s no {' and no '.join(unseen)} was seen; "
                f"the worker's log is {os.path.relpath(self.worker.log_path)}"
            )
        return 0


def _scada_record(points: ScadaPoints, t_ns: int) -> Record:
    batch = points.batch(t_ns)
    return Record(TOPIC_SCADA, 0, 0, t_ns // 1_000_000, points.area.encode(), encode(batch))

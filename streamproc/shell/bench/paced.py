"""A site in real time: broker, load generator and `streamproc run` side by side, and what the worker says of itself.

sender (child)   makes all frames, then sends them when they are due
worker (child)   `streamproc run`, as it is deployed; read through its own /metrics
we               start both, look once a second, end both by their ids
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.bench.load import Load
from streamproc.shell.bench.rig import Child
from streamproc.shell.clock import SYSTEM
from streamproc.shell.demo_script import site_toml
from streamproc.shell.kafka_broker import free_port
from streamproc.shell.scrape import Reading, parse_metrics, quantile_s
from streamproc.shell.site_file import client_settings
from streamproc.values import TOPIC_FRAMES

READY_S = 90.0
MAKE_S_PER_PMU_S = 0.002  # allowed for making the frames of one PMU and second, beyond a minute
POLL_S = 0.02
CATCH_UP_S = 20.0  # after the last frame, for a worker that is behind
STAGES = ("broker_to_worker", "decode", "window", "score", "decide", "publish", "snapshot")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the worker: seconds since the first frame was due, records not yet taken in, its metrics."""

    at_s: float
    lag: int
    reading: Reading


@dataclass(slots=True)
class Paced:
    """What a run was like."""

    load: Load
    ready_s: float = math.nan  # spawn to partitions taken over, topics empty
    looks: list[Look] = field(default_factory=list)
    sent: dict[str, Any] = field(default_factory=dict)
    caught_up_s: float = math.nan  # from the last frame sent to the last one taken in; NaN: not in time

    @property
    def cpu_ratio(self) -> float:
        """Return the worker's CPU seconds per second while frames came, without the first and last look."""
        return self._between("process_cpu_seconds_total")

    @property
    def taken_per_s(self) -> float:
        """Return the frames records taken in per second, over the same time."""
        return self._between("streamproc_records_total", (TOPIC_FRAMES,))

    @property
    def memory_mb(self) -> float:
        """Return the largest resident size, MB."""
        sizes = [look.reading.total("process_resident_memory_bytes") for look in self.looks]
        return max(sizes, default=math.nan) / 1e6

    def stage_s(self, stage: str, q: float) -> float:
        """Return a quantile of what a stage took while frames came."""
        looks = self.steady()
        return quantile_s(looks[0].reading, looks[-1].reading, stage, q) if len(looks) > 1 else math.nan

    def steady(self) -> list[Look]:
        """Return the looks without the beginning: after a third of the run windows fill no more pages."""
        return self.looks[len(self.looks) // 3 :]

    def _between(self, name: str, labels: tuple[str, ...] = ()) -> float:
        looks = self.steady()
        if len(looks) < 2:
            return math.nan
        first, last = looks[0].reading, looks[-1].reading
        more = last.values.get((name, labels), 0.0) - first.values.get((name, labels), 0.0)
        return more / (last.at_s - first.at_s)


def growth_ratio(looks: Sequence[tuple[float, int]], records_per_s: float) -> float:
    """Return how fast the lag grows, as a share of what comes in (least squares); 0: keeps up, 1: takes nothing."""
    if len(looks) < 2:
        return math.nan
    mean_t = sum(at for at, _ in looks) / len(looks)
    mean_lag = sum(lag for _, lag in looks) / len(looks)
    spread = sum((at - mean_t) ** 2 for at, _ in looks)
    slope = sum((at - mean_t) * (lag - mean_lag) for at, lag in looks) / spread if spread else math.nan
    return slope / records_per_s


@asynccontextmanager
async def service(config: SiteConfig, home: Path) -> AsyncIterator[tuple[str, float]]:
    """Run a worker; give its address and the seconds from its start to its partitions."""
    port = free_port()
    worker = msgspec.structs.replace(config.worker, http_port=port)
    site = home / "site.toml"
    site.write_text(site_toml(msgspec.structs.replace(config, worker=worker)), encoding="utf-8")
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    begin_s = SYSTEM.monotonic_s()
    argv = [sys.executable, "-m", "streamproc", "run", "--config", str(site)]
    async with Child(argv, env={"TMPDIR": str(scratch)}) as child:
        url = f"http://127.0.0.1:{port}"
        while await asyncio.to_thread(_status, url + "/readyz") != 200:
            if SYSTEM.monotonic_s() - begin_s > READY_S or child.ended:
                raise ShellError(f"the worker is not ready: {child.last_words()}")
            await asyncio.sleep(POLL_S)
        yield url, SYSTEM.monotonic_s() - begin_s


async def run_paced(config: SiteConfig, load: Load, home: Path, tick: Callable[[], None]) -> Paced:
    """Return what it was like; the worker is ended in the end, its topics and states stay."""
    paced = Paced(load)
    spec = {"site": msgspec.to_builtins(config), "load": asdict(load)}
    argv = [sys.executable, "-m", "streamproc.shell.bench.peer.sender", orjson.dumps(spec).decode()]
    async with Child(argv) as sender:
        make_s = 60.0 + MAKE_S_PER_PMU_S * load.pmus * load.seconds
        await asyncio.wait_for(sender.line(), make_s)
        async with service(config, home) as (url, paced.ready_s), _ends(config) as ends:
            sender.signal(signal.SIGUSR1)
            begin_s = SYSTEM.monotonic_s()
            sending = asyncio.create_task(_until_done(sender))
            try:
                while not sending.done():
                    paced.looks.append(await _look(url, ends, begin_s))
                    tick()
                    await asyncio.wait([sending], timeout=1.0)
                paced.sent = sending.result()
                end_s = SYSTEM.monotonic_s()
                while SYSTEM.monotonic_s() - end_s < CATCH_UP_S:
                    if (await _look(url, ends, begin_s)).lag == 0:
                        paced.caught_up_s = SYSTEM.monotonic_s() - end_s
                        break
                    await asyncio.sleep(POLL_S)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, ShellError):
                    await sending
    return paced


async def _until_done(sender: Child) -> dict[str, Any]:
    while not (said := await sender.line()).get("done"):
        pass
    return said


Ends = Callable[[], Any]


@asynccontextmanager
async def _ends(config: SiteConfig) -> AsyncIterator[Ends]:
    """Give a coroutine function that returns how many frames stand in the topic."""
    broker = config.broker
    consumer = AIOKafkaConsumer(**client_settings(broker))
    await consumer.start()
    places = [TopicPartition(broker.topic_prefix + TOPIC_FRAMES, n) for n in range(broker.partitions)]

    async def ends() -> int:
        return sum((await consumer.end_offsets(places)).values())

    try:
        yield ends
    finally:
        await consumer.stop()


async def _look(url: str, ends: Ends, begin_s: float) -> Look:
    """Look once; the end of the topic first, so that the lag is never overstated."""
    stored = await ends()
    now_s = SYSTEM.monotonic_s()
    reading = await read_metrics(url)
    taken = int(reading.values.get(("streamproc_records_total", (TOPIC_FRAMES,)), 0.0))
    return Look(now_s - begin_s, max(0, stored - taken), reading)


async def read_metrics(url: str) -> Reading:
    """Return what a worker says of itself; raise ShellError if it does not answer."""
    told = await asyncio.to_thread(_get, url + "/metrics")
    return parse_metrics(told, SYSTEM.monotonic_s())


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  (our own worker, on loopback)
            told: bytes = answer.read()
            return told.decode()
    except OSError as error:
        raise ShellError(f"the worker does not answer at {url}: {error}") from error


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  (our own worker, on loopback)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0

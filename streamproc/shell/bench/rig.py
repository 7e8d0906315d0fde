"""What the benchmarks stand on: a Kafka, topics under a prefix of their own, child processes, a progress bar.

Every way under test is a process of its own, so that its CPU is its own; it gets one JSON argument and answers
with one line (`peer.meter`). It is ended by its process id, with all that it may have started, when it
is done, when its time is up, and when we are ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import uuid
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streamproc.config import BrokerTable, SiteConfig, WorkerTable
from streamproc.errors import ShellError
from streamproc.shell.bench.peer.meter import MARK
from streamproc.shell.kafka_broker import KafkaBroker, die_with_parent
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wanted_topics
from streamproc.values import TOPIC_ALERTS, TOPIC_FINDINGS, TOPIC_FRAMES

CACHE = Path(".cache")
LAST_WORDS = 400  # characters of a child's standard error in an error of ours
END_S = 7.0
TOPICS_S = 30.0
# Every way computes on one thread: numpy's matrix products would take the core of the broker as well.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Bar:
    """A progress bar on standard error where that is a terminal; nothing elsewhere."""

    def __init__(self, title: str, steps: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._title, self._steps = title, steps
        self._task = TaskID(0)

    def __enter__(self) -> Bar:
        """Show it."""
        self._progress.start()
        self._task = self._progress.add_task(self._title, total=self._steps)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def doing(self, what: str) -> None:
        """Say what is done now."""
        self._progress.update(self._task, description=f"{self._title}: {what}")

    def step(self, count: int = 1) -> None:
        """Move on."""
        self._progress.advance(self._task, count)


@contextmanager
def kafka(bootstrap: str | None) -> Iterator[str]:
    """Give the address of the Kafka to use; without one, of a broker that lives as long as this."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic that is not everywhere yet is no news
    CACHE.mkdir(exist_ok=True)
    # TERM as Ctrl-C: children, topics and scratch directories go in good order.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if bootstrap is not None:
        yield bootstrap
        return

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  (a benchmark talks to a person)

    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=CACHE) as home,
        KafkaBroker(home, cache_dir=CACHE, say=say) as broker,
    ):
        yield broker.bootstrap


def bench_site(bootstrap: str, partitions: int, **tables: Any) -> SiteConfig:  # noqa: ANN401
    """Return a site whose topics nobody else has."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    broker = BrokerTable(bootstrap=bootstrap, topic_prefix=prefix, group=prefix + "g", partitions=partitions)
    worker = WorkerTable(http_port=0, drain_timeout_ms=5000)
    return SiteConfig(broker=broker, worker=worker, **tables)


def next_group(config: SiteConfig) -> SiteConfig:
    """Return the site with a consumer group that has not read anything."""
    group = f"{config.broker.topic_prefix}{uuid.uuid4().hex[:8]}"
    return msgspec.structs.replace(config, broker=msgspec.structs.replace(config.broker, group=group))


@asynccontextmanager
async def topics(config: SiteConfig, **frame_settings: str) -> AsyncIterator[None]:
    """Make the topics of a site, and delete them in the end; `frame_settings` are for what latency looks at.

    Nothing is deleted by time: the records carry event times of years ago, and a broker looks at them 30 s
    after its start.
    """
    broker = config.broker
    wanted = wanted_topics(config)
    timed = {broker.topic_prefix + topic for topic in (TOPIC_FRAMES, TOPIC_FINDINGS, TOPIC_ALERTS)}
    more = {name.replace("_", "."): value for name, value in frame_settings.items()}
    new = [
        NewTopic(
            topic.name,
            topic.partition_count,
            1,
            None,
            {**topic.settings, "retention.ms": "-1", **(more if topic.name in timed else {})},
        )
        for topic in wanted
    ]
    admin = AIOKafkaAdminClient(**client_settings(broker))
    try:
        await admin.start()
        await admin.create_topics(new)
    except (KafkaError, OSError) as error:
        raise ShellError(f"no topics at {broker.bootstrap}: {error}") from error
    finally:
        await admin.close()
    try:
        await _until_there(config)
        yield
    finally:
        await delete_topics(broker, [topic.name for topic in wanted])


async def _until_there(config: SiteConfig) -> None:
    """Return when every topic has its leaders: the controller answers before the broker has heard of them."""
    consumer = AIOKafkaConsumer(**client_settings(config.broker))
    await consumer.start()
    try:
        async with asyncio.timeout(TOPICS_S):
            for topic in wanted_topics(config):
                places = [TopicPartition(topic.name, number) for number in range(topic.partition_count)]
                while True:
                    try:
                        await consumer.end_offsets(places)
                        break
                    except KafkaError:
                        await asyncio.sleep(0.05)
    except TimeoutError:
        raise ShellError(f"topics have no leader after {TOPICS_S:g} s") from None
    finally:
        await consumer.stop()


async def delete_topics(broker: BrokerTable, names: Sequence[str]) -> None:
    """Delete topics; a broker that is gone has none."""
    admin = AIOKafkaAdminClient(**client_settings(broker))
    with contextlib.suppress(KafkaError, OSError):
        await admin.start()
        await admin.delete_topics(list(names))
    with contextlib.suppress(KafkaError, OSError):
        await admin.close()


def package_path() -> str:
    """Return a directory in which `streamproc` can be imported, and nothing else (for other environments)."""
    place = (CACHE / "peers" / "src").absolute()
    place.mkdir(parents=True, exist_ok=True)
    link, package = place / "streamproc", Path(__file__).resolve().parents[2]
    if not (link.is_symlink() and link.resolve() == package):
        link.unlink(missing_ok=True)
        link.symlink_to(package)
    return str(place)


class Child:
    """A process of ours: `async with`; ended by its own id on the way out, with what it started."""

    def __init__(
        self, argv: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._argv, self._cwd, self._env = argv, cwd, env
        self._process: Process | None = None
        self._tail = b""
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Child:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._cwd,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": package_path(), **(self._env or {})},
            start_new_session=True,
            preexec_fn=die_with_parent,
            limit=1 << 24,
        )
        self._reading = asyncio.create_task(self._read_errors(self._process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: what it started, if that is left
        await process.wait()
        if self._reading is not None:
            await self._reading

    async def line(self) -> dict[str, Any]:
        """Return the next answer; raise ShellError with its last words if it ends without one."""
        process = self._process
        if process is None or process.stdout is None:
            raise ShellError("the child was never started")
        while line := await process.stdout.readline():
            if line.startswith(MARK.encode()):
                answer: dict[str, Any] = orjson.loads(line[len(MARK) :])
                return answer
        await process.wait()
        if self._reading is not None:
            await self._reading
        raise ShellError(f"exit code {process.returncode}: {last_line(self._tail)}")

    @property
    def ended(self) -> bool:
        """Return whether it has ended by itself."""
        return self._process is not None and self._process.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, by its id."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def last_words(self) -> str:
        """Return the last line of its standard error."""
        return last_line(self._tail)

    async def _read_errors(self, process: Process) -> None:
        while process.stderr is not None and (piece := await process.stderr.read(1 << 14)):
            self._tail = (self._tail + piece)[-4 * LAST_WORDS :]


def last_line(tail: bytes) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][-LAST_WORDS:] if lines else "without a word"


async def run_child(
    module: str,
    spec: Mapping[str, Any],
    *,
    timeout_s: float,
    python: str | None = None,
    cwd: Path | None = None,
) -> dict[str, Any]:
    """Return what a module of ours answers to a spec; raise ShellError when it does not in time."""
    argv = [python or sys.executable, "-m", f"streamproc.shell.bench.peer.{module}"]
    async with Child([*argv, orjson.dumps(dict(spec)).decode()], cwd) as child:
        try:
            return await asyncio.wait_for(child.line(), timeout_s)
        except TimeoutError:
            said = child.last_words()
            raise ShellError(f"{module}: no answer within {timeout_s:g} s; last: {said}") from None


def us_per_record(seen: Mapping[str, float]) -> float:
    """Return the microseconds of CPU that one record took."""
    return seen["cpu_s"] / seen["records"] * 1e6


def per_s(seen: Mapping[str, float]) -> float:
    """Return the records per second."""
    return seen["records"] / seen["elapsed_s"]

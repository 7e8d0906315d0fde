"""`streamproc top`: reads the topics and the workers' /metrics of a running service, and shows them.

    alerts, forecasts, setpoints, health ── consumer without a group ──┐
    /metrics of each worker, once a second ────────────────────────────┴── TopState ── screen

No group is joined, nothing is committed or produced. A topic is read from `BACK` records before its end, so a
long history costs neither time nor memory. What does not answer is said with its age, and tried again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from streamproc import values
from streamproc.config import SiteConfig
from streamproc.core.messages import Alert, Forecast, Health, decode
from streamproc.core.setpoint import Setpoint
from streamproc.core.wire import Message
from streamproc.errors import ShellError
from streamproc.shell.clock import SYSTEM
from streamproc.shell.scrape import parse_metrics
from streamproc.shell.site_file import client_settings
from streamproc.shell.top_state import Picture, Source, TopState
from streamproc.shell.topics import wire_name

POLL_S = 1.0
HTTP_TIMEOUT_S = 2.0
ASK_TIMEOUT_S = 2.0  # where do the topics end
START_TIMEOUT_S = 5.0  # to connect
SHOW_S = 0.5
ONCE_MAX_S = 10.0  # --once waits this long for the ends of the topics and two readings
ONCE_READINGS = 4  # so rates and quantiles are those of three seconds
MISSING_S = 10.0  # a topic that is missing is looked for again after this
END_MAX_S = 0.7  # after Ctrl-C; a broker that does not answer must not hold us
METRICS_SIZE_MAX = 4 << 20  # bytes
KINDS: Mapping[str, tuple[type[Message], int]] = {  # topic -> what is in it, how many records back
    values.TOPIC_ALERTS: (Alert, 20_000),
    values.TOPIC_FORECASTS: (Forecast, 2_000),
    values.TOPIC_SETPOINTS: (Setpoint, 500),
    values.TOPIC_HEALTH: (Health, 200),
}


@dataclass(frozen=True, slots=True)
class TopOptions:
    """What the command line says."""

    urls: tuple[str, ...]
    once: bool = False
    seconds: float | None = None
    show_s: float = SHOW_S


Show = Callable[[Picture], None]


def metrics_urls(config: SiteConfig, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses to ask: those given ("host:port" is enough), else that of the site file."""
    if given:
        full = [url if "://" in url else f"http://{url}" for url in given]
        return tuple(url if url.partition("://")[2].partition("/")[1] else f"{url}/metrics" for url in full)
    worker = config.worker
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(worker.http_host, worker.http_host)  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return (f"http://{host}:{worker.http_port}/metrics",) if worker.http_port else ()


def run_top(config: SiteConfig, options: TopOptions, show: Show, end: Callable[[Picture], int]) -> int:
    """Show until Ctrl-C, or as long as the options say; `end` gets the last picture and gives the exit code."""
    return asyncio.run(_Top(config, options).run(show, end))


class _Top:
    def __init__(self, config: SiteConfig, options: TopOptions) -> None:
        self._config, self._options = config, options
        self._begin_s = SYSTEM.monotonic_s()
        self._goal: dict[TopicPartition, int] = {}  # ends of the topics when we connected
        self.state = TopState(
            config.site.name, config.broker.bootstrap, options.urls, config.point, now_s=self._begin_s
        )

    async def run(self, show: Show, end: Callable[[Picture], int]) -> int:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
        jobs: list[Coroutine[Any, Any, None]] = [
            self._read_on(),
            *map(self._ask_on, self.state.workers.values()),
        ]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await self._show(stop, show, tasks)
        finally:
            code = end(self._picture())
            limit = threading.Timer(END_MAX_S, os._exit, (code,))
            limit.daemon = True
            limit.start()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await loop.shutdown_default_executor()  # a name that is being looked up holds a thread
            limit.cancel()
        return code

    def _picture(self) -> Picture:
        return self.state.picture(SYSTEM.wall_ns() // 1000, SYSTEM.monotonic_s())

    async def _show(self, stop: asyncio.Event, show: Show, tasks: list[asyncio.Task[None]]) -> None:
        options = self._options
        limit_s = options.seconds if options.seconds is not None else (ONCE_MAX_S if options.once else None)
        while not stop.is_set():
            for task in tasks:
                if task.done():
                    task.result()  # they go on for ever: this raises what ended it
            elapsed_s = SYSTEM.monotonic_s() - self._begin_s
            if (limit_s is not None and elapsed_s >= limit_s) or (options.once and self._is_whole()):
                return
            if not options.once:
                show(self._picture())
            try:
                async with asyncio.timeout(0.1 if options.once else options.show_s):
                    await stop.wait()
            except TimeoutError:
                continue

    def _is_whole(self) -> bool:
        """Return whether one look has seen what there is to see: ends of topics, and rates of all workers."""
        workers = self.state.workers.values()
        is_read = self.state.caught_up or self.state.broker.error != ""
        return is_read and all(len(one.readings) >= ONCE_READINGS or one.error for one in workers)

    async def _ask_on(self, worker: Source) -> None:
        """Ask one worker again and again."""
        timeout = aiohttp.ClientTimeout(total=HTTP_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                begin_s = SYSTEM.monotonic_s()
                await self._ask(session, worker)
                await asyncio.sleep(max(0.0, POLL_S - (SYSTEM.monotonic_s() - begin_s)))

    async def _ask(self, session: aiohttp.ClientSession, worker: Source) -> None:
        error = "it answers, but with no metrics of streamproc"
        try:
            async with session.get(worker.name) as reply:
                text = await _body(reply)
                reading = parse_metrics(text, SYSTEM.monotonic_s())
            if reply.status == 200 and reading.total("streamproc_build_info") > 0:
                worker.take(reading)
                return
        except TimeoutError:
            error = f"nothing within {HTTP_TIMEOUT_S:g} s"
        except aiohttp.ClientConnectorError as refused:
            number = refused.os_error.errno
            error = os.strerror(number) if number is not None and number > 0 else str(refused.os_error)
        except (aiohttp.ClientError, OSError) as broken:
            error = str(broken) or type(broken).__name__
        except ValueError:
            pass
        worker.failed(error, SYSTEM.monotonic_s())

    async def _read_on(self) -> None:
        """Read the topics for ever; connect again when the connection is lost."""
        while True:
            try:
                await self._read()
            except TimeoutError:
                self._lost(f"nothing within {START_TIMEOUT_S:g} s")
            except KafkaConnectionError:
                self._lost("no connection")
            except (KafkaError, ShellError, OSError) as error:
                self._lost(str(error))
            await asyncio.sleep(POLL_S)

    def _lost(self, why: str) -> None:
        self.state.behind = None
        self.state.broker.failed(why, SYSTEM.monotonic_s())

    async def _read(self) -> None:
        settings = client_settings(self._config.broker)
        consumer = AIOKafkaConsumer(
            client_id="streamproc-top", enable_auto_commit=False, auto_offset_reset="earliest", **settings
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await consumer.start()
                await self._take_up(consumer, settings)
            begin_s, asked_s = SYSTEM.monotonic_s(), -POLL_S
            while not self.state.missing or SYSTEM.monotonic_s() - begin_s < MISSING_S:
                batches = await consumer.getmany(timeout_ms=200, max_records=500)
                for place, records in batches.items():
                    self._take(place.topic, records)
                if SYSTEM.monotonic_s() - asked_s >= POLL_S:
                    asked_s = SYSTEM.monotonic_s()
                    await self._look_ahead(consumer)
        finally:
            await consumer.stop()

    def _take(self, topic: str, records: list[ConsumerRecord]) -> None:
        kind = KINDS[topic.removeprefix(self._config.broker.topic_prefix)][0]
        for record in records:
            message = decode(kind, record.value)
            if isinstance(message, Message):  # what is not ours, and tombstones, are passed over
                self.state.take(message)

    async def _take_up(self, consumer: AIOKafkaConsumer, settings: Mapping[str, Any]) -> None:
        """Begin each topic some way before its end."""
        back = {wire_name(self._config, topic): count for topic, (_, count) in KINDS.items()}
        places, self.state.missing = await _partitions(list(back), settings)
        consumer.assign(places)
        low, high = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        self._goal = high
        for place in places:
            begin = max(low[place], high[place] - back[place.topic])
            consumer.seek(place, begin)
            if begin > low[place] and place.topic == wire_name(self._config, values.TOPIC_ALERTS):
                self.state.cut_topics.add(place.topic)

    async def _look_ahead(self, consumer: AIOKafkaConsumer) -> None:
        """Note that the broker answers, and how much of the topics is not read yet."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                ends = await consumer.end_offsets(list(consumer.assignment()))
                at = {place: await consumer.position(place) for place in ends}
        except (KafkaError, TimeoutError) as error:
            self.state.broker.failed(
                str(error) or f"nothing within {ASK_TIMEOUT_S:g} s", SYSTEM.monotonic_s()
            )
            return
        self.state.behind = sum(max(end - at[place], 0) for place, end in ends.items())
        self.state.caught_up = all(at[place] >= goal for place, goal in self._goal.items())
        self.state.broker.heard(SYSTEM.monotonic_s())


async def _body(reply: aiohttp.ClientResponse) -> str:
    """Return the text of a reply; raise ValueError when it is longer than any /metrics of ours."""
    parts, size = [], 0
    async for part in reply.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > METRICS_SIZE_MAX:
            raise ValueError("too long")
    return b"".join(parts).decode("utf-8", "replace")


async def _partitions(
    topics: list[str], settings: Mapping[str, Any]
) -> tuple[list[TopicPartition], tuple[str, ...]]:
    """Return the partitions of the topics that are there, and the topics that are not."""
    # A consumer knows the partitions of a topic only once it has joined a group for it; the admin client asks.
    admin = AIOKafkaAdminClient(client_id="streamproc-top", **settings)
    try:
        await admin.start()
        described = await admin.describe_topics(topics)
    finally:
        await admin.close()
    missing = tuple(sorted(topic["topic"] for topic in described if topic["error_code"]))
    if len(missing) == len(topics):
        raise ShellError(f"none of the topics {', '.join(missing)} is there, or may be read")
    places = [
        TopicPartition(topic["topic"], p["partition"]) for topic in described for p in topic["partitions"]
    ]
    return places, missing

"""What the worker's way in costs, beside the bare client on the same records in the same run.

    bare     aiokafka getmany, b"".join of the values, np.frombuffer
    calm     the same with Python's garbage collector as the worker sets it (`heap.calm_collector`)
    worker   group, Faust, batch seam, host, a stage that does the same join and frombuffer, blobs, commits

All read all partitions of one topic from the start, in turns, several times; the median of each counts, so that
what others do to the machine meanwhile falls on all. Time runs from the first batch in hand to the last record;
connecting and joining the group are not in it. The aim is a ratio of at least 0.8.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import msgspec
import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamproc.config import BrokerTable, SiteConfig, WorkerTable
from streamproc.errors import ShellError
from streamproc.shell.app import Worker
from streamproc.shell.clock import SYSTEM
from streamproc.shell.heap import calm_collector, default_collector
from streamproc.shell.kafka_broker import KafkaBroker
from streamproc.shell.site_file import client_settings
from streamproc.values import DLQ_SUFFIX, SILENT, TOPIC_HEALTH, TOPIC_STATE, Probe, Record, Step

TOPIC = "bench.in"
PARTITIONS = 4
ROUNDS = 3
WAYS = ("bare", "calm", "worker")
ROW = np.dtype([("t_s", "<f8"), ("x", "<f4", 16)])  # 72 bytes
BATCH_BYTES = 64 * 1024
RUN_TIMEOUT_S = 300.0
GOAL_RATIO = 0.8


class Sink:
    """Does with values what both ways do, and notes when the first and the last came."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._first_s = 0.0
        self._sum = 0.0
        self.count = 0
        self.elapsed_s = 0.0
        self.done = asyncio.Event()

    def take(self, values: Sequence[bytes]) -> None:
        """Turn one batch into an array and look at it."""
        if self.count == 0:
            self._first_s = SYSTEM.monotonic_s()
        rows = np.frombuffer(b"".join(values), ROW)
        self._sum += float(rows["x"][:, 0].sum())
        self.count += rows.size
        if self.count >= self._wanted:
            self.elapsed_s = SYSTEM.monotonic_s() - self._first_s
            self.done.set()


class SinkStage:
    """values.Stage that only looks at its records."""

    name = "bench"
    inputs = (TOPIC,)
    broadcast: tuple[str, ...] = ()

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def fresh(self) -> int:
        """Return how many records came: none."""
        return 0

    def learn(self, state: int, _records: Sequence[Record]) -> int:
        """Return the state: there is nothing to learn."""
        return state

    def step(self, state: int, records: Sequence[Record], _probe: Probe = SILENT) -> Step[int]:
        """Look at the records."""
        self._sink.take([r.value or b"" for r in records])
        return Step(state + len(records))

    def warm(self, state: int, _records: Sequence[Record]) -> int:
        """Return the state: there are no windows."""
        return state

    def pack(self, state: int) -> bytes:
        """Return the count."""
        return b"%d" % state

    def unpack(self, blob: bytes) -> int:
        """Return the count."""
        return int(blob)

    def resume_offset(self, _state: int, _topic: str, next_offset: int) -> int:
        """Return the next offset."""
        return next_offset


def main(*, json: bool = False, bootstrap: str | None = None, records: int = 400_000) -> int:
    """Print both speeds and their ratio; return 0 if the aim is met, else 1."""
    with _kafka(bootstrap) as address:
        rates = uvloop.run(_compare(address, records))
    bare, calm, worker = (median(rates[way]) for way in WAYS)
    result = {
        "records": records,
        "record_bytes": ROW.itemsize,
        "rounds": ROUNDS,
        "bare_records_per_s": round(bare),
        "calm_records_per_s": round(calm),
        "worker_records_per_s": round(worker),
        "ratio": round(worker / bare, 3),
        "ratio_to_calm": round(worker / calm, 3),
        "goal_ratio": GOAL_RATIO,
    }
    if json:
        _say(orjson.dumps(result).decode())
    else:
        _say(
            f"{records:,} records of {ROW.itemsize} bytes, {PARTITIONS} partitions, median of {ROUNDS} rounds"
        )
        _say(f"bare aiokafka getmany + np.frombuffer   {bare:>12,.0f} records/s")
        _say(f"the same with the worker's collector    {calm:>12,.0f} records/s")
        _say(f"worker (Faust, batch seam, host)        {worker:>12,.0f} records/s")
        _say(
            f"ratio to bare {worker / bare:.2f} (aim: at least {GOAL_RATIO}), to the second {worker / calm:.2f}"
        )
    return 0 if worker / bare >= GOAL_RATIO else 1


async def _compare(bootstrap: str, records: int) -> dict[str, list[float]]:
    prefix = f"bench-{uuid.uuid4().hex[:8]}."
    broker = BrokerTable(bootstrap=bootstrap, topic_prefix=prefix, partitions=PARTITIONS)
    names = [prefix + name for name in (TOPIC, TOPIC + DLQ_SUFFIX, TOPIC_STATE, TOPIC_HEALTH)]
    admin = AIOKafkaAdminClient(**client_settings(broker))
    await admin.start()
    try:
        new = [NewTopic(name, PARTITIONS if name.endswith(TOPIC) else 1, 1) for name in names]
        await admin.create_topics(new)
        await _fill(broker, records)
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(ROUNDS):
            default_collector()
            rates["bare"].append(await _run_bare(broker, records))
            calm_collector()
            rates["calm"].append(await _run_bare(broker, records))
            group = msgspec.structs.replace(broker, group=f"{prefix}{number}")
            rates["worker"].append(await _run_worker(group, records))
        return rates
    finally:
        await admin.delete_topics(names)
        await admin.close()


async def _fill(broker: BrokerTable, records: int) -> None:
    producer = AIOKafkaProducer(max_batch_size=BATCH_BYTES, acks="all", **client_settings(broker))
    await producer.start()
    pending = []
    sent, partition = 0, 0
    pad = bytes(ROW.itemsize - 12)
    while sent < records:
        batch = producer.create_batch()
        while sent < records:
            value = struct.pack("<df", float(sent), 60.0) + pad
            if batch.append(key=b"area", value=value, timestamp=1_000_000 + sent) is None:
                break
            sent += 1
        batch.close()
        pending.append(await producer.send_batch(batch, broker.topic_prefix + TOPIC, partition=partition))
        partition = (partition + 1) % PARTITIONS
    await asyncio.gather(*pending)
    await producer.stop()


async def _run_bare(broker: BrokerTable, records: int) -> float:
    sink = Sink(records)
    consumer = AIOKafkaConsumer(
        auto_offset_reset="earliest", enable_auto_commit=False, **client_settings(broker)
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(broker.topic_prefix + TOPIC, n) for n in range(PARTITIONS)])
        async with asyncio.timeout(RUN_TIMEOUT_S):
            while not sink.done.is_set():
                for fetched in (await consumer.getmany(timeout_ms=1000)).values():
                    sink.take([r.value for r in fetched])
    finally:
        await consumer.stop()
    return records / sink.elapsed_s


async def _run_worker(broker: BrokerTable, records: int) -> float:
    sink = Sink(records)
    worker = Worker(SiteConfig(broker=broker, worker=WorkerTable(http_port=0)), [SinkStage(sink)])
    await worker.start()
    try:
        finished = asyncio.create_task(sink.done.wait())
        waited: set[asyncio.Future[Any]] = {finished, worker.failure}
        await asyncio.wait(waited, timeout=RUN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if worker.failure.done():
            raise ShellError(worker.failure.result())
        if not sink.done.is_set():
            raise ShellError(f"the worker took {sink.count} of {records} records in {RUN_TIMEOUT_S:g} s")
    finally:
        await worker.drain()
    return records / sink.elapsed_s


@contextmanager
def _kafka(bootstrap: str | None) -> Iterator[str]:
    if bootstrap is not None:
        yield bootstrap
        return
    cache = Path(".cache")
    cache.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as home,
        KafkaBroker(home, cache_dir=cache, say=lambda line: _say(line, sys.stderr)) as broker,
    ):
        yield broker.bootstrap


def _say(line: str, stream: TextIO | None = None) -> None:
    print(line, file=stream or sys.stdout, flush=True)

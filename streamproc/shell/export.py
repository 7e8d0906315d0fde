"""What forecasts are trained on, from the topics into files: quarter-hour means, and what was known ahead.

    grid.intervals.v1   ->   time,FEEDER1,FEEDER2,...           one row per quarter hour, empty = no good value
    grid.exogenous.v1   ->   name,valid,known_at,value          one row per value, as `--known-file` takes it

No group is joined, nothing is committed. Means stand in the topic by when they came, which is never before their interval
but may be long after it (a history that was sent later): reading begins at the offset of that time and ends with the topic.
Of what is known ahead the whole topic is read: holidays may be known since long before.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamproc.config import SiteConfig
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Exogenous, Intervals, decode
from streamproc.core.wire import Refusal
from streamproc.errors import DataError, ShellError
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wire_name
from streamproc.values import TOPIC_EXOGENOUS, TOPIC_INTERVALS

EARLIER_MS = 3_600_000  # that a clock which dates records may be behind
SILENCE_MAX_S = 20.0  # without a record before the end of a topic: it is given up
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a topic."""

    area: str
    from_us: int
    to_us: int  # not in it
    only: tuple[str, ...] = ()  # series or names; (): all


def export_intervals(config: SiteConfig, asked: Asked, out: Path) -> tuple[int, int]:
    """Write the means; return how many rows, and how many records could not be read. Raises StreamprocError."""
    key = asked.area.encode()
    values = read_values(config, TOPIC_INTERVALS, lambda k: k == key, asked.from_us // 1000 - EARLIER_MS)
    rows: dict[int, Mapping[str, float | None]] = {}
    skipped = 0
    for value in values:
        read = decode(Intervals, value)
        if isinstance(read, Refusal) or len(read.ids) != len(read.means):
            skipped += 1
        elif read.area == asked.area and asked.from_us <= read.start_us < asked.to_us:
            rows[read.start_us] = dict(zip(read.ids, read.means, strict=True))
    names = list(dict.fromkeys(name for start in sorted(rows) for name in rows[start]))
    _check(config, TOPIC_INTERVALS, asked, names, "series")
    names = list(asked.only) or names
    columns: dict[str, list[Any]] = {"time": [_moment(start) for start in sorted(rows)]}
    columns |= {name: [rows[start].get(name) for start in sorted(rows)] for name in names}
    _write(out, columns)
    return len(rows), skipped


def export_exogenous(config: SiteConfig, asked: Asked, out: Path) -> tuple[int, int]:
    """Write what was known ahead of times in the span; return as `export_intervals`. Raises StreamprocError."""
    start = f"{asked.area}/".encode()
    values = read_values(config, TOPIC_EXOGENOUS, lambda k: k is not None and k.startswith(start), None)
    cells: dict[tuple[int, str, int], float | None] = {}
    skipped = 0
    for value in values:
        read = decode(Exogenous, value)
        if isinstance(read, Refusal) or len(read.valid_ts_us) != len(read.values):
            skipped += 1
        elif read.area == asked.area:
            for valid, one in zip(read.valid_ts_us, read.values, strict=True):
                if asked.from_us <= valid < asked.to_us:
                    cells[read.known_at_us, read.name, valid] = one
    _check(config, TOPIC_EXOGENOUS, asked, sorted({name for _, name, _ in cells}), "names")
    places = sorted(place for place in cells if not asked.only or place[1] in asked.only)
    columns: dict[str, list[Any]] = {
        "name": [name for _, name, _ in places],
        "valid": [_moment(valid) for _, _, valid in places],
        "known_at": [_moment(known) for known, _, _ in places],
        "value": [cells[place] for place in places],
    }
    _write(out, columns)
    return len(places), skipped


EXPORTS: Mapping[str, Callable[[SiteConfig, Asked, Path], tuple[int, int]]] = {
    "intervals": export_intervals,
    "exogenous": export_exogenous,
}


def read_values(
    config: SiteConfig, topic: str, mine: Callable[[bytes | None], bool], from_ms: int | None
) -> list[bytes]:
    """Return the values of a topic from a record time on whose key is `mine`; raises ShellError."""
    try:
        return asyncio.run(_values(config, wire_name(config, topic), mine, from_ms))
    except (KafkaError, OSError) as error:
        raise ShellError(f"no Kafka answers at {config.broker.bootstrap}: {error}") from error


async def _values(
    config: SiteConfig, topic: str, mine: Callable[[bytes | None], bool], from_ms: int | None
) -> list[bytes]:
    """Return the values of the records with such keys, of all partitions, in the order of their coming."""
    places = await _partitions(config, topic)
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **client_settings(config.broker))
    found: list[tuple[int, bytes]] = []
    loop = asyncio.get_running_loop()
    try:
        await consumer.start()
        left, high = await _assigned(consumer, places, from_ms)
        last_s = loop.time()
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=500)).values():
                found += [(r.timestamp, r.value) for r in records if r.value and mine(r.key)]
                last_s = loop.time() if records else last_s
            left = {place for place in left if await consumer.position(place) < high[place]}
            if left and loop.time() - last_s > SILENCE_MAX_S:
                raise ShellError(
                    f"{topic}: no record came for {SILENCE_MAX_S:g} s before its end was reached"
                )
    finally:
        await consumer.stop()
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


async def _partitions(config: SiteConfig, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**client_settings(config.broker))
    try:
        await admin.start()
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    numbers = sorted(p["partition"] for found in described for p in found["partitions"])
    if not numbers:
        words = "`streamproc topics apply` makes it"
        raise ShellError(f"there is no topic {topic} at {config.broker.bootstrap}: {words}")
    return [TopicPartition(topic, number) for number in numbers]


async def _assigned(
    consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], from_ms: int | None
) -> tuple[set[TopicPartition], dict[TopicPartition, int]]:
    """Return which partitions there is something to read of, and where each of them ends."""
    consumer.assign(places)
    high: dict[TopicPartition, int] = await consumer.end_offsets(places)
    starts: dict[TopicPartition, int] = await consumer.beginning_offsets(places)
    if from_ms is not None:
        times = await consumer.offsets_for_times(dict.fromkeys(places, max(0, from_ms)))
        starts = {place: high[place] if at is None else at.offset for place, at in times.items()}
    left = {place for place in places if starts[place] < high[place]}
    for place in left:
        consumer.seek(place, starts[place])
    return left, high


def _check(config: SiteConfig, topic: str, asked: Asked, names: Sequence[str], what: str) -> None:
    """Raise ShellError when there is nothing, or not what was asked for."""
    where = f"{wire_name(config, topic)} at {config.broker.bootstrap}"
    span = f"{iso_time(asked.from_us * 1000)} to {iso_time(asked.to_us * 1000)}"
    if not names:
        raise ShellError(f"{where} holds nothing of area {asked.area!r} for {span}")
    missing = [name for name in asked.only if name not in names]
    if missing:
        told = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
        raise ShellError(
            f"{where}: area {asked.area!r} has no {missing[0]!r} for {span}; its {what} are {told}"
        )


def _moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def _write(out: Path, columns: Mapping[str, list[Any]]) -> None:
    try:
        if out.suffix.lower() in PARQUET:
            _write_parquet(out, columns)
        else:
            _write_csv(out, columns)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error


def _write_parquet(out: Path, columns: Mapping[str, list[Any]]) -> None:
    try:
        import pyarrow  # noqa: PLC0415 - an optional part
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise DataError(f'{out}: Parquet needs pyarrow: pip install "streamproc[parquet]"') from error
    parquet.write_table(pyarrow.table(dict(columns)), out)


def _write_csv(out: Path, columns: Mapping[str, list[Any]]) -> None:
    def cells(column: Iterable[Any]) -> list[str]:
        return ["" if c is None else _iso(c) if isinstance(c, datetime) else str(c) for c in column]

    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(cells, columns.values()), strict=True))


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="auto") + "Z"

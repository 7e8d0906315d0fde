"""`streamproc bench latency`: from record to alert while everything runs on this machine at full load.

Producer, broker, worker (`streamproc run`, all stages, all base models) share the machine. Frames come in real
time, one record per PDC of 40 PMUs and instant; every area has an event of the grid and a drop-out every 20 s,
in turns, so that alerts come through the whole run.

Two questions. Did the worker keep up: does the lag grow? And how long from the moment at which the broker has
the record that completes an instant to the moment at which it has the alert about that instant: both are the
broker's own clock (LogAppendTime, whole milliseconds), so no other clock is in it. The same for findings, the
step before the alert. The target is about alerts raised; their later transitions are shown as well, but an alert
that grows is told once a second, and a return to normal when the next second begins: that wait is wanted.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.config import BrokerTable, SiteConfig
from streamproc.shell.bench.load import START_S, Load, area_name, partition_of
from streamproc.shell.bench.paced import STAGES, Paced, growth_ratio, run_paced
from streamproc.shell.bench.rig import CACHE, Bar, bench_site, kafka, topics
from streamproc.shell.bench.table import Cell, Result, Table, Target, result_of
from streamproc.shell.site_file import client_settings
from streamproc.values import TOPIC_ALERTS, TOPIC_FINDINGS

PARTITIONS = 4
GOAL_P99_MS = 100.0
GROWTH_MAX = 0.01  # the lag may grow by this share of what comes in: that is noise of the sampling
END_LAG_S = 1.0  # and at the last frame it may be this much of the load
READ_S = 30.0


def measure(
    *,
    bootstrap: str | None = None,
    pmus: int = 3000,
    rate_hz: int = 60,
    seconds: int = 60,
    area_pmus: int = 200,
) -> Result:
    """Return what came out."""
    load = Load(pmus, rate_hz, seconds, area_pmus=area_pmus, events=True)
    with (
        kafka(bootstrap) as address,
        Bar("bench latency", seconds) as bar,
        tempfile.TemporaryDirectory(prefix="latency-", dir=CACHE) as home,
    ):
        bar.doing("making the frames")
        return uvloop.run(_measure(address, load, bar, Path(home).absolute()))


async def _measure(address: str, load: Load, bar: Bar, home: Path) -> Result:
    config = bench_site(address, PARTITIONS)
    async with topics(config, message_timestamp_type="LogAppendTime"):

        def tick() -> None:
            bar.doing("frames come")
            bar.step()

        paced = await run_paced(config, load, home, tick)
        alerts = await _read(config.broker, TOPIC_ALERTS)
        findings = await _read(config.broker, TOPIC_FINDINGS)
    appended = paced.sent["appended_ms"]
    raised = [(at_ms, message) for at_ms, message in alerts if message["seq"] == 1]
    later = [(at_ms, message) for at_ms, message in alerts if message["seq"] != 1]
    found = {
        "alerts raised": delays_ms(raised, appended, load, config),
        "their later transitions": delays_ms(later, appended, load, config),
        "findings": delays_ms(findings, appended, load, config),
    }
    settings: dict[str, Cell] = {"pmus": load.pmus, "rate_hz": load.rate_hz, "seconds": load.seconds}
    settings |= {"areas": load.areas, "records_per_s": load.records_per_s, "partitions": PARTITIONS}
    tables = [delay_table(found), lag_table(paced), stage_table(paced)]
    return result_of("latency", settings, tables, targets(paced, found["alerts raised"]))


async def _read(broker: BrokerTable, topic: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (append time, message) of all records of a topic."""
    consumer = AIOKafkaConsumer(
        enable_auto_commit=False, auto_offset_reset="earliest", **client_settings(broker)
    )
    await consumer.start()
    try:
        place = TopicPartition(broker.topic_prefix + topic, 0)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        found: list[tuple[int, dict[str, Any]]] = []
        async with asyncio.timeout(READ_S):
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(r.timestamp, orjson.loads(r.value)) for r in records if r.value]
        return found
    finally:
        await consumer.stop()


def delays_ms(
    messages: Iterable[tuple[int, Mapping[str, Any]]],
    appended_ms: Sequence[Mapping[str, int]],
    load: Load,
    config: SiteConfig,
) -> list[float]:
    """Return per message the time since its instant was complete at the broker; a message of no instant has none."""
    areas = {area_name(area): area for area in range(load.areas)}
    found = []
    for at_ms, message in messages:
        tick = round((message["ts_us"] / 1e6 - START_S) * load.rate_hz)
        area = areas.get(message.get("area", ""))
        if area is None or not 0 <= tick < len(appended_ms):
            continue
        came_ms = appended_ms[tick].get(str(partition_of(area, config.broker)))
        if came_ms is not None:
            found.append(float(at_ms - came_ms))
    return found


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return a quantile of what was seen, the next larger value where it lies between two; None without any."""
    return float(np.quantile(values, q, method="higher")) if values else None


def delay_table(found: Mapping[str, Sequence[float]]) -> Table:
    """Return the delays at the broker."""
    rows: list[tuple[Cell, ...]] = [
        (name, len(values), quantile(values, 0.5), quantile(values, 0.9), quantile(values, 0.99), max(values, default=None))
        for name, values in found.items()
    ]  # fmt: skip
    head = ("", "records", "p50 ms", "p90 ms", "p99 ms", "worst ms")
    return Table(
        title="Last record of the instant at the broker to what it caused at the broker",
        head=head,
        rows=tuple(rows),
    )


def lag_table(paced: Paced) -> Table:
    """Return how far behind the worker was."""
    per_s = paced.load.records_per_s
    lags = [look.lag for look in paced.looks]
    rows: tuple[tuple[Cell, ...], ...] = (
        ("lag at the start, records", lags[0] if lags else None),
        ("lag at the end, records", lags[-1] if lags else None),
        ("largest lag, records", max(lags, default=None)),
        ("the end lag as seconds of load", lags[-1] / per_s if lags else None),
        ("growth of the lag, share of the load", known(_growth(paced))),
        ("from the last frame to all taken in, s", known(paced.caught_up_s)),
        ("kept up", "yes" if kept_up(paced) else "no"),
        ("worker, cores", known(paced.cpu_ratio)),
        ("worker, MB", known(paced.memory_mb)),
        ("load generator, cores", paced.sent["cpu_s"] / paced.sent["span_s"]),
        ("load generator, latest frame late by s", paced.sent["late_s"]),
    )
    return Table(title="Keeping up", head=("", "value"), rows=rows)


def stage_table(paced: Paced) -> Table:
    """Return the worker's own view of its stages."""
    rows: list[tuple[Cell, ...]] = [
        (stage, known(paced.stage_s(stage, 0.5) * 1e3), known(paced.stage_s(stage, 0.99) * 1e3))
        for stage in (*STAGES, "end_to_end")
    ]
    note = "Linear inside the buckets of the histograms. end_to_end counts from the time in the frame: not a delay here."
    return Table(
        title="Stages, from the worker's metrics",
        head=("stage", "p50 ms", "p99 ms"),
        rows=tuple(rows),
        note=note,
    )


def _growth(paced: Paced) -> float:
    return growth_ratio([(look.at_s, look.lag) for look in paced.steady()], paced.load.records_per_s)


def kept_up(paced: Paced) -> bool:
    """Return whether the lag did not grow and was small at the end."""
    if not paced.looks:
        return False
    small = paced.looks[-1].lag <= END_LAG_S * paced.load.records_per_s
    return small and _growth(paced) <= GROWTH_MAX


def known(value: float) -> float | None:
    """Return None for NaN: not measured."""
    return None if math.isnan(value) else value


def targets(paced: Paced, alerts: Sequence[float]) -> list[Target]:
    """Return what was wanted, and what came out."""
    lag_s = paced.looks[-1].lag / paced.load.records_per_s if paced.looks else None
    return [
        Target(name="kept up (1: yes)", sign=">=", goal=1.0, measured=1.0 if kept_up(paced) else 0.0),
        Target(name="lag at the end", sign="<=", goal=END_LAG_S, measured=lag_s, unit="s of load"),
        Target(
            name="record at broker to raised alert at broker, p99",
            sign="<",
            goal=GOAL_P99_MS,
            measured=quantile(alerts, 0.99),
            unit="ms",
        ),
    ]

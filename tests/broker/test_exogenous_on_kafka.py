"""Protects the way from the topics to a bundle on a real Kafka: publish what is known ahead, export, train, load."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from live_rig import Live

from streamproc.config import AreaTable
from streamproc.core.messages import Exogenous, Intervals, decode, encode
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.shell.sender import Sender
from streamproc.values import TOPIC_EXOGENOUS, TOPIC_INTERVALS, Record

pytestmark = pytest.mark.broker
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=40)
DAYS, STEP = 24, timedelta(minutes=15)
HOLE = 700  # interval without a record
END = START + timedelta(days=DAYS)
TIMES = ("--from", f"{START:%Y-%m-%d}", "--to", f"{END:%Y-%m-%d}")
SPAN = ("--area", "north", *TIMES)


@pytest.fixture
def live(kafka: str, tmp_path: Path) -> Iterator[Live]:
    made = Live(kafka, tmp_path, area=(AreaTable(name="north"), AreaTable(name="south")))
    try:
        yield made
    finally:
        made.end()


def run(live: Live, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*live.command(*words), "-c", str(live.site_path)],
        cwd=live.home,
        env=live.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def intervals(area: str, number: int, means: Sequence[float | None]) -> Record:
    start_us = int((START + number * STEP).timestamp()) * 1_000_000
    ids = tuple(f"{area}.feeder{n}" for n in range(len(means)))
    message = Intervals(area=area, start_us=start_us, ids=ids, units=("MW",) * len(ids), means=tuple(means))
    return Record(TOPIC_INTERVALS, 0, 0, start_us // 1000 + 900_000, area.encode(), encode(message))


def send(live: Live, records: Sequence[Record]) -> None:
    async def all_of_them() -> None:
        async with Sender(live.config) as sender:
            for record in records:
                await sender.send(record)

    asyncio.run(all_of_them())


def made_load() -> tuple[np.ndarray, np.ndarray]:
    """A temperature by the hour, and two feeders (n, 2) that follow it and the clock."""
    draws = np.random.default_rng(1)
    temperature = np.repeat(12.0 + draws.normal(0.0, 4.0, DAYS + 3), 24)
    hour = np.arange(DAYS * 96) / 4.0
    base = 50.0 + 10.0 * np.sin(2 * np.pi * hour / 24.0) - 1.5 * temperature[hour.astype(int)]
    return temperature, np.stack([base, 2.0 * base + draws.normal(0.0, 0.5, base.size)], axis=1)


def weather_file(path: Path, temperature: np.ndarray) -> Path:
    """Each day at 22:00 a forecast of the next 72 hours."""
    lines = ["name,valid,known_at,value"]
    for day in range(DAYS):
        known = START + timedelta(days=day, hours=-2)
        for hour in range(72):
            valid = START + timedelta(days=day, hours=hour)
            lines.append(
                f"temperature_degc,{valid:%Y-%m-%dT%H:%MZ},{known:%Y-%m-%dT%H:%MZ},{temperature[24 * day + hour]:.3f}"
            )
    path.write_text("\n".join(lines) + "\n")
    return path


def exported(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_from_files_to_topics_to_a_bundle(live: Live, tmp_path: Path) -> None:
    temperature, load = made_load()
    records = [intervals("north", n, row.tolist()) for n, row in enumerate(load) if n != HOLE]
    records[10] = intervals("north", 10, [None, float(load[10, 1])])
    garbage = Record(TOPIC_INTERVALS, 0, 0, records[-1].ts_ms, b"north", b"{}")
    foreign = [intervals("south", n, [1.0]) for n in range(50)]
    send(live, [*foreign, *records, records[-1], garbage])

    # What is known ahead: published, and exported as it was.
    weather = weather_file(tmp_path / "weather.csv", temperature)
    done = run(live, "exogenous", str(weather), "--area", "north", "--unit", "temperature_degc=degC")
    assert f"{DAYS} records sent to {live.prefix}{TOPIC_EXOGENOUS}" in done.stderr
    run(
        live,
        "exogenous",
        "--holidays",
        "DE-BY",
        "--from",
        "2026-01-01",
        "--to",
        "2027-01-01",
        "--area",
        "north",
    )
    run(live, "topics", "export", "known.csv", "--topic", "exogenous", *SPAN, "--only", "temperature_degc")
    sent, back = exported(weather), exported(live.home / "known.csv")
    kept = [row for row in sent if row["valid"] < f"{END:%Y-%m-%d}"]
    assert [float(row["value"]) for row in back] == [float(row["value"]) for row in kept]
    assert [datetime.fromisoformat(row["known_at"]) for row in back] == [
        datetime.fromisoformat(row["known_at"]) for row in kept
    ]

    # The means: a missing record and a null are empty, a record that came twice is one row.
    done = run(live, "topics", "export", "load.csv", *SPAN)
    assert f"load.csv: {DAYS * 96 - 1} rows; left out, as they cannot be read: 1 records" in done.stderr
    rows = exported(live.home / "load.csv")
    assert list(rows[0]) == ["time", "north.feeder0", "north.feeder1"]
    assert len(rows) == DAYS * 96 - 1
    assert rows[10]["north.feeder0"] == ""
    values = np.array([[float(row[f"north.feeder{k}"] or "nan") for k in (0, 1)] for row in rows])
    wanted = np.delete(load, HOLE, axis=0)
    wanted[10, 0] = np.nan
    assert np.array_equal(values, wanted, equal_nan=True)

    # The bundle, from the topics and from the exported files: the same weights.
    words = ("--known", "temperature_degc", "--out", "bundle", "--json")
    told = json.loads(run(live, "train", "forecast", "--from-topics", *SPAN, *words).stdout)
    loaded = OnnxAhead.load(live.home / "bundle")
    assert told["digest"] == loaded.digest
    assert loaded.known_names == ("temperature_degc",)
    assert loaded.rows_of(("north.feeder1", "north.feeder0", "unheard of")).tolist() == [1, 0, 2]
    assert "records of the topics that cannot be read, left out: 1" in told["notes"]
    targets = ("--target", "north.feeder0", "--target", "north.feeder1")
    files = ("load.csv", *targets, "--known-file", "known.csv", "--out", "other", "--json")
    again = json.loads(run(live, "train", "forecast", *files).stdout)
    assert again["metrics"] == told["metrics"]
    arrays = [(live.home / name / "arrays.npz").read_bytes() for name in ("bundle", "other")]
    assert arrays[0] == arrays[1]

    gone = run(
        live,
        "topics",
        "export",
        "x.csv",
        "--area",
        "east",
        *TIMES,
        code=1,
    )
    assert f"{live.prefix}{TOPIC_INTERVALS} at {live.bootstrap} holds nothing of area 'east'" in gone.stderr
    gone = run(live, "topics", "export", "x.csv", *SPAN, "--only", "feeder9", code=1)
    assert "area 'north' has no 'feeder9'" in gone.stderr
    assert not (live.home / "x.csv").exists()


def test_the_holidays_of_a_year_are_one_record_under_the_key_of_area_and_name(
    live: Live, topics_at: type
) -> None:
    run(
        live,
        "exogenous",
        "--holidays",
        "DE-BY",
        "--from",
        "2026-01-01",
        "--to",
        "2027-01-01",
        "--area",
        "south",
    )
    (message,) = topics_at(live.bootstrap).read(live.prefix + TOPIC_EXOGENOUS)
    assert message.key() == b"south/holiday"
    read = decode(Exogenous, message.value())
    assert isinstance(read, Exogenous)
    assert message.timestamp()[1] == read.known_at_us // 1000
    assert (
        sum(value or 0.0 for value in read.values) == 12 * 24 + 11
    )  # and the last quarter of all but Christmas Day

"""`streamproc bench path`: the same stored PMU frames through the bare client, our worker, stock Faust, Quix Streams.

    bare     (a)  aiokafka getmany + np.frombuffer
    sink     (b)  our worker with a stage that does the same: group, Faust, batch seam, host, blobs, commits
    plain         our worker with the real score stage and no model: decode, align, features, conditions
    full     (c)  our worker as it is: all stages, all base models
    faust    (d)  stock Faust, one record at a time, the score stage's job in numpy
    faust_onnx    the same with the ONNX models: what is left is the batch seam alone
    quix     (e)  Quix Streams, one record at a time, the score stage's job in numpy

A record is one frame of a PDC with 40 PMUs; 4 areas of 200 PMUs at 50 frames/s. Each way is a process of its
own; in turns, several rounds, the median counts. A way reads until it has all records or its time is up, so
the slow ones read the first of them only.

Then (c) alone for sites of 10 to 3,000 PMUs: what one PMU-frame costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.bench.load import PMUS_PER_PDC, Load, Stream, fill
from streamproc.shell.bench.peers import SPARE_S, environment, peer
from streamproc.shell.bench.rig import (
    CACHE,
    Bar,
    bench_site,
    kafka,
    next_group,
    per_s,
    run_child,
    topics,
    us_per_record,
)
from streamproc.shell.bench.table import Cell, Result, Table, Target, middle, ratio, result_of, spread_ratio
from streamproc.values import TOPIC_FINDINGS, TOPIC_FRAMES

PARTITIONS = 4
PMUS, RATE_HZ = 800, 50
ROUNDS = 3
SIZES = (10, 40, 100, 300, 1000, 3000)
SIZE_RECORDS = 20_000
WARM_S = 15  # of stream time, at least, for a small site: longer than the windows
WORKER_RATIO, FAUST_RATIO, QUIX_RATIO, FLAT_RATIO = 0.8, 20.0, 8.0, 1.25
WAYS: Mapping[str, str] = {
    "bare": "(a) bare aiokafka getmany + np.frombuffer",
    "sink": "(b) our worker, the same join and frombuffer",
    "plain": "    our worker, score stage without models",
    "full": "(c) our worker, all stages, base models",
    "faust": "(d) stock Faust per record, numpy",
    "faust_onnx": "    stock Faust per record, ONNX",
    "quix": "(e) Quix Streams per record, numpy",
}

Runs = dict[str, list[dict[str, Any]]]


def measure(
    *,
    bootstrap: str | None = None,
    records: int = 200_000,
    seconds: float = 8.0,
    rounds: int = ROUNDS,
    sizes: Sequence[int] = SIZES,
) -> Result:
    """Return what every way did."""
    with (
        kafka(bootstrap) as address,
        Bar("bench path", 1 + rounds * len(WAYS) + len(sizes) * (1 + rounds)) as bar,
        tempfile.TemporaryDirectory(prefix="path-", dir=CACHE) as scratch,
    ):
        return uvloop.run(_measure(address, records, seconds, rounds, sizes, bar, Path(scratch).absolute()))


async def _measure(
    address: str,
    records: int,
    seconds: float,
    rounds: int,
    sizes: Sequence[int],
    bar: Bar,
    scratch: Path,
) -> Result:
    load = Load(PMUS, RATE_HZ, seconds=-(-records // Load(PMUS, RATE_HZ, 1).records_per_s), events=True)
    failures: dict[str, str] = {}
    python = await _quix(failures, bar)
    runs: Runs = {way: [] for way in WAYS}
    config = bench_site(address, PARTITIONS)
    async with topics(config):
        bar.doing("storing records")
        stored = await fill(config.broker, load, records)
        bar.step()
        asked = _asked(config, load, stored, seconds, scratch)
        for _ in range(rounds):
            for way in WAYS:
                bar.doing(way)
                if way not in failures:
                    await _run(way, asked, config, python, runs, failures)
                bar.step()
    by_size: dict[int, list[dict[str, Any]]] = {}
    notes = []
    for pmus in sizes:
        try:
            by_size[pmus] = await _size(address, pmus, seconds, rounds, bar)
        except ShellError as error:
            notes.append(f"{pmus} PMUs: not measured: {error}")
    settings: dict[str, Cell] = {"records": stored, "pmus_per_record": PMUS_PER_PDC, "pmus": PMUS}
    settings |= {"areas": load.areas, "rate_hz": RATE_HZ, "partitions": PARTITIONS, "rounds": rounds}
    settings["seconds_per_run"] = seconds
    versions = {k: v for run in runs["quix"] for k, v in run.get("versions", {}).items() if k != "numpy"}
    tables = [ways_table(runs, failures), *([sizes_table(by_size)] if by_size else [])]
    wanted = targets(runs, by_size)
    return result_of("path", settings, tables, wanted, versions=versions, notes=notes)


async def _quix(failures: dict[str, str], bar: Bar) -> str | None:
    bar.doing("installing Quix Streams")
    try:
        return await environment(peer("quix_way"))
    except (ShellError, OSError) as error:
        failures["quix"] = str(error)
        return None


def _asked(config: SiteConfig, load: Load, stored: int, seconds: float, scratch: Path) -> dict[str, Any]:
    configs = scratch / "configs.bin"
    configs.write_bytes(b"".join(frame for _, frame in Stream(load).configs))
    prefix = config.broker.topic_prefix
    return {
        "records": stored,
        "seconds": seconds,
        "pdc_pmus": PMUS_PER_PDC,
        "bootstrap": config.broker.bootstrap,
        "partitions": PARTITIONS,
        "configs": str(configs),
        "findings": prefix + TOPIC_FINDINGS,
        "scratch": str(scratch),
    }


async def _run(
    way: str,
    asked: Mapping[str, Any],
    config: SiteConfig,
    python: str | None,
    runs: Runs,
    failures: dict[str, str],
) -> None:
    wire = {"topic": config.broker.topic_prefix + TOPIC_FRAMES}
    timeout_s, scratch = asked["seconds"] + SPARE_S, Path(asked["scratch"])
    try:
        if way == "quix":
            spec = {**asked, **wire, "way": "score"}
            seen = await run_child("quix_way", spec, timeout_s=timeout_s, python=python, cwd=scratch)
        elif way.startswith("faust"):
            spec = {**asked, **wire, "way": way.replace("faust", "score")}
            seen = await run_child("faust_way", spec, timeout_s=timeout_s, cwd=scratch)
        else:
            seen = await _own(way, asked, config)
        runs[way].append(seen)
    except ShellError as error:
        failures[way] = str(error)


async def _own(way: str, asked: Mapping[str, Any], config: SiteConfig) -> dict[str, Any]:
    site = msgspec.to_builtins(next_group(config))
    spec = {**asked, "way": way, "topic": TOPIC_FRAMES, "site": site}
    return await run_child("own", spec, timeout_s=asked["seconds"] + SPARE_S)


async def _size(address: str, pmus: int, seconds: float, rounds: int, bar: Bar) -> list[dict[str, Any]]:
    """Return the runs of (c) for a site of so many PMUs."""
    per_second = Load(pmus, RATE_HZ, 1).records_per_s
    wanted = min(SIZE_RECORDS, max(WARM_S * per_second, 2000))
    load = Load(pmus, RATE_HZ, seconds=-(-wanted // per_second))
    config = bench_site(address, PARTITIONS)
    found = []
    async with topics(config):
        bar.doing(f"{pmus} PMUs")
        stored = await fill(config.broker, load, wanted)
        bar.step()
        for _ in range(rounds):
            asked = {"records": stored, "seconds": seconds, "pdc_pmus": PMUS_PER_PDC}
            seen = await _own("full", asked, config)
            found.append({**seen, "pmu_frames": seen["records"] * pmus * RATE_HZ / per_second})
            bar.step()
    return found


def ways_table(runs: Mapping[str, Sequence[Mapping[str, Any]]], failures: Mapping[str, str]) -> Table:
    """Return a row for every way; what could not be measured says why."""
    bare, full = _rate(runs, "bare"), _rate(runs, "full")
    rows: list[tuple[Cell, ...]] = []
    for way, title in WAYS.items():
        rate = _rate(runs, way)
        if rate is None:
            rows.append((f"{title}: {failures.get(way, 'no run')}", None, None, None, None, None, None))
            continue
        cpu_us = middle(us_per_record(run) for run in runs[way])
        per_frame = None if cpu_us is None else cpu_us / PMUS_PER_PDC
        frames = rate * PMUS_PER_PDC
        rows.append((title, rate, frames, cpu_us, per_frame, ratio(rate, bare), ratio(full, rate)))
    head = ("way", "records/s", "PMU-frames/s", "us CPU/record", "us CPU/PMU-frame", "x (a)", "(c) is x this")
    return Table(title="The same records", head=head, rows=tuple(rows))


def _rate(runs: Mapping[str, Sequence[Mapping[str, Any]]], way: str) -> float | None:
    return middle(per_s(run) for run in runs.get(way, ()))


def _per_frame(runs: Sequence[Mapping[str, Any]]) -> float | None:
    return middle(run["cpu_s"] / run["pmu_frames"] * 1e6 for run in runs)


def sizes_table(by_size: Mapping[int, Sequence[Mapping[str, Any]]]) -> Table:
    """Return what one PMU-frame costs by the size of the site."""
    rows: list[tuple[Cell, ...]] = []
    for pmus, runs in by_size.items():
        load = Load(pmus, RATE_HZ, 1)
        frames_per_s = middle(run["pmu_frames"] / run["elapsed_s"] for run in runs)
        cpu_us = middle(map(us_per_record, runs))
        load_ratio = ratio(frames_per_s, float(pmus * RATE_HZ))
        rows.append(
            (pmus, load.areas, load.records_per_s, frames_per_s, cpu_us, _per_frame(runs), load_ratio)
        )
    head = (
        "PMUs", "areas", "its records/s", "PMU-frames/s", "us CPU/record", "us CPU/PMU-frame", "x real time",
    )  # fmt: skip
    return Table(title=f"(c) by the size of the site, {RATE_HZ} frames/s", head=head, rows=tuple(rows))


def targets(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], by_size: Mapping[int, Sequence[Mapping[str, Any]]]
) -> list[Target]:
    """Return what was wanted, and what came out."""
    full = _rate(runs, "full")
    ratios = [
        (
            "(b) our worker over (a) the bare client",
            ratio(_rate(runs, "sink"), _rate(runs, "bare")),
            WORKER_RATIO,
        ),
        ("(c) our worker over (d) stock Faust", ratio(full, _rate(runs, "faust")), FAUST_RATIO),
        ("(c) our worker over (e) Quix Streams", ratio(full, _rate(runs, "quix")), QUIX_RATIO),
    ]
    made = [Target(name=name, sign=">=", goal=goal, measured=got, unit="x") for name, got, goal in ratios]
    spread = spread_ratio(map(_per_frame, by_size.values())) if len(by_size) > 1 else None
    name = "cost per PMU-frame, dearest over cheapest size"
    return [*made, Target(name=name, sign="<=", goal=FLAT_RATIO, measured=spread, unit="x")]

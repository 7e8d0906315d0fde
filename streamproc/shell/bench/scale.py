"""`streamproc bench scale`: sites of several sizes in real time, and the cost model that they give.

For each size and rate on topics of its own: start the worker on empty topics (start time), let frames come
(CPU, memory, stage latencies), end it, start it again (warm-up: until the windows are refilled from the log).
Broker and load generator run on the same machine; the CPU is the worker's alone.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.bench.cost import CostModel, Point, fit, save
from streamproc.shell.bench.latency import kept_up, known
from streamproc.shell.bench.load import Load
from streamproc.shell.bench.paced import POLL_S, Paced, read_metrics, run_paced, service
from streamproc.shell.bench.rig import CACHE, Bar, bench_site, kafka, topics
from streamproc.shell.bench.table import Cell, Result, Table, result_of
from streamproc.shell.clock import SYSTEM

PARTITIONS = 4
SMALL_PDC = 4
STILL_S = 1.0  # no record warmed for this long: the windows are full
WARM_S = 60.0
SHOWN_STAGES = ("decode", "window", "score", "publish")


@dataclass(frozen=True, slots=True)
class Case:
    """One size and rate: the run, the second start, or why there is none."""

    load: Load
    paced: Paced | None = None
    warm_s: float = math.nan
    warmed: int = 0
    why: str = ""

    @property
    def point(self) -> Point | None:
        """Return the measurement; a worker that did not keep up is charged with what it left."""
        if self.paced is None or math.isnan(self.paced.cpu_ratio) or self.paced.taken_per_s <= 0:
            return None
        share = min(1.0, self.paced.taken_per_s / self.load.records_per_s)
        return Point(
            pmus=self.load.pmus,
            rate_hz=self.load.rate_hz,
            areas=self.load.areas,
            records_per_s=self.load.records_per_s,
            cores=self.paced.cpu_ratio / share,
            memory_mb=self.paced.memory_mb,
        )


def measure(
    *,
    bootstrap: str | None = None,
    pmus: Sequence[int] = (10, 100, 1000, 3000),
    rates_hz: Sequence[int] = (25, 60),
    seconds: int = 15,
) -> tuple[Result, CostModel]:
    """Return what came out, and the model fitted to it."""
    loads = [Load(count, rate_hz, seconds) for rate_hz in rates_hz for count in pmus]
    # The same number of PMUs in small records: only so are records and PMU-frames told apart.
    loads += [Load(max(pmus[len(pmus) // 2] // 5, 1), rate, seconds, pdc_pmus=SMALL_PDC) for rate in rates_hz]
    with (
        kafka(bootstrap) as address,
        Bar("bench scale", len(loads)) as bar,
        tempfile.TemporaryDirectory(prefix="scale-", dir=CACHE) as home,
    ):
        cases = uvloop.run(_measure(address, loads, bar, Path(home).absolute()))
    settings: dict[str, Cell] = {
        "seconds": seconds,
        "pmus_per_area": loads[0].area_pmus,
        "partitions": PARTITIONS,
    }
    bare = result_of("scale", settings, [])
    model = fit([case.point for case in cases if case.point is not None], bare.date, bare.machine)
    return result_of("scale", settings, [sites_table(cases), stages_table(cases), model_table(model)]), model


async def _measure(address: str, loads: Sequence[Load], bar: Bar, home: Path) -> list[Case]:
    cases = []
    for load in loads:
        bar.doing(f"{load.pmus} PMUs x {load.rate_hz}/s")
        try:
            cases.append(await _case(bench_site(address, PARTITIONS), load, home))
        except (ShellError, TimeoutError) as error:
            cases.append(Case(load, why=str(error) or type(error).__name__))
        bar.step()
    return cases


async def _case(config: SiteConfig, load: Load, home: Path) -> Case:
    async with topics(config):
        paced = await run_paced(config, load, home, lambda: None)
        warm_s, warmed = await _warm(config, home)
        return Case(load, paced, warm_s, warmed)


async def _warm(config: SiteConfig, home: Path) -> tuple[float, int]:
    """Return the seconds from a second start to the last record warmed, and how many there were."""
    begin_s = SYSTEM.monotonic_s()
    async with service(config, home) as (url, ready_s):
        last_s, warmed, changed_s = ready_s, 0, SYSTEM.monotonic_s()
        while SYSTEM.monotonic_s() - changed_s < STILL_S and SYSTEM.monotonic_s() - begin_s < WARM_S:
            now = int((await read_metrics(url)).total("streamproc_warmed_records_total"))
            if now != warmed:
                warmed, changed_s = now, SYSTEM.monotonic_s()
                last_s = changed_s - begin_s
            await asyncio.sleep(POLL_S)
    return last_s, warmed


def sites_table(cases: Sequence[Case]) -> Table:
    """Return a row for every site."""
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        load, paced = case.load, case.paced
        head: tuple[Cell, ...] = (load.pmus, load.rate_hz, load.pdc_pmus, load.areas, load.records_per_s)
        if paced is None:
            rows.append((*head, None, None, None, None, None, case.why))
            continue
        per_frame = (
            paced.cpu_ratio / (paced.taken_per_s / load.records_per_s * load.pmus * load.rate_hz) * 1e6
        )
        rows.append(
            (
                *head,
                known(paced.cpu_ratio),
                known(per_frame),
                known(paced.memory_mb),
                known(paced.ready_s),
                f"{case.warm_s:.2f} ({case.warmed:,})",
                "yes" if kept_up(paced) else "no",
            )
        )
    names = (
        "PMUs",
        "frames/s",
        "PMUs/PDC",
        "areas",
        "records/s",
        "cores",
        "us CPU/PMU-frame",
        "MB",
        "start s",
    )
    return Table(title="Sites in real time", head=(*names, "warm s (records)", "kept up"), rows=tuple(rows))


def stages_table(cases: Sequence[Case]) -> Table:
    """Return what the stages took, p50 and p99."""
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        if case.paced is None:
            continue
        row: list[Cell] = [case.load.pmus, case.load.rate_hz, case.load.pdc_pmus]
        for stage in SHOWN_STAGES:
            middle_ms, most_ms = (case.paced.stage_s(stage, q) * 1e3 for q in (0.5, 0.99))
            row.append(f"{middle_ms:.1f} / {most_ms:.1f}")
        rows.append(tuple(row))
    head = ("PMUs", "frames/s", "PMUs/PDC", *(f"{stage} ms" for stage in SHOWN_STAGES))
    return Table(title="Stages, p50 / p99 of one batch", head=head, rows=tuple(rows))


def model_table(model: CostModel) -> Table:
    """Return the fitted model with its error."""
    rows: list[tuple[Cell, ...]] = [
        ("worker at rest, cores", model.cores["base"]),
        ("per instant of an area, us", model.cores["instant_s"] * 1e6),
        ("per record, us", model.cores["record_s"] * 1e6),
        ("per PMU-frame, us", model.cores["frame_s"] * 1e6),
        ("worker at rest, MB", model.memory["base_mb"]),
        ("per 1,000 PMU-frames/s, MB", model.memory["mb_per_frame_rate"] * 1e3),
        ("error of the cores, left one out, rms %", model.error_ratio * 100),
        ("error of the cores, worst %", model.error_ratio_max * 100),
        ("error of the memory, rms %", model.memory_error_ratio * 100),
    ]
    return Table(title="Cost model (`streamproc size`)", head=("", "value"), rows=tuple(rows))


__all__ = ["measure", "save"]

"""`streamproc bench detect`: what a site's own model costs, and what deciding costs, without a broker.

A site bundle is fitted on made-up ambient data; its graphs are then run over further instants, every stride as often as
live, first in one process and then in one for each core at the same time. A channel-window is one quantity of one PMU at one
instant, judged by all rules. Deciding is what follows the scores of an instant: guard, conditions, findings, alerts.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.area import HOLD_S, Scored
from streamproc.core.condition import ConditionState, RuleArrays, advance
from streamproc.core.detector import N_QUANTITY, Windows
from streamproc.core.findings import area_findings
from streamproc.core.guard import Guard, guarded
from streamproc.shell.bench.rig import Bar
from streamproc.shell.bench.table import Result, Table, Target, middle, result_of
from streamproc.shell.models import SessionScorer
from streamproc.stages.decide import DecideStage
from streamproc.training.anomaly import Recorded, fit_area, open_graphs
from streamproc.training.bundle import ModelSpec
from streamproc.values import F32, Record

PMUS_PER_AREA, RATE_HZ, FIT_S = 40, 30, 90
INSTANTS = 600  # per round
BUDGET_MS, GOAL_WINDOWS = 1000.0 / 30.0, 20_000.0
DECIDE_PMUS, DECIDE_GOAL_MS = 1000, 1.0
ONSET_NS = 1_700_000_000_000_000_000


def measure(*, rounds: int = 5) -> Result:
    """Return channel-windows per tick of 33 ms, on one core and on all, and the cost of deciding."""
    cores = os.cpu_count() or 1
    with Bar("bench detect", 3) as bar:
        bar.doing("fitting a site bundle")
        spec = _spec()
        bar.step()
        bar.doing("scoring")
        alone = [_score_us(spec, number) for number in range(rounds)]
        with multiprocessing.get_context("spawn").Pool(cores) as pool:
            together = pool.map(_worker, [(number, rounds) for number in range(cores)])
        bar.step()
        bar.doing("deciding")
        one_area, areas = (DECIDE_PMUS,), (PMUS_PER_AREA,) * (DECIDE_PMUS // PMUS_PER_AREA)
        quiet_ms = _decide_ms(spec, one_area, 0.2, rounds)
        split_ms = _decide_ms(spec, areas, 0.2, rounds)
        event_ms = _decide_ms(spec, areas, 3.0, rounds)
        bar.step()
    one_us = middle(alone) or float("nan")
    windows = N_QUANTITY * PMUS_PER_AREA * BUDGET_MS * 1000.0
    one, every = windows / one_us, sum(windows / us for us in together)
    return result_of(
        "detect",
        {"PMUs of an area": PMUS_PER_AREA, "frames/s": RATE_HZ, "rules": len(spec.rules), "rounds": rounds},
        (
            Table(
                title="The site's model and what follows it",
                head=("what", "value", "unit"),
                rows=(
                    (f"one instant of {PMUS_PER_AREA} PMUs, all rules", one_us, "us"),
                    ("on one core", one, "channel-windows per 33 ms"),
                    (f"on {cores} cores at once", every, "channel-windows per 33 ms"),
                    (f"deciding, {DECIDE_PMUS} PMUs in one area, quiet", quiet_ms, "ms per instant"),
                    (f"the same in areas of {PMUS_PER_AREA}", split_ms, "ms per instant"),
                    ("the same, every PMU over every limit", event_ms, "ms, first instant"),
                ),
            ),
        ),
        (
            Target(name="channel-windows per 33 ms, all cores", sign=">=", goal=GOAL_WINDOWS, measured=every),
            Target(
                name=f"deciding per instant at {DECIDE_PMUS} PMUs, quiet",
                sign="<=",
                goal=DECIDE_GOAL_MS,
                measured=quiet_ms,
                unit="ms",
            ),
        ),
    )


def _ambient(n_tick: int, seed: int) -> F32:
    rng = np.random.default_rng(seed)
    common = np.cumsum(rng.normal(0, 5e-4, n_tick))
    common -= np.linspace(0, common[-1], n_tick)
    rows = rng.normal(size=(n_tick, N_QUANTITY, PMUS_PER_AREA)) * np.array([1e-3, 5e-4, 1e-3])[:, None]
    rows[:, 0] += common[:, None]
    ambient: F32 = rows.astype(np.float32)
    return ambient


def _spec() -> ModelSpec:
    stations = tuple(f"PMU{number}" for number in range(PMUS_PER_AREA))
    fast = _ambient(FIT_S * RATE_HZ, 1)
    recorded = Recorded("bench", stations, float(RATE_HZ), 60.0, fast, np.full(PMUS_PER_AREA, np.nan))
    return fit_area(recorded, "bench", SessionScorer)


def _worker(task: tuple[int, int]) -> float:
    number, rounds = task
    spec = _spec()
    return middle([_score_us(spec, number * rounds + r) for r in range(rounds)]) or float("nan")


def _score_us(spec: ModelSpec, seed: int) -> float:
    """Return the microseconds of one instant, all graphs at their strides."""
    graphs = open_graphs(spec.plan, PMUS_PER_AREA, SessionScorer)
    rows = max(graph.fast_rows for graph, _ in graphs)
    fast, slow = _ambient(rows + INSTANTS, seed), _ambient(spec.plan.slow_rows, seed)
    started_s = time.perf_counter()
    for instant in range(INSTANTS):
        windows = Windows(fast[instant + rows - 1], fast[instant : instant + rows], slow)
        for graph, score in graphs:
            if instant % graph.stride == 0:
                score(windows)
    return (time.perf_counter() - started_s) / INSTANTS * 1e6


def _decide_ms(spec: ModelSpec, areas: tuple[int, ...], score: float, rounds: int) -> float:
    """Return the milliseconds from the scores of one instant to the alerts; `areas`: their PMUs."""
    rules, arrays = spec.rules, RuleArrays.of(spec.rules, int(HOLD_S * 1e9))
    decide = DecideStage(SiteConfig())
    names = {n_pmu: tuple(f"PMU{number}" for number in range(n_pmu)) for n_pmu in set(areas)}
    times = []
    for number in range(max(20, rounds)):
        state: Any = decide.fresh()
        t_ns = np.array([ONSET_NS + number], dtype=np.int64)
        started_s = time.perf_counter()
        for area, n_pmu in enumerate(areas):
            scores = np.full((1, len(rules), n_pmu), score, dtype=np.float32)
            _, kept, _ = guarded(Guard.fresh(n_pmu), scores, rules, t_ns, float(RATE_HZ))
            _, edges = advance(ConditionState.fresh(len(rules), n_pmu), arrays, t_ns, kept)
            scored = Scored(t_ns, edges, np.zeros((1, n_pmu), dtype=np.uint32))
            told = area_findings(f"area {area}", "main", names[n_pmu], rules, "digest", scored, 0)
            records = [
                Record(out.topic, 0, i, out.ts_ms, out.key, out.value) for i, (_, out) in enumerate(told)
            ]
            state = decide.step(state, records).state
        times.append((time.perf_counter() - started_s) * 1e3)
    return middle(times) or float("nan")

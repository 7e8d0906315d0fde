"""`streamproc bench ahead`: what an issue of 48-hour forecasts costs for many series at once, without a broker.

The stage's own code on made-up histories: means in, judged against what was told, one model call for all, bands, and the
JSON of every series. Computing and writing are told apart: computing is what the quantiles cost, writing what Kafka gets.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY
from streamproc.core.ahead.issue import issue
from streamproc.core.ahead.known import Known
from streamproc.core.ahead.memory import Memory, note, take_in
from streamproc.core.ahead.reconcile import sums_of
from streamproc.core.quantiles import LEVELS
from streamproc.pipeline import utc
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.shell.bench.rig import Bar
from streamproc.shell.bench.table import Result, Table, Target, middle, result_of
from streamproc.stages.ahead import AheadStage, AheadState, AreaAhead
from streamproc.values import F32

NUMBER = 1_900_000  # of the first interval
GOAL_S = 1.0  # for 10,000 series
GOAL_SERIES = 10_000
GAP_RATIO = 0.0005  # of the means


def measure(*, series: int = GOAL_SERIES, rounds: int = 5, seed: int = 1) -> Result:
    """Return what one issue of so many series costs."""
    with Bar("bench ahead", rounds + 1) as bar:
        bar.doing("making histories")
        ahead = OnnxAhead.load()
        stage = AheadStage(SiteConfig(), ahead, utc)
        rng = np.random.default_rng(seed)
        ids = tuple(f"F{number}.P" for number in range(series))
        memory = replace(Memory.fresh(ids, NUMBER), history=_histories(series, rng))
        sums, known = sums_of(ids, {}), Known()
        bar.step()
        times: list[tuple[float, ...]] = []
        size = blob = 0
        for _ in range(rounds + 1):  # the first one warms up
            marks = [time.perf_counter()]
            memory = take_in(memory, memory.start, 50.0 + rng.normal(size=series))
            marks.append(time.perf_counter())
            made = issue(memory, known, ahead, utc, sums)
            memory = note(memory, made.every, made.model, made.fallback)
            marks.append(time.perf_counter())
            area = AreaAhead(memory, ("MW",) * series)
            outputs = stage.tell("bench", area, made, 0, Counter())
            marks.append(time.perf_counter())
            blob = len(stage.pack(AheadState({"bench": area})))
            size = sum(len(output.value) for output in outputs)
            times.append(tuple(b - a for a, b in zip(marks, marks[1:], strict=False)))
            bar.step()
    judge_s, issue_s, write_s = (middle([row[k] for row in times[1:]]) or float("nan") for k in range(3))
    rows = (
        ("means in, judged against what was told", judge_s, "s"),
        ("model, bands, all quantiles", issue_s, "s"),
        ("computing together", judge_s + issue_s, "s"),
        ("writing the JSON of all series", write_s, "s"),
        ("quantiles", series * N_LEAD * len(LEVELS) / 1e6, "millions"),
        ("JSON", size / 1e6, "MB"),
        ("state blob", blob / 1e6, "MB"),
    )
    return result_of(
        "ahead",
        {"series": series, "rounds": rounds, "leads": N_LEAD, "quantiles": len(LEVELS)},
        (Table(title="One issue of 48 hours", head=("what", "value", "unit"), rows=rows),),
        (
            Target(
                name=f"computing {GOAL_SERIES} series x 48 h of quantiles",
                sign="<=",
                goal=GOAL_S,
                measured=(judge_s + issue_s) * GOAL_SERIES / series,
                unit="s",
            ),
        ),
    )


def _histories(series: int, rng: np.random.Generator) -> F32:
    phase = np.arange(N_ROW) / PER_DAY * 2.0 * np.pi
    made = 50.0 + 10.0 * np.sin(phase + rng.random((series, 1))) + rng.normal(size=(series, N_ROW))
    made[rng.random(made.shape) < GAP_RATIO] = np.nan
    return made.astype(np.float32)

"""What the 48-hour forecasts of an area remember, and how one closed quarter hour changes it.

    means of one interval ── believe ── history
                                 └────── judge what was told for it ── bands, figures, bench
    (then) issue: `core.ahead.issue`

First axis of every array = series. `told` holds what was published for intervals that have not passed yet, at the
judged leads only; each of its columns carries the number of the issue it came from, so that a gap in the stream can
never set a forecast against the wrong interval.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from streamproc.core.ahead import bands as band
from streamproc.core.ahead.bands import HOURLY_FROM, JUDGED, N_JUDGED, QUARTERS_PER_HOUR, Bands
from streamproc.core.ahead.believe import FINE, Usual, believe, refreshed, taken_back
from streamproc.core.ahead.days import N_ROW, PER_DAY
from streamproc.core.quantiles import LEVELS, MEDIAN
from streamproc.values import F32, F64, I64, U8, Bool

N_TOLD = 9  # the 7 quantiles, the model's median, the fallback's
MODEL_TOLD, FALLBACK_TOLD = 7, 8
FIGURES = ("weight", "error", "model", "persistence", "seasonal", "fallback", "inside", "pinball")
N_FIGURE = len(FIGURES)
MEMORY_DAYS = 1.0  # half-life of the figures
BENCH_ROWS = PER_DAY  # a day on end worse than the fallback: benched; a day on end better: back
WEIGHT_MIN = 8.0  # judgements, before a figure says anything

_LENGTHS = tuple(lead // QUARTERS_PER_HOUR if lead >= HOURLY_FROM else lead for lead in JUDGED)
_STARTS = tuple(int(x) for x in np.concatenate([[0], np.cumsum(_LENGTHS)[:-1]]))
N_RING = sum(_LENGTHS)


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that outlives an issue. `start`: number of the interval that is to come, -1: none came yet."""

    ids: tuple[str, ...]
    start: int
    history: F32  # (n, N_ROW), believed means, oldest first, NaN = unknown
    usual: Usual
    verdict: U8  # (n,), of the newest interval
    told: F32  # (n, N_RING, N_TOLD)
    told_at: I64  # (N_RING,), issue (number of its first lead) of each column, -1: none
    bands: Bands
    figures: F32  # (n, N_JUDGED, N_FIGURE), sums that fade
    worse: I64  # (n,), > 0: rows on end worse than the fallback, < 0: better
    benched: Bool  # (n,)

    @classmethod
    def fresh(cls, ids: tuple[str, ...], start: int = -1) -> Memory:
        """Return the memory of these series before any value."""
        n = len(ids)
        return cls(
            ids,
            start,
            np.full((n, N_ROW), np.nan, np.float32),
            Usual.fresh(n),
            np.zeros(n, np.uint8),
            np.full((n, N_RING, N_TOLD), np.nan, np.float32),
            np.full(N_RING, -1, np.int64),
            Bands.fresh(n),
            np.zeros((n, N_JUDGED, N_FIGURE), np.float32),
            np.zeros(n, np.int64),
            np.zeros(n, np.bool_),
        )

    def with_series(self, ids: tuple[str, ...]) -> Memory:
        """Return the memory for these series: known ones keep theirs, new ones begin."""
        if ids == self.ids:
            return self
        place = {name: at for at, name in enumerate(self.ids)}
        source = np.array([place.get(name, -1) for name in ids], dtype=np.int64)
        return replace(
            _taken(self, Memory.fresh(ids), source), ids=ids, start=self.start, told_at=self.told_at
        )


D = TypeVar("D")


def _taken(old: D, fresh: D, source: I64) -> D:
    """Return `fresh` with the rows of `old` that `source` (n,) names (-1: none), array by array."""
    kept = source >= 0
    values: dict[str, Any] = {}
    for field in fields(fresh):  # type: ignore[arg-type]
        ours, theirs = getattr(fresh, field.name), getattr(old, field.name)
        if is_dataclass(ours):
            values[field.name] = _taken(theirs, ours, source)
        elif isinstance(ours, np.ndarray) and ours.shape[:1] == kept.shape and field.name != "told_at":
            made = ours.copy()
            made[kept] = theirs[source[kept]]
            values[field.name] = made
        else:
            values[field.name] = ours
    return type(fresh)(**values)


def take_in(memory: Memory, number: int, mean: F64) -> Memory:
    """Return the memory after the interval `number` with its means (n,), which must not lie before `start`.

    Intervals between are unknown. After the history's length everything but the bands begins anew.
    """
    skipped = number - memory.start if memory.start >= 0 else 0
    if skipped >= N_ROW:
        fresh = Memory.fresh(memory.ids)
        memory = replace(fresh, bands=memory.bands, benched=memory.benched)
        skipped = 0
    usual, verdict = believe(memory.usual, mean)
    good = np.where(verdict == FINE, mean, np.nan)
    with np.errstate(over="ignore"):
        newest = good.astype(np.float32)
    newest[~np.isfinite(newest)] = np.nan
    empty = np.full((newest.size, skipped), np.nan, np.float32)
    history = np.concatenate([memory.history[:, skipped + 1 :], empty, newest[:, None]], axis=1)
    history = taken_back(history, verdict, usual.run)
    usual = refreshed(usual, history, number)
    memory = replace(memory, start=number + 1, history=history, usual=usual, verdict=verdict)
    return _judged(memory, number, newest.astype(np.float64))


def note(memory: Memory, quantiles: F32, model: F64, fallback: F64) -> Memory:
    """Return the memory of an issue that was published: quantiles (n, 7, N_LEAD), the two medians (n, N_LEAD)."""
    told, told_at = memory.told.copy(), memory.told_at.copy()
    for judged, lead in enumerate(JUDGED):
        column = _column(judged, memory.start)
        if column < 0:
            continue
        told[:, column, :MODEL_TOLD] = quantiles[:, :, lead - 1]
        told[:, column, MODEL_TOLD] = model[:, lead - 1]
        told[:, column, FALLBACK_TOLD] = fallback[:, lead - 1]
        told_at[column] = memory.start
    return replace(memory, told=told, told_at=told_at)


def _column(judged: int, issue: int) -> int:
    """Return where an issue is kept at a judged lead; -1: it is not followed up there."""
    if JUDGED[judged] < HOURLY_FROM:
        return _STARTS[judged] + issue % _LENGTHS[judged]
    if issue % QUARTERS_PER_HOUR:
        return -1
    return _STARTS[judged] + issue // QUARTERS_PER_HOUR % _LENGTHS[judged]


def _judged(memory: Memory, number: int, truth: F64) -> Memory:
    """Hold what was told for interval `number` against what came (n,)."""
    bands, figures = memory.bands, memory.figures.copy()
    for judged, lead in enumerate(JUDGED):
        issue = number - lead + 1
        column = _column(judged, issue)
        if column < 0 or memory.told_at[column] != issue:
            continue
        said = memory.told[:, column]
        bands = band.learn(bands, judged, truth, said[:, :MODEL_TOLD], number)
        figures[:, judged] = _faded(figures[:, judged], judged, truth, said, _naive(memory, lead))
    worse = np.where(np.isfinite(truth), _worse(memory.worse, figures), memory.worse)
    benched = np.where(worse >= BENCH_ROWS, True, np.where(worse <= -BENCH_ROWS, False, memory.benched))
    return replace(memory, bands=bands, figures=figures, worse=worse, benched=benched)


def _naive(memory: Memory, lead: int) -> tuple[F64, F64]:
    """Return what persistence and seasonal naive had said `lead` intervals ago about the newest one, each (n,)."""
    history = memory.history
    day = PER_DAY if lead <= PER_DAY else 2 * PER_DAY
    return history[:, -1 - lead].astype(np.float64), history[:, -1 - day].astype(np.float64)


def _faded(figures: F32, judged: int, truth: F64, said: F32, naive: tuple[F64, F64]) -> F32:
    """Return the figures (n, N_FIGURE) of a horizon with one more judgement, where all is known."""
    keep = 0.5 ** (1.0 / (MEMORY_DAYS * band.rows_per_day(judged)))
    level = np.array(LEVELS)
    miss = truth[:, None] - said[:, :MODEL_TOLD]
    pinball = np.maximum(level * miss, (level - 1.0) * miss).mean(axis=1)
    inside = (truth >= said[:, 0]) & (truth <= said[:, MODEL_TOLD - 1])
    errors: list[F64 | F32] = [said[:, MEDIAN], said[:, MODEL_TOLD], *naive, said[:, FALLBACK_TOLD]]
    new = np.stack(
        [np.ones_like(truth), *(np.abs(truth - one) for one in errors), inside.astype(np.float64), pinball],
        axis=1,
    )
    whole = np.isfinite(new).all(axis=1)
    return np.where(whole[:, None], keep * figures + new, figures).astype(np.float32)


def _worse(worse: I64, figures: F32) -> I64:
    """Return for how many rows on end (n,) the model has erred more than the fallback (negative: less)."""
    weight = figures[:, :, 0]
    judged = weight >= WEIGHT_MIN
    ratio = np.log(np.maximum(figures[:, :, 2], 1e-12) / np.maximum(figures[:, :, 5], 1e-12))
    count = judged.sum(axis=1)
    mean = np.where(judged, ratio, 0.0).sum(axis=1) / np.maximum(count, 1)
    up, down = (count > 0) & (mean > 0.0), (count > 0) & (mean < 0.0)
    return np.where(up, np.maximum(worse, 0) + 1, np.where(down, np.minimum(worse, 0) - 1, worse))

"""Which quarter-hour means of a meter are believed, thousands of series at once: a frozen meter never poisons a forecast.

The same faults as in `core.series.clean`, judged by what was usual in the fourteen days before:

    spike    further outside P01 .. P99 than SPIKE_SPANS times their distance; after half a day it is a new level
    zero     zero in a series that otherwise stays clear of zero: an outage of the meter, not of the load
    stuck    the same value for longer than this series usually stands still (at least STUCK_ROWS rows); zero, the night
             of a solar plant, by its own length. A series that has never moved may stand

What is not believed is unknown: it enters neither the history nor the last value nor any figure. When a run is seen to be
stuck, its first rows are taken back, too.

What is usual is worked out anew for each series once a day, a 96th of the series at each issue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.ahead.days import N_DAY, N_ROW, PER_DAY
from streamproc.core.series.clean import SPIKE_SPANS, STUCK_TIMES, ZERO_RATIO
from streamproc.values import F32, F64, I64, U8, Bool

FINE, MISSING, SPIKE, ZERO, STUCK = range(5)
NAMES = ("", "missing", "spike", "zero", "stuck")
STUCK_ROWS = 8  # two hours
NEW_LEVEL_ROWS = PER_DAY // 2
ROWS_MIN = 3 * PER_DAY  # known, before anything is judged
RUN_QUANTILE = 0.9  # of the longest run of each day


@dataclass(frozen=True, slots=True)
class Usual:
    """What was usual, and how long the present value has stood; first axis = series."""

    low: F32  # (n,), P01 - SPIKE_SPANS * span; -inf: not known yet
    high: F32
    still: F32  # (n,), rows that the series may stand still; inf: not known yet
    dark: F32  # (n,), rows that it may stand at zero
    clear: Bool  # (n,), zero is an outage
    raw: F64  # (n,), the last mean as it came
    run: I64  # (n,), rows that it has stood there
    away: I64  # (n,), rows on end outside low .. high

    @classmethod
    def fresh(cls, n: int) -> Usual:
        """Return the state in which nothing is suspect."""
        far = np.full(n, np.inf, np.float32)
        nothing = np.zeros(n, np.int64)
        return cls(
            -far,
            far.copy(),
            far.copy(),
            far.copy(),
            np.zeros(n, np.bool_),
            np.full(n, np.nan),
            nothing,
            nothing.copy(),
        )


def believe(usual: Usual, mean: F64) -> tuple[Usual, U8]:
    """Return the state after the means (n,) of one interval, and the verdicts (n,); NaN is MISSING."""
    known = np.isfinite(mean)
    run = np.where(known & (mean == usual.raw), usual.run + 1, known.astype(np.int64))
    outside = known & ((mean < usual.low) | (mean > usual.high))
    away = np.where(outside, usual.away + 1, np.where(known, 0, usual.away))
    verdict = np.where(known, FINE, MISSING).astype(np.uint8)
    verdict[run > np.where(mean == 0.0, usual.dark, usual.still)] = STUCK
    verdict[usual.clear & (mean == 0.0)] = ZERO
    verdict[outside & (away <= NEW_LEVEL_ROWS)] = SPIKE
    raw = np.where(known, mean, usual.raw)
    return Usual(usual.low, usual.high, usual.still, usual.dark, usual.clear, raw, run, away), verdict


def taken_back(history: F32, verdict: U8, run: I64) -> F32:
    """Return histories (n, N_ROW) in which the rows of a run that has just been seen to be stuck are unknown."""
    stuck = np.flatnonzero(verdict == STUCK)
    if not stuck.size:
        return history
    out = history.copy()
    behind = np.arange(N_ROW)[::-1] < run[stuck, None]
    out[stuck] = np.where(behind, np.float32(np.nan), out[stuck])
    return out


def refreshed(usual: Usual, history: F32, number: int) -> Usual:
    """Return the state with what is usual worked out anew for a 96th of the series (n); `number` says which."""
    mine = np.arange(number % PER_DAY, history.shape[0], PER_DAY)
    mine = mine[np.isfinite(history[mine]).sum(axis=1) >= ROWS_MIN]
    if not mine.size:
        return usual
    low, high, clear = usual.low.copy(), usual.high.copy(), usual.clear.copy()
    still, dark = usual.still.copy(), usual.dark.copy()
    low[mine], high[mine], clear[mine] = _span(history[mine])
    still[mine], dark[mine] = (_longest(history[mine], zero=zero) for zero in (False, True))
    return Usual(low, high, still, dark, clear, usual.raw, usual.run, usual.away)


def _span(history: F32) -> tuple[F32, F32, Bool]:
    ordered = np.sort(history, axis=1).astype(np.float64)  # NaN last
    size = np.sort(np.abs(history), axis=1).astype(np.float64)
    count = np.isfinite(ordered).sum(axis=1)
    row = np.arange(count.size)

    def at(values: F64, share: float) -> F64:
        return np.asarray(values[row, (share * (count - 1)).astype(np.int64)], np.float64)

    p01, p99, middle = at(ordered, 0.01), at(ordered, 0.99), at(size, 0.5)
    span = np.maximum(p99 - p01, 0.1 * middle)
    # A series that never moved has no span: anything else than its value would be far outside.
    room = np.where(span > 0.0, SPIKE_SPANS * span, np.inf)
    clear = at(size, 0.05) > ZERO_RATIO * middle
    return (p01 - room).astype(np.float32), (p99 + room).astype(np.float32), clear & (middle > 0.0)


def _longest(history: F32, *, zero: bool) -> F32:
    """Return how many rows each series (m,) may stand still, from the longest run of each day."""
    equal = np.zeros(history.shape, np.bool_)
    equal[:, 1:] = history[:, 1:] == history[:, :-1]
    chosen = (history == 0.0) if zero else (history != 0.0) & np.isfinite(history)
    row = np.broadcast_to(np.arange(N_ROW), history.shape)
    begin = np.maximum.accumulate(np.where(equal, 0, row), axis=1)
    run = np.where(chosen, row - begin + 1, 0).reshape(-1, N_DAY, PER_DAY).max(axis=2)
    usual = np.sort(run, axis=1)[:, int(RUN_QUANTILE * (N_DAY - 1))]
    moved = np.nanmax(history, axis=1) > np.nanmin(history, axis=1)
    return np.where(moved, np.maximum(STUCK_ROWS, STUCK_TIMES * usual), np.inf).astype(np.float32)

"""What in a series is no measurement of what it is called: stuck meters, outages, other units, wild values.

Each verdict about interval i uses `value[:i + 1]` and nothing later, so that a backtest cleans exactly as a live
forecast would, and a change of later values moves nothing. Days are judged one after the other against the good
values of the `WINDOW_DAYS` before them; while there are fewer than `DAYS_MIN`, nothing is judged.

    unit     20 times beyond all there was, and ordinary when divided by 1,000 (or the other way round): undone, the
             value is kept in the unit of the beginning
    spike    further outside P01 .. P99 than `SPIKE_SPANS` times their distance, or a row of nines, which loggers
             write for "no value". A level that fills half a day is a new level and no spike
    zero     zero in a series that otherwise stays clear of zero: an outage of the meter, not of the load
    stuck    the same value, bit by bit, for longer than this series usually stands still (at least `STUCK_HOURS` and
             `STUCK_ROWS` rows); zero, the night of a solar plant, is judged on its own

A run of equal values is seen to be stuck only some hours after it began. Its first rows are masked later, for training
(`stuck_from_start`), never for a forecast that was issued before.

Not done: a second meter as witness, and slow drifts; both need more than one series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.values import F64, I64, U8, Bool

FINE, SPIKE, ZERO, STUCK = 0, 1, 2, 3
NAMES = ("fine", "spike", "zero", "stuck")
WINDOW_DAYS = 28
DAYS_MIN = 3
UNIT = 1000.0
BEYOND = 20.0  # times the largest value before: no load grows so within a day
SPIKE_SPANS = 5.0
ZERO_RATIO = 0.2  # P05 over the median of sizes: above, the series stays clear of zero
NARROW_RATIO = 0.25  # P01 over the median of sizes: above, a thousandth of a value is no value
STUCK_HOURS = 2.0
STUCK_ROWS = 5
STUCK_TIMES = 3.0  # as long as usual runs
NINES = (99.0, 999.0, 9999.0, 99_999.0, 999_999.0)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A series in one unit and what is suspect in it."""

    value: F64  # (n,), as given but in one unit; NaN = unknown
    verdict: U8  # (n,), one of FINE, SPIKE, ZERO, STUCK; an unknown value is FINE
    rescaled: Bool  # (n,), where the unit was undone

    @property
    def good(self) -> F64:
        """Return the values (n,) without what is suspect."""
        return np.where(self.verdict == FINE, self.value, np.nan)


@dataclass(frozen=True, slots=True)
class _Usual:
    """What was usual in the days before."""

    least: float  # smallest of the sizes
    top: float  # P99.5 of the sizes
    low: float  # P01 of the values
    high: float  # P99 of the values
    size_low: float  # P01 of the sizes
    size_p05: float
    size_mid: float


def clean(value: F64, day: I64, steps_per_day: int) -> Cleaned:
    """Return the verdicts on a series (n,) with the local day (n,) of each interval; NaN stays NaN."""
    out = value.copy()
    verdict = np.zeros(value.size, np.uint8)
    rescaled = np.zeros(value.size, np.bool_)
    ordinary = np.isfinite(value)  # what later days are measured by; filled in day by day
    runs = _Runs(steps_per_day)
    length = run_lengths(value)
    starts = np.flatnonzero(np.diff(day, prepend=day[:1] - 1))
    for number, start in enumerate(starts.tolist()):
        stop = int(starts[number + 1]) if number + 1 < starts.size else value.size
        rows = slice(start, stop)
        first = int(starts[max(0, number - WINDOW_DAYS)])
        before = out[first:start][ordinary[first:start]]
        if before.size >= DAYS_MIN * steps_per_day // 2 and number >= DAYS_MIN:
            usual = _usual(before)
            out[rows], rescaled[rows] = _in_unit(value[rows], usual)
            verdict[rows] = _verdicts(out[rows], usual)
            still = runs.stuck(value[rows], length[rows]) & (verdict[rows] == FINE)
            verdict[rows][still] = STUCK
        runs.learn(value[rows], np.where(verdict[rows] == FINE, length[rows], 0))
        # A level that stays is the new usual; else it would be called a spike for ever.
        spikes = verdict[rows] == SPIKE
        stays = 2 * int(spikes.sum()) > int(np.isfinite(value[rows]).sum())
        ordinary[rows] &= (verdict[rows] == FINE) | (spikes & stays)
    return Cleaned(out, verdict, rescaled)


def stuck_from_start(cleaned: Cleaned, raw: F64, until: int) -> F64:
    """Return the good values (n,) with stuck runs masked from their first row, as one knows it at `until`.

    `raw` (n,) are the values as given. Rows from `until` on are those of `Cleaned.good`: nothing is known of them yet.
    """
    good = cleaned.good
    length = run_lengths(raw[:until])
    begin = np.arange(until) - length + 1
    stuck = np.flatnonzero(cleaned.verdict[:until] == STUCK)
    bad = np.isin(begin, begin[stuck]) & (length > 0)
    good[:until][bad] = np.nan
    return good


def run_lengths(value: F64) -> I64:
    """Return for each row (n,) how many rows before it, itself included, hold the same value; 0 where unknown."""
    row = np.arange(value.size)
    changed = np.ones(value.size, np.bool_)
    changed[1:] = ~(value[1:] == value[:-1])  # NaN differs from all
    begin = np.maximum.accumulate(np.where(changed, row, 0))
    return np.where(np.isfinite(value), row - begin + 1, 0)


class _Runs:
    """How long this series usually stands still: at zero, and elsewhere."""

    def __init__(self, steps_per_day: int) -> None:
        self._least = max(STUCK_ROWS, int(np.ceil(STUCK_HOURS * steps_per_day / 24.0)))
        self._longest: tuple[list[int], list[int]] = ([], [])  # per day; not at zero, at zero

    def stuck(self, value: F64, length: I64) -> Bool:
        """Return which rows stand still for too long."""
        out = np.zeros(value.size, np.bool_)
        for which, at_zero in enumerate((value != 0.0, value == 0.0)):
            days = sorted(self._longest[which][-WINDOW_DAYS:])
            usual = days[int(0.9 * (len(days) - 1))] if days else 0
            out |= at_zero & (length > max(self._least, STUCK_TIMES * usual))
        return out

    def learn(self, value: F64, length: I64) -> None:
        """Take in a day; `length` is 0 where the row was stuck."""
        self._longest[0].append(int(length[value != 0.0].max(initial=0)))
        self._longest[1].append(int(length[value == 0.0].max(initial=0)))


def _usual(before: F64) -> _Usual:
    low, high = np.quantile(before, (0.01, 0.99)).tolist()
    size_low, size_p05, size_mid, top = np.quantile(np.abs(before), (0.01, 0.05, 0.5, 0.995)).tolist()
    return _Usual(float(np.abs(before).min()), top, low, high, size_low, size_p05, size_mid)


def _in_unit(value: F64, usual: _Usual) -> tuple[F64, Bool]:
    size, room = np.abs(value), usual.high - usual.low
    ordinary = (value / UNIT >= usual.low - room) & (value / UNIT <= usual.high + room)
    up = (size > BEYOND * usual.top) & ordinary & (usual.top > 0.0) & ~_nines(size)
    # From below only into the usual range, and only where a thousandth of a value is not a value itself.
    narrow = usual.size_low > NARROW_RATIO * usual.size_mid
    down = (
        (size < usual.least / BEYOND)
        & (size * UNIT >= usual.size_low / 2.0)
        & (size * UNIT <= 2.0 * usual.top)
    )
    down &= narrow
    return np.where(up, value / UNIT, np.where(down, value * UNIT, value)), up | down


def _verdicts(value: F64, usual: _Usual) -> U8:
    span = max(usual.high - usual.low, 0.1 * usual.size_mid)
    far = (value > usual.high + SPIKE_SPANS * span) | (value < usual.low - SPIKE_SPANS * span)
    far &= span > 0.0
    nines = _nines(np.abs(value)) & (np.abs(value) > 2.0 * usual.top)
    out = np.where(far | nines, SPIKE, FINE).astype(np.uint8)
    if usual.size_p05 > ZERO_RATIO * usual.size_mid:
        out[value == 0.0] = ZERO
    return out


def _nines(size: F64) -> Bool:
    return np.isin(np.floor(size), NINES)

"""What a disturbance changed: every PMU against its own steady state just before, on one clock that starts with the onset.

    voltage   pu, against the mean of the last `LEVEL_S`
    freq      Hz, against the PMU's own offset and the area's movement before, extrapolated
    angle     rad, against the straight line through the last `SPEED_S`, so that before the onset it is zero

The change of an angle over rows is the sum of quantity 2 + 2 pi * quantity 0 / rate: exact, and without wraps. What
cannot be known is NaN. The onset that a rule gives may be a little late (a small change needs time to be seen), so the
row at which most PMUs step is looked for shortly before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.describe import EventView
from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE
from streamproc.values import F64, Bool

SEARCH_S = 1.0  # the onset may lie so much earlier than told
STEP_S = 0.1  # means over so long are compared to find it
SURER = 1.2, 25.0  # another row is taken only if it is more likely by this factor and this much
LEVEL_S, SPEED_S, SLOPE_S = 0.6, 1.0, 2.0
MEMORY_S = 3.0  # the movement before dies out within this
FLOOR = (1e-5, 1e-5, 1e-5)  # noise is never below: Hz, pu, rad


@dataclass(frozen=True, slots=True)
class Deviation:
    """What changed, (n_row, n_pmu) from the onset on."""

    rate_hz: float
    voltage: F64
    freq: F64
    angle: F64
    noise: F64  # (3, n_pmu) sd of one sample: frequency Hz, voltage pu, angle rad
    level_hz: float  # median frequency minus nominal just before
    wander_hz: float  # by how much it left a straight line before
    late: int  # rows by which the onset was told too late

    @property
    def n_row(self) -> int:
        """Return how many rows there are."""
        return int(self.voltage.shape[0])


def deviation(view: EventView) -> Deviation | None:
    """Return what changed; None if no row from before the onset is known."""
    rows = view.fast.astype(np.float64)
    told = rows.shape[0] - 1 - view.age
    if told < 2:
        return None
    noise = _noise(rows[max(0, told - round(SLOPE_S * view.rate_hz)) : told])
    onset = _onset(rows, told, noise, view.rate_hz)
    steady = max(1, onset - 1)  # the row before may already show it in part
    freq, level_hz, wander_hz = _freq(rows[:, FREQUENCY], steady, onset, view.rate_hz)
    return Deviation(
        view.rate_hz,
        rows[onset:, VOLTAGE] - _mean(_last(rows[:, VOLTAGE], steady, LEVEL_S * view.rate_hz)),
        freq,
        _angle(rows, steady, onset, view.rate_hz),
        noise,
        level_hz,
        wander_hz,
        told - onset,
    )


def _last(rows: F64, stop: int, count: float) -> F64:
    return rows[max(0, stop - max(2, round(count))) : stop]


def _mean(rows: F64) -> F64:
    """Return the mean of the known values of each column; NaN where there is none."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def middle(rows: F64) -> F64:
    """Return the median of the known values of each row; NaN where there is none."""
    ordered = np.sort(rows, axis=1)  # NaN last
    count = np.isfinite(rows).sum(axis=1)
    row = np.arange(rows.shape[0])
    low = ordered[row, np.maximum(count - 1, 0) // 2]
    high = ordered[row, np.minimum(count // 2, rows.shape[1] - 1)]
    return np.asarray(np.where(count > 0, (low + high) / 2.0, np.nan))


def median_of(values: F64) -> float:
    """Return the median of known values, 0 of none; numpy's own takes ten times as long for a few."""
    if not values.size:
        return 0.0
    ordered = np.sort(values)
    return float(ordered[(values.size - 1) // 2] + ordered[values.size // 2]) / 2.0


def middle_half(rows: F64) -> F64:
    """Return the mean of the middle half of the known values of each row; NaN where there is none."""
    ordered = np.sort(rows, axis=1)  # NaN last
    count = np.isfinite(rows).sum(axis=1)[:, None]
    place = np.arange(rows.shape[1])[None]
    inside = (place >= count // 4) & (place < count - count // 4)
    total = np.where(inside, np.nan_to_num(ordered), 0.0).sum(axis=1)
    return np.asarray(np.where(count[:, 0] > 0, total / np.maximum(inside.sum(axis=1), 1), np.nan))


def _noise(rows: F64) -> F64:
    """Return the sd of one sample (3, n_pmu), from how much neighbours differ."""
    steps = np.abs(np.diff(rows, axis=0))
    steps[:, ANGLE] = np.abs(rows[1:, ANGLE])  # is a difference of two angles already
    n_pmu = rows.shape[2]
    flat = steps.transpose(1, 2, 0).reshape(N_SIGNAL * n_pmu, -1)
    sd = middle(flat).reshape(N_SIGNAL, n_pmu) / 0.6745 / np.sqrt(2.0)
    floor = np.array(FLOOR)[:, None]
    return np.asarray(np.maximum(np.where(np.isnan(sd), floor, sd), floor))


N_SIGNAL = 3


def _onset(rows: F64, told: int, noise: F64, rate_hz: float) -> int:
    """Return the row at which most PMUs step, from `SEARCH_S` before the row that was told to one after it."""
    width = max(1, round(STEP_S * rate_hz))
    first = max(width, told - round(SEARCH_S * rate_hz))
    last = min(told + 1, rows.shape[0] - 1)
    if first >= told:
        return told
    voltage = rows[first - width : last + width, VOLTAGE]
    known = np.isfinite(voltage)
    total = np.cumsum(np.where(known, voltage, 0.0), axis=0)
    count = np.cumsum(known, axis=0)
    total, count = (np.concatenate([np.zeros((1, a.shape[1])), a]) for a in (total, count))
    row = np.arange(last - first + 1)
    end = np.minimum(row + 2 * width, voltage.shape[0])
    after, before = (
        _ratio(total[b] - total[a], count[b] - count[a]) for a, b in ((row + width, end), (row, row + width))
    )
    step = (after - before) / noise[VOLTAGE] * np.sqrt((end - row - width) / 2.0)[:, None]
    turn = rows[first : last + 1, ANGLE] / noise[ANGLE] / np.sqrt(2.0)
    likely = (np.nan_to_num(step) ** 2 + np.nan_to_num(turn) ** 2).sum(axis=1)
    best = int(np.argmax(likely))
    factor, much = SURER
    return first + best if likely[best] > factor * likely[told - first] + much else told


def _ratio(total: F64, count: F64) -> F64:
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _freq(freq: F64, steady: int, onset: int, rate_hz: float) -> tuple[F64, float, float]:
    """Return the change of each frequency (n_row, n_pmu), the area's level before, and how it wandered."""
    before = _last(freq, steady, SLOPE_S * rate_hz)
    common = middle(before)
    known = np.isfinite(common)
    if not known.any():
        return np.full_like(freq[onset:], np.nan), 0.0, 0.0
    offset = _mean(before - common[:, None])
    at_s = (np.arange(common.size) - common.size - (onset - steady)) / rate_hz
    level, slope = line(at_s[known], common[known])
    after_s = np.arange(freq.shape[0] - onset) / rate_hz
    moved = level + slope * MEMORY_S * (1.0 - np.exp(-after_s / MEMORY_S))
    left = common[known] - level - slope * at_s[known]
    return freq[onset:] - offset - moved[:, None], level, float(np.sqrt((left**2).mean()))


def line(at: F64, value: F64) -> tuple[float, float]:
    """Return level at 0 and slope of the straight line through values."""
    if at.size < 3:
        return float(value.mean()), 0.0
    centred = at - at.mean()
    slope = float((centred * value).sum() / (centred**2).sum())
    return float(value.mean() - slope * at.mean()), slope


def _angle(rows: F64, steady: int, onset: int, rate_hz: float) -> F64:
    """Return the turn of each angle beyond its own steady turning (n_row, n_pmu)."""
    n_before = max(3, round(SPEED_S * rate_hz))
    first = max(0, steady - n_before)
    step = rows[first:, ANGLE] + 2.0 * np.pi * rows[first:, FREQUENCY] / rate_hz
    step[0] = 0.0
    known = np.isfinite(step)
    turned = np.cumsum(np.where(known, step, 0.0), axis=0)
    lost: Bool = np.cumsum(~known, axis=0) > np.cumsum(~known, axis=0)[: steady - first][-1:]
    blind = (~known[: steady - first]).sum(axis=0) > 0.5 * (steady - first)
    at = np.arange(steady - first) - float(onset - first)
    centred = at - at.mean()
    before = turned[: steady - first]
    scale = max(float((centred**2).sum()), 1e-9)
    slope = (centred[:, None] * before).sum(axis=0) / scale
    level = before.mean(axis=0) - slope * at.mean()
    after = np.arange(rows.shape[0] - onset)[:, None]
    turn = turned[onset - first :] - level - slope * after
    return np.asarray(np.where(lost[onset - first :] | blind, np.nan, turn))

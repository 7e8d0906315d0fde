"""What an intraday model sees: the course of the last hours, the ramps of the same time on other days, the day-ahead ramp.

The target is the ramp `z[t + h] - z[t]` on the scale of the series (for a load: the logarithm of a ratio), with t the
newest measurement. Columns, all before the origin:

    recent     the last 12 differences of neighbouring values
    deviation  newest value minus the same time yesterday and a week ago, and the same for the mean of the last hour
    error      of the day-ahead forecast now, an hour ago and their mean: what it missed it keeps missing
    ramp       per lead: the same ramp 1..7 and 14 days ago
    planned    per lead: the ramp of the day-ahead forecast
    season     cosine and sine of the year, alone and times the newest six differences, the deviations and the errors: on
               a summer afternoon a rise goes on, in winter it ends; weekend or holiday of the target

The day-ahead forecast must have been issued at least `lag` places before the origin: its current error needs
measurements that it has not seen. Late in the evening tomorrow's forecast from midnight does not exist: the newest one
that was issued reaches over midnight (`DayModel.reach`).

A gap before the origin is carried: last week's course from the last known value on. After `STALE_HOURS` without one
the ramp is unknown and the day-ahead forecast stands alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.local_axis import local_axis
from streamproc.core.series.rows import YEAR_DAYS, day_kinds
from streamproc.core.series.scale import Scale
from streamproc.values import F64, I64

RECENT = 12
SEASONAL = 6  # differences whose weight may change over the year
RAMP_DAYS = (1, 2, 3, 4, 5, 6, 7, 14)
STALE_HOURS = 2


@dataclass(frozen=True, slots=True)
class RampRows:
    """Rows of some origins."""

    common: F64  # (n_origin, n_common), the same for all leads
    by_lead: F64  # (n_origin, n_lead, n_by_lead)
    newest: F64  # (n_origin,), newest value on the scale; NaN when stale
    block: I64  # (n_origin,), which part of the day the origin is in


def hour_steps(steps_per_day: int) -> int:
    """Return how many intervals an hour has, at least one."""
    return max(steps_per_day // 24, 1)


def carried(history: History, scaled: F64) -> tuple[F64, I64]:
    """Return the series (n_all,) without gaps, and the age (n_all,) in intervals of the value it rests on.

    A gap follows the course of a week ago (or the nearest earlier day) from the last known value on.
    """
    axis = local_axis(history, scaled)
    week = 7 * axis.steps_per_day
    course = axis.filled[np.maximum(axis.place - week, 0)]
    at = np.arange(len(scaled))
    source = np.maximum.accumulate(np.where(np.isfinite(scaled), at, -1))
    known = np.maximum(source, 0)
    step = course - course[known]
    filled = scaled[known] + np.where(np.isfinite(step), step, 0.0)
    return np.where(source >= 0, filled, np.nan), np.where(source >= 0, at - source, len(scaled))


def ramp_rows(
    history: History, origins: I64, n_lead: int, scale: Scale, planned: F64, n_block: int
) -> RampRows:
    """Return the rows of origins (n_origin,), each with at least 15 days before it.

    `planned` is (n_origin, lag + n_lead): the day-ahead forecast from `lag` intervals before the origin on, NaN = none.
    """
    lag = planned.shape[1] - n_lead
    scaled, age = carried(history, scale.forward(history.value))
    per_day = history.steps_per_day
    last = scaled[origins - 1]
    recent = scaled[origins[:, None] - 1 - np.arange(RECENT + 1)]  # newest first
    hour = min(hour_steps(per_day), RECENT)
    axis = local_axis(history, scale.forward(history.value))
    place = axis.place[origins - 1]
    back = np.arange(hour)
    deviation = [
        f(recent[:, :hour] - axis.filled[np.maximum(place[:, None] - days * per_day - back, 0)])
        for days in (1, 7)
        for f in (_first, _mean)
    ]
    seen = np.minimum(lag, RECENT)
    missed = recent[:, :seen] - planned[:, lag - seen : lag][:, ::-1]  # newest first
    error = [missed[:, 0], missed[:, -1], missed.mean(axis=1)]
    phase = 2.0 * np.pi * history.day[origins] / YEAR_DAYS
    cosine, sine = np.cos(phase)[:, None], np.sin(phase)[:, None]
    steps = recent[:, :-1] - recent[:, 1:]
    course = np.concatenate([steps[:, :SEASONAL], np.stack([*deviation, *error], axis=1)], axis=1)
    common = np.concatenate(
        [course, steps[:, SEASONAL:], cosine, sine, course * cosine, course * sine], axis=1
    )
    by_lead = _by_lead(history, axis.filled, axis.place, origins, planned[:, lag - 1 :])
    stale = age[origins - 1] > STALE_HOURS * hour_steps(per_day)
    block = history.slot[origins] * n_block // per_day
    return RampRows(np.nan_to_num(common), np.nan_to_num(by_lead), np.where(stale, np.nan, last), block)


def _first(recent: F64) -> F64:
    return recent[:, 0]


def _mean(recent: F64) -> F64:
    return np.asarray(recent.mean(axis=1))


def _by_lead(history: History, filled: F64, places: I64, origins: I64, planned: F64) -> F64:
    n_lead = planned.shape[1] - 1
    index = np.minimum(origins[:, None] + np.arange(n_lead), len(places) - 1)
    start, end = places[origins - 1][:, None], places[index]
    per_day = history.steps_per_day
    ramps = [
        filled[np.maximum(end - days * per_day, 0)] - filled[np.maximum(start - days * per_day, 0)]
        for days in RAMP_DAYS
    ]
    off = (day_kinds(history)[history.day[index] - int(history.day[0])] >= 3).astype(np.float64)
    return np.stack([*ramps, planned[:, 1:] - planned[:, :1], off], axis=2)

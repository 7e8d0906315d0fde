"""What a tree sees: one row per origin and lead, few columns, each of them about that very interval.

    slot, lead, kind of day, kind of the day before, festive, cosine and sine of the year
    forecast   of the linear model it corrects, minus the level
    day 1, 2, 7, 14; week    the same clock time on earlier days and its mean over 7 days, minus the level
    last 1, 3, 12, 24 h      means before the origin, minus the level
    day, week change         of the last 24 hours against the 24 hours before and against a week ago
    ahead                    per known column: then, then against the mean of the same time on the 7 days before, a day
                             before, mean of the 3 and 24 hours until then, extremes of the day

A column of an interval whose clock time of yesterday lies after the origin uses the newest earlier day that does not.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.local_axis import by_place, local_axis
from streamproc.core.series.ramp_rows import hour_steps
from streamproc.core.series.rows import YEAR_DAYS, DayPlan, day_kinds, festive
from streamproc.values import F64, I64

BACK_DAYS = (1, 2, 7, 14)
LAST_HOURS = (1, 3, 12, 24)


def tree_rows(history: History, places_from: I64, plan: DayPlan, forecast: F64, level: F64) -> F64:
    """Return (n_origin * n_lead, n_column); `forecast` (n_origin, n_lead) is on the scale, minus `level` (n_origin,)."""
    axis = local_axis(history, plan.scale.forward(history.value))
    filled, per_day, n_lead = axis.filled, plan.steps_per_day, forecast.shape[1]
    ahead = np.arange(n_lead)
    place = places_from[:, None] + ahead
    behind = ahead // per_day  # whole days that must be added for a lag to lie before the origin
    kinds, day = day_kinds(history), place // per_day
    phase = 2.0 * np.pi * (day + axis.first_day) / YEAR_DAYS
    columns = [place % per_day, np.broadcast_to(ahead, place.shape), kinds[day], kinds[day - 1]]
    columns += [festive(day + axis.first_day), np.cos(phase), np.sin(phase), forecast]
    for days in BACK_DAYS:
        shift = np.where(behind >= days, -(-(behind + 1) // days) * days, days)
        columns.append(filled[place - shift * per_day] - level[:, None])
    week = [filled[place - (days + behind) * per_day] for days in range(1, 8)]
    columns.append(np.mean(week, axis=0) - level[:, None])
    hour = hour_steps(per_day)
    running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(filled))])
    until = running[places_from]
    for hours in LAST_HOURS:
        columns.append(_wide((until - running[places_from - hours * hour]) / (hours * hour) - level, n_lead))
    last_day = (until - running[places_from - per_day]) / per_day
    for days in (1, 6):
        end = places_from - days * per_day
        columns.append(_wide(last_day - (running[end] - running[end - per_day]) / per_day, n_lead))
    columns += _known(history, place, behind, per_day, hour)
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=2).reshape(place.size, -1)


def _wide(column: F64, n_lead: int) -> F64:
    return np.repeat(column[:, None], n_lead, axis=1)


def _known(history: History, place: I64, behind: I64, per_day: int, hour: int) -> list[F64]:
    made = []
    for at in range(history.known.shape[1]):
        axis = np.concatenate(
            [by_place(history, history.known[:, at]), np.full(place.shape[1] + per_day, np.nan)]
        )
        running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(axis))])
        near = (running[place + 1] - running[place + 1 - 3 * hour]) / (3 * hour)
        long = (running[place + 1] - running[place + 1 - per_day]) / per_day
        first = place[:, : min(per_day, place.shape[1])]
        window = np.nan_to_num(axis[first], nan=0.0)
        extremes = [_wide(f, place.shape[1]) for f in (window.max(axis=1), window.min(axis=1))]
        usual = np.mean([axis[place - (days + behind) * per_day] for days in range(1, 8)], axis=0)
        made += [axis[place], axis[place] - usual, axis[place - per_day], near, long, *extremes]
    return made

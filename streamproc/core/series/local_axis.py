"""The series on the axis of local clock time: every day has the same number of places.

A consumer gets up by the clock on the wall. On this axis "the same time yesterday" is always `steps_per_day` places
back, also across a clock change:

    place = (day - first day) * steps_per_day + slot

The hour that is skipped in spring is a gap, filled like any other. Of the hour that comes twice in autumn only the
first pass is kept: nothing at a place before the origin's place is then later than the origin.

Gaps are filled from the same slot of earlier days (a week ago, then the nearest day). Every fill looks back only, so
that a filled axis never tells an origin what came after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.values import F64, I64, Bool

FILL_DAYS = (7, 1, 2, 3, 4, 5, 6, 14, 21, 28)  # where a gap is filled from, best first


@dataclass(frozen=True, slots=True)
class LocalAxis:
    """A series by local clock time."""

    filled: F64  # (n_place,), gaps filled from earlier days; NaN where no earlier day has a value
    known: Bool  # (n_place,), False where filled
    place: I64  # (n_all,), of every interval of the history
    first_day: int  # days since 1970-01-01
    steps_per_day: int


def places(history: History) -> I64:
    """Return the place of every interval (n_all,)."""
    return np.asarray((history.day - history.day[0]) * history.steps_per_day + history.slot, np.int64)


def by_place(history: History, column: F64) -> F64:
    """Return a column (n_all,) on the axis (n_place,), NaN where no interval lies."""
    place = places(history)
    n_day = int(history.day[-1] - history.day[0]) + 1
    axis = np.full(n_day * history.steps_per_day, np.nan)
    axis[place[::-1]] = column[::-1]  # the first pass of a doubled hour stays
    return axis


def fill_back(axis: F64, steps_per_day: int) -> F64:
    """Return the axis with its gaps filled from the same slot of earlier days; NaN where there is none."""
    day = axis.reshape(-1, steps_per_day)
    out = day.copy()
    for back in FILL_DAYS:
        if back < len(day):
            out[back:] = np.where(np.isnan(out[back:]), day[:-back], out[back:])
    # Longer outages: the last value of the slot, however old.
    row = np.where(np.isnan(out), 0, np.arange(len(out))[:, None])
    newest = np.maximum.accumulate(row, axis=0)
    return np.asarray(np.take_along_axis(out, newest, axis=0).ravel())


def local_axis(history: History, column: F64) -> LocalAxis:
    """Return a column (n_all,) of the history by local clock time."""
    axis = by_place(history, column)
    filled = fill_back(axis, history.steps_per_day)
    return LocalAxis(filled, ~np.isnan(axis), places(history), int(history.day[0]), history.steps_per_day)

"""The local calendar of a grid that is regular in UTC, and the intervals at which forecasts are issued.

People and their loads keep local time; intervals keep UTC, because only there has every day the same length. So each
interval gets the local day and the slot of that day in which it begins. On the day the clocks go forward some slots do
not exist, on the day they go back some exist twice; nothing else needs to know about it.

The offset of local time comes from the caller: which law holds where is a question for a data base of time zones.
"""

from __future__ import annotations

import numpy as np

from streamproc.values import F64, I64

DAY_S = 86_400
MONTHS = 12


def local_calendar(t_s: I64, offset_s: I64, step_s: int) -> tuple[I64, I64]:
    """Return the slot of the local day (n,) and the local days since 1970-01-01 (n,) of intervals.

    `t_s` (n,): UTC seconds at which they begin; `offset_s` (n,): what local time is ahead of UTC at these moments.
    """
    local_s = t_s + offset_s
    day = local_s // DAY_S
    return (local_s - day * DAY_S) // step_s, day


def issue_rows(t_s: I64, offset_s: I64, step_s: int, at_s: int, every_s: int) -> I64:
    """Return the rows (n_origin,) of the intervals with which forecasts begin.

    Once a day at `at_s` seconds after local midnight, or every `every_s` from there, by the local clock, also on days
    with a clock change. More than a day: every so many local days since the first row. Where `at_s` lies within an
    interval, the next one. Raises ValueError when `every_s` is neither part nor multiple of a day.
    """
    local_s = t_s + offset_s
    if every_s <= DAY_S and DAY_S % every_s == 0:
        phase = (local_s - at_s) % every_s
        return np.flatnonzero(phase < step_s)
    if every_s % DAY_S:
        raise ValueError(f"{every_s} s is neither a part nor a multiple of a day")
    day = (local_s - at_s) // DAY_S
    due = ((local_s - at_s) % DAY_S < step_s) & ((day - day[0]) % (every_s // DAY_S) == 0)
    return np.flatnonzero(due)


def local_lag(offset_s: I64, step_s: int, steps: int) -> I64:
    """Return the rows (n,) whose local clock shows the same time `steps` intervals before each row; -1: none.

    In the days after a clock change that is an hour more or less than `steps` intervals. The hour that did not exist
    a lag ago gets the hour after it, the one that existed twice its second half.
    """
    row = np.arange(offset_s.size)
    plain = np.maximum(row - steps, 0)
    shift = (offset_s - offset_s[plain]) // step_s
    found = row - steps + shift
    # An hour more back may cross the change again: then both clocks agree and the plain lag is right.
    crossed = offset_s[np.clip(found, 0, row.size - 1)] != offset_s[plain]
    found = np.where(crossed, row - steps, found)
    return np.where((found >= 0) & (found < row), found, -1)


def month_of(day: I64) -> I64:
    """Return the month (n,), 1 to 12, of days since 1970-01-01."""
    return np.asarray(
        day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % MONTHS + 1, np.int64
    )


def season_of(day: I64) -> I64:
    """Return the season (n,) of days: 0 December to February, 1 March to May, 2 June to August, 3 the rest."""
    return month_of(day) % MONTHS // 3


def share_of_day(slot: I64, step_s: int) -> F64:
    """Return the hour of the day (n,) at which slots begin."""
    return np.asarray(slot * (step_s / 3600.0), np.float64)

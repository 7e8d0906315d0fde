"""Public holidays as something that is known ahead: 1 on local days that are holidays, 0 on others."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from streamproc.core.ahead.days import STEP_S
from streamproc.core.ahead.issue import HOLIDAY
from streamproc.core.ahead.known import Told
from streamproc.errors import DataError
from streamproc.evaluation.series.zone import holidays_of

HOUR_S = 3600
EPOCH = date(1970, 1, 1)


def holiday_course(code: str, first: str, last: str, zone: ZoneInfo, known_ns: int) -> Told:
    """Return the course from the local day `first` to the day before `last`; raises DataError.

    One value an hour, and one for the last quarter of a day whose next day is of the other kind: between two values the
    stream draws a line, which must not begin before midnight.
    """
    begin, end = _day(first, "--from"), _day(last, "--to")
    if end <= begin:
        raise DataError(f"--to {last!r}: must be after --from {first!r}; the day --to is not in it")
    days = list(range(begin, end))
    free = holidays_of(code, days)
    midnight = [_midnight(day, zone) for day in [*days, end]]
    times, values = [], []
    for day, start_s, stop_s in zip(days, midnight, midnight[1:], strict=False):
        here = list(range(start_s, stop_s, HOUR_S))
        turns = day + 1 < end and (day in free) != (day + 1 in free)
        if turns and here[-1] != stop_s - STEP_S:
            here.append(stop_s - STEP_S)
        times += here
        values += [float(day in free)] * len(here)
    return Told(HOLIDAY, known_ns, np.array(times, np.int64) * 1_000_000_000, np.array(values))


def _day(text: str, option: str) -> int:
    try:
        return (date.fromisoformat(text.strip()) - EPOCH).days
    except ValueError:
        raise DataError(f"{option} {text!r}: a local date is expected, such as 2026-01-01") from None


def _midnight(day: int, zone: ZoneInfo) -> int:
    """Return the UTC second at which a local day begins, on the grid of quarter hours."""
    moment = EPOCH + timedelta(days=day)
    return int(datetime(moment.year, moment.month, moment.day, tzinfo=zone).timestamp()) // STEP_S * STEP_S

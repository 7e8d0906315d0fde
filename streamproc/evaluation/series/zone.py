"""Local time and holidays: what the data bases of time zones and of public holidays say about intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from streamproc.errors import DataError
from streamproc.values import I64, Bool

QUARTER_S = 900  # no zone changes its clocks between quarters of an hour


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone; raises DataError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DataError(
            f"--zone {name!r}: no such time zone; write Australia/Melbourne, Europe/Berlin, UTC"
        ) from error


def offsets(t_s: I64, zone: ZoneInfo) -> I64:
    """Return what local time is ahead of UTC (n,), in s, at moments of UTC (n,)."""
    quarter, place = np.unique(t_s // QUARTER_S, return_inverse=True)
    found = [_offset_s(datetime.fromtimestamp(q * QUARTER_S, zone)) for q in quarter.tolist()]
    return np.array(found, np.int64)[place]


def to_utc(local_s: I64, zone: ZoneInfo) -> tuple[I64, Bool, int]:
    """Return UTC seconds (n,) of local ones, which rows name a time that never was (n,), and how many were twofold.

    A time that the clock shows twice is the first one when it comes for the first time in the file, else the second.
    """
    out = np.empty(local_s.size, np.int64)
    never = np.zeros(local_s.size, np.bool_)
    seen: set[int] = set()
    twofold = 0
    shifts: dict[int, tuple[int, int]] = {}
    for row, local in enumerate(local_s.tolist()):
        quarter = local // QUARTER_S
        if quarter not in shifts:
            naive = datetime.fromtimestamp(quarter * QUARTER_S, UTC).replace(tzinfo=None)
            shifts[quarter] = (
                _offset_s(naive.replace(tzinfo=zone, fold=0)),
                _offset_s(naive.replace(tzinfo=zone, fold=1)),
            )
        first, second = shifts[quarter]
        out[row] = local - first
        if first > second:  # the clocks go back: the hour exists twice
            twofold += 1
            if local in seen:
                out[row] = local - second
            seen.add(local)
        elif first < second:  # they go forward: it does not exist
            never[row] = True
    return out, never, twofold


def _offset_s(moment: datetime) -> int:
    return int((moment.utcoffset() or timedelta()).total_seconds())


def moment_of(text: str, zone: ZoneInfo, option: str) -> int:
    """Return the UTC seconds of a date or a time, local if it says no offset; raises DataError that names the option."""
    try:
        stamp = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DataError(
            f"{option} {text!r}: a date or an ISO 8601 time is expected, such as 2014-01-01"
        ) from None
    return int((stamp if stamp.tzinfo else stamp.replace(tzinfo=zone)).timestamp())


def local_words(t_s: int, zone: ZoneInfo) -> str:
    """Return a moment as ISO 8601 with its local offset, to the minute."""
    return datetime.fromtimestamp(t_s, zone).isoformat(timespec="minutes")


def day_words(day: int) -> str:
    """Return the date of days since 1970-01-01."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def holidays_of(code: str, days: Sequence[int]) -> set[int]:
    """Return which of the local days are public holidays of a country or a part of it; raises DataError.

    `code` is like AU-VIC or DE: a country by ISO 3166-1, and a part of it by ISO 3166-2.
    """
    try:
        from holidays import country_holidays, list_supported_countries  # noqa: PLC0415 - an optional part
    except ImportError as error:
        raise DataError('--holidays needs the package holidays: pip install "streamproc[train]"') from error
    country, _, part = code.upper().partition("-")
    parts = list_supported_countries().get(country)
    if parts is None:
        raise DataError(
            f"--holidays {code!r}: no such country; write a country, or one and its part: DE, AU-VIC"
        )
    if part and part not in parts:
        there = ", ".join(parts) or "none"
        raise DataError(f"--holidays {code!r}: {country} has no such part; there are {there}")
    years = range(int(day_words(min(days))[:4]), int(day_words(max(days))[:4]) + 1)
    found = country_holidays(country, subdiv=part or None, years=years)
    known = {(day - date(1970, 1, 1)).days for day in found}
    return known & set(days)

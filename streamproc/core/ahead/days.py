"""Where in fourteen days of quarter hours the like of an interval is found: the same clock time on days of its kind.

    -1344 ........................ -96 ..... -1 | 0 .................. 191       places; 0 = the first interval ahead
    <-------- history, 14 days --------------->   <-- leads, 48 hours -->
                                    <-- targets of which the like is wanted -->

People keep local time, intervals keep UTC: on a day with a clock change "the same time yesterday" is an hour more or
less than 96 places back. All series of an area share one `Days`: it is made once per issue.

A lead of the second day has no "yesterday" yet: its newest day is the one before. Days count as alike by their kind
(Monday, Tuesday to Thursday, Friday, Saturday, Sunday, holiday), newer ones more; where no day of the kind is known,
free days stand for each other, and at last all days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.values import F64, I64, Bool

STEP_S = 900
STEP_MIN = 15
STEP_NS = STEP_S * 1_000_000_000
PER_DAY = 96
N_DAY = 14
N_ROW = N_DAY * PER_DAY  # of the history
N_LEAD = 2 * PER_DAY
N_PAST = PER_DAY  # intervals before the first lead whose like is compared with what came
N_TARGET = N_PAST + N_LEAD
N_NEAR = 7  # newest days that are a column of their own
N_ALIKE = 12  # days that the like is taken from
AGE_KEEP = 0.85  # of the weight of a day that is one day newer
N_KIND = 6
FREE_FROM = 3  # kinds from here on are days off
N_WAVE = 4  # cosine and sine of the day and of half a day
DAY_S = 86_400
YEAR_DAYS = 365.2425
N_CLOCK = 4  # quarter hour of the day, kind of day, day of the year


@dataclass(frozen=True, slots=True)
class Days:
    """The calendar of one issue. Places count from the start of the history: 0 .. N_ROW - 1."""

    near: I64  # (N_LEAD, N_NEAR), place of the same clock time on the newest days that are known
    alike: I64  # (N_TARGET, N_ALIKE), places that the like is taken from
    share: F64  # (N_TARGET, N_ALIKE), their shares, sum 1
    same: F64  # (N_LEAD,), 1.0 where the newest day is of the target's kind
    free: F64  # (N_LEAD,), 1.0 on a day off
    waves: F64  # (N_LEAD, N_WAVE)
    slot: I64  # (N_LEAD,), quarter hour of the local day
    kind: I64  # (N_LEAD,)
    year: F64  # (N_LEAD, 2), cosine and sine of the day of the year


def kinds_of(day: I64, holiday: Bool) -> I64:
    """Return the kind of local days since 1970-01-01 (a Thursday): 0 Mon, 1 Tue-Thu, 2 Fri, 3 Sat, 4 Sun, 5 holiday."""
    kind = np.array([0, 1, 1, 1, 2, 3, 4])[(day + 3) % 7]
    return np.asarray(np.where(holiday, 5, kind), np.int64)


def times_of(number: int) -> I64:
    """Return the UTC seconds (N_ROW + N_LEAD,) at which the intervals begin; `number` is that of the first lead."""
    return (number + np.arange(-N_ROW, N_LEAD, dtype=np.int64)) * STEP_S


def days_of(number: int, offset_s: I64, holiday: Bool) -> Days:
    """Return the calendar of an issue whose first lead is interval `number` since 1970-01-01.

    `offset_s` (N_ROW + N_LEAD,): what local time is ahead of UTC when each interval begins; `holiday` likewise.
    """
    local_s = times_of(number) + offset_s
    day = local_s // DAY_S
    slot = (local_s - day * DAY_S) // STEP_S
    kind = kinds_of(day, holiday)
    target = np.arange(N_ROW - N_PAST, N_ROW + N_LEAD)
    back = _same_clock(offset_s, target)  # (N_DAY, N_TARGET)
    known = back < np.minimum(target, N_ROW)
    first = np.argmax(known, axis=0)  # days back - 1 of the newest that is known
    places = np.take_along_axis(back, np.minimum(first + np.arange(N_ALIKE)[:, None], N_DAY - 1), axis=0)
    share = _shares(kind[places], kind[target])
    lead_kind = kind[N_ROW:]
    phase = 2.0 * np.pi * slot[N_ROW:, None] / PER_DAY
    season = 2.0 * np.pi * day[N_ROW:] / YEAR_DAYS
    return Days(
        np.ascontiguousarray(places[:N_NEAR, N_PAST:].T),
        np.ascontiguousarray(places.T),
        np.ascontiguousarray(share.T),
        (kind[places[0, N_PAST:]] == lead_kind).astype(np.float64),
        (lead_kind >= FREE_FROM).astype(np.float64),
        np.concatenate([np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)], axis=1),
        slot[N_ROW:],
        lead_kind,
        np.stack([np.cos(season), np.sin(season)], axis=1),
    )


def _same_clock(offset_s: I64, target: I64) -> I64:
    """Return the places (N_DAY, n) of the same clock time 1 .. N_DAY days before each target."""
    plain = target - PER_DAY * np.arange(1, N_DAY + 1)[:, None]
    plain = np.maximum(plain, 0)
    shift = (offset_s[target] - offset_s[plain]) // STEP_S
    found = np.clip(plain + shift, 0, N_ROW + N_LEAD - 1)
    # The hour between may cross the change again: then both clocks agree and the plain place is right.
    return np.asarray(np.where(offset_s[found] == offset_s[plain], found, plain))


def _shares(kind: I64, wanted: I64) -> F64:
    age = AGE_KEEP ** np.arange(N_ALIKE)[:, None]
    weight = age * (kind == wanted)
    off = age * ((kind >= FREE_FROM) == (wanted >= FREE_FROM))
    weight = np.where(weight.sum(axis=0) > 0.0, weight, off)
    weight = np.where(weight.sum(axis=0) > 0.0, weight, age)
    return np.asarray(weight / weight.sum(axis=0), np.float64)

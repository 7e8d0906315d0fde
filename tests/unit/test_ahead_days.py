"""Protects the calendar of the 48-hour forecasts: the same clock time across both clock changes, and never a later place."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from streamproc.core.ahead.days import N_LEAD, N_NEAR, N_PAST, N_ROW, PER_DAY, Days, days_of, times_of
from streamproc.core.ahead.issue import fallback_of
from streamproc.shell.engines import offsets_of
from streamproc.values import I64, Bool

N_SPAN = N_ROW + N_LEAD
CHANGES = (
    ("Europe/Berlin", "2024-03-31T01:00+00:00"),
    ("Europe/Berlin", "2024-10-27T01:00+00:00"),
    ("Australia/Melbourne", "2024-04-06T16:00+00:00"),
    ("Australia/Melbourne", "2024-10-05T16:00+00:00"),
)
AWAY_DAYS = (
    -2.1,
    -1.5,
    -1.0,
    -0.6,
    -0.04,
    0.0,
    0.04,
    0.5,
    1.0,
    3.3,
    6.9,
    9.0,
    13.5,
)  # issue after the change


def calendar(zone: str, number: int, holiday: Bool | None = None) -> tuple[Days, I64, I64]:
    """(days, local seconds of all places, offsets)."""
    offset = offsets_of(zone)(number)
    none = np.zeros(N_SPAN, np.bool_)
    return days_of(number, offset, none if holiday is None else holiday), times_of(number) + offset, offset


def number_of(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 900


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@pytest.mark.parametrize("away", AWAY_DAYS)
def test_places_have_the_same_clock_time_and_are_known(zone: str, change: str, away: float) -> None:
    number = number_of(change) + round(away * PER_DAY)
    days, local, _ = calendar(zone, number)
    exists = {int(s) for s in local}  # a clock time that a day does not have has no like on it
    target = np.arange(N_ROW - N_PAST, N_SPAN)
    for places, of in ((days.near, target[N_PAST:]), (days.alike, target)):
        back = np.rint((of[:, None] - places) / PER_DAY).astype(np.int64)
        wanted = local[of][:, None] - 86_400 * back
        wrong = local[places] != wanted
        assert not (wrong & np.isin(wanted, list(exists))).any()
        assert wrong.sum() <= wrong.shape[1] * 2 * 4  # two nights of a missing hour at most
        assert (np.diff(places, axis=1) < 0).all() or (places == 0).any()
        assert places.min() >= 0
        assert (places < np.minimum(of, N_ROW)[:, None]).all()
        assert (back >= 1).all()
    # The newest day is the newest that is known: one day back would be later than the issue.
    first = np.rint((target[N_PAST:] - days.near[:, 0]) / PER_DAY)
    assert (first[: PER_DAY - 4] == 1).all()
    assert (first[PER_DAY + 4 : -4] == 2).all()
    np.testing.assert_allclose(days.share.sum(axis=1), 1.0, atol=1e-12)
    assert days.near.shape == (N_LEAD, N_NEAR)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Melbourne", "Asia/Kathmandu", "UTC"])
def test_an_offset_is_what_the_zone_says(zone: str) -> None:
    number = number_of("2024-03-30T12:00+00:00")
    offset = offsets_of(zone)(number)
    for place in (0, N_ROW, N_ROW + 52, N_SPAN - 1):
        moment = datetime.fromtimestamp(int(times_of(number)[place]), ZoneInfo(zone))
        utc = moment.utcoffset()
        assert utc is not None
        assert offset[place] == utc.total_seconds()


def test_kinds_of_days_choose_the_like_and_holidays_are_days_off() -> None:
    number = number_of("2024-05-15T00:00+00:00")  # a Wednesday
    days, _, _ = calendar("UTC", number)
    assert (days.kind == 1).all()
    assert not days.free.any()
    assert days.same[:PER_DAY].all()  # Tuesday is of its kind
    wednesday = days.alike[N_PAST][days.share[N_PAST] > 0.0]
    assert set((N_ROW - wednesday) // PER_DAY) == {
        1,
        6,
        7,
        8,
    }  # Tuesday, and Tuesday to Thursday of last week
    holiday = np.zeros(N_SPAN, np.bool_)
    holiday[N_ROW : N_ROW + PER_DAY] = True
    off, _, _ = calendar("UTC", number, holiday)
    assert off.free[:PER_DAY].all()
    assert not off.free[PER_DAY:].any()
    assert not off.same[:PER_DAY].any()
    used = off.alike[N_PAST][off.share[N_PAST] > 0.0]
    assert set((N_ROW - used) // PER_DAY) == {
        3,
        4,
        10,
        11,
    }  # no holiday before: Saturdays and Sundays stand for it
    again = holiday.copy()
    again[N_ROW - 5 * PER_DAY : N_ROW - 4 * PER_DAY] = True
    twice, _, _ = calendar("UTC", number, again)
    used = twice.alike[N_PAST][twice.share[N_PAST] > 0.0]
    assert set((N_ROW - used) // PER_DAY) == {5}
    # The newest day of a second-day lead is not of its kind when it is the holiday before.
    assert not calendar("UTC", number + PER_DAY, np.roll(holiday, -PER_DAY))[0].same[:PER_DAY].any()


def test_all_days_count_alike_where_no_day_of_the_kind_is_known() -> None:
    number = number_of("2024-05-15T00:00+00:00")
    holiday = np.ones(N_SPAN, np.bool_)
    holiday[N_ROW:] = False  # a working day after a fortnight of holidays
    days, _, _ = calendar("UTC", number, holiday)
    assert (days.share[N_PAST] > 0.0).all()
    assert days.share[N_PAST, 0] > days.share[N_PAST, -1]


@pytest.mark.parametrize(("zone", "change"), CHANGES)
def test_the_fallback_is_the_same_clock_time_a_week_ago_across_a_clock_change(zone: str, change: str) -> None:
    number = number_of(change) + 3 * PER_DAY
    days, local, _ = calendar(zone, number)
    history = (local[:N_ROW] // 900 % PER_DAY).astype(np.float32)[None]  # the value is the clock time
    said = fallback_of(history, days)[0]
    clock = local[N_ROW:] // 900 % PER_DAY
    assert (said[4:] == clock[4:]).mean() > 0.97
    assert (said[:4] == history[0, -1]).all()

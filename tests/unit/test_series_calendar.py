"""Protects the local calendar of a series on the days the clocks change."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.series.calendar import issue_rows, local_calendar, local_lag, season_of
from streamproc.evaluation.series.zone import holidays_of, offsets, to_utc, zone_of

BERLIN = zone_of("Europe/Berlin")
SPRING = int(np.datetime64("2024-03-31T01:00", "s").astype(np.int64))  # UTC, the clocks go from 2 to 3
AUTUMN = int(np.datetime64("2024-10-27T01:00", "s").astype(np.int64))  # from 3 to 2


def around(change: int, days: int = 3) -> tuple[np.ndarray, np.ndarray]:
    t_s = change + 3600 * np.arange(-24 * days, 24 * days)
    return t_s, offsets(t_s, BERLIN)


def test_an_hour_is_missing_in_spring_and_twice_there_in_autumn() -> None:
    for change, count in ((SPRING, 23), (AUTUMN, 25)):
        t_s, offset_s = around(change)
        slot, day = local_calendar(t_s, offset_s, 3600)
        today = int((change + 3600) // 86_400)
        slots = slot[day == today].tolist()
        assert len(slots) == count
        assert slots.count(2) == count - 23
    assert season_of(np.array([0, 100, 200, 300])).tolist() == [0, 1, 2, 3]


def test_forecasts_begin_at_local_midnight_on_every_day() -> None:
    for change in (SPRING, AUTUMN):
        t_s, offset_s = around(change)
        rows = issue_rows(t_s, offset_s, 3600, 0, 86_400)
        slot, day = local_calendar(t_s, offset_s, 3600)
        assert (slot[rows] == 0).all()
        assert (np.diff(day[rows]) == 1).all()
    assert set(np.diff(issue_rows(*around(AUTUMN), 3600, 0, 3600))) == {1}


def test_a_rhythm_of_some_days_and_a_time_within_an_interval() -> None:
    t_s = 1_700_000_000 // 86_400 * 86_400 + 3600 * np.arange(24 * 15)
    none = np.zeros(t_s.size, np.int64)
    assert issue_rows(t_s, none, 3600, 0, 7 * 86_400).tolist() == [0, 168, 336]
    assert issue_rows(t_s, none, 3600, 30 * 60, 86_400)[0] == 1
    with pytest.raises(ValueError, match="neither a part nor a multiple"):
        issue_rows(t_s, none, 3600, 0, 5 * 3600)


def test_yesterday_is_the_same_hour_of_the_clock() -> None:
    for change in (SPRING, AUTUMN):
        t_s, offset_s = around(change)
        slot, day = local_calendar(t_s, offset_s, 3600)
        lag = local_lag(offset_s, 3600, 24)
        known = lag >= 0
        usual = known & (slot != 2)
        assert (slot[lag[usual]] == slot[usual]).all()
        assert (day[usual] - day[lag[usual]] == 1).all()
        assert (lag[known] < np.arange(t_s.size)[known]).all()


def test_local_times_become_utc_by_their_order() -> None:
    t_s, offset_s = around(AUTUMN)
    back, never, twofold = to_utc(t_s + offset_s, BERLIN)
    assert (back == t_s).all()
    assert not never.any()
    assert twofold == 2
    local = np.array([SPRING + 3600 + 1800])  # 02:30, which no clock showed
    assert to_utc(local, BERLIN)[1].tolist() == [True]


def test_holidays_are_those_of_the_part() -> None:
    day = int(np.datetime64("2024-11-05").astype(np.int64))  # Melbourne Cup
    assert holidays_of("AU-VIC", [day]) == {day}
    assert holidays_of("AU-NSW", [day]) == set()

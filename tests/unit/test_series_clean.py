"""Protects what is found wrong in a series, that ordinary series are left alone, and that no verdict looks ahead."""

from __future__ import annotations

import numpy as np
import pytest
from series_cases import load

from streamproc.core.series import clean

N = 24 * 60
DAY = np.arange(N) // 24


def judged(value: np.ndarray) -> clean.Cleaned:
    return clean.clean(value, DAY[: value.size], 24)


def sun(n: int = N) -> np.ndarray:
    hour = np.arange(n) % 24
    cloud = np.random.default_rng(4).uniform(0.2, 1.0, n)
    return np.maximum(0.0, np.sin(np.pi * (hour - 6) / 12)) * 50.0 * cloud


def homes(n: int = N) -> np.ndarray:
    """A meter that knows tenths of a kW: it stands still at night."""
    rng = np.random.default_rng(6)
    awake = (np.arange(n) % 24 >= 7) * rng.exponential(1.0, n)
    return np.round(0.3 + awake, 1)


@pytest.mark.parametrize(
    "value", [load(N), load(N) - 100.0, sun(), sun() - load(N) / 10.0, homes(), np.full(N, 5.0)]
)
def test_ordinary_series_are_left_alone(value: np.ndarray) -> None:
    found = judged(value)
    assert (found.verdict != clean.FINE).mean() < 0.01
    assert not found.rescaled.any()


def test_a_stuck_meter_is_found_after_some_hours_and_later_from_its_first_row() -> None:
    value = load(N)
    value[800:850] = value[800]
    found = judged(value)
    rows = np.flatnonzero(found.verdict == clean.STUCK)
    assert rows[0] in range(804, 810)
    assert rows[-1] == 849
    before = clean.stuck_from_start(found, value, 803)
    assert np.isfinite(before[800:803]).all()  # nobody knew then
    after = clean.stuck_from_start(found, value, 900)
    assert np.isnan(after[800:850]).all()
    assert np.isfinite(after[[799, 850]]).all()


def test_zeros_are_an_outage_where_zero_is_strange_and_night_where_it_is_not() -> None:
    value = load(N)
    value[900:903] = 0.0
    assert np.flatnonzero(judged(value).verdict == clean.ZERO).tolist() == [900, 901, 902]
    assert not (judged(sun()).verdict == clean.ZERO).any()


@pytest.mark.parametrize(("factor", "rows"), [(1000.0, slice(700, N)), (0.001, slice(700, 760))])
def test_another_unit_is_undone(factor: float, rows: slice) -> None:
    value = load(N)
    spoilt = value.copy()
    spoilt[rows] *= factor
    found = judged(spoilt)
    assert np.allclose(found.value, value)
    assert found.rescaled[rows].all()
    assert found.rescaled.sum() == spoilt[rows].size


@pytest.mark.parametrize("wild", [99_999.0, -9999.0, 4000.0, -4000.0, 999.0])
def test_a_wild_value_is_a_spike(wild: float) -> None:
    value = load(N)
    value[1000] = wild
    found = judged(value)
    assert np.flatnonzero(found.verdict).tolist() == [1000]
    assert np.isnan(found.good[1000])


def test_a_new_level_that_stays_is_soon_ordinary() -> None:
    value = load(N)
    value[600:] += 900.0
    found = judged(value)
    assert (found.verdict[600:624] == clean.SPIKE).all()
    assert (found.verdict[720:] == clean.FINE).all()


def test_no_verdict_changes_with_what_comes_later() -> None:
    value = load(N)
    value[400:440] = value[400]
    value[500] = 99_999.0
    value[700:] *= 1000.0
    whole = judged(value)
    for end in range(300, N, 97):
        part = judged(value[:end])
        assert (part.verdict == whole.verdict[:end]).all()
        assert np.array_equal(part.value, whole.value[:end], equal_nan=True)


def test_gaps_stay_gaps() -> None:
    value = load(N)
    value[300:340] = np.nan
    found = judged(value)
    assert np.isnan(found.value[300:340]).all()
    assert (found.verdict == clean.FINE).all()
    assert clean.run_lengths(np.array([1.0, 1.0, np.nan, np.nan, 2.0])).tolist() == [1, 2, 0, 0, 1]

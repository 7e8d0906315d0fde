"""Protects the figures by which forecasts are judged, with numbers done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.series import measures as m

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)


def test_errors_by_hand() -> None:
    truth, told = np.array([10.0, 20.0, np.nan, 40.0]), np.array([11.0, 18.0, 5.0, 44.0])
    error = told - truth
    assert m.mean_of(np.abs(error)) == pytest.approx(7 / 3)
    assert m.rmse(error) == pytest.approx(np.sqrt(21 / 3))
    assert m.mape(truth, error) == (pytest.approx(10.0), 0.0)
    assert m.skill(1.0, 4.0) == 0.75
    assert np.isnan(m.skill(1.0, 0.0))


def test_rows_near_zero_are_left_out_of_the_percentage_and_counted() -> None:
    truth = np.array([0.0, 0.001, 100.0, -100.0])
    percent, left_out = m.mape(truth, np.array([5.0, 5.0, 1.0, 3.0]))
    assert percent == pytest.approx(2.0)
    assert left_out == 0.5
    assert np.isnan(m.mape(np.zeros(3), np.ones(3))[0])


def test_what_does_not_move_has_no_span() -> None:
    assert np.isnan(m.span_of(np.full(10, 3.0)))
    assert m.span_of(np.arange(101.0)) == pytest.approx(98.0)


def test_pinball_at_the_middle_is_half_the_error_and_least_at_the_true_quantile() -> None:
    truth = np.array([3.0, -1.0])
    assert m.pinball(truth, np.zeros((1, 2)), (0.5,)).tolist() == [1.5, 0.5]
    draws = np.random.default_rng(1).normal(size=20_000)
    loss = [float(m.pinball(draws, np.full((1, draws.size), q), (0.9,)).mean()) for q in (0.9, 1.2816, 1.6)]
    assert loss[1] < min(loss[0], loss[2])


def test_winkler_is_the_width_and_twenty_times_the_miss() -> None:
    low, high = np.zeros(3), np.full(3, 10.0)
    assert m.winkler(np.array([5.0, 11.0, -2.0]), low, high) == pytest.approx([10.0, 30.0, 50.0])
    assert m.within(np.array([0.0, 11.0, np.nan]), low, high)[:2].tolist() == [1.0, 0.0]


def test_the_worst_thirty_days_are_found() -> None:
    day = np.repeat(np.arange(100), 24)
    inside = np.ones(day.size)
    inside[(day >= 40) & (day < 70)] = 0.0
    last, share = m.rolling_share(inside, day)
    assert last[np.argmin(share)] == 69
    assert share.min() == 0.0
    assert m.rolling_share(inside[:200], day[:200])[1].size == 0


def test_intervals_over_days_hold_the_truth_and_repeat() -> None:
    rng = np.random.default_rng(3)
    top, bottom = rng.normal(2.0, 0.5, 200), np.ones(200)
    low, high = m.bootstrap_ratio(top, bottom, 1)
    assert low < 2.0 < high
    assert high - low < 0.3
    assert (low, high) == m.bootstrap_ratio(top, bottom, 1)
    assert np.isnan(m.bootstrap_ratio(top[:1], bottom[:1], 1)[0])

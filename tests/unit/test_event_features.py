"""Protects what a disturbance is told from: no matter which network, rate, order or number of PMUs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from event_cases import fault, lost_supply, view_of

from streamproc.core.deviation import deviation, median_of, middle, middle_half
from streamproc.core.event_features import ANCHORS_S, N_STRETCH, NAMES, answers, edges_s, vector


def numbers(view, age_s=1.0):
    return vector(answers(deviation(view), age_s))


def named(view, age_s=1.0):
    return dict(zip(NAMES, numbers(view, age_s).tolist(), strict=True))


@pytest.mark.parametrize("age_s", ANCHORS_S)
def test_there_are_as_many_numbers_as_names_at_every_age_and_all_are_finite(age_s):
    found = numbers(lost_supply(age_s=age_s), age_s)
    assert found.shape == (len(NAMES),)
    assert np.isfinite(found).all()
    assert len(edges_s(age_s)) == N_STRETCH + 1


def test_the_order_of_the_pmus_does_not_matter():
    view = lost_supply()
    order = np.random.default_rng(2).permutation(6)
    mixed = replace(view, fast=np.ascontiguousarray(view.fast[:, :, order]))
    np.testing.assert_allclose(numbers(mixed), numbers(view), atol=1e-9)


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 60.0])
def test_other_rates_give_nearly_the_same_shapes(rate_hz):
    known, other = (named(lost_supply(rate, noise=False)) for rate in (30.0, rate_hz))
    for name in ("f5", "f_slope", "v0_min", "v5_mean", "a0_min", "a0_sign", "v_kept5", "own_kept5"):
        assert other[name] == pytest.approx(known[name], abs=0.12), name


def test_a_generator_lost_turns_all_angles_back_and_a_fault_comes_back():
    lost, hit = named(lost_supply()), named(fault())
    assert lost["a0_sign"] < -0.9
    assert lost["f_slope"] < -2.0
    assert lost["v_kept5"] > 0.8
    assert abs(hit["v_kept5"]) < 0.2
    assert hit["v_low_min"] < -5.0
    assert hit["v_dip_s"] == pytest.approx(np.log1p(0.1 / 0.05), abs=0.3)


def test_the_turn_of_an_angle_has_no_wraps():
    """Twelve full turns in six seconds: each is there."""
    view = view_of(age_s=5.0, n_pmu=3, noise=False)
    fast = view.fast.copy()
    onset = fast.shape[0] - 1 - view.age
    fast[onset:, 0, 0] += 2.0
    turned = deviation(replace(view, fast=fast)).angle[-1]
    assert turned[0] == pytest.approx(2.0 * np.pi * 2.0 * (view.age + 1) / 30.0, rel=1e-3)
    assert np.abs(turned[1:]).max() < 1e-3


def test_what_the_area_did_before_is_not_the_disturbance():
    still, moving = (deviation(view_of(ambient_hz_s=slope, noise=False)) for slope in (0.0, 0.01))
    assert np.abs(moving.freq[:15] - still.freq[:15]).max() < 0.002
    assert moving.level_hz == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("late", [-1, 0, 1, 8, 20])
def test_an_onset_that_is_told_late_or_early_is_found(late):
    found = deviation(lost_supply(late=late))
    assert found.late == pytest.approx(late, abs=1)


def test_an_unknown_pmu_changes_little_and_an_unknown_sample_nothing():
    view = lost_supply()
    whole = numbers(view)
    fast = view.fast.copy()
    fast[:, :, 5] = np.nan
    np.testing.assert_allclose(
        numbers(replace(view, fast=fast)),
        numbers(replace(view, fast=np.ascontiguousarray(view.fast[:, :, :5]))),
        atol=0.35,
    )
    fast = view.fast.copy()
    fast[-9, 1, 2] = np.nan
    assert np.abs(numbers(replace(view, fast=fast)) - whole).max() < 0.5


@pytest.mark.parametrize("spoil", ["one", "all unknown", "frozen", "short", "one unknown"])
def test_nothing_breaks(spoil):
    view = lost_supply()
    fast = view.fast.copy()
    if spoil in {"one", "one unknown"}:
        fast = fast[:, :, :1]
    if spoil in {"all unknown", "one unknown"}:
        fast[:] = np.nan
    if spoil == "frozen":
        fast[:] = fast[:1]
        fast[:, 2] = 0.0
    if spoil == "short":
        fast = fast[-view.age - 4 :]
    found = numbers(replace(view, fast=np.ascontiguousarray(fast)))
    assert np.isfinite(found).all()


def test_without_a_row_before_the_onset_nothing_is_known():
    view = lost_supply()
    assert deviation(replace(view, fast=view.fast[-view.age - 1 :])) is None


def test_medians_are_those_of_numpy():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(20, 7))
    rows[rng.random(rows.shape) < 0.3] = np.nan
    rows[4] = np.nan
    known = [row[np.isfinite(row)] for row in rows]
    np.testing.assert_allclose(middle(rows), [np.median(row) if row.size else np.nan for row in known])
    assert [median_of(row) for row in known] == [np.median(row) if row.size else 0.0 for row in known]
    assert middle_half(np.array([[1.0, 2.0, 3.0, 100.0], [np.nan] * 4]))[0] == 2.5

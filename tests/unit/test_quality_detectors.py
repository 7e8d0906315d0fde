"""Protects the rules about data quality: each fault is told in time, of the PMU that has it, and of no other."""

from __future__ import annotations

import numpy as np
import pytest
from quality_cases import fitted, generic, live, measured, ns_per_s, raised, told

from streamproc.core.detector import ANGLE, History, Windows
from streamproc.core.scoring import Plan, score_numpy
from streamproc.detectors.clock_drift import ClockDrift
from streamproc.detectors.lone_jump import LoneJump
from streamproc.detectors.neighbours import Neighbours
from streamproc.detectors.noise_rise import NoiseRise
from streamproc.detectors.spike import Spike
from streamproc.shell.models import SessionScorer
from streamproc.training.anomaly import open_graphs, seconds_of

BAD = 3  # the PMU that measures badly
TVE_DEG = 0.573  # one percent
GENERIC = (ClockDrift(), LoneJump(), Spike(), NoiseRise())


def only(found: list[tuple[str, int, float]], pmus: set[int]) -> bool:
    return {pmu for _, pmu, _ in found} == pmus


@pytest.mark.parametrize(
    ("drift", "rule", "within_s"),
    [(500, "clock_drift_48s", 53), (50, "clock_drift_180s", 530), (10, "clock_drift", 2650)],
)
@pytest.mark.parametrize("n_pmu", [8, 40])
def test_a_clock_that_drifts_is_told_before_one_percent_tve(drift, rule, within_s, n_pmu):
    onset, plan = 620, generic(1.0, ClockDrift())  # seconds: the turn of a second is the same at any rate
    assert ns_per_s(drift, within_s + 1, 1.0)[-1] < np.radians(TVE_DEG)
    what = measured(onset + within_s, n_pmu=n_pmu, rate_hz=1.0, seed=5)
    what.angle[onset:, BAD] += ns_per_s(drift, within_s, 1.0)
    found = told(plan, what)
    assert only(found, {BAD})
    assert min(at for name, _, at in found if name == rule) >= onset


def test_of_two_clocks_the_faster_is_told_and_two_that_drift_alike_are_taken_for_the_grid():
    what, alike = measured(1100, rate_hz=1.0), measured(1100, rate_hz=1.0)
    for drift, other, pmu in ((300, 60, BAD), (40, 60, 5)):
        what.angle[620:, pmu] += ns_per_s(drift, 480, 1.0)
        alike.angle[620:, pmu] += ns_per_s(other, 480, 1.0)
    assert only(told(generic(1.0, ClockDrift()), what), {BAD})
    assert told(generic(1.0, ClockDrift()), alike) == []


@pytest.mark.parametrize("share", [(1.0, 0.7, 0.5, 0.4), (1.0, 0.9, 0.8, 0.7)])
def test_a_flow_that_changes_slowly_is_no_drift_of_a_clock(share):
    what = measured(1600, n_pmu=10, rate_hz=1.0)
    ramp = np.clip((np.arange(1600) - 620) / 600, 0, 1) * np.radians(3.0)  # three degrees in ten minutes
    for pmu, part in enumerate(share):
        what.angle[:, pmu] += part * ramp
    assert told(generic(1.0, ClockDrift()), what) == []


@pytest.mark.parametrize("step_deg", [0.3, 0.8, 3.0])
def test_a_step_of_the_angle_is_no_drift(step_deg):
    what = measured(1400, rate_hz=1.0)
    what.angle[700:, BAD] += np.radians(step_deg)
    assert told(generic(1.0, ClockDrift()), what) == []


def test_a_drift_is_not_judged_while_a_second_of_its_window_is_missing():
    plan = generic(1.0, ClockDrift())
    rows = measured(900, rate_hz=1.0).rows()
    rows[700, ANGLE, BAD] = 0.0  # as a window bridges it
    scores = live(plan, rows)
    known = np.isfinite(scores[:, :, BAD])
    assert known[650:701].all()
    assert not known[702:740].any()
    assert known[750:, 0].all()  # 45 s later
    assert not known[750:, 2].any()
    others = np.delete(np.arange(8), BAD)
    assert np.isfinite(scores[650:, :, others]).all()


@pytest.mark.parametrize("rate_hz", [10.0, 30.0, 60.0])
@pytest.mark.parametrize(
    ("quantity", "size", "rule"),
    [
        ("angle", np.radians(0.8), "clock_jump"),
        ("angle", np.radians(-20.0), "clock_jump"),
        ("angle", np.radians(120.0), "phase_swapped"),
        ("angle", np.radians(-120.0), "phase_swapped"),
        ("volt", 1.05, "scale_jump"),
        ("volt", np.sqrt(3.0), "scale_jump"),
        ("volt", 1 / np.sqrt(3.0), "scale_jump"),
        ("volt", 1000.0, "scale_jump"),
    ],
)
def test_a_jump_of_one_pmu_alone_says_what_is_wrong_with_it(rate_hz, quantity, size, rule):
    frames, onset = round(14 * rate_hz), round(8 * rate_hz)
    side_s = max(2.0, 40 / rate_hz)
    what = measured(frames, rate_hz=rate_hz)
    channel = getattr(what, quantity)
    channel[onset:, BAD] = channel[onset:, BAD] + size if quantity == "angle" else channel[onset:, BAD] * size
    found = told(generic(rate_hz, LoneJump()), what)
    assert [(name, pmu) for name, pmu, _ in found] == [(rule, BAD)]
    assert side_s - 0.5 < found[0][2] - 8 < side_s + 0.6


def test_a_jump_of_the_clock_by_one_percent_tve_is_told_by_a_good_pmu():
    what = measured(420, tier="T1")
    what.angle[240:, BAD] += np.radians(TVE_DEG)
    assert [(name, pmu) for name, pmu, _ in told(generic(30.0, LoneJump()), what)] == [("clock_jump", BAD)]


@pytest.mark.parametrize("factor", [np.sqrt(3.0), 1 / np.sqrt(3.0), 1000.0])
def test_a_scale_that_stays_wrong_is_told_after_ten_seconds(factor):
    what = measured(900)
    what.volt[300:, BAD] *= factor
    found = told(generic(30.0, LoneJump()), what)
    assert only(found, {BAD})
    assert next(name for name, _, _ in found) == "scale_jump"
    assert 10 < next(at for name, _, at in found if name == "scale_wrong") - 10 < 16


def test_a_dead_line_is_no_wrong_scale_and_a_collapse_of_all_voltages_neither():
    dead, low = measured(900), measured(900)
    dead.volt[:, BAD] *= 0.001
    low.volt *= np.linspace(0.5, 0.6, 8)
    for what in (dead, low):
        assert told(generic(30.0, LoneJump()), what) == []


@pytest.mark.parametrize("rate_hz", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(
    ("quantity", "size"),
    [("freq", 0.08), ("freq", -2.0), ("volt", -0.04), ("volt", 0.5), ("angle", 0.1), ("angle", 1.0)],
)
def test_one_or_two_values_out_and_back_are_a_spike(rate_hz, width, quantity, size):
    what = measured(round(8 * rate_hz), rate_hz=rate_hz)
    at = round(5 * rate_hz) + 1
    getattr(what, quantity)[at : at + width, BAD] += size
    found = told(generic(rate_hz, Spike()), what)
    assert [(name, pmu) for name, pmu, _ in found] == [("data_spike", BAD)]
    assert found[0][2] - 5 < 0.5 + 7 / rate_hz


@pytest.mark.parametrize("width", [4, 30])
def test_what_stays_longer_than_two_frames_is_no_spike(width):
    what = measured(300)
    what.volt[150 : 150 + width, BAD] -= 0.3
    assert told(generic(30.0, Spike()), what) == []


def test_a_fault_that_all_see_is_no_spike():
    what = measured(300)
    what.volt[150:152] -= np.geomspace(0.5, 0.02, 8)
    assert told(generic(30.0, Spike()), what) == []


@pytest.mark.parametrize("quantity", ["freq", "volt", "angle"])
@pytest.mark.parametrize("rate_hz", [10.0, 30.0])
def test_noise_that_rises_sevenfold_is_told_within_ten_seconds(quantity, rate_hz):
    what = measured(round(30 * rate_hz), rate_hz=rate_hz)
    channel, onset = getattr(what, quantity), round(15 * rate_hz)
    usual = {"freq": 2e-3, "volt": 1e-3, "angle": np.radians(0.1)}[quantity]
    channel[onset:, BAD] += np.random.default_rng(7).normal(0, 7 * usual, channel.shape[0] - onset)
    found = told(generic(rate_hz, NoiseRise()), what)
    assert [(name, pmu) for name, pmu, _ in found] == [("noise_rise", BAD)]
    assert 5.0 <= found[0][2] - 15 < 10.0


def test_with_training_noise_is_measured_by_each_channels_own():
    rest, what = measured(3000, tier="T1"), measured(900, tier="T1", seed=2)
    rest.volt[:, 5] += np.random.default_rng(3).normal(0, 3e-3, 3000)  # ten times noisier, and always so
    what.volt[:, 5] += np.random.default_rng(4).normal(0, 3e-3, 900)
    assert told(fitted(rest, NoiseRise()), what) == []
    what.volt[450:, BAD] += np.random.default_rng(5).normal(0, 1.5e-3, 450)  # only five times, but new
    assert only(told(fitted(rest, NoiseRise()), what), {BAD})


@pytest.mark.parametrize("wave_hz", [0.5, 2.0, 6.0, 12.0])
def test_an_oscillation_of_one_pmu_is_no_noise(wave_hz):
    what = measured(900)
    t_s = np.arange(900) / 30.0
    what.freq[:, BAD] += 0.1 * np.sin(2 * np.pi * wave_hz * t_s)
    what.angle[:, BAD] -= 0.1 / wave_hz * np.cos(2 * np.pi * wave_hz * t_s)
    assert told(generic(30.0, NoiseRise()), what) == []


def test_noise_that_rises_at_all_is_not_one_pmus():
    what = measured(900)
    what.volt[450:] += np.random.default_rng(7).normal(0, 0.01, (450, 8))
    assert told(generic(30.0, NoiseRise()), what) == []


@pytest.fixture(scope="module")
def neighbours() -> Plan:
    return fitted(measured(9000, rate_hz=10.0), Neighbours())


@pytest.mark.parametrize(
    ("quantity", "size", "rule"),
    [("volt", 0.015, "disagrees_voltage"), ("angle", np.radians(1.0), "disagrees_angle")],
)
def test_one_that_disagrees_with_its_neighbours_is_named(neighbours, quantity, size, rule):
    what = measured(3000, rate_hz=10.0, seed=2)
    getattr(what, quantity)[1500:, BAD] += size
    found = told(neighbours, what)
    assert [(name, pmu) for name, pmu, _ in found] == [(rule, BAD)]
    assert 5 <= found[0][2] - 150 < 15


def test_when_all_move_none_disagrees(neighbours):
    what = measured(3000, rate_hz=10.0, seed=2)
    what.volt[1500:] -= np.geomspace(0.05, 0.005, 8)
    what.angle[1500:] += np.geomspace(0.2, 0.005, 8)
    assert told(neighbours, what) == []


def test_with_three_pmus_nobody_knows_who_is_wrong():
    what = measured(900, n_pmu=3)
    what.angle[450:, 1] += 1.0
    what.volt[450:, 1] *= 2.0
    scores = live(generic(30.0, ClockDrift(), LoneJump(), Spike()), what.rows())
    assert np.isnan(scores).all()


def test_scores_are_those_of_numpy_within_1e_5_with_faults_and_gaps():
    rest = measured(9000, rate_hz=10.0)
    plans = (generic(10.0, *GENERIC), fitted(rest, *GENERIC, Neighbours()))
    what = measured(8000, rate_hz=10.0, seed=3)
    what.angle[7000:, BAD] += ns_per_s(300, 1000, 10.0)
    what.angle[7600:, 1] += 0.3
    what.volt[7800:, 2] *= 1.2
    what.freq[7900, 5] += 1.0
    rows = what.rows()
    rows[7500:7540, :, 6] = np.nan
    rows[7950, :, 7] = np.nan
    slow = seconds_of(rows, 10.0)
    for plan in plans:
        graphs = open_graphs(plan, 8, SessionScorer)
        for tick in range(7010, 8000, 10):
            fast = rows[tick - plan.fast_rows : tick].astype(np.float32)
            windows = Windows(fast[-1], fast, slow[tick // 10 - 600 : tick // 10].astype(np.float32))
            wanted, found = score_numpy(plan, windows), np.concatenate([run(windows) for _, run in graphs])
            np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
            assert np.nanmax(np.abs(found - wanted) / (1 + np.abs(wanted))) < 1e-5


def test_the_rules_say_what_they_are_and_are_never_of_the_grid():
    plan = fitted(measured(4000, rate_hz=10.0), *GENERIC, Neighbours())
    assert len({rule.name for rule in plan.rules}) == len(plan.rules) == 11
    for rule in plan.rules:
        assert rule.family == "quality"
        assert rule.text.format(source="X", value="1", limit="2", unit=rule.unit, window_s=rule.window_s)
        assert len(rule.text) < 160


def test_a_pmu_that_is_away_is_unknown_and_hides_no_other():
    what = measured(900)
    what.angle[450:, BAD] += 1.0
    rows = what.rows()
    rows[:, :, 6] = np.nan
    plan = generic(30.0, *GENERIC)
    scores = live(plan, rows)
    assert np.isnan(scores[:, :, 6]).all()
    assert only(raised(plan, scores), {BAD})


def test_a_recording_that_is_too_short_teaches_nothing_about_neighbours():
    rows = measured(1800, rate_hz=10.0).rows()
    assert Neighbours().fit(History(10.0, rows, seconds_of(rows, 10.0))) is None

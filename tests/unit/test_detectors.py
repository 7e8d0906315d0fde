"""Protects what holds for every detector, and the first-frame promise: steps, losses, jumps at once."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE, History, Windows
from streamproc.core.scoring import Plan, score_numpy
from streamproc.detectors import DETECTORS
from streamproc.detectors.band_energy import BANDS
from streamproc.detectors.low_rank import bin_matrix
from streamproc.shell.models import SessionScorer
from streamproc.training.anomaly import Recorded, fit_area, open_graphs, score_all
from streamproc.training.bundle import generic_plan

RATE_HZ = 30.0
N_PMU = 4
NAN = float("nan")


def ambient(n_tick: int, n_pmu: int = N_PMU, seed: int = 1) -> np.ndarray:
    """Common movement of the frequency plus white noise: (n_tick, 3, n_pmu)."""
    rng = np.random.default_rng(seed)
    frequency = np.cumsum(rng.normal(0, 5e-4, n_tick))
    frequency -= np.linspace(0, frequency[-1], n_tick)
    common = np.stack([frequency, np.zeros(n_tick), np.zeros(n_tick)], axis=1)[:, :, None]
    sd = np.array([1e-3, 5e-4, 1e-3])[None, :, None]
    noise = rng.normal(size=(n_tick, 3, n_pmu)) * sd
    # A step is a difference of angles, less what the reported frequency explains: its noise explains nothing.
    step = np.diff(noise[:, 2], axis=0, prepend=noise[:1, 2]) - 2 * np.pi * noise[:, 0] / RATE_HZ
    return (common + np.stack([noise[:, 0], noise[:, 1], step], axis=1)).astype(np.float32)


def seconds(fast: np.ndarray) -> np.ndarray:
    n_s = fast.shape[0] // 30
    return fast[: n_s * 30].astype(np.float64).reshape(n_s, 30, 3, -1).mean(axis=1)


@pytest.fixture(scope="module")
def site() -> Plan:
    fast = ambient(6000)
    stations = tuple(f"S{i}" for i in range(N_PMU))
    recorded = Recorded("a", stations, RATE_HZ, 60.0, fast, np.full(N_PMU, NAN))
    return fit_area(recorded, "a", SessionScorer).plan


@pytest.fixture(scope="module", params=["site", "generic"])
def plan(request) -> Plan:
    return request.getfixturevalue("site") if request.param == "site" else generic_plan(RATE_HZ)


def live(plan: Plan, fast: np.ndarray) -> np.ndarray:
    """Scores (n_tick, n_rule, n_pmu) by the ONNX model, as they would come live."""
    n_pmu = fast.shape[2]
    return score_all(
        plan,
        History(RATE_HZ, fast.astype(np.float64), seconds(fast)),
        open_graphs(plan, n_pmu, SessionScorer),
    )


def rows_of(plan: Plan, *kinds: str) -> list[int]:
    return [row for row, rule in enumerate(plan.rules) if rule.kind in kinds]


def test_names_of_detectors_and_rules_are_unique(plan):
    assert len({d.name for d in DETECTORS}) == len(DETECTORS)
    assert len({rule.name for rule in plan.rules}) == len(plan.rules)


def test_rules_are_complete_and_their_sentences_can_be_filled(plan):
    for rule in plan.rules:
        assert rule.family in ("grid", "quality")
        assert rule.priority in (1, 2, 3, 4)
        assert rule.limit > 0
        assert 0 <= rule.deadband_ratio < 1
        assert rule.text.format(source="X", value="1", limit="2", unit=rule.unit, window_s=rule.window_s)


def test_ambient_movement_never_reaches_a_limit(plan):
    scores = live(plan, ambient(3000, seed=7))
    assert np.nanmax(scores) < 1.0


def test_scores_have_the_shape_of_the_rules_and_are_never_negative(plan):
    scores = live(plan, ambient(600))
    assert scores.shape == (600, len(plan.rules), N_PMU)
    assert np.nanmin(scores) >= 0.0


@pytest.mark.parametrize(
    ("quantity", "size", "kind"),
    [
        (VOLTAGE, -0.05, "voltage_jump"),  # a step of voltage
        (FREQUENCY, -0.06, "frequency_jump"),  # a lost generator, seen by a near PMU
        (ANGLE, 0.1, "angle_jump"),  # a jump of the angle
    ],
)
def test_a_step_is_caught_on_its_first_frame_at_the_right_pmu(plan, quantity, size, kind):
    fast = ambient(900, seed=9)
    last = 801 if quantity == ANGLE else 900  # an angle that jumps makes one large step
    fast[800:last, quantity, 2] += size
    scores = live(plan, fast)
    assert np.nanmax(scores[:800]) < 1.0
    row = rows_of(plan, kind)[0]
    assert scores[800, row, 2] >= 1.0
    assert int(np.nanargmax(scores[800, row])) == 2


def test_the_area_model_points_at_the_pmu_that_moved_most(site):
    fast = ambient(900, seed=9)
    fast[800:, VOLTAGE, 3] -= 0.02
    fast[800:, VOLTAGE, 1] -= 0.005
    scores = live(site, fast)
    row = rows_of(site, "unusual_pattern")[0]
    assert np.nanmax(scores[800, row]) >= 1.0
    assert int(np.argmax(scores[800, row])) == 3
    assert scores[800, row, 3] > scores[800, row, 1] > scores[800, row, 0]


def test_missing_samples_stay_with_their_pmu(plan):
    fast = ambient(900, seed=5)
    holed = fast.copy()
    holed[700:, :, 1] = NAN
    before, after = live(plan, fast), live(plan, holed)
    others = [0, 2, 3]
    against = ("angle_shift", "frequency_shift", "common_frequency_shift")
    area = set(rows_of(plan, "unusual_pattern", "unusual_size", *against))
    own = [row for row, rule in enumerate(plan.rules) if rule.family == "grid" and row not in area]
    np.testing.assert_array_equal(before[:, own][:, :, others], after[:, own][:, :, others])
    assert np.isnan(after[720:, :, 1]).all()
    assert np.nanmax(after) < 1.0  # the area model loses a PMU without raising


def test_a_single_missing_frame_makes_that_frame_unknown_and_no_other(plan):
    fast = ambient(900, seed=5)
    lost_rad = fast[700, ANGLE, 1] + 2 * np.pi * (fast[700, FREQUENCY, 1] - fast[699, FREQUENCY, 1]) / RATE_HZ
    fast[701, ANGLE, 1] += lost_rad  # the change since the last that came
    fast[700, :, 1] = NAN
    scores = live(plan, fast)
    rows = rows_of(plan, "frequency_jump", "voltage_jump", "rocof", "oscillation", "unusual_pattern")
    fast_rows = [r for r in rows if plan.rules[r].window_s < 20]
    assert np.isnan(scores[700, fast_rows, 1]).all()
    strides = [graph.stride for graph in plan.graphs for _ in graph.rules]
    for row in fast_rows:
        after = 701 if strides[row] == 1 else 702  # the next instant at which the rule is judged
        assert np.isfinite(scores[after, row, 1])
    assert np.nanmax(scores) < 1.0


def test_a_slow_rule_is_judged_at_the_multiples_of_its_stride_and_scores_the_same_there():
    plan = generic_plan(RATE_HZ)
    strides = {graph.stride: len(graph.rules) for graph in plan.graphs}
    assert strides == {1: 8, 3: 7, 9: 4, 15: 1, 30: 3}
    fast = ambient(500, seed=4)
    shifted = score_all(
        plan,
        History(RATE_HZ, fast.astype(np.float64), seconds(fast), first_instant=301),
        open_graphs(plan, N_PMU, SessionScorer),
    )
    scores = live(plan, fast)
    for found, first in ((scores, 0), (shifted, 2)):  # 301 + 2 is the first multiple of 3
        judged = np.isfinite(found[:, 8:15]).any(axis=(1, 2))
        assert judged[first + 399 :: 3].all()
        assert judged.sum() == judged[first::3].sum()
    np.testing.assert_array_equal(scores[:, :8], shifted[:, :8])


def test_the_order_of_pmus_does_not_matter_without_training():
    plan = generic_plan(RATE_HZ)
    fast = ambient(500, seed=4)
    fast[450:, VOLTAGE, 0] -= 0.05
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(
        live(plan, fast)[:, :, order], live(plan, np.ascontiguousarray(fast[:, :, order]))
    )


def test_one_frequency_channel_is_enough():
    fast = ambient(4000, n_pmu=1)
    fast[:, 1:] = NAN
    plan = fit_area(
        Recorded("a", ("F",), RATE_HZ, 60.0, fast[:3000], np.full(1, NAN)), "a", SessionScorer
    ).plan
    moved = fast.copy()
    moved[3500:, 0] -= 0.05
    scores = live(plan, moved)
    assert np.nanmax(scores[:3500]) < 1.0
    assert scores[3500, rows_of(plan, "frequency_jump")[0], 0] >= 1.0
    assert np.isnan(scores[:, rows_of(plan, "voltage_jump", "angle_jump", "voltage_low")]).all()


def test_limits_are_reached_exactly_at_their_value():
    plan = generic_plan(RATE_HZ)
    fast, slow = np.zeros((plan.fast_rows, 3, 3)), np.zeros((plan.slow_rows, 3, 3))
    fast[-1, FREQUENCY], fast[-1, VOLTAGE] = [0.2, -0.2, 0.1], [-0.1, 0.1, 0.05]
    scores = score_numpy(plan, Windows(fast[-1], fast, slow))
    by_name = {rule.name: scores[row] for row, rule in enumerate(plan.rules)}
    np.testing.assert_allclose(by_name["frequency_deviation"], [1.0, 1.0, 0.5])
    np.testing.assert_allclose(by_name["frequency_emergency"], [0.25, 0.25, 0.125])
    np.testing.assert_allclose(by_name["voltage_low"], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(by_name["voltage_high"], [0.0, 1.0, 0.5])


def test_rocof_is_the_slope_over_its_window():
    plan = generic_plan(RATE_HZ)
    fast, slow = np.zeros((plan.fast_rows, 3, 1)), np.zeros((plan.slow_rows, 3, 1))
    fast[:, FREQUENCY, 0] = 0.25 / RATE_HZ * np.arange(plan.fast_rows)  # 0.25 Hz/s against a limit of 0.5
    rule = rows_of(plan, "rocof")[0]
    assert score_numpy(plan, Windows(fast[-1], fast, slow))[rule, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wave_hz", "name"),
    [
        (0.05, "oscillation_control"),
        (0.5, "oscillation_inter_area"),
        (2.0, "oscillation_local"),
        (8.0, "oscillation_fast"),
    ],
)
def test_a_steady_oscillation_is_measured_in_its_band(wave_hz, name):
    plan = generic_plan(RATE_HZ)
    t_s = np.arange(plan.fast_rows)[:, None, None] / RATE_HZ
    slow_s = np.arange(plan.slow_rows)[:, None, None]
    fast = 0.01 * np.sin(2 * np.pi * wave_hz * t_s) * np.array([1, 0, 0])[:, None]
    slow = 0.01 * np.sin(2 * np.pi * wave_hz * slow_s) * np.array([1, 0, 0])[:, None]
    if name != "oscillation_control":
        slow[:] = 0.0
    scores = score_numpy(plan, Windows(fast[-1], fast, slow))
    rms_hz = {rule.name: scores[row, 0] * rule.limit for row, rule in enumerate(plan.rules)}
    assert rms_hz[name] == pytest.approx(0.01 / np.sqrt(2), rel=0.1)
    others = {band.name for band in BANDS} - {name}
    assert all(rms_hz[other] < 0.2 * rms_hz[name] for other in others)


def test_a_step_of_the_frequency_is_not_an_oscillation():
    plan = generic_plan(RATE_HZ)
    rows = [row for row, rule in enumerate(plan.rules) if rule.kind == "oscillation"]
    slow = np.zeros((plan.slow_rows, 3, 1))
    for at in range(1, plan.fast_rows, 7):
        fast = np.zeros((plan.fast_rows, 3, 1))
        fast[at:, FREQUENCY] = 0.05
        assert np.nanmax(score_numpy(plan, Windows(fast[-1], fast, slow))[rows]) < 1.0, at


def test_bins_compare_the_last_frames_with_the_first_third():
    bins = bin_matrix(30)
    np.testing.assert_allclose(bins.sum(axis=1), 0.0, atol=1e-12)
    assert [int((row > 0).sum()) for row in bins] == [1, 1, 2, 4, 8, 4]


def test_a_score_does_not_depend_on_what_was_scored_before(plan):
    fast = ambient(600, seed=2)
    twice = [live(plan, fast) for _ in range(2)]
    assert twice[0].tobytes() == twice[1].tobytes()

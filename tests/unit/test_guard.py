"""Protects the control room from one instrument that lies, and the grid's events from being filed as its fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamproc.core.detector import Rule
from streamproc.core.guard import EVENT_S, HOLD_S, Guard, guarded

RATE_HZ = 10.0
NAN = float("nan")
SUDDEN = Rule("jump", 1, "grid", "jump", 2, 1.0, "x", 0.5, 0, 1000, 0.2, "jump", company=0.5)
LEVEL = Rule("low", 1, "grid", "low", 2, 0.1, "pu", 0.0, 200, 1000, 0.2, "low")
AREA = replace(SUDDEN, name="area", kind="area", whole_area=True)
SPIKE = replace(SUDDEN, name="spike", family="quality", kind="data_spike")
RULES = (SUDDEN, LEVEL, AREA, SPIKE)


def quiet(n: int, n_pmu: int = 4) -> np.ndarray:
    return np.full((n, len(RULES), n_pmu), 0.1, dtype=np.float32)


def run(scores: np.ndarray, sizes: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return what is left of the scores, and who moves alone, in batches of these sizes."""
    state, start, left, alone = Guard.fresh(scores.shape[2]), 0, [], []
    for size in (*sizes, scores.shape[0]):
        part = scores[start : start + size]
        state, kept, lone = guarded(state, part, RULES, np.arange(start, start + len(part)) + 1000, RATE_HZ)
        left.append(kept)
        alone.append(lone)
        start += size
    return np.concatenate(left), np.concatenate(alone)


def test_one_pmu_that_jumps_alone_raises_nothing_and_is_named():
    scores = quiet(20)
    scores[5:8, 0, 2] = 30.0
    scores[5:20, 1, 2] = 4.0  # and its new level is out of limits
    left, alone = run(scores)
    assert not (np.nan_to_num(left) >= 1.0).any()
    assert alone[5:8, 2].tolist() == [30.0] * 3
    assert (alone[8:, 2] >= 1.0).all(), "told for as long as it is withheld"
    assert not alone[:, [0, 1, 3]].any()
    np.testing.assert_array_equal(left[:, :, [0, 1, 3]], scores[:, :, [0, 1, 3]])


def test_two_that_move_together_are_an_event_on_that_very_frame():
    scores = quiet(20)
    scores[5, 0, 2], scores[5, 0, 0] = 12.0, 0.55  # the other one far away: at its company level
    left, alone = run(scores)
    assert left[5, 0, 2] == 12.0
    assert not alone.any()


def test_company_that_comes_later_makes_it_an_event_and_ends_the_suspicion():
    scores = quiet(20)
    scores[5:12, 0, 2] = 3.0
    scores[5:12, 1, 2] = 2.0
    scores[7:12, 0, 1] = 1.5
    left, alone = run(scores)
    assert np.isnan(left[5:7, 0, 2]).all()
    assert (left[7:12, 0, 2] == 3.0).all()
    assert (left[7:12, 1, 2] == 2.0).all()
    assert np.flatnonzero(alone[:, 2]).tolist() == [5, 6]


def test_a_score_that_the_area_shares_out_is_no_company():
    scores = quiet(20)
    scores[5, 0, 2] = 30.0
    scores[5, 2, :] = 3.0
    left, _ = run(scores)
    assert not (np.nan_to_num(left) >= 1.0).any()


def test_the_suspicion_lasts_until_the_pmu_has_been_within_its_limits_for_a_while():
    hold = round(HOLD_S * RATE_HZ)
    scores = quiet(4 * hold)
    scores[5, 0, 2] = 30.0
    scores[: 2 * hold, 1, 2] = 2.0
    scores[3 * hold + 5 :, 1, 2] = 2.0  # long after: a level of its own
    left, alone = run(scores)
    assert np.isnan(left[5 : 3 * hold - 1, 1, 2]).all()
    assert (left[3 * hold + 5 :, 1, 2] == 2.0).all()
    assert (alone[5 : 3 * hold - 1, 2] >= 1.0).all()
    assert not alone[3 * hold :].any()


def test_chance_does_not_lend_company_to_who_has_moved_alone():
    scores = quiet(60)
    scores[5:60, 0, 2] = 8.0
    scores[7:60:4, 0, 1] = 0.7  # somebody is at his company level now and then
    left, alone = run(scores)
    assert not (np.nan_to_num(left) >= 1.0).any()
    assert (alone[5:, 2] >= 1.0).all()
    scores[40:50, 0, [1, 3]] = 1.2  # two others begin to move, over a limit themselves: an event after all
    assert (run(scores)[0][40:50, 0, 2] == 8.0).all()


def test_a_shared_score_waits_until_the_suspect_is_cleared():
    scores = quiet(40)
    scores[5, 0, 2] = 30.0
    scores[5:20, 2, :] = 3.0  # the area's pattern remembers the jump for longer
    scores[30, 0, :2] = 4.0
    scores[30, 2, :] = 3.0
    left, _ = run(scores)
    assert np.isnan(left[5:20, 2]).all()
    assert (left[30, 2, [0, 1, 3]] == 3.0).all()


def test_who_is_said_to_be_bad_is_not_believed_while_others_are():
    scores = quiet(20)
    scores[5, 3, 1] = 2.0
    scores[6, 0, :] = 5.0
    left, _ = run(scores)
    assert np.isnan(left[6, 0, 1])
    assert (left[6, 0, [0, 2, 3]] == 5.0).all()
    assert left[5, 3, 1] == 2.0, "what tells of it is not withheld"


@pytest.mark.parametrize("n_pmu", [1, 2])
def test_with_one_or_two_pmus_everything_is_believed(n_pmu):
    scores = quiet(20, n_pmu)
    scores[5, 0, 0] = 30.0
    left, alone = run(scores)
    np.testing.assert_array_equal(left, scores)
    assert not alone.any()


def test_a_pmu_without_data_is_not_counted_among_those_who_could_tell():
    scores = quiet(20, 3)
    scores[:, :, 2] = NAN
    scores[5, 0, 0] = 30.0
    left, _ = run(scores)
    assert left[5, 0, 0] == 30.0


@pytest.mark.parametrize("sizes", [(1,) * 59, (7,) * 8, (6, 1, 20)])
def test_any_split_into_batches_withholds_the_same(sizes):
    rng = np.random.default_rng(3)
    scores = rng.exponential(0.25, (60, len(RULES), 4)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = NAN
    whole, parts = run(scores), run(scores, sizes)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])


def test_a_disturbance_is_not_filed_as_bad_data_of_one_pmu_for_as_long_as_it_is_in_the_windows():
    n = round(3 * EVENT_S * RATE_HZ)
    scores = quiet(n)
    scores[5:, 0, :2] = 3.0  # an event that stands for long
    scores[:, 3, 1] = 2.0  # a spike, it seems, before and during all of it
    left, _ = run(scores)
    shaken = slice(5, 5 + round(EVENT_S * RATE_HZ))
    assert (left[:5, 3, 1] == 2.0).all()
    assert np.isnan(left[shaken, 3]).all()
    assert (left[shaken.stop :, 3, 1] == 2.0).all()
    for sizes in ((1, 5, 40, 2), (6, 1, 1, 70)):
        np.testing.assert_array_equal(run(scores, sizes)[0], left)


def test_while_the_others_swing_anyway_they_are_no_company_for_who_begins():
    scores = quiet(80)
    scores[:, 0, 1:] = 0.6  # over the company level all the time
    scores[50:, 0, 0] = 3.0
    left, alone = run(scores)
    assert np.isnan(left[50:, 0, 0]).all()
    assert (alone[50:, 0] == 3.0).all()
    assert not alone[:, 1:].any()
    scores[:, 0, 2] = 2.0  # not even who stands over a limit all the time
    assert np.isnan(run(scores)[0][50:, 0, 0]).all()
    scores[50:, 0, 1] = 0.9  # one of them begins to move further
    assert run(scores)[0][50, 0, 0] == 3.0

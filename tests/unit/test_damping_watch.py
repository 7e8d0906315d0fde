"""Protects the watch over damping: a swing that hardly fades raises, one that fades does not, nothing depends on batches."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import msgspec
import numpy as np
import pytest

from streamproc.config import SiteConfig
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.damping_watch import (
    EVERY_S,
    LOW,
    REDUCED,
    WINDOW_S,
    DampingLimits,
    DampingWatch,
    damping_rules,
    packed,
    unpacked,
    watched,
)
from streamproc.core.grid import from_grid, to_grid
from streamproc.core.messages import Finding
from streamproc.shell.models import ModelSet
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.stages.score import ScoreStage
from streamproc.values import TOPIC_FINDINGS, TOPIC_FRAMES, Record

LIMITS = DampingLimits()
N_PMU, RATE_HZ, MODE_HZ = 6, 30.0, 0.6
SHAPE = np.array([1.0, 0.8, 0.6, -0.1, -0.7, -0.9])
START_NS = 1_700_000_010_000_000_000
LABELS = tuple(f"PMU {n}" for n in range(N_PMU))


@lru_cache
def swings(damping: float, seconds: float = 330.0, rate_hz: float = RATE_HZ, seed: int = 1) -> np.ndarray:
    """A mode that noise drives, as frequency deviations (n, n_pmu) of some 4 mHz, with measurement noise."""
    rng = np.random.default_rng(seed)
    n, w = round(seconds * rate_hz), 2 * np.pi * MODE_HZ / rate_hz
    radius = np.exp(-damping * w)
    drive, swing = rng.normal(size=n + 3000), np.zeros(n + 3000)
    for row in range(2, swing.size):
        swing[row] = drive[row] + 2 * radius * np.cos(w) * swing[row - 1] - radius**2 * swing[row - 2]
    swing = 4e-3 * swing[3000:] / swing[3000:].std()
    return swing[:, None] * SHAPE + rng.normal(0.0, 1e-3, (n, N_PMU))


def played(
    freq_hz: np.ndarray, rate_hz: float = RATE_HZ, cuts: tuple[int, ...] = (), saved: bool = False
) -> tuple[DampingWatch, np.ndarray]:
    """The watch after these frames, and all scores (n, 2, n_pmu)."""
    first = int(to_grid(np.array([START_NS]), rate_hz)[0])
    state, last, scores = DampingWatch.fresh(freq_hz.shape[1], rate_hz), -1, []
    for start, stop in zip((0, *cuts), (*cuts, freq_hz.shape[0]), strict=True):
        instant = first + np.arange(start, stop)
        t_ns = from_grid(instant, rate_hz)
        if saved:
            again = unpacked(unpack_tree("x", pack_tree("x", packed(state))), freq_hz.shape[1], rate_hz)
            state = replace(again, rows=state.rows)
        state, made = watched(
            state, instant, t_ns, last, freq_hz[start:stop].astype(np.float32), rate_hz, LIMITS
        )
        last = int(t_ns[-1] // 1_000_000_000)
        scores.append(made)
    return state, np.concatenate(scores)


def test_a_swing_that_hardly_fades_is_told_by_its_frequency_and_its_pmus():
    state, scores = played(swings(0.006))
    assert (scores[-1, LOW, [0, 1, 2, 4, 5]] >= 1.0).all()
    assert scores[-1, LOW, 3] == 0.0  # hardly swings
    (mode,) = state.told(LABELS, LIMITS)
    assert mode.freq_hz.value == pytest.approx(MODE_HZ, abs=0.01)
    assert mode.damping_ratio.high < LIMITS.low_ratio
    assert mode.forced is False
    assert set(mode.sources) <= {*LABELS, "outside"}


def test_reduced_damping_is_the_smaller_warning():
    _, scores = played(swings(0.02, rate_hz=10.0), 10.0)
    assert np.nanmax(scores[:, REDUCED, 0]) >= 1.0
    assert not (scores[:, LOW] >= 1.0).any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_swing_that_fades_is_no_trouble(seed):
    _, scores = played(swings(0.12, seed=seed))
    assert not (scores >= 1.0).any()
    assert (scores[-1] == 0.0).all()


def test_a_forced_oscillation_has_no_damping():
    n = round(330 * RATE_HZ)
    forced = 4e-3 * np.sin(2 * np.pi * MODE_HZ * np.arange(n) / RATE_HZ)[:, None] * SHAPE
    _, scores = played(swings(0.12) * 0.1 + forced)
    assert not (scores >= 1.0).any()


def test_what_hardly_moves_the_frequency_is_not_judged():
    _, scores = played(swings(0.006) * 0.1)
    assert not (scores >= 1.0).any()


def test_one_pmu_alone_has_no_mode_of_the_grid():
    lone = swings(0.12) * 0.02
    lone[:, 2] += swings(0.006)[:, 0]
    _, scores = played(lone)
    assert not (scores >= 1.0).any()


def test_three_looks_are_needed_and_until_then_nothing_is_known():
    _, scores = played(swings(0.006))
    judged = np.flatnonzero(np.isfinite(scores[:, LOW, 0]))
    assert judged[0] >= 2 * EVERY_S * RATE_HZ
    steps = np.flatnonzero(np.diff(np.nan_to_num(scores[:, REDUCED, 0])))
    seconds = (START_NS + (steps + 1) / RATE_HZ * 1e9) / 1e9
    assert np.allclose(seconds % EVERY_S, 0.0, atol=0.01)


def test_missing_data_make_it_unknown_and_clear_nothing():
    freq_hz = np.concatenate([swings(0.006), np.full((round(2 * WINDOW_S * RATE_HZ), N_PMU), np.nan)])
    _, scores = played(freq_hz)
    assert scores[round(329 * RATE_HZ), LOW, 0] >= 1.0
    assert np.isnan(scores[-1]).all()
    assert not (scores[round(330 * RATE_HZ) :, LOW, 0] == 0.0).any()


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 60.0])
def test_any_rate_tells_the_same(rate_hz):
    _, scores = played(swings(0.006, rate_hz=rate_hz), rate_hz)
    assert (np.nanmax(scores[:, REDUCED, [0, 5]], axis=0) >= 1.0).all()


def test_below_ten_frames_per_second_it_is_never_known():
    _, scores = played(swings(0.006, rate_hz=5.0), 5.0)
    assert np.isnan(scores).all()


@pytest.mark.parametrize("n_pmu", [1, N_PMU])
def test_batches_and_saving_change_nothing(n_pmu):
    freq_hz = swings(0.006)[:, :n_pmu].copy()
    freq_hz[1000:1003, 0] = np.nan
    cuts = tuple(np.cumsum(np.random.default_rng(3).integers(1, 700, 24)).tolist())
    cuts = tuple(cut for cut in cuts if cut < freq_hz.shape[0])
    whole, scores = played(freq_hz)
    parts, again = played(freq_hz, cuts=cuts, saved=True)
    np.testing.assert_array_equal(scores, again)
    assert whole.told(LABELS, LIMITS) == parts.told(LABELS, LIMITS)


def test_a_new_pmu_changes_nothing_for_the_others():
    state, scores = played(swings(0.006))
    grown = state.take(np.array([-1, *range(N_PMU)]))
    np.testing.assert_array_equal(grown.score[:, 1:], scores[-1])
    assert np.isnan(grown.score[:, 0]).all()
    assert grown.told(("new", *LABELS), LIMITS) == state.told(LABELS, LIMITS)


def test_the_limits_are_cycles_to_a_third():
    low, reduced = damping_rules(LIMITS)
    assert low.limit == pytest.approx(5.305, abs=1e-3)
    assert reduced.limit == pytest.approx(3.183, abs=1e-3)
    assert low.priority < reduced.priority


def test_frames_of_a_grid_that_hardly_damps_become_findings_with_the_mode():
    fleet = Fleet(FleetSettings(n_pmu=N_PMU, rate_hz=30, seed=3))
    swing = swings(0.006).reshape(-1, 30, N_PMU)
    frames = [b"".join(fleet.configs)]
    for second, part in zip(fleet.seconds(330), swing, strict=True):
        second.freq_hz[:] += part
        frames += [b"".join(streams) for streams in zip(*fleet.encode(second), strict=True)]
    stage = ScoreStage(SiteConfig(), ModelSet.load())
    records = [Record(TOPIC_FRAMES, 0, offset, 0, b"a", frame) for offset, frame in enumerate(frames)]
    state, outputs = stage.fresh(), []
    for start in range(0, len(records), 300):
        step = stage.step(state, records[start : start + 300])
        state = stage.unpack(stage.pack(step.state)) if start == 3000 else step.state
        if start == 3000:
            state = stage.warm(state, records[: start + 300])
        outputs += [o for o in step.outputs if o.topic == TOPIC_FINDINGS]
    found = [msgspec.json.decode(output.value, type=Finding) for output in outputs]
    (low,) = (f for f in found if f.type == "raise" and f.rule == "damping_low")
    assert low.family == "grid"
    assert low.kind == "oscillation"
    assert low.unit == "cycles"
    told = [f.disturbance for f in found if f.type == "describe" and f.ts_us > low.ts_us]
    assert told[-1].kind == "oscillation"
    assert told[-1].modes[0].freq_hz.value == pytest.approx(MODE_HZ, abs=0.02)
    assert told[-1].modes[0].damping_ratio.value < LIMITS.low_ratio

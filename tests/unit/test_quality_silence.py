"""Protects against false words about data: nothing is said at rest, and no disturbance of a grid is taken for bad data."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
from quality_cases import DATA, Measured, fitted, generic, live, measured, raised, real_ambient_hz, told, walk

from streamproc.core.detector import Windows
from streamproc.core.scoring import Plan
from streamproc.detectors.clock_drift import ClockDrift
from streamproc.detectors.lone_jump import LoneJump
from streamproc.detectors.neighbours import Neighbours
from streamproc.detectors.noise_rise import NoiseRise
from streamproc.detectors.spike import Spike
from streamproc.shell.models import SessionScorer
from streamproc.training.anomaly import open_graphs, seconds_of

RATE_HZ = 30.0
FAST = (LoneJump(), Spike(), NoiseRise())
SLOW = (ClockDrift(),)
BEFORE_S, AFTER_S = 620, 640  # of rest around an event: as long as the longest window


@lru_cache(maxsize=1)
def corpus() -> tuple[np.ndarray, list[dict[str, object]]]:
    """Voltage pu, angle rad, frequency Hz (event, frame, pmu, 3) of simulated disturbances, without noise."""
    with np.load(DATA / "andes39_events" / "events_12.npz") as held:
        return held["X"].astype(np.float64), json.loads(str(held["meta"]))["events"]


def on_noise(event: np.ndarray, noise: Measured) -> Measured:
    """What PMUs with this noise measure of an event."""
    return Measured(
        RATE_HZ,
        noise.volt + event[:, :, 0] / event[0, :, 0] - 1.0,
        noise.angle + np.unwrap(event[:, :, 1], axis=0),
        noise.freq + event[:, :, 2] - event[0, :, 2],
    )


@pytest.mark.parametrize("tier", ["T1", "T2"])
def test_half_an_hour_of_a_real_grid_at_rest_says_nothing(tier):
    ambient_hz = real_ambient_hz()
    what = measured(54000, tier=tier, seed=2, ambient_hz=ambient_hz)
    assert told(generic(RATE_HZ, *FAST, *SLOW), what) == []
    rest = measured(18000, tier=tier, seed=1, ambient_hz=ambient_hz)
    assert told(fitted(rest, *FAST, *SLOW, Neighbours()), what) == []


@pytest.mark.parametrize("tier", ["T1", "T2"])
def test_no_disturbance_is_a_jump_a_spike_or_noise_of_one_pmu(tier):
    events, about = corpus()
    plan = generic(RATE_HZ, *FAST)
    noise = measured(events.shape[1], n_pmu=events.shape[2], tier=tier)
    false = {
        f"{number} {about[number]['k']}": found
        for number, event in enumerate(events)
        if (found := told(plan, on_noise(event, noise)))
    }
    assert false == {}


def seconds_around(event: np.ndarray, tier: str) -> np.ndarray:
    """The slow rows (n_s, 3, n_pmu) of an event with rest before and after it, as means of a second."""
    n_s = event.shape[0] // 30
    noise = measured(BEFORE_S + n_s + AFTER_S, n_pmu=event.shape[1], rate_hz=1.0, tier=tier)
    last = event[30 * n_s - 1]
    frequency = np.zeros_like(noise.freq)
    frequency[BEFORE_S : BEFORE_S + n_s] = (
        (event[: 30 * n_s, :, 2] - event[0, :, 2]).reshape(n_s, 30, -1).mean(axis=1)
    )
    frequency[BEFORE_S + n_s :] = (last[:, 2] - event[0, :, 2]).mean()
    ends = np.unwrap(event[:, :, 1], axis=0)[29 : 30 * n_s : 30]
    angle = np.concatenate([np.repeat(event[:1, :, 1], BEFORE_S, axis=0), ends])
    away = angle[-1] + 2 * np.pi * np.cumsum(frequency[BEFORE_S + n_s :], axis=0)
    voltage = np.concatenate(
        [np.ones((BEFORE_S, event.shape[1])), event[29 : 30 * n_s : 30, :, 0] / event[0, :, 0]]
    )
    voltage = np.concatenate([voltage, np.repeat(voltage[-1:], AFTER_S, axis=0)])
    rest = noise.freq * (1 / np.sqrt(30.0))  # of the mean of a second
    what = Measured(
        1.0, noise.volt + voltage - 1.0, noise.angle + np.concatenate([angle, away]), rest + frequency
    )
    rows = what.rows()
    rows[:, 2] /= 30.0  # a slow row holds the mean of thirty steps
    return rows


def over(plan: Plan, slow: np.ndarray, every_s: int) -> np.ndarray:
    """The scores (n_look, n_rule, n_pmu) that are at a limit, looking every few seconds."""
    n_pmu = slow.shape[2]
    ((_, run),) = open_graphs(plan, n_pmu, SessionScorer)
    still = np.zeros((1, 3, n_pmu), dtype=np.float32)
    looks = range(600, slow.shape[0] + 1, every_s)
    seconds = slow.astype(np.float32)
    return (
        np.stack([run(Windows(still[0], still, seconds[end - plan.slow_rows : end])) for end in looks]) >= 1.0
    )


@pytest.mark.parametrize("tier", ["T1", "T2"])
def test_no_disturbance_is_a_clock_that_drifts_for_the_ten_minutes_after_it(tier):
    plan = generic(RATE_HZ, *SLOW)
    for event in corpus()[0]:
        found = over(plan, seconds_around(event, tier), 9)
        assert not (found[1:] & found[:-1]).any()  # a delay of the rules is longer than chance


def test_no_disturbance_is_one_pmu_that_disagrees():
    events, _ = corpus()
    rest = measured(27000, n_pmu=events.shape[2], rate_hz=30.0)
    plan = fitted(rest, Neighbours())
    for event in events:
        found = over(plan, seconds_around(event, "T2"), 3)
        assert not (found[2:] & found[1:-1] & found[:-2]).any()


@pytest.mark.parametrize("memory_s", [60, 600])
def test_flows_that_wander_are_no_bad_data(memory_s):
    rng = np.random.default_rng(5)
    n_pmu, n_s = 20, 3000
    what = measured(n_s, n_pmu=n_pmu, rate_hz=1.0)
    place = np.linspace(0, 1, n_pmu)
    near = np.exp(-(((place[:, None] - place) / 0.2) ** 2))  # neighbours turn alike
    what.angle += (
        np.radians(0.2)
        * walk(rng, n_s, n_pmu, 1.0, memory_s)
        @ np.linalg.cholesky(near + 1e-6 * np.eye(n_pmu)).T
    )
    assert told(generic(1.0, *SLOW), what) == []


def test_frames_that_are_lost_by_chance_are_no_fault_of_the_data():
    what = measured(18000, n_pmu=6)
    rows = what.rows()
    lost = np.random.default_rng(1).random((18000, 6)) < 0.002
    rows.transpose(0, 2, 1)[lost] = np.nan
    plan = generic(RATE_HZ, *FAST)
    assert raised(plan, live(plan, rows, seconds_of(rows, RATE_HZ))) == []

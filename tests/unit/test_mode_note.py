"""Protects what an alert says of modes: the ring-down after a disturbance, and nothing where nothing rings."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.describe import EventView
from streamproc.core.mode_note import modes_of

RATE_HZ, N_PMU = 30.0, 4
LABELS = tuple(f"P{number}" for number in range(N_PMU))


def view(ring_hz: float, age_s: float = 10.0, seed: int = 1, *, slow: bool = False) -> EventView:
    """Return 12 s of frequency, with a ring-down of 0.6 Hz and 4 % damping from the onset on."""
    rng = np.random.default_rng(seed)
    rows = round(12 * RATE_HZ)
    t_s = np.arange(rows) / RATE_HZ - (12.0 - age_s)
    decay = np.where(t_s >= 0, np.exp(-0.04 * 2 * np.pi * 0.6 * t_s) * np.cos(2 * np.pi * 0.6 * t_s), 0.0)
    shape = np.array([1.0, 0.6, -0.4, -0.8])
    fast = np.zeros((rows, 3, N_PMU), dtype=np.float32)
    fast[:, 0] = ring_hz * decay[:, None] * shape + rng.normal(0, 5e-4, (rows, N_PMU))
    return EventView(fast, round(age_s * RATE_HZ), 1000, RATE_HZ, 60.0, LABELS, slow)


def test_a_ring_down_is_told_with_its_damping_and_who_swings_most():
    mode = modes_of(view(0.05))[0]
    assert mode.freq_hz.value == pytest.approx(0.6, abs=0.01)
    assert mode.damping_ratio.value == pytest.approx(0.04, abs=0.005)
    assert mode.freq_hz.low <= 0.6 <= mode.freq_hz.high
    assert mode.energy > 0.5
    assert set(mode.sources) <= {*LABELS, "outside"}


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_has_no_modes(seed):
    assert modes_of(view(0.0, seed=seed)) == ()


def test_nothing_is_said_before_some_seconds_have_passed():
    assert modes_of(view(0.05, age_s=2.0)) == ()


def test_of_an_oscillation_the_whole_window_is_looked_at():
    steady = view(0.05, age_s=11.5, slow=True)
    assert modes_of(steady)[0].freq_hz.value == pytest.approx(0.6, abs=0.02)

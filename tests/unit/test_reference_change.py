"""Protects the rows that the models see: a change of the angles' reference is not a movement of the grid."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.features import FeatureState, features
from streamproc.core.samples import ANGLE, FREQ, N_VALUE, VOLT


def test_a_new_reference_of_all_angles_is_no_movement():
    n_pmu, rate_hz = 5, 30.0
    instant = np.arange(1000, 1060)
    value = np.full((60, n_pmu, N_VALUE), np.nan)
    value[:, :, FREQ] = 60.0
    value[:, :, VOLT] = 1.0
    value[:, :, ANGLE] = np.linspace(-2.0, 2.5, n_pmu)
    moved = value.copy()
    moved[30:, :, ANGLE] = (moved[30:, :, ANGLE] + 1.3 + np.pi) % (2 * np.pi) - np.pi
    moved[40:, 1, ANGLE] += 0.4  # one that steps by itself is seen
    moved[50:, :3, ANGLE] -= 0.4  # and so is a part of the area
    _, rows, _ = features(FeatureState.fresh(np.ones(n_pmu)), instant, moved, 60.0, rate_hz)
    steps = rows[1:, 2]
    assert np.abs(steps[:38]).max() < 1e-6
    assert steps[39, 1] == pytest.approx(0.4, abs=1e-6)
    np.testing.assert_allclose(steps[49], [-0.4, -0.4, -0.4, 0.0, 0.0], atol=1e-6)

"""Protects windows: what a holder of the old value sees, bridging of short gaps, and equality however batched."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.detector import ANGLE
from streamproc.core.window import Window, bridged

NAN = float("nan")
COLUMN = np.array([NAN, 1.0, 2.0, NAN, NAN, 5.0, NAN, NAN, NAN, 9.0, NAN, 11.0], np.float32)
FILLED = np.array([NAN, 1.0, 2.0, 2.0, 2.0, 5.0, 5.0, 5.0, NAN, 9.0, 9.0, 11.0], np.float32)


def rows_of(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=1)[:, None, :]  # (n, 1, n_pmu)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
def test_short_gaps_are_bridged_and_longer_ones_stay_unknown_however_batched(size):
    window = Window.empty(8, 1, 1)
    for start in range(0, COLUMN.size, size):
        window = window.append(rows_of(COLUMN[start : start + size]))
    np.testing.assert_array_equal(window.view()[:, 0, 0], FILLED[-8:])
    np.testing.assert_array_equal(window.last[:, 0, 0], COLUMN[-2:])


def test_bridging_is_that_of_the_definition():
    rng = np.random.default_rng(4)
    series = rng.normal(size=(200, 3, 4)).astype(np.float32)
    series[rng.random(series.shape) < 0.5] = NAN
    found = bridged(series[:2], series[2:])
    for row, quantity, pmu in np.ndindex(found.shape):
        known = [value for value in series[row : row + 3, quantity, pmu][::-1] if not np.isnan(value)]
        wanted = known[0] if known else NAN
        if quantity == ANGLE and np.isnan(series[row + 2, quantity, pmu]):
            wanted *= 0.0  # a lost step is no step: the frame after it brings the whole
        np.testing.assert_array_equal(found[row, quantity, pmu], wanted)


def test_the_old_value_still_sees_its_own_rows():
    old = Window.empty(3, 1, 1).append(rows_of(COLUMN[1:4]))
    before = old.view().copy()
    one = old.append(rows_of(np.array([7.0], np.float32)))
    np.testing.assert_array_equal(old.view(), before)
    again = old.append(rows_of(np.array([7.0], np.float32)))
    np.testing.assert_array_equal(one.view(), again.view())


@pytest.mark.parametrize("rows", [2, 6, 9])
def test_a_window_of_more_pmus_goes_on_as_if_they_had_always_been_there(rows):
    other = np.arange(12, dtype=np.float32)
    narrow = Window.empty(6, 1, 1).append(rows_of(COLUMN[:8]))
    wide = narrow.take(np.array([-1, 0]), rows)
    assert wide.view().shape == (rows, 1, 2)
    after = wide.append(rows_of(other[8:], COLUMN[8:]))
    np.testing.assert_array_equal(after.view()[:, 0, 1][-4:], FILLED[8:][-rows:])
    np.testing.assert_array_equal(after.view()[:, 0, 0][-4:], other[8:][-rows:])
    kept = min(rows, 6)
    np.testing.assert_array_equal(wide.view()[-kept:, 0, 1], FILLED[:8][-kept:])
    assert np.isnan(wide.view()[: rows - kept]).all()

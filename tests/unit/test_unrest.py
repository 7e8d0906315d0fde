"""Protects what tells a beginning from what goes on: who moves no further than lately has joined nothing."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.guard import NEVER
from streamproc.core.unrest import LEVEL_S, STEP_S, quiet, risen

RATE_HZ = 50.0


def told(values: np.ndarray, sizes: list[int], rate_hz: float = RATE_HZ) -> np.ndarray:
    levels, step, start, found = quiet(values.shape[1]), NEVER, 10_007, []
    for part in np.split(values, np.cumsum(sizes)):
        if part.shape[0]:
            instant = start + np.arange(part.shape[0])
            levels, step, higher = risen(levels, step, part, instant, rate_hz)
            start += part.shape[0]
            found.append(higher)
    return np.concatenate(found)


def test_only_what_exceeds_the_last_seconds_has_risen_and_the_newest_steps_do_not_count():
    values = np.full((500, 2), 0.3, dtype=np.float32)
    values[300:, 0] = 0.5
    higher = told(values, [])
    assert not higher[100:, 1].any()
    assert higher[300 : 300 + round(STEP_S * RATE_HZ), 0].all()
    assert not higher[300 + round(2 * STEP_S * RATE_HZ) :, 0].any()
    assert higher[0].all()  # nothing is remembered


def test_what_was_long_ago_is_forgotten():
    values = np.full((500, 1), 0.3, dtype=np.float32)
    values[100] = 9.0
    values[102] = np.nan
    values[200] = values[450] = 1.0
    higher = told(values, [])
    assert not higher[200].any()
    assert higher[450].all()
    assert (LEVEL_S + 2 * STEP_S) * RATE_HZ < 450 - 100


@pytest.mark.parametrize("sizes", [[1] * 400, [7] * 50, [3, 150, 2, 40], [399]])
@pytest.mark.parametrize("rate_hz", [1.0, 30.0, 120.0])
def test_any_split_into_batches_tells_the_same(sizes, rate_hz):
    values = np.random.default_rng(1).exponential(size=(400, 3)).astype(np.float32)
    assert (told(values, sizes, rate_hz) == told(values, [], rate_hz)).all()


def test_a_long_pause_is_forgotten_whole():
    levels, step, _ = risen(quiet(1), NEVER, np.full((1, 1), 9.0, np.float32), np.array([100]), RATE_HZ)
    later = np.array([100 + 10 * round(LEVEL_S * RATE_HZ)])
    assert risen(levels, step, np.full((1, 1), 0.1, np.float32), later, RATE_HZ)[2].all()

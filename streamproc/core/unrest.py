"""How far each PMU has moved lately: who comes no further than that has not joined anything now.

In quiet data any movement says something. While a grid still swings, or is being taken back, everybody is moving, and
somebody is always near a limit. So the largest value of each PMU is remembered over `LEVEL_S`, in steps of `STEP_S` of the
grid of instants; the newest two steps are left out, because what begins now is in them.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streamproc.values import F32, I64, Bool

STEP_S, LEVEL_S = 0.2, 3.0
STEPS = round(LEVEL_S / STEP_S)
SKIPPED = 2
RISE = 1.25  # slow statistics creep
ROWS = STEPS + SKIPPED  # of what is remembered, the newest last


def quiet(n_pmu: int) -> F32:
    """Return the memory (ROWS, n_pmu) of nothing."""
    return np.zeros((ROWS, n_pmu), dtype=np.float32)


def risen(levels: F32, last: int, values: F32, instant: I64, rate_hz: float) -> tuple[F32, int, Bool]:
    """Return the memory after, its last step, and which `values` (n, n_pmu) are above all that was lately.

    `levels` (ROWS, n_pmu) ends with the step `last`; NaN values say nothing.
    """
    step = instant // max(1, round(STEP_S * rate_hz))
    if step[0] - last >= ROWS or step[0] < last:
        levels, last = quiet(values.shape[1]), int(step[0])
    known = np.nan_to_num(values)
    table = np.concatenate([levels, np.zeros((int(step[-1]) - last, values.shape[1]), dtype=np.float32)])
    starts = np.flatnonzero(np.diff(step, prepend=step[0] - 1))
    row = step[starts] - last + ROWS - 1
    table[row] = np.maximum(table[row], np.maximum.reduceat(known, starts, axis=0))
    lately = sliding_window_view(table, STEPS, axis=0).max(
        axis=-1
    )  # row i: steps i ... i + STEPS - 1 of the table
    return table[-ROWS:], int(step[-1]), np.asarray(known > RISE * lately[step - last])

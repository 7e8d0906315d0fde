"""Frequency that no grid has had, long enough to judge coverage, and what the regulation forecast knows from it beforehand.

Two Ornstein-Uhlenbeck processes, added: 8.2 mHz with a memory of 80 s and 6.7 mHz with one of 600 s (the autocorrelation of
all 80 minutes of real frequency in `tests/data`), times a spread that wanders by a quarter with a memory of three hours.
One value per second. There is no hour, no schedule and no trip in it: figures on it tell whether the bands are honest, not
how good they are on a grid.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.regulation import (
    PRIOR_ERROR,
    PRIOR_WEIGHT,
    STEP_S,
    Minutes,
    Rules,
    fresh,
    update,
)
from streamproc.evaluation.noise import ornstein_uhlenbeck
from streamproc.values import F64

PARTS = ((8.2e-3, 80.0), (6.7e-3, 600.0))  # Hz, s
SPREAD_WANDER, SPREAD_MEMORY_S = 0.25, 10_800.0
WARM_MIN = 120  # before the prior is fitted on what follows


def made_minutes(
    hours: float, n_area: int, seed: int, parts: tuple[tuple[float, float], ...] = PARTS
) -> Minutes:
    """Return the minutes of areas that know nothing of each other."""
    rng = np.random.default_rng([seed, 11])
    n_minute = round(hours * 3600.0 / STEP_S)
    shape = (n_minute * STEP_S, n_area)
    spread = np.exp(ornstein_uhlenbeck(rng, shape, SPREAD_WANDER, SPREAD_MEMORY_S))
    moved = spread * sum(ornstein_uhlenbeck(rng, shape, sd_hz, memory_s) for sd_hz, memory_s in parts)
    cut = moved.reshape(n_minute, STEP_S, n_area)
    return Minutes(
        np.arange(n_minute), cut.min(axis=1), cut.max(axis=1), cut.mean(axis=1), np.ones((n_minute, n_area))
    )


def fitted_prior(hours: float, n_area: int, seed: int) -> tuple[F64, F64]:
    """Return the weights (3,) and the quantiles of the errors (24,): what `core.regulation` begins with."""
    rules = Rules()
    minutes = made_minutes(hours, n_area, seed)
    state = fresh(rules, n_area)
    rows, targets = [], []
    for row in range(minutes.number.size):
        before = state
        state = update(state, rules, minutes.part(slice(row, row + 1)))
        if row >= WARM_MIN:
            level, scale = before.base[:, 0, :1], before.base[:, 0, 1:]
            ends = np.stack([-state.recent[:, 0].min(axis=1), state.recent[:, 1].max(axis=1)], axis=1)
            rows.append(before.feature[:, 0])
            targets.append((ends - level * np.array([-1.0, 1.0])) / scale)
    x, target = np.concatenate(rows).reshape(-1, PRIOR_WEIGHT.size), np.concatenate(targets).ravel()
    weight = np.linalg.lstsq(x, target, rcond=None)[0]
    place = (np.arange(PRIOR_ERROR.size) + 0.5) / PRIOR_ERROR.size
    return weight, np.asarray(np.quantile(target - x @ weight, place), np.float64)

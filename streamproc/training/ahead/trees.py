"""Boosted trees on what the linear part left: LightGBM's median, one booster for all series and leads, one thread."""

from __future__ import annotations

from typing import Any, cast

import lightgbm
import numpy as np

from streamproc.core.ahead.model import Trees
from streamproc.training.ahead.samples import Samples
from streamproc.training.ahead.tree_input import columns
from streamproc.values import F64

ROUNDS = 200
ROWS_MAX = 80_000
TARGET_CLIP = 4.0  # spreads
PARAMETERS: dict[str, Any] = {
    "objective": "quantile",
    "alpha": 0.5,
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,  # two threads on two busy cores are six times slower
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
}


def fit_trees(made: Samples, line: F64, seed: int) -> Trees:
    """Return a booster of the errors of the linear forecasts (n, n_knot)."""
    left = np.clip(made.truth.astype(np.float64) - line, -TARGET_CLIP, TARGET_CLIP).ravel()
    rows = np.flatnonzero(np.isfinite(left))
    rows = rows[:: -(-len(rows) // ROWS_MAX)]
    seen = columns(made, line)[rows]
    parameters = PARAMETERS | {"seed": seed, "min_data_in_leaf": max(20, min(60, len(rows) // 200))}
    booster = lightgbm.train(parameters, lightgbm.Dataset(seen, left[rows]), ROUNDS)
    return cast(Trees, booster)

"""What trees see of training rows, in the order of `core.ahead.model.tree_rows`."""

from __future__ import annotations

import numpy as np

from streamproc.core.ahead.model import Trees
from streamproc.training.ahead.samples import Samples
from streamproc.values import F32, F64


def columns(made: Samples, line: F64) -> F32:
    """Return the columns (n * n_knot, n_column) of samples with their linear forecasts (n, n_knot)."""
    every = np.concatenate([made.rows, made.about, line[..., None].astype(np.float32)], axis=2)
    return every.reshape(-1, every.shape[2])


def said_by(trees: Trees, made: Samples, line: F64) -> F64:
    """Return what the trees add (n, n_knot)."""
    return np.asarray(trees.predict(columns(made, line)), np.float64).reshape(line.shape)

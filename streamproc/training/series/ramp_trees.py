"""Boosted trees on what the intraday ridge left: one booster for all leads and times of day.

The trees are fitted when the recipe is settled and stay for refits, which renew the closed-form part alone: what bends
changes slowly, and a refit stays below a second or two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import lightgbm
import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.ramp import RampModel, columns, joined
from streamproc.core.series.ramp_rows import RampRows, ramp_rows
from streamproc.training.series.day import sample
from streamproc.training.series.ramp import Ramp, RampSample, base_plans, fit_weights, ramp_sample
from streamproc.training.series.trees import PARAMETERS
from streamproc.values import F64, I64, Bool

ROUNDS = 400
ROWS_MAX = 120_000
SETTINGS = PARAMETERS | {"num_leaves": 63, "min_data_in_leaf": 100}


@dataclass(frozen=True, slots=True)
class RampTreeModel:
    """The ridge of the ramps and the trees on its residual."""

    name: str
    ridge: RampModel
    booster: lightgbm.Booster

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN where the ridge is silent."""
        ridge = self.ridge
        known = min(n_lead, ridge.n_lead)
        out = np.full((len(origins), n_lead), np.nan)
        ready = origins > ridge.lag
        planned = ridge.base.scaled(history, origins[ready] - ridge.lag, ridge.lag + ridge.n_lead)
        rows = ramp_rows(history, origins[ready], ridge.n_lead, ridge.scale, planned, ridge.weight.shape[1])
        ramp = np.stack([ridge.ramp(rows, lead) for lead in range(known)], axis=1)
        left = np.asarray(self.booster.predict(seen(rows, ramp), num_threads=1)).reshape(known, -1).T
        z = rows.newest[:, None] + ramp + left
        z[np.isnan(planned[:, : ridge.lag + known]).any(axis=1)] = np.nan
        out[ready, :known] = ridge.scale.back(z)
        return out


def seen(rows: RampRows, ramp: F64) -> F64:
    """Return what the trees see (n_lead * n_origin, n_column), lead by lead; `ramp` (n_origin, n_lead) of the ridge."""
    n_lead = ramp.shape[1]
    return np.concatenate(
        [
            np.column_stack([joined(rows, lead), rows.block, np.full(len(ramp), lead), ramp[:, lead]])
            for lead in range(n_lead)
        ]
    )


@dataclass(frozen=True, slots=True)
class RampTrees:
    """The recipe of the intraday trees."""

    name: str = "ramp_trees"
    ridge: Ramp = field(default_factory=Ramp)
    booster: lightgbm.Booster | None = None

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> RampTrees:
        """Return the recipe with the ridge's settings chosen and the trees fitted on `value[:until]`."""
        ridge = self.ridge.settle(history, until, n_lead, origin_slots)
        assert ridge.settings is not None
        plans, lag, n_ramp = base_plans(history, until, n_lead)
        made = [sample(history, until, plan) for plan in plans]
        rows = ramp_sample(history, until, made, ridge.settings.base, lag, n_ramp)
        return replace(self, ridge=ridge, booster=fit_booster(rows, ridge.settings.local_ridge))

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> RampTreeModel:
        """Return the model fitted on `value[:until]`; DataError when too short."""
        ready = self if self.booster is not None else self.settle(history, until, n_lead, origin_slots)
        assert ready.booster is not None
        return RampTreeModel(self.name, ready.ridge.fit(history, until, n_lead, origin_slots), ready.booster)


def fit_booster(made: RampSample, local_ridge: float) -> lightgbm.Booster:
    """Return the trees on what two ridges left, each fitted on the half of the past that it is not asked about."""
    ramp = np.empty_like(made.ramp)
    week = np.arange(len(ramp)) * 8 // len(ramp) % 2  # alternating eighths
    for half in (0, 1):
        known = RampSample(_rows(made.rows, week != half), made.ramp[week != half], made.n_block)
        mean, size, weight = fit_weights(known, max(local_ridge, 1.0))
        held = _rows(made.rows, week == half)
        for lead in range(ramp.shape[1]):
            x = columns(held, lead, mean[lead], size[lead])
            ramp[week == half, lead] = np.einsum("np,np->n", x, weight[lead, held.block])
    every, left = seen(made.rows, ramp), (made.ramp - ramp).T.ravel()
    stride = -(-len(every) // ROWS_MAX)
    return lightgbm.train(SETTINGS, lightgbm.Dataset(every[::stride], left[::stride]), ROUNDS)


def _rows(rows: RampRows, which: Bool) -> RampRows:
    return RampRows(rows.common[which], rows.by_lead[which], rows.newest[which], rows.block[which])

"""Fitting the pooled linear model: re-weighted ridge, its strength chosen on every fourth part of the past."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import CLIP
from streamproc.core.series.pooled import WEEK, PooledModel, pooled_columns
from streamproc.core.series.tree_rows import tree_rows
from streamproc.training.series.day import Sample, sample
from streamproc.training.series.plans import plans
from streamproc.values import F64, I64

RIDGES = (0.3, 1.0, 3.0)  # per row
ROWS_MAX = 40_000
PARTS = 16  # of the past; every fourth is held out to choose the ridge
ROUNDS = 2
ABSOLUTE_FROM = 0.5  # median absolute errors: smaller ones count as squares


@dataclass(frozen=True, slots=True)
class Pooled:
    """The recipe; `ridge` None: chosen at every fit."""

    name: str = "pooled"
    ridge: float | None = None

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Pooled:
        """Return the recipe with its ridge chosen on `value[:until]`."""
        _, raw, target, place = _rows(history, until, n_lead, origin_slots)
        age = (place - place.min()) / max(int(place.max() - place.min()) + 1, 1)
        late = (age * PARTS).astype(np.int64) % 4 == 3
        errors = []
        for ridge in RIDGES:
            mean, size, weight = solve(raw[~late], target[~late], ridge)
            phi = np.clip((raw[late] - mean) / size, -CLIP, CLIP)
            errors.append(float(np.abs(target[late] - phi @ weight).mean()))
        return replace(self, ridge=RIDGES[int(np.argmin(errors))])

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> PooledModel:
        """Return the model fitted on `value[:until]`; DataError when there are too few days."""
        ready = self if self.ridge is not None else self.settle(history, until, n_lead, origin_slots)
        assert ready.ridge is not None
        made, raw, target, _ = _rows(history, until, n_lead, origin_slots)
        return PooledModel(self.name, tuple(one.plan for one in made), *solve(raw, target, ready.ridge))


def _rows(history: History, until: int, n_lead: int, origin_slots: I64) -> tuple[list[Sample], F64, F64, I64]:
    """Return samples, raw columns (n, n_column), targets (n,) and places of issue (n,) of all slots together."""
    made = [sample(history, until, plan) for plan in plans(history, until, n_lead, origin_slots)]
    raws, targets, issued = [], [], []
    stride = -(-sum(one.plan.n_lead * len(one.place) for one in made) // ROWS_MAX)
    for one in made:
        reach = one.plan.n_lead
        nothing: F64 = np.zeros((len(one.place), reach))
        about = tree_rows(history, one.place, one.plan, nothing, one.rows.level)[::stride]
        raws.append(np.nan_to_num(pooled_columns(about, one.plan.steps_per_day)))
        targets.append(one.target[:, :reach].ravel()[::stride] - about[:, WEEK])
        issued.append(np.repeat(one.place, reach)[::stride])
    return made, np.concatenate(raws), np.concatenate(targets), np.concatenate(issued)


def solve(raw: F64, target: F64, ridge: float) -> tuple[F64, F64, F64]:
    """Return mean, size and weights (n_column,) of least absolute errors, by re-weighted squares."""
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    size = np.where(spread > 1e-9, spread, 1.0)
    mean = np.where(spread > 1e-9, mean, mean - 1.0)  # a column of ones stays one: the constant
    phi = np.clip((raw - mean) / size, -CLIP, CLIP)
    trust: F64 = np.ones(len(phi))
    weight: F64 = np.zeros(phi.shape[1])
    penalty = ridge * len(phi) * np.eye(phi.shape[1])
    for again in range(ROUNDS + 1):
        side = (phi * trust[:, None]).T
        weight = np.asarray(np.linalg.solve(side @ phi + penalty, side @ target))
        if again < ROUNDS:
            left = np.abs(target - phi @ weight)
            trust = 1.0 / np.maximum(left, ABSOLUTE_FROM * max(float(np.median(left)), 1e-12))
            trust /= trust.mean()
    return mean, size, weight

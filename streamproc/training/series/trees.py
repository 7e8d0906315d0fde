"""Boosted trees on what a linear model left: LightGBM by its own Booster interface, absolute error, one thread.

The linear forecasts in the training rows come from models that had not seen the day (`day.unseen`): on fitted ones the
trees would learn that the linear model is always right. `alone` leaves the linear model out and starts from the mean of
a week: worse by itself on every series we have, but its errors are others, and that is what a blend lives on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightgbm
import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import DayPart, part_at, read_out
from streamproc.core.series.rows import day_rows
from streamproc.core.series.tree_rows import tree_rows
from streamproc.training.series.choose import choose
from streamproc.training.series.day import Sample, Settings, fit_part, sample, unseen
from streamproc.training.series.plans import plans
from streamproc.values import F32, F64, I64

ROUNDS = 250
ROWS_MAX = 60_000
FORECAST_COLUMN = 7  # of `tree_rows`
WEEK_COLUMN = 12
PARAMETERS: dict[str, Any] = {
    "objective": "regression_l1",
    "learning_rate": 0.04,
    "num_leaves": 31,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,  # two threads on two busy cores are six times slower
    "seed": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True, slots=True)
class TreePart:
    """The linear model of one slot and the trees on its residual."""

    linear: DayPart
    booster: lightgbm.Booster
    alone: bool


@dataclass(frozen=True, slots=True)
class TreeModel:
    """Day-ahead trees at some slots of the day."""

    name: str
    parts: tuple[TreePart, ...]

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN where the linear model cannot speak."""
        slots = np.array([part.linear.plan.slot for part in self.parts])
        z = read_out(history, origins, n_lead, slots, lambda at, place: issue(self.parts[at], history, place))
        return self.parts[0].linear.plan.scale.back(z)


def issue(part: TreePart, history: History, places_from: I64) -> F64:
    """Return forecasts (n, n_place) on the scale at places of the part's slot."""
    plan = part.linear.plan
    z = part_at(part.linear, history, places_from)
    level = day_rows(history, places_from, plan).level
    rows = tree_rows(history, places_from, plan, np.nan_to_num(z - level[:, None]), level)
    start, seen = _start(rows, part.alone)
    made = (start + np.asarray(part.booster.predict(seen, num_threads=1))).reshape(z.shape)
    return np.where(np.isnan(z), np.nan, made + level[:, None])


def _start(rows: F64, alone: bool) -> tuple[F64, F32]:
    """Return what the trees add to (n_row,) and the columns they see, in float32 as ONNX sees them."""
    if not alone:
        return rows[:, FORECAST_COLUMN], rows.astype(np.float32)
    return rows[:, WEEK_COLUMN], np.delete(rows, FORECAST_COLUMN, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Trees:
    """The recipe: boosted trees on the residual of a day-ahead model, or `alone`."""

    name: str = "trees"
    alone: bool = False
    curved: bool = True
    settings: Settings | None = None  # of the linear model; None: chosen at every fit

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Trees:
        """Return the recipe with the settings of its linear model chosen on `value[:until]`."""
        plan = plans(history, until, n_lead, origin_slots)[0]
        return replace(self, settings=choose(sample(history, until, plan), curved=self.curved))

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> TreeModel:
        """Return the model fitted on `value[:until]`; DataError when there are too few days."""
        settings = self.settings or self.settle(history, until, n_lead, origin_slots).settings
        assert settings is not None
        made = [sample(history, until, plan) for plan in plans(history, until, n_lead, origin_slots)]
        booster = fit_trees(history, made, settings, alone=self.alone)
        return TreeModel(
            self.name, tuple(TreePart(fit_part(one, settings), booster, self.alone) for one in made)
        )


def fit_trees(history: History, made: list[Sample], settings: Settings, *, alone: bool) -> lightgbm.Booster:
    """Return one booster for all slots and leads."""
    rows, targets = [], []
    for one in made:
        n_lead = one.plan.n_lead
        forecast = unseen(one, settings)[:, :n_lead]
        every = tree_rows(history, one.place, one.plan, forecast, one.rows.level)
        start, seen = _start(every, alone)
        rows.append(seen)
        targets.append(one.target[:, :n_lead].ravel() - start)
    joined, target = np.concatenate(rows), np.concatenate(targets)
    stride = -(-len(joined) // ROWS_MAX)
    joined, target = joined[::stride], target[::stride]
    parameters = PARAMETERS | {"min_data_in_leaf": max(20, min(60, len(target) // 200))}
    return lightgbm.train(parameters, lightgbm.Dataset(joined, target), ROUNDS)

"""The models that can be asked for by name.

best          a blend of all below and of trees, by what the past of the series says; without a name this one
blend         the same without trees
ridge         one closed-form linear model per origin of the day
kernel        the same with the radial part of a kernel ridge
weekly mean   the same time in the last weeks
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.model import Fitted, Recipe
from streamproc.errors import DataError
from streamproc.training.ahead.recipe import Stream
from streamproc.training.series.recipes import Ridge
from streamproc.values import F64, I64

WEEKS = 4


@dataclass(frozen=True, slots=True)
class WeeklyMean:
    """The mean of the same time in the last weeks: no fit, no setting, and better than it looks."""

    name: str = "weekly mean"

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> WeeklyMean:  # noqa: ARG002
        """Return itself; raises DataError when there is no week."""
        if until < 7 * history.steps_per_day:
            raise DataError(
                "weekly mean: it needs 7 days of history; give an earlier start or a later --train-until"
            )
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return the mean (n_origin, n_lead) of what was known 1 to 4 weeks before each interval."""
        back = 7 * history.steps_per_day * np.arange(1, WEEKS + 1 + n_lead // (7 * history.steps_per_day))
        row = origins[:, None, None] + np.arange(n_lead)[:, None] - back  # (n_origin, n_lead, n_back)
        seen = (row >= 0) & (row < origins[:, None, None])
        value = np.where(seen, history.value[np.where(seen, row, 0)], np.nan)
        count = np.isfinite(value).sum(axis=2)
        return np.where(count > 0, np.nansum(value, axis=2) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, slots=True)
class Best:
    """The recipe that fits the series: a blend whose members and weights come from its past (`training.series.best`)."""

    name: str = "best"
    trees: bool = True

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Recipe:
        """Return the blend with its members settled and its weights learnt on `value[:until]`."""
        from streamproc.training.series.best import best  # noqa: PLC0415 - trees are an optional part

        return best(history, until, n_lead, origin_slots, trees=self.trees)

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Fitted:
        """Return the blend fitted on `value[:until]`; raises DataError when nothing can be learnt from it."""
        return self.settle(history, until, n_lead, origin_slots).fit(history, until, n_lead, origin_slots)


NEED_TREES = ("best", "blend")
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Best(),
        Best("blend", trees=False),
        Ridge(),
        Ridge("kernel", curved=True),
        Stream(),
        WeeklyMean(),
    )
}


def recipe_of(name: str | None) -> Recipe:
    """Return a recipe, without a name the best there is; raises DataError with the names there are."""
    has_trees = find_spec("lightgbm") is not None
    if name is None:
        return RECIPES["best" if has_trees else "ridge"]
    if name not in RECIPES:
        raise DataError(f"--model {name!r}: there is no such model; there are {', '.join(RECIPES)}")
    if name in NEED_TREES and not has_trees:
        raise DataError(f'--model {name!r} needs LightGBM: pip install "streamproc[train]"')
    return RECIPES[name]

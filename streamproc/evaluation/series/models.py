"""The models that can be asked for by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.model import Recipe
from streamproc.errors import DataError
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


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (Ridge(), Ridge("kernel", curved=True), WeeklyMean())
}
DEFAULT = "ridge"


def recipe_of(name: str | None) -> Recipe:
    """Return a recipe; raises DataError with the names there are."""
    recipe = RECIPES.get(name or DEFAULT)
    if recipe is None:
        raise DataError(f"--model {name!r}: there is no such model; there are {', '.join(RECIPES)}")
    return recipe

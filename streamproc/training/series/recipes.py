"""The recipes: how each kind of model of a series is made. `best` picks one that fits the length of the history."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamproc.core.series.history import History
from streamproc.core.series.linear import DayModel
from streamproc.training.series.choose import choose
from streamproc.training.series.day import Settings, fit_part, sample
from streamproc.training.series.plans import plans
from streamproc.values import I64


@dataclass(frozen=True, slots=True)
class Ridge:
    """Closed-form linear model of the day; `curved` adds the radial part of a kernel ridge."""

    name: str = "ridge"
    curved: bool = False
    settings: Settings | None = None  # None: chosen at every fit

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Ridge:
        """Return the recipe with its settings chosen on `value[:until]`, so that refits are one solve."""
        plan = plans(history, until, n_lead, origin_slots)[0]
        return replace(self, settings=choose(sample(history, until, plan), curved=self.curved))

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> DayModel:
        """Return the model fitted on `value[:until]`; DataError when there are too few days."""
        settings = self.settings or self.settle(history, until, n_lead, origin_slots).settings
        assert settings is not None
        made = [sample(history, until, plan) for plan in plans(history, until, n_lead, origin_slots)]
        return DayModel(self.name, tuple(fit_part(one, settings) for one in made))

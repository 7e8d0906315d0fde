"""The recipes: how each kind of model of a series is made. `best` picks one that fits the length of the history."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import DayModel
from streamproc.core.series.rows import LAG_DAYS, DayPlan
from streamproc.core.series.scale import fit_scale
from streamproc.training.series.choose import choose
from streamproc.training.series.day import ANCHORS_MAX, Settings, fit_part, sample
from streamproc.values import I64

HINGE_AT = (0.1, 0.3, 0.5, 0.7, 0.85, 0.93, 0.98)  # quantiles of a temperature


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


def anchors(origin_slots: I64, steps_per_day: int) -> tuple[int, ...]:
    """Return the slots of the day that get a model of their own, ascending."""
    slots = np.unique(origin_slots)
    if len(slots) > ANCHORS_MAX:
        slots = np.arange(ANCHORS_MAX) * steps_per_day // ANCHORS_MAX
    return tuple(int(slot) for slot in slots)


def plans(history: History, until: int, n_lead: int, origin_slots: I64) -> list[DayPlan]:
    """Return one plan per anchor; with few anchors each reaches until the next one's first leads are over."""
    per_day = history.steps_per_day
    slots = anchors(origin_slots, per_day)
    past = history.value[:until]
    scale = fit_scale(past)
    hinges = []
    for at, name in enumerate(history.known_names):
        column = history.known[:until, at]
        warm = "temp" in name.lower() and np.isfinite(column).any()
        hinges.append(tuple(float(q) for q in np.nanquantile(column, HINGE_AT)) if warm else ())
    asked = np.unique(origin_slots)
    made = []
    for slot in slots:
        late = max(int((asked - slot)[(asked - slot) >= 0].max(initial=0)), 0) if len(slots) == 1 else 0
        gap = late if len(slots) == 1 else _gap(slot, slots, per_day) if len(asked) > len(slots) else 0
        made.append(DayPlan(per_day, slot, n_lead + gap, scale, tuple(hinges), LAG_DAYS))
    return made


def _gap(slot: int, slots: tuple[int, ...], steps_per_day: int) -> int:
    """Return how many places after an anchor its last origin lies."""
    after = [(other - slot) % steps_per_day for other in slots if other != slot]
    return min(after) - 1

"""At which slots of the day a day-ahead model is fitted, how far it reaches, and what it is told of the weather."""

from __future__ import annotations

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.rows import DayPlan
from streamproc.core.series.scale import fit_scale
from streamproc.values import I64

ANCHORS_MAX = 4  # slots of the day with a model of their own
HINGE_AT = (0.1, 0.3, 0.5, 0.7, 0.85, 0.93, 0.98)  # quantiles of a temperature


def anchors(origin_slots: I64, steps_per_day: int) -> tuple[int, ...]:
    """Return the slots of the day that get a model of their own, ascending."""
    slots = np.unique(origin_slots)
    if len(slots) > ANCHORS_MAX:
        slots = np.arange(ANCHORS_MAX) * steps_per_day // ANCHORS_MAX
    return tuple(int(slot) for slot in slots)


def plans(history: History, until: int, n_lead: int, origin_slots: I64) -> list[DayPlan]:
    """Return one plan per anchor; where origins lie between anchors, each reaches until the next one speaks."""
    per_day = history.steps_per_day
    slots = anchors(origin_slots, per_day)
    between = len(np.unique(origin_slots)) > len(slots)
    gap = per_day // len(slots) - 1 if between else 0
    return [base_plan(history, until, slot, n_lead + gap) for slot in slots]


def base_plan(history: History, until: int, slot: int, n_lead: int) -> DayPlan:
    """Return the plan of one slot, its scale and hinges from `value[:until]` and what was known until then."""
    hinges = []
    for at, name in enumerate(history.known_names):
        column = history.known[:until, at]
        warm = "temp" in name.lower() and bool(np.isfinite(column).any())
        hinges.append(tuple(float(q) for q in np.nanquantile(column, HINGE_AT)) if warm else ())
    return DayPlan(history.steps_per_day, slot, n_lead, fit_scale(history.value[:until]), tuple(hinges))

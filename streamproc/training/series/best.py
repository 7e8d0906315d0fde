"""The recipe for any series: which members a blend gets, by how long and how fine the past is.

    days known      members
    < 3             last value and same time yesterday, halves
    < 45            last value, same time yesterday and last week; weights learnt
    >= 45           + ridge and kernel ridge of the day, pooled ridge of the interval; with many origins a day the
                      intraday ramp
    >= 60           + trees on the kernel ridge's residual and alone; >= 120 with many origins + trees on the ramp

A member that has not shown skill on the newest part of the past has no weight and is not fitted again, but the fallbacks
stay: they answer when a dead meter or missing weather silences the rest.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.series.fallback import Persistence, Seasonal
from streamproc.core.series.history import History
from streamproc.core.series.model import Recipe
from streamproc.training.series.blend import Blend
from streamproc.training.series.pooled import Pooled
from streamproc.training.series.ramp import Ramp
from streamproc.training.series.ramp_trees import RampTrees
from streamproc.training.series.recipes import Ridge
from streamproc.training.series.trees import Trees
from streamproc.values import I64

DAYS_LEARNT = 3
DAYS_RIDGE = 45
DAYS_TREES = 60
DAYS_RAMP_TREES = 120
ORIGINS_RAMP = 4  # a day; fewer are day-ahead


def members(history: History, until: int, origin_slots: I64, *, trees: bool = True) -> tuple[Recipe, ...]:
    """Return the members that this past can teach; the first ones need no teaching."""
    known = np.isfinite(history.value[:until]).sum() / history.steps_per_day
    chosen: list[Recipe] = [Persistence(), Seasonal(1, "yesterday")]
    if known < DAYS_LEARNT:
        return tuple(chosen)
    chosen.append(Seasonal(7, "last_week"))
    rolling = len(np.unique(origin_slots)) >= ORIGINS_RAMP
    if known >= DAYS_RIDGE:
        chosen += [Ridge(), Ridge("kernel", curved=True), Pooled()]
        chosen += [Ramp()] if rolling else []
    if trees and known >= DAYS_TREES:
        chosen += [Trees(), Trees("trees_alone", alone=True)]
        chosen += [RampTrees()] if rolling and known >= DAYS_RAMP_TREES else []
    return tuple(chosen)


def best(history: History, until: int, n_lead: int, origin_slots: I64, *, trees: bool = True) -> Blend:
    """Return the default recipe, settled on `value[:until]`: refits are closed form (and trees of the day)."""
    chosen = members(history, until, origin_slots, trees=trees)
    if len(chosen) == 2:
        return Blend(chosen, weight=np.full((2, n_lead), 0.5))
    return Blend(chosen).settle(history, until, n_lead, origin_slots)

"""A blend: the weighted mean of some models, weights per lead, not negative, learnt on past forecasts only.

Where a model cannot speak (a dead meter, no weather, too long a lead) the others share its weight. The fallbacks (last
value, same time yesterday and last week) are members like any other: that is why at 15 minutes the blend does not lose to
persistence, and nowhere to seasonal naive, wherever the past says that they are hard to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.model import Fitted
from streamproc.values import F64, I64

WEIGHT_FLOOR = 1e-3  # what a model without weight gets, so that it speaks when all others are silent


@dataclass(frozen=True, slots=True)
class BlendModel:
    """Fitted members and their weights."""

    name: str
    members: tuple[Fitted, ...]
    weight: F64  # (n_member, n_lead), >= 0, sum 1 over members

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN where no member can speak."""
        each = [member.predict(history, origins, n_lead) for member in self.members]
        return mix(each, self.weight)

    def without_weight(self) -> tuple[str, ...]:
        """Return the names of members that only speak when the others cannot."""
        return tuple(m.name for m, w in zip(self.members, self.weight, strict=True) if not w.any())


def mix(each: Sequence[F64], weight: F64) -> F64:
    """Return the weighted mean (n_origin, n_lead) of forecasts; leads beyond the weights use the last lead's."""
    n_lead = each[0].shape[1]
    lead = np.minimum(np.arange(n_lead), weight.shape[1] - 1)
    total, speaking = np.zeros(each[0].shape), np.zeros(each[0].shape)
    spare, spare_weight = np.zeros(each[0].shape), np.zeros(each[0].shape)
    for forecast, w in zip(each, weight[:, lead], strict=True):
        known = np.isfinite(forecast)
        value = np.where(known, forecast, 0.0)
        total += value * w
        speaking += known * w
        spare += value * WEIGHT_FLOOR
        spare_weight += known * WEIGHT_FLOOR
    # Members without weight speak only where all weighted ones are silent.
    total = np.where(speaking > 1e-9, total, spare)
    speaking = np.where(speaking > 1e-9, speaking, spare_weight)
    with np.errstate(invalid="ignore"):
        return np.where(speaking > 0.0, total / np.where(speaking > 0.0, speaking, 1.0), np.nan)

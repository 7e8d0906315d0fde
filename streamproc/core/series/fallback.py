"""Forecasts that need no fitting: the yardsticks, and what speaks when nothing better can.

seasonal     the same clock time some days ago (1 or 7), the newest that lies before the origin
persistence  the last measured value
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.local_axis import local_axis
from streamproc.values import F64, I64, Bool


@dataclass(frozen=True, slots=True)
class Seasonal:
    """The value of the same clock time `days` ago; recipe and model in one."""

    days: int = 7
    name: str = "seasonal"

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Seasonal:  # noqa: ARG002
        """Return itself: there is nothing to learn."""
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return (n_origin, n_lead); gaps from the same slot of other earlier days, NaN where there is none."""
        axis = local_axis(history, history.value)
        place, beyond = lead_places(axis.place, origins, n_lead)
        period = self.days * axis.steps_per_day
        back = -(-(place - axis.place[origins][:, None] + 1) // period) * period
        source = place - back
        return np.where(beyond | (source < 0), np.nan, axis.filled[np.maximum(source, 0)])


@dataclass(frozen=True, slots=True)
class Persistence:
    """The last measured value; recipe and model in one."""

    name: str = "persistence"

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Persistence:  # noqa: ARG002
        """Return itself: there is nothing to learn."""
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return (n_origin, n_lead); NaN before the first measurement."""
        return np.repeat(last_value(history.value, origins)[:, None], n_lead, axis=1)


def last_value(value: F64, origins: I64) -> F64:
    """Return the newest known value (n_origin,) before each origin, NaN where there is none."""
    newest = np.maximum.accumulate(np.where(np.isfinite(value), np.arange(len(value)), -1))
    at = np.where(origins > 0, newest[np.maximum(origins - 1, 0)], -1)
    return np.where(at >= 0, value[np.maximum(at, 0)], np.nan)


def lead_places(place: I64, origins: I64, n_lead: int) -> tuple[I64, Bool]:
    """Return the places (n_origin, n_lead) of the leads, and where they lie beyond the history's calendar."""
    index = origins[:, None] + np.arange(n_lead)
    return place[np.minimum(index, len(place) - 1)], index >= len(place)

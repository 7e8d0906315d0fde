"""The intraday model: per lead one ridge for all times of day, and on its residual one for each part of the day.

ramp = x (pooled[lead] + local[lead, block])          x = [1, clip((raw - mean) / size, -6, 6)]
y    = back(newest + ramp)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import CLIP, DayModel
from streamproc.core.series.ramp_rows import RampRows, ramp_rows
from streamproc.core.series.scale import Scale
from streamproc.values import F64, I64


@dataclass(frozen=True, slots=True)
class RampModel:
    """A fitted intraday model for the first `n_lead` leads."""

    name: str
    base: DayModel  # the day-ahead forecasts whose ramp and error it sees
    scale: Scale
    lag: int  # intervals that the day-ahead forecast must be older than the origin
    mean: F64  # (n_lead, n_column)
    size: F64  # (n_lead, n_column)
    weight: F64  # (n_lead, n_block, 1 + n_column), pooled + local

    @property
    def n_lead(self) -> int:
        """Return how many leads it knows."""
        return len(self.mean)

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN beyond its leads, without a fresh value or a day-ahead forecast."""
        known = min(n_lead, self.n_lead)
        out = np.full((len(origins), n_lead), np.nan)
        ready = origins > self.lag
        planned = self.base.scaled(history, origins[ready] - self.lag, self.lag + self.n_lead)
        rows = ramp_rows(history, origins[ready], self.n_lead, self.scale, planned, self.weight.shape[1])
        ramp = np.stack([self.ramp(rows, lead) for lead in range(known)], axis=1)
        unsure = np.isnan(planned[:, : self.lag + known]).any(axis=1)
        ramp[unsure] = np.nan
        out[ready, :known] = self.scale.back(rows.newest[:, None] + ramp)
        return out

    def ramp(self, rows: RampRows, lead: int) -> F64:
        """Return the ramp (n_origin,) to one lead, on the scale."""
        x = columns(rows, lead, self.mean[lead], self.size[lead])
        return np.asarray(np.einsum("np,np->n", x, self.weight[lead, rows.block]))


def joined(rows: RampRows, lead: int) -> F64:
    """Return the raw columns (n_origin, n_column) of one lead."""
    return np.concatenate([rows.common, rows.by_lead[:, lead]], axis=1)


def columns(rows: RampRows, lead: int, mean: F64, size: F64) -> F64:
    """Return x (n_origin, 1 + n_column) of one lead."""
    held = np.clip((joined(rows, lead) - mean) / size, -CLIP, CLIP)
    return np.concatenate([np.ones((len(held), 1)), held], axis=1)

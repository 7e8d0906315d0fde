"""The pooled linear model: one ridge for all leads and times of day, on columns about the very interval asked for.

A station with three months of history has ninety days: too few rows for a model of the whole day at once, but nine
thousand intervals. What differs over the day (how much a cloudless hour moves the net load) is a column times harmonics
of the time of day; what fades with the lead is a column times exp(-lead / 6 h).

    z = week mean + phi w       phi = clip((raw - mean) / size, -6, 6)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import BLIND_MAX, CLIP, GAPS_MAX, read_out
from streamproc.core.series.ramp_rows import hour_steps
from streamproc.core.series.rows import N_KIND, DayPlan, day_rows
from streamproc.core.series.tree_rows import BACK_DAYS, LAST_HOURS, tree_rows
from streamproc.values import F64, I64

FIRST_LAG = 8  # column of `tree_rows`; before it: slot, lead, kinds, festive, season, forecast
WEEK = FIRST_LAG + len(BACK_DAYS)
FIRST_RECENT = WEEK + 1
FIRST_KNOWN = FIRST_RECENT + len(LAST_HOURS) + 2
KNOWN_COLUMNS = 7  # per known column
HARMONICS = 3
FADE_HOURS = 6.0


@dataclass(frozen=True, slots=True)
class PooledModel:
    """A fitted pooled model, issued at some slots of the day."""

    name: str
    plans: tuple[DayPlan, ...]
    mean: F64  # (n_column,)
    size: F64  # (n_column,)
    weight: F64  # (n_column,)

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN = cannot be said (holes, no weather, too early in the history)."""
        slots = np.array([plan.slot for plan in self.plans])
        z = read_out(
            history, origins, n_lead, slots, lambda at, place: self.issue(history, place, self.plans[at])
        )
        return self.plans[0].scale.back(z)

    def issue(self, history: History, places_from: I64, plan: DayPlan) -> F64:
        """Return forecasts (n, n_place) on the scale at places of the plan's slot."""
        rows = day_rows(history, places_from, plan)
        about = tree_rows(history, places_from, plan, np.zeros((len(places_from), plan.n_place)), rows.level)
        raw = pooled_columns(about, plan.steps_per_day)
        raw = np.where(np.isnan(raw), self.mean, raw)
        phi = np.clip((raw - self.mean) / self.size, -CLIP, CLIP)
        z = (about[:, WEEK] + phi @ self.weight).reshape(len(places_from), -1) + rows.level[:, None]
        unsure = (rows.gaps > GAPS_MAX) | (rows.blind > BLIND_MAX)
        return np.where(unsure[:, None], np.nan, z)


def pooled_columns(about: F64, steps_per_day: int) -> F64:
    """Return the raw columns (n, n_column) from rows of `tree_rows` (n, n_about)."""
    phase = 2.0 * np.pi * about[:, :1] / steps_per_day
    waves = [wave(k * phase) for k in range(1, HARMONICS + 1) for wave in (np.cos, np.sin)]
    of_day = np.concatenate([np.ones_like(phase), *waves], axis=1)  # (n, 7)
    fade = np.exp(-about[:, 1:2] / (FADE_HOURS * hour_steps(steps_per_day)))
    kinds = np.concatenate([np.eye(N_KIND)[about[:, at].astype(np.int64)] for at in (2, 3)], axis=1)
    course = about[:, FIRST_LAG:]  # lags, means before the origin, known ahead
    recent = about[:, FIRST_RECENT:FIRST_KNOWN] * fade
    moving = np.concatenate([course, recent, kinds[:, :N_KIND]], axis=1)
    parts = [kinds, about[:, 4:7], of_day, *(moving * of_day[:, [k]] for k in range(of_day.shape[1]))]
    return np.concatenate(parts, axis=1)

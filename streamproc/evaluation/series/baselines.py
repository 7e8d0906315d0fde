"""What everybody can do: the last value, and the value a day or a week ago by the local clock.

They are what a forecast is judged beside, and what it falls back to when a model cannot say anything. They look at the
values as they came (`Series.truth`), not at cleaned ones: that is what somebody without a service would do.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.series.calendar import local_lag
from streamproc.evaluation.series.grid import Series
from streamproc.values import F64, I64, Bool

PERSISTENCE, NAIVE_1D, NAIVE_7D = "persistence", "seasonal naive 1 d", "seasonal naive 7 d"
BASELINES = (PERSISTENCE, NAIVE_1D, NAIVE_7D)
BACK_DAYS = 28  # as far as a seasonal naive goes back to find a value


def baseline(name: str, series: Series, origins: I64, n_lead: int) -> F64:
    """Return a baseline's forecasts (n_origin, n_lead) from the values before each origin; NaN = none there."""
    last = persistence(series.truth, origins, n_lead)
    if name == PERSISTENCE:
        return last
    seasonal = seasonal_naive(series, origins, n_lead, 1 if name == NAIVE_1D else 7)
    return np.where(np.isfinite(seasonal), seasonal, last)


def persistence(value: F64, origins: I64, n_lead: int) -> F64:
    """Return the last known value before each origin, for all leads (n_origin, n_lead)."""
    row = np.where(np.isfinite(value), np.arange(value.size), -1)
    newest = np.concatenate([[-1], np.maximum.accumulate(row)])[origins]  # before the origin, not at it
    told = np.where(newest >= 0, value[np.maximum(newest, 0)], np.nan)
    return np.repeat(told[:, None], n_lead, axis=1)


def seasonal_naive(series: Series, origins: I64, n_lead: int, days: int) -> F64:
    """Return the newest known value (n_origin, n_lead) a multiple of `days` local days before each interval."""
    target = origins[:, None] + np.arange(n_lead)  # (n_origin, n_lead)
    out = np.full(target.shape, np.nan)
    for back in range(days, max(BACK_DAYS, days) + 1, days):
        lag = local_lag(series.offset_s, series.step_s, back * series.steps_per_day)[target]
        open_ = ~np.isfinite(out) & (lag >= 0) & (lag < origins[:, None])
        out[open_] = series.truth[lag[open_]]
        if np.isfinite(out).all():
            break
    return out


def fall_back(told: F64, series: Series, origins: I64) -> tuple[F64, Bool]:
    """Return forecasts (n_origin, n_lead) with the unknown ones filled in, and which these were."""
    missing = ~np.isfinite(told)
    if not missing.any():
        return told, missing
    out = told.copy()
    for name in (NAIVE_7D, NAIVE_1D, PERSISTENCE):
        still = ~np.isfinite(out)
        if still.any():
            n_lead = told.shape[1]
            simple = (
                seasonal_naive(series, origins, n_lead, 7)
                if name == NAIVE_7D
                else baseline(name, series, origins, n_lead)
            )
            out[still] = simple[still]
    return out, missing

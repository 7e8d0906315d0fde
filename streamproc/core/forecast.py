"""The forecast of every series of an area on its 1-, 5- or 15-minute grid: interval means in, quantiles out.

Means (`core.sums`) go into a history of `HISTORY_ROWS` intervals; with each closing interval one model call.

Who is asked is decided here, per series and in the open (`reason`, metered):

    model          at least MODEL_MEANS_MIN means known, the last one among them, few gaps
    short_history  fewer means: persistence, a random walk from the last value
    gap            the last mean is missing, or too many: persistence from the last known one, quality SUSPECT
    no_model, model_error   there is none, or its answer was refused or not finite: persistence
    (nothing)      no value for an hour: nothing honest can be said

Live coverage: when a mean arrives it is held against the P05..P95 that was told for it COVERAGE_LEAD_MIN
before. The share inside, over the last COVERAGE_ROWS, goes into every forecast; it should be near 0.90.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from streamproc.core.quantiles import HISTORY_ROWS, HORIZON_MIN, LEVELS, n_step, persistence, rounded
from streamproc.core.sums import MINUTE_NS, Sums, closed, skipped
from streamproc.errors import ModelError
from streamproc.values import F32, F64, I64, Bool

MODEL_MEANS_MIN = 8  # the fit has seen histories as short as six
GAP_RATIO_MAX = 0.2  # of the means since the first known one
COVERAGE_LEAD_MIN = 15
COVERAGE_ROWS = 96  # a day of quarter hours
COVERAGE_MIN = 12  # fewer say nothing about 90 %

REASONS = ("", "short_history", "gap", "no_model", "model_error")
MODEL, SHORT_HISTORY, GAP, NO_MODEL, MODEL_FAILED = range(5)


class Forecaster(Protocol):
    """The forecast models (implemented by `streamproc.shell.forecast_model.OnnxForecaster`)."""

    digest: str

    def predict(self, interval_min: int, history: F32) -> F32:
        """Return the quantiles (n_series, 7, n_step) of histories (n_series, n_row); raises ModelError."""


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid of one area: what is summed, what is known, and what was told. Row = series."""

    sums: Sums
    history: F32  # (n_series, n_row), oldest first, NaN = unknown
    told: F32  # (n_series, n_lead, 2), P05 and P95 told for the intervals from the open one on
    inside: I64  # (n_series, COVERAGE_ROWS), 1 inside, 0 outside, -1 not judged

    @classmethod
    def fresh(cls, interval_min: int, n_series: int) -> Grid:
        """Return the grid that knows nothing."""
        lead = COVERAGE_LEAD_MIN // interval_min
        return cls(
            Sums.fresh(interval_min, n_series),
            np.full((n_series, HISTORY_ROWS[interval_min]), np.nan, dtype=np.float32),
            np.full((n_series, lead, 2), np.nan, dtype=np.float32),
            np.full((n_series, COVERAGE_ROWS), -1, dtype=np.int64),
        )

    @property
    def interval_min(self) -> int:
        """Return the length of an interval in minutes."""
        return self.sums.interval_min

    @property
    def n_series(self) -> int:
        """Return how many series it has."""
        return int(self.history.shape[0])

    def widened(self, n_series: int) -> Grid:
        """Return the grid with room for more series, the old ones first."""
        more = Grid.fresh(self.interval_min, n_series - self.n_series)
        names = ("history", "told", "inside")
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in names
        }
        return replace(self, sums=self.sums.widened(n_series), **joined)


@dataclass(frozen=True, slots=True)
class Issue:
    """The forecasts of one grid at one time. Rows are the series that get one."""

    interval_min: int
    issued_ns: int  # end of the interval that closed
    series: I64  # (n,), place in the grid
    quantiles: F64  # (n, 7, n_step)
    reason: I64  # (n,), index into REASONS; 0 = by the model
    coverage: F64  # (n,), NaN: too little to judge

    def valid_ns(self) -> list[int]:
        """Return the ends of the intervals that are forecast."""
        length_ns = self.interval_min * MINUTE_NS
        return [self.issued_ns + length_ns * step for step in range(1, self.quantiles.shape[2] + 1)]


def close(grid: Grid, forecaster: Forecaster | None) -> tuple[Grid, Issue]:
    """Return the grid after its open interval and the forecasts that follow from it."""
    sums, mean = closed(grid.sums)
    judged = _judge(grid, mean)
    with np.errstate(over="ignore"):
        newest = mean[:, None].astype(np.float32)
    newest[~np.isfinite(newest)] = np.nan  # beyond float32: the model cannot use it
    history = np.concatenate([grid.history[:, 1:], newest], axis=1)
    inside = np.concatenate([grid.inside[:, 1:], judged[:, None]], axis=1)
    grid = replace(grid, sums=sums, history=history, inside=inside)
    issue = _issue(grid, forecaster)
    lead = grid.told.shape[1]
    newest = np.full((grid.told.shape[0], 1, 2), np.nan, dtype=np.float32)
    newest[issue.series, 0, :] = issue.quantiles[:, [0, -1], lead - 1]
    return replace(grid, told=np.concatenate([grid.told[:, 1:], newest], axis=1)), issue


def issue_of(history: F32, interval_min: int, forecaster: Forecaster | None) -> Issue:
    """Return the forecasts that follow from histories (n_series, n_row) alone; times count from 0, coverage is unknown."""
    return _issue(replace(Grid.fresh(interval_min, history.shape[0]), history=history), forecaster)


def skip_to(grid: Grid, number: int) -> Grid:
    """Return the grid whose open interval is `number`, far away: everything before it is unknown."""
    fresh = Grid.fresh(grid.interval_min, grid.n_series)
    return replace(fresh, sums=skipped(grid.sums, number), inside=grid.inside)


def _judge(grid: Grid, mean: F64) -> I64:
    """Return 1 where the mean is inside the band told for it, 0 outside, -1 where there is none."""
    low, high = grid.told[:, 0, 0], grid.told[:, 0, 1]
    known = np.isfinite(mean) & np.isfinite(low)
    within = (mean >= low) & (mean <= high)
    return np.where(known, within.astype(np.int64), -1)


def coverage(inside: I64) -> F64:
    """Return the share inside (n,); NaN while too little was judged."""
    judged = (inside >= 0).sum(axis=-1)
    share = (inside == 1).sum(axis=-1) / np.maximum(judged, 1)
    return np.where(judged >= COVERAGE_MIN, share, np.nan)


def _issue(grid: Grid, forecaster: Forecaster | None) -> Issue:
    known = np.isfinite(grid.history)  # (n_series, n_row)
    reason = _reasons(known, forecaster)
    n_row = known.shape[1]
    # Intervals since the last known mean, (n_series,).
    age = np.where(known.any(axis=1), np.argmax(known[:, ::-1], axis=1), n_row)
    series = np.flatnonzero(age * grid.interval_min < HORIZON_MIN)
    steps = n_step(grid.interval_min)
    if series.size == 0 or age.min() > 0:
        # Nothing new came in this interval: the last forecasts stand, and grow old visibly.
        nothing = np.zeros(0, dtype=np.int64)
        empty = np.zeros((0, len(LEVELS), steps))
        return Issue(
            grid.interval_min, grid.sums.start * grid.sums.length_ns, nothing, empty, nothing, np.zeros(0)
        )
    last = grid.history[series, n_row - 1 - age[series]].astype(np.float64)
    quantiles = persistence(grid.history[series].astype(np.float64), last, steps)
    reason = reason[series]
    if forecaster is not None and (reason == MODEL).any():
        quantiles, reason = _asked(forecaster, grid, series, quantiles, reason)
    share = coverage(grid.inside[series])
    issued_ns = grid.sums.start * grid.sums.length_ns
    return Issue(grid.interval_min, issued_ns, series, rounded(quantiles), reason, share)


def _reasons(known: Bool, forecaster: Forecaster | None) -> I64:
    """Return why each series (n_series,) is not given to the model; 0 = it is."""
    n_row = known.shape[1]
    count = known.sum(axis=1)
    span = np.where(known.any(axis=1), n_row - np.argmax(known, axis=1), 0)  # rows since the first known one
    holed = ~known[:, -1] | (span - count > GAP_RATIO_MAX * span)
    reason = np.where(holed, GAP, np.where(count < MODEL_MEANS_MIN, SHORT_HISTORY, MODEL))
    return np.where((reason == MODEL) & (forecaster is None), NO_MODEL, reason).astype(np.int64)


def _asked(forecaster: Forecaster, grid: Grid, series: I64, quantiles: F64, reason: I64) -> tuple[F64, I64]:
    """Return quantiles and reasons with the model's answers in, where they can be believed.

    The model always sees all series of the grid: the same rows give the same bits, whoever else has a gap.
    """
    try:
        made = forecaster.predict(grid.interval_min, grid.history)[series].astype(np.float64)
    except ModelError:
        return quantiles, np.where(reason == MODEL, MODEL_FAILED, reason)
    finite = np.isfinite(made).all(axis=(1, 2))
    use = (reason == MODEL) & finite
    reason = np.where((reason == MODEL) & ~finite, MODEL_FAILED, reason)
    return np.where(use[:, None, None], np.sort(made, axis=1), quantiles), reason

"""Which forecasts a backtest issues, and when models are fitted anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.series.calendar import issue_rows
from streamproc.errors import DataError
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.zone import local_words
from streamproc.values import I64


@dataclass(frozen=True, slots=True)
class Plan:
    """Which forecasts are issued when."""

    n_lead: int
    until: int  # first row of the test
    warm: I64  # (n_warm,), origins before it
    origins: I64  # (n_origin,), origins of the test
    refit_rows: int
    every_s: int
    issues: I64  # (n_issue,), all rows at which a forecast could be issued, in the years before too

    @property
    def all_origins(self) -> I64:
        """Return the origins of warm-up and test."""
        return np.concatenate([self.warm, self.origins])

    @property
    def ages(self) -> I64:
        """Return for all origins the number of the fit they use; negative in the warm-up, 0 with the test's first."""
        return (self.all_origins - self.until) // self.refit_rows

    @property
    def test_age(self) -> int:
        """Return the number of the fit that the first origin of the test uses."""
        return int(self.ages[self.warm.size])

    @property
    def n_fit(self) -> int:
        """Return how often a model is fitted."""
        return int(np.unique(self.ages).size)


def plan_of(
    series: Series, horizon_s: int, every_s: int, at_s: int, until_s: int, refit_s: int, warm_s: int
) -> Plan:
    """Return the plan; raises DataError when no forecast of it could be judged."""
    if horizon_s % series.step_s or horizon_s < series.step_s:
        raise DataError(f"--horizon: {horizon_s} s is no multiple of the interval, {series.step_s} s")
    if every_s % series.step_s:
        raise DataError(f"--every: {every_s} s is no multiple of the interval, {series.step_s} s")
    n_lead = horizon_s // series.step_s
    try:
        rows = issue_rows(series.t_s, series.offset_s, series.step_s, at_s, every_s)
    except ValueError as error:
        raise DataError(f"--every: {error}") from error
    until = int(np.searchsorted(series.t_s, until_s))
    origins = rows[(rows >= until) & (rows + n_lead <= series.t_s.size)]
    if until == 0 or origins.size == 0:
        raise DataError(
            f"--train-until: before {local_words(until_s, series.zone)} there is nothing to learn from, or after it no "
            f"whole forecast to judge; the series reaches from {series.when(0)} to {series.when(series.t_s.size - 1)}"
        )
    # A third of the past at most: the first fits of the warm-up need something to learn from too.
    warm_rows = min(warm_s // series.step_s, until // 3)
    warm = rows[(rows < until) & (rows >= until - warm_rows)]
    return Plan(n_lead, until, warm, origins, max(1, refit_s // series.step_s), every_s, rows)

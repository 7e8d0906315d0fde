"""A model fitted anew on the way through a backtest, and asked: all that a model gets to see is decided here.

Settings are chosen twice, on what lies before the warm-up and on what lies before the test, and then stand. After that every
fit is a task of its own, so that several processes can share them; the result does not depend on their number.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamproc.core.ahead.vintages import Vintages
from streamproc.core.series.clean import stuck_from_start
from streamproc.core.series.history import History
from streamproc.core.series.model import Fitted, Recipe
from streamproc.errors import DataError
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.plan import Plan
from streamproc.values import F64, I64

FITS_SHARED = 16  # fewer: a process takes longer to start than they take


@dataclass(slots=True)
class Fits:
    """What happened while a recipe was fitted."""

    count: int = 0
    refused: list[str] = field(default_factory=list)
    chosen: Recipe | None = None  # as settled before the test


def middles(
    series: Series, recipe: Recipe, plan: Plan, step: Callable[[], None] = lambda: None, jobs: int = 1
) -> tuple[F64, Fits]:
    """Return the medians (n_warm + n_origin, n_lead) of a recipe, fitted anew on the way; NaN = it cannot say.

    `step` is called after each fit. With more than one job fits run in processes of their own.
    """
    out = np.full((plan.all_origins.size, plan.n_lead), np.nan)
    fits = Fits()
    shared = jobs > 1 and hasattr(recipe, "settle") and plan.n_fit >= FITS_SHARED
    answers = _in_processes(series, recipe, plan, jobs) if shared else _here(series, recipe, plan)
    for rows, told, refused, chosen in answers:
        out[rows] = told
        fits.count += not refused
        fits.refused += [refused] if refused else []
        fits.chosen = chosen
        step()
    return out, fits


_Answer = tuple[I64, F64, str, Recipe]  # rows of all origins, their medians, why not, the recipe as settled


def _here(series: Series, recipe: Recipe, plan: Plan) -> Iterator[_Answer]:
    chosen: Recipe | None = None
    for age in np.unique(plan.ages).tolist():
        if chosen is None or age == plan.test_age:
            chosen = settled(series, recipe, plan, _until(plan, age))
        yield answer_of(series, chosen, plan, age)


def _in_processes(series: Series, recipe: Recipe, plan: Plan, jobs: int) -> Iterator[_Answer]:
    ages = np.unique(plan.ages).tolist()
    choices = sorted({ages[0], plan.test_age})
    with mp.get_context("spawn").Pool(jobs, _begin, (series, plan)) as pool:
        chosen = pool.map(_settled, [(recipe, _until(plan, age)) for age in choices], chunksize=1)
        yield from pool.imap(_answered, [(chosen[0 if age < plan.test_age else -1], age) for age in ages])


_GROUND: list[tuple[Series, Plan]] = []  # of a process


def _begin(series: Series, plan: Plan) -> None:
    _GROUND[:] = [(series, plan)]


def _settled(parts: tuple[Recipe, int]) -> Recipe:
    series, plan = _GROUND[0]
    return settled(series, parts[0], plan, parts[1])


def _answered(parts: tuple[Recipe, int]) -> _Answer:
    series, plan = _GROUND[0]
    return answer_of(series, parts[0], plan, parts[1])


def _until(plan: Plan, age: int) -> int:
    return int(plan.all_origins[np.argmax(plan.ages == age)])


def answer_of(series: Series, chosen: Recipe, plan: Plan, age: int) -> _Answer:
    """Return the forecasts of the origins that use one fit."""
    origins, rows = plan.all_origins, np.flatnonzero(plan.ages == age)
    out = np.full((rows.size, plan.n_lead), np.nan)
    fitted, good = fitted_at(series, chosen, plan, int(origins[rows[0]]))
    if isinstance(fitted, str):
        return rows, out, fitted, chosen
    for call in calls(series, origins[rows]):
        out[call] = asked(series, fitted, good, origins[rows[call]], plan.n_lead)
    return rows, out, "", chosen


def history_of(
    series: Series, good: F64, known_until: int, n_lead: int, stop: int = 0, issues: I64 | None = None
) -> History:
    """Return what a model sees at an origin: `good` (n,) before `known_until`, and what is known ahead, before `stop`.

    `stop` 0: with the horizon. `issues`, for a fit: each interval as it was known at the last of them before it.
    """
    stop = stop or min(known_until + n_lead, good.size)
    value = good[:stop].copy()
    value[known_until:] = np.nan
    known, names = series.known[:stop], series.known_names
    if series.vintages is not None:
        told = _told(series, series.vintages, known_until, stop, issues)
        known, names = np.concatenate([known, told], axis=1), names + series.vintages.names
    return History(
        series.name,
        series.step_s,
        value,
        series.slot[:stop],
        series.day[:stop],
        series.holiday[:stop],
        known,
        names,
    )


def _told(series: Series, vintages: Vintages, now: int, stop: int, issues: I64 | None) -> F64:
    """Return what was known (stop, n_name) when interval `now` began."""
    now_s = int(series.t_s[now])
    if issues is None:
        return vintages.at(now_s, 0, stop)
    rows = np.arange(stop)
    last = np.searchsorted(issues, rows, side="right") - 1
    return vintages.issued(series.t_s[np.where(last >= 0, issues[last], rows)], now_s)


def settled(series: Series, recipe: Recipe, plan: Plan, until: int) -> Recipe:
    """Return the recipe with its settings chosen on the values before `until`, if it has any to choose."""
    settle = getattr(recipe, "settle", None)
    if settle is None:
        return recipe
    good = stuck_from_start(series.cleaned, series.raw, until)
    slots = np.unique(series.slot[plan.all_origins])
    try:
        seen = history_of(series, good, until, plan.n_lead, issues=plan.issues)
        chosen: Recipe = settle(seen, until, plan.n_lead, slots)
    except DataError:
        return recipe  # too little yet: its fit will say so, or choose by itself later
    return chosen


def fitted_at(series: Series, recipe: Recipe, plan: Plan, until: int) -> tuple[Fitted | str, F64]:
    """Return the model fitted on the values before `until`, or why it refuses, and the values (n,) it may see."""
    good = stuck_from_start(series.cleaned, series.raw, until)
    slots = np.unique(series.slot[plan.all_origins])
    try:
        seen = history_of(series, good, until, plan.n_lead, issues=plan.issues)
        fitted = recipe.fit(seen, until, plan.n_lead, slots)
    except DataError as error:
        return str(error), good
    return fitted, good


def calls(series: Series, origins: I64) -> Sequence[I64]:
    """Return the places of origins (n,) that share a call: those of one local day at which the same was known ahead."""
    turns = np.diff(series.day[origins]) != 0
    if series.vintages is not None:
        turns |= np.diff(series.vintages.counts(series.t_s[origins])) != 0
    return np.split(np.arange(origins.size), np.flatnonzero(turns) + 1)


def asked(series: Series, fitted: Fitted, good: F64, origins: I64, n_lead: int, stop: int = 0) -> F64:
    """Return the medians (n_origin, n_lead) of origins that share a call; `stop` as in `history_of`."""
    return fitted.predict(history_of(series, good, int(origins[-1]), n_lead, stop), origins, n_lead)

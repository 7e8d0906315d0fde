"""The rolling backtest: at every origin only what was known then, refitted on the way, bands from past errors.

    train-until ──┐
    ..............│o────────>                     a forecast of `n_lead` intervals at each origin o
    ....... fit ──┘       o────────>              fitted anew every `refit` on all values before
       o───> o───> warm-up: forecasts before the test, by the same rule; only their errors are used, for the bands

Nothing rests on the good behaviour of a model. It is handed a history whose values end at the origin (NaN from there) and
whose other columns end with the horizon. Origins of one day share a call, with the values up to the last of them; where
there is one origin a day every call ends at its own. `audit` asks some origins again, each alone, and compares.

What was known ahead of time is taken from its column at the time of the interval, as if it had been known all along,
to the horizon of the last origin of the day. For a measured temperature that is an upper bound, and the result says so.
Where a file says since when each value was known (`Series.vintages`) an origin sees the newest that was known by then; a
fit sees of each interval what was known at the last origin before it, or, where nothing was, at the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.quantiles import LEVELS, MEDIAN
from streamproc.core.series import bands, clean
from streamproc.core.series.calendar import DAY_S
from streamproc.core.series.clean import stuck_from_start
from streamproc.core.series.model import Recipe
from streamproc.evaluation.series.baselines import baseline, fall_back
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.refits import asked, calls, fitted_at, middles
from streamproc.evaluation.series.result import Leak
from streamproc.values import F64, I64, Bool

FEW_A_DAY = 4  # origins a day up to which pools are sorted anew at each
SMOOTH_S = 5400  # of a band, on each side
AUDITED_FITS, AUDITED_ORIGINS = 5, 4  # fits that are repeated, and origins of each that are asked again
AUDIT_TOLERANCE = (
    1e-9  # of the largest forecast: a product of matrices may round by its shape, and by nothing else
)


@dataclass(frozen=True, slots=True)
class Told:
    """All forecasts of one method."""

    name: str
    quantiles: F64  # (n_origin, 7, n_lead), of the test's origins
    replaced: Bool  # (n_origin, n_lead), where the fallback spoke
    chosen: Recipe | None = None  # as settled before the test; None: a baseline
    fits: int = 0
    notes: tuple[str, ...] = ()


def with_bands(series: Series, plan: Plan, middle: F64) -> F64:
    """Return the quantiles (n_origin, 7, n_lead) of the test's origins around the medians of all origins."""
    origins, n_lead = plan.all_origins, plan.n_lead
    a_day = DAY_S / plan.every_s
    rules = bands.rules_for(n_lead, series.step_s, a_day)
    state = bands.BandState.fresh(rules)
    smooth = SMOOTH_S // series.step_s
    good = series.cleaned.good  # a wild value of a meter must not widen the bands for weeks
    bucket = bands.lead_buckets(n_lead, series.step_s)
    told = np.full((origins.size, len(LEVELS), n_lead), np.nan)
    lead = np.arange(n_lead)
    key = bands.keys_of(bucket, series.slot[origins[:, None] + lead], series.step_s)  # (n_all, n_lead)
    before = int(origins[0])
    for number, origin in enumerate(origins.tolist()):
        passed = _passed(origins[:number], before, origin, n_lead)
        bands.learn(
            state,
            rules,
            good[origins[passed[0]] + passed[1]],
            told[passed[0], :, passed[1]].T,
            key[passed],
        )
        if a_day <= FEW_A_DAY or series.day[origin] != series.day[before]:
            bands.refresh(state)
        told[number] = bands.quantiles(state, middle[number], key[number], smooth)
        before = origin
    return told[plan.warm.size :]


def _passed(origins: I64, before: int, now: int, n_lead: int) -> tuple[I64, I64]:
    """Return the forecasts (number, lead) whose interval ended after `before` and by `now`."""
    first = int(np.searchsorted(origins, before - n_lead))
    lead = np.arange(before, now)[None, :] - origins[first:, None]  # (n_forecast, n_interval)
    number, place = np.nonzero((lead >= 0) & (lead < n_lead))
    return number + first, lead[number, place]


def told_by(
    series: Series, recipe: Recipe, plan: Plan, step: Callable[[], None] = lambda: None, jobs: int = 1
) -> Told:
    """Return the forecasts of a recipe over the whole plan."""
    middle, fits = middles(series, recipe, plan, step, jobs)
    middle, replaced = fall_back(middle, series, plan.all_origins)
    notes = [*_weights(recipe.name, fits.chosen)]
    if fits.refused:
        tried = len(fits.refused) + fits.count
        notes.append(f"{recipe.name}: {len(fits.refused)} of {tried} fits were refused: {fits.refused[-1]}")
    quantiles = with_bands(series, plan, middle)
    return Told(recipe.name, quantiles, replaced[plan.warm.size :], fits.chosen, fits.count, tuple(notes))


def audit(series: Series, plan: Plan, told: Told, seed: int) -> Leak:
    """Return how many of some origins' medians move when all that came later is taken out of the series itself.

    The series is cut off behind the origin before anything else happens: cleaning, fit and forecast begin anew. The
    settings are those chosen before the test.
    """
    age = plan.ages[plan.warm.size :]
    draws = np.random.default_rng(seed)
    count, moved = 0, 0
    assert told.chosen is not None
    for group in np.sort(draws.permutation(np.unique(age))[:AUDITED_FITS]).tolist():
        rows = np.flatnonzero(age == group)
        until = int(plan.origins[rows[0]])
        fitted, _ = fitted_at(cut(series, until), told.chosen, plan, until)
        for number in np.sort(draws.permutation(rows)[:AUDITED_ORIGINS]).tolist():
            origin = plan.origins[number : number + 1]
            past = cut(series, int(origin[0]))
            # A column that is known ahead is left as it was: to the horizon of the last origin of the same call.
            alike = next(rows[call] for call in calls(series, plan.origins[rows]) if number in rows[call])
            stop = int(plan.origins[alike[-1]]) + plan.n_lead
            said = np.full((1, plan.n_lead), np.nan)
            if not isinstance(fitted, str):
                good = stuck_from_start(past.cleaned, past.raw, until)
                said = asked(past, fitted, good, origin, plan.n_lead, stop)
            now, before = fall_back(said, past, origin)[0][0], told.quantiles[number, MEDIAN]
            room = AUDIT_TOLERANCE * float(np.nanmax(np.abs(before), initial=0.0))
            count += 1
            moved += not np.allclose(now, before, rtol=0.0, atol=room, equal_nan=True)
    return Leak(count, moved)


def cut(series: Series, origin: int) -> Series:
    """Return the series as it stood at an origin: no value from there on, and nothing that was known ahead later."""
    raw = series.raw.copy()
    raw[origin:] = np.nan
    cleaned = clean.clean(raw, series.day, series.steps_per_day)
    told = None if series.vintages is None else series.vintages.until(int(series.t_s[origin]))
    return replace(series, raw=raw, truth=cleaned.value, cleaned=cleaned, vintages=told)


def _weights(name: str, chosen: Recipe | None) -> list[str]:
    """Return of what a blend is made, if it is one."""
    members, weight = getattr(chosen, "members", None), getattr(chosen, "weight", None)
    if not members or weight is None:
        return []
    share = weight.mean(axis=1).tolist()
    parts = [f"{one.name} {part:.2f}" for one, part in zip(members, share, strict=True) if part >= 0.005]
    return [f"{name}: weights learnt before the test, mean over the leads: {', '.join(parts)}"]


def told_by_baseline(series: Series, name: str, plan: Plan) -> Told:
    """Return the forecasts of a baseline, with bands by the same rule."""
    middle = baseline(name, series, plan.all_origins, plan.n_lead)
    quantiles = with_bands(series, plan, middle)
    return Told(name, quantiles, np.zeros((plan.origins.size, plan.n_lead), np.bool_))

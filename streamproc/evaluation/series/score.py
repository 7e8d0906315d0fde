"""From forecasts to figures: every method on the same rows, as a whole and by lead, hour and season.

Scored is every row of every test forecast whose truth is known (`Series.truth`: missing and contradicted values are not).
A row may be scored several times, at different leads. Methods never miss rows: where one says nothing its fallback does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core.quantiles import LEVELS, MEDIAN
from streamproc.core.series import measures as m
from streamproc.core.series.bands import EDGES_S
from streamproc.core.series.calendar import local_lag, season_of
from streamproc.core.series.clean import FINE
from streamproc.evaluation.series.durations import short_of
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.protocol import Told
from streamproc.evaluation.series.result import Daily, Edge, Example, Figures, Method, Part, Rolling
from streamproc.evaluation.series.zone import day_words
from streamproc.values import F64, I64, Bool

SEASONS = ("Dec to Feb", "Mar to May", "Jun to Aug", "Sep to Nov")
HOURS = 3  # of a group of hours


@dataclass(frozen=True, slots=True)
class Ground:
    """What all methods are measured on; arrays are (n_row,), one row per origin and lead."""

    truth: F64
    day: I64  # local, of the interval
    lead: I64
    hour: I64
    season: I64
    suspect: Bool
    span: float
    scale: float  # of MASE
    seed: int
    step_s: int


@dataclass(frozen=True, slots=True)
class Losses:
    """What one method loses on the rows; all (n_row,), NaN where it or the truth is unknown."""

    error: F64  # forecast minus truth
    pinball: F64
    inside: F64
    winkler: F64


def ground_of(series: Series, plan: Plan, seed: int) -> Ground:
    """Return the rows that are scored."""
    target = plan.origins[:, None] + np.arange(plan.n_lead)
    truth = series.truth[target].ravel()
    day = series.day[target].ravel()
    lag = local_lag(series.offset_s, series.step_s, series.steps_per_day)
    lagged = np.where(lag >= 0, series.truth[np.maximum(lag, 0)], np.nan)
    past = np.arange(series.truth.size) < plan.until
    return Ground(
        truth,
        day,
        np.tile(np.arange(plan.n_lead), plan.origins.size),
        series.slot[target].ravel() * series.step_s // 3600,
        season_of(day),
        (series.cleaned.verdict[target] != FINE).ravel(),
        m.span_of(truth),
        m.scaling_error(series.truth, lagged, past),
        seed,
        series.step_s,
    )


def losses_of(ground: Ground, told: Told) -> Losses:
    """Return what a method loses on each row."""
    quantiles = told.quantiles.transpose(1, 0, 2).reshape(len(LEVELS), -1)
    low, high = quantiles[0], quantiles[-1]
    return Losses(
        quantiles[MEDIAN] - ground.truth,
        m.pinball(ground.truth, quantiles, LEVELS),
        m.within(ground.truth, low, high),
        m.winkler(ground.truth, low, high),
    )


def method_of(ground: Ground, told: Told, bases: dict[str, Losses]) -> Method:
    """Return all figures of a method; `bases` are the losses of the baselines."""
    losses = losses_of(ground, told)
    last_day, share = m.rolling_share(losses.inside, ground.day)
    worst = int(np.argmin(share)) if share.size else -1
    return Method(
        told.name,
        told.name in bases,
        told.fits,
        int(told.replaced.sum()),
        figures_of(ground, losses, np.ones(ground.truth.size, np.bool_)),
        plain(float(share[worst])) if share.size else None,
        day_words(int(last_day[worst])) if share.size else None,
        plain(m.mean_of(np.abs(losses.error[~ground.suspect]))),
        {name: edge_of(ground, losses, base) for name, base in bases.items() if name != told.name},
        _parts(ground, losses, *_leads(ground)),
        _parts(
            ground, losses, ground.hour // HOURS, [f"{h:02d}-{h + HOURS:02d} h" for h in range(0, 24, HOURS)]
        ),
        _parts(ground, losses, ground.season, SEASONS),
        Rolling([day_words(day) for day in last_day.tolist()], np.round(share, 5).tolist()),
        daily_of(ground, losses),
    )


def figures_of(ground: Ground, losses: Losses, rows: Bool) -> Figures:
    """Return the figures over some rows; what is relative is so to the whole test."""
    error, truth = losses.error[rows], ground.truth[rows]
    mae, pinball = m.mean_of(np.abs(error)), m.mean_of(losses.pinball[rows])
    percent, left_out = m.mape(truth, error)
    return Figures(
        int(np.isfinite(error).sum()),
        plain(mae),
        plain(m.rmse(error)),
        plain(percent),
        plain(left_out),
        plain(mae / ground.span),
        plain(mae / ground.scale),
        plain(m.mean_of(error)),
        plain(pinball),
        plain(pinball / ground.span),
        plain(m.mean_of(losses.inside[rows])),
        plain(m.mean_of(losses.winkler[rows])),
    )


def edge_of(ground: Ground, losses: Losses, base: Losses) -> Edge:
    """Return the skill over a baseline and the difference to it, with intervals, on the rows that both have."""
    ours, theirs = np.abs(losses.error), np.abs(base.error)
    both = np.isfinite(ours + theirs)
    day = ground.day[both]
    _, top, count = m.daily_sums(ours[both], day)
    _, bottom, _ = m.daily_sums(theirs[both], day)
    low, high = m.bootstrap_ratio(top, bottom, ground.seed)
    less, more = m.bootstrap_ratio(top - bottom, count, ground.seed)
    return Edge(
        plain(m.skill(float(top.sum()), float(bottom.sum()))),
        plain(1.0 - high),
        plain(1.0 - low),
        plain(float((top - bottom).sum() / count.sum())) if count.sum() else None,
        plain(less),
        plain(more),
    )


def daily_of(ground: Ground, losses: Losses) -> Daily:
    """Return the sums per local day."""
    days, sums, count = m.daily_sums(np.abs(losses.error), ground.day)
    known = np.isfinite(losses.error)
    pinball = np.bincount(
        np.searchsorted(days, ground.day[known]), np.nan_to_num(losses.pinball[known]), days.size
    )
    return Daily(
        [day_words(day) for day in days.tolist()],
        count.astype(np.int64).tolist(),
        sums.tolist(),
        pinball.tolist(),
    )


def _leads(ground: Ground) -> tuple[I64, Sequence[str]]:
    """Return the bucket of each row by the time from the origin to the end of the interval, and their names."""
    bucket = np.searchsorted(np.array(EDGES_S), (ground.lead + 1) * ground.step_s)
    names = [f"to {short_of(edge)}" for edge in EDGES_S] + [f"over {short_of(EDGES_S[-1])}"]
    return bucket, names


def _parts(ground: Ground, losses: Losses, group: I64, names: Sequence[str]) -> list[Part]:
    present = np.unique(group).tolist()
    return [Part(names[one], figures_of(ground, losses, group == one)) for one in present]


def examples_of(series: Series, plan: Plan, told: Told, naive: Told) -> list[Example]:
    """Return the forecasts that a reader should see: typical, good, and the worst ones."""
    target = plan.origins[:, None] + np.arange(plan.n_lead)
    error = np.abs(told.quantiles[:, MEDIAN] - series.truth[target])
    known = np.isfinite(error)
    mae = np.where(
        known.mean(axis=1) > 0.5, np.nansum(error, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan
    )
    order = np.argsort(mae)[: int(np.isfinite(mae).sum())]
    # Forecasts that overlap show the same day: of those only the worst.
    worst: list[int] = []
    for number in order[::-1].tolist():
        if all(abs(int(plan.origins[number] - plan.origins[w])) >= plan.n_lead for w in worst):
            worst.append(number)
        if len(worst) == 3:
            break
    chosen = (
        [
            (order[order.size // 2], "typical (median error)"),
            (order[order.size // 10], "good (one in ten is better)"),
        ]
        if order.size
        else []
    )
    chosen.append((order[order.size * 9 // 10], "bad (one in ten is worse)")) if order.size else None
    chosen += [
        (number, f"the {'' if place == 0 else ('second ', 'third ')[place - 1]}worst")
        for place, number in enumerate(worst)
    ]
    return [
        _example(series, plan, told, naive, int(number), words, float(mae[number]))
        for number, words in chosen
    ]


def _example(
    series: Series, plan: Plan, told: Told, naive: Told, number: int, words: str, mae: float
) -> Example:
    origin = int(plan.origins[number])
    ahead = slice(origin, origin + plan.n_lead)
    back = slice(max(0, origin - plan.n_lead), origin)
    return Example(
        words,
        told.name,
        series.when(origin),
        series.step_s,
        listed(series.truth[back]),
        listed(series.truth[ahead]),
        [listed(row) for row in told.quantiles[number]],
        listed(naive.quantiles[number, MEDIAN]),
        plain(mae),
    )


def plain(value: float) -> float | None:
    """Return a figure for JSON: null where it has no meaning."""
    return float(value) if np.isfinite(value) else None


def listed(values: F64) -> list[float | None]:
    """Return values for JSON, to seven digits."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]

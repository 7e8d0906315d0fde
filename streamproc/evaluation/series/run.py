"""One backtest from file to result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamproc.core.series.calendar import DAY_S
from streamproc.core.series.model import Recipe
from streamproc.errors import DataError
from streamproc.evaluation.series.baselines import BASELINES, NAIVE_7D
from streamproc.evaluation.series.durations import clock_of, seconds_of, words_of
from streamproc.evaluation.series.grid import Finding, Series, series_of
from streamproc.evaluation.series.known_ahead import gaps_ahead, with_known
from streamproc.evaluation.series.known_file import read_known
from streamproc.evaluation.series.plan import Plan, plan_of
from streamproc.evaluation.series.protocol import Told, audit, told_by, told_by_baseline
from streamproc.evaluation.series.read import Wanted, read_rows
from streamproc.evaluation.series.result import FORMAT, Asked, Leak, Result
from streamproc.evaluation.series.score import examples_of, ground_of, losses_of, method_of, plain
from streamproc.evaluation.series.zone import moment_of, zone_of

WARM_UP = "P56D"
TRAIN_SHARE = 0.75  # of the series, when nobody says until when to train
SHORT_DAYS = 28  # less history than this is said
LEAST_DAYS = 30  # fewer test days: no worst 30 days


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as the command line has it."""

    path: Path
    wanted: Wanted
    zone: str
    horizon: str
    every: str
    at: str
    train_until: str | None
    refit: str
    unit: str = ""
    holidays: str | None = None
    step: str | None = None
    seed: int = 1
    known_file: Path | None = None  # of what was known ahead, and since when


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how it goes."""

    begins: Callable[[str, int], None] = lambda _words, _total: None
    done: Callable[[], None] = lambda: None
    keeps: Callable[[Series, Plan, Sequence[Told]], None] = lambda _series, _plan, _told: (
        None
    )  # all forecasts


def evaluate(question: Question, recipes: Sequence[Recipe], listener: Listener, jobs: int = 1) -> Result:
    """Return the result of a backtest; raises DataError."""
    series, plan = prepare(question)
    bases = [told_by_baseline(series, name, plan) for name in BASELINES]
    told: list[Told] = []
    leaks: dict[str, Leak] = {}
    for recipe in recipes:
        listener.begins(recipe.name, plan.n_fit)
        one = told_by(series, recipe, plan, listener.done, jobs)
        leaks[one.name] = audit(series, plan, one, question.seed)
        told.append(one)
    listener.keeps(series, plan, [*told, *bases])
    return result_of(question, series, plan, told, bases, leaks)


def prepare(question: Question) -> tuple[Series, Plan]:
    """Return the series and the plan of a question; raises DataError."""
    zone = zone_of(question.zone)
    step_s = seconds_of(question.step, "--step") if question.step else None
    if step_s is not None and DAY_S % step_s:
        raise DataError(f"--step {question.step!r} does not divide a day; write PT15M, PT30M or PT1H")
    rows = read_rows(question.path, question.wanted)
    series = series_of(rows, question.wanted, zone, question.holidays, step_s)
    if question.known_file is not None:
        series = with_known(series, read_known(question.known_file, zone))
    if question.train_until is None:
        middle = int(series.t_s[int(TRAIN_SHARE * series.t_s.size)])
        until_s = middle - (middle + int(series.offset_s[-1])) % 86_400
    else:
        until_s = moment_of(question.train_until, zone, "--train-until")
    plan = plan_of(
        series,
        seconds_of(question.horizon, "--horizon"),
        seconds_of(question.every, "--every"),
        clock_of(question.at),
        until_s,
        seconds_of(question.refit, "--refit"),
        seconds_of(WARM_UP, "--warm-up"),
    )
    return series, plan


def result_of(
    question: Question,
    series: Series,
    plan: Plan,
    told: Sequence[Told],
    bases: Sequence[Told],
    leaks: dict[str, Leak],
) -> Result:
    """Return all figures."""
    ground = ground_of(series, plan, question.seed)
    losses = {base.name: losses_of(ground, base) for base in bases}
    naive = next(base for base in bases if base.name == NAIVE_7D)
    return Result(
        FORMAT,
        asked_of(question, series, plan),
        [*series.findings, *_findings(series, plan, told), *gaps_ahead(series, plan)],
        notes_of(question, series, plan, told),
        plain(ground.span),
        plain(ground.scale),
        leaks,
        [method_of(ground, one, losses) for one in (*told, *bases)],
        [example for one in told[:1] for example in examples_of(series, plan, one, naive)],
    )


def asked_of(question: Question, series: Series, plan: Plan) -> Asked:
    """Return the protocol as it was carried out."""
    return Asked(
        question.path.name,
        series.digest,
        question.wanted.time,
        question.wanted.target,
        list(question.wanted.known),
        question.holidays or (f"column {question.wanted.holiday}" if question.wanted.holiday else None),
        series.zone.key,
        question.unit,
        words_of(series.step_s),
        words_of(plan.n_lead * series.step_s),
        words_of(plan.every_s),
        question.at,
        series.when(plan.until),
        question.refit,
        series.when(0),
        series.when(series.t_s.size - 1),
        series.when(int(plan.origins[0])),
        series.when(int(plan.origins[-1])),
        plan.origins.size,
        plan.warm.size,
        question.seed,
        None if series.vintages is None else list(series.vintages.names),
    )


def notes_of(question: Question, series: Series, plan: Plan, told: Sequence[Told]) -> list[str]:
    """Return what a reader of the figures must know."""
    first, last = (series.when(int(plan.origins[place])) for place in (0, -1))
    notes = [
        f"{plan.origins.size} forecasts of {words_of(plan.n_lead * series.step_s)}, issued from {first} to {last}, "
        "each from values before its origin only",
        f"fitted anew every {question.refit} on all values before; settings chosen before the test",
        f"bands from the errors of past forecasts, first of {plan.warm.size} issued before the test",
        "scored: every interval with a known value, also those that look stuck or like an outage (see quality)",
    ]
    if question.wanted.known:
        names = ", ".join(question.wanted.known)
        notes.append(f"taken as known ahead: {names}; an upper bound unless these are forecasts")
    if question.known_file is not None and series.vintages is not None:
        names = ", ".join(series.vintages.names)
        notes.append(
            f"known ahead from {question.known_file.name}, at each origin the newest value known by then: {names}; fitted "
            "on what was known at the origin before each interval, where nothing was on what was known at the fit"
        )
    return notes + [note for one in told for note in one.notes]


def _left_range(series: Series, plan: Plan) -> list[Finding]:
    """Return in which columns the test leaves the range of what was learnt from before it."""
    found = []
    columns = [(series.name, series.cleaned.good), *zip(series.known_names, series.known.T, strict=True)]
    for name, column in columns:
        past, later = column[: plan.until], column[plan.until :]
        if not np.isfinite(past).any():
            continue
        low, high = float(np.nanmin(past)), float(np.nanmax(past))
        beyond = (later < low) | (later > high)
        if beyond.any():
            words = f"values of {name!r} in the test outside of those before it ({low:g} to {high:g}): {int(beyond.sum())}"
            first = series.when(plan.until + int(np.argmax(beyond)))
            found.append(Finding("outside_training", int(beyond.sum()), words, first))
    return found


def _findings(series: Series, plan: Plan, told: Sequence[Told]) -> list[Finding]:
    found = _left_range(series, plan)
    days = plan.until / series.steps_per_day
    if days < SHORT_DAYS:
        words = f"only {days:.1f} days of history before the test; {SHORT_DAYS} and more are good"
        found.append(Finding("short_history", int(days), words, series.when(0)))
    for one in told:
        count = int(one.replaced.sum())
        if count:
            share = count / one.replaced.size
            words = (
                f"{one.name} could not say {share:.1%} of the rows: seasonal naive or the last value stood in"
            )
            first = int(plan.origins[int(np.argmax(one.replaced.any(axis=1)))])
            found.append(Finding("fallback", count, words, series.when(first)))
    tested = np.unique(series.day[plan.origins]).size
    if tested < LEAST_DAYS:
        found.append(
            Finding("short_test", tested, f"{tested} days are tested: no worst 30 days, wide intervals")
        )
    return found

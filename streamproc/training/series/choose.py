"""Choosing the group weights, the ridge and the forgetting of a day-ahead model on its past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamproc.core.series.rows import DayRows
from streamproc.training.series.day import (
    CURVE_START,
    DECAYS_DAYS,
    DEFAULT,
    TUNED,
    Sample,
    Settings,
    forget,
    gram,
    left_out,
    row_weights,
    standard,
)
from streamproc.values import F64, I64

ROWS_MAX = 731  # for choosing: weights of groups do not need more
STEPS = (0.5, 2.0)
PASSES = 2
GAIN_MIN = 0.001  # of the error: less is noise
FORGET_GAIN_MIN = 0.02  # a third of a year is one season: forgetting the others must pay clearly
FOLDS = 6  # of the rolling validation
FOLD_SHARE = 1 / 3  # of the rows, at their end


def choose(made: Sample, *, curved: bool = False) -> Settings:
    """Return settings chosen on the sample: weights by left-out blocks, then forgetting by rolling validation."""
    made = newest_rows(made, ROWS_MAX)
    weights = dict(DEFAULT, curve=CURVE_START if curved else 0.0)
    used = _used(made)
    trust = _start_trust(made, weights)
    best = _block_error(made, weights, trust)
    for _ in range(PASSES):
        before = best
        for name in [*used, "ridge", *(["curve"] if curved else [])]:
            for step in STEPS:
                tried = {**weights, name: weights[name] * step}
                error = _block_error(made, tried, trust)
                if error < best * (1.0 - GAIN_MIN):
                    best, weights = error, tried
                    break
        if best > before * (1.0 - GAIN_MIN):
            break
    settings = Settings(
        {**weights, **{name: 0.0 for name in DEFAULT if name not in [*used, "ridge", "curve"]}}
    )
    errors = np.array([_rolling_error(made, replace(settings, decay_days=decay)) for decay in DECAYS_DAYS])
    errors[1:] *= 1.0 + FORGET_GAIN_MIN
    return replace(settings, decay_days=DECAYS_DAYS[int(np.argmin(errors))])


def _used(made: Sample) -> list[str]:
    tied = {group: name for name, groups in TUNED.items() for group in groups}
    return list(
        dict.fromkeys(
            tied.get(name, name)
            for name, group in made.rows.groups.items()
            if group.size and group.std() > 0.0
        )
    )


def _start_trust(made: Sample, weights: dict[str, float]) -> F64:
    kernel = gram(made.rows, standard(made.rows, weights), weights["curve"])
    return row_weights(kernel, weights["ridge"], made.trust, made.target)


def _block_error(made: Sample, weights: dict[str, float], trust: F64) -> float:
    kernel = gram(made.rows, standard(made.rows, weights), weights["curve"])
    error = left_out(kernel, weights["ridge"] / trust, made.target)[:, : made.plan.n_lead]
    return float(np.abs(error).mean())


def _rolling_error(made: Sample, settings: Settings) -> float:
    """Return the mean absolute error over the last rows, each fold forecast from the rows before it."""
    n_row = len(made.target)
    edges = np.linspace(n_row * (1.0 - FOLD_SHARE), n_row, FOLDS + 1).astype(int)
    kernel = gram(made.rows, standard(made.rows, settings.weights), settings.weights["curve"])
    total = 0.0
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        age = forget(made.place[:begin], made.plan.steps_per_day, settings.decay_days)
        seen, target = kernel[:begin, :begin], made.target[:begin]
        trust = row_weights(seen, settings.weights["ridge"], made.trust[:begin] * age, target)
        dual = np.linalg.solve(seen + np.diag(settings.weights["ridge"] / trust), target)
        total += float(
            np.abs(kernel[begin:end, :begin] @ dual - made.target[begin:end])[:, : made.plan.n_lead].sum()
        )
    return total


def newest_rows(made: Sample, n_row: int) -> Sample:
    """Return the newest rows of a sample."""
    return take_rows(made, np.arange(len(made.place))[-n_row:])


def take_rows(made: Sample, at: I64) -> Sample:
    """Return some rows of a sample."""
    groups = {name: group[at] for name, group in made.rows.groups.items()}
    rows = DayRows(groups, made.rows.level[at], made.rows.gaps[at], made.rows.blind[at])
    return Sample(made.plan, rows, made.target[at], made.place[at], made.trust[at])

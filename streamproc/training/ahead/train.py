"""A fleet into a trained 48-hour model: rows, fit, and its variant without what is known ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamproc.core.ahead.bands import JUDGED
from streamproc.core.ahead.days import STEP_S
from streamproc.core.ahead.model import KNOTS
from streamproc.core.quantiles import LEVELS
from streamproc.core.series.measures import pinball
from streamproc.training.ahead.bundle import Trained, shape_of_fit
from streamproc.training.ahead.fit import Fit, fit
from streamproc.training.ahead.fleets import known_scale
from streamproc.training.ahead.samples import Fleet, Samples, issues_of, samples
from streamproc.values import F64

ROWS_MAX = 5000  # issues times series
WORDS = ("PT15M", "PT1H", "PT4H", "PT12H", "PT24H", "PT48H")  # of JUDGED


def train(
    fleet: Fleet,
    seed: int = 1,
    n_max: int = ROWS_MAX,
    step: Callable[[str], None] = lambda _: None,
    *,
    trees: bool = False,
) -> tuple[Trained, Samples]:
    """Return the trained model and the rows that it was made from; raises DataError when the past is too short.

    `fleet.known` is in units of the columns; the model scales it.
    """
    until = fleet.value.shape[1]
    scaled, mean, size = _scaled(fleet, until)
    issues = issues_of(scaled, 0, until, n_max)
    step("rows")
    made = samples(scaled, issues)
    step("fit")
    full = fit(made, len(fleet.names), seed, trees=trees)
    plain = full
    if fleet.known_names:
        step("fit without known ahead")
        bare = replace(scaled, known=scaled.known[:0], known_names=(), vintages=None)
        plain = fit(samples(bare, issues), len(fleet.names), seed, trees=trees)
    step("done")
    return Trained(scaled, full, plain, shape_of_fit(made, full, fleet.start), mean, size), made


def _scaled(fleet: Fleet, until: int) -> tuple[Fleet, F64, F64]:
    """Return the fleet with what is known ahead in spreads, and mean and size (n_known,) of it."""
    mean, size = known_scale(fleet.known, until)
    scaled = replace(fleet, known=(fleet.known - mean[:, None]) / size[:, None])
    if fleet.vintages is None:
        return scaled, mean, size
    newest = fleet.vintages.at((fleet.start + until) * STEP_S, 0, until).T
    other_mean, other_size = known_scale(newest, until)
    scaled = replace(scaled, vintages=fleet.vintages.scaled(other_mean, other_size))
    return scaled, np.concatenate([mean, other_mean]), np.concatenate([size, other_size])


def figures(trained: Trained, made: Samples) -> dict[str, dict[str, float]]:
    """Return figures of the held-out folds by horizon: errors in per unit of the spread, and skill.

    What a past too short for folds cannot tell is left out.
    """
    fit_ = trained.full
    part = made.take(fit_.held)
    out: dict[str, dict[str, float]] = {}
    for words, lead in zip(WORDS, JUDGED, strict=True):
        knot = KNOTS.index(lead)
        mae = _mean(np.abs(fit_.error[:, knot]))
        truth = part.truth[:, knot].astype(np.float64)
        bases = {
            name: _mean(np.abs(truth - part.fallback[row, :, knot]))
            for name, row in (("persistence", 0), ("seasonal_1d", 1), ("seasonal_7d", 2))
        }
        skills = {f"skill_{name}": round(1.0 - mae / base, 4) for name, base in bases.items() if base > 0.0}
        of = {"mae_spreads": round(mae, 5)} | skills
        of["pinball_spreads"] = round(_pinball(trained, fit_, words, truth, knot), 5)
        out[words] = {name: value for name, value in of.items() if np.isfinite(value)}
    return out


def _pinball(trained: Trained, fit_: Fit, words: str, truth: F64, knot: int) -> float:
    judged = WORDS.index(words)
    scale = float(trained.shape.scale[judged].mean())
    place = (np.arange(trained.shape.quantile.shape[1]) + 0.5) / trained.shape.quantile.shape[1]
    offset = scale * np.interp(LEVELS, place, trained.shape.quantile[judged])
    middle = truth - fit_.error[:, knot]
    known = np.isfinite(middle)
    return (
        float(pinball(truth[known], middle[known] + offset[:, None], LEVELS).mean())
        if known.any()
        else np.nan
    )


def _mean(values: F64) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")

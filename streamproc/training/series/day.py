"""Fitting the day-ahead model: kernel ridge in closed form, its group weights chosen on the past by block cross-validation.

    K = 10 + sum over groups of w_g^2 X_g X_g' [+ c exp(-gamma d^2)]     (n_row, n_row), one row per past origin
    A = (K + lambda diag(1 / s))^-1 Y                                    one solve for all leads
    W = phi' A,  bias = 10 sum A

Rows are days, so there are few: a year is 365, and the solve takes milliseconds however many columns there are. `s` is
the weight of a row: recent days count more where the history drifts, and days that the model misses when they are left
out (in a block with their neighbours) count less, because the median is wanted and squares let a heat wave own the fit.

The left-out error of a block B comes from the one solve, `(M^-1)_BB^-1 A_B` with M the bracket above, so that trying a
weight costs one inverse. Rolling validation on the last third then chooses how fast the past is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import CLIP, Curve, DayPart, Standard
from streamproc.core.series.local_axis import local_axis, places
from streamproc.core.series.rows import LAG_DAYS, DayPlan, DayRows, day_rows
from streamproc.errors import DataError
from streamproc.values import F64, I64

BIAS = 10.0  # variance of the constant, on the scale of the model: as good as free
ROWS_MAX = 1096  # three years of days
ROWS_MIN = 14
BLOCK_ROWS = 14  # left out together: neighbouring rows share most of their lags
KNOWN_MIN = 0.8  # share of a target row that must be measured
QUIET_RATIO = 0.45  # a row's error counts as at least this share of the median error
DECAYS_DAYS = (None, 300.0, 120.0, 60.0)
TUNED = {
    "near_season": ("near_cos", "near_sin"),
    "ahead_season": ("ahead_cos", "ahead_sin"),
}  # groups that share one weight
LAGS = ("lag", "near", "near_cos", "near_sin")
KNOWN = ("ahead", "before", "ahead_cos", "ahead_sin", "ahead_off", "extreme")
WIDE = LAGS + KNOWN  # their weight is of the group, not of each column
DEFAULT: Mapping[str, float] = {
    "lag": 0.5, "near": 3.0, "near_season": 1.0, "pair": 1.0, "pair_later": 0.5, "festive": 1.0, "season": 0.1,
    "season_off": 0.3, "ahead": 1.5, "before": 1.0, "ahead_season": 0.5, "ahead_off": 0.5, "extreme": 1.0,
    "ridge": 0.3, "curve": 0.0,
}  # fmt: skip
# Weights inside the radial part: near in weather, season and kind of day; without weather, near in what was yesterday.
CURVE_KNOWN: Mapping[str, float] = {"ahead": 3.0, "before": 1.0, "extreme": 1.0, "season": 0.5, "pair": 0.5}
CURVE_LAGS: Mapping[str, float] = {"near": 3.0, "lag": 0.5, "season": 0.5, "pair": 0.5}
CURVE_START = 0.5
CURVE_RANGE = 0.4  # per median squared length of the rows


@dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen on the past and stays for refits."""

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT))
    decay_days: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Training rows of one slot."""

    plan: DayPlan
    rows: DayRows
    target: F64  # (n_row, n_place), on the scale, minus the level
    place: I64  # (n_row,)
    trust: F64  # (n_row,), 0..1: share of measured values


def past_only(history: History, until: int) -> History:
    """Return the history with everything from `until` on unknown; calendar and known-ahead columns stay."""
    value = history.value.copy()
    value[until:] = np.nan
    return replace(history, value=value)


def sample(history: History, until: int, plan: DayPlan) -> Sample:
    """Return the rows of every past day at the plan's slot whose leads all lie before `until`."""
    past = past_only(history, until)
    axis = local_axis(past, plan.scale.forward(past.value))
    end = int(places(history)[until - 1]) + 1
    begin = int(np.argmax(axis.known)) + LAG_DAYS * plan.steps_per_day
    first = begin + (plan.slot - begin) % plan.steps_per_day
    place = np.arange(first, end - plan.n_lead + 1, plan.steps_per_day)[-ROWS_MAX:]
    if len(place) < ROWS_MIN:
        raise DataError(
            f"{history.name}: {max(len(place), 0)} past days to learn from, {ROWS_MIN} are needed"
            f" after {LAG_DAYS} days of lags"
        )
    rows = day_rows(past, place, plan)
    ahead = np.minimum(place[:, None] + np.arange(plan.n_place), len(axis.filled) - 1)
    target = axis.filled[ahead] - rows.level[:, None]
    trust = axis.known[ahead[:, : plan.n_lead]].mean(axis=1)
    usable = np.isfinite(target).all(axis=1) & (trust >= KNOWN_MIN) & (rows.gaps < 0.3) & (rows.blind < 0.1)
    if usable.sum() < ROWS_MIN:
        raise DataError(
            f"{history.name}: {int(usable.sum())} past days without large gaps, {ROWS_MIN} are needed"
        )
    groups = {name: np.nan_to_num(group[usable]) for name, group in rows.groups.items()}
    kept = DayRows(groups, rows.level[usable], rows.gaps[usable], rows.blind[usable])
    return Sample(plan, kept, target[usable], place[usable], (trust * (1.0 - rows.gaps))[usable])


def standard(rows: DayRows, weights: Mapping[str, float]) -> Standard:
    """Return the standardisation of the groups whose weight is not zero."""
    tied = {group: weights[name] for name, groups in TUNED.items() for group in groups} | dict(weights)
    names = tuple(name for name in rows.groups if rows.groups[name].size and tied.get(name, 0.0) > 0.0)
    mean, size, weight = [], [], []
    for name in names:
        raw = rows.groups[name]
        mean.append(raw.mean(axis=0))
        spread = raw.std(axis=0)
        if name in LAGS:
            spread = np.full(raw.shape[1], np.sqrt((spread**2).mean()))  # one size: loud slots may be loud
        elif name not in KNOWN:
            spread = np.ones(raw.shape[1])
        size.append(np.where(spread > 1e-9, spread, 1.0))
        weight.append(_column_weight(name, raw.shape[1], tied[name]))
    return Standard(names, np.concatenate(mean), np.concatenate(size), np.concatenate(weight))


def _column_weight(name: str, width: int, weight: float) -> F64:
    return np.full(width, weight / (np.sqrt(width) if name in WIDE else 1.0))


def phi_of(rows: DayRows, of: Standard) -> F64:
    """Return the standardised rows (n_row, n_column)."""
    return np.clip((of.raw(rows) - of.mean) / of.size, -CLIP, CLIP) * of.weight


def bend(rows: DayRows, of: Standard) -> F64:
    """Return what phi is multiplied by (n_column,) for the radial part; its median squared length is CURVE_RANGE."""
    inside = CURVE_KNOWN if "ahead" in of.names else CURVE_LAGS
    widths = [rows.groups[name].shape[1] for name in of.names]
    wanted = [
        _column_weight(name, n, inside.get(name, 0.0)) for name, n in zip(of.names, widths, strict=True)
    ]
    ratio = np.concatenate(wanted) / of.weight
    length = float(np.median(((phi_of(rows, of) * ratio) ** 2).sum(axis=1)))
    return np.asarray(ratio * np.sqrt(CURVE_RANGE / max(length, 1e-12)))


def gram(rows: DayRows, of: Standard, curve: float) -> F64:
    """Return the kernel of the rows (n_row, n_row)."""
    phi = phi_of(rows, of)
    kernel = np.asarray(phi @ phi.T + BIAS)
    if not curve:
        return kernel
    bent = phi * bend(rows, of)
    inner = bent @ bent.T
    square = np.diag(inner)
    return np.asarray(kernel + curve * np.exp(2.0 * inner - square[:, None] - square))


def left_out(kernel: F64, ridge: F64, target: F64) -> F64:
    """Return the errors (n_row, n_place) of every row when its block of neighbours is left out. `ridge` is (n_row,)."""
    inverse = np.linalg.inv(kernel + np.diag(ridge))
    dual = inverse @ target
    error = np.empty_like(target)
    for start in range(0, len(target), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        error[block] = np.linalg.solve(inverse[block, block], dual[block])
    return error


def row_weights(kernel: F64, ridge: float, trust: F64, target: F64) -> F64:
    """Return the weights of the rows (n_row,), mean 1: what is missed when left out counts less."""
    error = left_out(kernel, ridge / trust, target)
    size = np.sqrt((error**2).mean(axis=1))
    weight = 1.0 / np.maximum(size, QUIET_RATIO * max(float(np.median(size)), 1e-12))
    return np.asarray(trust * weight / weight.mean())


def forget(place: I64, steps_per_day: int, decay_days: float | None) -> F64:
    """Return the weights (n_row,) of age alone, newest 1."""
    if decay_days is None:
        return np.ones(len(place))
    return np.asarray(0.5 ** ((place[-1] - place) / steps_per_day / decay_days))


def fit_part(made: Sample, settings: Settings) -> DayPart:
    """Return the model of one slot."""
    weights = settings.weights
    of = standard(made.rows, weights)
    kernel = gram(made.rows, of, weights["curve"])
    trust = made.trust * forget(made.place, made.plan.steps_per_day, settings.decay_days)
    trust = row_weights(kernel, weights["ridge"], trust, made.target)
    dual: F64 = np.asarray(np.linalg.solve(kernel + np.diag(weights["ridge"] / trust), made.target))
    phi = phi_of(made.rows, of)
    curve = None
    if weights["curve"]:
        ratio = bend(made.rows, of)
        curve = Curve(ratio, phi * ratio, weights["curve"] * dual)
    return DayPart(made.plan, of, phi.T @ dual, BIAS * dual.sum(axis=0), curve)


def unseen(made: Sample, settings: Settings) -> F64:
    """Return forecasts (n_row, n_place) of the training rows, each by a model that has not seen its block.

    What is learnt on top of a model (an error correction, a tree) must see errors as they will be, not as they were
    fitted. On the scale, minus the level.
    """
    weights = settings.weights
    kernel = gram(made.rows, standard(made.rows, weights), weights["curve"])
    trust = row_weights(kernel, weights["ridge"], made.trust, made.target)
    return made.target - left_out(kernel, weights["ridge"] / trust, made.target)

"""Fitting the 48-hour models in closed form: shared ridge, each series' own part, the radial part, and the blend.

    past  |------------- fit -------------|- fold 1 -|- fold 2 -|- fold 3 -|- fold 4 -| until

Errors of the folds, each forecast by weights that had not seen it, choose the ridges, teach the blend whom to believe,
and give the first bands. Then everything is fitted once more on the whole past.

Squares are re-weighted towards absolute errors (the median is wanted); targets are in spreads and clipped, so that one
bad day of one series owns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.ahead.model import BUCKET_ENDS, KNOTS, MEMBERS, OWN_KNOTS, Trees, Weights, between
from streamproc.training.ahead.samples import Samples
from streamproc.training.ahead.tree_input import said_by
from streamproc.training.series.blend import learn
from streamproc.values import F64, I64

FOLDS = 4
HELD_SHARE = 0.35  # of the past
RIDGES = (1e-4, 1e-3, 1e-2)  # per row
OWN_RIDGES = (0.02, 0.1, 0.5)  # per row
CURVE_RIDGE = 0.02  # per row
CENTRES = 150
CURVE_RANGE = 1.0  # median squared distance of z after `bend`
ROUNDS = 2
ABSOLUTE_FROM = 0.5  # median absolute errors: smaller ones count as squares
TARGET_CLIP = 6.0  # spreads
OWN_ROWS_MIN = 60  # of a series, for a part of its own
BLEND_ROWS_MIN = 20  # held out of a series, for a blend of its own


@dataclass(frozen=True, slots=True)
class Settings:
    """What the folds chose."""

    ridge: float
    own_ridge: float  # inf: no own part
    trees: bool = False


@dataclass(frozen=True, slots=True)
class Core:
    """Weights at the knots, before the blend."""

    shared: F64  # (n_knot, K)
    own: F64  # (n + 1, K, n_own_knot)
    centres: F64
    bend: F64
    curve: F64  # (C, n_knot)
    trees: Trees | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """The result: weights, and the errors of the folds, each unseen."""

    weights: Weights
    settings: Settings
    error: F64  # (n, n_knot), truth - median in spreads, of the held-out samples
    each: F64  # (n_member, n, n_knot), forecasts of the members there
    held: I64  # (n,), places of those samples


def fit(made: Samples, n_series: int, seed: int, *, trees: bool = False) -> Fit:
    """Return the model of the samples; `seed` draws the centres of the radial part. `trees` needs LightGBM."""
    folds = _folds(made)
    settings = replace(_choose(made, folds, n_series, seed), trees=trees and bool(folds))
    each, held = _roll(made, folds, n_series, settings, seed)
    truth = made.truth[held].astype(np.float64)
    blend = _blend(each, truth, made.series[held], n_series)
    share = blend[made.series[held], : len(each)][:, :, bucket_at_knots()]  # (n, member, knot)
    error = truth - np.einsum("mnk,nmk->nk", each, share)
    core = _core(made, n_series, settings, seed)
    weights = Weights(
        between(KNOTS, core.shared),
        core.own,
        core.centres,
        core.bend,
        np.ascontiguousarray(between(KNOTS, core.curve.T).T),
        blend,
        core.trees,
    )
    return Fit(weights, settings, error, each, held)


def bucket_at_knots() -> I64:
    """Return the bucket of blend weights of each knot (n_knot,)."""
    return np.searchsorted(np.array(BUCKET_ENDS), np.array(KNOTS)).astype(np.int64)


def _folds(made: Samples) -> list[tuple[I64, I64]]:
    """Return (rows before, rows of the fold) for each fold, by time; leads of the former end before the latter."""
    first, last = int(made.issue.min()), int(made.issue.max()) + 1
    edges = np.linspace(last - HELD_SHARE * (last - first), last, FOLDS + 1)
    folds = []
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        before = np.flatnonzero(made.issue + KNOTS[-1] <= begin)
        inside = np.flatnonzero((made.issue >= begin) & (made.issue < end))
        if before.size and inside.size:
            folds.append((before, inside))
    return folds


def _choose(made: Samples, folds: list[tuple[I64, I64]], n_series: int, seed: int) -> Settings:
    if not folds:
        return Settings(RIDGES[-1], np.inf)
    tried = [Settings(ridge, np.inf) for ridge in RIDGES]
    best = min(tried, key=lambda one: _line_error(made, folds[-1:], n_series, one, seed))
    if n_series == 1:
        return best
    more = [best, *(Settings(best.ridge, own) for own in OWN_RIDGES)]
    return min(more, key=lambda one: _line_error(made, folds[-1:], n_series, one, seed))


def _line_error(
    made: Samples, folds: list[tuple[I64, I64]], n_series: int, settings: Settings, seed: int
) -> float:
    errors = []
    for before, inside in folds:
        core = _core(made.take(before), n_series, settings, seed, curved=False)
        part = made.take(inside)
        errors.append(np.abs(part.truth - _line(core, part)))
    return float(np.nanmean(np.concatenate(errors)))


def _roll(
    made: Samples, folds: list[tuple[I64, I64]], n_series: int, settings: Settings, seed: int
) -> tuple[F64, I64]:
    if not folds:  # too short to hold anything back: only what needs no fitting can be judged
        rows = np.arange(made.issue.size)
        nothing = np.full((2, *made.truth.shape), np.nan)
        return np.concatenate([made.fallback.astype(np.float64), nothing]), rows
    each, held = [], []
    for before, inside in folds:
        core = _core(made.take(before), n_series, settings, seed)
        part = made.take(inside)
        line = _line(core, part)
        more = [line, line + _curve(core, part)]
        if core.trees is not None:
            more.append(line + said_by(core.trees, part, line))
        each.append(np.concatenate([part.fallback.astype(np.float64), np.stack(more)]))
        held.append(inside)
    return np.concatenate(each, axis=1), np.concatenate(held)


def _blend(each: F64, truth: F64, series: I64, n_series: int) -> F64:
    """Return blend weights (n_series + 1, n_member, n_bucket); the last row is of all series."""
    bucket = bucket_at_knots()
    first = [int(np.flatnonzero(bucket == one)[0]) for one in range(len(BUCKET_ENDS))]
    there = len(each)
    common = np.zeros((len(MEMBERS), len(first)))
    common[:there] = learn(each, truth, bucket)[:, first]
    out = np.tile(common, (n_series + 1, 1, 1))
    if n_series > 1:
        for one in range(n_series):
            mine = series == one
            if mine.sum() >= BLEND_ROWS_MIN:
                out[one, :there] = learn(each[:, mine], truth[mine], bucket)[:, first]
    return out


def _core(made: Samples, n_series: int, settings: Settings, seed: int, *, curved: bool = True) -> Core:
    rows = made.rows.astype(np.float64)
    truth = np.clip(made.truth.astype(np.float64), -TARGET_CLIP, TARGET_CLIP)
    n_knot, n_col = rows.shape[1], rows.shape[2]
    shared, trust = np.zeros((n_knot, n_col)), np.zeros(truth.shape)
    for knot in range(n_knot):
        shared[knot], trust[:, knot] = _ridge(rows[:, knot], truth[:, knot], settings.ridge)
    left = np.where(np.isfinite(truth), truth - np.einsum("nkc,kc->nk", rows, shared), 0.0)
    own = np.zeros((1, n_col, len(OWN_KNOTS)))
    if n_series > 1 and np.isfinite(settings.own_ridge):
        own = _own(rows, left, trust, made.series, n_series, settings.own_ridge)
        left = left - _own_part(own, rows, made.series)
    n_z = made.curve.shape[1]
    core = Core(shared, own, np.zeros((1, n_z)), np.zeros(n_z), np.zeros((1, n_knot)))
    if not curved:
        return core
    core = _with_curve(core, made, left, trust, seed)
    if settings.trees:
        from streamproc.training.ahead.trees import fit_trees  # noqa: PLC0415 - trees are an optional part

        core = replace(core, trees=fit_trees(made, _line(core, made), seed))
    return core


def _ridge(x: F64, y: F64, ridge: float) -> tuple[F64, F64]:
    """Return ridge weights (n_column,) of least absolute errors and the trust (n,) of each row, 0 where unknown."""
    known = np.isfinite(y)
    target, trust = np.where(known, y, 0.0), known.astype(np.float64)
    penalty = ridge * max(int(known.sum()), 1) * np.eye(x.shape[1])
    penalty[0, 0] *= 1e-3  # the constant is hardly held back
    weight: F64 = np.zeros(x.shape[1])
    for again in range(ROUNDS + 1):
        side = (x * trust[:, None]).T
        weight = np.asarray(np.linalg.solve(side @ x + penalty, side @ target))
        if again < ROUNDS:
            left = np.abs(target - x @ weight)
            floor = ABSOLUTE_FROM * max(float(np.median(left[known])) if known.any() else 0.0, 1e-9)
            trust = known / np.maximum(left, floor)
            trust /= max(float(trust[known].mean()) if known.any() else 0.0, 1e-12)
    return weight, trust


def _own(rows: F64, left: F64, trust: F64, series: I64, n_series: int, ridge: float) -> F64:
    """Return each series' own weights (n_series + 1, K, n_own_knot) on what the shared ones left."""
    at = [KNOTS.index(knot) for knot in OWN_KNOTS]
    own = np.zeros((n_series + 1, rows.shape[2], len(OWN_KNOTS)))
    for one in range(n_series):
        mine = np.flatnonzero(series == one)
        if mine.size < OWN_ROWS_MIN:
            continue
        x = rows[mine][:, at].transpose(1, 0, 2)  # (n_own_knot, n, K)
        side = (x * trust[mine][:, at].T[..., None]).transpose(0, 2, 1)
        gram = side @ x + ridge * mine.size * np.eye(rows.shape[2])
        own[one] = np.linalg.solve(gram, side @ left[mine][:, at].T[..., None])[..., 0].T
    return own


def _own_part(own: F64, rows: F64, series: I64) -> F64:
    """Return what the own weights say (n, n_knot)."""
    if len(own) == 1:
        return np.zeros(rows.shape[:2])
    share = np.stack([np.interp(KNOTS, OWN_KNOTS, row) for row in np.eye(len(OWN_KNOTS))], axis=1)
    return np.asarray(np.einsum("nkc,ncj,kj->nk", rows, own[series], share, optimize=True))


def _with_curve(core: Core, made: Samples, left: F64, trust: F64, seed: int) -> Core:
    z = made.curve.astype(np.float64)
    rng = np.random.default_rng(seed)
    centres = z[np.sort(rng.choice(len(z), min(CENTRES, len(z)), replace=False))]
    size = np.maximum(z.std(axis=0), 1e-6)
    scaled = z / size
    pairs = scaled[rng.integers(0, len(z), 500)] - scaled[rng.integers(0, len(z), 500)]
    bend = np.sqrt(CURVE_RANGE / max(float(np.median((pairs**2).sum(axis=1))), 1e-9)) / size
    radial = _radial(z, centres, bend)
    out = np.zeros((len(centres), left.shape[1]))
    for knot in range(left.shape[1]):
        side = (radial * trust[:, [knot]]).T
        gram = side @ radial + CURVE_RIDGE * len(z) / 10.0 * np.eye(len(centres))
        out[:, knot] = np.linalg.solve(gram, side @ left[:, knot])
    return replace(core, centres=centres, bend=bend, curve=out)


def _radial(z: F64, centres: F64, bend: F64) -> F64:
    away = (z * bend)[:, None] - (centres * bend)[None]
    return np.asarray(np.exp(-0.5 * (away**2).sum(axis=2)))


def _line(core: Core, part: Samples) -> F64:
    rows = part.rows.astype(np.float64)
    return np.asarray(np.einsum("nkc,kc->nk", rows, core.shared)) + _own_part(core.own, rows, part.series)


def _curve(core: Core, part: Samples) -> F64:
    return _radial(part.curve.astype(np.float64), core.centres, core.bend) @ core.curve

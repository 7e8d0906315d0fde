"""Bands around the middle of a forecast, learnt from its own past errors and kept honest while it runs.

A model that has seen its training data errs less there than tomorrow; quantiles fitted on that are too narrow. So the
bands come only from errors of forecasts that had really been issued, each of which enters when its time has passed:

    key       lead bucket x block of hours of the local day           errors of a kind together
    scale     mean |error| per key, the past fading with `HALF_LIFE_DAYS`   how much this series errs these days
    pool      the last errors per key, over the scale they were issued with
    level     which quantile of the pool stands for P05 .. P95: moved by `gamma` x (wanted - happened) a day, per lead bucket

The last line is adaptive conformal inference (Gibbs and Candes 2021), one level per quantile, so that a band may be
right below and wrong above. Past the pool's end (level beyond 0 or 1) the outermost error is stretched. Quantiles are
sorted and kept on their side of the middle: they never cross. `BandState` is all that is remembered; it is small and
can be saved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.quantiles import LEVELS, MEDIAN, NORMAL
from streamproc.values import F64, I64

BLOCK_HOURS = 4
N_BLOCK = 24 // BLOCK_HOURS
EDGES_S = (
    900,
    1800,
    3600,
    7200,
    14_400,
    28_800,
    57_600,
    86_400,
    129_600,
    172_800,
)  # last second ahead of a bucket
HALF_LIFE_DAYS = 10.0
MEMORY_DAYS = 90
ROWS_MAX = 4096  # of a pool
ROWS_MIN = 30  # fewer errors: a normal distribution with their mean size, wider
WIDER = 1.3
STRETCH = 4.0  # of the outermost error, per unit of level beyond the pool
# How far a level may move: past 0 and 1, and not past the middle. A bound keeps a level that has no effect any more
# (its quantile lies on the middle already) from running away, and lets a band find back after a bad month.
LEAST = np.array([-0.1, -0.1, -0.1, 0.5, 0.5, 0.5, 0.5])
MOST = np.array([0.5, 0.5, 0.5, 0.5, 1.1, 1.1, 1.1])
GAMMA = 0.03  # of a level per day
MEAN_TO_SD = 1.2533141373155  # sqrt(pi / 2): of a normal distribution
N_SHAPE = 201  # points of a quantile function
NORMAL_SHAPE = (
    WIDER * MEAN_TO_SD * np.interp((np.arange(N_SHAPE) + 0.5) / N_SHAPE, LEVELS, NORMAL)
)  # until errors tell


@dataclass(frozen=True, slots=True)
class BandRules:
    """The settings of a series' bands."""

    n_bucket: int
    pool_rows: int
    fade: float  # what a scale keeps for each error that enters
    bucket_rows: tuple[float, ...]  # errors that enter a bucket in a day, but at least those of one forecast
    gamma: float = GAMMA


@dataclass(slots=True)
class BandState:
    """What is remembered; key = bucket * N_BLOCK + block."""

    level: F64  # (n_bucket, 7)
    scale: F64  # (n_key,), mean |error|; NaN: none yet
    pool: F64  # (n_key, pool_rows), errors over scale; NaN: empty
    count: I64  # (n_key,), errors that ever came in
    shape: F64  # (n_key, N_SHAPE), the pool's quantiles, as `refresh` found them

    @classmethod
    def fresh(cls, rules: BandRules) -> BandState:
        """Return the state before the first error."""
        n_key = rules.n_bucket * N_BLOCK
        return cls(
            np.tile(np.array(LEVELS), (rules.n_bucket, 1)),
            np.full(n_key, np.nan),
            np.full((n_key, rules.pool_rows), np.nan),
            np.zeros(n_key, np.int64),
            np.tile(NORMAL_SHAPE, (n_key, 1)),
        )


def lead_buckets(n_lead: int, step_s: int) -> I64:
    """Return the bucket (n_lead,) of each lead, by the time from the origin to the end of the interval."""
    ahead_s = (np.arange(n_lead) + 1) * step_s
    found = np.searchsorted(np.array(EDGES_S), ahead_s)
    return np.unique(found, return_inverse=True)[1]


def rules_for(n_lead: int, step_s: int, origins_per_day: float) -> BandRules:
    """Return the settings for a horizon and a rhythm: every pool remembers about `MEMORY_DAYS`."""
    bucket = lead_buckets(n_lead, step_s)
    n_bucket = int(bucket.max()) + 1
    # Errors that enter a key in a day, where all leads of the fullest bucket meet all blocks.
    per_day = max(1.0, origins_per_day * float(np.bincount(bucket).max()) / N_BLOCK)
    rows = int(np.clip(MEMORY_DAYS * per_day, ROWS_MIN * 2, ROWS_MAX))
    daily = tuple((np.bincount(bucket) * max(1.0, origins_per_day)).tolist())
    return BandRules(n_bucket, rows, 0.5 ** (1.0 / (HALF_LIFE_DAYS * per_day)), daily)


def keys_of(bucket: I64, slot: I64, step_s: int) -> I64:
    """Return the key (n,) of forecasts with their bucket (n,) for intervals with their slot of the local day (n,)."""
    return bucket * N_BLOCK + slot * step_s // (BLOCK_HOURS * 3600)


def quantiles(state: BandState, middle: F64, key: I64, smooth: int = 0) -> F64:
    """Return the quantiles (7, n) around the middle (n,), in the order of the leads.

    NaN where the middle is NaN or, but for P50, where no error is known yet. `smooth`: means over so many leads on both
    sides, fewer at the first leads: a band has no steps where a block of hours ends.
    """
    level = state.level[key // N_BLOCK].T  # (7, n)
    place = np.clip(level, 0.0, 1.0) * N_SHAPE - 0.5
    place = np.clip(place, 0.0, N_SHAPE - 1.0)
    left = np.minimum(place.astype(np.int64), N_SHAPE - 2)
    shape = state.shape[key[None, :], left]
    shape = shape + (place - left) * (state.shape[key[None, :], left + 1] - shape)
    beyond = np.minimum(level, 0.0) + np.maximum(
        level - 1.0, 0.0
    )  # below 0: further down, above 1: further up
    shape = shape + STRETCH * beyond * np.abs(shape)
    out = middle + _smooth(_scales(state)[key] * shape, smooth)
    out = np.maximum.accumulate(out, axis=0)  # they are in order but for the last bit
    out[:MEDIAN] = np.minimum(out[:MEDIAN], middle)
    out[MEDIAN + 1 :] = np.maximum(out[MEDIAN + 1 :], middle)
    out[MEDIAN] = middle
    return out


def learn(state: BandState, rules: BandRules, truth: F64, told: F64, key: I64) -> None:
    """Take in what has become known: truth (n,), the quantiles that were issued (7, n), their keys (n,).

    Rows with an unknown truth or middle say nothing. Every row must be given once, and only when its time has passed.
    """
    error = truth - told[MEDIAN]
    known = np.isfinite(error)
    error, told, truth, key = error[known], told[:, known], truth[known], key[known]
    wanted = np.array(LEVELS)
    bucket = key // N_BLOCK
    for one in np.unique(bucket).tolist():
        rows = (bucket == one) & np.isfinite(told[0])
        if rows.any():
            below = (truth[rows] <= told[:, rows]).sum(axis=1)  # (7,)
            moved = state.level[one] + rules.gamma * (wanted * rows.sum() - below) / rules.bucket_rows[one]
            state.level[one] = np.sort(np.clip(moved, LEAST, MOST))
    for one in np.unique(key).tolist():
        _take_in(state, rules, int(one), error[key == one])


def _take_in(state: BandState, rules: BandRules, key: int, error: F64) -> None:
    size, before = float(np.abs(error).mean()), float(state.scale[key])
    kept = rules.fade**error.size
    seen = int(state.count[key])
    # The first errors are averaged plainly: a fading mean would believe the very first one for weeks.
    kept = min(kept, seen / (seen + error.size))
    unit = before if np.isfinite(before) else size
    state.scale[key] = kept * unit + (1.0 - kept) * size
    rows = (seen + np.arange(error.size)) % rules.pool_rows
    state.pool[key, rows] = error / unit if unit > 0.0 else 0.0
    state.count[key] = seen + error.size


def _smooth(distance: F64, most: int) -> F64:
    """Return means (7, n) over neighbours, at lead i over at most i / 3 on each side."""
    if not np.isfinite(
        distance
    ).all():  # the first days: a mean over unknown errors would be unknown everywhere
        return distance
    n = distance.shape[1]
    lead = np.arange(n)
    side = np.minimum(np.minimum(lead // 3, n - 1 - lead), most)
    total = np.concatenate([np.zeros((distance.shape[0], 1)), np.cumsum(distance, axis=1)], axis=1)
    return np.asarray((total[:, lead + side + 1] - total[:, lead - side]) / (2 * side + 1), np.float64)


def _scales(state: BandState) -> F64:
    """Return the scale of each key (n_key,); one that has met no error yet has that of its bucket.

    It happens where a lead meets a block of hours only on the day of a clock change.
    """
    by_bucket = state.scale.reshape(-1, N_BLOCK)
    known = np.isfinite(by_bucket)
    count = known.sum(axis=1)
    mean = np.where(count > 0, np.where(known, by_bucket, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
    return np.where(known, by_bucket, mean[:, None]).ravel()


def refresh(state: BandState) -> None:
    """Bring the quantiles of the pools up to date; once a day is enough, and a sort of all pools is not cheap."""
    place = (np.arange(N_SHAPE) + 0.5) / N_SHAPE
    for key in np.flatnonzero(state.count >= ROWS_MIN).tolist():
        known = np.sort(state.pool[key, : min(int(state.count[key]), state.pool.shape[1])])
        state.shape[key] = np.interp(place, (np.arange(known.size) + 0.5) / known.size, known)

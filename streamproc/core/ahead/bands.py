"""Bands of the 48-hour forecasts, one state per series and horizon, kept honest while they run.

    scale   mean |error| per horizon and block of hours, of about the last COUNT_TRUSTED: how much a series errs now
    level   which quantile of the bundle's errors stands for P05 .. P95: moved by what happened, per series and horizon
    shape   quantiles of errors over their scale, per horizon, from the folds of the training: the same for all series

The level is adaptive conformal inference (Gibbs and Candes 2021) as in `core.series.bands`, here for thousands of series
at once and with a small state: 78 numbers a series. Only the leads of JUDGED are followed up; leads between two of them
lie between their bands.

An error enters when the interval has passed, never before: `Told` holds what was said until then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.ahead.days import N_LEAD, PER_DAY
from streamproc.core.quantiles import LEVELS, MEDIAN, NORMAL
from streamproc.core.series.bands import GAMMA, LEAST, MEAN_TO_SD, MOST, STRETCH, WIDER
from streamproc.values import F32, F64, I64

JUDGED = (1, 4, 16, 48, 96, 192)  # leads, from 1: 15 minutes, 1, 4, 12, 24, 48 hours
N_JUDGED = len(JUDGED)
HOURLY_FROM = 48  # leads from here on are followed up once an hour
QUARTERS_PER_HOUR = 4
N_BLOCK = 6  # of four hours UTC
BLOCK_ROWS = PER_DAY // N_BLOCK
N_SHAPE = 101
N_Q = len(LEVELS)
COUNT_TRUSTED = 16  # errors of a key that its scale remembers; before, the bundle's own scale counts, too


@dataclass(frozen=True, slots=True)
class Shape:
    """What training knows of errors; of series that it has not seen, too."""

    quantile: F64  # (N_JUDGED, N_SHAPE), errors over scale
    scale: F64  # (N_JUDGED, N_BLOCK), mean |error| in spreads


@dataclass(frozen=True, slots=True)
class Bands:
    """The state; first axis = series."""

    level: F32  # (n, N_JUDGED, 7)
    scale: F32  # (n, N_JUDGED, N_BLOCK), mean |error| in the unit of the series; 0: none yet
    count: F32  # (n, N_JUDGED, N_BLOCK), errors that came in, at most COUNT_TRUSTED

    @classmethod
    def fresh(cls, n: int) -> Bands:
        """Return the state before the first error."""
        keys = (n, N_JUDGED, N_BLOCK)
        level = np.broadcast_to(np.array(LEVELS, np.float32), (n, N_JUDGED, N_Q)).copy()
        return cls(level, np.zeros(keys, np.float32), np.zeros(keys, np.float32))


def rows_per_day(judged: int) -> int:
    """Return how often a horizon is judged in a day."""
    return PER_DAY // QUARTERS_PER_HOUR if JUDGED[judged] >= HOURLY_FROM else PER_DAY


def block_of(number: int | I64) -> I64:
    """Return the block of hours of intervals, by their number since 1970-01-01."""
    return np.asarray(np.asarray(number) % PER_DAY // BLOCK_ROWS, np.int64)


def scales(bands: Bands, shape: Shape, spread: F64) -> F64:
    """Return the scale (n, N_JUDGED, N_BLOCK): the measured one, with few errors mixed with the bundle's."""
    prior = shape.scale * spread[:, None, None]
    trust = bands.count / COUNT_TRUSTED
    return trust * bands.scale + (1.0 - trust) * prior


def offsets(bands: Bands, shape: Shape, spread: F64) -> F64:
    """Return how far each quantile lies from the middle (n, 7, N_JUDGED, N_BLOCK), in the unit of the series."""
    level = bands.level.astype(np.float64)  # (n, N_JUDGED, 7)
    place = np.clip(np.clip(level, 0.0, 1.0) * N_SHAPE - 0.5, 0.0, N_SHAPE - 1.0)
    left = np.minimum(place.astype(np.int64), N_SHAPE - 2)
    row = np.arange(N_JUDGED)[:, None]
    here = shape.quantile[row, left]
    here = here + (place - left) * (shape.quantile[row, left + 1] - here)
    beyond = np.minimum(level, 0.0) + np.maximum(level - 1.0, 0.0)
    here = here + STRETCH * beyond * np.abs(here)
    here[..., :MEDIAN] = np.minimum(here[..., :MEDIAN], 0.0)
    here[..., MEDIAN + 1 :] = np.maximum(here[..., MEDIAN + 1 :], 0.0)
    here[..., MEDIAN] = 0.0
    here = np.sort(here, axis=-1)
    return np.asarray(
        (here[..., None] * scales(bands, shape, spread)[:, :, None, :]).transpose(0, 2, 1, 3), np.float64
    )


def quantiles(middle: F64, offset: F64, number: int) -> F32:
    """Return the quantiles (n, 7, N_LEAD) around the middle (n, N_LEAD); `number` is that of the first lead.

    In float32, of which a forecast needs no more: for ten thousand series they are thirteen million numbers.
    """
    narrow = offset.astype(np.float32)
    lead = np.arange(1, N_LEAD + 1)
    right = np.clip(np.searchsorted(np.array(JUDGED), lead), 1, N_JUDGED - 1)
    first, last = np.array(JUDGED)[right - 1], np.array(JUDGED)[right]
    share = np.clip((lead - first) / (last - first), 0.0, 1.0).astype(np.float32)
    block = block_of(number + lead - 1)
    out: F32 = narrow[:, :, right - 1, block]
    out *= 1.0 - share
    out += narrow[:, :, right, block] * share
    out += middle[:, None, :].astype(np.float32)
    return out


def learn(bands: Bands, judged: int, truth: F64, told: F32, number: int) -> Bands:
    """Return the state after one interval has passed: truth (n,), what was told for it (n, 7) at this horizon.

    Series whose truth or forecast is unknown (NaN) learn nothing.
    """
    error = truth - told[:, MEDIAN]
    known = np.isfinite(error)
    if not known.any():
        return bands
    level, scale, count = bands.level.copy(), bands.scale.copy(), bands.count.copy()
    below = (truth[:, None] <= told).astype(np.float64)  # (n, 7)
    moved = level[:, judged] + GAMMA / rows_per_day(judged) * (np.array(LEVELS) - below)
    moved = np.sort(np.clip(moved, LEAST, MOST), axis=1)
    level[known, judged] = moved[known].astype(np.float32)
    block = int(block_of(number))
    seen = count[:, judged, block]
    kept = seen / (seen + 1.0)  # the first errors are averaged plainly, later ones fade
    now = kept * scale[:, judged, block] + (1.0 - kept) * np.abs(error)
    scale[known, judged, block] = now[known].astype(np.float32)
    count[known, judged, block] = np.minimum(seen + 1.0, COUNT_TRUSTED)[known]
    return Bands(level, scale, count)


def shape_of(error: F64, block: I64) -> Shape:
    """Return the shape from errors of the folds (n, N_JUDGED), in spreads, with the block of hours of each (n, N_JUDGED)."""
    quantile, scale = np.zeros((N_JUDGED, N_SHAPE)), np.ones((N_JUDGED, N_BLOCK))
    place = (np.arange(N_SHAPE) + 0.5) / N_SHAPE
    for judged in range(N_JUDGED):
        mine = error[:, judged]
        known = np.isfinite(mine)
        if known.sum() < N_SHAPE:
            quantile[judged] = np.interp(place, LEVELS, WIDER * MEAN_TO_SD * NORMAL)
            continue
        whole = max(float(np.abs(mine[known]).mean()), 1e-9)
        for one in range(N_BLOCK):
            rows = known & (block[:, judged] == one)
            scale[judged, one] = float(np.abs(mine[rows]).mean()) if rows.sum() >= 20 else whole
        scale[judged] = np.maximum(scale[judged], 0.05 * whole)
        ratio = mine[known] / scale[judged, block[known, judged]]
        quantile[judged] = np.quantile(ratio, place)
    return Shape(quantile, scale)

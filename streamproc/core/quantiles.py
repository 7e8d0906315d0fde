"""The forecast of a series as quantiles: one expression for the model, one formula for its fallback.

The model sees only the last `HISTORY_ROWS` interval means of a series, and sees them free of unit and size:

    d[t] = y[t] - y[t-1]                    unknown (NaN) next to a gap: 0, so that a gap says nothing
    s    = rms of the known d               how much this series has been moving; the unit of everything below
    z    = d / s, clipped to +-6            one wild step must not throw the forecast
    r    = lag-1 autocorrelation of d       -0.5: noise around a level ... +1: a ramp
    g    = variance ratio of DRIFT_ROWS-steps to steps (0 ... 4): does it drift or does it come back?
    k    = mean |d| / s                     0.8: noise; near 0: stands still and jumps
    median(h) = y[last] + s * [z, z r, z g, z k] W[:, h]                ridge, one for all series
    band(q, h) = median(h) + s * sqrt([1, g, b] A[:, h]) * Q[q, h]      b: s^2 of the newest quarter over s^2

So the median is persistence plus a correction: with W = 0 it is the last measurement. `Q` increases with q
and the root is positive, hence quantiles never cross. The expression is written once over `core.graph.Ops`;
the training writes it as ONNX, a test holds both equal. All series of an area share one call; rows do not see
each other.

If the last interval is unknown the answer is NaN; deciding who may be asked at all is `core.forecast`'s job.
Where it may not, `persistence` gives a random walk from the last value with the spread of the recent steps.

Not done: anything that needs more than `HISTORY_ROWS` intervals (yesterday's ramp, day types), or weather.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamproc.core.graph import NumpyOps, Ops, T
from streamproc.values import F32, F64

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
NAMES = ("P05", "P10", "P25", "P50", "P75", "P90", "P95")
MEDIAN = 3  # place of P50
# Quantiles of the standard normal distribution at LEVELS, for the fallback.
NORMAL = np.array([-1.644854, -1.281552, -0.674490, 0.0, 0.674490, 1.281552, 1.644854])

HISTORY_ROWS: Mapping[int, int] = {1: 60, 5: 36, 15: 24}  # interval in minutes -> means that the model sees
DRIFT_ROWS: Mapping[int, int] = {1: 15, 5: 6, 15: 4}  # span of the slow differences behind g
HORIZON_MIN = 60  # minutes
CLIP = 6.0  # in s
DRIFT_MAX = 4.0  # of g: more drift than this is a ramp whatever its size
STEP_FLOOR_RATIO = 1e-6  # of |y[last]|: float32 holds no finer step
STEP_FLOOR = 1e-9  # in the unit of the series: keeps 0 / 0 away from a series of zeros
SPREAD_UNKNOWN_RATIO = 0.02  # of |y[last]| per step, when no step is known yet: wide on purpose


@dataclass(frozen=True, slots=True)
class ForecastParams:
    """What fitting finds: constants of the graph."""

    weight: F64  # (4 * (n_row - 1), n_step)
    spread: F64  # (3, n_step), not negative
    quantile: F64  # (7, n_step), increasing along the first axis
    drift_rows: int


def n_step(interval_min: int) -> int:
    """Return how many intervals the forecast covers."""
    return HORIZON_MIN // interval_min


def features(ops: Ops[T], history: T, n_row: int, drift_rows: int) -> tuple[T, T, T, T]:
    """Return (y[last] (n, 1), s (n, 1), features (n, 4 (n_row - 1)), spread features (n, 3))."""
    zero, one = ops.const(0.0), ops.const(1.0)

    def steps(rows: int, start: int) -> tuple[T, T]:
        """Return differences over `rows` rows from `start` on, 0 where unknown, and how many are known."""
        raw = ops.sub(ops.part(history, 1, start + rows, None), ops.part(history, 1, start, -rows))
        unknown = ops.isnan(raw)
        return ops.where(unknown, zero, raw), ops.sum(ops.where(unknown, zero, one), 1, keep=True)

    def mean_square(rows: int, start: int) -> tuple[T, T]:
        step, count = steps(rows, start)
        return ops.div(ops.sum_square(step, 1, keep=True), ops.maximum(count, one)), count

    last = ops.part(history, 1, n_row - 1, None)  # (n, 1)
    floor = ops.add(ops.mul(ops.abs(last), ops.const(STEP_FLOOR_RATIO)), ops.const(STEP_FLOOR))
    step, count = steps(1, 0)  # (n, n_row - 1)
    square, _ = mean_square(1, 0)
    square = ops.maximum(square, ops.mul(floor, floor))  # (n, 1), s^2
    size = ops.sqrt(square)
    moved = ops.div(ops.sum(ops.abs(step), 1, keep=True), ops.maximum(count, one))
    evenness = ops.div(moved, size)  # (n, 1), k
    scaled = _clipped(ops, ops.div(step, size), CLIP)

    products = ops.mul(ops.part(step, 1, 1, None), ops.part(step, 1, 0, -1))
    energy = ops.maximum(ops.sum_square(step, 1, keep=True), ops.mul(floor, floor))
    autocorrelation = ops.div(ops.sum(products, 1, keep=True), energy)  # (n, 1), r

    slow, slow_count = mean_square(drift_rows, 0)
    ratio = ops.div(slow, ops.mul(square, ops.const(float(drift_rows))))
    drift = ops.where(ops.ge(slow_count, one), _clipped(ops, ratio, DRIFT_MAX), one)  # (n, 1), g

    newest, newest_count = mean_square(1, n_row - 1 - (n_row - 1) // 4)
    recent = _clipped(ops, ops.div(newest, square), DRIFT_MAX)
    recent = ops.where(ops.ge(newest_count, one), recent, one)  # (n, 1), b

    gates = (autocorrelation, drift, evenness)
    phi = ops.concat([scaled, *(ops.mul(scaled, gate) for gate in gates)], 1)
    ones = ops.add(ops.mul(drift, zero), one)
    return last, size, phi, ops.concat([ones, drift, recent], 1)


def build(ops: Ops[T], history: T, n_row: int, params: ForecastParams) -> T:
    """Return the quantiles (n_series, 7, n_step) of `history` (n_series, n_row), oldest first."""
    steps = params.weight.shape[1]
    last, size, phi, spread_phi = features(ops, history, n_row, params.drift_rows)
    move = ops.matmul(phi, ops.const(params.weight))  # (n, n_step), in s
    spread = ops.sqrt(ops.matmul(spread_phi, ops.const(params.spread)))  # (n, n_step), in s
    middle, width = ops.reshape(move, (-1, 1, steps)), ops.reshape(spread, (-1, 1, steps))
    offset = ops.mul(width, ops.const(params.quantile[None]))  # (n, 7, n_step)
    unit, anchor = ops.reshape(size, (-1, 1, 1)), ops.reshape(last, (-1, 1, 1))
    return ops.add(anchor, ops.mul(unit, ops.add(middle, offset)))


def build_numpy(history: F64 | F32, params: ForecastParams) -> F64:
    """Return `build` in float64: the reference for the ONNX model."""
    with np.errstate(all="ignore"):
        rows = history.shape[1]
        return np.asarray(build(NumpyOps(), np.asarray(history, np.float64), rows, params), np.float64)


def persistence(history: F64, last: F64, n_steps: int) -> F64:
    """Return a random walk (n_series, 7, n_step) from `last` (n_series,), spread by the known steps."""
    step = np.diff(history, axis=1)  # (n_series, n_row - 1)
    count = np.isfinite(step).sum(axis=1)
    square = np.nansum(step * step, axis=1) / np.maximum(count, 1)
    size = np.where(count > 0, np.sqrt(square), SPREAD_UNKNOWN_RATIO * np.abs(last))  # (n_series,)
    walk = np.sqrt(np.arange(1.0, n_steps + 1.0))  # (n_step,)
    return np.asarray(last[:, None, None] + size[:, None, None] * NORMAL[None, :, None] * walk, np.float64)


def rounded(values: F64) -> F64:
    """Return the rows (n_series, ...) to seven digits of their largest value: float32 holds no more."""
    rest = tuple(range(1, values.ndim))
    largest = np.maximum(np.abs(values).max(axis=rest, initial=0.0), 1e-12)
    digits = np.clip(6 - np.floor(np.log10(largest)), 0, 9).astype(np.int64)
    scale = (10.0**digits).reshape((-1,) + (1,) * (values.ndim - 1))
    return np.asarray(np.round(values * scale) / scale, np.float64)


def _clipped(ops: Ops[T], a: T, limit: float) -> T:
    """Return a within +-limit."""
    low = ops.maximum(a, ops.const(-limit))
    return ops.sub(ops.const(0.0), ops.maximum(ops.sub(ops.const(0.0), low), ops.const(-limit)))

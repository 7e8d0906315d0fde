"""The 48-hour model of all series of an area: linear rows, a small radial part, and who is believed at which lead.

    last, day, week   the fallbacks: last value, same clock time on the newest known day, and a week ago
    line              rows @ W[lead] + rows @ D[series] spread over the leads by hats     shared ridge + the series' own
    curve             line + exp(-|z - c|^2 / 2) @ B                z: the course of the last day, time of day, days off
    trees             line + boosted trees of the rows, the clock and what is known ahead; only in bundles of few series
    median            sum of the members times blend[series, member, bucket of leads]     learnt on past folds only

Weights between fitted leads (`KNOTS`) lie on the straight line between their neighbours, also those of a series' own
part (`hat`). A series that the bundle does not know uses the last row of `own` and `blend`, which is that of all.

Everything is in spreads (`core.ahead.rows`) until the last step: y = level + spread * median.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from streamproc.core.ahead.days import N_CLOCK, N_LEAD, PER_DAY
from streamproc.core.ahead.rows import N_PER_KNOWN, N_PLAIN, Inputs, Seen, n_column, see
from streamproc.core.graph import NumpyOps, Ops
from streamproc.values import F32, F64, I64

T = TypeVar("T")
MEMBERS = ("last", "day", "week", "line", "curve", "trees")
# Leads (from 1) that are fitted: dense where a quarter of an hour matters; the second day has its own.
KNOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 97, 112, 128, 144, 160, 176, 192)
OWN_KNOTS = (1, 4, 12, 32, 64, 96, 144, 192)
BUCKET_ENDS = (1, 2, 4, 8, 16, 32, 64, 96, 144, 192)  # last lead of each bucket of blend weights
SECOND_DAY_KNOT = KNOTS.index(PER_DAY + 1)


class Trees(Protocol):
    """Boosted trees, as training holds them."""

    def predict(self, rows: F32) -> F64:
        """Return the sums (n,) of rows (n, n_column)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What fitting finds. C centres, K columns, Z curve features, n known series."""

    shared: F64  # (N_LEAD, K)
    own: F64  # (n + 1, K, len(OWN_KNOTS)), the last row zero
    centres: F64  # (C, Z)
    bend: F64  # (Z,), what z is multiplied by
    curve: F64  # (C, N_LEAD)
    blend: F64  # (n + 1, len(MEMBERS), len(BUCKET_ENDS)), >= 0, sum 1 over members
    trees: Trees | None = None

    @property
    def n_known(self) -> int:
        """Return how many columns are known ahead."""
        return int(self.shared.shape[1] - N_PLAIN) // N_PER_KNOWN


def between(knots: tuple[int, ...], values: F64) -> F64:
    """Return values (len(knots), ...) for all leads (N_LEAD, ...), on the straight line between knots."""
    return np.tensordot(hats(knots), values, axes=1)


def hats(knots: tuple[int, ...]) -> F64:
    """Return the share of each knot at each lead (N_LEAD, len(knots))."""
    lead = np.arange(1, N_LEAD + 1)
    return np.stack([np.interp(lead, knots, row) for row in np.eye(len(knots))], axis=1)


def bucket_of() -> I64:
    """Return the bucket of each lead (N_LEAD,)."""
    return np.searchsorted(np.array(BUCKET_ENDS), np.arange(1, N_LEAD + 1)).astype(np.int64)


def curve_features(ops: Ops[T], given: Inputs[T], seen: Seen[T]) -> T:
    """Return z (n_series, 24 + N_WAVE + 2): hourly errors of the last day, time of issue, days off ahead."""
    first = ops.part(given.waves, 0, 0, 1)  # (1, N_WAVE)
    off = [ops.part(given.free, 0, lead, lead + 1) for lead in (0, PER_DAY)]  # (1, 1) each
    here = ops.concat([first, *off], 1)
    zero = ops.mul(ops.part(seen.day, 1, 0, 1), ops.const(0.0))  # (n, 1)
    return ops.concat([seen.day, ops.add(zero, here)], 1)


def members(ops: Ops[T], given: Inputs[T], series: T, weights: Weights) -> tuple[list[T], Seen[T], T]:
    """Return the forecasts of each member (n_series, N_LEAD), in spreads, in the order of MEMBERS; the rows; z."""
    seen = see(ops, given, weights.n_known)
    near = ops.part(seen.rows, 2, 1, 8)

    def lead_column(column: int) -> T:
        return ops.reshape(ops.part(near, 2, column, column + 1), (-1, N_LEAD))

    newest, week = lead_column(0), lead_column(6)
    # On the second day the newest known day lies a day further back: a week is one column less.
    week = ops.concat([ops.part(week, 1, 0, PER_DAY), ops.part(lead_column(5), 1, PER_DAY, None)], 1)
    last = ops.reshape(ops.part(seen.rows, 2, LAST_COLUMN, LAST_COLUMN + 1), (-1, N_LEAD))
    line = ops.sum(ops.mul(seen.rows, ops.const(weights.shared)), 2)
    if len(weights.own) > 1:
        own = ops.matmul(seen.rows, ops.pick(ops.const(weights.own), 0, series))  # (n, N_LEAD, knots)
        line = ops.add(line, ops.sum(ops.mul(own, ops.const(hats(OWN_KNOTS))), 2))
    features = curve_features(ops, given, seen)
    z = ops.mul(features, ops.const(weights.bend))
    scaled = weights.centres * weights.bend
    inner = ops.matmul(z, ops.const(scaled.T))  # (n, C)
    squares = ops.add(ops.sum_square(z, 1, keep=True), ops.const((scaled**2).sum(axis=1)[None]))
    radial = ops.exp(ops.sub(inner, ops.mul(squares, ops.const(0.5))))
    curve = ops.add(line, ops.matmul(radial, ops.const(weights.curve)))
    fallbacks = [ops.add(part, seen.like) for part in (last, newest, week)]
    each = [*fallbacks, line, curve]
    if weights.trees is not None:
        width = n_tree_column(weights.n_known)
        said = ops.trees(weights.trees, tree_rows(ops, seen, line, width), width)
        each.append(ops.add(line, ops.reshape(said, (-1, N_LEAD))))
    return each, seen, features


def n_tree_column(n_known: int) -> int:
    """Return how many columns trees see."""
    return n_column(n_known) + N_CLOCK + 1 + n_known + 1


def tree_rows(ops: Ops[T], seen: Seen[T], line: T, width: int) -> T:
    """Return what trees see (n_series * N_LEAD, width): the rows, the clock, what is known ahead, the line."""
    own = ops.reshape(line, (-1, N_LEAD, 1))
    about = ops.add(ops.mul(own, ops.const(0.0)), seen.about)
    every = ops.concat([seen.rows, about, own], 2)
    return ops.reshape(every, (-1, width))


LAST_COLUMN = 10  # of `rows`: last - like


def build(ops: Ops[T], given: Inputs[T], series: T, buckets: T, weights: Weights) -> T:
    """Return the medians (n_series, N_LEAD) in the unit of each series.

    `series` (n_series,) are rows of `own` and `blend`; `buckets` is `bucket_of()` as integers.
    """
    each, seen, _ = members(ops, given, series, weights)
    blend = weights.blend[:, : len(each)]
    share = ops.pick(ops.pick(ops.const(blend), 0, series), 2, buckets)  # (n, member, N_LEAD)
    stacked = ops.concat([ops.reshape(one, (-1, 1, N_LEAD)) for one in each], 1)
    median = ops.sum(ops.mul(stacked, share), 1)
    return ops.add(seen.level, ops.mul(seen.spread, median))


def build_numpy(given: Inputs[F32], series: I64, weights: Weights) -> F64:
    """Return `build` in float64: the reference for the ONNX model."""
    return np.asarray(build(NumpyOps(), wide(given), series, bucket_of(), weights), np.float64)


def wide(given: Inputs[F32]) -> Inputs[F64]:
    """Return the inputs in float64, as numpy computes; places stay integers."""
    return Inputs(*(a if a.dtype == np.int64 else a.astype(np.float64) for a in given))  # type: ignore[arg-type]

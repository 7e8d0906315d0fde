"""What the 48-hour models see of a series: its last fourteen days, free of unit and size, beside the like of each lead.

    filled    gaps closed from the same quarter hour of other days: a gap says nothing, least of all "the last value"
    v         (y - level) / spread      level: mean of the last 7 days, spread: standard deviation of the 14 days
    like      weighted mean over days of the target's kind at the same clock time (`core.ahead.days`)
    err       v - like of the intervals before the issue: where this day stands beside its like

One row per series and lead, `columns` names them. The expression is written once over `core.graph.Ops`: training uses
it on rows cut from a file, the live service feeds the very same arrays to ONNX, and a test holds both equal byte by byte.

What is known ahead (temperature, radiation, wind, price) comes per area, in units of its own spread (`Known.z`), over
history and leads: a lead sees how far its weather is from that of its like.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from streamproc.core.ahead.days import (
    N_CLOCK,
    N_DAY,
    N_LEAD,
    N_NEAR,
    N_PAST,
    N_ROW,
    N_WAVE,
    PER_DAY,
    Days,
)
from streamproc.core.graph import Ops
from streamproc.values import F32, F64

T = TypeVar("T")
WEEK_DAYS = 7
SPREAD_FLOOR_RATIO = 1e-4  # of |level|: a series that stands still has no spread of its own
SPREAD_FLOOR = 1e-6  # in the unit of the series
CLIP = 8.0  # spreads: one wild value must not throw a forecast
HINGE = 0.5  # spreads of what is known ahead: cold and heat act beyond a band
ERR_ROWS = (1, 4, 12, 48, PER_DAY)  # intervals before the issue over which err is averaged
N_PLAIN = 1 + N_NEAR + 1 + 3 + len(ERR_ROWS) + 1 + 5 * N_WAVE + N_WAVE + 2
N_PER_KNOWN = 3 + N_WAVE
MEAN_ROWS = (12, PER_DAY)  # of the means of what is known ahead
N_COURSE = 1 + len(MEAN_ROWS)  # per name


class Inputs(NamedTuple, Generic[T]):
    """What the graph is fed with; `Days` as arrays, and the filled history."""

    history: T  # (n_series, N_ROW), float32, filled
    near: T  # (N_LEAD, N_NEAR), int64
    alike: T  # (N_TARGET, N_ALIKE), int64
    share: T  # (N_TARGET, N_ALIKE)
    same: T  # (N_LEAD, 1)
    free: T  # (N_LEAD, 1)
    waves: T  # (N_LEAD, N_WAVE)
    clock: T  # (N_LEAD, N_CLOCK)
    known: T  # (n_known, N_ROW + N_LEAD), in spreads: `courses_of` what is known ahead; n_known may be 0


def n_column(n_known: int) -> int:
    """Return how many columns a row has."""
    return N_PLAIN + N_PER_KNOWN * n_known


def fill(history: F32) -> F32:
    """Return histories (n_series, N_ROW) without gaps; a series of which nothing is known is 0.

    A gap takes the value of the same quarter hour a week before or after, else the mean of that quarter hour over the
    known days, else the mean of the series.
    """
    holed = np.flatnonzero(np.isnan(history).any(axis=1))
    if not holed.size:
        return history
    day = history[holed].reshape(-1, N_DAY, PER_DAY)
    gap = np.isnan(day)
    count = (~gap).sum(axis=1)  # (n_holed, PER_DAY)
    total = np.where(gap, 0.0, day).sum(axis=1, dtype=np.float64)
    whole = total.sum(axis=1) / np.maximum(count.sum(axis=1), 1)
    usual = np.where(count > 0, total / np.maximum(count, 1), whole[:, None])
    week = np.roll(
        day, WEEK_DAYS, axis=1
    )  # of fourteen days: a week before and a week after are the same place
    other = np.where(np.isnan(week), usual[:, None, :], week)
    out = history.copy()
    out[holed] = np.where(gap, other, day).reshape(-1, N_ROW)
    return out


def courses_of(known: F64) -> F64:
    """Return each course (n, N_ROW + N_LEAD) and its means over the last 3 and 24 hours (3 n, N_ROW + N_LEAD).

    Houses and people answer to the weather of some hours, not of this quarter.
    """
    running = np.concatenate([np.zeros((len(known), 1)), np.cumsum(known, axis=1)], axis=1)
    at = np.arange(1, known.shape[1] + 1)
    means = [(running[:, at] - running[:, np.maximum(at - w, 0)]) / np.minimum(at, w) for w in MEAN_ROWS]
    return np.concatenate([known, *means])


def inputs_of(history: F32, days: Days, known: F64) -> Inputs[F32]:
    """Return the arrays of the graph for histories (n_series, N_ROW) with gaps, float32 as a model sees them."""

    def single(a: F64) -> F32:
        return np.ascontiguousarray(a, dtype=np.float32)

    return Inputs(
        fill(history),
        days.near,  # type: ignore[arg-type]  # places stay int64
        days.alike,  # type: ignore[arg-type]
        single(days.share),
        single(days.same[:, None]),
        single(days.free[:, None]),
        single(days.waves),
        single(np.column_stack([days.slot, days.kind, days.year])),
        single(courses_of(known)),
    )


def scale_of(ops: Ops[T], history: T) -> tuple[T, T]:
    """Return (level, spread), each (n_series, 1), in the unit of the series."""
    week = float(WEEK_DAYS * PER_DAY)
    level = ops.div(ops.sum(ops.part(history, 1, -WEEK_DAYS * PER_DAY, None), 1, keep=True), ops.const(week))
    away = ops.sub(history, level)
    rows = ops.const(float(N_ROW))
    mean = ops.div(ops.sum(away, 1, keep=True), rows)
    square = ops.div(ops.sum_square(ops.sub(away, mean), 1, keep=True), rows)
    floor = ops.add(ops.mul(ops.abs(level), ops.const(SPREAD_FLOOR_RATIO)), ops.const(SPREAD_FLOOR))
    return level, ops.maximum(ops.sqrt(square), floor)


class Seen(NamedTuple, Generic[T]):
    """Rows and what else members of a model start from, in spreads."""

    rows: T  # (n_series, N_LEAD, n_column)
    like: T  # (n_series, N_LEAD)
    level: T  # (n_series, 1), in the unit of the series
    spread: T  # (n_series, 1)
    day: T  # (n_series, 24), hourly means of err over the last day: its shape for curved models
    about: T  # (1, N_LEAD, n_about), for trees: clock, lead, what is known ahead itself


def see(ops: Ops[T], given: Inputs[T], n_known: int) -> Seen[T]:
    """Return the rows of all series and leads."""
    level, spread = scale_of(ops, given.history)
    v = _clipped(ops, ops.div(ops.sub(given.history, level), spread))
    like = ops.sum(ops.mul(ops.pick(v, 1, given.alike), given.share), 2)  # (n, N_TARGET)
    err = ops.sub(ops.part(v, 1, -N_PAST, None), ops.part(like, 1, 0, N_PAST))  # (n, N_PAST)
    ahead = ops.part(like, 1, N_PAST, None)  # (n, N_LEAD)
    lead = ops.reshape(ahead, (-1, N_LEAD, 1))
    zero = ops.sub(lead, lead)
    one = ops.add(zero, ops.const(1.0))
    near = ops.sub(ops.pick(v, 1, given.near), lead)  # (n, N_LEAD, N_NEAR)
    newest = ops.part(near, 2, 0, 1)
    last = ops.reshape(ops.part(v, 1, -1, None), (-1, 1, 1))

    def spread_out(column: T) -> T:
        """Return one value per series (n, 1) as a column (n, N_LEAD, 1)."""
        return ops.mul(one, ops.reshape(column, (-1, 1, 1)))

    errs = [
        spread_out(ops.div(ops.sum(ops.part(err, 1, -rows, None), 1, keep=True), ops.const(float(rows))))
        for rows in ERR_ROWS
    ]
    day_mean = ops.div(ops.sum(ops.part(v, 1, -PER_DAY, None), 1, keep=True), ops.const(float(PER_DAY)))
    waves = ops.mul(one, given.waves)  # (n, N_LEAD, N_WAVE)
    free = ops.mul(one, given.free)
    columns = [one, near, lead, ops.mul(newest, given.same), ops.sub(last, lead), spread_out(day_mean)]
    columns += [*errs, ops.mul(errs[0], given.waves), ops.mul(errs[2], given.waves)]
    columns += [ops.mul(newest, given.waves), ops.mul(errs[4], given.waves)]
    columns += [ops.mul(lead, given.waves), waves, free]
    columns += [ops.mul(ops.mul(one, given.same), given.free), ops.mul(lead, free)]
    columns += [ops.mul(one, part) for part in _known(ops, given, n_known)]
    hours = ops.div(ops.sum(ops.reshape(err, (-1, 24, PER_DAY // 24)), 2), ops.const(PER_DAY / 24.0))
    return Seen(ops.concat(columns, 2), ahead, level, spread, hours, _about(ops, given, n_known))


def _about(ops: Ops[T], given: Inputs[T], n_known: int) -> T:
    """Return what trees are told about each lead (1, N_LEAD, n_about), the same for all series."""
    parts = [ops.reshape(given.clock, (1, N_LEAD, N_CLOCK)), ops.const(np.arange(N_LEAD)[None, :, None])]
    for at in range(n_known):
        row = ops.part(ops.part(given.known, 0, at, at + 1), 1, N_ROW, None)
        parts.append(ops.reshape(_clipped(ops, row), (1, N_LEAD, 1)))
    return ops.concat(parts, 2)


def _known(ops: Ops[T], given: Inputs[T], n_known: int) -> list[T]:
    """Return columns (1, N_LEAD, ...) of what is known ahead: how far it is from that of the like."""
    if not n_known:
        return []
    z = _clipped(ops, given.known)
    zero, hinge = ops.const(0.0), ops.const(HINGE)
    parts = (z, ops.maximum(ops.sub(z, hinge), zero), ops.maximum(ops.sub(ops.sub(zero, z), hinge), zero))
    columns: list[T] = []
    for at in range(n_known):
        for number, part in enumerate(parts):
            row = ops.part(part, 0, at, at + 1)  # (1, N_ROW + N_LEAD)
            like = ops.sum(ops.mul(ops.pick(row, 1, given.alike), given.share), 2)  # (1, N_TARGET)
            away = ops.sub(ops.part(row, 1, N_ROW, None), ops.part(like, 1, N_PAST, None))  # (1, N_LEAD)
            column = ops.reshape(away, (1, N_LEAD, 1))
            columns.append(column)
            if number == 0:
                columns.append(ops.mul(column, given.waves))
    return columns


def _clipped(ops: Ops[T], a: T) -> T:
    low = ops.maximum(a, ops.const(-CLIP))
    return ops.sub(ops.const(0.0), ops.maximum(ops.sub(ops.const(0.0), low), ops.const(-CLIP)))

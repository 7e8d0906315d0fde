"""One issue of the 48-hour forecasts of an area: who is asked, what is said, and why.

    model           at least three days known: one call for all series; with what is known ahead where that is there
    short_history   fewer: the fallback
    no_model, model_error, benched     the fallback
    (nothing)       no believed value for two days: nothing honest can be said

Fallback: the last value for the first hour, then the same clock time a week ago, or on the newest known day. The series
that a bad meter silences keeps its model forecast: gaps are filled from days that are alike (`rows.fill`), so that what
is told about it is old news and no poison; `flags` say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamproc.core.ahead import bands as band
from streamproc.core.ahead.bands import Shape
from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY, Days, days_of
from streamproc.core.ahead.known import Known, spans
from streamproc.core.ahead.memory import FIGURES, WEIGHT_MIN, Memory
from streamproc.core.ahead.reconcile import Sums, reconcile
from streamproc.core.ahead.rows import WEEK_DAYS, Inputs, inputs_of
from streamproc.errors import ModelError
from streamproc.values import F32, F64, I64, Bool

REASONS = ("", "short_history", "no_model", "model_error", "benched")
MODEL, SHORT_HISTORY, NO_MODEL, MODEL_FAILED, BENCHED = range(5)
MODEL_ROWS = 3 * PER_DAY  # known means
SILENT_ROWS = 2 * PER_DAY
LAST_LEADS = 4  # of the fallback: the first hour is the last value
ROOM_RATIO = 0.5  # of the range of the history: how far beyond it a forecast may go
RANGE_ROOM_RATIO = 0.05  # of a training range, before it counts as left
ASIDE_FROM, ASIDE_TO = 0.95, 1.1  # errors of the model over those of the fallback
ASIDE_WEIGHT = 16.0  # judgements
_JUDGED_HATS = np.stack(
    [np.interp(np.arange(1, N_LEAD + 1), band.JUDGED, row) for row in np.eye(band.N_JUDGED)]
)
COVERAGE_JUDGED = 1  # the hour: what `coverage_90` tells


class Ahead(Protocol):
    """The 48-hour models (implemented by `streamproc.shell.ahead_model.OnnxAhead`)."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the model."""

    @property
    def shape(self) -> Shape:
        """Return what training knows of errors."""

    @property
    def known_names(self) -> Sequence[str]:
        """Return the names of what is known ahead, in the order of `scaled`."""

    def rows_of(self, ids: tuple[str, ...]) -> I64:
        """Return the row of each series among the model's own; the last row for those that it does not know."""

    def ranges_of(self, ids: tuple[str, ...]) -> tuple[F64, F64]:
        """Return the lowest and highest mean of each series in training; NaN for those that it does not know."""

    def scaled(self, courses: F64) -> F64:
        """Return what is known ahead in spreads."""

    def predict(self, given: Inputs[F32], rows: I64, *, with_known: bool) -> F32:
        """Return the medians (n, N_LEAD); raises ModelError."""


Offsets = Callable[[int], I64]
"""Number of the first lead -> what local time is ahead of UTC in s (N_ROW + N_LEAD,)."""
HOLIDAY = "holiday"  # what is known ahead under this name is the calendar's: above a half is a holiday


@dataclass(frozen=True, slots=True)
class Issue:
    """What is published. Rows are the series that get a forecast."""

    series: I64  # (n,), place in the memory
    quantiles: F32  # (n, 7, N_LEAD)
    reason: I64  # (n,), index into REASONS; 0 = by the model
    coverage: F64  # (n,), NaN: too little to judge
    known_ratio: F64  # (n,), of the last day
    outside: Bool  # (n,), the training range is left
    added_up: Bool  # (n,)
    with_known: bool  # weather and the like were used
    model: F64  # (n_all, N_LEAD), medians of the model for all series; NaN where it was not asked
    fallback: F64  # (n_all, N_LEAD)
    every: F32  # (n_all, 7, N_LEAD), NaN where nothing was said


def issue(memory: Memory, known: Known, ahead: Ahead | None, offsets: Offsets, sums: Sums) -> Issue:
    """Return the forecasts from what is known by now."""
    there: Bool = np.asarray(np.isfinite(memory.history))  # (n, N_ROW)
    holiday = np.asarray(known.course.get(HOLIDAY, np.zeros(N_ROW + N_LEAD)) > 0.5)
    days = days_of(memory.start, offsets(memory.start), holiday)
    fallback = fallback_of(memory.history, days)
    reason = np.where(there.sum(axis=1) < MODEL_ROWS, SHORT_HISTORY, MODEL)
    speaks: Bool = np.asarray(there[:, -SILENT_ROWS:].any(axis=1))
    median, model, reason, with_known = _asked(memory, known, ahead, days, fallback, reason)
    shape = ahead.shape if ahead is not None else NO_SHAPE
    spread = np.maximum(_spread(memory.history), 1e-9)
    sizes = band.scales(memory.bands, shape, spread)
    median, shrink, added_up = reconcile(sums, median, sizes.mean(axis=2), speaks)
    offset = band.offsets(memory.bands, shape, spread)
    quantiles = band.quantiles(median, offset, memory.start)
    if added_up.any():
        middle = median[:, None].astype(np.float32)
        quantiles = middle + (quantiles - middle) * shrink[:, None].astype(np.float32)
    quantiles = held(quantiles, memory.history, added_up)
    quantiles[~speaks] = np.float32(np.nan)
    series = np.flatnonzero(speaks)
    last_day = np.asarray(there[:, -PER_DAY:].mean(axis=1))
    return Issue(
        series,
        quantiles if speaks.all() else quantiles[series],
        reason[series].astype(np.int64),
        coverage(memory)[series],
        last_day[series],
        _outside(memory, ahead)[series],
        added_up[series],
        with_known,
        model,
        fallback,
        quantiles,
    )


def _asked(
    memory: Memory, known: Known, ahead: Ahead | None, days: Days, fallback: F64, reason: I64
) -> tuple[F64, F64, I64, bool]:
    """Return (medians to publish, the model's medians, reasons, whether what is known ahead was used)."""
    nothing = np.full_like(fallback, np.nan)
    if ahead is None:
        return fallback, nothing, np.where(reason == MODEL, NO_MODEL, reason), False
    courses, enough = spans(known, ahead.known_names)
    with_known = bool(len(ahead.known_names)) and enough
    given = inputs_of(memory.history, days, ahead.scaled(courses))
    try:
        made = ahead.predict(given, ahead.rows_of(memory.ids), with_known=with_known).astype(np.float64)
    except ModelError:
        return fallback, nothing, np.where(reason == MODEL, MODEL_FAILED, reason), False
    finite: Bool = np.asarray(np.isfinite(made).all(axis=1))
    made = np.where(finite[:, None] & (reason == MODEL)[:, None], made, np.nan)
    reason = np.where((reason == MODEL) & ~finite, MODEL_FAILED, reason)
    reason = np.where((reason == MODEL) & memory.benched, BENCHED, reason)
    share = aside(memory)
    mixed = (1.0 - share) * np.where(np.isnan(made), fallback, made) + share * fallback
    return np.where((reason == MODEL)[:, None], mixed, fallback), made, reason, with_known


def aside(memory: Memory) -> F64:
    """Return how far the model steps aside for the fallback at each lead (n, N_LEAD), 0 to 1.

    At a judged lead at which the model has lately erred as much as the fallback they share; where it has erred a
    tenth more, the fallback speaks. So nothing loses to the last value for long, whoever trained the model.
    """
    figures = memory.figures.astype(np.float64)
    model, fallback = (figures[:, :, FIGURES.index(name)] for name in ("model", "fallback"))
    ratio = model / np.maximum(fallback, 1e-12)
    share = np.clip((ratio - ASIDE_FROM) / (ASIDE_TO - ASIDE_FROM), 0.0, 1.0)
    share = np.where(figures[:, :, 0] >= ASIDE_WEIGHT, share, 0.0)  # (n, judged)
    return np.asarray(share @ _JUDGED_HATS)


def fallback_of(history: F32, days: Days) -> F64:
    """Return the fallback's medians (n, N_LEAD): last value, then a week ago, then the newest day that is known."""
    lead = np.arange(N_LEAD)
    # Days back; a clock change is an hour more or less.
    back = np.rint((N_ROW + lead[:, None] - days.near) / PER_DAY)
    week = days.near[lead, np.argmax(back == WEEK_DAYS, axis=1)]
    out = history[:, week].astype(np.float64)
    holed = np.flatnonzero(np.isnan(out).any(axis=1))
    for column in range(days.near.shape[1]):
        out[holed] = np.where(np.isnan(out[holed]), history[holed][:, days.near[:, column]], out[holed])
    there = np.isfinite(history)
    age = np.where(there.any(axis=1), np.argmax(there[:, ::-1], axis=1), N_ROW - 1)
    last = history[np.arange(len(history)), N_ROW - 1 - age].astype(np.float64)  # (n,)
    out = np.where(np.isnan(out), last[:, None], out)
    fresh = (age < LAST_LEADS)[:, None] & (np.arange(N_LEAD) < LAST_LEADS)
    return np.where(fresh, last[:, None], out)


def held(quantiles: F32, history: F32, free: Bool) -> F32:
    """Return quantiles (n, 7, N_LEAD) within what the series may reach; those that add up (`free`) are left. In place."""
    there = np.isfinite(history)
    low = np.where(there, history, np.float32(np.inf)).min(axis=1)
    high = np.where(there, history, np.float32(-np.inf)).max(axis=1)
    room = np.float32(ROOM_RATIO) * (high - low)
    least = np.where(low >= 0.0, 0.0, low - room)
    most = np.where(high <= 0.0, 0.0, high + room)
    bound: Bool = np.asarray(there.any(axis=1) & ~free)
    least, most = (
        np.where(bound, a, far).astype(np.float32) for a, far in ((least, -np.inf), (most, np.inf))
    )
    return np.clip(quantiles, least[:, None, None], most[:, None, None], out=quantiles)


def coverage(memory: Memory) -> F64:
    """Return the share of recent means inside P05..P95 of an hour before (n,); NaN while too little was judged."""
    figures = memory.figures[:, COVERAGE_JUDGED].astype(np.float64)
    weight = figures[:, 0]
    share = figures[:, FIGURES.index("inside")] / np.maximum(weight, 1.0)
    return np.where(weight >= WEIGHT_MIN, share, np.nan)


def _spread(history: F32) -> F64:
    """Return the standard deviation of the known means of each series (n,); 0 when nothing is known."""
    there = np.isfinite(history)
    count = np.maximum(there.sum(axis=1), 1)
    values = np.where(there, history, np.float32(0.0))
    mean = values.sum(axis=1, dtype=np.float64) / count
    away = np.where(there, values - mean[:, None].astype(np.float32), np.float32(0.0))
    square = np.einsum("nt,nt->n", away, away, dtype=np.float64, casting="same_kind")
    return np.asarray(np.sqrt(square / count))


def _outside(memory: Memory, ahead: Ahead | None) -> Bool:
    """Return whether the newest mean of each series (n,) lies outside the range of its training."""
    if ahead is None:
        return np.zeros(len(memory.ids), np.bool_)
    low, high = ahead.ranges_of(memory.ids)
    room = RANGE_ROOM_RATIO * (high - low)
    newest = memory.history[:, -1].astype(np.float64)
    return np.asarray((newest < low - room) | (newest > high + room))


NO_SHAPE = band.shape_of(np.full((0, band.N_JUDGED), np.nan), np.zeros((0, band.N_JUDGED), np.int64))

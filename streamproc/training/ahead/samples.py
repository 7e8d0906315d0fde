"""Training rows for the 48-hour models, cut by the very functions that the stream calls at each issue.

A `Fleet` is what a file or the topics hold: some series on one grid of quarter hours, cleaned, with the calendar. A
sample is one series at one issue time. Only the fitted leads are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from streamproc.core.ahead.days import N_LEAD, N_ROW, STEP_S, days_of
from streamproc.core.ahead.known import LEADS_MIN, PAST_DAYS, PAST_MIN, bridged
from streamproc.core.ahead.model import KNOTS, MEMBERS, Weights, members
from streamproc.core.ahead.rows import N_COURSE, inputs_of, n_column
from streamproc.core.ahead.vintages import Vintages
from streamproc.core.graph import NumpyOps
from streamproc.errors import DataError
from streamproc.values import F32, F64, I64, Bool

ISSUES_EACH = 300  # per series, so that each can have a part of its own ...
ROWS_EACH = 60_000  # ... as long as all rows together stay below this
KNOWN_SHARE_MIN = 0.5  # of the history: less teaches what fill looks like
STRIDES = (1, 7, 11, 13, 17, 23, 29, 37, 47, 59, 73, 89, 95)  # of issue times: no factor of a day's 96


@dataclass(frozen=True, slots=True)
class Fleet:
    """Series on one grid of quarter hours; interval 0 has the number `start` since 1970-01-01 UTC."""

    names: tuple[str, ...]
    start: int
    value: F32  # (n_series, n_interval), NaN = unknown or not to be believed
    offset_s: I64  # (n_interval + N_LEAD,)
    holiday: Bool  # (n_interval + N_LEAD,)
    known: F64  # (n_column, n_interval + N_LEAD), in spreads; NaN = unknown
    known_names: tuple[str, ...] = ()  # of `known`, then of `vintages`
    vintages: Vintages | None = None  # known ahead, each value with the time since which it was known

    def known_at(self, issue: int) -> tuple[F64, bool]:
        """Return what was known ahead at an issue (n_known, N_ROW + N_LEAD), and whether the stream would use it."""
        column = np.nan_to_num(self.known[:, issue - N_ROW : issue + N_LEAD])
        if self.vintages is None:
            return column, True
        told, enough = bridged(
            self.vintages.at((self.start + issue) * STEP_S, issue - N_ROW, issue + N_LEAD).T
        )
        return np.concatenate([column, told]), enough


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows of some issues; n = issues times series, in the order of time."""

    issue: I64  # (n,), interval of the first lead
    series: I64  # (n,)
    rows: F32  # (n, n_knot, n_column)
    curve: F32  # (n, Z)
    fallback: F32  # (3, n, n_knot): last, day, week
    truth: F32  # (n, n_knot), in spreads; NaN = unknown
    spread: F32  # (n,)
    about: F32  # (n, n_knot, n_about), for trees

    def take(self, at: I64 | Bool) -> Samples:
        """Return some of them."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return Samples(**{n: part[:, at] if n == "fallback" else part[at] for n, part in parts.items()})


def issues_of(fleet: Fleet, first: int, until: int, n_max: int) -> I64:
    """Return issue times (n,) whose leads end before `until`, spread over all times of the day."""
    begin, end = max(first, N_ROW), until - N_LEAD
    if end <= begin:
        days = (until - first) / 96
        raise DataError(
            f"{', '.join(fleet.names[:3])}: {days:.1f} days of history, at least {(N_ROW + N_LEAD) / 96 + 1:.0f} are needed"
        )
    wanted = max(n_max // len(fleet.names), min(ISSUES_EACH, ROWS_EACH // len(fleet.names)), 50)
    least = (end - begin) / wanted
    stride = next((s for s in STRIDES if s >= least), STRIDES[-1])
    return np.arange(begin, end, stride)[-max(wanted, 1) * 2 :]


def samples(fleet: Fleet, issues: I64) -> Samples:
    """Return the samples of all series at these issue times."""
    n_known = N_COURSE * len(fleet.known_names)
    # Members that need no fitting are asked through the model itself, with weights of zero.
    nothing = Weights(
        np.zeros((N_LEAD, n_column(n_known))),
        np.zeros((1, n_column(n_known), 1)),
        np.zeros((1, 30)),
        np.zeros(30),
        np.zeros((1, N_LEAD)),
        np.zeros((1, len(MEMBERS), 10)),
    )
    made = [one for issue in issues.tolist() if (one := _one(fleet, issue, nothing)) is not None]
    if not made and fleet.vintages is not None:
        raise DataError(
            f"{', '.join(fleet.vintages.names)}: at no issue of the training enough was known: of the next 48 hours "
            f"{LEADS_MIN:.0%}, of the last {PAST_DAYS} days {PAST_MIN:.0%}, by their known_at"
        )
    if not made:
        raise DataError(f"{', '.join(fleet.names[:3])}: gaps everywhere, nothing to learn from")
    parts = {
        field.name: np.concatenate([getattr(one, field.name) for one in made], int(field.name == "fallback"))
        for field in fields(Samples)
    }
    return Samples(**parts)


def _one(fleet: Fleet, issue: int, nothing: Weights) -> Samples | None:
    window = slice(issue - N_ROW, issue + N_LEAD)
    history = fleet.value[:, issue - N_ROW : issue]
    use = np.flatnonzero(np.isfinite(history).mean(axis=1) >= KNOWN_SHARE_MIN)
    if not use.size:
        return None
    known, enough = fleet.known_at(issue)
    if not enough:
        return None
    days = days_of(fleet.start + issue, fleet.offset_s[window], fleet.holiday[window])
    given = inputs_of(np.ascontiguousarray(history[use]), days, known)
    each, seen, curve = members(NumpyOps(), given, use, nothing)
    at = np.array(KNOTS) - 1
    later = fleet.value[use, issue : issue + N_LEAD]
    full = np.full((use.size, N_LEAD), np.nan, np.float32)
    full[:, : later.shape[1]] = later
    truth = (full[:, at] - seen.level) / seen.spread
    return Samples(
        np.full(use.size, issue),
        use,
        np.asarray(seen.rows[:, at], np.float32),
        np.asarray(curve, np.float32),
        np.stack([np.asarray(one[:, at], np.float32) for one in each[:3]]),
        np.asarray(truth, np.float32),
        np.asarray(seen.spread[:, 0], np.float32),
        np.repeat(np.asarray(seen.about[:, at], np.float32), use.size, axis=0),
    )

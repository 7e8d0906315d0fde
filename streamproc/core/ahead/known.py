"""What is known ahead of an area: weather, prices, holidays, planned switching, each with the time at which it was known.

    name     | past of the history ............. | leads .......... |
             | newest that was known            | as told by then  |

A value replaces an older one of the same interval when it became known later. What will only be known after the issue
waits: no forecast uses it before its time, in the service as in a backtest; what reaches beyond the leads is kept for
later issues. Values stand for the quarter hours in which their times lie; between two valid times up to GAP_ROWS apart
the course is a straight line (weather comes by the hour).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY, STEP_NS
from streamproc.values import F64, I64

GAP_ROWS = 12  # three hours
NAMES_MAX = 32  # per area
PENDING_MAX = 64  # issues that wait for their time, per area; the oldest go
N_SPAN = N_ROW + N_LEAD
LEADS_MIN = 0.9  # share that must be known
PAST_MIN = 0.8  # share of the last PAST_DAYS that must be known, to be compared with
PAST_DAYS = 3


@dataclass(frozen=True, slots=True)
class Told:
    """One record of `grid.exogenous.v1`: a course and when it was known."""

    name: str
    known_ns: int
    t_ns: I64  # (n,), valid times, increasing
    value: F64  # (n,)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an area. `start` is the number of the first lead."""

    start: int = -1
    course: Mapping[str, F64] = field(default_factory=dict)  # name -> (N_SPAN,), NaN = unknown
    at_ns: Mapping[str, I64] = field(default_factory=dict)  # name -> (N_SPAN,), when that was known
    pending: tuple[Told, ...] = ()


def told(known: Known, news: Told) -> Known:
    """Return what is known after a record; it enters with the next issue after its time."""
    return replace(known, pending=(*known.pending, news)[-PENDING_MAX:])


def known_at(known: Known, start: int) -> Known:
    """Return what is known at the issue whose first lead is interval `start`."""
    now_ns = start * STEP_NS
    moved = _moved(known, start)
    ready = sorted((one for one in moved.pending if one.known_ns <= now_ns), key=lambda one: one.known_ns)
    course, at_ns = dict(moved.course), dict(moved.at_ns)
    for one in ready:
        if one.name not in course and len(course) >= NAMES_MAX:
            continue
        old = course.get(one.name, np.full(N_SPAN, np.nan))
        old_ns = at_ns.get(one.name, np.zeros(N_SPAN, np.int64))
        here = on_grid(one, start)
        newer = np.isfinite(here) & (one.known_ns >= old_ns)
        course[one.name] = np.where(newer, here, old)
        at_ns[one.name] = np.where(newer, one.known_ns, old_ns)
    waiting = tuple(one for one in moved.pending if one.known_ns > now_ns)
    return Known(start, course, at_ns, (*_reaching(ready, start), *waiting))


def _reaching(ready: Sequence[Told], start: int) -> tuple[Told, ...]:
    """Return what reaches beyond the leads of this issue, such as the holidays of a year: later issues need it again.

    `ready` is in the order of when it was known. Left out is what a newer one of its name replaces as far as it reaches.
    """
    end_ns = (start + N_LEAD) * STEP_NS
    kept: list[Told] = []
    for one in reversed(ready):
        if not one.t_ns.size or one.t_ns[-1] < end_ns:
            continue
        newer = (n for n in kept if n.name == one.name)
        if not any(n.t_ns[0] <= end_ns and n.t_ns[-1] >= one.t_ns[-1] for n in newer):
            kept.append(one)
    return tuple(reversed(kept))


def on_grid(one: Told, start: int) -> F64:
    """Return the course (N_SPAN,) on the quarter hours around an issue; NaN outside, and in gaps over GAP_ROWS."""
    place = one.t_ns // STEP_NS - start + N_ROW
    known = np.isfinite(one.value)
    place, value = place[known], one.value[known]
    if not place.size:
        return np.full(N_SPAN, np.nan)
    place, first = np.unique(place, return_index=True)
    return line(place, value[first], N_SPAN, GAP_ROWS)


def line(place: I64, value: F64, n: int, gap: int) -> F64:
    """Return values at increasing places (at least one) as a course (n,): straight lines, NaN in gaps over `gap`."""
    grid = np.arange(n)
    course = np.interp(grid, place, value)
    right = np.minimum(np.searchsorted(place, grid), place.size - 1)
    left = np.maximum(right - (place[right] > grid), 0)
    # The last value holds for as long as the values are apart.
    hold = int(min(np.median(np.diff(place)), gap)) if place.size > 1 else 1
    near = (place[right] - place[left] <= gap) & (grid >= place[0]) & (grid <= place[-1])
    near |= (grid > place[-1]) & (grid < place[-1] + hold)
    return np.where(near, course, np.nan)


def spans(known: Known, names: Sequence[str]) -> tuple[F64, bool]:
    """Return the courses (n_name, N_SPAN) and whether they suffice for a forecast; holes are bridged."""
    unknown = np.full(N_SPAN, np.nan)
    return bridged(np.array([known.course.get(name, unknown) for name in names]).reshape(-1, N_SPAN))


def bridged(courses: F64) -> tuple[F64, bool]:
    """Return courses (n_name, N_SPAN) without holes, and whether enough of them was known for a forecast."""
    out = courses.copy()
    there = np.isfinite(out)
    enough = bool(
        (there[:, N_ROW:].mean(axis=1) >= LEADS_MIN).all()
        and (there[:, N_ROW - PAST_DAYS * PER_DAY : N_ROW].mean(axis=1) >= PAST_MIN).all()
    )
    for row in range(len(out)):
        if there[row].any():
            at = np.arange(N_SPAN)
            out[row] = np.interp(at, at[there[row]], out[row, there[row]])
    return np.nan_to_num(out), enough


def _moved(known: Known, start: int) -> Known:
    """Return the courses on the places of another issue."""
    shift = start - known.start
    if known.start < 0 or shift == 0:
        return known
    if shift < 0 or shift >= N_SPAN:
        return Known(start, pending=known.pending)

    def move(row: F64 | I64, empty: float) -> F64:
        return np.concatenate([row[shift:], np.full(shift, empty)]).astype(row.dtype)

    return Known(
        start,
        {name: move(row, np.nan) for name, row in known.course.items()},
        {name: move(row, 0) for name, row in known.at_ns.items()},  # type: ignore[misc]
        known.pending,
    )

"""Protects what is known ahead: no value is used before the time at which it was known, the newest word counts, and gaps
are bridged only so far."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY, STEP_NS
from streamproc.core.ahead.known import (
    GAP_ROWS,
    N_SPAN,
    NAMES_MAX,
    PENDING_MAX,
    Known,
    Told,
    known_at,
    on_grid,
    spans,
    told,
)

START = 2_000_000


def news(first: int, values: list[float], known: int, name: str = "t", every: int = 1) -> Told:
    place = first + every * np.arange(len(values))
    return Told(name, known * STEP_NS, place * STEP_NS, np.array(values))


def test_what_is_known_later_waits_for_its_time() -> None:
    known = told(Known(), news(START - N_ROW, [1.0] * N_SPAN, START - 10))
    known = told(known, news(START, [5.0] * N_LEAD, START + 1))
    now = known_at(known, START)
    assert (now.course["t"] == 1.0).all()
    assert len(now.pending) == 1
    later = known_at(now, START + 1)
    assert not later.pending
    assert (later.course["t"][N_ROW - 1 : N_ROW + N_LEAD - 1] == 5.0).all()
    assert (later.course["t"][: N_ROW - 1] == 1.0).all()
    exactly = known_at(told(Known(), news(START, [5.0], START)), START)  # known at the very issue
    assert exactly.course["t"][N_ROW] == 5.0


def test_the_newest_word_counts_in_whatever_order_it_came() -> None:
    old, new = news(START, [1.0] * 8, START - 8), news(START, [2.0] * 4, START - 4)
    for order in ((old, new), (new, old)):
        known = Known()
        for one in order:
            known = told(known, one)
        course = known_at(known, START).course["t"]
        assert course[N_ROW : N_ROW + 4].tolist() == [2.0] * 4
        assert course[N_ROW + 5 : N_ROW + 8].tolist() == [1.0] * 3
    apart = known_at(told(known_at(told(Known(), new), START), old), START)
    assert apart.course["t"][N_ROW : N_ROW + 4].tolist() == [2.0] * 4


def test_courses_move_with_the_issue_and_leave_at_the_end() -> None:
    known = known_at(told(Known(), news(START - N_ROW, list(range(N_SPAN)), START - 5)), START)  # type: ignore[arg-type]
    moved = known_at(known, START + 7)
    assert moved.course["t"][: N_SPAN - 7].tolist() == list(range(7, N_SPAN))
    assert np.isnan(moved.course["t"][-7:]).all()
    assert moved.at_ns["t"].dtype == np.int64
    assert moved.at_ns["t"][-7:].tolist() == [0] * 7
    assert known_at(known, START + N_SPAN).course == {}
    assert known_at(known, START - 1).course == {}


def test_hours_become_quarters_on_a_straight_line_and_long_gaps_stay() -> None:
    course = on_grid(news(START, [0.0, 4.0, 8.0], START, every=4), START)
    assert course[N_ROW : N_ROW + 9].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert course[N_ROW + 9 : N_ROW + 12].tolist() == [8.0] * 3  # the last one holds for its hour
    assert np.isnan(course[N_ROW + 12 :]).all()
    assert np.isnan(course[:N_ROW]).all()
    far = on_grid(news(START, [0.0, 1.0], START, every=GAP_ROWS + 1), START)
    assert np.isfinite(far[N_ROW : N_ROW + GAP_ROWS + 2]).sum() == 1 + 1
    near = on_grid(news(START, [0.0, 1.0], START, every=GAP_ROWS), START)
    assert np.isfinite(near[N_ROW : N_ROW + GAP_ROWS + 1]).all()
    assert np.isnan(on_grid(news(START, [np.nan] * 4, START), START)).all()
    outside = on_grid(news(START + N_LEAD + 5, [1.0] * 4, START), START)
    assert np.isnan(outside).all()


@pytest.mark.parametrize(
    ("gone", "enough"),
    [
        (slice(0, 0), True),
        (slice(N_ROW, N_ROW + N_LEAD // 10), True),
        (slice(N_ROW, N_ROW + N_LEAD // 10 + 2), False),
        (slice(N_ROW - 57, N_ROW), True),
        (slice(N_ROW - 59, N_ROW), False),
        (slice(0, N_ROW - 3 * PER_DAY), True),
    ],
)
def test_most_leads_and_the_last_days_must_be_known(gone: slice, enough: bool) -> None:
    course = np.arange(float(N_SPAN))
    course[gone] = np.nan
    known = Known(START, {"t": course, "u": np.ones(N_SPAN)}, {})
    made, found = spans(known, ("t",))
    assert found is enough
    assert np.isfinite(made).all()
    there = np.isfinite(course)
    assert made[0][there].tolist() == course[there].tolist()
    assert not spans(known, ("t", "nobody"))[1]
    assert spans(known, ())[0].shape == (0, N_SPAN)


def test_a_source_that_makes_up_names_or_never_ends_is_bounded() -> None:
    known = Known()
    for at in range(NAMES_MAX + 20):
        known = told(known, news(START, [1.0], START, name=f"n{at}"))
    assert len(known_at(known, START).course) == NAMES_MAX
    waiting = Known()
    for at in range(PENDING_MAX + 9):
        waiting = told(waiting, news(START, [float(at)], START + 1 + at))
    assert len(waiting.pending) == PENDING_MAX
    assert waiting.pending[-1].value[0] == PENDING_MAX + 8

"""Protects the ISA-18.2 states: each transition is the table's, nothing else happens, and the docs show this table."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from streamproc.core.alarm import ROWS, Happening, Row, State, after, markdown

STATES: tuple[State, ...] = get_args(State)
HAPPENINGS: tuple[Happening, ...] = get_args(Happening)
DOCS = Path(__file__).parents[2] / "docs" / "ALARMS.md"


@pytest.mark.parametrize(
    ("path", "states"),
    [
        ("raise acknowledge clear", "UNACK ACKED NORM"),
        ("raise clear acknowledge", "UNACK RTNUN NORM"),
        ("raise clear raise acknowledge", "UNACK RTNUN UNACK ACKED"),
        ("raise acknowledge worsen clear", "UNACK ACKED UNACK RTNUN"),
        ("raise acknowledge clear raise", "UNACK ACKED NORM UNACK"),
        ("raise acknowledge clear unacknowledge", "UNACK ACKED NORM RTNUN"),
        ("raise shelve expire acknowledge", "UNACK SHLVD UNACK ACKED"),
        ("raise shelve unshelve clear", "UNACK SHLVD ACKED NORM"),
        ("raise suppress unsuppress", "UNACK DSUPR UNACK"),
        ("raise suppress shelve out_of_service return_to_service", "UNACK DSUPR SHLVD OOSRV UNACK"),
    ],
)
def test_a_life_goes_through_its_states(path: str, states: str) -> None:
    state: State = "NORM"
    seen = []
    for happening in path.split():
        state = after(state, happening)  # type: ignore[arg-type]
        seen.append(state)
    assert seen == states.split()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state}-{row.happening}-{row.active}")
def test_every_row_is_what_happens(row: Row) -> None:
    for active in (True, False) if row.active is None else (row.active,):
        assert after(row.state, row.happening, active=active) == row.after
    assert row.after != row.state


def test_what_the_table_does_not_hold_changes_nothing() -> None:
    held = {(row.state, row.happening) for row in ROWS}
    others = set(product(STATES, HAPPENINGS)) - held
    assert others
    for state, happening in others:
        assert after(state, happening, active=True) == after(state, happening, active=False) == state


def test_rows_are_unambiguous_and_every_state_is_reached_and_left() -> None:
    keys = [row[:3] for row in ROWS]
    assert len(set(keys)) == len(keys)
    for state, happening, active in keys:
        assert active is None or (state, happening, not active) in keys
    assert {row.state for row in ROWS} == set(STATES) == {row.after for row in ROWS}


def test_nothing_that_is_active_becomes_normal_unseen() -> None:
    for row in ROWS:
        if row.after == "NORM":
            seen = row.happening == "acknowledge" or row.state == "ACKED"
            assert seen or row.active is False


def test_the_docs_show_the_table_that_the_code_runs_on() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text.split("<!-- table -->\n")[1] == markdown()

"""Protects the ISA-18.2 states: each transition is the table's, and nothing else happens."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from streamproc.core.alarm import TRANSITIONS, Happening, State, after

STATES = get_args(State)
HAPPENINGS = get_args(Happening)


@pytest.mark.parametrize(
    ("path", "states"),
    [
        ("raise acknowledge clear", "UNACK ACKED NORM"),
        ("raise clear acknowledge", "UNACK RTNUN NORM"),
        ("raise clear raise acknowledge", "UNACK RTNUN UNACK ACKED"),
        ("raise acknowledge worsen clear", "UNACK ACKED UNACK RTNUN"),
        ("raise acknowledge clear raise", "UNACK ACKED NORM UNACK"),
    ],
)
def test_a_life_goes_through_its_states(path: str, states: str) -> None:
    state, seen = "NORM", []
    for happening in path.split():
        state = after(state, happening)  # type: ignore[arg-type]
        seen.append(state)
    assert seen == states.split()


@pytest.mark.parametrize(("state", "happening"), sorted(set(product(STATES, HAPPENINGS)) - set(TRANSITIONS)))
def test_what_the_table_does_not_hold_changes_nothing(state: State, happening: Happening) -> None:
    assert after(state, happening) == state


def test_every_state_is_reached_and_left() -> None:
    assert {state for state, _ in TRANSITIONS} == set(STATES)
    assert set(TRANSITIONS.values()) == set(STATES)


def test_nothing_becomes_normal_unseen() -> None:
    for (state, happening), following in TRANSITIONS.items():
        if following == "NORM":
            assert happening == "acknowledge" or state == "ACKED"

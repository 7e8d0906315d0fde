"""The alarm states of ISA-18.2 as a table: what an alert is, and what may happen to it.

    NORM    normal: not active, nothing to acknowledge      (A in the standard's figure)
    UNACK   active, not acknowledged                        (B)
    ACKED   active, acknowledged                            (C)
    RTNUN   returned to normal, not acknowledged            (D)

Bad or missing input is not in the table: it changes no state.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

State: TypeAlias = Literal["NORM", "UNACK", "ACKED", "RTNUN"]
Happening: TypeAlias = Literal["raise", "worsen", "clear", "acknowledge"]

TRANSITIONS: dict[tuple[State, Happening], State] = {
    ("NORM", "raise"): "UNACK",
    ("UNACK", "acknowledge"): "ACKED",
    ("UNACK", "clear"): "RTNUN",
    ("ACKED", "clear"): "NORM",
    ("ACKED", "worsen"): "UNACK",  # re-alarm: the priority rose after somebody had seen it
    ("RTNUN", "acknowledge"): "NORM",
    ("RTNUN", "raise"): "UNACK",
}


def after(state: State, happening: Happening) -> State:
    """Return the state after; what the table does not hold changes nothing."""
    return TRANSITIONS.get((state, happening), state)

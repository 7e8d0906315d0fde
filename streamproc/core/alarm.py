"""The alarm states of ISA-18.2 (IEC 62682) as a table: what an alert is, and what may happen to it.

    NORM    normal: not active, nothing to acknowledge                        A in the standard's figure
    UNACK   active, not acknowledged                                          B
    ACKED   active, acknowledged                                              C
    RTNUN   returned to normal, not acknowledged                              D
    SHLVD   shelved by an operator: a name, a reason, an end                  E
    DSUPR   suppressed by design: a cause that stands above it is active      F
    OOSRV   out of service, for maintenance                                   G

In E, F and G the condition goes on being watched: what the alert becomes afterwards depends on it (`active`). Bad or missing
input is not in the table: it changes no state. docs/ALARMS.md is printed from here (`streamproc alarms table`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"]
Happening: TypeAlias = Literal[
    "raise",
    "worsen",
    "clear",
    "acknowledge",
    "unacknowledge",
    "shelve",
    "unshelve",
    "expire",
    "suppress",
    "unsuppress",
    "out_of_service",
    "return_to_service",
]

QUIET: frozenset[State] = frozenset({"SHLVD", "DSUPR", "OOSRV"})  # not annunciated, on purpose


class Row(NamedTuple):
    """One transition. `active`: what the condition must be; None: either."""

    state: State
    happening: Happening
    active: bool | None
    after: State
    note: str


ROWS: tuple[Row, ...] = (
    Row("NORM", "raise", None, "UNACK", "the condition held for its on-delay"),
    Row(
        "NORM", "unacknowledge", None, "RTNUN", "the acknowledgement was a mistake, and it has returned since"
    ),
    Row("UNACK", "acknowledge", None, "ACKED", "user, time and comment are kept"),
    Row("UNACK", "clear", None, "RTNUN", "false for its off-delay, beyond the deadband"),
    Row("ACKED", "clear", None, "NORM", "false for its off-delay, beyond the deadband"),
    Row("ACKED", "worsen", None, "UNACK", "re-alarm: the priority rose after somebody had seen it"),
    Row("ACKED", "unacknowledge", None, "UNACK", "the acknowledgement was a mistake"),
    Row("RTNUN", "acknowledge", None, "NORM", ""),
    Row("RTNUN", "raise", None, "UNACK", ""),
    Row("NORM", "shelve", None, "SHLVD", "named user, reason and end are required"),
    Row("UNACK", "shelve", None, "SHLVD", "named user, reason and end are required"),
    Row("ACKED", "shelve", None, "SHLVD", "named user, reason and end are required"),
    Row("RTNUN", "shelve", None, "SHLVD", "named user, reason and end are required"),
    Row("SHLVD", "unshelve", True, "ACKED", "by hand: somebody is looking at it"),
    Row("SHLVD", "unshelve", False, "NORM", ""),
    Row("SHLVD", "expire", True, "UNACK", "its time is over: nobody need be looking"),
    Row("SHLVD", "expire", False, "NORM", "also a one-shot shelf when the condition returns"),
    Row("SHLVD", "worsen", None, "UNACK", "what was shelved was less urgent than this"),
    Row("UNACK", "suppress", None, "DSUPR", "never an alert of priority 1"),
    Row("ACKED", "suppress", None, "DSUPR", "never an alert of priority 1"),
    Row("RTNUN", "suppress", None, "DSUPR", "never an alert of priority 1"),
    Row("DSUPR", "unsuppress", True, "UNACK", "its cause has gone, or it became priority 1"),
    Row("DSUPR", "unsuppress", False, "NORM", ""),
    Row("DSUPR", "shelve", None, "SHLVD", ""),
    Row("NORM", "out_of_service", None, "OOSRV", "named user and reason are required"),
    Row("UNACK", "out_of_service", None, "OOSRV", "named user and reason are required"),
    Row("ACKED", "out_of_service", None, "OOSRV", "named user and reason are required"),
    Row("RTNUN", "out_of_service", None, "OOSRV", "named user and reason are required"),
    Row("SHLVD", "out_of_service", None, "OOSRV", "the shelf is over with it"),
    Row("DSUPR", "out_of_service", None, "OOSRV", ""),
    Row("OOSRV", "return_to_service", True, "UNACK", ""),
    Row("OOSRV", "return_to_service", False, "NORM", ""),
)

_AFTER: dict[tuple[State, Happening, bool | None], State] = {row[:3]: row.after for row in ROWS}


def after(state: State, happening: Happening, *, active: bool = True) -> State:
    """Return the state after; what the table does not hold changes nothing."""
    known = _AFTER.get((state, happening, None))
    return known if known is not None else _AFTER.get((state, happening, active), state)


def markdown() -> str:
    """Return the table as Markdown."""
    words = {None: "either", True: "yes", False: "no"}
    lines = ["| state | what happens | active | state after | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.state} | {row.happening.replace('_', ' ')} | {words[row.active]} | {row.after} | {row.note} |"
        for row in ROWS
    ]
    return "\n".join(lines) + "\n"

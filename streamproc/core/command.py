"""What operators say to one alert: done, already so, too late, not theirs or not possible, and told back on its record.

A command is done when the table of `core.alarm` has a row for it. Otherwise it has one defined result:

    repeated    the same command id came before, or the alert is already what is asked for
    late        it was sent before the alert was last raised: who sent it has not seen that
    refused     the name is not listed for the position; the state has no such row; a shelf without reason or end

Times are those of the command. Of several consoles the order of the records decides, so every replay agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from streamproc.core.alarm import Happening, after
from streamproc.core.messages import Operator
from streamproc.core.open_alert import OpenAlert, Result, Told, unheld

COMMANDS_MAX = 16  # ids remembered per alert: a console repeats what it sent last, not last week's
LATE_US = 1_000_000  # clocks of consoles may be off by this
ANSWERS = frozenset({"accept", "reject", "not_now"})  # of recommendations: the advising stage takes them
# What an alert is when an action has nothing left to do.
ALREADY: Mapping[str, frozenset[str]] = {
    "acknowledge": frozenset({"ACKED", "NORM"}),
    "unacknowledge": frozenset({"UNACK", "RTNUN"}),
    "out_of_service": frozenset({"OOSRV"}),
}
OF_WHAT_IS_SEEN = frozenset(
    {"acknowledge", "shelve", "out_of_service"}
)  # they judge the alert: it must have been seen


@dataclass(frozen=True, slots=True)
class CommandRules:
    """What the site says about commands. `users`: position -> names; a position that is not there lists nobody out."""

    shelve_max_us: int
    users: Mapping[str, frozenset[str]]


def command_id(said: Operator) -> str:
    """Return the id of a command: its own, else a hash of all that it says."""
    if said.command_id:
        return said.command_id
    words = (said.action, said.alert_id, said.user, said.ts_us, said.reason, said.until_ts_us, said.one_shot)
    return sha256("|".join(map(str, words)).encode()).hexdigest()[:16]


def carried_out(alert: OpenAlert, said: Operator, rules: CommandRules) -> OpenAlert:
    """Return the alert after a command of `ACTIONS`, with its result; the state is the old one unless it was done."""
    identity = command_id(said)
    result, reason = _judged(alert, said, rules, identity)
    told = Told(identity, said.action, said.user, said.ts_us, result, reason)
    alert = replace(alert, command=told, commands=(*alert.commands, identity)[-COMMANDS_MAX:])
    return ACTIONS[said.action](alert, said) if result == "done" else alert


def _judged(alert: OpenAlert, said: Operator, rules: CommandRules, identity: str) -> tuple[Result, str]:
    listed = rules.users.get(alert.position)
    if listed is not None and said.user not in listed:
        return "refused", f"{said.user!r:.80} is not listed for position {alert.position}"
    if identity in alert.commands:
        return "repeated", f"command {identity:.80} was answered before"
    if said.action == "reset":
        return ("done", "") if alert.latched else ("refused", "it is not latched")
    happening: Happening = said.action  # type: ignore[assignment]
    if after(alert.state, happening, active=alert.open) == alert.state:
        if alert.state in ALREADY.get(said.action, ()):
            return "repeated", f"it is {alert.state} already"
        return "refused", f"it is {alert.state}: {said.action} is not for that"
    if said.ts_us + LATE_US < alert.raised_us and said.action in OF_WHAT_IS_SEEN:
        return "late", "it was raised again after this was sent"
    if said.action == "unacknowledge" and alert.ack_by is None:
        return "refused", "nobody acknowledged it"
    return _reasoned(said, rules) if said.action in {"shelve", "out_of_service"} else ("done", "")


def _reasoned(said: Operator, rules: CommandRules) -> tuple[Result, str]:
    if not said.reason.strip():
        return "refused", f"{said.action} needs a reason"
    if said.action == "out_of_service":
        return "done", ""
    if said.until_ts_us <= said.ts_us:
        return "refused", "shelve needs an end (until_ts_us) after its own time"
    if said.until_ts_us - said.ts_us > rules.shelve_max_us:
        return "refused", f"at most {rules.shelve_max_us // 60_000_000} min (decide.shelve_max_min)"
    return "done", ""


def _acknowledge(alert: OpenAlert, said: Operator) -> OpenAlert:
    state = after(alert.state, "acknowledge")
    return replace(alert, state=state, ack_by=said.user, ack_comment=said.comment or None)


def _unacknowledge(alert: OpenAlert, said: Operator) -> OpenAlert:
    del said
    return replace(alert, state=after(alert.state, "unacknowledge"), ack_by=None, ack_comment=None)


def _shelve(alert: OpenAlert, said: Operator) -> OpenAlert:
    return replace(
        alert,
        state=after(alert.state, "shelve"),
        returned=not alert.open,
        held_by=said.user,
        held_reason=said.reason.strip(),
        held_until_us=said.until_ts_us,
        one_shot=said.one_shot,
        suppressed_by=None,
    )


def _out_of_service(alert: OpenAlert, said: Operator) -> OpenAlert:
    shelved = _shelve(alert, said)
    return replace(shelved, state=after(alert.state, "out_of_service"), held_until_us=0, one_shot=False)


def _unshelve(alert: OpenAlert, said: Operator) -> OpenAlert:
    return unheld(alert, "unshelve", said.ts_us, said.user)


def _return_to_service(alert: OpenAlert, said: Operator) -> OpenAlert:
    return unheld(alert, "return_to_service", said.ts_us)


def _reset(alert: OpenAlert, said: Operator) -> OpenAlert:
    del said
    return replace(alert, latched=False, state=after(alert.state, "clear"))


ACTIONS: Mapping[str, Callable[[OpenAlert, Operator], OpenAlert]] = {
    "acknowledge": _acknowledge,
    "unacknowledge": _unacknowledge,
    "shelve": _shelve,
    "unshelve": _unshelve,
    "out_of_service": _out_of_service,
    "return_to_service": _return_to_service,
    "reset": _reset,
}

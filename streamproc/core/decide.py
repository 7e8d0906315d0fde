"""Findings into alerts: one disturbance is one alert, with its first-in, told in one sentence.

Findings of one area and family belong together when a raise comes within `group_window` of the last new member, or when
the same rule at the same source is part of an open alert and cleared less than `group_window` ago (it chatters). So a
fault that forty PMUs see, and the oscillation that follows it, are one alert; a second fault ten minutes into a long
oscillation is another, also where the same PMUs see it, and so is a raise that stands far out of what was there.

    raise    ^ first one: a new alert, seq 1, UNACK        joins: told again when an operator must know more
    update   the peak of the leading rule grew, the sources doubled: told at most once a second, never forgotten
    describe what kind of disturbance, where, how big: told each time, within the same alert
    clear    all members clear for `quiet`: RTNUN (or NORM when it was acknowledged)
    bad data is not here: conditions hold while the input is unknown (`core.alarm_logic`)

What is shelved, suppressed or out of service takes in what its own members do and nothing else: a raise from elsewhere,
or one that stands out, is a new alert. All times are event times, microseconds UTC; only a command carries the
operator's. A finding that comes twice changes nothing. Alerts that are over are forgotten when nothing can join them any
more; what nobody acknowledged stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamproc.core.alarm import QUIET, after
from streamproc.core.alarm_logic import (
    BLIND_RULES,
    CANNOT_EVALUATE,
    SILENT_RULES,
    Suppress,
    doubted,
    suppressed,
)
from streamproc.core.alarm_time import UPDATE_INTERVAL_US, passed
from streamproc.core.command import CommandRules, carried_out
from streamproc.core.messages import Alert, Finding, Operator
from streamproc.core.open_alert import (
    ACTIVE,
    OpenAlert,
    as_message,
    first_in,
    led_by,
    opened,
    peak,
    peaked,
    unheld,
)
from streamproc.core.rules_message import Rules

SEEN_MAX = 512  # finding ids remembered per area: more than a re-delivery after a restart can bring
AGAIN_US = 10_000_000  # so long after its onset all of a disturbance has shown itself
OUTSTANDING = 2.0  # times the largest score of an alert
# Beyond it the oldest that returned to normal are forgotten here; their records stay in the topic.
OPEN_ALERTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class DecideSettings:
    """The site file's `[decide]`, `[[suppress]]` and `[[position]]`, in microseconds. `latch`: patterns of rules."""

    group_window_us: int
    quiet_us: int
    sources_max: int
    hold_max_us: int
    latch: tuple[str, ...]
    suppress: tuple[Suppress, ...]
    commands: CommandRules


@dataclass(frozen=True, slots=True)
class DecideState:
    """All alerts that are open or may still be joined, and the ids of recent findings per area."""

    alerts: Mapping[str, OpenAlert] = field(default_factory=dict)
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    eras: tuple[Rules, ...] = ()  # rationalised rules, learnt again after every start
    strange: int = 0  # records of rules that nobody could read, not counted yet


def take_finding(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state after a finding and the transitions to tell."""
    area, ts_us = finding.area, finding.ts_us
    if finding.type == "watermark":  # the same time twice changes nothing: no need to remember its id
        state, told = _pass_time(state, area, ts_us, settings)
        state, more = _related(state, area, ts_us, settings, doubts=True)
        return state, told + more
    seen = state.seen.get(area, ())
    if finding.finding_id in seen:
        return state, []
    state = replace(state, seen={**state.seen, area: (*seen, finding.finding_id)[-SEEN_MAX:]})
    state, told = _pass_time(state, area, ts_us, settings)
    if finding.type == "raise":
        state, more = _raise(state, finding, settings)
    elif finding.type == "update":
        state, more = _update(state, finding, settings)
    elif finding.type == "describe":
        state, more = _describe(state, finding, settings)
    else:
        state, more = _clear(state, finding), []
    blinding = finding.rule in BLIND_RULES or finding.rule in SILENT_RULES
    state, last = _related(state, area, ts_us, settings, doubts=blinding)
    return state, told + more + last


def command(
    state: DecideState, said: Operator, settings: DecideSettings
) -> tuple[DecideState, list[Alert], str]:
    """Return the state after an operator's command, what is told of it, and its result."""
    alert = carried_out(state.alerts[said.alert_id], said, settings.commands)
    told_us = alert.told_us  # event time: the operator's clock must not hold back what the grid says next
    state, told = _tell(state, alert, max(said.ts_us, told_us), settings)
    result = "" if alert.command is None else alert.command.result
    return _kept(state, replace(state.alerts[alert.alert_id], told_us=told_us)), told, result


def _related(
    state: DecideState, area: str, ts_us: int, settings: DecideSettings, *, doubts: bool
) -> tuple[DecideState, list[Alert]]:
    """What the alerts of an area mean for each other by now."""
    told: list[Alert] = []
    changed: list[OpenAlert] = []
    if doubts and any(a.unknown_us is not None or a.family != "grid" for a in state.alerts.values()):
        changed = doubted(_of_area(state, area), ts_us, settings.hold_max_us)
    for alert in changed:
        state, more = _tell(state, alert, max(ts_us, alert.told_us), settings)
        told += more
    if settings.suppress:
        for alert in suppressed(_of_area(state, area), ts_us, settings.suppress):
            state, more = _tell(state, alert, max(ts_us, alert.told_us), settings)
            told += more
    return state, told


def _raise(state: DecideState, finding: Finding, settings: DecideSettings) -> tuple[DecideState, list[Alert]]:
    first = first_in(finding)
    new_members = dict.fromkeys(((finding.rule, source) for source in finding.sources), ACTIVE)
    before = _home(state, finding, settings)
    if before is None:
        alert = opened(finding, first, new_members)
        if alert.alert_id in state.alerts:
            return state, []  # a finding so old that its id is no longer remembered; its alert is
        return _tell(state, alert, finding.ts_us, settings)
    if all(finding.ts_us <= before.members.get(key, ACTIVE) for key in new_members):
        return state, []  # so old that its id is no longer remembered: these have cleared since
    alert = _joined(before, finding, first, new_members)
    worse = alert.priority < before.priority or alert.onset_us < before.onset_us
    if worse or alert.state != before.state:
        return _tell(state, alert, finding.ts_us, settings)
    if before.returned or before.latched or len(alert.sources) >= 2 * alert.told_sources:
        return _grown(state, alert, finding.ts_us, settings)
    return _kept(state, alert), []


def _joined(
    before: OpenAlert, finding: Finding, first: tuple[int, str], new_members: dict[tuple[str, str], int]
) -> OpenAlert:
    """Return the alert with the members of a raise."""
    # What chatters keeps no group open: a new event among its raises must not be taken for more of the same.
    spreads = not new_members.keys() <= before.members.keys()
    alert = replace(
        before,
        members={**before.members, **new_members},
        last_raise_us=max(before.last_raise_us, finding.ts_us) if spreads else before.last_raise_us,
        cleared_us=None,
        flags=before.flags | finding.quality,
        state=after(after(before.state, "clear") if before.latched else before.state, "raise"),
        latched=False,
        returned=False,
    )
    if finding.priority < before.priority:
        alert = led_by(alert, finding)
        if after(alert.state, "worsen") != alert.state:
            alert = unheld(alert, "worsen", finding.ts_us)
    elif finding.rule == alert.rule:
        alert = peaked(alert, finding)
    # First-in is the earliest onset; of the same onset, that of the higher priority.
    if (first[0], finding.priority) < (alert.onset_us, before.priority):
        alert = replace(alert, onset_us=first[0], source=first[1])
    if alert.state != before.state:  # UNACK again: what was said of the time before does not hold for this
        alert = replace(alert, ack_by=None, ack_comment=None, raised_us=finding.ts_us)
    return alert


def _update(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """A peak grew: it is told where its rule leads."""
    told: list[Alert] = []
    for before in _having(state, finding):
        alert = replace(before, flags=before.flags | finding.quality)
        grown = peaked(alert, finding) if finding.rule == alert.rule else alert
        if grown is alert:
            state = _kept(state, alert)
        else:
            state, more = _grown(state, grown, finding.ts_us, settings)
            told += more
    return state, told


def _describe(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """What is known of the disturbance by now; of two disturbances in one alert the first is described."""
    new = finding.disturbance
    near = [
        a
        for a in state.alerts.values()
        if new is not None
        and a.area == finding.area
        and a.family == "grid"
        and a.onset_us <= new.ts_us
        and new.onset_ts_us <= a.last_raise_us + settings.group_window_us
    ]
    alert = max(near, key=lambda a: (a.last_raise_us, a.alert_id), default=None)
    if alert is None or new is None:
        return state, []
    known = alert.disturbance
    if known is not None and known.kind != "unknown" and known.onset_ts_us != new.onset_ts_us:
        return state, []
    return _tell(state, replace(alert, disturbance=new), finding.ts_us, settings)


def _grown(
    state: DecideState, alert: OpenAlert, ts_us: int, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Tell it now, or, when it was told less than a second ago, as soon as that second is over."""
    if ts_us - alert.told_us < UPDATE_INTERVAL_US:
        return _kept(state, replace(alert, unsaid=True)), []
    return _tell(state, alert, ts_us, settings)


def _clear(state: DecideState, finding: Finding) -> DecideState:
    """Clear these members wherever they are: one instant may end parts of several alerts."""
    for alert in _having(state, finding):
        keys = [(finding.rule, source) for source in finding.sources]
        gone = {key: finding.ts_us for key in keys if alert.members.get(key) == ACTIVE}
        changed = replace(alert, members={**alert.members, **gone})
        if gone and not changed.active:
            changed = replace(changed, cleared_us=finding.ts_us)
        state = _kept(state, changed)
    return state


def _pass_time(
    state: DecideState, area: str, ts_us: int, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state at `ts_us`: quiet alerts of the area return to normal, finished ones are forgotten."""
    told: list[Alert] = []
    over: set[str] = set()
    for before in list(state.alerts.values()):
        now = passed(before, area, ts_us, settings.quiet_us, settings.latch)
        if now is not None:
            state, more = _tell(state, *now, settings)
            told += more
        alert = before if now is None else now[0]
        is_past = ts_us - alert.last_raise_us > settings.group_window_us
        if alert.area == area and alert.state == "NORM" and is_past:
            over.add(alert.alert_id)
    if over:
        state = replace(state, alerts={k: v for k, v in state.alerts.items() if k not in over})
    return state, told


def _home(state: DecideState, finding: Finding, settings: DecideSettings) -> OpenAlert | None:
    """Return the alert that a raise belongs to, or None when it is a new one."""
    keys = [(finding.rule, source) for source in finding.sources]
    window_us = settings.group_window_us

    def chatters(alert: OpenAlert) -> bool:
        if alert.state in QUIET:
            outstanding = alert.state != "OOSRV" and _stands_out(finding, alert)
            return alert.members.keys() >= set(keys) and not outstanding
        said = (alert.members[key] for key in keys if key in alert.members)
        return any(value == ACTIVE or abs(finding.ts_us - value) <= window_us for value in said)

    near = [
        a
        for a in state.alerts.values()
        if a.area == finding.area
        and a.family == finding.family
        and a.state not in QUIET
        and a.rule != CANNOT_EVALUATE
        and abs(finding.ts_us - a.last_raise_us) <= window_us
        and not _stands_out(finding, a)
    ]
    found = [a for a in _having(state, finding) if chatters(a)] or near
    return max(found, key=lambda a: (a.last_raise_us, a.alert_id), default=None)


def _stands_out(finding: Finding, alert: OpenAlert) -> bool:
    """Return whether a raise is so much larger than what an alert has seen that it is no consequence of it.

    What follows a disturbance is smaller than it; only oscillations grow.
    """
    if finding.family != "grid" or finding.kind == "oscillation" or finding.ts_us - alert.onset_us < AGAIN_US:
        return False
    return peak(finding)[0] >= OUTSTANDING * alert.score


def _having(state: DecideState, finding: Finding) -> list[OpenAlert]:
    """Return the alerts, not yet returned to normal or held quiet, that have one of these conditions as a member."""
    keys = {(finding.rule, source) for source in finding.sources}
    return [
        a
        for a in state.alerts.values()
        if (a.open or a.state in QUIET)
        and a.area == finding.area
        and a.family == finding.family
        and not keys.isdisjoint(a.members)
    ]


def _of_area(state: DecideState, area: str) -> list[OpenAlert]:
    return [alert for alert in state.alerts.values() if alert.area == area]


def _kept(state: DecideState, alert: OpenAlert) -> DecideState:
    return replace(state, alerts={**state.alerts, alert.alert_id: alert})


def _tell(
    state: DecideState, alert: OpenAlert, ts_us: int, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    sources = alert.sources
    alert = replace(alert, seq=alert.seq + 1, told_us=ts_us, told_sources=len(sources), unsaid=False)
    state = _bounded(_kept(state, alert))
    return state, [as_message(alert, ts_us, settings.sources_max)]


def _bounded(state: DecideState) -> DecideState:
    if len(state.alerts) <= OPEN_ALERTS_MAX:
        return state
    over = [a for a in state.alerts.values() if a.state in {"RTNUN", "NORM"}]
    oldest = {
        a.alert_id for a in sorted(over, key=lambda a: a.last_raise_us)[: len(state.alerts) - OPEN_ALERTS_MAX]
    }
    return replace(state, alerts={k: v for k, v in state.alerts.items() if k not in oldest})

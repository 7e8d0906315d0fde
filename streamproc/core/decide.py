"""Findings into alerts: one disturbance is one alert, with its first-in, told in one sentence.

Findings of one area and family belong together when a raise comes within `group_window` of the last one, or when the
same rule at the same source is part of an open alert and cleared less than `group_window` ago (it chatters). So a fault
that forty PMUs see, and the oscillation that follows it, are one alert; a second fault ten minutes into a long
oscillation is another, also where the same PMUs see it.

    raise    ^ first one: a new alert, seq 1, UNACK        joins: told again when an operator must know more
    update   the peak of the leading rule grew, the sources doubled: told at most once a second, never forgotten
    clear    all members clear for `quiet`: RTNUN (or NORM when it was acknowledged)
    bad data is not here: conditions hold while the input is unknown

All times are event times, microseconds UTC; only an acknowledgement carries the operator's. A finding that comes twice
changes nothing. Alerts that are over are forgotten when nothing can join them any more; what nobody acknowledged stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from streamproc.core.alarm import State, after
from streamproc.core.messages import Alert, Finding, Operator, iso_time
from streamproc.core.quality import worst

SEEN_MAX = 512  # finding ids remembered per area: more than a re-delivery after a restart can bring
UPDATE_INTERVAL_US = 1_000_000  # an alert that only grows is told again at most once a second
# Beyond it the oldest that returned to normal are forgotten here; their records stay in the topic.
OPEN_ALERTS_MAX = 2_000
VALUE_MAX = 1e300  # a value that a float cannot hold is told as this
ACTIVE = 0  # of a member; otherwise the time of its clear


@dataclass(frozen=True, slots=True)
class DecideSettings:
    """The site file's `[decide]`, in microseconds."""

    group_window_us: int
    quiet_us: int
    sources_max: int


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """One alert and everything that its next transition needs.

    `members`: (rule, source) -> ACTIVE, or when it cleared. `unsaid`: it grew, and was told less than a second ago.
    """

    alert_id: str
    seq: int
    state: State
    family: str
    kind: str
    priority: int
    area: str
    position: str
    onset_us: int
    source: str
    rule: str
    rule_version: int
    digest: str
    score: float
    value: float  # in `unit`
    limit: float
    unit: str
    window_s: float
    text: str
    flags: int
    members: Mapping[tuple[str, str], int]
    last_raise_us: int
    cleared_us: int | None = None
    told_us: int = 0
    told_sources: int = 0
    unsaid: bool = False
    ack_by: str | None = None
    ack_comment: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources, first-in first, the others in order of their coming."""
        return tuple(dict.fromkeys([self.source, *(source for _, source in self.members)]))

    @property
    def active(self) -> bool:
        """Return whether any member is."""
        return ACTIVE in self.members.values()

    @property
    def open(self) -> bool:
        """Return whether it has not returned to normal: no other has a member that is active."""
        return self.state in {"UNACK", "ACKED"}


@dataclass(frozen=True, slots=True)
class DecideState:
    """All alerts that are open or may still be joined, and the ids of recent findings per area."""

    alerts: Mapping[str, OpenAlert] = field(default_factory=dict)
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def take_finding(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state after a finding and the transitions to tell."""
    if finding.type == "watermark":  # the same time twice changes nothing: no need to remember its id
        return _pass_time(state, finding.area, finding.ts_us, settings)
    seen = state.seen.get(finding.area, ())
    if finding.finding_id in seen:
        return state, []
    state = replace(state, seen={**state.seen, finding.area: (*seen, finding.finding_id)[-SEEN_MAX:]})
    state, told = _pass_time(state, finding.area, finding.ts_us, settings)
    if finding.type == "raise":
        state, more = _raise(state, finding, settings)
    elif finding.type == "update":
        state, more = _update(state, finding, settings)
    else:
        state, more = _clear(state, finding), []
    return state, told + more


def acknowledge(
    state: DecideState, said: Operator, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state after an acknowledgement; an alert that needs none stays as it is."""
    alert = state.alerts[said.alert_id]
    following = after(alert.state, "acknowledge")
    if following == alert.state:
        return state, []
    told_us = alert.told_us  # event time: the operator's clock must not hold back what the grid says next
    alert = replace(alert, state=following, ack_by=said.user, ack_comment=said.comment or None)
    state, told = _tell(state, alert, max(said.ts_us, told_us), settings)
    return _kept(state, replace(state.alerts[alert.alert_id], told_us=told_us)), told


def _raise(state: DecideState, finding: Finding, settings: DecideSettings) -> tuple[DecideState, list[Alert]]:
    first = _first_in(finding)
    new_members = dict.fromkeys(((finding.rule, source) for source in finding.sources), ACTIVE)
    before = _home(state, finding, settings)
    if before is None:
        alert = _opened(finding, first, new_members)
        if alert.alert_id in state.alerts:
            return state, []  # a finding so old that its id is no longer remembered; its alert is
        return _tell(state, alert, finding.ts_us, settings)
    if all(finding.ts_us <= before.members.get(key, ACTIVE) for key in new_members):
        return state, []  # so old that its id is no longer remembered: these have cleared since
    alert = replace(
        before,
        members={**before.members, **new_members},
        last_raise_us=max(before.last_raise_us, finding.ts_us),
        cleared_us=None,
        flags=before.flags | finding.quality,
        state=after(before.state, "raise"),
    )
    if finding.priority < before.priority:
        alert = replace(_led_by(alert, finding), state=after(alert.state, "worsen"))
    elif finding.rule == alert.rule:
        alert = _peaked(alert, finding)
    # First-in is the earliest onset; of the same onset, that of the higher priority.
    if (first[0], finding.priority) < (alert.onset_us, before.priority):
        alert = replace(alert, onset_us=first[0], source=first[1])
    if alert.state != before.state:  # UNACK again: what was said of the time before does not hold for this
        alert = replace(alert, ack_by=None, ack_comment=None)
    again = (
        alert.state != before.state or alert.priority < before.priority or alert.onset_us < before.onset_us
    )
    if again:
        return _tell(state, alert, finding.ts_us, settings)
    if len(alert.sources) >= 2 * alert.told_sources:
        return _grown(state, alert, finding.ts_us, settings)
    return _kept(state, alert), []


def _update(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """A peak grew: it is told where its rule leads."""
    told: list[Alert] = []
    for before in _having(state, finding):
        alert = replace(before, flags=before.flags | finding.quality)
        grown = _peaked(alert, finding) if finding.rule == alert.rule else alert
        if grown is alert:
            state = _kept(state, alert)
        else:
            state, more = _grown(state, grown, finding.ts_us, settings)
            told += more
    return state, told


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
    for alert in [a for a in state.alerts.values() if a.area == area]:
        quiet_us = None if alert.cleared_us is None else alert.cleared_us + settings.quiet_us
        said_us = alert.told_us + UPDATE_INTERVAL_US
        if alert.open and quiet_us is not None and ts_us >= quiet_us:
            state, more = _tell(state, replace(alert, state=after(alert.state, "clear")), quiet_us, settings)
            told += more
        elif alert.open and alert.unsaid and ts_us >= said_us:
            state, more = _tell(state, alert, said_us, settings)
            told += more
        now = state.alerts.get(alert.alert_id)
        if now is not None and now.state == "NORM" and ts_us - now.last_raise_us > settings.group_window_us:
            state = replace(state, alerts={k: v for k, v in state.alerts.items() if k != now.alert_id})
    return state, told


def _home(state: DecideState, finding: Finding, settings: DecideSettings) -> OpenAlert | None:
    """Return the alert that a raise belongs to, or None when it is a new one."""
    keys = [(finding.rule, source) for source in finding.sources]
    window_us = settings.group_window_us

    def chatters(alert: OpenAlert) -> bool:
        said = (alert.members[key] for key in keys if key in alert.members)
        return any(value == ACTIVE or abs(finding.ts_us - value) <= window_us for value in said)

    near = [
        a
        for a in state.alerts.values()
        if a.area == finding.area
        and a.family == finding.family
        and abs(finding.ts_us - a.last_raise_us) <= window_us
    ]
    found = [a for a in _having(state, finding) if chatters(a)] or near
    return max(found, key=lambda a: (a.last_raise_us, a.alert_id), default=None)


def _having(state: DecideState, finding: Finding) -> list[OpenAlert]:
    """Return the alerts, not yet returned to normal, that have one of these conditions as a member."""
    keys = {(finding.rule, source) for source in finding.sources}
    return [
        a
        for a in state.alerts.values()
        if a.open and a.area == finding.area and a.family == finding.family and not keys.isdisjoint(a.members)
    ]


def _opened(finding: Finding, first: tuple[int, str], members: dict[tuple[str, str], int]) -> OpenAlert:
    score, value = _peak(finding)
    onset_us, source = first
    parts = (finding.rule, finding.rule_version, finding.model_digest, finding.area, source, onset_us)
    return OpenAlert(
        alert_id=sha256("|".join(map(str, parts)).encode()).hexdigest()[:32],
        seq=0,
        state="UNACK",
        family=finding.family,
        kind=finding.kind,
        priority=finding.priority,
        area=finding.area,
        position=finding.position,
        onset_us=onset_us,
        source=source,
        rule=finding.rule,
        rule_version=finding.rule_version,
        digest=finding.model_digest,
        score=score,
        value=value,
        limit=finding.limit,
        unit=finding.unit,
        window_s=finding.window_s,
        text=finding.text,
        flags=finding.quality,
        members=members,
        last_raise_us=finding.ts_us,
    )


def _first_in(finding: Finding) -> tuple[int, str]:
    """Return the earliest onset and its source; of several in the same frame the one that shows most."""
    onset_us, _, source = min(
        zip(finding.onsets_us, (-score for score in finding.scores), finding.sources, strict=True)
    )
    return onset_us, source


def _peak(finding: Finding) -> tuple[float, float]:
    """Return the largest score and the value that goes with it."""
    values = finding.values or tuple(score * finding.limit for score in finding.scores)
    score, value = max(zip(finding.scores, values, strict=True))
    return score, min(max(value, -VALUE_MAX), VALUE_MAX)


def _peaked(alert: OpenAlert, finding: Finding) -> OpenAlert:
    """Return the alert with the score of this finding if it is the largest so far, else the very same alert."""
    score, value = _peak(finding)
    return replace(alert, score=score, value=value) if score > alert.score else alert


def _led_by(alert: OpenAlert, finding: Finding) -> OpenAlert:
    """Return the alert as the worse finding tells it; id, onset and first-in stay."""
    score, value = _peak(finding)
    return replace(
        alert,
        kind=finding.kind,
        priority=finding.priority,
        rule=finding.rule,
        rule_version=finding.rule_version,
        score=score,
        value=value,
        limit=finding.limit,
        unit=finding.unit,
        window_s=finding.window_s,
        text=finding.text,
    )


def _kept(state: DecideState, alert: OpenAlert) -> DecideState:
    return replace(state, alerts={**state.alerts, alert.alert_id: alert})


def _tell(
    state: DecideState, alert: OpenAlert, ts_us: int, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    sources = alert.sources
    alert = replace(alert, seq=alert.seq + 1, told_us=ts_us, told_sources=len(sources), unsaid=False)
    state = _bounded(_kept(state, alert))
    message = Alert(
        alert_id=alert.alert_id,
        seq=alert.seq,
        state=alert.state,
        family=alert.family,  # type: ignore[arg-type]
        kind=alert.kind,
        priority=alert.priority,
        area=alert.area,
        position=alert.position,
        onset_ts_us=alert.onset_us,
        ts_us=ts_us,
        source=alert.source,
        sources=sources[: settings.sources_max],
        members=len(sources),
        score=alert.score,
        value=alert.value,
        limit=alert.limit,
        unit=alert.unit,
        quality=worst(alert.flags),
        quality_flags=alert.flags,
        message=sentence(alert),
        rule=alert.rule,
        rule_version=alert.rule_version,
        rules=tuple(sorted({rule for rule, _ in alert.members})),
        model_digest=alert.digest,
        cleared_ts_us=alert.cleared_us if alert.state in {"RTNUN", "NORM"} else None,
        ack_by=alert.ack_by,
        ack_comment=alert.ack_comment,
    )
    return state, [message]


def sentence(alert: OpenAlert) -> str:
    """Return what an operator reads: what, where, how much, since when."""
    others = len(alert.sources) - 1
    where = alert.source + (f" and {others} other{'s' if others > 1 else ''}" if others else "")
    words = {
        "source": where,
        "value": f"{alert.value:.4g}",
        "limit": f"{alert.limit:.4g}",
        "unit": alert.unit,
        "window_s": f"{alert.window_s:g}",
    }
    # Not str.format: the text came over the wire, and a strange brace in it must not end the service.
    told = re.sub(r"\{(\w+)\}", lambda field: words.get(field[1], field[0]), alert.text)
    return f"{told} (area {alert.area}), since {iso_time(alert.onset_us * 1000)}"


def _bounded(state: DecideState) -> DecideState:
    if len(state.alerts) <= OPEN_ALERTS_MAX:
        return state
    over = [a for a in state.alerts.values() if a.state in {"RTNUN", "NORM"}]
    oldest = {
        a.alert_id for a in sorted(over, key=lambda a: a.last_raise_us)[: len(state.alerts) - OPEN_ALERTS_MAX]
    }
    return replace(state, alerts={k: v for k, v in state.alerts.items() if k not in oldest})

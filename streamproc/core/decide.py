"""Findings into alerts: one disturbance is one alert, with its first-in, told in one sentence.

Findings of one area and family belong together when a raise comes within `group_window` of the last one, or when the
same rule at the same source is already part of an open alert. So a fault that forty PMUs see, and the oscillation that
follows it, are one alert; a second fault ten minutes into a long oscillation is another.

    raise    ^ first one: a new alert, seq 1, UNACK        joins: told again when an operator must know more
    clear    all members clear for `quiet`: RTNUN (or NORM when it was acknowledged)
    bad data is not here: conditions hold while the input is unknown

All times are event times, microseconds UTC. A finding that comes twice changes nothing. Alerts that are over are forgotten
when nothing can join them any more; what nobody acknowledged stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from streamproc.core.alarm import State, after
from streamproc.core.messages import Alert, Finding, Operator, iso_time
from streamproc.core.quality import worst

SEEN_MAX = 512  # finding ids remembered per area: more than a re-delivery after a restart can bring
UPDATE_INTERVAL_US = 1_000_000  # an alert that only grows is told again at most once a second
OPEN_ALERTS_MAX = 10_000  # beyond it the oldest that returned to normal are dropped, counted


@dataclass(frozen=True, slots=True)
class DecideSettings:
    """The site file's `[decide]`, in microseconds."""

    group_window_us: int
    quiet_us: int
    sources_max: int


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """One alert and everything that its next transition needs. `members`: (rule, source) -> active."""

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
    limit: float
    unit: str
    window_s: float
    text: str
    flags: int
    members: Mapping[tuple[str, str], bool]
    last_raise_us: int
    cleared_us: int | None = None
    told_us: int = 0
    told_sources: int = 0
    ack_by: str | None = None
    ack_comment: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources, first-in first, the others in order of their coming."""
        return tuple(dict.fromkeys([self.source, *(source for _, source in self.members)]))

    @property
    def active(self) -> bool:
        """Return whether any member is."""
        return any(self.members.values())


@dataclass(frozen=True, slots=True)
class DecideState:
    """All alerts that are open or may still be joined, and the ids of recent findings per area."""

    alerts: Mapping[str, OpenAlert] = field(default_factory=dict)
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def take_finding(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state after a finding and the transitions to tell."""
    seen = state.seen.get(finding.area, ())
    if finding.finding_id in seen:
        return state, []
    state = replace(state, seen={**state.seen, finding.area: (*seen, finding.finding_id)[-SEEN_MAX:]})
    state, told = _pass_time(state, finding.area, finding.ts_us, settings)
    if finding.type == "raise":
        state, more = _raise(state, finding, settings)
        return state, told + more
    if finding.type == "update":
        state, more = _update(state, finding, settings)
        return state, told + more
    if finding.type == "clear":
        return _clear(state, finding), told
    return state, told


def acknowledge(
    state: DecideState, said: Operator, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state after an acknowledgement; an alert that needs none stays as it is."""
    alert = state.alerts[said.alert_id]
    following = after(alert.state, "acknowledge")
    if following == alert.state:
        return state, []
    alert = replace(alert, state=following, ack_by=said.user, ack_comment=said.comment or None)
    return _tell(state, alert, max(said.ts_us, alert.told_us), settings)


def _raise(state: DecideState, finding: Finding, settings: DecideSettings) -> tuple[DecideState, list[Alert]]:
    alert = _home(state, finding, settings)
    first = min(zip(finding.onsets_us, finding.sources, strict=True))
    score = max(finding.scores)
    new_members = {(finding.rule, source): True for source in finding.sources}
    if alert is None:
        return _tell(state, _opened(finding, first, score, new_members), finding.ts_us, settings)
    before = alert
    was = alert.priority
    alert = replace(
        alert,
        members={**alert.members, **new_members},
        last_raise_us=finding.ts_us,
        cleared_us=None,
        flags=alert.flags | finding.quality,
        state=after(alert.state, "raise"),
    )
    if finding.priority < was:
        alert = replace(_led_by(alert, finding, score), state=after(alert.state, "worsen"))
    elif finding.rule == alert.rule:
        alert = replace(alert, score=max(alert.score, score))
    if first[0] < alert.onset_us:
        alert = replace(alert, onset_us=first[0], source=first[1])
    must = alert.state != before.state or alert.priority < was or alert.onset_us < before.onset_us
    grown = len(alert.sources) >= 2 * alert.told_sources
    if must or (grown and finding.ts_us - alert.told_us >= UPDATE_INTERVAL_US):
        return _tell(state, alert, finding.ts_us, settings)
    return _kept(state, alert), []


def _update(
    state: DecideState, finding: Finding, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """A peak grew: tell it when it leads its alert, and not more often than once a second."""
    alert = _member_of(state, finding)
    if alert is None:
        return state, []
    score = max(finding.scores)
    alert = replace(alert, flags=alert.flags | finding.quality)
    if finding.rule != alert.rule or not score > alert.score:
        return _kept(state, alert), []
    alert = replace(alert, score=score)
    if finding.ts_us - alert.told_us < UPDATE_INTERVAL_US:
        return _kept(state, alert), []
    return _tell(state, alert, finding.ts_us, settings)


def _clear(state: DecideState, finding: Finding) -> DecideState:
    alert = _member_of(state, finding)
    if alert is None:
        return state
    gone = {
        (finding.rule, source): False for source in finding.sources if (finding.rule, source) in alert.members
    }
    alert = replace(alert, members={**alert.members, **gone})
    if not alert.active and alert.cleared_us is None:
        alert = replace(alert, cleared_us=finding.ts_us)
    return _kept(state, alert)


def _pass_time(
    state: DecideState, area: str, ts_us: int, settings: DecideSettings
) -> tuple[DecideState, list[Alert]]:
    """Return the state at `ts_us`: quiet alerts of the area return to normal, finished ones are forgotten."""
    told: list[Alert] = []
    for alert in list(state.alerts.values()):
        if alert.area != area:
            continue
        quiet_us = None if alert.cleared_us is None else alert.cleared_us + settings.quiet_us
        if quiet_us is not None and ts_us >= quiet_us and alert.state in {"UNACK", "ACKED"}:
            state, more = _tell(state, replace(alert, state=after(alert.state, "clear")), quiet_us, settings)
            told += more
        alert = state.alerts[alert.alert_id]  # noqa: PLW2901 - the same alert, after its transition
        if alert.state == "NORM" and ts_us - alert.last_raise_us > settings.group_window_us:
            state = replace(state, alerts={k: v for k, v in state.alerts.items() if k != alert.alert_id})
    return state, told


def _home(state: DecideState, finding: Finding, settings: DecideSettings) -> OpenAlert | None:
    """Return the alert that a raise belongs to, or None when it is a new one."""
    alert = _member_of(state, finding)
    if alert is not None and alert.state in {"UNACK", "ACKED"}:
        return alert
    near = [
        a
        for a in state.alerts.values()
        if a.area == finding.area
        and a.family == finding.family
        and finding.ts_us - a.last_raise_us <= settings.group_window_us
    ]
    return max(near, key=lambda a: (a.last_raise_us, a.alert_id), default=None)


def _member_of(state: DecideState, finding: Finding) -> OpenAlert | None:
    keys = [(finding.rule, source) for source in finding.sources]
    found = [
        a
        for a in state.alerts.values()
        if a.area == finding.area and a.family == finding.family and any(k in a.members for k in keys)
    ]
    return max(found, key=lambda a: (a.last_raise_us, a.alert_id), default=None)


def _opened(
    finding: Finding, first: tuple[int, str], score: float, members: dict[tuple[str, str], bool]
) -> OpenAlert:
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
        limit=finding.limit,
        unit=finding.unit,
        window_s=finding.window_s,
        text=finding.text,
        flags=finding.quality,
        members=members,
        last_raise_us=finding.ts_us,
    )


def _led_by(alert: OpenAlert, finding: Finding, score: float) -> OpenAlert:
    """Return the alert as the worse finding tells it; id, onset and first-in stay."""
    return replace(
        alert,
        kind=finding.kind,
        priority=finding.priority,
        rule=finding.rule,
        rule_version=finding.rule_version,
        score=score,
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
    alert = replace(alert, seq=alert.seq + 1, told_us=ts_us, told_sources=len(sources))
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
        value=alert.score * alert.limit,
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
    told = alert.text.format(
        source=where,
        value=f"{alert.score * alert.limit:.4g}",
        limit=f"{alert.limit:.4g}",
        unit=alert.unit,
        window_s=f"{alert.window_s:g}",
    )
    return f"{told} (area {alert.area}), since {iso_time(alert.onset_us * 1000)}"


def _bounded(state: DecideState) -> DecideState:
    if len(state.alerts) <= OPEN_ALERTS_MAX:
        return state
    over = [a for a in state.alerts.values() if a.state in {"RTNUN", "NORM"}]
    oldest = {
        a.alert_id for a in sorted(over, key=lambda a: a.last_raise_us)[: len(state.alerts) - OPEN_ALERTS_MAX]
    }
    return replace(state, alerts={k: v for k, v in state.alerts.items() if k not in oldest})

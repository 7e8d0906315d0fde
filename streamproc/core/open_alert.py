"""One open alert: how it begins, what its findings change in it, and how it is told.

Values only; which finding belongs to which alert, and when it is told, is decided in `core.decide`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Literal, TypeAlias

from streamproc.core.alarm import QUIET, Happening, State, after
from streamproc.core.disturbance import Disturbance, sentence_of
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert, Command, Finding, Held, Replay
from streamproc.core.quality import DISCARDED, worst
from streamproc.values import TOPIC_FRAMES, TOPIC_SCADA

VALUE_MAX = 1e300  # a value that a float cannot hold is told as this
ACTIVE = 0  # of a member; otherwise the time of its clear
FRAMES_US = (10_000_000, 20_000_000)  # before and after the onset: what shows a disturbance again
SCADA_US = (3_600_000_000, 1_200_000_000)
AREA_SILENT = "area_silent"  # said by no model, but about frames
Result: TypeAlias = Literal["done", "repeated", "late", "refused"]


@dataclass(frozen=True, slots=True)
class Told:
    """The last command to an alert and what became of it, as the alert's record tells it."""

    command_id: str
    action: str
    user: str
    ts_us: int
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """One alert and everything that its next transition needs.

    `members`: (rule, source) -> ACTIVE, or when it cleared. `unsaid`: it grew, and was told less than a second ago.
    `raised_us`: when it last became UNACK. `returned`: shelved, suppressed or out of service, and no longer active.
    `unknown_us`: since when no source of it can be evaluated; `doubt_id`: the alert that says so.
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
    disturbance: Disturbance | None = None
    raised_us: int = 0
    returned: bool = False
    latched: bool = False
    held_by: str | None = None
    held_reason: str | None = None
    held_until_us: int = 0
    one_shot: bool = False
    suppressed_by: str | None = None
    unknown_us: int | None = None
    doubt_id: str | None = None
    command: Told | None = None
    commands: tuple[str, ...] = ()

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
        return self.state in {"UNACK", "ACKED"} or (self.state in QUIET and not self.returned)


def opened(finding: Finding, first: tuple[int, str], members: dict[tuple[str, str], int]) -> OpenAlert:
    """Return the alert that a finding begins, before it is told."""
    score, value = peak(finding)
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
        raised_us=finding.ts_us,
    )


def unheld(alert: OpenAlert, happening: Happening, at_us: int, user: str | None = None) -> OpenAlert:
    """Return an alert that is no longer shelved, suppressed or out of service; `user`: who took it back by hand."""
    state = after(alert.state, happening, active=alert.open)
    return replace(
        alert,
        state=state,
        raised_us=at_us if state == "UNACK" else alert.raised_us,
        returned=False,
        held_by=None,
        held_reason=None,
        held_until_us=0,
        one_shot=False,
        suppressed_by=None,
        ack_by=user if state == "ACKED" else None,
        ack_comment=None,
    )


def first_in(finding: Finding) -> tuple[int, str]:
    """Return the earliest onset and its source; of several in the same frame the one that shows most."""
    onset_us, _, source = min(
        zip(finding.onsets_us, (-score for score in finding.scores), finding.sources, strict=True)
    )
    return onset_us, source


def peak(finding: Finding) -> tuple[float, float]:
    """Return the largest score and the value that goes with it."""
    values = finding.values or tuple(score * finding.limit for score in finding.scores)
    score, value = max(zip(finding.scores, values, strict=True))
    return score, min(max(value, -VALUE_MAX), VALUE_MAX)


def peaked(alert: OpenAlert, finding: Finding) -> OpenAlert:
    """Return the alert with the score of this finding if it is the largest so far, else the very same alert."""
    score, value = peak(finding)
    return replace(alert, score=score, value=value) if score > alert.score else alert


def led_by(alert: OpenAlert, finding: Finding) -> OpenAlert:
    """Return the alert as the worse finding tells it; id, onset and first-in stay."""
    score, value = peak(finding)
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


def as_message(alert: OpenAlert, ts_us: int, sources_max: int) -> Alert:
    """Return the alert as it stands in the topic at this event time."""
    sources = alert.sources
    over = alert.state in {"RTNUN", "NORM"} or alert.returned or alert.latched
    flags = alert.flags if alert.unknown_us is None else alert.flags | DISCARDED
    return Alert(
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
        sources=sources[:sources_max],
        members=len(sources),
        score=alert.score,
        value=alert.value,
        limit=alert.limit,
        unit=alert.unit,
        quality=worst(flags),
        quality_flags=flags,
        message=sentence(alert),
        rule=alert.rule,
        rule_version=alert.rule_version,
        rules=tuple(sorted({rule for rule, _ in alert.members})),
        model_digest=alert.digest,
        cleared_ts_us=alert.cleared_us if over else None,
        ack_by=alert.ack_by,
        ack_comment=alert.ack_comment,
        disturbance=alert.disturbance,
        replay=replay_of(alert.area, alert.onset_us, alert.rule, alert.digest),
        held=_held(alert),
        suppressed_by=alert.suppressed_by,
        latched=alert.latched,
        unknown_since_ts_us=alert.unknown_us,
        unknown_s=None if alert.unknown_us is None else max(0, ts_us - alert.unknown_us) / 1e6,
        command=None if alert.command is None else Command(**asdict(alert.command)),
    )


def _held(alert: OpenAlert) -> Held | None:
    if alert.held_by is None or alert.held_reason is None:
        return None
    return Held(
        by=alert.held_by,
        reason=alert.held_reason,
        until_ts_us=alert.held_until_us or None,
        one_shot=alert.one_shot,
    )


def replay_of(area: str, onset_us: int, rule: str, digest: str) -> Replay:
    """Return where the records are that caused an alert: frames if a model or their silence did, else SCADA points."""
    is_frames = bool(digest) or rule == AREA_SILENT
    before_us, after_us = FRAMES_US if is_frames else SCADA_US
    return Replay(
        topic=TOPIC_FRAMES if is_frames else TOPIC_SCADA,
        key=area,
        from_ts_us=max(0, onset_us - before_us),
        to_ts_us=onset_us + after_us,
    )


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
    what = "" if alert.disturbance is None else f"{sentence_of(alert.disturbance)}. "
    held = "" if alert.unknown_us is None else f"; not evaluated since {iso_time(alert.unknown_us * 1000)}"
    return f"{what}{told} (area {alert.area}), since {iso_time(alert.onset_us * 1000)}{held}"

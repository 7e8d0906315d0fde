"""One event on an operator's desk: a card that is updated in place, its members, what is cause and what is consequence.

Values only: which alert belongs to which card, and which card may sound, is decided in `core.annunciate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamproc.core.alarm import State
from streamproc.core.messages import Alert, Card, Guidance
from streamproc.core.quality import BAD_TIME, SUSPECT_TIME, worst

TIME_DOUBT_US = 1_000_000  # so much earlier must the onset of a doubtful clock be to be first-in
FLOOD = "alarm_flood"
# What a member is among others: the first of these is the cause, the others follow from it.
EVENT, LIMIT, DATA = 0, 1, 2
# The state of a card is that of its most pressing member.
PRESSING: tuple[State, ...] = ("UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV", "NORM")


@dataclass(frozen=True, slots=True)
class Member:
    """One alert as its card needs it."""

    alert_id: str
    seq: int
    state: State
    priority: int
    family: str
    kind: str
    area: str
    rule: str
    sources: tuple[str, ...]
    count: int  # sources in all
    onset_us: int
    flags: int
    message: str
    guidance: Guidance | None
    model_digest: str
    is_wide: bool  # felt by a whole area: frequency, oscillations, recognised disturbances

    @property
    def layer(self) -> int:
        """Return EVENT, LIMIT or DATA."""
        if self.family != "grid":
            return DATA
        return EVENT if self.is_wide or self.model_digest or self.kind == "state" else LIMIT

    @property
    def is_time_sure(self) -> bool:
        """Return whether its clock was good."""
        return not self.flags & (BAD_TIME | SUSPECT_TIME)


@dataclass(frozen=True, slots=True)
class OpenCard:
    """One event. `raised`: how often any member came (back): what chatters makes no new card."""

    card_id: str
    position: str
    area: str
    begun_us: int
    last_us: int  # onset of the newest member
    members: Mapping[str, Member] = field(default_factory=dict)
    seq: int = 0
    raised: int = 0
    is_shown: bool = False  # it had its turn within the rate
    sounded_us: int = 0  # when it last asked for attention
    flood: Mapping[str, int] = field(
        default_factory=dict
    )  # of the card of a flood: priority -> cards that wait

    @property
    def state(self) -> State:
        """Return the state of the most pressing member; a flood lasts while anything waits."""
        if not self.members:
            return "UNACK" if self.flood else "NORM"
        return min((m.state for m in self.members.values()), key=PRESSING.index)

    @property
    def priority(self) -> int:
        """Return the highest priority among the members that are not over, else of all."""
        live = [m.priority for m in self.members.values() if m.state in {"UNACK", "ACKED"}]
        known = live or [m.priority for m in self.members.values()] or [int(p[1:]) for p in self.flood]
        return min(known, default=4)

    @property
    def parent(self) -> Member | None:
        """Return the cause: of the first layer that has a member the earliest, then the most urgent."""
        order = sorted(self.members.values(), key=lambda m: (m.layer, m.onset_us, m.priority, m.alert_id))
        return order[0] if order else None

    @property
    def first_in(self) -> Member | None:
        """Return the earliest member; one of a doubtful clock only when it is earlier beyond its doubt."""
        known = self.members.values()
        return min(
            known,
            key=lambda m: (m.onset_us + (0 if m.is_time_sure else TIME_DOUBT_US), m.priority, m.alert_id),
            default=None,
        )


def member_of(alert: Alert) -> Member:
    """Return an alert as a member."""
    told = alert.disturbance
    return Member(
        alert_id=alert.alert_id,
        seq=alert.seq,
        state=alert.state,
        priority=alert.priority,
        family=alert.family,
        kind=alert.kind if told is None or told.kind == "unknown" else told.kind,
        area=alert.area,
        rule=alert.rule,
        sources=alert.sources,
        count=alert.members,
        onset_us=alert.onset_ts_us,
        flags=alert.quality_flags,
        message=alert.message,
        guidance=alert.guidance,
        model_digest=alert.model_digest,
        is_wide=told is not None or alert.kind.startswith(("frequency", "oscillation", "common_")),
    )


def card_message(card: OpenCard, ts_us: int, members_max: int, *, sound: bool) -> Card:
    """Return the card as it stands in the topic. `sound`: it asks for attention anew."""
    parent, first = card.parent, card.first_in
    order = sorted(card.members.values(), key=lambda m: (m.onset_us, m.alert_id))
    flags = 0
    for member in order:
        flags |= member.flags
    return Card(
        card_id=card.card_id,
        seq=card.seq,
        state=card.state,
        priority=card.priority,
        position=card.position,
        area=card.area,
        areas=tuple(sorted({m.area for m in order} or {card.area})),
        kind=FLOOD if parent is None else parent.kind,
        onset_ts_us=card.begun_us if first is None else first.onset_us,
        ts_us=ts_us,
        annunciate=sound,
        first_in="" if first is None or not first.sources else first.sources[0],
        parent=None if parent is None else parent.alert_id,
        consequences=tuple(m.alert_id for m in order if m is not parent)[:members_max],
        members=len(order),
        sources=sum(m.count for m in order),
        raised=card.raised,
        waiting=dict(sorted(card.flood.items())),
        quality=worst(flags),
        model_digest="" if parent is None else parent.model_digest,
        message=card_sentence(card),
        guidance=None if parent is None else parent.guidance,
    )


def card_sentence(card: OpenCard) -> str:
    """Return what an operator reads: the cause in its own words, and what follows from it in numbers."""
    parent = card.parent
    if parent is None:
        many = ", ".join(f"{count} of {priority}" for priority, count in sorted(card.flood.items()))
        total = sum(card.flood.values())
        return (
            f"Alarm flood in area {card.area}: {total} more events wait ({many}); all are in the alert list"
        )
    others = [m for m in card.members.values() if m is not parent]
    words = (
        (EVENT, "further event", "further events"),
        (LIMIT, "limit", "limits"),
        (DATA, "source of doubtful data", "sources of doubtful data"),
    )
    told = []
    for layer, one, many in words:
        found = [m for m in others if m.layer == layer]
        count = sum(m.count for m in found) if layer == DATA else len(found)
        if count:
            told.append(f"{count} {one if count == 1 else many}")
    chatters = card.raised - len(card.members)
    if chatters >= 3:
        told.append(f"came back {chatters} times")
    return parent.message + (f"; with {', '.join(told)}" if told else "")

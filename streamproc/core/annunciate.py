"""Alerts into cards: one event is one card on one desk, updated in place; and no desk gets more than it can read.

An alert joins a card of its position when it is near in time (its onset within `group_window` of the newest member) and
in space: by the network where both places are known (at most `hops` lines apart), else by area. What a whole area feels
(frequency, oscillations, recognised disturbances) is near to everything in it, and across areas within two seconds. A
condition that comes back within `chatter_window` joins the card that it left.

    raw topic        every transition of every alert: complete, always
    card topic       at most `rate_max` new cards per `rate_window` and area, and every one of priority 1
    beyond it        one card counts what waits, exactly; what still presses when there is room gets its turn

Pure: time is that of the alerts. A card that is over is forgotten when nothing can join it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from streamproc.core.alarm import QUIET
from streamproc.core.card import Member, OpenCard, card_message, member_of
from streamproc.core.messages import Alert, Card
from streamproc.core.topology import Topology

CROSS_US = 2_000_000  # the same event reaches two areas within this
BEFORE_US = 5_000_000  # so much before its cause may a consequence be noted: scans are slow, clocks are off
CARDS_MAX = 2_000  # beyond it the oldest that are over are forgotten; their alerts stay in the topic
MEMBERS_KEPT = 1_000  # alerts of one card
URGENT = 1


@dataclass(frozen=True, slots=True)
class CardSettings:
    """The site file's `[annunciate]`, in microseconds."""

    group_window_us: int
    chatter_window_us: int
    hops: int
    rate_max: int
    rate_window_us: int
    members_max: int
    topology: Topology = field(default_factory=Topology)


@dataclass(frozen=True, slots=True)
class CardState:
    """All cards that are open or may be joined; by area when cards had their turn lately; the newest event time."""

    cards: Mapping[str, OpenCard] = field(default_factory=dict)
    turns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # position/area -> times
    now_us: int = 0


def take_alert(state: CardState, alert: Alert, settings: CardSettings) -> tuple[CardState, list[Card]]:
    """Return the state after a transition of an alert, and the cards to tell."""
    member = member_of(alert)
    home = _card_of(state, alert.alert_id)
    if home is not None and home.members[alert.alert_id].seq >= alert.seq:
        return state, []  # told again after a restart
    by_operator = alert.command is not None and alert.command.ts_us == alert.ts_us
    now_us = state.now_us if by_operator else max(state.now_us, alert.ts_us)
    state = _forgotten(replace(state, now_us=now_us), settings)
    if home is None and alert.state in {"NORM", *QUIET}:
        return state, []  # over, or hidden, before anybody saw it: nothing for a desk
    before = home or _home(state, member, alert.position, settings)
    card = before or _new(alert)
    known = card.members.get(alert.alert_id)
    comes = alert.state == "UNACK" and (known is None or known.state not in {"UNACK", "ACKED"})
    card = replace(
        card,
        members=_bounded({**card.members, member.alert_id: member}),
        last_us=max(card.last_us, member.onset_us) if known is None else card.last_us,
        raised=card.raised + comes,
    )
    again = home is not None or (before is not None and _comes_back(before, member, settings))
    state, told = _told(state, card, before, alert.ts_us, settings, again=again)
    state, more = _next_in_line(state, card.position, alert.area, alert.ts_us, settings)
    return state, told + more


def _bounded(members: dict[str, Member]) -> dict[str, Member]:
    """Beyond the limit the oldest that returned to normal are forgotten here; `raised` goes on counting."""
    over = [k for k, m in members.items() if m.state in {"NORM", "RTNUN"}]
    gone = set(over[: max(0, len(members) - MEMBERS_KEPT)])
    return {k: m for k, m in members.items() if k not in gone} if gone else members


def _new(alert: Alert) -> OpenCard:
    identity = sha256(f"card|{alert.alert_id}".encode()).hexdigest()[:32]
    return OpenCard(identity, alert.position, alert.area, alert.onset_ts_us, alert.onset_ts_us)


def _card_of(state: CardState, alert_id: str) -> OpenCard | None:
    return next((card for card in state.cards.values() if alert_id in card.members), None)


def _home(state: CardState, member: Member, position: str, settings: CardSettings) -> OpenCard | None:
    """Return the card that a new alert belongs to: where it was before, else the newest that is near."""
    cards = [card for card in state.cards.values() if card.position == position and card.members]
    back = [card for card in cards if _comes_back(card, member, settings)]
    near = [card for card in cards if _is_near(card, member, settings)]
    return max(back or near, key=lambda card: (card.last_us, card.card_id), default=None)


def _comes_back(card: OpenCard, member: Member, settings: CardSettings) -> bool:
    """The same condition at the same place: what chatters."""
    if member.layer == 0 or member.onset_us - card.last_us > settings.chatter_window_us:
        return False  # a second disturbance at the same PMU is another event
    return any(
        m.rule == member.rule and m.area == member.area and not set(m.sources).isdisjoint(member.sources)
        for m in card.members.values()
    )


def _is_near(card: OpenCard, member: Member, settings: CardSettings) -> bool:
    events = [m for m in card.members.values() if m.layer == 0]
    if member.layer == 0 and events:  # the deciding stage has told two events of an area apart
        return any(
            abs(m.onset_us - member.onset_us) <= CROSS_US and _together(m, member, settings) for m in events
        )
    if member.layer == 0 and member.onset_us - card.begun_us > BEFORE_US:
        return False  # what was there before an event is not its consequence: the event must be seen
    apart_us = abs(member.onset_us - card.last_us)
    return apart_us <= settings.group_window_us and any(
        _together(m, member, settings) for m in card.members.values()
    )


def _together(one: Member, other: Member, settings: CardSettings) -> bool:
    near = settings.topology.near(one.sources, other.sources, settings.hops)
    if near:
        return True
    if one.area != other.area:
        both = one.is_wide and other.is_wide
        return both and abs(one.onset_us - other.onset_us) <= CROSS_US
    return near is None or one.is_wide or other.is_wide


def _told(
    state: CardState,
    card: OpenCard,
    before: OpenCard | None,
    ts_us: int,
    settings: CardSettings,
    *,
    again: bool,
) -> tuple[CardState, list[Card]]:
    """Keep a card, and tell it if it had its turn, has it now, or is urgent; else it waits and is counted."""
    presses = card.state == "UNACK" and _is_news(card, before, ts_us, settings, again=again)
    place = f"{card.position}/{card.area}"
    turns = tuple(t for t in state.turns.get(place, ()) if ts_us - t < settings.rate_window_us)
    if presses and (len(turns) < settings.rate_max or card.priority == URGENT):
        turns = (*turns, ts_us)[-max(settings.rate_max, 1) :]
        card = replace(card, is_shown=True, sounded_us=ts_us)
        sound = True
    else:
        sound = False
    state = replace(state, turns={**state.turns, place: turns})
    if not card.is_shown:
        return _kept(state, card), []
    card = replace(card, seq=card.seq + 1)
    return _kept(state, card), [card_message(card, ts_us, settings.members_max, sound=sound)]


def _is_news(
    card: OpenCard, before: OpenCard | None, ts_us: int, settings: CardSettings, *, again: bool
) -> bool:
    """New, more urgent, the event behind what was told; more than somebody has seen, or back (`again`) after a while."""
    if before is None or card.priority < before.priority:
        return True
    layers = [c.parent.layer if c.parent is not None else 0 for c in (card, before)]
    if layers[0] < layers[1] and ts_us - card.sounded_us > BEFORE_US:
        return True
    was_seen = before.state not in {"UNACK", "RTNUN"}
    return was_seen and (not again or ts_us - card.sounded_us > settings.chatter_window_us)


def _next_in_line(
    state: CardState, position: str, area: str, ts_us: int, settings: CardSettings
) -> tuple[CardState, list[Card]]:
    """Give waiting cards their turn where there is room, and keep the card that counts the others exact."""
    told: list[Card] = []
    waiting = [
        card
        for card in state.cards.values()
        if (card.position, card.area) == (position, area)
        and card.members
        and not card.is_shown
        and card.state == "UNACK"
    ]
    place = f"{position}/{area}"
    for card in sorted(waiting, key=lambda c: (c.priority, c.begun_us, c.card_id)):
        turns = tuple(t for t in state.turns.get(place, ()) if ts_us - t < settings.rate_window_us)
        if len(turns) >= settings.rate_max:
            break
        shown = replace(card, is_shown=True, sounded_us=ts_us, seq=card.seq + 1)
        state = _kept(replace(state, turns={**state.turns, place: (*turns, ts_us)}), shown)
        told.append(card_message(shown, ts_us, settings.members_max, sound=True))
        waiting.remove(card)
    counts: dict[str, int] = {}
    for card in waiting:
        counts[f"P{card.priority}"] = counts.get(f"P{card.priority}", 0) + 1
    return _counted(state, told, place, counts, ts_us, settings)


def _counted(
    state: CardState,
    told: list[Card],
    place: str,
    counts: Mapping[str, int],
    ts_us: int,
    settings: CardSettings,
) -> tuple[CardState, list[Card]]:
    position, area = place.split("/", 1)
    known = next(
        (c for c in state.cards.values() if c.flood and (c.position, c.area) == (position, area)), None
    )
    if known is None and not counts:
        return state, told
    if known is None:
        identity = sha256(f"flood|{place}|{ts_us}".encode()).hexdigest()[:32]
        known = OpenCard(identity, position, area, ts_us, ts_us, is_shown=True)
    elif known.flood == counts:
        return state, told
    begins = known.seq == 0
    card = replace(known, flood=dict(counts), seq=known.seq + 1, last_us=ts_us)
    state = _kept(state, card)
    if not counts:
        state = replace(state, cards={k: c for k, c in state.cards.items() if k != card.card_id})
    return state, [*told, card_message(card, ts_us, settings.members_max, sound=begins)]


def _kept(state: CardState, card: OpenCard) -> CardState:
    return replace(state, cards={**state.cards, card.card_id: card})


def _forgotten(state: CardState, settings: CardSettings) -> CardState:
    """Forget cards that are over and can be joined no more; beyond the limit the oldest that are over."""
    window_us = max(settings.group_window_us, settings.chatter_window_us)
    over = [c for c in state.cards.values() if c.state == "NORM" and c.members]
    gone = {c.card_id for c in over if state.now_us - c.last_us > window_us}
    excess = len(state.cards) - len(gone) - CARDS_MAX
    if excess > 0:
        gone |= {c.card_id for c in sorted(over, key=lambda c: c.last_us)[:excess]}
    if not gone:
        return state
    return replace(state, cards={k: c for k, c in state.cards.items() if k not in gone})

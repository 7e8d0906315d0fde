"""The annunciating stage: alert transitions in, cards for operators' desks out. The whole picture meets in one partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from streamproc.config import SiteConfig
from streamproc.core.annunciate import CardSettings, CardState, take_alert
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.card import OpenCard
from streamproc.core.kpi import Kpi, gauges_of, noted
from streamproc.core.messages import Alert, decode, encode
from streamproc.core.topology import Topology
from streamproc.core.wire import Refusal, dead_letter
from streamproc.errors import StateError
from streamproc.values import SILENT, TOPIC_ALERTS, TOPIC_CARDS, Counts, Output, Probe, Record, Step

BLOB_KIND = "annunciate/1"
MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class AnnunciateState:
    """The cards, and what the figures of every position need."""

    cards: CardState = field(default_factory=CardState)
    kpi: dict[str, Kpi] = field(default_factory=dict)


class AnnunciateStage:
    """values.Stage over `grid.alerts.v1`."""

    name = "annunciate"
    inputs = (TOPIC_ALERTS,)
    broadcast: tuple[str, ...] = ()

    def __init__(self, config: SiteConfig, topology: Topology | None = None) -> None:
        table = config.annunciate
        self._positions = sorted({"main", *(area.position for area in config.area)})
        self._settings = CardSettings(
            group_window_us=table.group_window_ms * 1000,
            chatter_window_us=round(table.chatter_window_min * MINUTE_US),
            hops=table.hops,
            rate_max=table.rate_max,
            rate_window_us=round(table.rate_window_min * MINUTE_US),
            members_max=table.members_max,
            topology=topology or Topology(),
        )

    def fresh(self) -> AnnunciateState:
        """Return the state without cards."""
        return AnnunciateState()

    def learn(self, state: AnnunciateState, records: Sequence[Record]) -> AnnunciateState:
        """Return the same state: there is nothing to learn."""
        del records
        return state

    def step(
        self, state: AnnunciateState, records: Sequence[Record], probe: Probe = SILENT
    ) -> Step[AnnunciateState]:
        """Return the cards that these alerts make or change."""
        counts: Counts = Counter()
        outputs: list[Output] = []
        for record in records:
            counts["records", record.topic] += 1
            alert = decode(Alert, record.value)
            if isinstance(alert, Refusal):
                counts["rejected", str(alert.reason)] += 1
                counts["dead_letters", str(alert.reason)] += 1
                outputs.append(dead_letter(record, alert.reason, alert.detail))
                continue
            cards, told = take_alert(state.cards, alert, self._settings)
            kpi, ack_s = noted(state.kpi.get(alert.position, Kpi()), alert, told)
            state = AnnunciateState(cards, {**state.kpi, alert.position: kpi})
            if ack_s is not None:
                counts["acknowledgements", alert.position] += 1
                counts["acknowledge_s", alert.position] += round(ack_s)
            for card in told:
                outputs.append(Output(TOPIC_CARDS, card.card_id.encode(), encode(card), card.ts_us // 1000))
                counts["cards", f"{card.position}/{card.priority}"] += card.seq == 1
                counts["annunciations", f"{card.position}/{card.priority}"] += card.annunciate
        probe.lap("annunciate")
        gauges = {
            (name, position): value
            for position in self._positions
            for name, value in gauges_of(state.kpi.get(position, Kpi()), state.cards.now_us).items()
        }
        return Step(state, tuple(outputs), counts, gauges=gauges)

    def warm(self, state: AnnunciateState, records: Sequence[Record]) -> AnnunciateState:
        """Return the same state: it is whole in its blob."""
        del records
        return state

    def pack(self, state: AnnunciateState) -> bytes:
        """Return the whole state."""
        cards = msgspec.msgpack.encode(tuple(state.cards.cards.values()))
        rest = replace(state.cards, cards={})
        return pack_tree(
            BLOB_KIND,
            {"cards": cards, "rest": msgspec.msgpack.encode(rest), "kpi": msgspec.msgpack.encode(state.kpi)},
        )

    def unpack(self, blob: bytes) -> AnnunciateState:
        """Return the state of `pack`."""
        tree = unpack_tree(BLOB_KIND, blob)
        try:
            cards = msgspec.msgpack.decode(tree["cards"], type=tuple[OpenCard, ...])
            rest = msgspec.msgpack.decode(tree["rest"], type=CardState)
            kpi = msgspec.msgpack.decode(tree["kpi"], type=dict[str, Kpi])
        except (KeyError, TypeError, msgspec.DecodeError) as error:
            raise StateError(f"the state blob has another shape: {error!r}") from error
        return AnnunciateState(replace(rest, cards={card.card_id: card for card in cards}), kpi)

    def resume_offset(self, state: AnnunciateState, topic: str, next_offset: int) -> int:
        """Return `next_offset`: nothing is re-read."""
        del state, topic
        return next_offset

"""How good an alarm system is to its operators: the figures of ISA-18.2, IEC 62682 and EEMUA 191, per operator position.

    rate            annunciations in the last 10 minutes; long-term average 1 acceptable, 2 the most that can be managed
    flood           begins above 10 in 10 minutes, ends below 5 (EEMUA 191); share of time in flood: below 1 %
    chattering      a condition with 3 or more raises within a minute; target 0
    stale           alerts active for more than 24 h; below 5 at any time
    top ten         share of all annunciations that the ten most frequent sources make; target 1 to 5 %
    priority mix    of what is annunciated about 80 / 15 / 5 % low / medium / high; our P1 and P2 are high and medium, P3
                    and P4 together are low (`MIX`)
    acknowledge     time from a raise to its acknowledgement

The standards were read through secondary sources; the report names these next to each figure. All times are event times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from streamproc.core.messages import Alert, Card

MINUTE_US = 60_000_000
WINDOW_US = 10 * MINUTE_US
FLOOD_ABOVE, FLOOD_BELOW = 10, 5  # annunciations in 10 minutes
CHATTER_COUNT, CHATTER_US = 3, MINUTE_US
STALE_US = 24 * 60 * MINUTE_US
RECENT_MAX = 4_096  # annunciations and raises remembered; more within ten minutes count as this many
OPEN_MAX = 2_000
MIX: Mapping[int, str] = {1: "high", 2: "medium", 3: "low", 4: "low"}
TARGETS: Mapping[str, str] = {
    "rate_per_10_min": "about 1, at most 2 (EEMUA 191, IEC 62682)",
    "time_in_flood_ratio": "below 0.01 (ISA-18.2)",
    "top_ten_ratio": "0.01 to 0.05 (ISA-18.2)",
    "chattering": "0 (ISA-18.2)",
    "stale": "below 5 (ISA-18.2)",
    "priority_mix": "about 0.80 low, 0.15 medium, 0.05 high (ISA-18.2, IEC 62682)",
}


@dataclass(frozen=True, slots=True)
class Kpi:
    """What is remembered of one position. `open_us`: alert id -> its onset, while it is active."""

    annunciated: tuple[tuple[int, str], ...] = ()  # within the last day: when, kind and first-in
    raised: tuple[tuple[int, str], ...] = ()  # within the last minute: when, rule and source
    open_us: Mapping[str, int] = field(default_factory=dict)
    waits_us: Mapping[str, int] = field(
        default_factory=dict
    )  # alert id -> when it was raised, until somebody sees it
    in_flood: bool = False


def noted(kpi: Kpi, alert: Alert, cards: Sequence[Card]) -> tuple[Kpi, float | None]:
    """Return the memory after a transition and the cards that it made; and the time to acknowledge, s, if it was one."""
    ts_us = alert.ts_us
    annunciated = [pair for pair in kpi.annunciated if ts_us - pair[0] < STALE_US] + [
        (card.ts_us, f"{card.kind}/{card.first_in}") for card in cards if card.annunciate
    ]
    raised = [pair for pair in kpi.raised if ts_us - pair[0] < CHATTER_US]
    open_us, waits_us = dict(kpi.open_us), dict(kpi.waits_us)
    ack_s = None
    if alert.state == "UNACK":
        if alert.alert_id not in waits_us:
            raised.append((ts_us, f"{alert.rule}/{alert.source}"))
        open_us.setdefault(alert.alert_id, alert.onset_ts_us)
        waits_us.setdefault(alert.alert_id, ts_us)
    else:
        began_us = waits_us.pop(alert.alert_id, None) if alert.state != "RTNUN" else None
        acknowledges = alert.command is not None and alert.command.action == "acknowledge"
        if began_us is not None and acknowledges and alert.state in {"ACKED", "NORM"}:
            ack_s = max(0.0, (ts_us - began_us) / 1e6)
        if alert.state != "ACKED":
            open_us.pop(alert.alert_id, None)
    rate = sum(ts_us - t < WINDOW_US for t, _ in annunciated)
    in_flood = rate > FLOOD_ABOVE or (kpi.in_flood and rate >= FLOOD_BELOW)
    after = replace(
        kpi,
        annunciated=tuple(annunciated[-RECENT_MAX:]),
        raised=tuple(raised[-RECENT_MAX:]),
        open_us=dict(list(open_us.items())[-OPEN_MAX:]),
        waits_us=dict(list(waits_us.items())[-OPEN_MAX:]),
        in_flood=in_flood,
    )
    return after, ack_s


def gauges_of(kpi: Kpi, now_us: int) -> dict[str, float]:
    """Return the figures of now by name of the series."""
    rate = sum(now_us - t < WINDOW_US for t, _ in kpi.annunciated)
    names = sorted(Counter(name for _, name in kpi.annunciated).values(), reverse=True)
    return {
        "annunciation_rate": float(rate),
        "alarm_flood": float(kpi.in_flood and rate >= FLOOD_BELOW),
        "alarm_top_ten_ratio": sum(names[:10]) / max(sum(names), 1),
        "alerts_chattering": float(len(chattering(kpi.raised))),
        "alerts_stale": float(sum(now_us - t > STALE_US for t in kpi.open_us.values())),
    }


def chattering(raised: Sequence[tuple[int, str]]) -> list[str]:
    """Return the conditions that were raised CHATTER_COUNT times within CHATTER_US; `raised` in order of time."""
    found = []
    by_name: dict[str, list[int]] = {}
    for ts_us, name in raised:
        by_name.setdefault(name, []).append(ts_us)
    for name, times in by_name.items():
        late = zip(times, times[CHATTER_COUNT - 1 :], strict=False)
        if any(last - first <= CHATTER_US for first, last in late):
            found.append(name)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one position over a time, for the report."""

    position: str
    from_us: int
    to_us: int
    annunciations: int
    rate_per_10_min: float
    rate_max: int  # in any ten minutes
    floods: tuple[tuple[int, int, int], ...]  # begin, end, annunciations
    time_in_flood_ratio: float
    top_ten: tuple[tuple[str, int], ...]
    top_ten_ratio: float
    chattering: tuple[str, ...]
    stale: tuple[str, ...]
    priorities: Mapping[int, int]
    mix: Mapping[str, float]
    acknowledge_s: tuple[float, ...]
    per_window: tuple[int, ...]  # annunciations of each ten minutes from `from_us` on


def figures(position: str, alerts: Sequence[Alert], from_us: int, to_us: int) -> Figures:
    """Return the figures of a position from the transitions in the topic, in order of time.

    An annunciation is a transition into UNACK from another state. Of alerts without cards (older records) this is what
    an operator heard; with cards it is never less.
    """
    kpi, events, ack_s, raised = Kpi(), list[tuple[int, str, int]](), list[float](), list[tuple[int, str]]()
    last: dict[str, str] = {}
    for alert in alerts:
        if alert.position != position:
            continue
        if alert.state == "UNACK" and last.get(alert.alert_id) != "UNACK":
            name = f"{alert.rule}/{alert.source}"
            events.append((alert.ts_us, name, alert.priority))
            raised.append((alert.ts_us, name))
        last[alert.alert_id] = alert.state
        kpi, seen_s = noted(kpi, alert, ())
        ack_s += [] if seen_s is None else [seen_s]
    span_us = max(to_us - from_us, WINDOW_US)
    times = [t for t, _, _ in events]
    floods = flood_spans(times, to_us)
    counts = Counter(name for _, name, _ in events)
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    priorities = {p: sum(q == p for _, _, q in events) for p in (1, 2, 3, 4)}
    total = max(len(events), 1)
    mix = {
        word: sum(priorities[p] for p in MIX if MIX[p] == word) / total for word in ("low", "medium", "high")
    }
    window_count = max(1, -(-(to_us - from_us) // WINDOW_US))
    per_window = [0] * window_count
    for t in times:
        per_window[min(max(0, (t - from_us) // WINDOW_US), window_count - 1)] += 1
    return Figures(
        position=position,
        from_us=from_us,
        to_us=to_us,
        annunciations=len(events),
        rate_per_10_min=len(events) / (span_us / WINDOW_US),
        rate_max=max((i + 1 - bisect_right(times, t - WINDOW_US) for i, t in enumerate(times)), default=0),
        floods=tuple(floods),
        time_in_flood_ratio=sum(end - begin for begin, end, _ in floods) / span_us,
        top_ten=tuple(top),
        top_ten_ratio=sum(count for _, count in top) / total if events else 0.0,
        chattering=tuple(chattering(raised)),
        stale=tuple(sorted(a for a, began_us in kpi.open_us.items() if to_us - began_us > STALE_US)),
        priorities=priorities,
        mix=mix,
        acknowledge_s=tuple(ack_s),
        per_window=tuple(per_window),
    )


def flood_spans(times_us: Sequence[int], to_us: int) -> list[tuple[int, int, int]]:
    """Return begin, end and annunciations of every flood; `times_us` in order."""
    spans = list[tuple[int, int, int]]()
    begin: int | None = None
    count, first = 0, 0
    edges = sorted([(t, 1) for t in times_us] + [(t + WINDOW_US, -1) for t in times_us])
    for t, change in edges:
        count += change
        if begin is None and count > FLOOD_ABOVE:
            begin, first = t, sum(u < t - WINDOW_US for u in times_us)
        elif begin is not None and count < FLOOD_BELOW:
            spans.append((begin, t, sum(u <= t for u in times_us) - first))
            begin = None
    if begin is not None:
        spans.append((begin, max(begin, to_us), len(times_us) - first))
    return spans

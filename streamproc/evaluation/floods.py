"""How many cards an operator sees: on a made day with events, chattering points and bad data, and per event of a corpus.

The day is made at the level of findings, as the scoring and the SCADA stage publish them, and goes through the deciding
and the annunciating stage. Every number is drawn from the seed. Per area: disturbances that forty PMUs and a dozen
voltage limits answer, points that hang about their limit for hours, PMUs whose data fail and come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.core.findings import finding_id
from streamproc.core.messages import Alert, Card, Finding, decode, encode
from streamproc.core.quality import DISCARDED
from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.frames import Stream
from streamproc.evaluation.noise import noisy
from streamproc.evaluation.run import event_signals
from streamproc.evaluation.site import Tools, digits
from streamproc.stages.annunciate import AnnunciateStage
from streamproc.stages.decide import DecideStage
from streamproc.values import TOPIC_ALERTS, TOPIC_CARDS, TOPIC_FINDINGS, Output, Record

S_US = 1_000_000
START_US = 1_700_000_000 * S_US
SLACK_S = 0.001  # event times are microseconds in the findings
EVENT_S = 120.0  # so long after its onset what is annunciated belongs to an event
AREAS = ("north", "south")
N_PMU, N_POINT = 40, 60
BATCH = 256


@dataclass(frozen=True, slots=True)
class Day:
    """What a desk saw. Times are seconds of the day."""

    seed: int
    hours: float
    events_s: tuple[float, ...]
    findings: int
    alerts: int  # transitions in the raw topic
    raised: int  # raises that an operator without grouping would have heard
    annunciated_s: tuple[float, ...]
    outside: int  # of these, not within EVENT_S after an event
    unseen_events: int  # events that called for no attention within five seconds: must be 0
    waiting: int  # events that never had their turn

    @property
    def per_10_min_outside(self) -> float:
        """Return annunciations per ten minutes outside events."""
        outside_s = self.hours * 3600.0 - EVENT_S * len(self.events_s)
        return self.outside / (outside_s / 600.0)


def made_day(seed: int, hours: float = 24.0, n_event: int = 20, n_chatter: int = 6, n_bad: int = 40) -> Day:
    """Return what a desk sees of a made day."""
    rng = np.random.default_rng(seed)
    length_s = hours * 3600.0
    gaps_s = length_s / n_event
    events_s = tuple(float((i + rng.uniform(0.1, 0.9)) * gaps_s) for i in range(n_event))
    found = [f for at_s in events_s for f in _event(at_s, rng)]
    for _ in range(n_chatter):
        found += _chatter(rng, length_s)
    for _ in range(n_bad):
        found += _bad_data(rng, length_s)
    found += [_mark(area, s) for s in range(0, round(length_s), 5) for area in AREAS]
    found.sort(key=lambda finding: finding.ts_us)
    outputs = list(_through(found))
    alerts = [decode(Alert, o.value) for o in outputs if o.topic == TOPIC_ALERTS]
    cards = [decode(Card, o.value) for o in outputs if o.topic == TOPIC_CARDS]
    sound = [c for c in cards if isinstance(c, Card) and c.annunciate]
    told_s = tuple((c.ts_us - START_US) / 1e6 for c in sound)
    last = {c.card_id: c for c in cards if isinstance(c, Card)}
    return Day(
        seed=seed,
        hours=hours,
        events_s=events_s,
        findings=len(found),
        alerts=len(alerts),
        raised=sum(f.type == "raise" for f in found),
        annunciated_s=told_s,
        outside=sum(not any(e - SLACK_S <= t < e + EVENT_S for e in events_s) for t in told_s),
        unseen_events=sum(not any(_about(c, e) for c in sound) for e in events_s),
        waiting=sum(sum(c.waiting.values()) for c in last.values()),
    )


def _about(card: Card, at_s: float) -> bool:
    """A card that calls for attention within seconds of the event, and names it as the cause."""
    after_s = (card.ts_us - START_US) / 1e6 - at_s
    return -SLACK_S <= after_s < 5.0 and card.kind == "frequency_jump"


def _through(findings: Sequence[Finding]) -> Iterator[Output]:
    decide, annunciate = DecideStage(SiteConfig()), AnnunciateStage(SiteConfig())
    state, cards = decide.fresh(), annunciate.fresh()
    for start in range(0, len(findings), BATCH):
        batch = findings[start : start + BATCH]
        step = decide.step(
            state, [_record(TOPIC_FINDINGS, start + i, encode(f)) for i, f in enumerate(batch)]
        )
        state = step.state
        yield from step.outputs
        told = [o for o in step.outputs if o.topic == TOPIC_ALERTS]
        shown = annunciate.step(cards, [_record(TOPIC_ALERTS, i, o.value) for i, o in enumerate(told)])
        cards = shown.state
        yield from shown.outputs


def _record(topic: str, offset: int, value: bytes) -> Record:
    return Record(topic, 0, offset, 0, b"main", value)


def _finding(
    what: str, at_s: float, area: str, rule: str, sources: Sequence[str], priority: int, score: float
) -> Finding:
    ts_us = START_US + round(at_s * 1e6)
    is_data = rule in {"data_missing", "data_bad"}
    return Finding(
        type=what,  # type: ignore[arg-type]
        finding_id=finding_id(area, rule, 1, f"{what}|{sources[0]}", ts_us, ""),
        area=area,
        position="main",
        ts_us=ts_us,
        family="quality" if is_data else "grid",
        kind="frequency_jump" if rule == "jump" else rule.partition(":")[0],
        rule=rule,
        priority=priority,
        sources=tuple(sources),
        scores=(score,) * len(sources),
        onsets_us=(ts_us,) * len(sources),
        limit=1.0,
        unit="x",
        text="{source} has {value} {unit}, limit {limit}",
        quality=DISCARDED if is_data else 0,
        model_digest="made" if rule in {"jump", "oscillation"} else "",
    )


def _mark(area: str, second: int) -> Finding:
    ts_us = START_US + second * S_US
    return Finding(type="watermark", finding_id="", area=area, position="main", ts_us=ts_us)


def _event(at_s: float, rng: np.random.Generator) -> Iterator[Finding]:
    """A disturbance of both areas: PMUs at once, a dozen voltage limits after it, some data lost."""
    score = float(rng.uniform(3.0, 9.0))
    for area in AREAS:
        pmus = [f"{area} PMU {n}" for n in range(N_PMU)]
        delay_s = 0.0 if area == AREAS[0] else float(rng.uniform(0.05, 0.8))
        yield _finding("raise", at_s + delay_s, area, "jump", pmus, 2, score)
        yield _finding("clear", at_s + 20.0, area, "jump", pmus, 2, score)
        for n in rng.choice(N_POINT, 12, replace=False):
            point, begin_s = f"{area}.V{n}", at_s + float(rng.uniform(1.0, 25.0))
            yield _finding("raise", begin_s, area, f"point_low:{point}", [point], 3, 1.1)
            yield _finding("clear", begin_s + 30.0, area, f"point_low:{point}", [point], 3, 0.9)
        lost = [pmus[n] for n in rng.choice(N_PMU, 3, replace=False)]
        yield _finding("raise", at_s + 2.0, area, "data_missing", lost, 3, 1.5)
        yield _finding("clear", at_s + 40.0, area, "data_missing", lost, 3, 0.0)


def _chatter(rng: np.random.Generator, length_s: float) -> Iterator[Finding]:
    """A point about its limit for one to three hours: over it and back every minute or so."""
    area = str(rng.choice(AREAS))
    point = f"{area}.V{int(rng.integers(N_POINT))}"
    at_s = float(rng.uniform(0.0, 0.8 * length_s))
    end_s = min(at_s + float(rng.uniform(3600.0, 10800.0)), length_s)
    while at_s < end_s:
        over_s, under_s = rng.uniform(5.0, 40.0, 2)
        yield _finding("raise", at_s, area, f"point_low:{point}", [point], 3, 1.05)
        yield _finding("clear", at_s + over_s, area, f"point_low:{point}", [point], 3, 0.99)
        at_s += float(over_s + under_s)


def _bad_data(rng: np.random.Generator, length_s: float) -> Iterator[Finding]:
    """One PMU whose data fail again and again for some minutes."""
    area = str(rng.choice(AREAS))
    pmu = [f"{area} PMU {int(rng.integers(N_PMU))}"]
    at_s = float(rng.uniform(0.0, length_s - 600.0))
    for _ in range(int(rng.integers(1, 6))):
        yield _finding("raise", at_s, area, "data_missing", pmu, 3, 1.2)
        yield _finding("clear", at_s + 20.0, area, "data_missing", pmu, 3, 0.0)
        at_s += float(rng.uniform(40.0, 120.0))


def cards_per_event(
    corpus: Corpus, tools: Tools, tier: str, seed: int, limit: int | None = None
) -> list[int]:
    """Return how many cards an operator sees of every event of a corpus (generic bundle, no calibration)."""
    found = []
    for number in range(min(len(corpus.events), limit or len(corpus.events))):
        rng = np.random.default_rng([seed, *digits(corpus.digest, tier, str(number))])
        signals = noisy(event_signals(corpus, number), tier, corpus.rate_hz, rng)
        path = tools.make_path(SiteConfig(), None)
        stream = Stream.of(corpus.stations, corpus.rate_hz, corpus.nominal_hz)
        outputs = pipeline.run(path, stream.records(signals))
        found.append(len({o.key for o in outputs if o.topic == TOPIC_CARDS}))
    return found

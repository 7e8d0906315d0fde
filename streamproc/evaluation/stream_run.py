"""The long stream through the path of the service, scored by event and by second."""

from __future__ import annotations

import multiprocessing as mp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.core.messages import Alert, decode
from streamproc.evaluation.ambient import Ambient
from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.evaluate import Watch, Wish, bundles_of
from streamproc.evaluation.frames import Stream
from streamproc.evaluation.match import EVENT_S, FIND_S, open_before, spans_of
from streamproc.evaluation.metrics import f1_of, poisson_bound, ratio, spread
from streamproc.evaluation.run import Setting, row_of
from streamproc.evaluation.seconds import NAMES, confusion_of, macro_f1, told_seconds, true_seconds
from streamproc.evaluation.site import Tools
from streamproc.evaluation.stream import Plan, pieces, plan_stream
from streamproc.evaluation.truth import truths_of
from streamproc.values import TOPIC_ALERTS

DURING_S = 3.0  # after an episode its return may still be to blame
SIZE_WEIGHT = 0.03  # of log10 of the number of parameters


class StreamOutcome(msgspec.Struct, frozen=True):
    """One event of the stream."""

    name: str
    kind: str
    at_s: float
    dv: float
    df: float
    mw: float | None
    visible: bool
    delay_s: float | None  # None: not found
    told: str  # kind within 2 s of the raise
    open_s: float | None  # a miss: how long an alert of the grid was open that may have taken it in


class StreamFalse(msgspec.Struct, frozen=True):
    """One raise that is no event's, and what was wrong with the data then."""

    at_s: float
    rule: str
    source: str
    score: float
    during: str  # kinds of episodes; "taking back" if only that
    since_event_s: float  # since the last onset; NaN before the first


class StreamTable(msgspec.Struct, frozen=True):
    """One stream: by event, then by second."""

    corpus: str
    tier: str
    pmus: int
    rate_hz: float
    minutes: float
    events: int
    found: int
    false: int
    precision: float
    recall: float
    f1: float
    delay_mean_s: float
    delay_p95_s: float
    false_per_min: float
    false_per_min_bound: float
    seconds_macro_f1: float
    seconds_f1: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]  # seconds, truth in rows, as NAMES
    parameters: int
    score: float
    quality: dict[str, int]
    episodes: dict[str, int]
    outcomes: tuple[StreamOutcome, ...]
    false_alarms: tuple[StreamFalse, ...]


def evaluate_stream(
    corpora: Sequence[Corpus],
    ambient: Ambient,
    wish: Wish,
    minutes: float,
    events: int,
    tools: Tools,
    site: SiteConfig,
    room: Path,
    watch: Watch,
) -> list[StreamTable]:
    """Return one table per corpus and tier."""
    ambients = [ambient.at_rate(corpus.rate_hz) for corpus in corpora]
    settings = [Setting(number, tier) for number in range(len(corpora)) for tier in wish.tiers]
    bundles = bundles_of(corpora, ambients, settings, wish, tools, site, room, watch)
    asked = [
        (
            corpora[s.corpus],
            ambients[s.corpus],
            s.tier,
            minutes,
            events,
            wish.seed,
            bundles[s.corpus, s.tier],
            tools,
            site,
        )
        for s in settings
    ]
    watch.begin("streams", len(asked))
    tables = []
    if wish.jobs <= 1 or len(asked) <= 1:
        for parts in asked:
            tables.append(one_stream(*parts))
            watch.step(None)
        return tables
    with mp.get_context("spawn").Pool(min(wish.jobs, len(asked))) as pool:
        for table in pool.imap(_one_stream, asked):
            tables.append(table)
            watch.step(None)
    return tables


def _one_stream(parts: tuple[Any, ...]) -> StreamTable:
    return one_stream(*parts)


def one_stream(
    corpus: Corpus,
    ambient: Ambient,
    tier: str,
    minutes: float,
    events: int,
    seed: int,
    bundle: Path | None,
    tools: Tools,
    site: SiteConfig,
) -> StreamTable:
    """Return the table of one stream."""
    plan = plan_stream(corpus, minutes, events, seed)
    stream = Stream.of(corpus.stations, corpus.rate_hz, corpus.nominal_hz)
    path = tools.make_path(site, bundle)
    alerts = alerts_of(path, stream.configuration())
    row = 0
    for piece in pieces(corpus, ambient, tier, plan, seed):
        alerts += alerts_of(path, stream.data(piece, row))
        row += piece.freq_hz.shape[0]
    return scored(corpus, tier, plan, alerts, tools.parameters(bundle))


def alerts_of(path: pipeline.Path, records: Any) -> list[Alert]:  # noqa: ANN401 - any iterable of records
    """Return what would stand in the alerts topic."""
    found = []
    for output in pipeline.run(path, records):
        if output.topic == TOPIC_ALERTS:
            alert = decode(Alert, output.value)
            assert isinstance(alert, Alert), f"the service wrote what nobody can read: {alert}"
            found.append(alert)
    return found


def scored(corpus: Corpus, tier: str, plan: Plan, alerts: Sequence[Alert], parameters: int) -> StreamTable:
    """Return the table of a stream from its alerts."""
    rate_hz, truths = corpus.rate_hz, truths_of(corpus)
    outcomes, false = matched(corpus, plan, [truth.kind for truth in truths], alerts)
    seen = [outcome for outcome in outcomes if outcome.visible]
    delays = [outcome.delay_s for outcome in seen if outcome.delay_s is not None]
    rows = [
        (onset, truths[n].kind, corpus.events[n].visible)
        for n, onset in zip(plan.numbers, plan.onsets, strict=True)
    ]
    counts = confusion_of(
        true_seconds(plan.n_row, rate_hz, rows, plan.episodes), told_seconds(plan.n_row, rate_hz, alerts)
    )
    mean, each = macro_f1(counts)
    minutes = plan.n_row / rate_hz / 60.0
    return StreamTable(
        corpus=corpus.name,
        tier=tier,
        pmus=corpus.n_pmu,
        rate_hz=rate_hz,
        minutes=minutes,
        events=len(seen),
        found=len(delays),
        false=len(false),
        precision=ratio(len(delays), len(delays) + len(false)),
        recall=ratio(len(delays), len(seen)),
        f1=f1_of(len(delays), len(false), len(seen) - len(delays)),
        delay_mean_s=float(np.mean(delays)) if delays else float("nan"),
        delay_p95_s=spread(delays)[1],
        false_per_min=len(false) / minutes,
        false_per_min_bound=poisson_bound(len(false)) / minutes,
        seconds_macro_f1=mean,
        seconds_f1=each,
        confusion=tuple(tuple(row) for row in counts.tolist()),
        parameters=parameters,
        score=mean - SIZE_WEIGHT * float(np.log10(max(1, parameters))),
        quality=dict(Counter(a.kind for a in alerts if a.family != "grid" and a.seq == 1)),
        episodes=dict(Counter(episode.kind for episode in plan.episodes)),
        outcomes=tuple(outcomes),
        false_alarms=tuple(_false(plan, alert, rate_hz) for alert in false),
    )


def matched(
    corpus: Corpus, plan: Plan, kinds: Sequence[str], alerts: Sequence[Alert]
) -> tuple[list[StreamOutcome], list[Alert]]:
    """Return the events with what found them, and the raises that found nothing.

    As in `match`, but the stream never ends: a raise that is no event's is false, wherever it is. One that comes
    5 to 10 s after the onset of an event that nothing found is late and not false as well.
    """
    rate_hz = corpus.rate_hz
    first = {a.alert_id: a for a in alerts if a.family == "grid" and a.seq == 1}
    raises = sorted((row_of(alert.ts_us, rate_hz), name) for name, alert in first.items())
    used: set[str] = set()
    spans = spans_of(alerts, plan.n_row, rate_hz)
    outcomes = []
    for number, onset in zip(plan.numbers, plan.onsets, strict=True):
        event = corpus.events[number]
        near = [(row, name) for row, name in raises if onset <= row <= onset + EVENT_S * rate_hz]
        hit = near[0] if near and near[0][0] <= onset + FIND_S * rate_hz else None
        used.update(name for _, name in (near[:1] if event.visible else near))
        outcomes.append(
            StreamOutcome(
                name=f"{corpus.name} #{number} {event.k} {event.device}".rstrip(),
                kind=kinds[number],
                at_s=onset / rate_hz,
                dv=event.dv,
                df=event.df,
                mw=event.mw,
                visible=event.visible,
                delay_s=None if hit is None else (hit[0] - onset) / rate_hz,
                told="-" if hit is None else _told(hit[1], alerts),
                open_s=None if hit is not None else open_before(spans, onset, rate_hz),
            )
        )
    return outcomes, [first[name] for _, name in raises if name not in used]


def _false(plan: Plan, alert: Alert, rate_hz: float) -> StreamFalse:
    row = row_of(alert.ts_us, rate_hz)
    near = {e.kind for e in plan.episodes if e.start <= row <= e.stop + DURING_S * rate_hz}
    before = [onset for onset in plan.onsets if onset <= row]
    since_s = (row - before[-1]) / rate_hz if before else float("nan")
    during = " + ".join(sorted(near)) or ("taking back" if since_s > EVENT_S else "")
    return StreamFalse(row / rate_hz, alert.rule, alert.source, alert.score, during, since_s)


def _told(alert_id: str, alerts: Sequence[Alert]) -> str:
    mine = [alert for alert in alerts if alert.alert_id == alert_id]
    early = [alert for alert in mine if alert.ts_us <= mine[0].ts_us + 2_000_000]
    known = early[-1].disturbance
    return "unknown" if known is None else known.kind


__all__ = ["NAMES", "StreamOutcome", "StreamTable", "evaluate_stream", "matched", "one_stream", "scored"]

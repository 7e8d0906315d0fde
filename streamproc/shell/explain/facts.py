"""What an engineer asks first, from an alert and its evidence: who answered when, what was largest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core import quality
from streamproc.core.detector import Rule
from streamproc.core.disturbance import Estimate
from streamproc.core.messages import Alert
from streamproc.shell.explain.evidence import Evidence, level_before
from streamproc.values import F64, I64, Bool

SHOWN_MAX = 12  # PMUs in colour
FLAG_WORDS = {
    quality.BAD_DATA: "bad data",
    quality.SUSPECT_DATA: "suspect data",
    quality.OVER_RANGE: "implausible value",
    quality.RECEIVED_AS_BAD: "sent as bad",
    quality.CALCULATED: "calculated",
    quality.BAD_TIME: "clock failed",
    quality.SUSPECT_TIME: "clock not locked, or too inexact for an angle",
    quality.LATE_TIME: "late",
    quality.OPERATOR_BLOCKED: "blocked",
    quality.TEST_MODE: "test mode",
    quality.SYSTEM_ERROR: "PMU error",
    quality.DISCARDED: "missing",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What one rule said from the onset on; None where it was never over its limit, or never judged."""

    rule: Rule
    peak: float | None
    peak_s: float | None
    peak_source: str
    first_s: float | None  # over its limit for the first time
    first_source: str
    sources: int  # over the limit at any time


@dataclass(frozen=True, slots=True)
class Answer:
    """How one PMU answered: its delay, its largest score and its largest changes, signed."""

    source: str
    column: int  # of the evidence
    delay_ms: float | None
    score: float | None
    voltage_pu: float | None
    freq_hz: float | None
    angle_deg: float | None


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest change of one quantity."""

    quantity: str
    unit: str
    source: str
    change: float
    value: float | None  # where a level means something
    at_s: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """One PMU whose data were not all there and good."""

    source: str
    missing: int  # instants at which others were there
    unusable: int  # there, and not used
    withheld: int  # scores over a limit that were not believed
    words: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was said of the turning point of the frequency, and when."""

    told_s: float
    freq_hz: Estimate
    after_s: Estimate | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it; times are on the clock of the evidence, which begins with the onset."""

    judged: tuple[Judged, ...]  # the largest first
    answers: tuple[Answer, ...]  # in the order of their answers
    largest: tuple[Largest, ...]
    troubles: tuple[Trouble, ...]
    instants: int  # at which any PMU was there
    shown: tuple[int, ...]  # columns of the PMUs in colour, in the order of their answers


def facts_of(alert: Alert, evidence: Evidence) -> Facts:
    """Return the facts of an alert."""
    own = own_scores(alert, evidence)
    answers = _answers(alert, evidence, own)
    largest = _largest(evidence)
    return Facts(
        judged=_judged(evidence),
        answers=answers,
        largest=largest,
        troubles=_troubles(evidence),
        instants=int((evidence.flags & quality.DISCARDED == 0).any(axis=1).sum()),
        shown=_shown(alert, answers, largest),
    )


def leading(alert: Alert, evidence: Evidence) -> int | None:
    """Return the row of the rule that leads the alert; None if these models have none of that name."""
    names = [rule.name for rule in evidence.rules]
    return names.index(alert.rule) if alert.rule in names else None


def own_scores(alert: Alert, evidence: Evidence) -> F64:
    """Return the largest score (n, n_pmu) of the rules that judge each PMU by itself; those of the alert's family."""
    rules = [
        row
        for row, rule in enumerate(evidence.rules)
        if (rule.family == "grid" and not rule.whole_area)
        if alert.family == "grid"
    ]
    if alert.family == "quality":
        rules = [row for row, rule in enumerate(evidence.rules) if rule.name in alert.rules]
    if not rules:
        return np.full(evidence.freq_hz.shape, np.nan)
    return np.asarray(np.fmax.reduce(evidence.scores[:, rules], axis=1).astype(np.float64))


def forecasts_of(told: Sequence[Alert]) -> tuple[Forecast, ...]:
    """Return the first and the last word about the turning point of the frequency."""
    said = [
        Forecast((d.ts_us - d.onset_ts_us) / 1e6, d.nadir_hz, d.nadir_after_s)
        for d in (alert.disturbance for alert in told)
        if d is not None and d.nadir_hz is not None
    ]
    said.sort(key=lambda forecast: forecast.told_s)
    return (said[0], said[-1]) if len(said) > 1 and said[0].freq_hz != said[-1].freq_hz else tuple(said[:1])


def flag_words(flags: int) -> str:
    """Return what the bits of a quality word say."""
    return ", ".join(word for bit, word in FLAG_WORDS.items() if flags & bit)


def _after(evidence: Evidence) -> Bool:
    return np.asarray(evidence.t_s >= -0.5 / evidence.rate_hz)


def _judged(evidence: Evidence) -> tuple[Judged, ...]:
    after = _after(evidence)
    t_s, found = evidence.t_s[after], []
    for row, rule in enumerate(evidence.rules):
        scores = evidence.scores[after, row]
        known = np.isfinite(scores)
        if not known.any():
            found.append(Judged(rule, None, None, "", None, "", 0))
            continue
        tick, pmu = np.unravel_index(int(np.argmax(np.where(known, scores, -np.inf))), scores.shape)
        over = scores >= 1.0
        ticks = np.flatnonzero(over.any(axis=1))
        first_s, first = None, ""
        if ticks.size:
            first_s = float(t_s[ticks[0]])
            first = evidence.labels[int(np.argmax(np.where(over[ticks[0]], scores[ticks[0]], -np.inf)))]
        judged = (float(scores[tick, pmu]), float(t_s[tick]), evidence.labels[int(pmu)])
        found.append(Judged(rule, *judged, first_s, first, int(over.any(axis=0).sum())))
    return tuple(sorted(found, key=lambda j: (-(j.peak if j.peak is not None else -1.0), j.rule.name)))


def _answers(alert: Alert, evidence: Evidence, own: F64) -> tuple[Answer, ...]:
    """Return every PMU: in the order of the alert where it gives one, then of the first score over a limit."""
    told, first_in = alert.disturbance, alert.source
    after = _after(evidence)
    t_s, scores = evidence.t_s[after], own[after]
    over = scores >= 1.0
    crossing = np.argmax(over, axis=0)
    first = np.where(over.any(axis=0), np.maximum(t_s[crossing], 0.0) * 1e3, np.nan)
    at_once = np.where(over.any(axis=0), scores[crossing, np.arange(scores.shape[1])], 0.0)
    peak = np.fmax.reduce(scores, axis=0)
    said = {response.source: response.delay_ms for response in told.responses} if told is not None else {}
    place = {source: number for number, source in enumerate(said)}
    changes = [_signed_peak(changed(evidence, values)[after]) for values in _quantities(evidence)]

    def answer(pmu: int) -> Answer:
        source = evidence.labels[pmu]
        voltage, freq, angle = (_known(values[pmu]) for values in changes)
        delay = said.get(source, _known(first[pmu]))
        return Answer(source, pmu, delay, _known(peak[pmu]), voltage, freq, angle)

    def order(answer: Answer) -> tuple[float, float, bool, float, int]:
        late = np.inf if answer.delay_ms is None else answer.delay_ms
        size = at_once[answer.column] or answer.score or 0.0
        return place.get(answer.source, np.inf), late, answer.source != first_in, -size, answer.column

    return tuple(sorted((answer(pmu) for pmu in range(len(evidence.labels))), key=order))


def _shown(alert: Alert, answers: Sequence[Answer], largest: Sequence[Largest]) -> tuple[int, ...]:
    """Return the columns of the most affected PMUs: first-in, nearest, largest change, then largest score."""
    place = alert.disturbance.place if alert.disturbance is not None else ()
    names = dict.fromkeys((alert.source, *place[:2], *(item.source for item in largest)))
    named = {source: number for number, source in enumerate(names)}
    ranked = sorted(answers, key=lambda a: (named.get(a.source, len(named)), -(a.score or 0.0)))
    chosen = {answer.column for answer in ranked[:SHOWN_MAX]}
    return tuple(answer.column for answer in answers if answer.column in chosen)


def _quantities(evidence: Evidence) -> tuple[F64, F64, F64]:
    return evidence.voltage_pu, evidence.freq_hz, evidence.angle_deg


def changed(evidence: Evidence, values: F64) -> F64:
    """Return values (n, n_pmu) less the level of each PMU before the onset."""
    return values - level_before(values, evidence.before)


def _largest(evidence: Evidence) -> tuple[Largest, ...]:
    after = _after(evidence)
    found = []
    names = (("voltage", "pu", True), ("frequency", "Hz", True), ("angle", "degrees", False))
    for (name, unit, has_level), values in zip(names, _quantities(evidence), strict=True):
        change = changed(evidence, values)[after]
        size = np.where(np.isfinite(change), np.abs(change), -1.0)
        if size.size == 0 or size.max() < 0.0 or (name == "angle" and not evidence.has_angles):
            continue
        tick, pmu = np.unravel_index(int(np.argmax(size)), size.shape)
        value = float(values[after][tick, pmu]) if has_level else None
        at = (evidence.labels[int(pmu)], float(change[tick, pmu]), value, float(evidence.t_s[after][tick]))
        found.append(Largest(name, unit, *at))
    return tuple(found)


def _signed_peak(change: F64) -> F64:
    """Return the value furthest from zero of each column; NaN where none is known."""
    if change.shape[0] == 0:
        return np.full(change.shape[1], np.nan)
    row: I64 = np.argmax(np.where(np.isfinite(change), np.abs(change), -1.0), axis=0)
    return np.asarray(change[row, np.arange(change.shape[1])])


def _troubles(evidence: Evidence) -> tuple[Trouble, ...]:
    there = evidence.flags & quality.DISCARDED == 0
    anyone = there.any(axis=1)
    unknown = ~np.isfinite(evidence.freq_hz) & ~np.isfinite(evidence.voltage_pu)
    found = []
    for pmu, source in enumerate(evidence.labels):
        here = there[:, pmu]
        bits = int(np.bitwise_or.reduce(evidence.flags[here, pmu], initial=0))
        missing, unusable = int((anyone & ~here).sum()), int((here & unknown[:, pmu]).sum())
        withheld = int(evidence.withheld[pmu])
        if missing or unusable or withheld or bits:
            found.append(Trouble(source, missing, unusable, withheld, flag_words(bits)))
    return tuple(sorted(found, key=lambda t: (-(t.missing + t.unusable), -t.withheld, t.source)))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

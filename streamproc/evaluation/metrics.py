"""From outcomes to figures. Nothing here knows where they come from; NaN: there is nothing to judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from scipy.special import betaincinv, gammaincinv

from streamproc.core.disturbance import KINDS
from streamproc.evaluation.match import AGES_S, Outcome

CONFIDENCE_BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
NAN = float("nan")
DAY_S = 86400.0


class Detection(msgspec.Struct, frozen=True):
    """Found, missed, false."""

    events: int
    found: int
    unseen: int  # no PMU can see them: not counted
    false_before: int
    false_second: int
    false_ambient: int
    late: int
    precision: float
    recall: float
    recall_bound: float  # the true one is above it, 19 times of 20
    f1: float
    delay_frames: tuple[float, float, float]  # p50, p95, max
    delay_s: tuple[float, float, float]


class FalseAlarms(msgspec.Struct, frozen=True):
    """Of event-free data. The bound is what the true rate is below, 19 times of 20 (exact Poisson)."""

    count: int
    minutes: float
    pmu_days: float
    per_day: float
    per_day_bound: float
    per_day_100_pmus: float
    per_day_100_pmus_bound: float
    open_share: float  # of the time in which an alarm stood


class Kinds(msgspec.Struct, frozen=True):
    """Of the events that can be seen, at one age; an event that is not found is "unknown"."""

    age_s: float
    macro_f1: float
    accuracy: float
    committed: float  # share that is told a kind at all
    accuracy_committed: float
    f1: dict[str, float]
    confusion: dict[str, dict[str, int]]  # truth -> told -> events


class Where(msgspec.Struct, frozen=True):
    """Of the events that can be seen; one that is not found is in no place."""

    events: int
    top1: float
    top3: float
    by_corpus: int  # events whose nearest PMU the corpus tells; of the others the PMU that answers most


class Bin(msgspec.Struct, frozen=True):
    """Events whose kind is told with a confidence from `low` to `high`."""

    low: float
    high: float
    events: int
    confidence: float  # mean
    right: float  # share


class Numbers(msgspec.Struct, frozen=True):
    """Of the events with a loss whose number (nadir mHz, or size as a share of the true one) is told at 1 s."""

    events: int
    error_p50: float
    error_p90: float
    covered: float  # share within the band


def detection(outcomes: Sequence[Outcome], false_ambient: int) -> Detection:
    """Return the figures of detection."""
    seen = [o for o in outcomes if o.visible]
    found = [o for o in seen if o.found]
    before, second = sum(o.false_before for o in outcomes), sum(o.false_second for o in outcomes)
    wrong = before + second + false_ambient
    precision = ratio(len(found), len(found) + wrong)
    recall = ratio(len(found), len(seen))
    return Detection(
        events=len(seen),
        found=len(found),
        unseen=len(outcomes) - len(seen),
        false_before=before,
        false_second=second,
        false_ambient=false_ambient,
        late=sum(o.late_s is not None for o in seen),
        precision=precision,
        recall=recall,
        recall_bound=share_bound(len(found), len(seen)),
        f1=f1_of(len(found), wrong, len(seen) - len(found)),
        delay_frames=spread(o.delay_frames for o in found),
        delay_s=spread(o.delay_s for o in found),
    )


def false_alarms(count: int, seconds: float, pmu_seconds: float, open_s: float = 0.0) -> FalseAlarms:
    """Return the rate of false alarms with its bound; `pmu_seconds`: the seconds of every PMU added up."""
    days, pmu_days, bound = seconds / DAY_S, pmu_seconds / DAY_S, poisson_bound(count)
    return FalseAlarms(
        count=count,
        minutes=seconds / 60.0,
        pmu_days=pmu_days,
        per_day=ratio(count, days),
        per_day_bound=ratio(bound, days),
        per_day_100_pmus=ratio(100.0 * count, pmu_days),
        per_day_100_pmus_bound=ratio(100.0 * bound, pmu_days),
        open_share=ratio(open_s, seconds),
    )


def poisson_bound(count: int, confidence: float = 0.95) -> float:
    """Return the largest mean of a Poisson law that gives `count` or fewer with a chance of 1 - confidence."""
    return float(gammaincinv(count + 1.0, confidence))


def share_bound(count: int, whole: int, confidence: float = 0.95) -> float:
    """Return the smallest share that gives `count` of `whole` or more with a chance of 1 - confidence (exact binomial)."""
    if not whole:
        return NAN
    return float(betaincinv(count, whole - count + 1, 1.0 - confidence)) if count else 0.0


def kinds(outcomes: Iterable[Outcome], age: int) -> Kinds:
    """Return how well the kinds are told at AGES_S[age]."""
    pairs = [(o.kind, o.said[age].kind) for o in outcomes if o.visible]
    every: tuple[str, ...] = KINDS
    truths = [kind for kind in every if any(truth == kind for truth, _ in pairs)]
    confusion = {
        truth: {told: n for told in every if (n := sum(pair == (truth, told) for pair in pairs))}
        for truth in truths
    }
    f1 = {
        kind: f1_of(
            sum(truth == kind == told for truth, told in pairs),
            sum(truth != kind == told for truth, told in pairs),
            sum(truth == kind != told for truth, told in pairs),
        )
        for kind in truths
    }
    right = sum(truth == told for truth, told in pairs)
    committed = [pair for pair in pairs if pair[1] != "unknown"]
    return Kinds(
        age_s=AGES_S[age],
        macro_f1=float(np.mean(list(f1.values()))) if f1 else NAN,
        accuracy=ratio(right, len(pairs)),
        committed=ratio(len(committed), len(pairs)),
        accuracy_committed=ratio(sum(truth == told for truth, told in committed), len(committed)),
        f1=f1,
        confusion=confusion,
    )


def where(outcomes: Iterable[Outcome]) -> Where:
    """Return how often the nearest PMU is named first, and among the first three."""
    seen = [o for o in outcomes if o.visible]
    ranks = [o.rank for o in seen if o.rank is not None]
    return Where(
        len(seen),
        ratio(sum(rank == 1 for rank in ranks), len(seen)),
        ratio(sum(rank <= 3 for rank in ranks), len(seen)),
        sum(o.near_by == "corpus" for o in seen),
    )


def reliability(outcomes: Iterable[Outcome], age: int) -> tuple[Bin, ...]:
    """Return how often a kind is right, by the confidence it is told with, at AGES_S[age]."""
    told = [
        (o.said[age].confidence, o.said[age].kind == o.kind)
        for o in outcomes
        if o.visible and o.said[age].kind != "unknown"
    ]
    bins = []
    for low, high in zip(CONFIDENCE_BINS[:-1], CONFIDENCE_BINS[1:], strict=True):
        inside = [(c, r) for c, r in told if low <= c < high or (c == high == 1.0)]
        mean = float(np.mean([c for c, _ in inside])) if inside else NAN
        bins.append(Bin(low, high, len(inside), mean, ratio(sum(r for _, r in inside), len(inside))))
    return tuple(bins)


def nadir(outcomes: Iterable[Outcome]) -> Numbers:
    """Return how well the turning point of the frequency is told at 1 s, errors in mHz."""
    return _numbers([(o.nadir_hz, o.nadir_told_hz, 1e-3) for o in outcomes if o.visible])


def size(outcomes: Iterable[Outcome]) -> Numbers:
    """Return how well the power lost is told at 1 s, errors as a share of the true power; signs do not count."""
    rows = []
    for o in outcomes:
        if o.visible and o.mw and o.size_told_mw is not None and o.kind in {"supply_lost", "load_lost"}:
            value, low, high = (abs(number) for number in o.size_told_mw)
            rows.append((abs(o.mw), (value, min(low, high), max(low, high)), abs(o.mw)))
    return _numbers(rows)


def _numbers(rows: Sequence[tuple[float | None, tuple[float, float, float] | None, float]]) -> Numbers:
    """Return the errors of (truth, told, unit); None: there is none."""
    errors, covered = [], 0
    for truth, told, unit in rows:
        if truth is not None and told is not None:
            errors.append(abs(told[0] - truth) / unit)
            covered += told[1] <= truth <= told[2]
    # Values that occurred, as in `spread`.
    middle, high = np.quantile(errors, [0.5, 0.9], method="inverted_cdf").tolist() if errors else (NAN, NAN)
    return Numbers(len(errors), middle, high, ratio(covered, len(errors)))


def f1_of(right: int, wrong: int, missed: int) -> float:
    """Return the harmonic mean of precision and recall; NaN where nothing was there and nothing was told."""
    return ratio(2 * right, 2 * right + wrong + missed)


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN of nothing."""
    return part / whole if whole else NAN


def spread(values: Iterable[float | None]) -> tuple[float, float, float]:
    """Return p50, p95 and the largest: values that occurred, none between two of them."""
    known = np.sort([value for value in values if value is not None])
    if not known.size:
        return NAN, NAN, NAN
    p50, p95 = (float(known[int(np.ceil(q * known.size)) - 1]) for q in (0.5, 0.95))
    return p50, p95, float(known[-1])

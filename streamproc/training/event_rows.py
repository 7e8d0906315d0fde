"""From samples to rows that networks are fitted on: what each network would be asked, beside what it should answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from streamproc.core import event_place
from streamproc.core.deviation import Deviation, deviation
from streamproc.core.event_features import ANCHORS_S, answers, vector
from streamproc.core.event_model import FINER, LEARNT, LOSSES, PLACE_S
from streamproc.core.frequency_response import course, targets
from streamproc.training.event_samples import Sample, seed_of
from streamproc.values import F64

COURSE_S = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0, 5.0)
COURSES = 4  # ages of a sample at which its course is asked, and at 1 s
HIT = 0.85  # the kind's chance in the rows of places, on average


@dataclass(frozen=True, slots=True)
class Asked:
    """One sample: features by age, the truth, and from which event and network it is."""

    network: str
    corpus: str
    event: int  # -1: quiet
    device: str
    plain: bool  # not augmented
    tier: int
    kind: int  # index of LEARNT
    finer: int  # index of FINER, -1: none
    vectors: dict[float, F64]
    place: F64  # (n_pmu, n_feature)
    nearest: int  # row of `place`, -1: not known
    nearest_order: tuple[int, ...]
    courses: tuple[tuple[float, F64, F64, float], ...]  # age, features, targets, scale Hz


def asked(samples: Iterable[Sample], *, plain_first: bool = True) -> list[Asked]:
    """Return the rows of samples; the first of an event is the plain one."""
    rows: list[Asked] = []
    for number, sample in enumerate(samples):
        row = _asked(sample, number, plain=plain_first and number == 0)
        if row is not None:
            rows.append(row)
    return rows


def _asked(sample: Sample, number: int, *, plain: bool) -> Asked | None:
    moved = deviation(sample.view)
    if moved is None:
        return None
    event = sample.event
    told = (event.corpus, event.number) if event is not None else ("quiet", -1)
    rng = np.random.default_rng(seed_of("rows", *told, number))
    ages = [s for s in ANCHORS_S if moved.n_row >= s * moved.rate_hz]
    order = (
        tuple(sample.pmus.tolist().index(pmu) for pmu in event.near if pmu in sample.pmus) if event else ()
    )
    return Asked(
        network=event.network if event is not None else "quiet",
        corpus=told[0],
        event=told[1],
        device=event.device if event is not None else "",
        plain=plain,
        tier=sample.tier,
        kind=LEARNT.index(sample.kind) if sample.kind in LEARNT else -1,
        finer=FINER.index(event.finer) if event is not None and event.finer in FINER else -1,
        vectors={s: vector(answers(moved, s)) for s in ages},
        place=event_place.rows(answers(moved, PLACE_S), _guess(sample.kind, rng)),
        nearest=order[0] if order else -1,
        nearest_order=order,
        courses=_courses(sample, moved, rng, plain=plain) if sample.kind in LOSSES else (),
    )


def _guess(kind: str, rng: np.random.Generator) -> F64:
    """Return chances as a network may tell them."""
    chances = rng.dirichlet(np.full(len(LEARNT), 0.5))
    sure = float(rng.beta(8.0, 8.0 * (1.0 - HIT) / HIT))
    chances *= 1.0 - sure
    if kind in LEARNT:
        chances[LEARNT.index(kind)] += sure
    return np.asarray(chances)


def _courses(
    sample: Sample, moved: Deviation, rng: np.random.Generator, *, plain: bool
) -> tuple[tuple[float, F64, F64, float], ...]:
    ages = [s for s in COURSE_S if moved.n_row > s * moved.rate_hz]
    if not plain:
        ages = sorted({1.0, *rng.choice(ages, min(COURSES, len(ages)), replace=False).tolist()} & set(ages))
    sign = -1.0 if sample.kind == "supply_lost" else 1.0
    found = []
    for age_s in ages:
        known = course(moved, answers(moved, age_s), sign)
        wanted = targets(known, sample.turning_hz, sample.settled_hz, sample.turning_s)
        found.append((age_s, known.x, wanted, known.scale_hz))
    return tuple(found)

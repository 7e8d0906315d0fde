"""The stiffness of an area, beta: the megawatts that move its settled frequency by one hertz.

From events of the area with known power (its own, or simulated): beta = power / |settled change of the frequency|, the
median over the events, and the range in which nine of ten of them lie (IEEE PES Task Force on measurement, monitoring and
reliability issues related to primary governing frequency response, PES-TR24, 2018: the response is taken where the
frequency has settled, not at its lowest).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from streamproc.core.event_model import LOSSES
from streamproc.errors import RecordingError
from streamproc.evaluation.corpus import FREQUENCY, Corpus
from streamproc.evaluation.truth import truths_of
from streamproc.values import F64, I64

SETTLED_S = 2.0  # at the end of an event
AFTER_MIN_S = 6.0  # before that it has not settled
CHANGE_MIN_HZ = 0.01  # less is lost in the movement of every day
EVENTS_MIN = 3


@dataclass(frozen=True, slots=True)
class Beta:
    """MW per Hz: the median, and the ends of the range of nine of ten events."""

    value: float
    low: float
    high: float
    events: int


def fit_beta(corpora: Iterable[Corpus]) -> Beta:
    """Return the stiffness told by the losses with known power; raises RecordingError if fewer than three can be used."""
    return _fitted(np.concatenate([np.zeros(0), *(_ratios(corpus)[1] for corpus in corpora)]))


def beta_of_others(corpus: Corpus) -> Mapping[int, float]:
    """Return what the events of odd number tell for those of even number, and the reverse: {0: MW per Hz, 1: MW per Hz}.

    So that the size of no event is judged with what was learnt from it. A half with too few such losses is absent.
    """
    number, ratio = _ratios(corpus)
    told = {rest: ratio[number % 2 != rest] for rest in (0, 1)}
    return {rest: _fitted(others).value for rest, others in told.items() if others.size >= EVENTS_MIN}


def _fitted(ratios: F64) -> Beta:
    if ratios.size < EVENTS_MIN:
        raise RecordingError(
            f"{ratios.size} events can be used, {EVENTS_MIN} are needed: losses (supply_lost, load_lost) with `mw`, "
            f"{AFTER_MIN_S:g} s of data after the onset, and a settled change of {CHANGE_MIN_HZ * 1e3:g} mHz or more"
        )
    low, value, high = np.quantile(ratios, [0.05, 0.5, 0.95]).tolist()
    return Beta(value, low, high, ratios.size)


def _ratios(corpus: Corpus) -> tuple[I64, F64]:
    """Return the numbers of the events that can be used, and their MW per Hz, both (n_used,)."""
    numbers, found = [], []
    for number, (event, truth) in enumerate(zip(corpus.events, truths_of(corpus), strict=True)):
        onset = corpus.onset_row(number)
        common = np.median(corpus.x[number, :, :, FREQUENCY].astype(np.float64), axis=1)
        if event.mw is None or truth.kind not in LOSSES or onset < 1:
            continue
        if common.size - onset < AFTER_MIN_S * corpus.rate_hz:
            continue
        change_hz = abs(common[-round(SETTLED_S * corpus.rate_hz) :].mean() - common[:onset].mean())
        if change_hz >= CHANGE_MIN_HZ:
            numbers.append(number)
            found.append(abs(event.mw) / change_hz)
    return np.array(numbers, dtype=np.int64), np.array(found, dtype=np.float64)

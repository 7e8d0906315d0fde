"""What an ideal observer would say of each event: kind, nearest PMU, how the frequency will turn.

Kind: `phys` of the corpus where it stands there. Else from `k` and the arrays without noise:

    fault                  fault
    gen                    supply_lost
    load, others           by the sign of the settled change of the median frequency: down is supply lost (a load that
                           rose asks the same of the grid), up is load lost
    line                   topology; but supply_lost or load_lost, by the sign, where the frequency has changed for good:
                           a line that carried a plant

"For good" is settled by physics. A line trip changes the losses, a few MW; a plant is hundreds. What a MW settles to is
the same for all events of a grid, so the events that lost a generator are the measure: a line counts as one that
carried a plant from 5 % of their median settled change on, at least 4 mHz. A corpus without such events uses
its load events; without those only the 4 mHz.

Settled is the mean over the last 3 s of the event, which lasts 10 s or longer after its onset in any corpus of use,
against the mean before the onset.

Nearest PMU: the first of `near`, the maker's own electrical distance; without `near` the one whose voltage changes most
within 0.5 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.disturbance import KINDS
from streamproc.evaluation.corpus import FREQUENCY, VOLTAGE, Corpus, Event
from streamproc.values import F64

SETTLE_S = 3.0
PLANT_SHARE, PLANT_MIN_HZ = 0.05, 0.004
RESPONSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth of one event."""

    kind: str
    near: tuple[str, ...]  # nearest first; at least one
    near_by: str  # "corpus" or "response"
    settled_hz: float  # change of the median frequency


def truths_of(corpus: Corpus) -> tuple[Truth, ...]:
    """Return the truth of every event."""
    settled = np.array([settled_hz(corpus, number) for number in range(len(corpus.events))])
    plant_hz = plant_threshold_hz(corpus.events, settled)
    return tuple(
        Truth(
            kind_of(event, float(settled[number]), plant_hz), *_near(corpus, number), float(settled[number])
        )
        for number, event in enumerate(corpus.events)
    )


def settled_hz(corpus: Corpus, number: int) -> float:
    """Return how much the median frequency of an event has changed at its end."""
    median = np.median(corpus.x[number, :, :, FREQUENCY].astype(np.float64), axis=1)
    onset, rows = corpus.onset_row(number), max(1, round(SETTLE_S * corpus.rate_hz))
    return float(median[max(onset, median.size - rows) :].mean() - median[:onset].mean())


def plant_threshold_hz(events: tuple[Event, ...], settled: F64) -> float:
    """Return the settled change from which on a line trip has taken a plant with it."""
    for kind in ("gen", "load"):
        measure = np.abs([change for event, change in zip(events, settled, strict=True) if event.k == kind])
        if measure.size:
            return max(PLANT_MIN_HZ, PLANT_SHARE * float(np.median(measure)))
    return PLANT_MIN_HZ


def kind_of(event: Event, settled_hz: float, plant_hz: float) -> str:
    """Return the kind of an event, one of `KINDS`."""
    if event.phys:
        return event.phys
    if event.k == "fault":
        return "fault"
    if event.k == "gen":
        return "supply_lost"
    if event.k in KINDS:
        return event.k
    if event.k == "line" and abs(settled_hz) < plant_hz:
        return "topology"
    return "supply_lost" if settled_hz < 0.0 else "load_lost"


def _near(corpus: Corpus, number: int) -> tuple[tuple[str, ...], str]:
    told = corpus.near(number)
    if told:
        return told, "corpus"
    onset = corpus.onset_row(number)
    voltage = corpus.x[number, :, :, VOLTAGE].astype(np.float64)
    after = voltage[onset : onset + max(1, round(RESPONSE_S * corpus.rate_hz)) + 1]
    change = np.abs(after - voltage[max(0, onset - 1)]).max(axis=0)
    return tuple(corpus.stations[pmu] for pmu in np.argsort(-change, kind="stable").tolist()), "response"


def turning_hz(corpus: Corpus, number: int, kind: str, ambient_hz: F64, lead: int) -> float | None:
    """Return the lowest (supply lost) or highest (load lost) median frequency after the onset, ambient included."""
    if kind not in {"supply_lost", "load_lost"}:
        return None
    onset = corpus.onset_row(number)
    rows = ambient_hz.size - lead
    median = np.median(corpus.x[number, :rows, :, FREQUENCY].astype(np.float64), axis=1) + ambient_hz[lead:]
    after = median[onset:]
    return float(after.min() if kind == "supply_lost" else after.max())

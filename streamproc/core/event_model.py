"""Says what a disturbance is: kind, size, place, what the frequency will do, from what is seen until now.

The answers come from small networks (`EventNets`: in a worker ONNX graphs, in tests and training the numpy reference);
this file puts the questions and turns the answers into words. The kind is asked anew at fixed ages and keeps what was
answered in between; a kind that is less sure than learnt bounds demand is "unknown". Oscillations and islands are not
learnt: an oscillation began with a rule that looks over seconds or swings on where a step would have rung down, an
island has run away from the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np

from streamproc.core import event_place
from streamproc.core.describe import EventView
from streamproc.core.deviation import Deviation, deviation, middle
from streamproc.core.disturbance import Disturbance, Estimate, Kind, Mode, Response
from streamproc.core.event_features import ANCHORS_S, Answers, answers, vector
from streamproc.core.frequency_response import Forecast, course, forecast, rocof_hz_s
from streamproc.core.grid import from_grid
from streamproc.core.islands import islands
from streamproc.core.mode_note import modes_of, swings_on
from streamproc.values import F64, Bool

LEARNT: tuple[Kind, ...] = (
    "fault",
    "supply_lost",
    "load_lost",
    "topology",
    "unknown",
)  # order of the answers
ALL: tuple[Kind, ...] = ("fault", "supply_lost", "load_lost", "topology", "islanding", "oscillation")
FINER = ("generator", "load_rise", "line")  # of a supply that is lost
LOSSES = ("supply_lost", "load_lost")
NOTHING_KNOWN = np.eye(len(LEARNT))[
    LEARNT.index("unknown")
]  # what to answer where no PMU was seen since the onset
MOVED_MIN_HZ = 0.01  # of what is not known to be a loss no turning point is told below this
SURE = 0.95  # of what is not learnt
PLACES, RESPONSES = 5, 10
MODES_S = 5.0  # age from which modes are looked for
PLACE_S = 0.5  # later the swing of the machines hides where it began
DIP_MIN_PU, LIMIT_SD = 0.01, 5.0


class EventNets(Protocol):
    """The answers of the networks, and what was learnt beside them."""

    digest: str
    temperature: dict[str, float]  # of the kinds, by age
    commit_min: dict[str, float]  # a kind is told from this chance on, by age
    widen: F64  # (n_target,) of the forecast's bands

    def ask(self, name: str, x: F64) -> F64:
        """Return the answers (n, n_out) of one network to features (n, n_in)."""


@dataclass(frozen=True, slots=True)
class EventDescriber:
    """`core.describe.Describer` over networks."""

    nets: EventNets
    beta_mw_per_hz: float | None = None  # of the area: MW that move its settled frequency by 1 Hz

    def of_area(self, beta_mw_per_hz: float | None) -> EventDescriber:
        """Return the describer of an area."""
        return replace(self, beta_mw_per_hz=beta_mw_per_hz)

    def describe(self, view: EventView) -> Disturbance | None:
        """Return what is known by now; None before the first age or if nothing was known before the onset."""
        age_s = view.age / view.rate_hz
        moved = deviation(view)
        if moved is None or (age_s < ANCHORS_S[0] - 1e-9 and not view.slow):
            return None
        if view.slow:
            return _oscillation(view, moved, view.modes or modes_of(view), self.nets.digest)
        modes = modes_of(view) if age_s >= MODES_S - 1e-9 else ()
        if swings_on(moved, modes):
            return _oscillation(view, moved, modes, self.nets.digest)
        anchor_s = max(s for s in ANCHORS_S if s <= age_s + 1e-9)
        seen = answers(moved, anchor_s)
        early = answers(moved, min(anchor_s, PLACE_S))
        numbers = vector(seen)[None]
        learnt = self._chances(numbers, anchor_s) if seen.known.any() else NOTHING_KNOWN
        groups = islands(moved)
        parted = len(groups) > 1 and groups[1].size > 1  # one PMU alone is a plant that was cut off
        kind, confidence, chances = told_kind(learnt, self.nets.commit_min[f"{anchor_s:g}"], parted=parted)
        place = self._place(early, learnt, view.labels)
        told = Disturbance(
            onset_ts_us=_ts_us(view, view.onset),
            ts_us=_ts_us(view, view.onset + view.age),
            kind=kind,
            confidence=confidence,
            chances=chances,
            rocof_hz_s=_known(rocof_hz_s(moved)),
            clearing_ms=_clearing_ms(moved) if kind == "fault" else None,
            place=place,
            responses=_responses(view, moved),
            islands=tuple(tuple(view.labels[pmu] for pmu in group) for group in groups)
            if len(groups) > 1
            else (),
            modes=modes,
            model_digest=self.nets.digest,
        )
        told = self._with_finer(told, numbers, anchor_s)
        return self._with_course(told, moved, learnt, age_s, view.nominal_hz) if kind != "fault" else told

    def _chances(self, numbers: F64, anchor_s: float) -> F64:
        name = f"{anchor_s:g}"
        return softened(self.nets.ask(f"kind_{name}", numbers)[0], self.nets.temperature[name])

    def _place(self, seen: Answers, learnt: F64, labels: tuple[str, ...]) -> tuple[str, ...]:
        score = self.nets.ask("place", event_place.rows(seen, learnt))[:, 0]
        known: Bool = seen.known.max(axis=0) > 0.0
        order = np.argsort(-np.where(known, score, -np.inf), kind="stable")
        return tuple(labels[pmu] for pmu in order[:PLACES].tolist() if known[pmu])

    def _with_finer(self, told: Disturbance, numbers: F64, anchor_s: float) -> Disturbance:
        if told.kind == "topology":
            return msgspec.structs.replace(told, finer="line", finer_confidence=told.confidence)
        if told.kind != "supply_lost":
            return told
        chances = softened(self.nets.ask(f"finer_{anchor_s:g}", numbers)[0], 1.0)
        best = int(np.argmax(chances))
        return msgspec.structs.replace(told, finer=FINER[best], finer_confidence=_share(float(chances[best])))

    def _with_course(
        self, told: Disturbance, moved: Deviation, learnt: F64, age_s: float, nominal_hz: float
    ) -> Disturbance:
        """Return it with what the frequency will do, while a loss is the best guess."""
        supply, load = float(learnt[LEARNT.index("supply_lost")]), float(learnt[LEARNT.index("load_lost")])
        if told.kind not in (*LOSSES, "unknown") or max(supply, load) < 0.3:
            return told
        before_hz = nominal_hz + moved.level_hz
        known = course(
            moved, answers(moved, min(age_s, moved.n_row / moved.rate_hz)), -1.0 if supply > load else 1.0
        )
        if told.kind == "unknown" and known.extreme_hz < MOVED_MIN_HZ:
            return told
        ahead = forecast(known, self.nets.ask("course", known.x[None])[0], self.nets.widen)
        low, value, high = (_round(before_hz + hz, 4) for hz in ahead.turning_hz)
        return msgspec.structs.replace(
            told,
            nadir_hz=Estimate(value=value, low=low, high=high),
            nadir_after_s=_estimate(ahead.turning_s, 2),
            size_mw=self._size(told.kind, ahead),
        )

    def _size(self, kind: Kind, ahead: Forecast) -> Estimate | None:
        if self.beta_mw_per_hz is None or kind not in LOSSES:
            return None
        low, value, high = sorted(abs(hz) * self.beta_mw_per_hz for hz in ahead.settled_hz)
        return _estimate((low, value, high), 1)


def softened(logits: F64, temperature: float) -> F64:
    """Return the chances behind answers."""
    raised = np.exp((logits - logits.max()) / temperature)
    return np.asarray(raised / raised.sum())


def told_kind(learnt: F64, commit_min: float, *, parted: bool) -> tuple[Kind, float, dict[str, float]]:
    """Return the kind, its confidence, and the chances of all kinds but "unknown"."""
    rest = max(1e-9, float(learnt[:-1].sum()))
    free = 1.0 - SURE if parted else 1.0
    chances: dict[str, float] = dict.fromkeys(map(str, ALL), 0.0)
    chances |= {
        kind: _share(free * float(chance) / rest)
        for kind, chance in zip(LEARNT[:-1], learnt[:-1], strict=True)
    }
    if parted:
        chances["islanding"] = SURE
        return "islanding", SURE, chances
    best = int(np.argmax(learnt))
    if LEARNT[best] == "unknown" or learnt[best] < commit_min:
        return "unknown", _share(1.0 - float(learnt[:-1].max())), chances
    return LEARNT[best], _share(float(learnt[best])), chances


def _oscillation(view: EventView, moved: Deviation, modes: tuple[Mode, ...], digest: str) -> Disturbance:
    """Return what is known of a disturbance that is an oscillation: a rule over seconds began it, or it swings on."""
    return Disturbance(
        onset_ts_us=_ts_us(view, view.onset),
        ts_us=_ts_us(view, view.onset + view.age),
        kind="oscillation",
        confidence=SURE,
        chances={
            kind: SURE if kind == "oscillation" else _share((1.0 - SURE) / (len(ALL) - 1)) for kind in ALL
        },
        responses=_responses(view, moved),
        modes=modes,
        model_digest=digest,
    )


def _clearing_ms(moved: Deviation) -> float | None:
    """Return how long the deepest voltage stayed below half of its dip; None while it is there."""
    early = np.where(np.isnan(moved.voltage), 0.0, moved.voltage)
    pmu = int(np.argmin(early.min(axis=0)))
    bottom = int(np.argmin(early[:, pmu]))
    back = np.flatnonzero(early[bottom:, pmu] > early[bottom, pmu] / 2.0)
    if -early[bottom, pmu] < DIP_MIN_PU or not back.size:
        return None
    return _round((bottom + int(back[0])) / moved.rate_hz * 1e3, 1)


def _responses(view: EventView, moved: Deviation) -> tuple[Response, ...]:
    """Return how the PMUs answered, the earliest first, then the largest."""
    own = moved.angle - middle(moved.angle)[:, None]
    signals = (moved.voltage, moved.freq, own)
    sd = moved.noise[[1, 0, 2]]
    clear = np.stack([np.nan_to_num(np.abs(rows)) for rows in signals]) / sd[:, None, :]
    over: Bool = clear.max(axis=0) > LIMIT_SD
    first = np.argmax(over, axis=0)
    largest = [
        rows[np.argmax(np.nan_to_num(np.abs(rows)), axis=0), np.arange(rows.shape[1])] for rows in signals
    ]
    order = np.lexsort((np.arange(first.size), -clear.max(axis=(0, 1)), first))
    chosen = [pmu for pmu in order.tolist() if over[:, pmu].any()][:RESPONSES]
    return tuple(
        Response(
            source=view.labels[pmu],
            delay_ms=_round(max(0, int(first[pmu]) - moved.late) / view.rate_hz * 1e3, 1),
            voltage_pu=_known(float(largest[0][pmu])),
            freq_hz=_known(float(largest[1][pmu])),
            angle_rad=_known(float(largest[2][pmu])),
        )
        for pmu in chosen
    )


def _ts_us(view: EventView, instant: int) -> int:
    return int(from_grid(np.array([instant], dtype=np.int64), view.rate_hz)[0] // 1000)


def _estimate(told: tuple[float, float, float], digits: int) -> Estimate:
    low, value, high = (_round(part, digits) for part in told)
    return Estimate(value=value, low=low, high=high)


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else _round(value, 4)


def _round(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # no -0.0


def _share(chance: float) -> float:
    return _round(min(1.0, max(0.0, chance)), 4)

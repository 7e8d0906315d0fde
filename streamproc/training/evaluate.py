"""How well the shipped detectors find events: recall, delay and false alarms on a corpus with known onsets.

The corpus (`.npz`, `X` (event, frame, pmu, 3): voltage pu, angle rad, frequency Hz; `meta` JSON) is a
simulation without noise. Each event rides on real ambient frequency, common to all PMUs and integrated into
the angles; voltages get an Ornstein-Uhlenbeck process; all get white noise of a tier. Fitted on ten minutes
of ambient, tested on another stretch.

An event is found if a rule without on-delay reaches its limit within 5 s of the onset. A raise before the
onset, or in the event-free test stretch, is a false alarm. Events with dv < 0.002 pu and df < 0.005 Hz
cannot be seen in the noise and do not count. "Delay" is the algorithm's: first frame at or after the onset
is 0; transport and PMU filter come on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from streamproc.core.detector import History
from streamproc.core.scoring import Plan
from streamproc.training.anomaly import Recorded, Scorer, fit_area, open_graphs, score_all, seconds_of
from streamproc.training.bundle import generic_plan
from streamproc.values import F32, F64, Bool

TIERS = {  # sd of voltage pu, frequency Hz, angle deg
    "T1": (3e-4, 5e-4, 0.02),
    "T2": (1e-3, 2e-3, 0.1),
    "T3": (3e-3, 5e-3, 0.3),
}
LEAD_S = 14.0  # of steady state put before each event, so that the windows are full
FIND_S = 5.0


class Event(msgspec.Struct, frozen=True):
    """One event of the corpus; other keys of the JSON are not needed here."""

    k: str
    t: float
    dv: float
    df: float


class Meta(msgspec.Struct, frozen=True):
    """The JSON beside the arrays."""

    case: str
    pmu_bus: list[str | int]
    fps: float
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Report:
    """What came out, per rule ("any": all rules together)."""

    n_event: int
    found: dict[str, int]
    delay_p95_s: dict[str, float]
    false_before: int
    false_ambient: dict[str, int]
    ambient_s: float
    missed: tuple[str, ...]


def evaluate(
    x: F32,
    meta: Meta,
    ambient_hz: F64,
    tier: str,
    open_model: Callable[[bytes], Scorer],
    *,
    generic: bool,
    seed: int,
) -> Report:
    """Return the report; `ambient_hz`: event-free deviation, 10 min to fit, the rest to test."""
    rate_hz, n_pmu = float(meta.fps), x.shape[2]
    rng = np.random.default_rng(seed)
    n_fit = round(600 * rate_hz)
    rest = features(None, ambient_hz[:n_fit], tier, rate_hz, rng, n_pmu)
    plan = generic_plan(rate_hz) if generic else _fitted(meta, rest, open_model)
    graphs = open_graphs(plan, n_pmu, open_model)
    rows = [row for row, rule in enumerate(plan.rules) if rule.on_delay_ms == 0]
    names = [plan.rules[row].name for row in rows]

    def raised(fast: F64) -> Bool:
        scores = score_all(plan, History(rate_hz, fast, seconds_of(fast, rate_hz)), graphs)[:, rows]
        over: Bool = np.asarray((scores >= 1.0).any(axis=2))  # (n_tick, n_rule)
        return over

    quiet = raised(features(None, ambient_hz[n_fit:], tier, rate_hz, rng, n_pmu))
    tally = _Tally([*names, "any"], rate_hz)
    lead = round(LEAD_S * rate_hz)
    for number, event in enumerate(meta.events):
        start = n_fit + int(rng.integers(0, ambient_hz.size - n_fit - x.shape[1] - lead))
        under = ambient_hz[start : start + x.shape[1] + lead]
        if event.dv < 0.002 and event.df < 0.005:
            continue
        tally.add(event, lead, raised(features(x[number], under, tier, rate_hz, rng, n_pmu)))
    strides = [graph.stride for graph in plan.graphs for _ in graph.rules]
    episodes = {
        name: _episodes(quiet[:: strides[row], i])
        for i, (name, row) in enumerate(zip(names, rows, strict=True))
    }
    return tally.report(episodes, quiet.shape[0] / rate_hz)


class _Tally:
    """Counts over the events of a corpus."""

    def __init__(self, names: list[str], rate_hz: float) -> None:
        self._names, self._rate_hz = names, rate_hz
        self._delays: dict[str, list[float]] = {name: [] for name in names}
        self._n_event, self._false_before = 0, 0
        self._missed: list[str] = []

    def add(self, event: Event, lead: int, hits: Bool) -> None:
        """Take in one event; `hits` is (n_tick, n_rule)."""
        self._n_event += 1
        onset = lead + int(np.ceil(event.t * self._rate_hz - 1e-6))
        self._false_before += int(hits[:onset].any())
        found = hits[onset : onset + round(FIND_S * self._rate_hz)]
        for name, column in zip(self._names, [*found.T, found.any(axis=1)], strict=True):
            if column.any():
                self._delays[name].append(int(np.argmax(column)) / self._rate_hz)
        if not found.any():
            self._missed.append(f"{event.k} dv={event.dv:.4f} df={event.df:.4f}")

    def report(self, false_ambient: dict[str, int], ambient_s: float) -> Report:
        """Return what was counted."""
        delays = self._delays.items()
        return Report(
            self._n_event,
            {name: len(values) for name, values in delays},
            {name: float(np.percentile(values, 95)) if values else float("nan") for name, values in delays},
            self._false_before,
            false_ambient,
            ambient_s,
            tuple(self._missed),
        )


def _episodes(over: Bool) -> int:
    """Return how many runs of True there are."""
    return int((np.diff(over.astype(np.int8), prepend=0) == 1).sum())


def _fitted(meta: Meta, rest: F64, open_model: Callable[[bytes], Scorer]) -> Plan:
    stations = tuple(f"PMU {bus}" for bus in meta.pmu_bus)
    unknown_v = np.full(len(stations), np.nan)
    recorded = Recorded("corpus", stations, float(meta.fps), 60.0, rest.astype(np.float32), unknown_v)
    return fit_area(recorded, "corpus", open_model).plan


def features(
    event: F32 | None, ambient_hz: F64, tier: str, rate_hz: float, rng: np.random.Generator, n_pmu: int
) -> F64:
    """Return (n_tick, 3, n_pmu) as a model sees them: an event (or none) on ambient movement and noise."""
    noise_pu, noise_hz, noise_deg = TIERS[tier]
    n_tick = ambient_hz.size
    voltage, angle, frequency = np.ones((n_tick, n_pmu)), np.zeros((n_tick, n_pmu)), np.zeros((n_tick, n_pmu))
    if event is not None:
        held = np.concatenate([np.repeat(event[:1], n_tick - event.shape[0], axis=0), event]).astype(
            np.float64
        )
        voltage, angle = held[:, :, 0] / held[0, :, 0], np.unwrap(held[:, :, 1], axis=0)
        frequency = held[:, :, 2] - held[0, :, 2]
    shape = (n_tick, n_pmu)
    voltage = voltage + _drift(rng, shape, 5e-4, 30.0 * rate_hz) + rng.normal(0, noise_pu, shape)
    frequency = frequency + ambient_hz[:, None]
    angle = (
        angle
        + np.cumsum(2 * np.pi * ambient_hz / rate_hz)[:, None]
        + rng.normal(0, np.radians(noise_deg), shape)
    )
    frequency = frequency + rng.normal(0, noise_hz, shape)
    step = np.diff(angle, axis=0, prepend=angle[:1]) - 2 * np.pi * frequency / rate_hz
    step[0] = np.nan
    return np.stack([frequency, voltage - 1.0, step], axis=1)


def _drift(rng: np.random.Generator, shape: tuple[int, int], sd: float, rows: float) -> F64:
    """Return an Ornstein-Uhlenbeck process with this standard deviation and memory."""
    keep = np.exp(-1.0 / rows)
    kicks = rng.normal(0, sd * np.sqrt(1 - keep**2), shape)
    out = np.empty(shape)
    level = rng.normal(0, sd, shape[1])
    for row in range(shape[0]):
        level = keep * level + kicks[row]
        out[row] = level
    return out

"""PMUs that measure well and one that does not: what the tests of the quality detectors share."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from streamproc.core.condition import RAISE, ConditionState, RuleArrays, advance
from streamproc.core.detector import History
from streamproc.core.scoring import Fitted, Plan
from streamproc.shell.models import SessionScorer
from streamproc.training.anomaly import open_graphs, score_all, seconds_of

DATA = Path(__file__).resolve().parent / "data"
NOMINAL_HZ = 60.0
TIERS = {"T1": (3e-4, 5e-4, 0.02), "T2": (1e-3, 2e-3, 0.1)}  # noise, sd: voltage pu, frequency Hz, angle deg


@dataclass
class Measured:
    """What PMUs measure, to be spoilt: (n_frame, n_pmu) each."""

    rate_hz: float
    volt: np.ndarray  # pu
    angle: np.ndarray  # rad
    freq: np.ndarray  # Hz off nominal

    def rows(self) -> np.ndarray:
        """The features (n_frame, 3, n_pmu) of it."""
        step = np.diff(self.angle, axis=0, prepend=self.angle[:1]) - 2 * np.pi * self.freq / self.rate_hz
        step -= 2 * np.pi * np.rint(step / (2 * np.pi))
        step[0] = np.nan
        return np.stack([self.freq, self.volt - 1.0, step], axis=1)


@lru_cache(maxsize=1)
def real_ambient_hz() -> np.ndarray:
    """Half an hour of a real grid's frequency without disturbance, at 30 frames/s, Hz off nominal."""
    with gzip.open(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz", "rt") as lines:
        freq_hz = np.array([float(row["freq_hz"]) for row in csv.DictReader(lines)])
    return np.concatenate([freq_hz[:18000], freq_hz[59900:95900]]) - NOMINAL_HZ


def walk(rng: np.random.Generator, n: int, width: int, sd: float, memory: float) -> np.ndarray:
    """An Ornstein-Uhlenbeck process (n, width) of this standard deviation and memory in rows."""
    keep = np.exp(-1.0 / memory)
    out = rng.normal(0, sd * np.sqrt(1 - keep**2), (n, width))
    out[0] = rng.normal(0, sd, width)
    for row in range(1, n):
        out[row] += keep * out[row - 1]
    return out


def measured(
    n: int,
    n_pmu: int = 8,
    rate_hz: float = 30.0,
    tier: str = "T2",
    seed: int = 1,
    ambient_hz: np.ndarray | None = None,
) -> Measured:
    """Healthy PMUs: common frequency, voltages that wander by themselves, white noise of a tier."""
    rng = np.random.default_rng(seed)
    noise_pu, noise_hz, noise_deg = TIERS[tier]
    common = walk(rng, n, 1, 8e-3, 40 * rate_hz)[:, 0] if ambient_hz is None else ambient_hz[:n]
    turned = np.cumsum(2 * np.pi * common / rate_hz)[:, None]
    return Measured(
        rate_hz,
        1.0 + walk(rng, n, n_pmu, 5e-4, 30 * rate_hz) + rng.normal(0, noise_pu, (n, n_pmu)),
        turned + rng.normal(0, np.radians(noise_deg), (n, n_pmu)),
        common[:, None] + rng.normal(0, noise_hz, (n, n_pmu)),
    )


def ns_per_s(rate: float, n_frame: int, rate_hz: float) -> np.ndarray:
    """What a clock that drifts by so many ns/s does to the angle, rad: (n_frame,)."""
    return 2 * np.pi * NOMINAL_HZ * rate * 1e-9 * np.arange(n_frame) / rate_hz


def generic(rate_hz: float, *detectors: Fitted) -> Plan:
    """The plan of these detectors without training."""
    return Plan(rate_hz, tuple((detector, detector.generic(rate_hz)) for detector in detectors))


def fitted(rest: Measured, *detectors: Fitted) -> Plan:
    """The plan of these detectors, trained on PMUs at rest as `train anomaly` does."""
    rows = rest.rows()
    history = History(rest.rate_hz, rows, seconds_of(rows, rest.rate_hz))
    parts = []
    for detector in detectors:
        params = detector.fit(history)
        draft = Plan(rest.rate_hz, ((detector, params),))
        levels = score_all(draft, history, open_graphs(draft, rows.shape[2], SessionScorer))
        parts.append((detector, detector.calibrated(params, levels)))
    return Plan(rest.rate_hz, tuple(parts))


def live(plan: Plan, rows: np.ndarray, slow: np.ndarray | None = None) -> np.ndarray:
    """Scores (n_frame, n_rule, n_pmu) by the ONNX graphs, as they would come live."""
    seconds = seconds_of(rows, plan.rate_hz) if slow is None else slow
    return score_all(
        plan, History(plan.rate_hz, rows, seconds), open_graphs(plan, rows.shape[2], SessionScorer)
    )


def raised(plan: Plan, scores: np.ndarray) -> list[tuple[str, int, float]]:
    """Rule, PMU and time (s from the first frame) of every raise, with the delays of the rules."""
    period_ns = round(1e9 / plan.rate_hz)
    t_ns = 1_700_000_000_000_000_000 + period_ns * np.arange(scores.shape[0])
    rules = RuleArrays.of(plan.rules, hold_ns=max(2_000_000_000, 5 * period_ns))
    _, edges = advance(ConditionState.fresh(len(plan.rules), scores.shape[2]), rules, t_ns, scores)
    at = np.flatnonzero(edges.kind == RAISE)
    return [
        (plan.rules[edges.rule[i]].name, int(edges.source[i]), float(edges.tick[i] / plan.rate_hz))
        for i in at
    ]


def told(plan: Plan, what: Measured) -> list[tuple[str, int, float]]:
    """The raises of what these PMUs measured."""
    return raised(plan, live(plan, what.rows()))

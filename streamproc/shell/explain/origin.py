"""Where an oscillation comes from: its sources in order, from the power that was measured or else from its shape. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.messages import Alert
from streamproc.core.mode_note import RATE_MAX_HZ, RATE_MIN_HZ, RING_MIN_S
from streamproc.core.mode_source import Sources, energy_flow, shape_at, sources
from streamproc.core.modes import Modes, bridged, ring_down
from streamproc.shell.explain.evidence import Evidence, unwrapped
from streamproc.values import C128, F64

GAP_S = 0.5  # a longer gap makes a PMU unknown
SAME_RATIO = 0.1  # two estimates of one mode's frequency lie so near, of the frequency
DAMPING_RULES = ("damping_low", "damping_reduced")


@dataclass(frozen=True, slots=True)
class Origin:
    """The mode with the most energy, and who may be its source."""

    freq_hz: float
    sources: Sources  # indices into the labels of the evidence
    measured: int  # PMUs whose energy flow is known


def origin_of(alert: Alert, evidence: Evidence) -> Origin | None:
    """Return where an oscillation comes from; None for another alert, or where no mode is seen.

    The mode is the first that the alert tells of, else the strongest in the frequencies shown. A rule that looks over
    seconds finds an oscillation that was there before the onset, too: all rows of the evidence are used. After a sudden
    rule it is what follows.
    """
    seen = np.isfinite(evidence.freq_hz).any(axis=1)
    known = np.flatnonzero(seen if _looks_back(alert) else seen & (evidence.t_s >= 0.0))
    if not _swings(alert) or not known.size:
        return None
    rows = slice(int(known[0]), int(known[-1]) + 1)
    gap, rate_hz = round(GAP_S * evidence.rate_hz), evidence.rate_hz
    frequency = bridged(evidence.freq_hz[rows], gap)
    found = _modes(frequency, rate_hz)
    told = alert.disturbance.modes if alert.disturbance is not None else ()
    if not told and not found.energy.size:
        return None
    freq_hz = told[0].freq_hz.value if told else float(found.freq_hz[0, 0])
    power = evidence.power
    apparent = power.apparent_va[rows]
    angle_rad = bridged(unwrapped(power.angle_rad[rows]), gap)
    active, reactive = bridged(apparent.real, gap), bridged(apparent.imag, gap)
    flow = energy_flow(active, reactive, angle_rad, bridged(power.voltage_v[rows], gap), rate_hz, freq_hz)
    ranked = sources(_shape(found, frequency, rate_hz, freq_hz), flow)
    if ranked.by == "shape" and not ranked.order.size:
        return None
    return Origin(freq_hz, ranked, int(np.isfinite(flow.mean).sum()))


def _swings(alert: Alert) -> bool:
    told = alert.disturbance.kind if alert.disturbance is not None else ""
    return told == "oscillation" or _looks_back(alert)


def _looks_back(alert: Alert) -> bool:
    return alert.kind == "oscillation" or alert.rule in DAMPING_RULES


def _modes(frequency: F64, rate_hz: float) -> Modes:
    if not RATE_MIN_HZ <= rate_hz <= RATE_MAX_HZ or frequency.shape[0] < RING_MIN_S * rate_hz:
        return Modes.none(frequency.shape[1])
    return ring_down(frequency, rate_hz)


def _shape(found: Modes, frequency: F64, rate_hz: float, freq_hz: float) -> C128:
    """Return the shape (n_pmu,) of the mode at `freq_hz`: as found, else how the PMUs swing at that frequency."""
    away = np.abs(found.freq_hz[:, 0] - freq_hz)
    if away.min(initial=np.inf) <= SAME_RATIO * freq_hz:
        return np.asarray(found.shape[int(np.argmin(away))])
    return shape_at(frequency, rate_hz, freq_hz)

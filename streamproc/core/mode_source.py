"""Where an oscillation comes from: the flow of its energy where power is measured, else its shape.

With power, the dissipating energy flow (Maslennikov, Wang and Litvinov, Int. J. Electr. Power 88, 2017, 55-62): the
integral of dP d(angle) + dQ d(ln V) over the oscillation, per second. What sends that energy out is the source of a forced
oscillation (or has negative damping); what takes it in damps. It needs no model and holds at resonance, where the largest
swing may be far from the source.

Without power, amplitude and phase: of the PMUs that swing together with the largest, who swings far and ahead of the
others is nearer to the source. That is a hint only; at resonance it points at the mode, not at the cause.

Either way the answer may be that the source is outside the observed area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamproc.core.modes import SENSELESS, Z90, usable
from streamproc.values import C128, F64, I64, Bool

SEGMENTS = 6
CYCLES_MIN = 2.0  # of the oscillation in a segment
FLOW_SHARE_MIN = 0.25  # of the largest flow's size: below, it is no source
LEAD_WEIGHT = 2.0  # 1/rad: chosen on made-up networks, between amplitude alone (0) and phase alone
LEAD_CLEAR = 1.5  # the first by shape is clear from this times the mean of the others


@dataclass(frozen=True, slots=True)
class Flow:
    """Energy that each element sends out, per second: mean over segments and its standard error.

    Unit: that of the power times rad/s. NaN: not known (an unknown sample, or too few cycles).
    """

    mean: F64  # (n_element,) positive: the element feeds the oscillation
    error: F64  # (n_element,)


@dataclass(frozen=True, slots=True)
class Sources:
    """Candidates for the source of an oscillation, best guess first."""

    order: I64  # (n_candidate,) indices of elements or PMUs, may be empty
    weight: F64  # (n_candidate,) 0..1, of the first one's
    outside: bool  # the best guess is a source outside the observed area
    by: Literal["flow", "shape"]


def energy_flow(
    power: F64, reactive: F64, angle_rad: F64, voltage: F64, rate_hz: float, freq_hz: float
) -> Flow:
    """Return the dissipating energy flow at `freq_hz` out of each element; all inputs are (n_row, n_element).

    `power` and `reactive` are what the element (a plant, a tie line, a load) delivers into the observed network, in one
    unit; `angle_rad` and `voltage` (any unit above zero) are those of its bus, the angle may wrap. An element with an
    unknown sample (NaN) has no flow. A forced oscillation needs no more than a dozen cycles.
    """
    n_row = power.shape[0]
    n_segment = min(SEGMENTS, int(n_row / rate_hz * freq_hz / CYCLES_MIN))
    none = np.full(power.shape[1], np.nan)
    if n_segment < 2:
        return Flow(none, none)
    with np.errstate(invalid="ignore", divide="ignore"):
        inputs = np.stack([power, reactive, np.unwrap(angle_rad, axis=0), np.log(voltage)])
    known = (np.abs(inputs) < SENSELESS).all(axis=(0, 1))
    size = n_row // n_segment
    rows = np.where(known, inputs, 0.0)[:, -n_segment * size :]
    phasor = _phasors(rows.reshape(4, n_segment, size, -1), rate_hz, freq_hz)  # (4, n_segment, n_element)
    turn = 2 * np.pi * freq_hz
    flow = 0.5 * (phasor[:2] * (1j * turn * phasor[2:]).conj()).real.sum(axis=0)  # (n_segment, n_element)
    mean = flow.mean(axis=0)
    error = flow.std(axis=0, ddof=1) / np.sqrt(n_segment)
    return Flow(np.where(known, mean, np.nan), np.where(known, error, np.nan))


def shape_at(values: F64, rate_hz: float, freq_hz: float) -> C128:
    """Return size and phase (n_channel,) with which `values` (n_row, n_channel) swing at `freq_hz`; NaN: not used."""
    used = usable(values)
    found = _phasors(np.where(used, values, 0.0), rate_hz, freq_hz)
    return np.where(used, found, complex(np.nan, np.nan))


def sources(shape: C128, flow: Flow | None = None, boundary: Bool | None = None) -> Sources:
    """Return the candidates by energy flow where it is known for at least one element, else by the mode's shape.

    `shape`, the flow and `boundary` are about the same PMUs (n_pmu,) in the same order.
    """
    if flow is not None and np.isfinite(flow.mean).any():
        return sources_by_flow(flow, boundary)
    return sources_by_shape(shape, boundary)


def sources_by_flow(flow: Flow, boundary: Bool | None = None) -> Sources:
    """Return the elements that feed the oscillation, the strongest first.

    `boundary` (n_element,) marks tie lines to what is not observed. The answer is "outside" when the strongest feeder is
    one of them, or when nothing that is measured clearly feeds the oscillation. All flows unknown: no candidates.
    """
    edge = np.zeros(flow.mean.size, dtype=np.bool_) if boundary is None else boundary
    known = np.isfinite(flow.mean)
    if not known.any():
        return Sources(np.zeros(0, dtype=np.int64), np.zeros(0), outside=False, by="flow")
    mean = np.where(known, flow.mean, 0.0)
    feeds = known & (mean > Z90 * np.where(known, flow.error, 0.0))
    feeds &= mean >= FLOW_SHARE_MIN * float(np.abs(mean).max())
    order = _descending(mean, feeds)
    outside = order.size == 0 or bool(edge[order[0]])
    kept = order[~edge[order]]
    weight = mean[kept] / mean[order[0]] if kept.size else np.zeros(0)
    return Sources(kept, weight, outside=outside, by="flow")


def sources_by_shape(shape: C128, boundary: Bool | None = None) -> Sources:
    """Return the PMUs that lead by amplitude and phase of a mode's shape (n_pmu,), NaN: PMU not used.

    PMUs swing in two groups against each other. A PMU ahead of its own group's phase is moved up, one behind is moved
    down. The answer is "outside" when the first is a PMU at the boundary, or when it does not stand out: a source that is
    far away moves all alike. No PMU used: no candidates.
    """
    edge = np.zeros(shape.size, dtype=np.bool_) if boundary is None else boundary
    size = np.abs(np.where(np.isfinite(shape), shape, 0.0))
    if not size.any():
        return Sources(np.zeros(0, dtype=np.int64), np.zeros(0), outside=False, by="shape")
    turned = np.where(size > 0, shape, 0.0) / shape[int(np.argmax(size))]
    with_first = turned.real >= 0
    score = np.zeros(size.size)
    for group in (with_first, ~with_first):
        lead = np.angle(turned * turned[group].sum().conj())
        score += np.where(group, size * np.exp(LEAD_WEIGHT * lead), 0.0)
    order = _descending(score, size > 0)
    first = score[order[0]]
    clear = order.size < 3 or bool(first >= LEAD_CLEAR * score[order[1:]].mean())
    return Sources(order, score[order] / first, outside=bool(edge[order[0]]) or not clear, by="shape")


def _descending(value: F64, chosen: Bool) -> I64:
    index = np.flatnonzero(chosen)
    return np.asarray(index[np.argsort(-value[index], kind="stable")], dtype=np.int64)


def _phasors(rows: F64, rate_hz: float, freq_hz: float) -> C128:
    """Return the phasors (..., n_channel) of rows (..., n_row, n_channel) at `freq_hz`, less a parabola; time 0: middle."""
    size = rows.shape[-2]
    at = (np.arange(size) - (size - 1) / 2) / rate_hz
    turn = 2 * np.pi * freq_hz
    trend = np.stack([np.ones(size), at, at**2], axis=1)
    basis = np.concatenate([np.cos(turn * at)[:, None], np.sin(turn * at)[:, None], trend], axis=1)
    fitted = np.linalg.pinv(basis)[:2] @ rows  # (..., 2, n_channel)
    return np.asarray(fitted[..., 0, :] - 1j * fitted[..., 1, :])

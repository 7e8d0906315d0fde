"""What an event does to frequency, voltage, angle and STAT of every PMU, as functions of time.

PMUs lie on a line from 0 (west) to 1 (east). A loss of generation travels: an electromechanical wave crosses
the system in about half a second. A fault does not: voltages fall and angles jump at once, and what travels
is the swing after it. The inter-area mode moves west against east, cos(pi * place), and dies out with the
damping of the event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from streamproc.values import F64, U16

EventKind: TypeAlias = Literal["generator_trip", "line_trip", "oscillation", "drop_out", "clock_unlocked"]

WAVE_S = 0.5  # time of an electromechanical wave through the whole system
FAULT_S = 0.1  # from the fault to the opening of the breakers
REACH = 0.2  # of a voltage dip, as a share of the line
NADIR_RISE_S, DROOP_S, RECOVERY_S = 1.6, 6.0, 180.0  # inertia, primary and secondary control
ABSENT_STAT = 0x8000  # absent data tags inserted
UNLOCKED_STAT = 0x2000 | 0x01C0  # sync lost; PMU_TQ: error above 10 ms or unknown
UNLOCKED_DRIFT_RAD_S = 0.05


@dataclass(frozen=True, slots=True)
class GridEvent:
    """One thing that happens. `size`: Hz of the nadir or of the oscillation, pu of the dip, by kind."""

    kind: EventKind
    start_s: float  # since the first frame
    at: float = 0.3  # place on the line
    size: float = 0.3
    duration_s: float = 10.0  # of what ends by itself
    pmu: int = 0  # the one concerned, for drop_out and clock_unlocked
    mode_hz: float = 0.35  # of the swing, or of the oscillation
    damping_ratio: float = 0.06


@dataclass(frozen=True, slots=True)
class Effect:
    """What is added to each PMU: arrays (n_frame, n_pmu)."""

    freq_hz: F64
    voltage_pu: F64
    angle_rad: F64
    stat: U16


def effect(event: GridEvent, t_s: F64, place: F64) -> Effect:
    """Return what an event does at the times (n_frame,) since the first frame, to the PMUs at `place`."""
    tau_s = t_s[:, None] - event.start_s + 0.0 * place  # (n_frame, n_pmu)
    return _EFFECTS[event.kind](event, tau_s, place)


def _swing_hz(event: GridEvent, after_s: F64, place: F64, size_hz: float) -> F64:
    turn = 2 * np.pi * event.mode_hz
    side = np.cos(np.pi * place) * np.sign(0.5 - event.at + 1e-9)
    return np.asarray(
        -size_hz * side * np.exp(-event.damping_ratio * turn * after_s) * np.sin(turn * after_s)
    )


def _effect(
    tau_s: F64, *, freq: F64 | None = None, voltage: F64 | None = None, angle: F64 | None = None
) -> Effect:
    zero = np.zeros(tau_s.shape)
    return Effect(
        freq_hz=zero if freq is None else freq,
        voltage_pu=zero if voltage is None else voltage,
        angle_rad=zero if angle is None else angle,
        stat=np.zeros(tau_s.shape, dtype=np.uint16),
    )


def _generator_trip(event: GridEvent, tau_s: F64, place: F64) -> Effect:
    distance = np.abs(place - event.at)
    after = np.maximum(tau_s - WAVE_S * distance, 0.0)
    # 1 at the nadir, about 4 s after: the inertia lets go, the governors catch, the dispatcher brings it back.
    fall = (1 - np.exp(-after / NADIR_RISE_S)) * (0.55 + 0.45 * np.exp(-after / DROOP_S)) / 0.704
    freq = -event.size * fall * np.exp(-after / RECOVERY_S) + _swing_hz(
        event, after, place, 0.12 * event.size
    )
    dip = 0.12 * event.size * np.exp(-distance / REACH) * (0.4 + 0.6 * np.exp(-after / 3.0))
    return _effect(tau_s, freq=freq, voltage=np.where(tau_s >= 0, -dip, 0.0))


def _line_trip(event: GridEvent, tau_s: F64, place: F64) -> Effect:
    near = np.exp(-np.abs(place - event.at) / REACH)
    faulted = (tau_s >= 0) & (tau_s < FAULT_S)
    opened = tau_s >= FAULT_S
    after = np.maximum(tau_s - FAULT_S, 0.0)
    voltage = np.where(faulted, -event.size * near, np.where(opened, -0.05 * event.size * near, 0.0))
    jump = np.where(opened, 0.25 * event.size * np.sign(place - event.at) * near, 0.0)
    return _effect(tau_s, freq=_swing_hz(event, after, place, 0.15 * event.size), voltage=voltage, angle=jump)


def _oscillation(event: GridEvent, tau_s: F64, place: F64) -> Effect:
    near = np.exp(-np.abs(place - event.at) / (2 * REACH))
    on = (tau_s >= 0) & (tau_s < event.duration_s)
    wave = np.where(on, np.sin(2 * np.pi * event.mode_hz * tau_s) * np.minimum(1.0, tau_s / 2.0), 0.0)
    return _effect(tau_s, freq=event.size * near * wave, voltage=0.1 * event.size * near * wave)


def _one(event: GridEvent, tau_s: F64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    on = (tau_s >= 0) & (tau_s < event.duration_s)
    return np.asarray(on & (np.arange(tau_s.shape[1]) == event.pmu))


def _drop_out(event: GridEvent, tau_s: F64, _place: F64) -> Effect:
    zero = np.zeros(tau_s.shape)
    return Effect(zero, zero, zero, np.where(_one(event, tau_s), ABSENT_STAT, 0).astype(np.uint16))


def _clock_unlocked(event: GridEvent, tau_s: F64, _place: F64) -> Effect:
    on = _one(event, tau_s)
    zero = np.zeros(tau_s.shape)
    drift = np.where(on, UNLOCKED_DRIFT_RAD_S * tau_s, 0.0)
    return Effect(zero, zero, drift, np.where(on, UNLOCKED_STAT, 0).astype(np.uint16))


_EFFECTS: Mapping[EventKind, Callable[[GridEvent, F64, F64], Effect]] = {
    "generator_trip": _generator_trip,
    "line_trip": _line_trip,
    "oscillation": _oscillation,
    "drop_out": _drop_out,
    "clock_unlocked": _clock_unlocked,
}

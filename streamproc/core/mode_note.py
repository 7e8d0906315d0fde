"""The modes of a disturbance as an alert tells them: what rings, how it decays, who swings ahead."""

from __future__ import annotations

import numpy as np

from streamproc.core.describe import EventView
from streamproc.core.detector import FREQUENCY
from streamproc.core.deviation import Deviation, middle
from streamproc.core.disturbance import Estimate, Mode
from streamproc.core.mode_forced import forced
from streamproc.core.mode_source import sources_by_shape
from streamproc.core.modes import Modes, ring_down
from streamproc.values import F64

RING_AFTER_S = 1.0  # after the onset: a step within the window is no sum of exponentials
RING_MIN_S = 4.0  # less shows no mode of the grid well
RATE_MIN_HZ, RATE_MAX_HZ = 10.0, 120.0  # of the methods
MODES_MAX, SOURCES_MAX = 3, 3
OUTSIDE = "outside"
BEGIN_S, END_S = 1.0, 2.0  # of a disturbance: its own step is over within the first
GROWN = 2.0  # who swings at the end by so much more than at the beginning does not ring down
SUSTAINED_MAX, DOMINANT_MIN = (
    0.03,
    0.5,
)  # damping ratio, and share of the energy, of a swing that is the event


def modes_of(view: EventView) -> tuple[Mode, ...]:
    """Return the modes in the frequencies since the onset; none before there are some seconds of them.

    A disturbance that began with a rule over seconds is an oscillation already: all of the window is looked at.
    """
    if not RATE_MIN_HZ <= view.rate_hz <= RATE_MAX_HZ:
        return ()
    rows = view.fast.shape[0] if view.slow else view.age - round(RING_AFTER_S * view.rate_hz)
    if rows < RING_MIN_S * view.rate_hz:
        return ()
    frequency = view.fast[-min(rows, view.fast.shape[0]) :, FREQUENCY].astype(np.float64)
    found = ring_down(frequency, view.rate_hz)
    return tuple(_told(found, number, frequency, view) for number in range(min(MODES_MAX, found.energy.size)))


def swings_on(moved: Deviation, modes: tuple[Mode, ...]) -> bool:
    """Return whether a disturbance that a sudden rule began is an oscillation that set in, and not what rings after a step.

    One mode has most of the energy and is hardly damped, and the PMUs swing against each other (one or two: at all) twice
    as far in the last seconds as in the first: a step is largest at its beginning.
    """
    if not modes or modes[0].energy < DOMINANT_MIN or modes[0].damping_ratio.value >= SUSTAINED_MAX:
        return False
    own = moved.freq - middle(moved.freq)[:, None] if moved.freq.shape[1] > 2 else moved.freq
    size = np.where(np.isfinite(own), np.abs(own), 0.0)
    begin, end = (round(s * moved.rate_hz) for s in (BEGIN_S, END_S))
    return bool(size[-end:].max(initial=0.0) >= GROWN * size[:begin].max(initial=0.0) > 0.0)


def _told(found: Modes, number: int, frequency: F64, view: EventView) -> Mode:
    is_forced, score = forced(frequency, view.rate_hz, float(found.freq_hz[number, 0]))
    ranked = sources_by_shape(found.shape[number])
    names = tuple(view.labels[pmu] for pmu in ranked.order[:SOURCES_MAX].tolist())
    return Mode(
        freq_hz=_estimate(found.freq_hz[number], 4),
        damping_ratio=_estimate(found.damping_ratio[number], 4),
        energy=round(float(np.clip(found.energy[number], 0.0, 1.0)), 4),
        forced=None if np.isnan(score) else is_forced,
        sources=(OUTSIDE, *names) if ranked.outside else names,
    )


def _estimate(value: F64, digits: int) -> Estimate:
    middle, low, high = (round(float(part), digits) for part in value)
    return Estimate(value=middle, low=low, high=high)

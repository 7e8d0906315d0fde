"""What goes wrong between a PMU and us: frames that are missing, a PMU that stands still, a clock that drifts, spikes.

    missing5, missing20, missing50   so many percent of the PMU frames are missing, each by chance on its own
    stuck                            from a random time on one PMU repeats its values to the last bit
    drift                            one PMU's clock drifts by 50 ns/s and once jumps by 50 us; STAT says it is locked
    spikes                           every few seconds a single frame of one PMU is far off, in one of its quantities

Which PMU, when and how much is drawn at random, the same for each number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np

from streamproc.evaluation.noise import Signals

ABSENT_STAT = 0x8000  # IEEE C37.118.2-2011, table 7: absent data tags have been inserted
DRIFT_S_S, JUMP_S = 50e-9, 50e-6
SPIKE_EVERY_S = 5.0
SPIKE_PU, SPIKE_HZ, SPIKE_RAD = 0.3, 1.0, 0.5  # the largest; the least is a tenth of it

Impairment: TypeAlias = Callable[[Signals, float, np.random.Generator], Signals]


def missing(signals: Signals, rate_hz: float, rng: np.random.Generator, share: float) -> Signals:
    """Return the signals without so many of the PMU frames; a frame without any PMU is not sent at all."""
    del rate_hz
    gone = rng.random(signals.freq_hz.shape) < share
    return replace(
        signals,
        voltage_pu=np.where(gone, np.nan, signals.voltage_pu),
        angle_rad=np.where(gone, np.nan, signals.angle_rad),
        freq_hz=np.where(gone, np.nan, signals.freq_hz),
        stat=np.where(gone, np.uint16(ABSENT_STAT), signals.stat).astype(np.uint16),
        sent=np.asarray(~gone.all(axis=1)),
    )


def stuck(signals: Signals, rate_hz: float, rng: np.random.Generator) -> Signals:
    """Return the signals with one PMU that stands still from some time on."""
    del rate_hz
    n_frame, n_pmu = signals.freq_hz.shape
    pmu, start = int(rng.integers(n_pmu)), int(rng.integers(n_frame))

    def held(
        values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        made = values.copy()
        made[start:, pmu] = values[start, pmu]
        return made

    return replace(
        signals,
        voltage_pu=held(signals.voltage_pu),
        angle_rad=held(signals.angle_rad),
        freq_hz=held(signals.freq_hz),
    )


def drift(signals: Signals, rate_hz: float, rng: np.random.Generator) -> Signals:
    """Return the signals with one PMU whose clock drifts and jumps once."""
    n_frame, n_pmu = signals.freq_hz.shape
    pmu, jump = int(rng.integers(n_pmu)), int(rng.integers(n_frame))
    row = np.arange(n_frame)
    late_s = DRIFT_S_S * row / rate_hz + np.where(row >= jump, JUMP_S * rng.choice([-1.0, 1.0]), 0.0)
    angle_rad = signals.angle_rad.copy()
    angle_rad[:, pmu] += 2.0 * np.pi * signals.freq_hz[:, pmu] * late_s
    return replace(signals, angle_rad=angle_rad)


def spikes(signals: Signals, rate_hz: float, rng: np.random.Generator) -> Signals:
    """Return the signals with single wrong frames of one PMU."""
    n_frame, n_pmu = signals.freq_hz.shape
    pmu = int(rng.integers(n_pmu))
    rows = np.flatnonzero(rng.random(n_frame) < 1.0 / (SPIKE_EVERY_S * rate_hz))
    size = rng.choice([-1.0, 1.0], rows.size) * rng.uniform(0.1, 1.0, rows.size)
    which = rng.integers(3, size=rows.size)
    voltage_pu, angle_rad, freq_hz = (
        values.copy() for values in (signals.voltage_pu, signals.angle_rad, signals.freq_hz)
    )
    for number, (values, most) in enumerate(
        ((voltage_pu, SPIKE_PU), (angle_rad, SPIKE_RAD), (freq_hz, SPIKE_HZ))
    ):
        chosen = which == number
        values[rows[chosen], pmu] += size[chosen] * most
    return replace(signals, voltage_pu=voltage_pu, angle_rad=angle_rad, freq_hz=freq_hz)


IMPAIRMENTS: Mapping[str, Impairment] = {
    "missing5": partial(missing, share=0.05),
    "missing20": partial(missing, share=0.20),
    "missing50": partial(missing, share=0.50),
    "stuck": stuck,
    "drift": drift,
    "spikes": spikes,
}

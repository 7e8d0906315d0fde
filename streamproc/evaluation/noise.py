"""What stands between a simulation and a PMU: movement of the grid, and the noise of the measurement.

Tiers, standard deviation of voltage pu, frequency Hz and angle degrees, white and independent for each PMU:

    T1   3e-4   5e-4   0.02
    T2   1e-3   2e-3   0.1
    T3   3e-3   5e-3   0.3

Each voltage also wanders as an Ornstein-Uhlenbeck process of 5e-4 pu with a memory of 30 s. The frequency of the area
wanders as a recording (`ambient`) says, the same for all PMUs, and the angles are its integral.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from streamproc.values import F64, U16, Bool

TIERS = {"T1": (3e-4, 5e-4, 0.02), "T2": (1e-3, 2e-3, 0.1), "T3": (3e-3, 5e-3, 0.3)}
WANDER_PU, WANDER_S = 5e-4, 30.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What the PMUs of an area measure, (n_frame, n_pmu) each; NaN: not known. `stat` is the word of the frame."""

    voltage_pu: F64
    angle_rad: F64
    freq_hz: F64
    stat: U16
    sent: Bool | None = None  # (n_frame,) False: the whole frame is lost

    @classmethod
    def of(cls, voltage_pu: F64, angle_rad: F64, freq_hz: F64) -> Signals:
        """Return good measurements."""
        return cls(voltage_pu, angle_rad, freq_hz, np.zeros(freq_hz.shape, dtype=np.uint16))


def steady(
    level_pu: F64, angle_rad: F64, freq_hz: F64, n_frame: int, nominal_hz: float, rate_hz: float
) -> Signals:
    """Return a state that lasts; angles turn with what the frequency is off the nominal one."""
    row = np.arange(n_frame)[:, None]
    turned = angle_rad + 2.0 * np.pi * (freq_hz - nominal_hz) / rate_hz * row
    ones = np.ones((n_frame, 1))
    return Signals.of(level_pu * ones, turned, freq_hz * ones)


def moved(signals: Signals, ambient_hz: F64, rate_hz: float) -> Signals:
    """Return the signals on a frequency that moves: `ambient_hz` (n_frame,) is added, its integral turns the angles."""
    middle = (ambient_hz + np.concatenate([ambient_hz[:1], ambient_hz[:-1]])) / 2.0
    turn = np.cumsum(2.0 * np.pi * middle / rate_hz)
    return replace(
        signals,
        freq_hz=signals.freq_hz + ambient_hz[:, None],
        angle_rad=signals.angle_rad + turn[:, None],
    )


def noisy(signals: Signals, tier: str, rate_hz: float, rng: np.random.Generator) -> Signals:
    """Return the signals as PMUs of this tier measure them."""
    sd_pu, sd_hz, sd_deg = TIERS[tier]
    shape = signals.freq_hz.shape
    return replace(
        signals,
        voltage_pu=signals.voltage_pu + wander(rng, shape, rate_hz) + rng.normal(0.0, sd_pu, shape),
        freq_hz=signals.freq_hz + rng.normal(0.0, sd_hz, shape),
        angle_rad=signals.angle_rad + rng.normal(0.0, np.radians(sd_deg), shape),
    )


def wander(rng: np.random.Generator, shape: tuple[int, ...], rate_hz: float) -> F64:
    """Return the Ornstein-Uhlenbeck process of the voltages, pu, each column its own."""
    return ornstein_uhlenbeck(rng, (shape[0], shape[1]), WANDER_PU, WANDER_S * rate_hz)


def ornstein_uhlenbeck(rng: np.random.Generator, shape: tuple[int, int], sd: float, rows: float) -> F64:
    """Return such a process with this standard deviation and memory, from its stationary state on."""
    keep = float(np.exp(-1.0 / rows))
    kicks = rng.normal(0.0, sd * np.sqrt(1.0 - keep**2), shape)
    kicks[0] = rng.normal(0.0, sd, shape[1])
    path: F64 = lfilter([1.0], [1.0, -keep], kicks, axis=0)
    return path

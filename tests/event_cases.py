"""Made disturbances for the tests of kinds, places and courses: a few PMUs, any rate, with or without noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamproc.core.describe import EventView

EVENTS = Path(__file__).resolve().parent / "data" / "andes39_events" / "events_12.npz"
NOISE = (2e-3, 1e-3, np.radians(0.1))  # frequency Hz, voltage pu, angle rad: T2


def view_of(
    rate_hz: float = 30.0,
    n_pmu: int = 6,
    age_s: float = 1.0,
    *,
    fall_hz_s: float = 0.0,
    step_pu: float = 0.0,
    dip_pu: float = 0.0,
    dip_s: float = 0.1,
    turn_rad: tuple[float, ...] = (),
    split_hz: float = 0.0,
    ambient_hz_s: float = 0.0,
    noise: bool = True,
    late: int = 0,
    seed: int = 1,
) -> EventView:
    """Return a view of a disturbance that weakens from the first PMU to the last; before it 4 s of rest."""
    rng = np.random.default_rng(seed)
    onset = round(4.0 * rate_hz)
    stop = onset + round(age_s * rate_hz) + 1
    at_s = (np.arange(stop) - onset) / rate_hz
    after = (at_s >= -1e-9)[:, None]
    weaker = np.linspace(1.0, 0.3, n_pmu)[None]
    freq = (
        fall_hz_s * np.clip(at_s, 0.0, 1.5)[:, None] + ambient_hz_s * at_s[:, None] + np.zeros((stop, n_pmu))
    )
    freq = freq + after * split_hz * np.where(np.arange(n_pmu) < n_pmu // 2, -0.5, 0.5)
    voltage = after * (step_pu * weaker) - ((at_s >= -1e-9) & (at_s < dip_s - 1e-9))[:, None] * (
        dip_pu * weaker
    )
    turned = np.cumsum(2.0 * np.pi * freq / rate_hz, axis=0)
    turned = turned + after * np.array(turn_rad or (0.0,) * n_pmu)[None]
    sd_hz, sd_pu, sd_rad = NOISE if noise else (0.0, 0.0, 0.0)
    shape = freq.shape
    told = freq + rng.normal(0.0, 1.0, shape) * sd_hz
    turned = turned + rng.normal(0.0, 1.0, shape) * sd_rad
    step = np.diff(turned, axis=0, prepend=turned[:1]) - 2.0 * np.pi * told / rate_hz
    voltage = voltage + rng.normal(0.0, 1.0, shape) * sd_pu
    fast = np.stack([told, voltage, step], axis=1).astype(np.float32)
    labels = tuple(f"PMU {n}" for n in range(n_pmu))
    return EventView(fast, stop - 1 - onset - late, onset + late, rate_hz, 60.0, labels, slow=False)


def lost_supply(rate_hz: float = 30.0, **changes: object) -> EventView:
    """Return a view of a generator that tripped near the first PMU."""
    turn = tuple(-0.05 * float(weaker) for weaker in np.linspace(1.0, 0.3, 6))
    return view_of(rate_hz, fall_hz_s=-0.15, step_pu=-0.02, turn_rad=turn, **changes)  # type: ignore[arg-type]


def fault(rate_hz: float = 30.0, **changes: object) -> EventView:
    """Return a view of a fault near the first PMU."""
    return view_of(rate_hz, dip_pu=0.4, **changes)  # type: ignore[arg-type]

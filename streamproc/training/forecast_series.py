"""Made-up SCADA series on which the generic forecast model is fitted, and what can be said against that.

Eight kinds, drawn with random size, noise and speed: feeder load with a daily profile, industrial load with
switching steps, photovoltaics under moving clouds, wind through a power curve, storage on a schedule, bus
voltage that comes back to its level, line flow (a difference of the others), temperature. One value a minute;
the means of 5 and 15 minutes are taken from that. They teach the model what all such series share (noise is
averaged, ramps go on, excursions come back) and nothing about a site. A site's own fit is a later step;
`training.forecast` measures what the generic model is worth on series that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from streamproc.values import F64

DAY_MIN = 1440
Rng = np.random.Generator


def series(n_each: int, n_day: int, seed: int) -> Mapping[str, F64]:
    """Return kind -> (n_each, minutes); the same seed gives the same series."""
    rng = np.random.default_rng(seed)
    n_min = n_day * DAY_MIN
    made: dict[str, F64] = {name: kind(rng, n_each, n_min) for name, kind in KINDS.items()}
    made["flow"] = made["load"] - 0.6 * made["solar"] + 0.4 * made["wind"] + 0.2 * made["storage"]
    return made


def means(minutes: F64, interval_min: int) -> F64:
    """Return the interval means (n_series, n_interval) of series with one value a minute."""
    n_interval = minutes.shape[1] // interval_min
    whole = minutes[:, : n_interval * interval_min].reshape(-1, n_interval, interval_min)
    return np.asarray(whole.mean(axis=2))


def _load(rng: Rng, n: int, n_min: int) -> F64:
    t = np.arange(n_min) / DAY_MIN
    size, shift = rng.uniform(2, 30, (n, 1)), rng.uniform(-0.05, 0.05, (n, 1))
    morning, evening = _bump(t - shift, 0.33, 0.07), _bump(t - shift, 0.80, 0.08)
    night = _bump(t - shift, 0.12, 0.15)
    profile = 0.62 + rng.uniform(0.05, 0.3, (n, 1)) * morning + rng.uniform(0.1, 0.4, (n, 1)) * evening
    profile = profile - rng.uniform(0.05, 0.2, (n, 1)) * night
    slow = _wander(rng, n, n_min, hours=rng.uniform(2, 12, n)) * rng.uniform(0.01, 0.04, (n, 1))
    fast = _wander(rng, n, n_min, hours=rng.uniform(0.05, 0.5, n)) * rng.uniform(0.003, 0.02, (n, 1))
    noise = rng.normal(size=(n, n_min)) * rng.uniform(0.001, 0.012, (n, 1))
    return np.asarray(size * (profile + slow + fast + noise))


def _industry(rng: Rng, n: int, n_min: int) -> F64:
    machines = sum(_switching(rng, n, n_min, mean_min=rng.uniform(10, 180)) for _ in range(4))
    noise = rng.normal(size=(n, n_min)) * rng.uniform(0.005, 0.03, (n, 1))
    slow = _wander(rng, n, n_min, hours=np.full(n, 6.0)) * 0.05
    return np.asarray(rng.uniform(1, 10, (n, 1)) * (0.6 + 0.15 * machines + noise + slow))


def _solar(rng: Rng, n: int, n_min: int) -> F64:
    t = (np.arange(n_min) / DAY_MIN) % 1.0
    clear = np.maximum(0.0, np.sin((t - 0.25) * 2 * np.pi)) ** 1.2  # dark at night
    cover = _wander(rng, n, n_min, hours=rng.uniform(0.1, 3, n)) * rng.uniform(0.2, 1.5, (n, 1))
    passing = 1.0 / (1.0 + np.exp(-(1.5 + 2 * cover)))
    return np.asarray(rng.uniform(1, 50, (n, 1)) * clear * passing)


def _wind(rng: Rng, n: int, n_min: int) -> F64:
    slow = _wander(rng, n, n_min, hours=rng.uniform(6, 24, n)) * 2.5
    gusts = _wander(rng, n, n_min, hours=rng.uniform(0.05, 0.5, n)) * rng.uniform(0.2, 0.8, (n, 1))
    speed = np.clip(8.0 + slow + gusts, 0, 24)  # m/s
    power = np.clip((speed - 3.0) / 9.0, 0.0, 1.0) ** 3
    return np.asarray(rng.uniform(5, 80, (n, 1)) * power)


def _storage(rng: Rng, n: int, n_min: int) -> F64:
    plan = _switching(rng, n, n_min, mean_min=90) - _switching(rng, n, n_min, mean_min=120)
    tracking = rng.normal(size=(n, n_min)) * rng.uniform(0.001, 0.02, (n, 1))
    return np.asarray(rng.uniform(1, 10, (n, 1)) * (plan + tracking))


def _voltage(rng: Rng, n: int, n_min: int) -> F64:
    level = rng.choice(np.array([1.0, 10.0, 20.0, 110.0]), (n, 1))
    sag = _wander(rng, n, n_min, hours=rng.uniform(0.2, 4, n)) * rng.uniform(0.002, 0.01, (n, 1))
    taps = 0.0125 * (_switching(rng, n, n_min, mean_min=240) - 0.5)
    noise = rng.normal(size=(n, n_min)) * rng.uniform(0.0003, 0.003, (n, 1))
    return np.asarray(level * (1.0 + sag + taps + noise))


def _temperature(rng: Rng, n: int, n_min: int) -> F64:
    t = np.arange(n_min) / DAY_MIN
    daily = rng.uniform(2, 6, (n, 1)) * np.sin((t - 0.375) * 2 * np.pi)
    slow = _wander(rng, n, n_min, hours=np.full(n, 18.0)) * 2.0
    return np.asarray(12.0 + daily + slow + rng.normal(size=(n, n_min)) * rng.uniform(0.02, 0.2, (n, 1)))


KINDS: Mapping[str, Callable[[Rng, int, int], F64]] = {
    "load": _load,
    "industry": _industry,
    "solar": _solar,
    "wind": _wind,
    "storage": _storage,
    "voltage": _voltage,
    "temperature": _temperature,
}


def _bump(t_day: F64, centre: float, width: float) -> F64:
    """Return a daily bump; `t_day` in days."""
    away = (t_day - centre + 0.5) % 1.0 - 0.5
    return np.asarray(np.exp(-0.5 * (away / width) ** 2))


def _wander(rng: Rng, n: int, n_min: int, hours: F64) -> F64:
    """Return an Ornstein-Uhlenbeck process of variance 1 with these correlation times."""
    keep = np.exp(-1.0 / (60.0 * hours))  # (n,)
    kicks = rng.normal(size=(n, n_min)) * np.sqrt(1.0 - keep * keep)[:, None]
    out = np.empty((n, n_min))
    now = rng.normal(size=n)
    for minute in range(n_min):
        now = keep * now + kicks[:, minute]
        out[:, minute] = now
    return out


def _switching(rng: Rng, n: int, n_min: int, mean_min: float) -> F64:
    """Return 0 or 1, changing at random times, on average every `mean_min` minutes."""
    flips = rng.random((n, n_min)) < 1.0 / mean_min
    start = rng.integers(0, 2, (n, 1))
    return np.asarray((np.cumsum(flips, axis=1) + start) % 2, dtype=np.float64)

"""The reporting grid: instants counted from 1970 at the reporting rate, exact in integers for every rate."""

from __future__ import annotations

import numpy as np

from streamproc.values import I64


def to_grid(t_ns: I64, rate_hz: float) -> I64:
    """Return the number of the nearest instant of the reporting grid (instants are counted from 1970)."""
    second, rest_ns = np.divmod(t_ns, 1_000_000_000)
    if rate_hz >= 1.0:
        rate = round(rate_hz)
        return np.asarray(second * rate + (rest_ns * rate + 500_000_000) // 1_000_000_000)
    return np.asarray(second // round(1.0 / rate_hz))


def from_grid(instant: I64, rate_hz: float) -> I64:
    """Return the time of instants of the grid, ns UTC."""
    if rate_hz >= 1.0:
        rate = round(rate_hz)
        second, rest = np.divmod(instant, rate)
        return np.asarray(second * 1_000_000_000 + (rest * 1_000_000_000 + rate // 2) // rate)
    return np.asarray(instant * round(1.0 / rate_hz) * 1_000_000_000)

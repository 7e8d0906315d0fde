"""Which runs are no events: collapsed, unsteady before the onset, or seen by a PMU whose bus is dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.corpus.network import F64, Network

DEVIATION_MAX_HZ = 3.0  # beyond it the network has collapsed
VOLTAGE_PU = (0.3, 1.6)  # outside it long after the event: collapsed, or a solution that no network has
LONG_AFTER_S = 1.0
STEADY_PU, STEADY_HZ = 1e-4, 1e-3


def why_not(trace: F64, event: Mapping[str, Any], fps: float, nominal_hz: float) -> str:
    """Return why a trace is left out, empty if it is good."""
    if not np.isfinite(trace).all():
        return "not finite"
    if np.abs(trace[:, :, 2] - nominal_hz).max() > DEVIATION_MAX_HZ:
        return "frequency"
    first = int(np.ceil(event["t"] * fps - 1e-6))
    before = trace[: first - 1]
    if np.ptp(before[:, :, 0], axis=0).max() > STEADY_PU or np.ptp(before[:, :, 2], axis=0).max() > STEADY_HZ:
        return "unsteady before"
    late = trace[first + int((event.get("d", 0.0) + LONG_AFTER_S) * fps) :, :, 0]
    return "voltage" if late.min() < VOLTAGE_PU[0] or late.max() > VOLTAGE_PU[1] else ""


def sees_dark(network: Network, event: Mapping[str, Any], pmu_bus: Sequence[Any]) -> bool:
    """Return whether a PMU stands on a bus that the event leaves alone or without a machine."""
    if event["k"] not in {"line", "island"}:
        return False
    out = [str(device) for device in event.get("devs", [event["dev"]])]
    return bool(network.dark_without(*out).intersection(map(str, pmu_bus)))

"""Frequency outside its band: |f - nominal| of the last frame, two steps.

0.2 Hz is the maximum steady-state deviation of Continental Europe for the reference incident, 0.8 Hz the
maximum instantaneous one: (EU) 2017/1485, Annex III, Table 1. They are design values of a large synchronous
area; a small island sets its own with `[detector.frequency_deviation] limit = ...`.

The on-delay keeps the short spikes that PMUs show during a voltage step from being called a frequency
deviation; the spike itself is the business of `ar_residual`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import FREQUENCY, History, Params, Rule, Windows
from streamproc.core.graph import Ops, T, last_row
from streamproc.values import F64


@dataclass(frozen=True, slots=True)
class FrequencyLimit:
    """Two rows: deviation, large deviation."""

    name: str = "frequency_limit"
    every_s: float = 0.0
    deviation_hz: float = 0.2  # (EU) 2017/1485 Annex III: maximum steady-state deviation, CE
    emergency_hz: float = 0.8  # same: maximum instantaneous deviation, CE
    on_delay_ms: int = 200
    off_delay_ms: int = 2000
    deadband_ratio: float = 0.05

    def rows(self, _rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return 0, 0

    def generic(self, _rate_hz: float) -> Params:
        """Return the parameters without training."""
        return {"limit": np.array([self.deviation_hz, self.emergency_hz])}

    def fit(self, history: History) -> Params:
        """Return the same limits: they are the operator's, not learnt."""
        return self.generic(history.rate_hz)

    def calibrated(self, params: Params, _levels: F64) -> Params:
        """Return the parameters unchanged."""
        return params

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (2, n_pmu)."""
        deviation = ops.abs(last_row(ops, windows.now, FREQUENCY))
        return ops.mul(deviation, ops.const(1.0 / params["limit"][:, None]))

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the two rules."""
        text = "Frequency at {source} is {value} {unit} away from nominal, limit {limit} {unit}"
        return tuple(
            Rule(
                name=name,
                version=1,
                family="grid",
                kind="frequency_deviation",
                priority=priority,
                limit=float(limit),
                unit="Hz",
                window_s=0.0,
                on_delay_ms=self.on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=text,
            )
            for name, priority, limit in zip(
                ("frequency_deviation", "frequency_emergency"), (2, 1), params["limit"], strict=True
            )
        )

"""Voltage outside its band: the last frame against 0.90 and 1.10 per unit of the base.

0.90 to 1.10 pu is the post-contingency band of transmission planning (TPL-001-5.1 P1 to P7, as quoted in
public guides); (EU) 2017/1485 Annex II has 0.90 to 1.118 for 110-300 kV. The base is the nominal voltage of
the configuration; without one it is the PMU's own level, and the rule then means "10 % away from its usual
level".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import VOLTAGE, History, Params, Rule, Windows
from streamproc.core.graph import Ops, T, last_row
from streamproc.values import F64


@dataclass(frozen=True, slots=True)
class VoltageLimit:
    """Two rows: low, high."""

    name: str = "voltage_limit"
    every_s: float = 0.0
    low_pu: float = 0.10  # below the base: 0.90 pu
    high_pu: float = 0.10  # above the base: 1.10 pu
    on_delay_ms: int = 200
    off_delay_ms: int = 2000
    deadband_ratio: float = 0.05

    def rows(self, _rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return 0, 0

    def generic(self, _rate_hz: float) -> Params:
        """Return the parameters without training."""
        return {"limit": np.array([self.low_pu, self.high_pu])}

    def fit(self, history: History) -> Params:
        """Return the same limits: they are the operator's, not learnt."""
        return self.generic(history.rate_hz)

    def calibrated(self, params: Params, _levels: F64) -> Params:
        """Return the parameters unchanged."""
        return params

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (2, n_pmu)."""
        signed = ops.mul(
            last_row(ops, windows.now, VOLTAGE),
            ops.const(np.array([[-1.0], [1.0]]) / params["limit"][:, None]),
        )
        return ops.maximum(signed, ops.const(0.0))

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the two rules."""
        low, high = (float(limit) for limit in params["limit"])
        return tuple(
            Rule(
                name=name,
                version=1,
                family="grid",
                kind=name,
                priority=2,
                limit=limit,
                unit="pu",
                window_s=0.0,
                on_delay_ms=self.on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=f"Voltage at {{source}} is {{value}} {{unit}} {word} its base, limit {{limit}} {{unit}}",
            )
            for name, limit, word in (("voltage_low", low, "below"), ("voltage_high", high, "above"))
        )

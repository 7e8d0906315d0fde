"""Rate of change of frequency: the least-squares slope of the frequency over a window of 0.5 s.

No ROCOF limit means anything without its window. 0.5 s is that of NC DCC Art. 28(2)(k); the limit of 0.5
Hz/s is our own default, between loss-of-mains relays (0.5 to 2 Hz/s) and what a large area ever sees. The
ROCOF field of the frame is not used: its filter is unknown. A single spike of 0.13 Hz makes 0.09 Hz/s here,
so no on-delay is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import FREQUENCY, History, Params, Rule, Windows
from streamproc.core.graph import Ops, T, last_row, recent, unknown_if
from streamproc.values import F64


@dataclass(frozen=True, slots=True)
class Rocof:
    """One row: the slope."""

    name: str = "rocof"
    every_s: float = 0.0
    window_s: float = 0.5  # NC DCC Art. 28(2)(k)
    limit_hz_s: float = 0.5
    on_delay_ms: int = 0
    off_delay_ms: int = 1000
    deadband_ratio: float = 0.1

    def _samples(self, rate_hz: float) -> int:
        return max(3, round(self.window_s * rate_hz) + 1)

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return self._samples(rate_hz), 0

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        t_s = np.arange(self._samples(rate_hz)) / rate_hz
        t_s = t_s - t_s.mean()
        return {"slope": t_s / (t_s @ t_s), "limit": np.array(self.limit_hz_s)}

    def fit(self, history: History) -> Params:
        """Return the same limit: it is the operator's, not learnt."""
        return self.generic(history.rate_hz)

    def calibrated(self, params: Params, _levels: F64) -> Params:
        """Return the parameters unchanged."""
        return params

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (1, n_pmu)."""
        slope = params["slope"] / params["limit"]
        window = ops.take(recent(ops, windows.fast, slope.size), 1, FREQUENCY)  # (n_sample, n_pmu)
        score = ops.abs(ops.matmul(ops.const(slope[None, :]), window))
        return unknown_if(ops, ops.isnan(last_row(ops, windows.now, FREQUENCY)), score)

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the rule."""
        return (
            Rule(
                name="rocof",
                version=1,
                family="grid",
                kind="rocof",
                priority=2,
                limit=float(params["limit"]),
                unit="Hz/s",
                window_s=self.window_s,
                on_delay_ms=self.on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text="Frequency at {source} moves by {value} {unit} over {window_s} s, limit {limit} {unit}",
            ),
        )

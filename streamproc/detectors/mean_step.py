"""A change that stays: the mean of the last frames against the mean just before, at two lengths.

A load step of a few tens of megawatts hides in the noise of one frame, but not in the mean of six or
fifteen. For each quantity (frequency, voltage)

    step(n) = mean of the last n frames - mean of the 0.5 s before them,        n = 0.2 s and 0.5 s

is divided by the root mean square that the same statistic had in the window itself (from 6 s to 1 s ago),
never less than a floor, and the larger of the two counts. So it needs no training, and it follows the noise
of the hour. Step statistics of this kind were the best single family on networks not seen before (models.md
section 7).

A mean changes little from one frame to the next, so it is judged ten times a second, whatever the reporting
rate: six times less work at 60 frames/s. A change that is over the limit for a single frame can fall between
two looks; the limit was lowered from 9.0 to 8.5 for it, after which the same events of the corpus were found
(262 of 276, 261 before) and twenty quiet minutes came no nearer to the limit (0.64 of it, 0.68 before).

The price of measuring the usual size here is that two disturbances within 6 s are judged less sharply, the
second one against the first. A gap of more than two frames makes the score NaN until it has left the
window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import History, Params, Rule, Windows
from streamproc.core.graph import Ops, T, recent, unknown_if
from streamproc.values import F64

KINDS = ("frequency_step", "voltage_step")
WORDS = ("Frequency", "Voltage")
N_JUDGED = len(KINDS)  # the angle step is left to the AR residual: here it found nothing more


@dataclass(frozen=True, slots=True)
class MeanStep:
    """Two rows: frequency, voltage."""

    name: str = "mean_step"
    every_s: float = 0.1  # a mean over 0.2 s and more does not change much within it
    after_s: tuple[float, ...] = (0.2, 0.5)
    before_s: float = 0.5
    reference_s: float = 5.0
    skip_s: float = 1.0
    n_reference: int = 24
    generic_limit: float = 8.5  # times the usual size
    floor_hz: float = 1e-3
    floor_pu: float = 4e-4
    off_delay_ms: int = 1000
    deadband_ratio: float = 0.2

    def _lengths(self, rate_hz: float) -> tuple[list[int], int, int]:
        """Return the frames after (per length), the frames before, and the rows of the window."""
        after = sorted({max(1, round(length * rate_hz)) for length in self.after_s})
        before = max(2, round(self.before_s * rate_hz))
        return after, before, round((self.reference_s + self.skip_s) * rate_hz) + before + after[-1]

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return self._lengths(rate_hz)[2], 0

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        after, before, rows = self._lengths(rate_hz)
        skip, reference = round(self.skip_s * rate_hz), round(self.reference_s * rate_hz)
        back = np.append(0, skip + np.unique(np.linspace(0, reference, self.n_reference).astype(np.int64)))
        matrix = np.zeros((len(after), back.size, rows))
        for number, length in enumerate(after):
            for row, shift in enumerate(back):
                end = rows - shift
                matrix[number, row, end - length : end] = 1.0 / length
                matrix[number, row, end - length - before : end - length] = -1.0 / before
        floor = np.array([self.floor_hz, self.floor_pu])
        return {"matrix": matrix, "floor": floor, "limit": np.full(N_JUDGED, self.generic_limit)}

    def fit(self, _history: History) -> None:
        """Return None: at a site `step_bank` knows the usual sizes."""

    def calibrated(self, params: Params, _levels: F64) -> Params:
        """Return the parameters unchanged."""
        return params

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (2, n_pmu)."""
        n_length, n_row, rows = params["matrix"].shape
        window = ops.part(recent(ops, windows.fast, rows), 1, 0, N_JUDGED)
        window = ops.reshape(window, (rows, -1))  # (rows, 2 * n_pmu)
        steps = ops.matmul(ops.const(params["matrix"].reshape(-1, rows)), window)
        steps = ops.reshape(steps, (n_length, n_row, N_JUDGED, -1))
        now = ops.abs(ops.take(steps, 1, 0))  # (n_length, 2, n_pmu)
        usual = ops.sqrt(ops.sum_square(ops.part(steps, 1, 1, None), 1))
        scale = np.sqrt(1.0 / (n_row - 1))
        usual = ops.maximum(ops.mul(usual, ops.const(scale)), ops.const(params["floor"][:, None]))
        ratio = ops.div(now, ops.mul(usual, ops.const(params["limit"][:, None])))
        largest = ops.take(ratio, 0, 0)
        for number in range(1, n_length):
            largest = ops.maximum(largest, ops.take(ratio, 0, number))
        return unknown_if(ops, ops.isnan(ops.part(windows.now, 0, 0, N_JUDGED)), largest)

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the two rules."""
        return tuple(
            Rule(
                name=kind,
                version=1,
                family="grid",
                kind=kind,
                priority=3,
                limit=float(limit),
                unit="x usual",
                window_s=self.before_s + self.after_s[-1],
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=f"{word} at {{source}} changed and stayed, {{value}} times the usual, limit {{limit}}",
            )
            for kind, word, limit in zip(KINDS, WORDS, params["limit"], strict=True)
        )

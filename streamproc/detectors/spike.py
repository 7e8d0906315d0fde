"""A spike: one or two values of one PMU far out, and back where they came from, while the whole area stands still.

    b b b | x | a a a        out   = x - (mean of b + mean of a) / 2       one value
    b b b | x x | a a a              of the mean of both                   two values
                             beside = |mean of a - mean of b|, and how far the b and the a next to x are off their own

Frequency, voltage and angle (against the median turn of the area) are each divided by the noise that a PMU may have; the
largest of the three counts. It is a spike if `out` is over its limit, while `beside` of every quantity and `out` of every
other PMU are below six times the noise.

That it must be still around it is meant absolutely: a fault that is cleared within two frames may be fifty times larger at
one PMU than at the next, but the next still sees it, and it leaves a swing. So nothing is told of a spike within a
disturbance, however large it is.

Judged ten times a second, each time for all frames since the last look, 0.4 s late: by then it is known whether a
disturbance began with it, and within one nothing is told (`core.guard`). Without training the limit is 15
times the noise (45 mHz, 0.023 pu, 2.2 deg), so that a PMU three times noisier than a poor one says nothing. What cannot be
told apart: a disturbance so near to one PMU that no other shows it over the noise, and over within two frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, recent, unknown_if
from streamproc.detectors.alone import against_median, only_if, second_largest, unknown_if_few
from streamproc.values import F64

BESIDE = 3  # frames before and after
WIDTHS = (1, 2)  # frames of a spike


@dataclass(frozen=True, slots=True)
class Spike:
    """One row."""

    name: str = "spike"
    every_s: float = 0.1
    late_s: float = 0.4
    noise_hz: float = 3e-3
    noise_pu: float = 1.5e-3
    noise_rad: float = 2.6e-3  # 0.15 deg
    generic_limit: float = 15.0  # times the noise
    limit_min: float = 7.0  # the least that is learnt
    still: float = 6.0  # times the noise: what else may move
    margin_ratio: float = 2.0
    off_delay_ms: int = 5000

    def _stride(self, rate_hz: float) -> int:
        return max(1, round(self.every_s * rate_hz))

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        late = round(self.late_s * rate_hz)
        return self._stride(rate_hz) - 1 + 2 * BESIDE + max(WIDTHS) + late, 0

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        rows = self.rows(rate_hz)[0]
        newest = rows - round(self.late_s * rate_hz) - BESIDE
        kinds = [(width, newest - width - back) for width in WIDTHS for back in range(self._stride(rate_hz))]
        weights = np.zeros((4, len(kinds), rows))  # out, and three that must be still
        for row, (width, start) in enumerate(kinds):
            end = start + width
            before, after = slice(start - BESIDE, start), slice(end, end + BESIDE)
            weights[0, row, start:end] = 1.0 / width
            weights[0, row, before] = weights[0, row, after] = -0.5 / BESIDE
            weights[1, row, after], weights[1, row, before] = 1.0 / BESIDE, -1.0 / BESIDE
            weights[2, row, before] = weights[3, row, after] = -0.5
            weights[2, row, start - 1] = weights[3, row, end] = 1.0
        flat = weights.reshape(-1, rows)
        noise = np.array([self.noise_hz, self.noise_pu, self.noise_rad])
        # The angle is the running sum of the turns: a turn counts in every angle from its own on.
        turn = np.cumsum(flat[:, ::-1], axis=1)[:, ::-1]
        every = np.stack([flat, flat, turn]) / noise[:, None, None]
        hz_rad = np.array(2.0 * np.pi / rate_hz)
        return {"weights": every, "hz_rad": hz_rad, "limit": np.array(self.generic_limit)}

    def fit(self, history: History) -> Params:
        """Return the same statistic with a limit of 1, to be calibrated."""
        return {**self.generic(history.rate_hz), "limit": np.array(1.0)}

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with a limit learnt from `levels` (n_tick, 1, n_pmu)."""
        return {**params, "limit": np.array(learnt_limit(levels[:, 0], self.margin_ratio, self.limit_min))}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (1, n_pmu)."""
        weights = params["weights"]  # (3, 4 * n_kind, rows)
        n_kind = weights.shape[1] // 4
        window = recent(ops, windows.fast, weights.shape[2])
        hz, pu, rad = (ops.take(window, 1, quantity) for quantity in (FREQUENCY, VOLTAGE, ANGLE))
        turn = ops.add(ops.mul(hz, ops.const(params["hz_rad"])), rad)
        found = [ops.matmul(ops.const(weights[row]), values) for row, values in enumerate((hz, pu, turn))]
        found[ANGLE] = against_median(ops, found[ANGLE])
        zero = ops.const(0.0)
        sizes = [ops.abs(ops.where(ops.isnan(values), zero, values)) for values in found]
        largest = ops.maximum(ops.maximum(sizes[0], sizes[1]), sizes[2])
        out, beside = ops.part(largest, 0, 0, n_kind), ops.part(largest, 0, n_kind, None)
        beside = ops.max(ops.reshape(beside, (3, n_kind, -1)), 0)  # (n_kind, n_pmu)
        still = ops.const(self.still)
        returned, others = ops.ge(still, beside), ops.ge(still, second_largest(ops, out))
        alone = ops.max(only_if(ops, out, returned, others), 0, keep=True)
        present = ops.where(ops.isnan(windows.now), zero, ops.const(1.0))  # (3, n_pmu)
        unknown = ops.ge(zero, ops.sum(present, 0, keep=True))
        score = unknown_if(ops, unknown, ops.mul(alone, ops.const(1.0 / params["limit"])))
        return unknown_if_few(ops, score, score)

    def rules(self, params: Params, rate_hz: float) -> tuple[Rule, ...]:
        """Return the rule."""
        return (
            Rule(
                name="data_spike",
                version=1,
                family="quality",
                kind="data_spike",
                priority=3,
                limit=float(params["limit"]),
                unit="x usual",
                window_s=self.rows(rate_hz)[0] / rate_hz,
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=0.5,
                text="A value of {source} was off by {value} times the usual noise (limit {limit}) and no other moved",
            ),
        )

"""Noise that rises: a measurement that trembles from frame to frame much more than it used to, at one PMU.

A loose contact, a failing transducer or a PMU that lost its filter shows in the differences between neighbouring frames long
before its mean is wrong. With d the second difference of a quantity (free of level and slope) and s = d before + d after,
the noise is what is left of s after the best multiple of d:

    c = sum s d / sum d^2                                        blocks of 0.5 s, four of them
    variance of the noise = sum (s - c d)^2 / (n (14 + 16 c + 6 c^2))

because a swing of any one frequency obeys s = 2 cos(w) d, so that an oscillation, which the rules of the grid tell, leaves
nothing; the divisor is what white noise of variance 1 leaves at that c. The harmonic mean of the four blocks counts: noise
fills all of them, a step, a spike or a fault one or two.

The ratio to what is usual (learnt per channel; without training the median of all PMUs, or a floor), less what the median
PMU of the area shows now, is compared with the limit; the largest of frequency, voltage and angle counts. A disturbance
that makes all tremble lifts the median. It must last for five seconds.

What cannot be told apart: noise, and two or more oscillations above a fifth of the reporting rate in one place only. A PMU
that is alone, or whose neighbours are as bad, needs training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import N_QUANTITY, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, recent, run_numpy, unknown_if
from streamproc.values import F64

LEFT = (14.0, 16.0, 6.0)  # of white noise of variance 1, as a polynomial in c
LEAST_LEFT = 1e-4  # of the movement, in squares: what single precision can tell apart
SAMPLE_COUNT = 600  # windows of the calibration that say what is usual


@dataclass(frozen=True, slots=True)
class NoiseRise:
    """One row."""

    name: str = "noise_rise"
    every_s: float = 0.5
    block_s: float = 0.5
    block_count: int = 4
    block_frames_min: int = 8
    floor_hz: float = 1e-3
    floor_pu: float = 5e-4
    floor_rad: float = 9e-4  # 0.05 deg
    floor_ratio: float = 0.3  # of these floors, where the usual noise was learnt
    generic_limit: float = 3.0
    limit_min: float = 2.0  # the least that is learnt
    margin_ratio: float = 2.0
    on_delay_ms: int = 5000
    off_delay_ms: int = 10_000
    deadband_ratio: float = 0.2

    def _block(self, rate_hz: float) -> int:
        return max(self.block_frames_min, round(self.block_s * rate_hz))

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return self.block_count * self._block(rate_hz) + 4, 0

    def _floor(self) -> F64:
        return np.array([self.floor_hz, self.floor_pu, self.floor_rad])[:, None]

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training: the usual noise is that of the median PMU."""
        return {
            "block": np.array(self._block(rate_hz)),
            "floor": self._floor(),
            "limit": np.array(self.generic_limit),
        }

    def fit(self, history: History) -> Params:
        """Return what is usual of each channel (3, n_pmu); the limit is still 1."""
        params = dict(self.generic(history.rate_hz))
        rows = self.rows(history.rate_hz)[0]
        last = np.unique(np.linspace(rows, history.fast.shape[0], SAMPLE_COUNT).astype(np.int64))
        found = [
            run_numpy(self._noise, Windows(window[-1], window, window), params)
            for window in (history.fast[end - rows : end] for end in last if end <= history.fast.shape[0])
        ]
        with np.errstate(all="ignore"):
            usual = _median(np.stack(found)) if found else np.full(history.fast.shape[1:], np.nan)
        least = self.floor_ratio * self._floor()
        usual = np.where(np.isfinite(usual), np.maximum(usual, least), np.nan)
        return {**params, "usual": usual, "limit": np.array(1.0)}

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with a limit learnt from `levels` (n_tick, 1, n_pmu)."""
        return {**params, "limit": np.array(learnt_limit(levels[:, 0], self.margin_ratio, self.limit_min))}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (1, n_pmu)."""
        noise = self._noise(ops, windows, params)  # (3, n_pmu)
        if "usual" in params:
            ratio = ops.mul(noise, ops.const(1.0 / params["usual"]))
            excess = ops.sub(ratio, ops.median(ratio, 1, keep=True))
        else:
            middle = ops.median(noise, 1, keep=True)
            usual = ops.maximum(middle, ops.const(params["floor"]))
            excess = ops.div(ops.sub(noise, middle), usual)
        zero = ops.const(0.0)
        now = ops.where(ops.isnan(windows.now), ops.const(np.nan), excess)
        known = ops.where(ops.isnan(now), zero, now)
        largest = ops.max(ops.maximum(known, zero), 0, keep=True)
        count = ops.sum(ops.sub(ops.const(1.0), ops.number(ops.isnan(now))), 0, keep=True)
        score = ops.mul(largest, ops.const(1.0 / params["limit"]))
        return unknown_if(ops, ops.ge(zero, count), score)

    def _noise(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return the standard deviation (3, n_pmu) of the noise, NaN where a frame of the window is unknown."""
        block = int(params["block"])
        window = recent(ops, windows.fast, self.block_count * block + 4)
        second = _difference(ops, _difference(ops, window))
        around = ops.add(ops.part(second, 0, 2, None), ops.part(second, 0, 0, -2))
        second = ops.part(second, 0, 1, -1)

        shape = (self.block_count, block, N_QUANTITY, -1)
        second, around = ops.reshape(second, shape), ops.reshape(around, shape)
        own = ops.add(ops.sum_square(second, 1, keep=True), ops.const(1e-20))  # (n_block, 1, 3, n_pmu)
        c = ops.div(ops.sum(ops.mul(around, second), 1, keep=True), own)
        left = ops.sum_square(ops.sub(around, ops.mul(c, second)), 1, keep=True)
        left = ops.add(left, ops.mul(own, ops.const(LEAST_LEFT)))
        gain = ops.add(
            ops.const(LEFT[0]), ops.mul(c, ops.add(ops.const(LEFT[1]), ops.mul(c, ops.const(LEFT[2]))))
        )
        inverse = ops.sum(ops.div(ops.mul(gain, ops.const(float(block))), left), 0)  # (1, 3, n_pmu)
        return ops.reshape(ops.sqrt(ops.div(ops.const(float(self.block_count)), inverse)), (N_QUANTITY, -1))

    def rules(self, params: Params, rate_hz: float) -> tuple[Rule, ...]:
        """Return the rule."""
        return (
            Rule(
                name="noise_rise",
                version=1,
                family="quality",
                kind="noise_rise",
                priority=3,
                limit=float(params["limit"]),
                unit="x usual",
                window_s=self.rows(rate_hz)[0] / rate_hz,
                on_delay_ms=self.on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text="The noise of {source} is {value} times the usual above that of the area, limit {limit}",
            ),
        )


def _difference(ops: Ops[T], window: T) -> T:
    """Return the differences of neighbouring rows, one row fewer: exact in single precision, where they are small."""
    return ops.sub(ops.part(window, 0, 1, None), ops.part(window, 0, 0, -1))


def _median(values: F64) -> F64:
    """Return the median over the first axis of the known values, NaN where there is none; no warnings."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(values).sum(axis=0)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    return np.where(count > 0, middle, np.nan)

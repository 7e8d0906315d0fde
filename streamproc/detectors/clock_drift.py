"""A clock that drifts: the angle of one PMU runs away from all others, slowly and evenly.

A time error of dt turns the angle by 2 pi f0 dt: 0.022 deg for a microsecond at 60 Hz, and 26.5 us are the whole 1 % TVE
that a PMU may be wrong by (IEEE C37.118.1). A drift of 10, 50 or 500 ns/s takes 44 min, 9 min or 53 s to get there. A clock
that drifts turns the frequency with the angle, and less than the noise of it (500 ns/s: 30 uHz), so only the angle tells.

What a slow row holds of a PMU is exactly how far its phasor turned within the second (angle steps and reported frequency
telescope to the angles at its two ends), so their running sum is the angle, with the noise of one sample (sd s) for every
second. The slope of a line through N seconds has the standard deviation s sqrt(12 / N^3) (least squares); less its median
over the PMUs it is the drift. The limit is 6 of them, for s = 0.1 deg, the noise of a poor PMU:

    window    limit                          meant for
    48 s      0.37 deg/min  (289 ns/s)       500 ns/s
    180 s     0.052 deg/min  (40 ns/s)       50 ns/s
    600 s     0.0085 deg/min  (6.5 ns/s)     10 ns/s: with less than 450 s it is lost in the noise

Three things tell a drift from a grid that moves, and all must hold:

    one PMU alone    three times the second largest slope of the area, up to five times when far over the limit (`alone`)
    even             each half of the window has the same sign and at least 0.3 of the slope
    not a step       the line explains at least as much as any single step does (twelve places): a line trip leaves a step

What cannot be told apart: a flow that ramps for minutes and turns one bus, and the next one by less than a third to a fifth
of it. Where this is usual the calibration on the site's data raises the limit. Clocks that drift alike (one receiver for
two PMUs) look like a grid, and a drift of all of them like a change of frequency.

Gaps of one or two frames cost little (`core.features`); a longer one hides a bit of the turn and leaves 0.15 deg of noise in
the sum, or more. A single one is a step; many within ten minutes can look like a drift. Where a second is missing, or the
angle jumped within one (seven times the noise, 1.4 deg at 30 frames/s; `lone_jump` tells why), the score is NaN until that
has left the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE, FREQUENCY, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, last_row, recent, unknown_if
from streamproc.detectors.alone import ALONE_RATIO, against_median, only_if, second_largest, unknown_if_few
from streamproc.values import F64

SUFFIXES = ("_48s", "_180s", "")  # of the rules; the first to see a fast drift, the last a slow one
BLOCK_S = 15  # divides the longest window
FAR_OUT_RATIO = 5.0  # times the second largest, less once the limit
LOWEST_HZ = -1e3  # stands for an unknown frequency where the largest is wanted


@dataclass(frozen=True, slots=True)
class ClockDrift:
    """Three rows: one per window."""

    name: str = "clock_drift"
    every_s: float = 1.0
    windows_s: tuple[int, ...] = (48, 180, 600)
    noise_deg: float = 0.1  # of one sample: tier T2 of the detection studies
    limit_sd: float = 6.0
    noise_hz: float = 2e-3
    far_sd: float = 7.0  # what the frequency does not explain of a turn: more of it is a jump, no drift
    step_count: int = 12
    step_share: float = 0.95  # a step is explained by a line to 0.87, a line by a step too
    half_ratio: float = 0.3
    margin_ratio: float = 2.0
    on_delay_ratio: float = 0.04  # of the window: a chance maximum of the noise is shorter
    off_delay_ms: int = 30_000
    deadband_ratio: float = 0.3

    def rows(self, _rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return 0, max(self.windows_s)

    def _limit_deg_min(self) -> F64:
        n = np.array(self.windows_s, dtype=np.float64)
        return np.asarray(60.0 * self.limit_sd * self.noise_deg * np.sqrt(12.0 / n**3))

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        params = {f"weights{suffix}": _weights(n, self.step_count) for n, suffix in self._windows()}
        noise_deg = np.hypot(self.noise_deg * np.sqrt(2.0), 360.0 * self.noise_hz / np.sqrt(rate_hz))
        return {
            **params,
            "cycle_ratio": np.array(rate_hz / (2.0 * np.pi)),
            "far": np.array(np.radians(self.far_sd * noise_deg) / rate_hz),
            "limit": self._limit_deg_min(),
        }

    def _windows(self) -> list[tuple[int, str]]:
        return list(zip(self.windows_s, SUFFIXES, strict=True))

    def fit(self, history: History) -> Params:
        """Return the same statistic with limits of 1, to be calibrated."""
        return {**self.generic(history.rate_hz), "limit": np.ones(len(self.windows_s))}

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with limits learnt from `levels` (n_tick, n_window, n_pmu), never below the noise."""
        limits = [
            learnt_limit(levels[:, row, :], self.margin_ratio, float(least))
            for row, least in enumerate(self._limit_deg_min())
        ]
        return {**params, "limit": np.array(limits)}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (n_window, n_pmu)."""
        longest = max(self.windows_s)
        hz = recent(ops, ops.take(windows.slow, 1, FREQUENCY), longest)  # (n_s, n_pmu)
        rad = recent(ops, ops.take(windows.slow, 1, ANGLE), longest)
        turn = _turn(ops, hz, ops.mul(rad, ops.const(params["cycle_ratio"])), longest // BLOCK_S)
        angle = _running_sum(ops, turn, longest // BLOCK_S)
        lost = _lost(ops, hz, rad, params["far"])  # (n_s, n_pmu)
        scores = []
        for (n, suffix), limit in zip(self._windows(), params["limit"], strict=True):
            gap = ops.ge(ops.max(ops.part(lost, 0, -n, None), 0, keep=True), ops.const(0.5))
            scores.append(
                self._score(ops, ops.part(angle, 0, -n, None), gap, params[f"weights{suffix}"], limit)
            )
        unknown = ops.isnan(last_row(ops, windows.now, ANGLE))
        return unknown_if(ops, unknown, ops.concat(scores, 0))

    def _score(self, ops: Ops[T], angle: T, gap: T, weights: F64, limit: float) -> T:
        """Return (1, n_pmu): the slope in per unit of its limit, 0 unless it is one PMU's, even, and no step."""
        found = unknown_if(ops, gap, ops.matmul(ops.const(weights), angle))  # (n_weights, n_pmu)
        found = against_median(ops, found)
        slope = ops.part(found, 0, 0, 1)
        size = ops.abs(slope)
        least = ops.mul(ops.mul(size, size), ops.const(self.half_ratio))
        halves = [ops.ge(ops.mul(ops.part(found, 0, row, row + 1), slope), least) for row in (1, 2)]
        steps = ops.abs(ops.part(found, 0, 3, None))
        known = ops.where(ops.isnan(steps), ops.const(0.0), steps)
        line = ops.ge(size, ops.mul(ops.max(known, 0, keep=True), ops.const(self.step_share)))
        second = second_largest(ops, size)
        far_out = ops.sub(ops.mul(second, ops.const(FAR_OUT_RATIO)), ops.const(limit))
        others = ops.maximum(ops.mul(second, ops.const(ALONE_RATIO)), far_out)
        score = ops.div(size, ops.maximum(others, ops.const(limit)))
        return unknown_if_few(ops, size, only_if(ops, score, *halves, line))

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return one rule per window."""
        return tuple(
            Rule(
                name=f"clock_drift{suffix}",
                version=1,
                family="quality",
                kind="clock_drift",
                priority=3,
                limit=float(limit),
                unit="deg/min",
                window_s=float(window_s),
                on_delay_ms=round(1000 * self.on_delay_ratio * window_s),
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=(
                    "The angle of {source} drifts away from all others by {value} {unit} over {window_s} s, limit {limit}: "
                    "its clock, or a flow that changes slowly right beside it"
                ),
            )
            for (window_s, suffix), limit in zip(self._windows(), params["limit"], strict=True)
        )


def _lost(ops: Ops[T], hz: T, rad: T, far: F64) -> T:
    """Return 1.0 for each second (n_s, n_pmu) in which nobody knows how far the phasor turned, else 0.0.

    It is unknown; or it was bridged, which makes the angle step exactly 0; or the angle jumped.
    """
    size = ops.abs(rad)
    jumped = ops.maximum(ops.number(ops.ge(ops.const(0.0), size)), ops.number(ops.ge(size, ops.const(far))))
    return ops.maximum(ops.number(ops.isnan(ops.add(hz, rad))), jumped)


def _weights(n: int, step_count: int) -> F64:
    """Return (3 + n_step, n), to be applied to the angle of each second in cycles.

    Row 0 is the slope of a line through the angle, deg/min. Rows 1 and 2 are the slopes of its halves. The others are the
    steps, scaled so that a step beats the line where the larger of the two is the better explanation.
    """
    line = _line(n)
    half = n // 2
    first, second = np.zeros(n), np.zeros(n)
    first[:half], second[n - half :] = _line(half), _line(half)
    places = np.unique(np.round(np.linspace(0.06, 0.94, step_count) * n).astype(np.int64))
    steps = (np.arange(n) >= places[:, None]).astype(np.float64)
    steps -= steps.mean(axis=1, keepdims=True)
    steps *= np.sqrt(line @ line) / np.sqrt((steps**2).sum(axis=1, keepdims=True))
    return np.asarray(360.0 * 60.0 * np.concatenate([[line, first, second], steps]))


def _line(n: int) -> F64:
    """Return the weights whose sum with a series of n values is the slope of the line through them."""
    t = np.arange(n) - (n - 1) / 2
    return np.asarray(t / (t @ t))


def _turn(ops: Ops[T], hz: T, cycles: T, n_block: int) -> T:
    """Return how far each phasor turned in each second, cycles (n_block, block, n_pmu), less what all PMUs share.

    What they share is a thousand times larger than what is looked for, so it goes first: single precision would not see
    the rest. Row by row the highest frequency (which is exact), then block by block the median turn.
    """
    highest = ops.max(ops.where(ops.isnan(hz), ops.const(LOWEST_HZ), hz), 1, keep=True)
    turn = ops.reshape(ops.add(ops.sub(hz, highest), cycles), (n_block, BLOCK_S, -1))
    mean = ops.mul(ops.sum(turn, 1, keep=True), ops.const(1.0 / BLOCK_S))
    return ops.sub(turn, ops.median(mean, 2, keep=True))


def _running_sum(ops: Ops[T], turn: T, n_block: int) -> T:
    """Return the running sum (n, n_pmu) of turns (n_block, block, n_pmu): the angle. An unknown turn counts as 0."""
    known = ops.where(ops.isnan(turn), ops.const(0.0), turn)
    inside = ops.matmul(ops.const(np.tri(BLOCK_S)), known)
    last = ops.take(inside, 1, BLOCK_S - 1)  # (n_block, n_pmu)
    before = ops.matmul(ops.const(np.tri(n_block, k=-1)), last)
    return ops.reshape(ops.add(inside, ops.reshape(before, (n_block, 1, -1))), (n_block * BLOCK_S, -1))

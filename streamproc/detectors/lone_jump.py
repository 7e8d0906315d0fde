"""One PMU jumps and stays there, while everything else stands still: its clock, its phases or its scale.

    clock_jump      its angle jumps. 0.57 deg are 1 % TVE, or 26.5 us at 60 Hz
    phase_swapped   its angle jumps by about 120 deg: two phases exchanged or rotated (or a clock 5.6 ms wrong)
    scale_jump      its voltage jumps by 4 % or more: a ratio changed (1.05, sqrt 3, 1000)
    scale_wrong     its voltage is over 35 % off its base for seconds, and is not dead

Two seconds before, a gap of 0.4 s in which the jump happens, two seconds after. Each quantity is averaged in bins and
split into what a line explains, what a step on top of it explains, and the rest:

    angle, frequency, voltage   = line + step + rest        (all in deg: 1 pu counts as 600 deg, 1 Hz as 400)

A line that trips beside a PMU may turn its angle by ten degrees and that of no other PMU by one. But its voltage moves
with it, it swings afterwards, and the rest of the area is not at rest either. So a jump of the angle counts only if it is

    3 times    the second largest jump of the area (`alone`)
    4 times    what else moved at this PMU (steps of voltage and frequency, all rests), beyond what the median PMU shows,
    2.5 times  and that median: an area that is not at rest

and one of the voltage correspondingly, its rest counting against it, and each percent of it against 0.4 deg.
Noise counts as movement: that of a poor PMU (tier T2) is 0.2 deg, so that a jump of 1 % TVE is just told; less noise, less.

The price is a delay of two seconds (of forty frames, below 20 frames/s). A jump of angle and voltage together (a PMU moved
to another bus) is no jump of either. What cannot be told apart: a clock that jumps, and a bus that turns without any swing
and without its voltage moving. A change of scale below 4 % and a tap changer look the same (after training, `neighbours`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE, History, Params, Rule, Windows
from streamproc.core.graph import Ops, T, last_row, recent, unknown_if
from streamproc.detectors.alone import ALONE_RATIO, against_median, only_if, second_largest, unknown_if_few
from streamproc.values import F64

ANGLE_BINS, OTHER_BINS = 4, 3  # on each side of the gap
LOWEST_HZ = -1e3  # stands for an unknown frequency where the largest is wanted


@dataclass(frozen=True, slots=True)
class LoneJump:
    """Four rows: clock, phase, scale that jumps, scale that is wrong."""

    name: str = "lone_jump"
    every_s: float = 0.3  # less than the gap: a jump is wholly inside it at one of two looks
    side_s: float = 2.0
    side_frames_min: int = 40
    gap_s: float = 0.4
    limit_deg: float = 0.5  # below 1 % TVE, 0.573 deg, by the noise of a poor PMU
    swap_deg: float = 90.0
    limit_pu: float = 0.04
    level_pu: float = 0.35
    dead_pu: float = -0.9  # voltage / base - 1 of a line that is out
    still_ratio: float = 4.0
    quiet_ratio: float = 2.5
    rest_weight: float = 6.0  # of the rest of the angle, which has hardly any noise
    pu_deg: float = 600.0
    hz_deg: float = 400.0
    scale_deg: float = 40.0  # a jump of 1 % may go with 0.1 deg
    off_delay_ms: int = 5000
    deadband_ratio: float = 0.2

    def _shape(self, rate_hz: float) -> tuple[int, int]:
        """Return the frames of a side and of the gap."""
        side = max(self.side_frames_min, round(self.side_s * rate_hz))
        return side, max(1, round(self.gap_s * rate_hz))

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        side, gap = self._shape(rate_hz)
        return 2 * side + gap, 0

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        side, gap = self._shape(rate_hz)
        step_angle, rest_angle, _ = _step_and_rest(side, gap, ANGLE_BINS)
        step, rest, share = _step_and_rest(side, gap, OTHER_BINS)
        halves = np.zeros((2, 2 * side + gap))
        halves[0, :side], halves[1, side + gap :] = 1.0 / side, 1.0 / side
        return {
            # The angle is the running sum of the turns: a turn counts in every angle from its own on.
            "turn": np.degrees(np.cumsum(np.concatenate([step_angle, rest_angle])[:, ::-1], axis=1)[:, ::-1]),
            "other": np.concatenate([step, rest]),
            "share": np.array([share, 1.0]),
            "halves": halves,
            "hz_rad": np.array(2.0 * np.pi / rate_hz),
            "limit": np.array([self.limit_deg, self.swap_deg, self.limit_pu, self.level_pu]),
        }

    def fit(self, history: History) -> Params:
        """Return the same limits: they are those of the standard, not learnt."""
        return self.generic(history.rate_hz)

    def calibrated(self, params: Params, _levels: F64) -> Params:
        """Return the parameters unchanged."""
        return params

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (4, n_pmu)."""
        window = recent(ops, windows.fast, params["other"].shape[1])
        hz, pu, rad = (ops.take(window, 1, quantity) for quantity in (FREQUENCY, VOLTAGE, ANGLE))
        # Less the highest frequency of each row, so that single precision sees the angles.
        highest = ops.max(ops.where(ops.isnan(hz), ops.const(LOWEST_HZ), hz), 1, keep=True)
        turn = ops.add(ops.mul(ops.sub(hz, highest), ops.const(params["hz_rad"])), rad)
        angle = against_median(ops, ops.matmul(ops.const(params["turn"]), turn))  # (1 + n_rest, n_pmu), deg
        other = ops.const(params["other"])
        volt, freq = ops.matmul(other, pu), against_median(ops, ops.matmul(other, hz))
        angle_step, volt_step = (ops.abs(ops.part(found, 0, 0, 1)) for found in (angle, volt))
        share = params["share"]
        moved = ops.add(
            _energy(ops, freq, self.hz_deg * share),
            _energy(ops, angle, self.rest_weight * np.array([0.0, 1.0])),
        )
        by_angle = ops.add(moved, _energy(ops, volt, self.pu_deg * share))
        own_angle = ops.add(moved, ops.mul(angle_step, angle_step))
        by_volt = ops.add(own_angle, _energy(ops, volt, self.pu_deg * np.array([0.0, 1.0])))
        limit = params["limit"]
        swapped = ops.ge(angle_step, ops.const(limit[1]))
        alone = self._alone(ops, angle_step, angle_step, by_angle)
        clock = ops.where(swapped, ops.const(0.0), ops.mul(alone, ops.const(1.0 / limit[0])))
        swap = ops.where(swapped, ops.mul(alone, ops.const(1.0 / limit[1])), ops.mul(alone, ops.const(0.0)))
        scaled = ops.mul(volt_step, ops.const(self.scale_deg))
        scale = ops.mul(self._alone(ops, volt_step, scaled, by_volt), ops.const(1.0 / limit[2]))
        level = self._level(ops, ops.matmul(ops.const(params["halves"]), pu), float(limit[3]))
        unknown = ops.isnan(last_row(ops, windows.now, ANGLE))
        absent = ops.isnan(last_row(ops, windows.now, VOLTAGE))
        jumps = unknown_if(ops, unknown, ops.concat([clock, swap, scale], 0))
        return ops.concat([jumps, unknown_if(ops, absent, level)], 0)

    def _alone(self, ops: Ops[T], size: T, size_deg: T, energy: T) -> T:
        """Return the size (1, n_pmu), 0 unless this PMU moved alone, at once, and in nothing else."""
        usual = ops.median(energy, 1, keep=True)
        square = ops.mul(size_deg, size_deg)
        conditions = (
            ops.ge(size, ops.mul(second_largest(ops, size), ops.const(ALONE_RATIO))),
            ops.ge(square, ops.mul(ops.sub(energy, usual), ops.const(self.still_ratio**2))),
            ops.ge(square, ops.mul(usual, ops.const(self.quiet_ratio**2))),
        )
        return unknown_if_few(ops, size, only_if(ops, size, *conditions))

    def _level(self, ops: Ops[T], halves: T, limit: float) -> T:
        """Return (1, n_pmu): the smaller of both halves, if the PMU is alone with it and its line is not dead."""
        before, after = ops.part(halves, 0, 0, 1), ops.part(halves, 0, 1, 2)
        minus = ops.const(-1.0)
        smaller = ops.mul(ops.maximum(ops.mul(ops.abs(before), minus), ops.mul(ops.abs(after), minus)), minus)
        conditions = (
            ops.ge(ops.mul(before, after), ops.const(0.0)),
            ops.ge(after, ops.const(self.dead_pu)),
            ops.ge(smaller, ops.mul(second_largest(ops, smaller), ops.const(ALONE_RATIO))),
        )
        score = only_if(ops, ops.mul(smaller, ops.const(1.0 / limit)), *conditions)
        return unknown_if_few(ops, smaller, score)

    def rules(self, params: Params, rate_hz: float) -> tuple[Rule, ...]:
        """Return the four rules."""
        window_s = sum(self._shape(rate_hz)) / rate_hz
        return tuple(
            Rule(
                name=name,
                version=1,
                family="quality",
                kind=kind,
                priority=3,
                limit=float(limit),
                unit=unit,
                window_s=window_s,
                on_delay_ms=on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=text,
            )
            for (name, kind, unit, on_delay_ms, text), limit in zip(RULES, params["limit"], strict=True)
        )


RULES = (
    (
        "clock_jump",
        "clock_jump",
        "deg",
        0,
        "The angle of {source} jumped by {value} {unit} (limit {limit}) and nothing else moved: its clock is wrong",
    ),
    (
        "phase_swapped",
        "phase_swapped",
        "deg",
        0,
        "The angle of {source} jumped by {value} {unit} and nothing else moved: its phases are exchanged",
    ),
    (
        "scale_jump",
        "scale_wrong",
        "pu",
        0,
        "The voltage of {source} jumped by {value} {unit} (limit {limit}) and nothing else moved: its scale changed",
    ),
    (
        "scale_wrong",
        "scale_wrong",
        "pu",
        10_000,
        "The voltage of {source} is {value} {unit} off its base (limit {limit}) and no other is: its scale is wrong",
    ),
)


def _energy(ops: Ops[T], found: T, weights: F64) -> T:
    """Return the sum of squares (1, n_pmu) of a step and its rests, weighted: [step, rest]."""
    step = ops.mul(ops.sum_square(ops.part(found, 0, 0, 1), 0, keep=True), ops.const(weights[0] ** 2))
    rest = ops.mul(ops.sum_square(ops.part(found, 0, 1, None), 0, keep=True), ops.const(weights[1] ** 2))
    return ops.add(step, rest)


def _step_and_rest(side: int, gap: int, n_bin: int) -> tuple[F64, F64, float]:
    """Return the weights (1, n) of a step on top of a line, and those (n_rest, n) of what neither explains.

    The sum of squares of the rest is its mean square over the bins; the third value is what a step of 1 counts there,
    beyond a line.
    """
    n = 2 * side + gap
    edges = np.round(np.linspace(0, side, n_bin + 1)).astype(np.int64)
    bins = np.zeros((2 * n_bin, n))
    for row in range(n_bin):
        wide = edges[row + 1] - edges[row]
        bins[row, edges[row] : edges[row + 1]] = 1.0 / wide
        bins[n_bin + row, side + gap + edges[row] : side + gap + edges[row + 1]] = 1.0 / wide
    one, step = np.ones(2 * n_bin), np.repeat([0.0, 1.0], n_bin)
    explained = np.stack([one, bins @ np.arange(n), step], axis=1)
    every, _ = np.linalg.qr(np.concatenate([explained, np.eye(2 * n_bin)], axis=1))
    scale = 1.0 / np.sqrt(2 * n_bin)
    size = np.linalg.pinv(explained)[2:] @ bins
    return size, scale * every[:, 3 : 2 * n_bin].T @ bins, float(scale * abs(every[:, 2] @ step))

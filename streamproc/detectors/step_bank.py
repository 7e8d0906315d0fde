"""A bank of step statistics: what changed within the last frame, tenth, half, second or two, against what was before.

For every length n from one frame to two seconds

    step(n) = mean of the last n known samples - mean of the known samples before them

is taken of four quantities, and each has a limit of its own, learnt from event-free data of the site:

    voltage       of each PMU
    angle         of each PMU against the area: the turn of its phasor (angle steps and reported frequency, summed)
                  less the median turn of all PMUs
    frequency     of each PMU against the area: its step less the median step of all PMUs
    common        of the area: the median step of the frequency, and the median of what a linear prediction of it
                  leaves over, averaged (ambient movement is mostly common, and mostly predictable)

A fault shows in the first frame, a small line trip in the angles of a second, a lost plant far away in the common
frequency. The bank of all of them was the best family on networks that were not seen before (models.md section 7). Medians,
because a PMU that lies must not move the others; a limit for each statistic, median + margin * (maximum - median) over the
calibration, because a common margin goes deaf as PMUs are added.

Lost frames: means run over the samples that are known, at least half of those wanted, and steps between means of few
samples, or of few PMUs, are made smaller by as much as they scatter more; the angle needs the whole stretch,
with no more than two frames lost in a row. With fewer than three PMUs "against the area" means little: two share every
difference.

Only in site bundles: without event-free data of the site its limits are unknown (`mean_step` is the generic cousin).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import NumpyOps, Ops, T, recent, run_numpy, unknown_if
from streamproc.core.linear_prediction import ORDER, prediction
from streamproc.values import F64

N_OWN = 3  # voltage, angle, frequency: per PMU
KINDS = ("voltage_shift", "angle_shift", "frequency_shift", "common_frequency_shift")
TEXTS = (
    "Voltage at {source} changed suddenly",
    "Voltage angle at {source} changed suddenly against the area",
    "Frequency at {source} left that of the area",
    "The frequency of the area changed suddenly, most at {source}",
)
SIZED_TICKS = 6000  # of the calibration, for the usual sizes
MEDIAN_VARIANCE = np.pi / 2.0  # of n normal values, times n, in variances of one
LIMIT_MIN = 4.0  # usual sizes; a learnt limit is far above, and never exactly the 1 of a draft


@dataclass(frozen=True, slots=True)
class StepBank:
    """Four rows: voltage, angle, frequency against the area, frequency of the area."""

    name: str = "step_bank"
    every_s: float = 0.0
    after_s: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # 0: one frame
    before_s: float = 1.0  # at least as long as after
    known_ratio_min: float = 0.5
    margin_ratio: float = 2.0
    floor_hz: float = 3e-4
    floor_pu: float = 5e-5
    floor_rad: float = 2e-4
    off_delay_ms: int = 1000
    deadband_ratio: float = 0.2

    def _lengths(self, rate_hz: float) -> list[tuple[int, int]]:
        """Return (frames after, frames before) of each statistic."""
        after = sorted({max(1, round(length * rate_hz)) for length in self.after_s})
        return [(n, max(n, 2, round(self.before_s * rate_hz))) for n in after]

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        longest = self._lengths(rate_hz)[-1]
        return max(sum(longest), longest[0] + ORDER) + 1, 0

    def generic(self, _rate_hz: float) -> Params | None:
        """Return None: limits are those of the site."""
        return None

    def fit(self, history: History) -> Params:
        """Return kernels, the prediction and usual sizes; limits are still 1, and each statistic is a row of its own."""
        lengths, rows = self._lengths(history.rate_hz), self.rows(history.rate_hz)[0]
        after, before = np.zeros((len(lengths), rows)), np.zeros((len(lengths), rows))
        for row, (n, m) in enumerate(lengths):
            after[row, rows - n :] = 1.0 / n
            before[row, rows - n - m : rows - n] = 1.0 / m
        frequency = history.fast[:, FREQUENCY]
        common = NumpyOps().median(frequency, 1, keep=True)  # (n_tick, 1)
        weights, _, _ = prediction(common)
        # A mean of angles is a weighted sum of turns: each turn moves all the frames from its own on.
        turn = np.cumsum((after - before)[:, ::-1], axis=1)[:, ::-1]
        params = {
            "after": after,
            "before": before,
            "innovation": _innovation_means(after, weights),
            "turn": np.where(np.abs(turn) < 1e-12, 0.0, turn),
            "turn_rad_per_hz": np.array(2.0 * np.pi / history.rate_hz),
            "known_min": np.array(self.known_ratio_min),
            "pmus": np.array(max(1.0, np.isfinite(frequency).any(axis=0).sum())),
            "limit": np.ones((N_OWN, len(lengths), 1)),
            "common_limit": np.ones((2 * len(lengths), 1)),
        }
        return {**params, **self._sizes(params, history)}

    def _sizes(self, params: Params, history: History) -> Params:
        """Return the usual size of every statistic; NaN for a channel that was never known."""
        rows, n_tick = params["after"].shape[1], history.fast.shape[0]
        ticks = np.unique(np.linspace(rows, n_tick - 1, SIZED_TICKS).astype(np.int64))
        found = []
        for tick in ticks[(ticks >= rows) & (ticks < n_tick)].tolist():
            window = history.fast[tick + 1 - rows : tick + 1]
            windows = Windows(window[-1], window, window[:0])
            own, common = (run_numpy(build, windows, params) for build in (_own_steps, _common_steps))
            found.append((own, common))
        shapes = (N_OWN, params["after"].shape[0], history.fast.shape[2]), params["common_limit"].shape
        own_size, common_size = (
            _rms([pair[part] for pair in found], shape) for part, shape in enumerate(shapes)
        )
        root = np.sqrt(params["after"].max(axis=1))  # a mean of n samples is steadier than one of them
        floors = np.array([self.floor_pu, self.floor_rad, self.floor_hz])[:, None, None] * root[None, :, None]
        return {
            "size": np.maximum(own_size, floors),  # NaN stays
            "common_size": np.fmax(common_size, self.floor_hz * np.tile(root, 2)[:, None]),
        }

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with limits learnt from `levels` (n_tick, 5 * n_length, n_pmu)."""
        learnt = [
            learnt_limit(levels[:, row], self.margin_ratio, LIMIT_MIN) for row in range(levels.shape[1])
        ]
        own = N_OWN * params["after"].shape[0]
        return {
            **params,
            "limit": np.array(learnt[:own]).reshape(params["limit"].shape),
            "common_limit": np.array(learnt[own:]).reshape(params["common_limit"].shape),
        }

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (4, n_pmu); while the limits are not known, each statistic as a row of its own."""
        n_length, n_pmu = params["size"].shape[1:]
        own_scale = 1.0 / (params["size"] * params["limit"])
        own = ops.mul(ops.abs(_own_steps(ops, windows, params)), ops.const(own_scale))  # (3, n_length, n_pmu)
        common_scale = 1.0 / (params["common_size"] * params["common_limit"])
        common = ops.mul(ops.abs(_common_steps(ops, windows, params)), ops.const(common_scale))
        if _is_draft(params):
            every = ops.mul(common, ops.const(np.ones((1, n_pmu))))
            return ops.concat([ops.reshape(own, (N_OWN * n_length, n_pmu)), every], 0)
        largest = ops.max(ops.where(ops.isnan(own), ops.const(-1.0), own), 1)  # (3, n_pmu)
        largest = unknown_if(ops, ops.ge(ops.const(-0.5), largest), largest)
        area = ops.max(ops.where(ops.isnan(common), ops.const(0.0), common), 0, keep=True)  # (1, 1)
        scores = ops.concat([largest, ops.mul(area, _share(ops, windows, params))], 0)
        now = ops.concat(
            [ops.part(windows.now, 0, q, q + 1) for q in (VOLTAGE, ANGLE, FREQUENCY, FREQUENCY)], 0
        )
        return unknown_if(ops, ops.isnan(now), scores)

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the rule of each row."""
        lines = tuple(zip(KINDS, TEXTS, strict=True))
        if _is_draft(params):
            lines = tuple((f"step_{number}", "") for number in range((N_OWN + 2) * params["after"].shape[0]))
        return tuple(
            Rule(
                name=kind,
                version=1,
                family="grid",
                kind=kind,
                priority=2,
                limit=1.0,
                unit="x limit",
                window_s=self.after_s[-1],
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=f"{text}, {{value}} times the learnt limit",
            )
            for kind, text in lines
        )


def _is_draft(params: Params) -> bool:
    return bool((params["limit"] == 1.0).all())


def _own_steps(ops: Ops[T], windows: Windows[T], params: Params) -> T:
    """Return the steps (3, n_length, n_pmu) of voltage, angle against the area and frequency against the area."""
    n_length, rows = params["after"].shape
    fast = recent(ops, windows.fast, rows)
    voltage = _step(ops, ops.take(fast, 1, VOLTAGE), params)
    frequency = _step(ops, ops.take(fast, 1, FREQUENCY), params)
    explained = ops.mul(ops.take(fast, 1, FREQUENCY), ops.const(params["turn_rad_per_hz"]))
    turn = ops.add(ops.take(fast, 1, ANGLE), explained)  # (rows, n_pmu)
    unknown = ops.isnan(turn)
    angle = ops.matmul(ops.const(params["turn"]), ops.where(unknown, ops.const(0.0), turn))
    holes = ops.matmul(ops.const((params["turn"] != 0.0).astype(np.float64)), ops.number(unknown))
    angle = unknown_if(ops, ops.ge(holes, ops.const(0.5)), angle)
    against = [_against_area(ops, steps, params) for steps in (angle, frequency)]
    return ops.reshape(ops.concat([voltage, *against], 0), (N_OWN, n_length, -1))


def _common_steps(ops: Ops[T], windows: Windows[T], params: Params) -> T:
    """Return the median step of the frequency, then the median mean of its innovations: (2 * n_length, 1).

    Medians of what each PMU says, not what the medians of their rows say: the same to the eye, at a tenth of the cost.
    """
    frequency = ops.take(recent(ops, windows.fast, params["after"].shape[1]), 1, FREQUENCY)
    unknown = ops.isnan(frequency)
    filled = ops.where(unknown, ops.const(0.0), frequency)
    innovation = ops.matmul(ops.const(params["innovation"]), filled)  # (n_length, n_pmu)
    used = (params["innovation"] != 0.0).astype(np.float64)
    holes = ops.matmul(ops.const(used), ops.number(unknown))
    innovation = unknown_if(ops, ops.ge(holes, ops.const(0.5)), innovation)
    both = (_step(ops, frequency, params), innovation)
    return ops.concat([_middle(ops, steps, params) for steps in both], 0)


def _middle(ops: Ops[T], steps: T, params: Params) -> T:
    """Return the median (n_length, 1) of what the PMUs say, made as small as it is less sure when few are left to say it."""
    told = ops.div(_told(ops, steps), ops.const(params["pmus"]))
    return ops.mul(ops.median(steps, 1, keep=True), ops.sqrt(told))


def _against_area(ops: Ops[T], steps: T, params: Params) -> T:
    """Return the steps less their median, made as small as a median of few PMUs adds to how they scatter."""
    scatter = ops.add(
        ops.const(1.0), ops.div(ops.const(MEDIAN_VARIANCE), ops.maximum(_told(ops, steps), ops.const(1.0)))
    )
    usual = 1.0 + MEDIAN_VARIANCE / params["pmus"]
    own = ops.sub(steps, ops.median(steps, 1, keep=True))
    return ops.mul(own, ops.sqrt(ops.div(ops.const(usual), scatter)))


def _told(ops: Ops[T], steps: T) -> T:
    """Return how many PMUs say something, (n_length, 1)."""
    return ops.sum(ops.sub(ops.const(1.0), ops.number(ops.isnan(steps))), 1, keep=True)


def _step(ops: Ops[T], series: T, params: Params) -> T:
    """Return mean after less mean before (n_length, n_column) over the known rows; NaN with too few.

    Means of fewer samples scatter more, and the limit was learnt from whole ones: a step is made smaller by as much.
    """
    unknown = ops.isnan(series)
    filled, known = ops.where(unknown, ops.const(0.0), series), ops.sub(ops.const(1.0), ops.number(unknown))
    means, spread = [], []  # of the means, and their variances when every row is known
    variance = [params[name].max(axis=1, keepdims=True) for name in ("after", "before")]
    for name, own in zip(("after", "before"), variance, strict=True):
        share = ops.matmul(ops.const(params[name]), known)  # of the rows wanted
        few = ops.ge(ops.const(params["known_min"] - 1e-3), share)
        mean = ops.div(ops.matmul(ops.const(params[name]), filled), share)
        means.append(unknown_if(ops, few, mean))
        spread.append(
            ops.div(ops.const(own / sum(variance)), ops.maximum(share, ops.const(params["known_min"] / 2)))
        )
    return ops.div(ops.sub(*means), ops.sqrt(ops.add(*spread)))


def _share(ops: Ops[T], windows: Windows[T], params: Params) -> T:
    """Return how much each PMU's own frequency moved, against the one that moved most: (1, n_pmu), 0 to 1."""
    frequency = ops.take(recent(ops, windows.fast, params["after"].shape[1]), 1, FREQUENCY)
    moved = ops.abs(ops.part(_step(ops, frequency, params), 0, 1, 2))
    moved = ops.where(ops.isnan(moved), ops.const(0.0), moved)
    return ops.div(moved, ops.add(ops.max(moved, 1, keep=True), ops.const(1e-9)))


def _innovation_means(after: F64, weights: F64) -> F64:
    """Return (n_length, rows): means over the last samples of what the prediction (ORDER,), oldest first, leaves over."""
    kernel = np.append(-weights, 1.0)
    rows = after.shape[1]
    means = np.zeros_like(after)
    for row in range(ORDER, rows):
        means[:, row - ORDER : row + 1] += after[:, row : row + 1] * kernel
    return means


def _rms(values: list[F64], shape: tuple[int, ...]) -> F64:
    """Return the root mean square over the known values, NaN where there is none."""
    if not values:
        return np.full(shape, np.nan)
    with np.errstate(all="ignore"):
        known = np.isfinite(values)
        return np.asarray(np.sqrt(np.where(known, np.square(values), 0.0).sum(axis=0) / known.sum(axis=0)))

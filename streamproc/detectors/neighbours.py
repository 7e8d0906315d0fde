"""A PMU that disagrees with its neighbours: the bad-data test of state estimation on a model learnt from the site.

Of every PMU two changes are looked at: of its voltage and of its angle (less the median PMU's), the last seconds against the
first third of two minutes. In event-free data they lie near a few common directions (principal components of the site); what
is outside them, divided by its usual size, is the residual r. As in state estimation (Handschin, Schweppe, Kohlas, Fiechter
1975), with W = 1 - (share of the directions in the channel):

    largest normalised residual    r_i / W_i, in its own standard deviations: which PMU, and by how much (over 3.0: suspect)
    chi-squared of the rest        sum of r^2 without PMU i: does everything else fit again?
    the way there                  the same sum for the changes from second to second: did all others stand still meanwhile?

A channel without which the others cannot be predicted (W_i < 0.3) is not judged: there the error would be laid at another's
door. If the others do not fit, or moved within the two minutes, or if voltage and angle of the PMU both changed, it is taken
for the grid and nothing is told: a line that trips may move one PMU for good, but it shakes the others. So a ratio that is
wrong by a percent or two is seen only while the area is at rest, and for the two minutes after the change; a PMU that has
always been wrong is what the model takes for usual.

The limit is learnt: median + margin * (maximum - median) of the largest normalised residual of the calibration, at least 12:
below that, the smallest disturbances of the corpora (0.0015 pu at one PMU, nothing at the others) are told as well. The
number of directions is bounded by what the calibration can tell (one for two windows), since fitted noise looks usual.

What cannot be told apart: an error of the measurement, and a tap changer or a capacitor whose effect no other PMU shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE, FREQUENCY, VOLTAGE, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, recent, run_numpy, unknown_if
from streamproc.detectors.alone import PMU_COUNT_MIN, against_median, only_if, unknown_if_few
from streamproc.values import F64

N_CHANGE = 2  # voltage, angle
LOWEST_HZ = -1e3  # stands for an unknown frequency where the largest is wanted
WINDOW_COUNT_MIN = 3
FILL_COUNT = 2  # rounds in which unknown channels are estimated from the known ones


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two rows: voltage, angle."""

    name: str = "neighbours"
    every_s: float = 1.0
    window_s: int = 120
    now_s: int = 5
    variance_ratio: float = 0.9
    rank_ratio_max: float = 1 / 6  # of the channels
    windows_per_direction: int = 2
    w_min: float = 0.3
    floor_pu: float = 3e-4
    floor_rad: float = 5e-4  # 0.03 deg
    lag_s: int = 2  # of the changes on the way
    still: float = 3.0  # standard deviations by which the other quantity of the PMU may have changed
    rest_margin: float = 1.5  # on the largest sums of squares of the calibration
    margin_ratio: float = 2.0
    limit_min: float = 12.0
    known_ratio_min: float = 0.5
    on_delay_ms: int = 5000
    off_delay_ms: int = 10_000
    deadband_ratio: float = 0.3

    def rows(self, _rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return 0, self.window_s

    def generic(self, _rate_hz: float) -> Params | None:
        """Return None: how PMUs move together can only be learnt at the site."""
        return None

    def fit(self, history: History) -> Params | None:
        """Return sizes, directions and what the rest may amount to; the limits are still 1.

        None if there is nothing to learn: less than three windows, or fewer than four PMUs.
        """
        change = np.zeros(self.window_s)
        change[-self.now_s :], change[: self.window_s // 3] = 1.0 / self.now_s, -3.0 / self.window_s
        params: dict[str, F64] = {
            "change": change[None],
            "turn": np.cumsum(change[::-1])[::-1][None],  # a turn counts in every angle from its own on
            "rate": np.array([2.0 * np.pi, history.rate_hz]),
            "limit": np.ones(N_CHANGE),
        }
        later = np.eye(self.window_s)[self.lag_s :] - np.eye(self.window_s)[: -self.lag_s]
        params["lag"] = later
        params["lag_turn"] = np.cumsum(later[:, ::-1], axis=1)[:, ::-1]
        table = self._table(history, params)  # (n_window, 2 * n_pmu)
        n_pmu = history.fast.shape[2]
        known = np.isfinite(table).mean(axis=0) >= self.known_ratio_min
        few = int(known.reshape(N_CHANGE, n_pmu).all(axis=0).sum()) < PMU_COUNT_MIN
        if few or history.slow.shape[0] < WINDOW_COUNT_MIN * self.window_s:
            return None
        with np.errstate(all="ignore"):
            size = np.sqrt(np.nanmean(np.where(known, table, 0.0) ** 2, axis=0))
        size = np.where(known, np.maximum(size, np.repeat([self.floor_pu, self.floor_rad], n_pmu)), np.nan)
        sized = np.nan_to_num(table / size)
        directions = self._directions(sized)
        w = 1.0 - (directions**2).sum(axis=1)
        residual = sized - (sized @ directions) @ directions.T
        sd = np.maximum(np.sqrt((residual**2).mean(axis=0)) / w, 0.5)
        total = float((residual**2).sum(axis=1).max())
        way_size, way = self._way_there(history, params)
        return {
            **params,
            "size": size.reshape(N_CHANGE, n_pmu),
            "directions": directions,
            "w": w,
            "sd": np.where(w >= self.w_min, sd, np.nan),
            "rest": np.array(self.rest_margin * total),
            "way_size": way_size,
            "way": np.array(self.rest_margin * way),
        }

    def _table(self, history: History, params: Params) -> F64:
        """Return the changes (n_window, 2 * n_pmu) of every second; one row of NaN if there is not enough."""
        slow, now = history.slow, history.slow[:1, 0]
        rows = [
            run_numpy(self._changes, Windows(now, slow, slow[end - self.window_s : end]), params).ravel()
            for end in range(self.window_s, slow.shape[0] + 1)
        ]
        return np.stack(rows) if rows else np.full((1, N_CHANGE * slow.shape[2]), np.nan)

    def _way_there(self, history: History, params: Params) -> tuple[F64, float]:
        """Return the usual size (2, 1, n_pmu) of the changes on the way, and the largest sum of their squares."""
        slow = history.slow
        found = [
            run_numpy(self._lags, Windows(slow[0], slow, slow[end - self.window_s : end]), params)
            for end in range(self.window_s, slow.shape[0] + 1, self.window_s // 2)
        ]
        shape = (1, N_CHANGE, 1, history.slow.shape[2])
        every = np.stack(found) if found else np.full(shape, np.nan)  # (n_window, 2, n_lag, n_pmu)
        known = np.isfinite(every)
        square = np.where(known, every, 0.0) ** 2
        count = known.sum(axis=(0, 2))
        size = np.sqrt(square.sum(axis=(0, 2)) / np.maximum(count, 1))
        floor = np.array([[self.floor_pu], [self.floor_rad]])
        size = np.where(count > 0, np.maximum(size, floor), np.nan)[:, None]
        sized = np.nan_to_num(every / size)
        return size, float((sized**2).sum(axis=(1, 3)).max())

    def _directions(self, sized: F64) -> F64:
        """Return orthonormal directions (n_channel, rank), as many as the calibration can tell."""
        n_row, n_channel = sized.shape
        apart = n_row // (self.windows_per_direction * self.window_s)
        most = min(max(apart, 1), max(int(n_channel * self.rank_ratio_max), 1))
        variance, every = np.linalg.eigh(sized.T @ sized / n_row)
        variance, every = np.maximum(variance[::-1], 0.0), every[:, ::-1]
        held = np.cumsum(variance) / max(float(variance.sum()), 1e-30)
        rank = int(min(most, np.searchsorted(held, self.variance_ratio) + 1))
        chosen = every[:, :rank]
        sign = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(rank)])  # the same on every machine
        return np.ascontiguousarray(chosen * np.where(sign == 0.0, 1.0, sign))

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with limits learnt from `levels` (n_tick, 2, n_pmu)."""
        limits = [
            learnt_limit(levels[:, row, :], self.margin_ratio, self.limit_min) for row in range(N_CHANGE)
        ]
        return {**params, "limit": np.array(limits)}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (2, n_pmu)."""
        size, directions = params["size"], params["directions"]
        n_channel, zero = size.size, ops.const(0.0)
        sized = ops.mul(self._changes(ops, windows, params), ops.const(1.0 / size))
        sized = ops.reshape(sized, (1, n_channel))
        unknown = ops.isnan(sized)
        into, back = ops.const(directions), ops.const(np.ascontiguousarray(directions.T))
        vector = ops.where(unknown, zero, sized)
        for _ in range(FILL_COUNT):
            vector = ops.where(unknown, ops.matmul(ops.matmul(vector, into), back), sized)
        residual = ops.sub(vector, ops.matmul(ops.matmul(vector, into), back))
        square = ops.mul(residual, residual)
        own = ops.reshape(ops.mul(square, ops.const(1.0 / params["w"][None])), (N_CHANGE, -1))
        rest = ops.sub(ops.sum(square, 1, keep=True), ops.sum(own, 0, keep=True))  # (1, n_pmu)
        scale = 1.0 / (params["w"] * params["sd"]).reshape(N_CHANGE, -1)
        normalised = ops.mul(ops.reshape(ops.abs(residual), (N_CHANGE, -1)), ops.const(scale))
        fits = ops.ge(ops.const(params["rest"]), rest)
        other = ops.concat([ops.part(normalised, 0, 1, 2), ops.part(normalised, 0, 0, 1)], 0)
        alone = ops.ge(ops.const(self.still), ops.where(ops.isnan(other), zero, other))
        calm = ops.ge(ops.const(params["way"]), self._shaken(ops, windows, params))
        score = ops.mul(normalised, ops.const(1.0 / params["limit"][:, None]))
        score = only_if(ops, score, fits, alone, calm)
        score = unknown_if(ops, ops.reshape(unknown, (N_CHANGE, -1)), score)
        few = ops.sum(score, 0, keep=True)
        absent = ops.isnan(ops.part(windows.now, 0, 1, 3))  # (2, n_pmu): voltage, angle
        return unknown_if(ops, absent, unknown_if_few(ops, few, score))

    def _shaken(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return for each PMU (1, n_pmu) the largest sum of squares of the changes of all others on the way."""
        sized = ops.mul(self._lags(ops, windows, params), ops.const(1.0 / params["way_size"]))
        known = ops.where(ops.isnan(sized), ops.const(0.0), sized)
        square = ops.sum(ops.mul(known, known), 0)  # (n_lag, n_pmu)
        return ops.max(ops.sub(ops.sum(square, 1, keep=True), square), 0, keep=True)

    def _lags(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return the changes (2, n_lag, n_pmu) of voltage and angle over a few seconds, all through the window."""
        pu, turn = self._pu_and_turn(ops, windows, params)
        volt = ops.matmul(ops.const(params["lag"]), pu)
        angle = against_median(ops, ops.matmul(ops.const(params["lag_turn"]), turn))
        shape = (1, params["lag"].shape[0], -1)
        return ops.concat([ops.reshape(volt, shape), ops.reshape(angle, shape)], 0)

    def _changes(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return the change of voltage, pu, and of the angle against the median PMU, rad: (2, n_pmu)."""
        pu, turn = self._pu_and_turn(ops, windows, params)
        angle = against_median(ops, ops.matmul(ops.const(params["turn"]), turn))
        return ops.concat([ops.matmul(ops.const(params["change"]), pu), angle], 0)

    def _pu_and_turn(self, ops: Ops[T], windows: Windows[T], params: Params) -> tuple[T, T]:
        """Return the voltage, pu, and how far the phasor turned, rad, of each second, (window_s, n_pmu) each."""
        window = recent(ops, windows.slow, self.window_s)
        hz, pu, rad = (ops.take(window, 1, quantity) for quantity in (FREQUENCY, VOLTAGE, ANGLE))
        # Less what all share (the highest frequency of each row, then one number), so that single precision is enough.
        highest = ops.max(ops.where(ops.isnan(hz), ops.const(LOWEST_HZ), hz), 1, keep=True)
        hz = ops.sub(hz, highest)
        mean = ops.mul(ops.sum(hz, 0, keep=True), ops.const(1.0 / self.window_s))
        hz = ops.sub(hz, ops.median(mean, 1, keep=True))
        hz_rad, rate_hz = (ops.const(value) for value in params["rate"])
        return pu, ops.add(ops.mul(hz, hz_rad), ops.mul(rad, rate_hz))

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the two rules."""
        return tuple(
            Rule(
                name=name,
                version=1,
                family="quality",
                kind="disagrees",
                priority=3,
                limit=float(limit),
                unit="x usual",
                window_s=float(self.window_s),
                on_delay_ms=self.on_delay_ms,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=(
                    f"The {word} of {{source}} changed as no other PMU's did: {{value}} times the usual beyond what the "
                    "others say, limit {limit}"
                ),
            )
            for (name, word), limit in zip(RULES, params["limit"], strict=True)
        )


RULES = (("disagrees_voltage", "voltage"), ("disagrees_angle", "angle"))

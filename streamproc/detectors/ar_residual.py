"""A sample that its own past does not explain: the residual of a linear prediction, on the first frame.

For each of frequency, voltage and angle step, the last sample is predicted from the 15 before it; the score
is the residual in units of its usual size, against a limit. A lost generator, a line trip, a fault and a
jump of the angle all break the course of at least one of the three within a frame.

Two forms, one graph shape:

    site      weights from a ridge regression on event-free data (shared per quantity, differences to the
              last sample, so that a constant is predicted exactly); usual size = standard deviation of the
              residual per channel; limit = median + margin * (maximum - median) of the calibration
    generic   weights of an exponential mean; usual size = root mean square of the steps between frames in
              the 6 s before (the last 0.5 s left out, so that a disturbance does not hide itself), but never
              below a floor

`margin_ratio` is 2 and was fixed before the acceptance data was scored: models.md section 7 found 1.5 to 2
on the maximum right for real ambient data, and a margin on the excess over the median right across
networks.

Gaps: up to two missing frames are bridged by holding the last value; the sample to be judged must have come
itself. With a longer gap in the last 15 frames the score is NaN; from the usual step a longer gap takes out
the tenths of a second that it touches. A bridged frame counts as a step of 0 and the one after it as the
whole change: with one frame in ten lost, the usual size comes out about 5 % low. A channel without fitted
scale is NaN for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import N_QUANTITY, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, recent, unknown_if
from streamproc.core.linear_prediction import ORDER, prediction
from streamproc.values import F64

KINDS = ("frequency_jump", "voltage_jump", "angle_jump")
WORDS = ("Frequency", "Voltage", "Voltage angle")


@dataclass(frozen=True, slots=True)
class ArResidual:
    """Three rows: frequency, voltage, angle."""

    name: str = "ar_residual"
    every_s: float = 0.0
    margin_ratio: float = 2.0
    limit_min_sd: float = (
        7.0  # a short calibration must not promise more than a normal tail allows: 1e-11 per sample
    )
    floor_hz: float = 3e-4  # rounding to 1 mHz alone has a standard deviation of 0.29 mHz
    floor_pu: float = 5e-5
    floor_rad: float = 2e-4  # 0.01 deg
    generic_limit: float = 12.0  # times the usual step
    generic_floor_hz: float = 1e-3  # resolution of FREQ in 16-bit frames (IEEE C37.118.2-2011, Table 5)
    generic_floor_pu: float = 8e-4  # with the limit: about 1 % of voltage, the size of a tap
    generic_floor_rad: float = 1e-3
    generic_weight: float = 0.5  # of the exponential mean
    reference_s: float = 6.0
    skip_s: float = 0.5
    block_s: float = 0.1  # steps are known or unknown by the block
    fit_s_min: float = 20.0  # finite data needed of a channel
    off_delay_ms: int = 1000
    deadband_ratio: float = 0.2

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return max(ORDER + 1, round(self.reference_s * rate_hz)), 0

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training: the scale is measured in the graph."""
        decay = self.generic_weight * (1.0 - self.generic_weight) ** np.arange(ORDER)
        return {
            "taps": np.tile((decay / decay.sum())[::-1, None], (1, N_QUANTITY)),  # (ORDER, 3), oldest first
            "floor": np.array([self.generic_floor_hz, self.generic_floor_pu, self.generic_floor_rad]),
            "skip": np.array(max(1, round(self.skip_s * rate_hz))),
            "reference": np.array(self.rows(rate_hz)[0]),
            "block": np.array(max(1, round(self.block_s * rate_hz))),
            "limit": np.full(N_QUANTITY, self.generic_limit),
        }

    def fit(self, history: History) -> Params:
        """Return weights per quantity and the scale of every channel; NaN where there was too little data."""
        n_pmu = history.fast.shape[2]
        samples_min = max(10 * ORDER, round(self.fit_s_min * history.rate_hz))
        taps = np.zeros((ORDER, N_QUANTITY))
        scale = np.full((N_QUANTITY, n_pmu), np.nan)
        for quantity, floor in enumerate((self.floor_hz, self.floor_pu, self.floor_rad)):
            series = history.fast[:, quantity, :]  # (n_tick, n_pmu)
            taps[:, quantity], residual_sd, count = prediction(series)
            enough = count >= samples_min
            scale[quantity, enough] = np.maximum(residual_sd[enough], floor)
        return {"taps": taps, "scale": scale, "limit": np.ones(N_QUANTITY)}

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with limits learnt from `levels` (n_tick, 3, n_pmu)."""
        limits = [
            learnt_limit(levels[:, quantity, :], self.margin_ratio, self.limit_min_sd)
            for quantity in range(N_QUANTITY)
        ]
        return {**params, "limit": np.array(limits)}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (3, n_pmu)."""
        lags = recent(ops, windows.fast, ORDER, before=1)  # (ORDER, 3, n_pmu)
        expected = ops.sum(ops.mul(lags, ops.const(params["taps"][:, :, None])), 0)  # (3, n_pmu)
        residual = ops.abs(ops.sub(windows.now, expected))
        if "scale" in params:
            return ops.mul(residual, ops.const(1.0 / (params["scale"] * params["limit"][:, None])))
        usual = _usual_step(ops, windows.fast, params)
        return ops.div(residual, ops.mul(usual, ops.const(params["limit"][:, None])))

    def rules(self, params: Params, rate_hz: float) -> tuple[Rule, ...]:
        """Return the three rules."""
        return tuple(
            Rule(
                name=kind,
                version=1,
                family="grid",
                kind=kind,
                priority=2,
                limit=float(limit),
                unit="x usual",
                window_s=ORDER / rate_hz,
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=f"{word} at {{source}} left its course by {{value}} times the usual, limit {{limit}}",
            )
            for kind, word, limit in zip(KINDS, WORDS, params["limit"], strict=True)
        )


def _usual_step(ops: Ops[T], fast: T, params: Params) -> T:
    """Return the root mean square of the steps between frames (3, n_pmu) before the last `skip` rows.

    Blocks with a step to or from an unknown sample are left out (a gap of up to two frames is bridged and
    leaves none); with fewer than a quarter of the blocks known it is NaN. Blocks, because to look for NaN in
    every single step costs as much as all the rest of the graph.
    """
    skip, block = int(params["skip"]), int(params["block"])
    n_block = (int(params["reference"]) - skip - 1) // block
    first = -(skip + 1 + n_block * block)
    step = ops.sub(ops.part(fast, 0, first + 1, -skip), ops.part(fast, 0, first, -skip - 1))
    blocks = ops.reshape(ops.mul(step, step), (n_block, block, N_QUANTITY, -1))
    energy = ops.sum(blocks, 1)  # (n_block, 3, n_pmu)
    unknown = ops.isnan(energy)
    total = ops.sum(ops.where(unknown, ops.const(0.0), energy), 0)
    count = ops.sub(ops.const(float(n_block)), ops.sum(ops.number(unknown), 0))
    few = ops.ge(ops.const(n_block / 4.0), count)
    mean = unknown_if(ops, few, ops.div(total, ops.mul(count, ops.const(float(block)))))
    return ops.maximum(ops.sqrt(mean), ops.const(params["floor"][:, None]))

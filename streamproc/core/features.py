"""What the models see: from aligned instants to feature rows, the same in training and in the stream.

    fast row, one per instant        quantity 0  frequency minus nominal, Hz
             (3, n_pmu)              quantity 1  voltage magnitude / base - 1, pu
                                     quantity 2  angle step, rad: the change since the last instant beyond what the
                                                 reported frequency explains; no other PMU is needed for it. After one
                                                 or two lost frames: the change since the last that came
    slow row, one per UTC second     mean over the finite values of that second, as soon as the second is over

Differences are taken in float64 before the cast: near 60 Hz float32 has a step of 4e-6 Hz. The base of a voltage comes
from the site file, else from the model bundle, else it is the mean of the PMU's own first second of good values; until
then its voltage is NaN. Sums run in order of time, so that any split into batches gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.detector import N_QUANTITY
from streamproc.core.grid import from_grid
from streamproc.core.samples import ANGLE, FREQ, VOLT
from streamproc.core.window import BRIDGED_ROWS
from streamproc.values import F32, F64, I64

REFERENCE_RAD = 0.2  # 11 deg within a frame, beyond what the frequency explains
REFERENCE_PMUS = 3
TOGETHER_RAD = 0.05  # they step alike


@dataclass(frozen=True, slots=True)
class FeatureState:
    """Memory between batches; every array is per PMU in its last axis."""

    last_angle_rad: F64  # (3, n_pmu) of the instants before, oldest first
    last_hz: F64  # (3, n_pmu) off nominal, the same
    base_v: F64  # (n_pmu,) NaN: not known yet
    base_from: I64  # (n_pmu,) first instant whose voltage is given in pu
    base_sum_v: F64  # of the first good values
    base_count: I64
    second: int  # UTC second being summed, -1: none
    second_sum: F64  # (3, n_pmu)
    second_count: F64  # (3, n_pmu)

    @classmethod
    def fresh(cls, base_v: F64) -> FeatureState:
        """Return the state before any instant; `base_v` is NaN where no base is known beforehand."""
        n_pmu = base_v.size
        ints = np.zeros(n_pmu, dtype=np.int64)
        sums = np.zeros((N_QUANTITY, n_pmu))
        none = np.full((BRIDGED_ROWS + 1, n_pmu), np.nan)
        return cls(none, none, base_v, ints, np.zeros(n_pmu), ints, -1, sums, sums)


def features(
    state: FeatureState, instant: I64, value: F64, nominal_hz: float, rate_hz: float
) -> tuple[FeatureState, F32, list[tuple[int, F32]]]:
    """Return the state after, the fast rows (n, 3, n_pmu), and the slow rows with the index of the row they precede.

    `value` is (n, n_pmu, 4) as in `align`, NaN where unknown.
    """
    if instant.size == 0:
        return state, np.zeros((0, N_QUANTITY, value.shape[1]), dtype=np.float32), []
    state = _with_base(state, instant, value[:, :, VOLT], rate_hz)
    deviation_hz = value[:, :, FREQ] - nominal_hz
    known = instant[:, None] >= state.base_from
    with np.errstate(invalid="ignore", divide="ignore"):
        voltage_pu = np.where(known, value[:, :, VOLT] / state.base_v - 1.0, np.nan)
    angle_rad = value[:, :, ANGLE]
    series = np.concatenate([state.last_angle_rad, angle_rad])
    hz = np.concatenate([state.last_hz, deviation_hz])
    step_rad = _angle_step(series, 2.0 * np.pi * hz / rate_hz)
    rows = np.stack([deviation_hz, voltage_pu, step_rad], axis=1)  # (n, 3, n_pmu)
    state = replace(state, last_angle_rad=series[-BRIDGED_ROWS - 1 :], last_hz=hz[-BRIDGED_ROWS - 1 :])
    state, slow = _seconds(state, from_grid(instant, rate_hz), rows)
    return state, rows.astype(np.float32), slow


def _angle_step(series: F64, turns: F64) -> F64:
    """Return the steps (n, n_pmu) of angles (3 + n, n_pmu), rad, beyond what the frequency explains.

    `turns` (3 + n, n_pmu) is what it explains of each frame, rad. A lost frame is explained by the frequency before it,
    which a window holds there (`core.window`): so steps and frequencies of a window add up to its angles, exactly.
    """
    before, last = series[BRIDGED_ROWS:-1], turns[BRIDGED_ROWS:-1]
    expected = turns[BRIDGED_ROWS + 1 :]
    for lost in range(1, BRIDGED_ROWS + 1):
        older = slice(BRIDGED_ROWS - lost, -1 - lost)
        bridged = np.isnan(before) & ~np.isnan(series[older])
        last = np.where(np.isnan(last), turns[older], last)
        expected = np.where(bridged, expected + lost * last, expected)
        before = np.where(np.isnan(before), series[older], before)
    turn = series[BRIDGED_ROWS + 1 :] - before - expected
    return _without_reference(np.asarray(turn - 2.0 * np.pi * np.rint(turn / (2.0 * np.pi))))


def _without_reference(turn: F64) -> F64:
    """Return the steps (n, n_pmu) less what all of them share, where that is no movement of a grid.

    Angles are against a reference: UTC, or the angle of one bus in the PDC. When that changes, all step by the same, in
    one frame, and no frequency moves.
    """
    stepped = np.flatnonzero((np.abs(turn) >= REFERENCE_RAD).sum(axis=1) >= REFERENCE_PMUS)
    if not stepped.size:
        return turn
    rows = turn[stepped]
    known = np.isfinite(rows)
    lead = rows[np.arange(stepped.size), np.argmax(known, axis=1)][:, None]
    apart = rows - lead
    apart = np.where(known, apart - 2.0 * np.pi * np.rint(apart / (2.0 * np.pi)), 0.0)
    middle = np.median(apart, axis=1, keepdims=True)
    together = (np.abs(apart - middle).max(axis=1) < TOGETHER_RAD) & (known.sum(axis=1) >= REFERENCE_PMUS)
    turn = turn.copy()
    turn[stepped[together]] = (apart - middle)[together] + np.where(known, 0.0, np.nan)[together]
    return turn


def _with_base(state: FeatureState, instant: I64, volt: F64, rate_hz: float) -> FeatureState:
    """Return the state with bases fixed by their own first second of good values, where that is now complete."""
    open_base = np.isnan(state.base_v)
    if not open_base.any():
        return state
    wanted = max(1, round(rate_hz))
    good = np.isfinite(volt) & (volt > 0.0) & open_base
    count = state.base_count + np.cumsum(good, axis=0)  # (n, n_pmu)
    use = good & (count <= wanted)
    total = np.add.reduce(np.concatenate([state.base_sum_v[None], np.where(use, volt, 0.0)]), axis=0)
    complete = open_base & (count[-1] >= wanted)
    reached = np.argmax(count >= wanted, axis=0)
    return replace(
        state,
        base_v=np.where(complete, total / wanted, state.base_v),
        base_from=np.where(
            complete, instant[reached] + 1, np.where(open_base, instant[-1] + 1, state.base_from)
        ),
        base_sum_v=total,
        base_count=np.minimum(count[-1], wanted),
    )


def _seconds(state: FeatureState, t_ns: I64, rows: F64) -> tuple[FeatureState, list[tuple[int, F32]]]:
    second = t_ns // 1_000_000_000
    starts = np.flatnonzero(np.diff(second, prepend=state.second))
    bounds = [*starts.tolist(), rows.shape[0]]
    slow: list[tuple[int, F32]] = []
    if bounds[0] > 0:
        state = _summed(state, rows[: bounds[0]])
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        if state.second >= 0:
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.where(state.second_count > 0, state.second_sum / state.second_count, np.nan)
            slow.append((start, mean.astype(np.float32)))
        zero = np.zeros_like(state.second_sum)
        state = replace(state, second=int(second[start]), second_sum=zero, second_count=zero)
        state = _summed(state, rows[start:stop])
    return state, slow


def _summed(state: FeatureState, rows: F64) -> FeatureState:
    finite = np.isfinite(rows)
    return replace(
        state,
        second_sum=np.add.reduce(
            np.concatenate([state.second_sum[None], np.where(finite, rows, 0.0)]), axis=0
        ),
        second_count=state.second_count + finite.sum(axis=0),
    )

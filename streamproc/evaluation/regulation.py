"""How honest the forecast of the regulation need is: causal, at every minute, beside what everybody can do.

    climatology   quantiles of the extremes of all past windows (of two days at most, as ours remembers)
    persistence   the extremes of the last window, and the quantiles of how wrong that was in the past

All use what was known at the origin, and windows that had ended by then. Origins are judged after two horizons of warm-up,
where all three have an answer and nine tenths of the window after them are known. Windows at neighbouring minutes are
nearly the same one: `windows` says how many lie side by side, and the intervals draw blocks of one horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core.quantiles import LEVELS
from streamproc.core.regulation import (
    MAXIMUM,
    MINIMUM,
    SHARE_MIN,
    STEP_S,
    WINDOW_SHARE_MIN,
    Minutes,
    Rules,
    forecast,
    fresh,
    imbalance_mw,
    update,
)
from streamproc.core.series.measures import bootstrap_ratio, within
from streamproc.errors import RecordingError
from streamproc.evaluation.ambient import EXCEPT_S, PLAUSIBLE_HZ, rate_hz_of
from streamproc.values import F64, I64, Bool

WARM_HORIZONS = 2
MEMORY_MIN = 2880
SIDES = ("minimum", "maximum")
CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Side:
    """One extreme. Shares 0 ... 1, NaN where nothing can be told."""

    coverage: float  # of P05 .. P95, should be .90
    coverage_low: float  # 95 % interval, blocks of one horizon; NaN with fewer than two
    coverage_high: float
    below: tuple[float, ...]  # share at or below P05 ... P95, should be these levels
    pinball_mhz: float
    width_mhz: float  # mean of P95 - P05


@dataclass(frozen=True, slots=True)
class Method:
    """One forecaster on one part."""

    name: str
    minimum: Side
    maximum: Side


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the origins."""

    name: str
    origins: int
    windows: float  # that do not overlap
    excused: float  # coverage that cannot be excluded (one chance in twenty) if every window had lain within
    methods: tuple[Method, ...]
    area_low: float  # coverage of the area where ours is lowest, both extremes together
    area_high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """All about one recording."""

    name: str
    horizon_min: int
    areas: int
    minutes: int
    missing: float  # share of the frames
    parts: tuple[Part, ...]
    last_mhz: tuple[
        tuple[float, ...], ...
    ]  # P05 ... P95 of minimum and maximum, after the last minute, first area
    last_share: float  # of the frames before it that were known
    last_mw: tuple[tuple[float, ...], ...] | None  # the same of the power that is lacking; None without beta


def minutes_of(
    name: str, t_ns: I64, freq_hz: F64, nominal_hz: float, except_s: Sequence[float] = ()
) -> Minutes:
    """Return the minutes of a recording as one area, without holes; raises RecordingError.

    `except_s`: seconds from the first frame of disturbances; 30 s on either side are as if they were not known.
    """
    per_minute = rate_hz_of(name, t_ns) * STEP_S
    moved_hz = freq_hz - nominal_hz
    known = np.isfinite(moved_hz) & (np.abs(moved_hz) < PLAUSIBLE_HZ)
    for s in except_s:
        known &= np.abs((t_ns - t_ns[0]) / 1e9 - s) > EXCEPT_S
    if not known.any():
        raise RecordingError(f"{name}: no frequency within {PLAUSIBLE_HZ:g} Hz of {nominal_hz:g} Hz is in it")
    number = t_ns // (STEP_S * 10**9)
    first, n_row = int(number.min()), int(number.max() - number.min()) + 1
    if n_row > 100 * t_ns.size:
        raise RecordingError(f"{name}: its times reach over {n_row} minutes with only {t_ns.size} frames")
    place, values = (number - first)[known], moved_hz[known]
    count = np.bincount(place, minlength=n_row)
    low, high = np.full(n_row, np.inf), np.full(n_row, -np.inf)
    np.minimum.at(low, place, values)
    np.maximum.at(high, place, values)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, values, n_row) / count
    low, high = (np.where(count > 0, ends, np.nan) for ends in (low, high))
    share = np.minimum(count / per_minute, 1.0)
    return Minutes(
        first + np.arange(n_row, dtype=np.int64), low[:, None], high[:, None], mean[:, None], share[:, None]
    )


def judge(name: str, minutes: Minutes, horizon: int, seed: int, beta_mw_per_hz: float | None) -> Finding:
    """Return how the forecasts over these minutes ended; raises RecordingError if they are too few."""
    n_row, n_area = minutes.share.shape
    truth = extremes(minutes, horizon)
    lately = np.full_like(truth, np.nan)
    lately[horizon:] = truth[:-horizon]
    told, last, last_share = issued(minutes, Rules(horizon))
    methods = {
        "forecast": told,
        "climatology": past_quantiles(truth, horizon),
        "persistence": lately[..., None] + past_quantiles(truth - lately, horizon),
    }
    judged = np.isfinite(truth + sum(quantile.sum(axis=-1) for quantile in methods.values())).all(axis=-1)
    row = np.arange(n_row)[:, None]
    judged &= row + 1 >= WARM_HORIZONS * horizon
    halves = {"after warm-up": judged, "second half": judged & (row >= n_row / 2.0)}
    if not halves["second half"].any():
        raise RecordingError(
            f"{name}: in {n_row} minutes nothing can be judged: {WARM_HORIZONS * horizon} minutes of warm-up "
            f"and, in its second half, windows of {horizon} minutes with few gaps are needed"
        )
    parts = tuple(_part(words, truth, methods, rows, horizon, seed) for words, rows in halves.items())
    beta = np.full(n_area, np.nan if beta_mw_per_hz is None else beta_mw_per_hz)
    lacking = imbalance_mw(last, beta)
    return Finding(
        name=name,
        horizon_min=horizon,
        areas=n_area,
        minutes=n_row,
        missing=1.0 - float(minutes.share.mean()),
        parts=parts,
        last_mhz=_rows(last[0] * 1e3),
        last_share=float(last_share[0]),
        last_mw=None if beta_mw_per_hz is None else _rows(lacking[0]),
    )


def issued(minutes: Minutes, rules: Rules) -> tuple[F64, F64, F64]:
    """Return the forecasts (n_row, n_area, 2, 7) after each minute, the last one, and the known share before it."""
    state = fresh(rules, minutes.share.shape[1])
    told = []
    for row in range(minutes.number.size):
        state = update(state, rules, minutes.part(slice(row, row + 1)))
        told.append(forecast(state).quantile_hz)
    last = forecast(state)
    return np.stack(told), last.quantile_hz, last.share


def extremes(minutes: Minutes, horizon: int) -> F64:
    """Return minimum and maximum (n_row, n_area, 2), Hz, of the `horizon` minutes after each one; NaN: not known."""
    n_row, n_area = minutes.share.shape
    known = np.isfinite(minutes.mean_hz) & (minutes.share >= SHARE_MIN)
    found = np.full((n_row, n_area, 2), np.nan)
    share = np.where(known, minutes.share, 0.0)
    low, high = np.where(known, minutes.low_hz, np.inf), np.where(known, minutes.high_hz, -np.inf)
    for row in range(n_row - horizon):
        after = slice(row + 1, row + 1 + horizon)
        whole = share[after].mean(axis=0) >= WINDOW_SHARE_MIN
        found[row, :, MINIMUM] = np.where(whole, low[after].min(axis=0), np.nan)
        found[row, :, MAXIMUM] = np.where(whole, high[after].max(axis=0), np.nan)
    return found


def past_quantiles(values: F64, horizon: int) -> F64:
    """Return the quantiles (n_row, n_area, 2, 7) of the known values (n_row, n_area, 2) whose window had ended."""
    found = np.full((*values.shape, len(LEVELS)), np.nan)
    by_level = np.moveaxis(values, 0, -1)
    for row in range(horizon, values.shape[0]):
        ended = row - horizon + 1
        ordered = np.sort(by_level[..., max(0, ended - MEMORY_MIN) : ended], axis=-1)  # NaN last
        most = np.maximum(np.isfinite(ordered).sum(axis=-1) - 1, 0)[..., None]
        place = np.array(LEVELS) * most  # (n_area, 2, 7)
        left = place.astype(np.int64)
        low = np.take_along_axis(ordered, left, -1)
        high = np.take_along_axis(ordered, np.minimum(left + 1, most), -1)
        found[row] = low + (place - left) * (high - low)
    return found


def _part(name: str, truth: F64, methods: dict[str, F64], judged: Bool, horizon: int, seed: int) -> Part:
    """Return the figures of the judged origins (n_row, n_area)."""
    windows = float(np.sum((judged.sum(axis=0) + horizon - 1) / horizon))
    ours = methods["forecast"]
    inside = within(truth, ours[..., 0], ours[..., -1])
    by_area = [float(inside[judged[:, area], area].mean()) for area in np.flatnonzero(judged.any(axis=0))]
    figures = tuple(
        Method(
            words,
            *(_side(truth[..., s], quantile[..., s, :], judged, horizon, seed) for s in (MINIMUM, MAXIMUM)),
        )
        for words, quantile in methods.items()
    )
    return Part(
        name, int(judged.sum()), windows, CHANCE ** (1.0 / windows), figures, min(by_area), max(by_area)
    )


def _side(truth: F64, quantile: F64, judged: Bool, horizon: int, seed: int) -> Side:
    """Return the figures of one extreme: truth (n_row, n_area), quantiles (n_row, n_area, 7)."""
    inside = within(truth, quantile[..., 0], quantile[..., -1])
    row, area = np.nonzero(judged)
    block = np.unique((row - row.min()) // horizon + area * truth.shape[0], return_inverse=True)[1]
    hits = np.bincount(block, inside[judged]).astype(np.float64)
    counts = np.bincount(block).astype(np.float64)
    low, high = bootstrap_ratio(hits, counts, seed)
    miss = truth[judged][:, None] - quantile[judged]  # (n, 7)
    level = np.array(LEVELS)
    return Side(
        coverage=float(inside[judged].mean()),
        coverage_low=low,
        coverage_high=high,
        below=tuple((miss <= 0.0).mean(axis=0).tolist()),
        pinball_mhz=1e3 * float(np.maximum(level * miss, (level - 1.0) * miss).mean()),
        width_mhz=1e3 * float((quantile[judged][:, -1] - quantile[judged][:, 0]).mean()),
    )


def _rows(values: F64) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())

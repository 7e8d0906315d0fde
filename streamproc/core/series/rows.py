"""What a day-ahead model sees at an origin, in groups: one row per origin, any step, any origin slot.

    lag        14 days back, as means of at most 48 blocks a day, minus the level (mean of the last 7 days)
    near       7 days back, yesterday in full, every older day counts half: what is new comes first
    near_cos   the same times the season's cosine and sine: the answer to yesterday changes over the year
    near_sin
    pair       kind of day x kind of the day before (Mon, Tue-Thu, Fri, Sat, Sun, holiday): the morning after a holiday
               is not any Tuesday
    pair_later the same for the further local days that the leads touch
    festive    24 December to 5 January, for the same days and the day before
    season     cosine and sine of the year and half year; season_off the same on weekends and holidays
    ahead      what is known of the intervals ahead, as means of blocks; temperatures also hinged, because heating and
               cooling begin somewhere
    before     the same of the day before the origin: the difference to today is what moves the load
    ahead_cos  ahead times the season
    ahead_sin
    ahead_off  ahead on weekends and holidays
    extreme    highest and lowest of each day ahead, hinged: one hot hour costs more than its mean says

Values at and after the origin are never read: every column of the target is taken at places before the origin's place
(`local_axis`), and gaps are filled from earlier days only. Source of the choice: Alvarez et al. (2021), Hong & Fan
(2016) for pairs of day kinds and hinges; what each group is worth is measured in `BENCHMARKS.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.local_axis import by_place, local_axis
from streamproc.core.series.scale import Scale
from streamproc.values import F64, I64, Bool

LAG_DAYS = 14
NEAR_DAYS = 7
BLOCKS_PER_DAY_MAX = 48  # of lags: finer than half an hour tells about noise
AHEAD_BLOCKS_PER_DAY = 16  # 90 minutes: weather is smooth
NEAR_DECAY = 0.5  # per day of age
N_KIND = 6
YEAR_DAYS = 365.2425


@dataclass(frozen=True, slots=True)
class DayPlan:
    """What the rows of one model are made of; fitted once, kept with the model."""

    steps_per_day: int
    slot: int  # of the day, at which it is issued
    n_lead: int
    scale: Scale
    hinges: tuple[tuple[float, ...], ...]  # per known column; () = straight

    @property
    def n_place(self) -> int:
        """Return how many places are forecast: an hour more than leads, for the hour that spring skips."""
        return self.n_lead + max(self.steps_per_day // 24, 1)

    @property
    def touched_days(self) -> int:
        """Return how many local days the leads touch."""
        return -(-(self.slot + self.n_lead) // self.steps_per_day)


@dataclass(frozen=True, slots=True)
class DayRows:
    """Rows of some origins."""

    groups: Mapping[str, F64]  # name -> (n_origin, width); finite
    level: F64  # (n_origin,), on the scale of the plan
    gaps: F64  # (n_origin,), share of the lags that was filled
    blind: F64  # (n_origin,), share of what is known ahead that is missing


def block_count(steps_per_day: int, blocks_max: int) -> int:
    """Return the largest number of equal blocks of a day that is not above `blocks_max`."""
    return max(n for n in range(1, min(blocks_max, steps_per_day) + 1) if steps_per_day % n == 0)


def day_kinds(history: History) -> I64:
    """Return the kind of every local day (n_day + 8,): 0 Mon, 1 Tue-Thu, 2 Fri, 3 Sat, 4 Sun, 5 holiday.

    Eight days more than the history has, by weekday alone, so that leads beyond its end have a kind.
    """
    first = int(history.day[0])
    n_day = int(history.day[-1]) - first + 9
    weekday = (np.arange(n_day) + first + 3) % 7  # 0 = Monday
    kind = np.array([0, 1, 1, 1, 2, 3, 4])[weekday]
    kind[history.day[history.holiday] - first] = 5
    return kind


def day_rows(history: History, places_from: I64, plan: DayPlan) -> DayRows:
    """Return the rows of origins at these places (n_origin,); places need `LAG_DAYS` days before them."""
    axis = local_axis(history, plan.scale.forward(history.value))
    per_day = plan.steps_per_day
    n_lag = LAG_DAYS * per_day
    index = places_from[:, None] + np.arange(-n_lag, 0)
    lag = axis.filled[index]  # (n_origin, n_lag)
    gaps = 1.0 - axis.known[index].mean(axis=1)
    level = _mean(lag[:, -min(7, LAG_DAYS) * per_day :])
    blocks = block_count(per_day, BLOCKS_PER_DAY_MAX)
    lag = lag.reshape(len(lag), -1, per_day // blocks)
    lag = np.nan_to_num(_mean(lag) - level[:, None])  # (n_origin, n_block)
    groups = (
        {"lag": lag} | _near(lag, blocks, history, places_from, plan) | _calendar(history, places_from, plan)
    )
    known, blind = _known(history, places_from, plan)
    return DayRows(groups | known, level, gaps, blind)


def _near(lag: F64, blocks: int, history: History, places_from: I64, plan: DayPlan) -> dict[str, F64]:
    days = min(NEAR_DAYS, LAG_DAYS)
    age = np.repeat(np.arange(days - 1, -1, -1), blocks)
    near = lag[:, -days * blocks :] * NEAR_DECAY**age
    cosine, sine = _season(history, places_from // plan.steps_per_day)[:, :2].T
    return {"near": near, "near_cos": near * cosine[:, None], "near_sin": near * sine[:, None]}


def _season(history: History, day: I64) -> F64:
    phase = 2.0 * np.pi * (day + int(history.day[0])) / YEAR_DAYS
    return np.stack([wave(k * phase) for k in (1, 2) for wave in (np.cos, np.sin)], axis=-1)


def festive(day: I64) -> F64:
    """Return 1.0 from 24 December to 5 January, else 0.0, for days since 1970-01-01."""
    date = day.astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    number = (month.astype(np.int64) % 12 + 1) * 100 + (date - month).astype(np.int64) + 1
    return np.asarray((number >= 1224) | (number <= 105), np.float64)


def _calendar(history: History, places_from: I64, plan: DayPlan) -> dict[str, F64]:
    kinds = day_kinds(history)
    today = places_from // plan.steps_per_day
    touched = today[:, None] + np.arange(plan.touched_days)  # (n_origin, n_touched)
    kind = kinds[touched]
    pair = np.eye(N_KIND * N_KIND)[kind * N_KIND + kinds[touched - 1]]  # (n_origin, n_touched, 36)
    off = (kind[:, 0] >= 3).astype(np.float64)[:, None]
    season = _season(history, today)
    merry = festive(np.concatenate([today[:, None] - 1, touched], axis=1) + int(history.day[0]))
    return {
        "pair": pair[:, 0],
        "pair_later": pair[:, 1:].reshape(len(today), -1),
        "festive": merry,
        "season": season,
        "season_off": season * off,
    }


def _known(history: History, places_from: I64, plan: DayPlan) -> tuple[dict[str, F64], F64]:
    if not plan.hinges:
        return {}, np.zeros(len(places_from))
    per_day = plan.steps_per_day
    width = per_day // block_count(per_day, AHEAD_BLOCKS_PER_DAY)
    n_ahead = -(-plan.n_place // width) * width
    index = places_from[:, None] + np.arange(-per_day, n_ahead)
    missing: Bool = np.zeros(index.shape, dtype=np.bool_)
    columns, extremes = [], []
    for at, hinges in enumerate(plan.hinges):
        axis = np.concatenate([by_place(history, history.known[:, at]), np.full(n_ahead, np.nan)])
        window = _bridge(axis, per_day)[index]
        missing |= np.isnan(window)
        block = _mean(window.reshape(len(window), -1, width))  # (n_origin, n_block)
        columns.append(_hinged(block, hinges))
        days = [
            block[:, begin:][:, : per_day // width] for begin in _day_starts(block.shape[1], per_day // width)
        ]
        turn = np.stack([f(day) for day in days for f in (_max, _min)], axis=1)  # (n_origin, 2 n_day)
        extremes.append(_hinged(turn, hinges).reshape(len(turn), -1))
    every = np.concatenate(columns, axis=2)  # (n_origin, n_block, n_column)
    yesterday = per_day // width
    ahead = every[:, yesterday:].reshape(len(every), -1)
    today = places_from // per_day
    cosine, sine = _season(history, today)[:, :2].T
    off = (day_kinds(history)[today] >= 3).astype(np.float64)
    groups = {
        "ahead": ahead,
        "ahead_cos": ahead * cosine[:, None],
        "ahead_sin": ahead * sine[:, None],
        "ahead_off": ahead * off[:, None],
        "before": every[:, :yesterday].reshape(len(every), -1),
        "extreme": np.concatenate(extremes, axis=1),
    }
    return groups, missing.mean(axis=1)


def _hinged(block: F64, hinges: tuple[float, ...]) -> F64:
    """Return (n_origin, n_block, 1 + n_hinge): the value itself and what exceeds each hinge."""
    return np.stack([block, *(np.maximum(block - hinge, 0.0) for hinge in hinges)], axis=2)


def _day_starts(n_block: int, per_day: int) -> range:
    """Return where the days ahead begin: at least half a day each, after the day before the origin."""
    return range(per_day, max(n_block - per_day // 2, per_day + 1), per_day)


def _max(day: F64) -> F64:
    return np.asarray(np.where(np.isnan(day), -np.inf, day).max(axis=1))


def _min(day: F64) -> F64:
    return np.asarray(np.where(np.isnan(day), np.inf, day).min(axis=1))


def _bridge(axis: F64, steps_per_day: int) -> F64:
    """Return the axis with the hour that a clock change skips bridged on the straight line; other gaps stay."""
    missing = np.isnan(axis)
    at = np.arange(len(axis))
    hour = max(steps_per_day // 24, 1)
    before = np.maximum.accumulate(np.where(missing, -(10**9), at))
    after = np.minimum.accumulate(np.where(missing, 10**9, at)[::-1])[::-1]
    short = missing & (after - before <= hour + 1)
    out = axis.copy()
    if short.any():
        out[short] = np.interp(at[short], at[~missing], axis[~missing])
    return out


def _mean(block: F64) -> F64:
    """Return the mean of the known values along the last axis, NaN where there is none."""
    known = np.isfinite(block)
    count = known.sum(axis=-1)
    total = np.where(known, block, 0.0).sum(axis=-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))

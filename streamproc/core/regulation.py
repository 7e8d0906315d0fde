"""The regulation need of an area: how low and how high its frequency will be within the next 15 minutes, as quantiles.

In come summaries of one minute, the lowest, the highest and the mean deviation from nominal. The minimum is the maximum of
the deviation upside down, so there is one formula for both; u is the deviation, its sign turned for the minimum:

    L, S     means of the past that fade with `FADE_MIN`: of u, and of how far the ends of a minute lie from L (rms)
    x        1, (u of the last minute - L) / S, (largest u of the last 15 minutes - L) / S
    centre   L + S w x        w learnt by least squares on the past, held near `PRIOR_WEIGHT`: how much of where it stands
                              now will be left, the rest has faded to the level
    error    (largest u of the 15 minutes after - centre) / S, enters when these have passed, and not before
    quantile centre + S x (errors so far, at a level)         the level moves by `GAMMA` x (wanted - happened)

Moving the levels is adaptive conformal inference (Gibbs and Candes 2021), as in `core.series.bands`. That one has keys for
leads and hours, loops over them, and says nothing until errors are known; here all areas are one array, and the memory of
errors begins with `PRIOR_ERROR`. The priors were fitted on simulated frequency (`evaluation.regulation_made`) and fade as
the area tells its own. Summaries of ten seconds instead of a minute changed the pinball loss by .2 % at most.

A minute counts if half of its frames are known, a window of 15 minutes if nine tenths are. What is missing is NaN and
enters nowhere; a forecast says with what share of the last 15 minutes it was made, and is NaN with less than a third of it.

For a stage, such as `stages.score_regulation`: hold one `State` for an area (or for n areas side by side) and call
`update` once for each closed minute, its number since 1970 taken from the frames' own time; `forecast` only reads. All
fields but `number` are arrays of fixed shape, so packing is their bytes: 13 kB an area. Missing minutes need not be given:
numbers that leap are gaps. A number that does not ascend is ignored, because what was told is not taken back; where time
itself went back, `rewound` comes before. Give a minute with a trip in it (an open alert about a disturbance) with share 0:
a trip is no regulation need, and two days would remember it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from streamproc.core.quantiles import LEVELS
from streamproc.core.series.bands import STRETCH
from streamproc.values import F64, I64, Bool

VERSION = 1  # of the formulas: goes up with every change of them
STEP_S = 60
MINIMUM, MAXIMUM = 0, 1  # places on the axis of sides
SIGN = np.array([-1.0, 1.0])
FADE_MIN = 60.0  # half-life of level and spread
WEIGHT_HALF_LIFE_DAYS = 2.0
SHARE_MIN, WINDOW_SHARE_MIN, RECENT_SHARE_MIN = 0.5, 0.9, 1.0 / 3.0
YOUNG_MIN = 12.0  # over n minutes is added to 1 and widens the squared spread: a young level follows its data
LAST_MIN = 5  # the last minute is the last known one of so many, else it is taken to stand at the level
SCALE_FLOOR_HZ = 1e-4
FAR = 4.0  # scales: what lies further counts as so far in spread and x: a trip is not how a grid moves
ERROR_FAR = 6.0  # the same, in the memory of errors
REST_FAR = 2.0  # the same, in the least squares: one trip is in fifteen windows
GAMMA = 0.002  # of a level per minute
LEAST, MOST = -0.1, 1.1  # how far a level may move
ERROR_EVERY = 5  # minutes: neighbours share their windows and say the same
ERROR_ROWS = 576  # two days
HELD_HALF_LIFE_DAYS = 1.0  # of the live coverage,
HELD_MIN = 15.0  # which is told from so many ended windows on
PRIOR_ROWS = 150.0  # minutes of data that the prior of the weights is worth, per feature
PRIOR_REPEAT = 3
# Least squares on 40 simulated areas of 48 hours, seed 0, and the quantiles (i + 0.5) / 24 of what it leaves.
PRIOR_WEIGHT = np.array([1.28, 0.22, 0.18])
PRIOR_ERROR = np.array(
    [
        *(-1.10, -0.86, -0.72, -0.62, -0.54, -0.46, -0.39, -0.33, -0.26, -0.20, -0.14, -0.08),
        *(-0.02, 0.04, 0.10, 0.17, 0.25, 0.33, 0.41, 0.51, 0.63, 0.79, 1.00, 1.44),
    ]
)


@dataclass(frozen=True, slots=True)
class Rules:
    """The horizon, in minutes."""

    horizon: int = 15


@dataclass(frozen=True, slots=True)
class Minutes:
    """Summaries of whole minutes, ascending; deviations from nominal in Hz, NaN where nothing is known."""

    number: I64  # (n_row,) minutes since 1970
    low_hz: F64  # (n_row, n_area)
    high_hz: F64  # (n_row, n_area)
    mean_hz: F64  # (n_row, n_area)
    share: F64  # (n_row, n_area), 0 ... 1: of the frames of this minute that are known

    def part(self, rows: slice) -> Minutes:
        """Return some of the rows."""
        return Minutes(
            self.number[rows], self.low_hz[rows], self.high_hz[rows], self.mean_hz[rows], self.share[rows]
        )


@dataclass(frozen=True, slots=True)
class State:
    """All that is remembered. Sides: minimum, maximum; values of a side are u, Hz. Oldest first along the horizon."""

    number: int  # of the last minute; -1: none yet
    recent: F64  # (n_area, 3, horizon): low, high, mean, NaN: not known
    share: F64  # (n_area, horizon), known share of each minute
    level: F64  # (n_area, 2): faded sum of means, and of ones
    spread: F64  # (n_area, 2): faded sum of squared distances, Hz^2, and of ones
    told: F64  # (n_area, horizon, 2, 7): what was told after each of the last minutes; NaN: nothing
    centre: F64  # (n_area, horizon, 2): the centre of that
    base: F64  # (n_area, horizon, 2): and its L (of the deviation) and S
    feature: F64  # (n_area, horizon, 2, 3): and its x
    square: F64  # (n_area, 3, 3): faded sum of x x'
    product: F64  # (n_area, 3): faded sum of x (target - what the prior says)
    error: F64  # (n_area, 2, ERROR_ROWS), over S; NaN: empty
    errors: I64  # (n_area, 2): errors that ever came in
    wanted: F64  # (n_area, 2, 7): levels
    held: F64  # (n_area, 2, 2): faded sum of extremes inside P05 .. P95, and of ones


@dataclass(frozen=True, slots=True)
class Forecast:
    """The extremes of the next horizon. NaN: too little is known."""

    quantile_hz: (
        F64  # (n_area, 2, 7): P05 ... P95 of the minimum and of the maximum of the deviation from nominal
    )
    share: F64  # (n_area,): of the frames of the last horizon that were known, the quality of the forecast
    errors: I64  # (n_area,): its own errors that the bands have learnt from, of the side with fewer
    coverage: F64  # (n_area, 2): share of recent extremes that lay inside P05 .. P95; NaN: too few have ended


def digest(rules: Rules) -> str:
    """Return the SHA-256 of what all forecasts follow from besides the data: version, horizon, constants."""
    constants = (FADE_MIN, WEIGHT_HALF_LIFE_DAYS, SHARE_MIN, WINDOW_SHARE_MIN, RECENT_SHARE_MIN, YOUNG_MIN)
    more = (LAST_MIN, SCALE_FLOOR_HZ, FAR, ERROR_FAR, REST_FAR, GAMMA, LEAST, MOST, ERROR_EVERY, ERROR_ROWS)
    prior = (PRIOR_ROWS, PRIOR_REPEAT, PRIOR_WEIGHT.tolist(), PRIOR_ERROR.tolist())
    return sha256(repr((VERSION, rules.horizon, LEVELS, constants, more, prior)).encode()).hexdigest()


def fresh(rules: Rules, n_area: int) -> State:
    """Return the state before the first minute."""
    n, h = n_area, rules.horizon
    error = np.full((n, 2, ERROR_ROWS), np.nan)
    error[:, :, : PRIOR_REPEAT * PRIOR_ERROR.size] = np.tile(PRIOR_ERROR, PRIOR_REPEAT)
    return State(
        number=-1,
        recent=np.full((n, 3, h), np.nan),
        share=np.zeros((n, h)),
        level=np.zeros((n, 2)),
        spread=np.zeros((n, 2)),
        told=np.full((n, h, 2, len(LEVELS)), np.nan),
        centre=np.full((n, h, 2), np.nan),
        base=np.full((n, h, 2), np.nan),
        feature=np.full((n, h, 2, PRIOR_WEIGHT.size), np.nan),
        square=np.zeros((n, PRIOR_WEIGHT.size, PRIOR_WEIGHT.size)),
        product=np.zeros((n, PRIOR_WEIGHT.size)),
        error=error,
        errors=np.zeros((n, 2), np.int64),
        wanted=np.tile(np.array(LEVELS), (n, 2, 1)),
        held=np.zeros((n, 2, 2)),
    )


def rewound(state: State, rules: Rules) -> State:
    """Return the state for minutes that begin anew, earlier ones maybe: what was learnt stays, what was seen last goes."""
    blank = fresh(rules, state.share.shape[0])
    seen = ("number", "recent", "share", "told", "centre", "base", "feature")
    return replace(state, **{name: getattr(blank, name) for name in seen})


def update(state: State, rules: Rules, minutes: Minutes) -> State:
    """Return the state after these minutes, in any split of them; a minute that is not after the last one is ignored."""
    for row, number in enumerate(minutes.number.tolist()):
        if number <= state.number:
            continue
        if state.number >= 0:
            # After twice the horizon without data nothing is left that more of it could change.
            for _ in range(min(number - state.number - 1, 2 * rules.horizon)):
                state = _after(state, state.number + 1, _nothing(state))
        state = _after(state, number, minutes.part(slice(row, row + 1)))
    return state


def forecast(state: State) -> Forecast:
    """Return what was told after the last minute."""
    told = state.told[:, -1] * SIGN[:, None]
    ordered = np.stack([told[:, MINIMUM, ::-1], told[:, MAXIMUM]], axis=1)
    inside, ones = state.held[:, :, 0], state.held[:, :, 1]
    coverage = np.where(ones >= HELD_MIN, inside / np.maximum(ones, 1.0), np.nan)
    return Forecast(ordered, state.share.mean(axis=1), state.errors.min(axis=1), coverage)


def imbalance_mw(quantile_hz: F64, beta_mw_per_hz: F64) -> F64:
    """Return the quantiles (n_area, 2, 7) of minimum and maximum of the power that an area lacks, MW.

    -beta x deviation, as far as the settled frequency tells it: the highest lack is at the lowest frequency, so sides and
    levels change places. beta (n_area,) as `[[area]] beta_mw_per_hz`; NaN where it is not known.
    """
    return np.asarray(-beta_mw_per_hz[:, None, None] * quantile_hz[:, ::-1, ::-1], np.float64)


def _nothing(state: State) -> Minutes:
    n_area = state.share.shape[0]
    unknown = np.full((1, n_area), np.nan)
    return Minutes(np.zeros(1, np.int64), unknown, unknown, unknown, np.zeros((1, n_area)))


def _after(state: State, number: int, minute: Minutes) -> State:
    """Return the state after one minute (one row)."""
    values = np.stack([minute.low_hz[0], minute.high_hz[0], minute.mean_hz[0]], axis=1)  # (n_area, 3)
    known = np.isfinite(values).all(axis=1) & (minute.share[0] >= SHARE_MIN)
    values = np.where(known[:, None], values, np.nan)
    share = np.where(known, minute.share[0], 0.0)
    state = replace(
        state,
        number=number,
        recent=_pushed(state.recent, values, axis=2),
        share=_pushed(state.share, share, axis=1),
    )
    state = _levelled(_learnt(state), values, known)
    return _told(state)


def _pushed(ring: F64, newest: F64, axis: int) -> F64:
    """Return the ring with its oldest entry gone and the newest at the end of `axis`."""
    kept = np.take(ring, np.arange(1, ring.shape[axis]), axis=axis)
    return np.concatenate([kept, np.expand_dims(newest, axis)], axis=axis)


def _extremes(state: State) -> F64:
    """Return the largest u (n_area, 2) of the last horizon; -inf where nothing is known."""
    ends = np.where(np.isfinite(state.recent[:, :2]), state.recent[:, :2] * SIGN[:, None], -np.inf)
    return np.asarray(ends.max(axis=2), np.float64)


def _learnt(state: State) -> State:
    """Take in how the forecast of one horizon ago has ended: in the levels, the weights and the errors."""
    whole = state.share.mean(axis=1) >= WINDOW_SHARE_MIN
    target = np.where(whole[:, None], _extremes(state), np.nan)  # (n_area, 2)
    level, scale = state.base[:, 0, :1], state.base[:, 0, 1:]
    error = (target - state.centre[:, 0]) / scale
    known = np.isfinite(error)
    below = target[:, :, None] <= state.told[:, 0]
    moved = np.sort(np.clip(state.wanted + GAMMA * (np.array(LEVELS) - below), LEAST, MOST), axis=2)

    x = np.where(known[:, :, None], state.feature[:, 0], 0.0)  # (n_area, 2, 3)
    rest = (target - level * SIGN) / scale - np.sum(x * PRIOR_WEIGHT, axis=2)
    rest = np.clip(np.where(known, rest, 0.0), -REST_FAR, REST_FAR)
    inside = known & (target >= state.told[:, 0, :, 0]) & (target <= state.told[:, 0, :, -1])
    fade = np.where(known, 0.5 ** (STEP_S / 86_400.0 / HELD_HALF_LIFE_DAYS), 1.0)
    keep = np.where(known.any(axis=1), 0.5 ** (STEP_S / 86_400.0 / WEIGHT_HALF_LIFE_DAYS), 1.0)
    state = replace(
        state,
        wanted=np.where(known[:, :, None], moved, state.wanted),
        held=fade[:, :, None] * state.held + np.stack([inside, known], axis=2),
        square=keep[:, None, None] * state.square + np.sum(x[:, :, :, None] * x[:, :, None, :], axis=1),
        product=keep[:, None] * state.product + np.sum(x * rest[:, :, None], axis=1),
    )
    return _remembered(state, error, known) if state.number % ERROR_EVERY == 0 else state


def _remembered(state: State, error: F64, known: Bool) -> State:
    """Put the known errors (n_area, 2) over the oldest ones."""
    area, side = np.nonzero(known)
    place = (PRIOR_REPEAT * PRIOR_ERROR.size + state.errors[area, side]) % ERROR_ROWS
    memory, count = state.error.copy(), state.errors.copy()
    memory[area, side, place] = np.clip(error[area, side], -ERROR_FAR, ERROR_FAR)
    count[area, side] += 1
    return replace(state, error=memory, errors=count)


def _mean(sums: F64) -> F64:
    """Return the mean (n_area,) of faded sums (n_area, 2); NaN before the first value."""
    some = sums[:, 1] > 0.0
    return np.where(some, sums[:, 0] / np.where(some, sums[:, 1], 1.0), np.nan)


def _faded(sums: F64, values: F64, known: Bool) -> F64:
    """Return faded sums (n_area, 2) with the known ones of `values` (n_area,) taken in; a gap does not fade them."""
    keep = 0.5 ** (1.0 / FADE_MIN)
    taken = keep * sums + np.stack([np.where(known, values, 0.0), known.astype(np.float64)], axis=1)
    return np.where(known[:, None], taken, sums)


def _levelled(state: State, values: F64, known: Bool) -> State:
    """Take one minute (n_area, 3) into level and spread."""
    level = _faded(state.level, values[:, 2], known)
    apart = np.abs(values[:, :2] - _mean(level)[:, None])
    before = np.sqrt(_mean(state.spread))
    enough = state.spread[:, 1] >= LAST_MIN - 1
    limit = np.where(enough, FAR * np.maximum(before, SCALE_FLOOR_HZ), np.inf)
    squared = np.mean(np.square(np.minimum(apart, limit[:, None])), axis=1)
    return replace(state, level=level, spread=_faded(state.spread, squared, known))


def _told(state: State) -> State:
    """Append what is told after the last minute."""
    level = _mean(state.level)
    young = 1.0 + YOUNG_MIN / np.maximum(state.spread[:, 1], 1.0)
    scale = np.maximum(np.sqrt(_mean(state.spread) * young), SCALE_FLOOR_HZ)
    enough = state.share.mean(axis=1) >= RECENT_SHARE_MIN
    scale = np.where(enough, scale, np.nan)
    largest = np.where(enough[:, None], _extremes(state), np.nan)
    x = np.stack(
        [
            np.ones_like(largest),
            (_last(state.recent[:, 2], level) - level)[:, None] * SIGN / scale[:, None],
            (largest - level[:, None] * SIGN) / scale[:, None],
        ],
        axis=2,
    )
    x = np.clip(x, -FAR, FAR)  # (n_area, 2, 3)
    held = state.square + PRIOR_ROWS * np.eye(PRIOR_WEIGHT.size)
    weight = PRIOR_WEIGHT + np.linalg.solve(held, state.product[:, :, None])[:, :, 0]
    centre = level[:, None] * SIGN + scale[:, None] * np.sum(x * weight[:, None, :], axis=2)
    told = centre[:, :, None] + scale[:, None, None] * _errors_at(state.error, state.wanted)
    return replace(
        state,
        told=_pushed(state.told, told, axis=1),
        centre=_pushed(state.centre, centre, axis=1),
        base=_pushed(state.base, np.stack([level, scale], axis=1), axis=1),
        feature=_pushed(state.feature, x, axis=1),
    )


def _last(mean_hz: F64, level: F64) -> F64:
    """Return the last known mean (n_area,) of the newest `LAST_MIN` minutes; the level where none is known."""
    newest = mean_hz[:, -LAST_MIN:][:, ::-1]
    known = np.isfinite(newest)
    found = np.take_along_axis(newest, known.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(known.any(axis=1), found, level)


def _errors_at(error: F64, wanted: F64) -> F64:
    """Return the quantiles (n_area, 2, 7) of errors (n_area, 2, n) at these levels, stretched beyond the outermost."""
    ordered = np.sort(error, axis=2)  # NaN last
    count = np.isfinite(ordered).sum(axis=2)[:, :, None]
    place = np.clip(np.clip(wanted, 0.0, 1.0) * count - 0.5, 0.0, count - 1.0)
    left = np.minimum(place.astype(np.int64), count - 2)
    low, high = (np.take_along_axis(ordered, left + k, axis=2) for k in (0, 1))
    found = low + (place - left) * (high - low)
    beyond = np.minimum(wanted, 0.0) + np.maximum(wanted - 1.0, 0.0)
    return np.maximum.accumulate(found + STRETCH * beyond * np.abs(found), axis=2)

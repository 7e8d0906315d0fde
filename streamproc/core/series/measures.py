"""How good forecasts were: errors of the middle, of the quantiles, and of the bands.

Arrays are (n,) pairs of truth and forecast, or (n_quantile, n) for quantiles; rows in which either is NaN count
nowhere. Where a figure has no meaning (no row, a constant truth) it is NaN, never 0.

    rMAE, rPinball     over P99 - P1 of the truth: comparable between a feeder and a country
    MASE               over the mean error of "as yesterday" within the training range (Hyndman and Koehler 2006)
    MAPE               rows near zero are left out, because there a percentage says nothing; the share is told
    pinball            mean over the quantiles, without a factor of two: at P50 alone it is half the MAE
    Winkler            width of the 90 % band, plus 2/0.1 times the distance of a miss (Winkler 1972; Gneiting and
                       Raftery 2007)
    worst 30 days      the lowest share of rows within the band in any 30 local days on end: a band that is right
                       on average over a year can be wrong for a whole summer
    interval           2.5 to 97.5 % of 1,000 draws of days with replacement: the errors of one day belong together
"""

from __future__ import annotations

import numpy as np

from streamproc.values import F64, I64, Bool

NEAR_ZERO_RATIO = 0.02  # of the mean size of the truth: below, a row does not count in MAPE
WINDOW_DAYS = 30
DRAWS = 1000
BAND = 0.90  # share that lies within P05 .. P95 if the band is right


def span_of(truth: F64) -> float:
    """Return P99 - P1 of the known truth; NaN if nothing is known or it does not move."""
    known = truth[np.isfinite(truth)]
    if known.size == 0:
        return float("nan")
    low, high = np.quantile(known, (0.01, 0.99))
    return float(high - low) if high > low else float("nan")


def mean_of(values: F64) -> float:
    """Return the mean of what is known; NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def rmse(error: F64) -> float:
    """Return the root mean square of the known errors."""
    return float(np.sqrt(mean_of(error * error)))


def mape(truth: F64, error: F64) -> tuple[float, float]:
    """Return the mean absolute percentage error in %, and the share of the rows left out because near zero."""
    known = np.isfinite(truth) & np.isfinite(error)
    size = np.abs(truth[known])
    if size.size == 0:
        return float("nan"), float("nan")
    near = size <= NEAR_ZERO_RATIO * float(size.mean())
    far = ~near
    if not far.any():
        return float("nan"), 1.0
    return float(100.0 * np.mean(np.abs(error[known][far]) / size[far])), float(near.mean())


def pinball(truth: F64, quantiles: F64, levels: tuple[float, ...]) -> F64:
    """Return the pinball loss (n,), the mean over the quantiles (n_quantile, n)."""
    level = np.array(levels)[:, None]
    miss = truth[None, :] - quantiles  # (n_quantile, n)
    return np.asarray(np.mean(np.maximum(level * miss, (level - 1.0) * miss), axis=0), np.float64)


def winkler(truth: F64, low: F64, high: F64) -> F64:
    """Return the interval score (n,) of 90 % bands."""
    alpha = 1.0 - BAND
    below, above = np.maximum(low - truth, 0.0), np.maximum(truth - high, 0.0)
    return np.asarray(high - low + 2.0 / alpha * (below + above), np.float64)


def within(truth: F64, low: F64, high: F64) -> F64:
    """Return 1 where the truth lies within the band, 0 where not, NaN where one of the three is unknown (n,)."""
    inside = ((truth >= low) & (truth <= high)).astype(np.float64)
    return np.where(np.isfinite(truth + low + high), inside, np.nan)


def rolling_share(inside: F64, day: I64, days: int = WINDOW_DAYS) -> tuple[I64, F64]:
    """Return the last day (n_window,) and the share within the band (n_window,) of every `days` days on end.

    `inside` (n,) of 0, 1 and NaN with its local day (n,). Nothing when there are fewer days.
    """
    known = np.isfinite(inside)
    if not known.any():
        return np.zeros(0, np.int64), np.zeros(0)
    first = int(day[known].min())
    place = day[known] - first
    hits, counts = np.bincount(place, inside[known]), np.bincount(place)
    if hits.size < days:
        return np.zeros(0, np.int64), np.zeros(0)
    window = np.ones(days)
    total = np.convolve(counts.astype(np.float64), window, "valid")
    share = np.convolve(hits, window, "valid") / np.maximum(total, 1.0)
    last = first + days - 1 + np.arange(share.size)
    enough = total >= 0.5 * counts.mean() * days  # a window that is mostly gaps proves nothing
    return last[enough], share[enough]


def daily_sums(values: F64, day: I64) -> tuple[I64, F64, F64]:
    """Return the days (n_day,), the sums (n_day,) and the counts (n_day,) of the known values (n,)."""
    known = np.isfinite(values)
    days, place = np.unique(day[known], return_inverse=True)
    count = np.bincount(place, minlength=days.size).astype(np.float64)
    return days, np.bincount(place, values[known], days.size).astype(np.float64), count


def bootstrap_ratio(top: F64, bottom: F64, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % interval of sum(top) / sum(bottom) over days (n_day,) drawn with replacement; NaN: < 2 days."""
    n = top.size
    if n < 2:
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(0, n, (draws, n))
    below = bottom[chosen].sum(axis=1)
    ratio = top[chosen].sum(axis=1) / np.where(below == 0.0, np.nan, below)
    if not np.isfinite(ratio).any():
        return float("nan"), float("nan")
    low, high = np.nanquantile(ratio, (0.025, 0.975))
    return float(low), float(high)


def skill(error: float, base: float) -> float:
    """Return 1 - error / base: 1 is perfect, 0 no better than the base, negative is worse; NaN without a base."""
    return 1.0 - error / base if base > 0.0 else float("nan")


def scaling_error(value: F64, lagged: F64, before: Bool) -> float:
    """Return the mean absolute error of "as a lag ago" on the rows `before` the test: the unit of MASE; NaN if 0."""
    scale = mean_of(np.abs(value - lagged)[before])
    return scale if scale > 0.0 else float("nan")

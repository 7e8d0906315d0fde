"""Oscillation modes of a grid at rest: frequency, damping and shape from minutes of small random movement.

First guesses. The covariance functions of data that noise drives through a linear system are sums of its damped
exponentials (James, Carne and Lauffer, SAND92-1666, 1993): the matrix pencil of `modes` finds the poles in them, for
several spans of lags and several orders; and so do peaks of the spectrum, for modes too weak for that.

Then the decision. Each guess is a resonance over a background, fitted to the periodogram along its shape by Whittle's
likelihood (Ark. Mat. 2, 1953): an ordinate is exponential around the spectrum. A mode is what the data need: without it,
and with its neighbours fitted anew, they are less likely by a margin that noise does not reach. The inverse information
gives the 90 % intervals, the one of the damping in its logarithm, because a resonance curve determines ratios of widths.
The guess of the damping enters as a weak opinion (a factor of 1.6), so that a lucky pair of bins does not make a line.

What three minutes can tell is bounded: the standard deviation of the damping is a third of it and more
(`1 / sqrt(2 pi damping cycles)`); ten minutes halve that.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from streamproc.core.modes import (
    LOW_HZ,
    Z90,
    Modes,
    bridged,
    frequency_of,
    interval,
    normal,
    pencil,
    products,
    thinned,
    top_hz,
    usable,
    weights,
)
from streamproc.values import C128, F64, Bool

_Guess: TypeAlias = tuple[float, float]  # frequency Hz, damping ratio

SPAN_MIN_S = 40.0
GAP_MAX_S = 0.5
LAGS = ((6.0, 1), (10.0, 2), (20.0, 3))  # spans (s) of lags, and every how manyth of them
ORDERS = (6, 10, 14)
N_COMPONENT = 5  # principal components of the channels in which poles are looked for
STABLE_MIN = 0.3
APART_HZ, APART_RATIO = 0.03, 0.04  # guesses closer than this are one
PEAK_MAX, PEAK_RATIO, PEAK_DAMPING = 8, 1.3, 0.03
DAMPING_MAX = 0.25
ENERGY_MIN = 0.02
EVIDENCE_MIN = 14.0  # twice the gain in log-likelihood that a mode brings; noise reaches 9
SPREAD_MAX = 1.1  # of the logarithm of the damping
# Reach of a fit to both sides: half widths of the resonance, bins of the periodogram, part of the frequency.
WIDTHS, SIDE_BINS, SIDE_RATIO = 6.0, 8.0, 0.35
# Standard deviations of the frequency and the logarithm of the damping, over those of the information, which holds for
# endless data.
FINITE = np.array([1.2, 1.1])
RESOLVED = 0.6  # half width in bins below which a resonance is a line
NARROWEST = 0.3  # half width of a resonance that the fit may choose, in bins
OPINION = 4.0  # weight of the pencil's damping: 1 / (standard deviation of its logarithm)^2


def ambient(values: F64, rate_hz: float, *, energy_min: float = ENERGY_MIN) -> Modes:
    """Return the modes in `values` (n_row, n_channel), rows at `rate_hz` (10 to 120 Hz), all channels in one unit.

    Give it two to twenty minutes without a large event. Gaps (NaN) of up to half a second are bridged, a channel with a
    longer one is not used. Slow movement need not be taken out. Shape, energy and intervals are as in `modes.Modes`; the
    energy share is that within 0.1 to 5 Hz. A sustained forced oscillation looks like a mode with little damping here:
    ask `mode_forced`.
    """
    values = bridged(values, int(GAP_MAX_S * rate_hz))
    used = usable(values)
    rows, rate, n_filter = thinned(values[:, used].astype(np.float64), rate_hz)
    if rows.shape[0] < SPAN_MIN_S * rate or not np.ptp(rows, axis=0).any():
        return Modes.none(values.shape[1])
    weight = weights(rows)
    rows = np.diff(rows, axis=0) * weight  # whitens the walk of the frequency; undone in `_spectrum`
    spectrum = _spectrum(rows, rate)
    needed: list[_Guess] = []
    for guess in [*_guesses(rows, rate, n_filter + 2), *_peaks(spectrum)]:
        fresh = all(abs(guess[0] - at_hz) > max(APART_HZ, APART_RATIO * at_hz) for at_hz, _ in needed)
        if fresh and _evidence(spectrum, guess, needed) >= EVIDENCE_MIN:
            needed.append(guess)
    found = [_resonance(spectrum, guess, needed) for guess in needed]
    good = [mode for mode in found if mode is not None and mode.energy >= energy_min]
    good.sort(key=lambda mode: -mode.energy)
    if not good:
        return Modes.none(values.shape[1])
    shape = np.full((len(good), values.shape[1]), np.nan, dtype=np.complex128)
    shape[:, used] = normal(np.stack([mode.shape for mode in good]) / weight)
    return Modes(
        np.concatenate([mode.freq_hz for mode in good]),
        np.concatenate([mode.damping_ratio for mode in good]),
        np.array([mode.energy for mode in good]),
        shape,
    )


def _guesses(rows: F64, rate_hz: float, first_lag: int) -> list[_Guess]:
    """Return (frequency Hz, damping ratio) of what most pencils show, in the order of their agreement."""
    n_row = rows.shape[0]
    _, axes = np.linalg.eigh(rows.T @ rows)
    parts = rows @ axes[:, -N_COMPONENT:]
    size = 1 << (2 * n_row - 1).bit_length()
    lines = np.fft.rfft(parts, size, axis=0)
    cross = (lines[:, :, None] * lines[:, None, :].conj()).reshape(lines.shape[0], -1)
    covariance = np.fft.irfft(cross, size, axis=0)
    pencils: list[C128] = []
    for span_s, stride in LAGS:
        lag = np.arange(first_lag, first_lag + round(span_s * rate_hz), stride)
        sums = products(covariance[lag] / (n_row - lag)[:, None], lag.size // 2)
        pencils += [poles / stride for poles in pencil(sums, lag.size // 2, ORDERS)[1]]
    owner = np.repeat(np.arange(len(pencils)), [poles.size for poles in pencils])
    freq_hz, damping = frequency_of(np.concatenate(pencils), rate_hz)
    inside = (freq_hz >= LOW_HZ) & (freq_hz <= top_hz(rate_hz)) & (damping < DAMPING_MAX) & (damping > -0.02)
    freq_hz, damping, owner = freq_hz[inside], damping[inside], owner[inside]
    near = np.abs(freq_hz[:, None] - freq_hz) < np.maximum(APART_HZ, APART_RATIO * freq_hz)[:, None]
    near &= np.abs(damping[:, None] - damping) < 0.05
    return _agreed(freq_hz, damping, near, owner[:, None] == np.arange(len(pencils)))


def _agreed(freq_hz: F64, damping: F64, near: Bool, owned: Bool) -> list[_Guess]:
    guesses = []
    free = np.ones(freq_hz.size, dtype=np.bool_)
    while free.any():
        group = near & free
        votes = np.where(free, ((group.astype(np.float64) @ owned) > 0).sum(axis=1), 0)
        best = int(np.argmax(votes))
        if votes[best] < STABLE_MIN * owned.shape[1]:
            break
        guesses.append((float(np.median(freq_hz[group[best]])), float(np.median(damping[group[best]]))))
        free &= ~group[best] & (np.abs(freq_hz - guesses[-1][0]) > APART_HZ)
    return guesses


class _Spectrum(NamedTuple):
    freq_hz: F64  # (n_bin,) within the band
    lines: C128  # (n_bin, n_channel) Fourier coefficients, their square is a periodogram
    parts: C128  # (n_bin, n_part) the same for the principal components
    power: float  # of all channels within the band
    bin_hz: float
    rate_hz: float


def _spectrum(steps: F64, rate_hz: float) -> _Spectrum:
    """Return the lines of the signal whose differences are given."""
    n_row = steps.shape[0]
    freq_hz = np.fft.rfftfreq(n_row, 1 / rate_hz)
    inside = (freq_hz >= LOW_HZ / 2) & (freq_hz <= 1.1 * top_hz(rate_hz))
    gain = 2 * np.sin(np.pi * freq_hz[inside] / rate_hz)[:, None]
    lines = np.fft.rfft(steps, axis=0)[inside] / (np.sqrt(n_row) * gain)
    _, axes = np.linalg.eigh(steps.T @ steps)
    band = lines[(freq_hz[inside] >= LOW_HZ) & (freq_hz[inside] <= top_hz(rate_hz))]
    power = float((np.abs(band) ** 2).sum())
    parts = lines @ axes[:, -N_COMPONENT:]
    return _Spectrum(np.asarray(freq_hz[inside], np.float64), lines, parts, power, rate_hz / n_row, rate_hz)


def _peaks(spectrum: _Spectrum) -> list[_Guess]:
    """Return guesses where the spectrum stands out of its surroundings: modes too weak for the pencils."""
    gain = np.sin(np.pi * spectrum.freq_hz / spectrum.rate_hz) ** 2  # flat again
    power = (np.abs(spectrum.parts) ** 2).sum(axis=1) * gain
    ratio = _smooth(power, spectrum, 2, 0.025) / _smooth(power, spectrum, 12, 0.3)
    ratio[(spectrum.freq_hz < LOW_HZ) | (spectrum.freq_hz > top_hz(spectrum.rate_hz))] = 0.0
    guesses: list[_Guess] = []
    while len(guesses) < PEAK_MAX and ratio.max() > PEAK_RATIO:
        at_hz = float(spectrum.freq_hz[int(np.argmax(ratio))])
        guesses.append((at_hz, PEAK_DAMPING))
        ratio[np.abs(spectrum.freq_hz - at_hz) < max(2 * APART_HZ, 2 * APART_RATIO * at_hz)] = 0.0
    return guesses


def _smooth(power: F64, spectrum: _Spectrum, bins: int, ratio: float) -> F64:
    """Return the mean over so many bins to both sides, or that part of the frequency if it is more."""
    reach = np.maximum(bins, ratio * spectrum.freq_hz / spectrum.bin_hz).astype(np.int64)
    at = np.arange(power.size)
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, power.size)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    return np.asarray((sums[high] - sums[low]) / (high - low))


class _Near(NamedTuple):
    likelihood: Likelihood
    along: C128  # (n_bin,) lines along the shape that has most power near the guess
    close: Bool  # (n_bin,) bins that tell the shape


def _near(spectrum: _Spectrum, guess: _Guess, others: list[_Guess]) -> _Near:
    at_hz, damping = guess[0], max(guess[1], NARROWEST * spectrum.bin_hz / guess[0])
    away = np.abs(spectrum.freq_hz - at_hz)
    close = away <= max(2 * damping * at_hz, SIDE_BINS * spectrum.bin_hz)
    _, axes = np.linalg.eigh(spectrum.parts[close].conj().T @ spectrum.parts[close])
    along = spectrum.parts @ axes[:, -1]
    reach = min(max(WIDTHS * damping * at_hz, SIDE_BINS * spectrum.bin_hz), SIDE_RATIO * at_hz)
    near = away <= reach
    beside = [(f, z) for f, z in others if f != at_hz and abs(f - at_hz) < reach + 2 * f * z]
    power = np.abs(along[near]) ** 2
    return _Near(Likelihood(spectrum.freq_hz[near], power, (at_hz, damping), beside), along, close)


def _evidence(spectrum: _Spectrum, guess: _Guess, needed: list[_Guess]) -> float:
    """Return twice the gain in log-likelihood by a mode, over the modes that are known to be needed.

    The rivals are the background with those modes as they are, and each of those nearby on its own with its frequency
    and damping fitted anew: a wide resonance must not come out as two narrow ones.
    """
    near = _near(spectrum, guess, needed)
    rivals = [near.likelihood.climb(near.likelihood.start(), alone=True)]
    rivals += [other.climb(other.start()) for other in near.likelihood.each_other()]
    best = near.likelihood.climb(near.likelihood.start())
    return 2 * (best.log_likelihood - max(rival.log_likelihood for rival in rivals))


class _Mode(NamedTuple):
    freq_hz: F64  # (1, 3)
    damping_ratio: F64  # (1, 3)
    energy: float
    shape: C128  # (n_channel,)


def _resonance(spectrum: _Spectrum, guess: _Guess, needed: list[_Guess]) -> _Mode | None:
    """Return the mode that is fitted around a guess, None if its damping cannot be told."""
    likelihood, along, close = _near(spectrum, guess, needed)
    best = likelihood.climb(likelihood.start())
    sd = best.sd()
    natural_hz, ratio = float(best.theta[0]), float(np.exp(best.theta[1]))
    damping = ratio * np.exp(np.array([[0.0, -Z90 * sd[1], Z90 * sd[1]]]).clip(-5.0, 5.0))
    bin_ratio = spectrum.bin_hz / natural_hz
    if ratio < RESOLVED * bin_ratio:  # narrower than the window can tell: anything from nothing to a bin
        damping = np.array([[ratio, 0.0, bin_ratio]])
    elif sd[1] > SPREAD_MAX:
        return None
    seen = np.sqrt(1 - min(ratio, 0.9) ** 2)
    weight = np.abs(along[close]) ** 2
    shape = (spectrum.lines[close] * along[close].conj()[:, None]).sum(axis=0) / weight.sum()
    band = spectrum.freq_hz >= LOW_HZ
    total = likelihood.resonance(best.theta, spectrum.freq_hz[band]).sum() / spectrum.power
    return _Mode(
        interval(np.array([natural_hz * seen]), sd[:1]), damping, float(min(total, 1.0)), np.asarray(shape)
    )


class _Fitted(NamedTuple):
    theta: F64
    log_likelihood: float
    information: F64

    def sd(self) -> F64:
        """Return the standard deviations (2,) of the frequency (Hz) and of the logarithm of the damping."""
        weak = np.diag(
            [0.0, 0.0] + [0.1] * (self.theta.size - 2)
        )  # a level that is nowhere near tells nothing
        return np.asarray(FINITE * np.sqrt(np.diag(np.linalg.pinv(self.information + weak))[:2]))


class Likelihood:
    """Whittle's likelihood of a resonance over a background, given one series' periodogram near it.

    The spectrum at x = f / guess is (a + b x^2) D(f) + c + d / x^2 + sum of e_i D_i(f), all levels positive, with
    D = 1 / ((1 - v^2)^2 + (2 damping v)^2) and v = f / frequency; D_i are other modes, held at their guesses.
    theta = (frequency, log damping, log a, log b, log c, log d, log e_i ...).
    """

    def __init__(self, freq_hz: F64, power: F64, guess: _Guess, others: list[_Guess]) -> None:
        self._freq_hz, self._power, self._others = freq_hz, power, others
        self._narrowest = NARROWEST * (freq_hz[1] - freq_hz[0]) / guess[0]
        self._guess = (guess[0], max(guess[1], self._narrowest))
        self._ratio = freq_hz / guess[0]
        fixed = [_curve(freq_hz / f, max(z, self._narrowest))[0] for f, z in others]
        self._fixed = np.stack([np.ones_like(freq_hz), self._ratio**-2, *fixed])
        self._level = float(np.median(power))

    def each_other(self) -> list[Likelihood]:
        """Return the same data with each of the other modes in the place of this one."""
        return [
            Likelihood(self._freq_hz, self._power, one, [other for other in self._others if other != one])
            for one in self._others
        ]

    def start(self) -> F64:
        """Return the theta to begin with."""
        freq_hz, damping = self._guess
        peak = np.log(max(float(self._power.max()) / 2, self._level) * 2 * damping**2)
        others = [np.log(self._level * damping**2)] * (self._fixed.shape[0] - 2)
        low = np.log(self._level / 4)
        return np.array([freq_hz, np.log(damping), peak, peak, low, low, *others])

    def resonance(self, theta: F64, freq_hz: F64) -> F64:
        """Return the mode's own spectrum at any frequencies."""
        curve = _curve(freq_hz / theta[0], float(np.exp(theta[1])))[0]
        return np.asarray((np.exp(theta[2]) + np.exp(theta[3]) * (freq_hz / self._guess[0]) ** 2) * curve)

    def _spectrum(self, theta: F64) -> tuple[F64, F64]:
        """Return the spectrum (n_bin,) and the derivatives of its logarithm (n_theta, n_bin)."""
        curve, to_v, to_log = _curve(self._freq_hz / theta[0], float(np.exp(theta[1])))
        own = np.stack([curve, curve * self._ratio**2]) * np.exp(theta[2:4, None])
        under = self._fixed * np.exp(theta[4:, None])
        mode = own.sum(axis=0)
        whole = mode + under.sum(axis=0)
        slope = np.concatenate([[-mode * to_v / theta[0], mode * to_log], own, under])
        return whole, slope / whole

    def climb(self, theta: F64, *, alone: bool = False) -> _Fitted:
        """Return the maximum found from theta by Fisher scoring; `alone`: of the background and others alone."""
        n_held = 4 if alone else 0
        theta = np.where(np.isin(np.arange(theta.size), (2, 3)) & alone, -60.0, theta)
        low = np.full(theta.size, np.log(self._level) - 16.0)
        low[:2] = 0.95 * self._guess[0], np.log(self._narrowest)
        low[:n_held] = theta[:n_held]
        high = np.full(theta.size, np.inf)
        high[:2] = 1.05 * self._guess[0], np.log(0.5)
        free = np.arange(theta.size) >= n_held
        unit = np.ones(theta.size)
        unit[0] = 0.01 * self._guess[0]
        value, whole, slope = self._value(theta)
        damp = 1e-3
        for _ in range(30):
            slope = slope * free[:, None]
            information = slope @ slope.T
            pull = slope @ (self._power / whole - 1)
            information[1, 1] += OPINION * free[1]
            pull[1] -= OPINION * free[1] * (theta[1] - np.log(self._guess[1]))
            steady = np.diag(damp * np.diag(information) + 1e-4 / unit**2)
            step = np.clip(np.linalg.solve(information + steady, pull), -unit, unit)
            trial = np.clip(theta + step, low, high)
            trial_value, trial_whole, trial_slope = self._value(trial)
            if trial_value < value:
                damp = 6 * damp + 1e-3
                continue
            gain = trial_value - value
            theta, value, whole, slope = trial, trial_value, trial_whole, trial_slope
            damp = max(damp / 4, 1e-6)
            if gain < 1e-5:
                break
        return _Fitted(theta, value, slope @ slope.T)

    def _value(self, theta: F64) -> tuple[float, F64, F64]:
        whole, slope = self._spectrum(theta)
        opinion = OPINION * float(theta[1] - np.log(self._guess[1])) ** 2 / 2
        return -float((np.log(whole) + self._power / whole).sum()) - opinion, whole, slope


def _curve(v: F64, damping: float) -> tuple[F64, F64, F64]:
    """Return a resonance curve D(v), and v and damping times the derivatives of log D."""
    below = 1 - v * v
    width = 4 * damping**2 * v * v
    curve = 1 / (below**2 + width)
    return curve, curve * (4 * v * v * below - 2 * width), -2 * curve * width

"""Oscillation modes of a ring-down: frequency, damping and shape from the seconds after a disturbance.

The method is the matrix pencil (Hua and Sarkar, IEEE Trans. ASSP 38, 1990, 814-824) over all channels at once: the
windows of every channel are rows of one Hankel matrix, its strongest right singular vectors span the space of the damped
exponentials, and the shift within that space has the poles as eigenvalues. A mode is a pole in the band that has a
share of the energy, more power than noise has by chance, and an interval that says something.

The 90 % interval has three parts, added as variances: the linear propagation of the residual's own spectrum around the
mode (the noise need not be white, nor independent from channel to channel), the spread over nine pencils of different
length and order, and the difference between the first and the last three fifths of the window, which is large when the
mode is driven by more than its beginning. In white noise it holds the truth more often than nine times of ten; when the
grid at rest drives the same mode with a tenth of the ring-down's amplitude, 84 to 90 times of a hundred.

`streamproc.core.mode_ambient` has the modes of a grid at rest, `mode_forced` the guard against forced oscillations,
`mode_source` where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streamproc.values import C128, F64, Bool

LOW_HZ, HIGH_HZ = 0.1, 5.0  # modes of interest
TOP_RATIO = 0.36  # of the thinned rate: above, the low-pass bends what is seen
THIN_HZ = 15.0  # aim of thinning
SENSELESS = 1e12
NOISY = 3.0
Z90 = 1.645  # half the width of a 90 % interval in standard deviations

LENGTHS = (1 / 3, 0.4, 0.5)  # pencil lengths, as parts of the window
EXTRA = (0, 2, 4)  # poles beyond those that stand out of the noise
LENGTH_MAX = 80
ORDER_MAX = 16
OUTSTANDING = 2.5  # a singular value over this times the median one is no noise
CHANCE = 2.0  # a mode has this times the power that noise has by chance
CYCLES_MIN = 1.5
ROWS_MIN = 24  # after thinning
ENERGY_MIN = 0.02
FAR_ROW, FAR_RATIO = 0.05, 0.2  # two poles are far apart: per row, and of their size
DAMPING_RANGE = (-0.1, 0.3)
DAMPING_WIDTH_MAX = 0.1  # half width of an interval that still says something
BIN_REACHES = (2.5, 5.0)  # periodogram bins to both sides of a mode that tell the noise there


@dataclass(frozen=True, slots=True)
class Modes:
    """Modes of one window, the one with the most energy first. No mode: all arrays are empty.

    The last axis of `freq_hz` and `damping_ratio` is (value, low, high), a 90 % interval. `energy` is the share 0..1 of
    the mode in what was seen, the residual included; a noisy channel counts less (`weights`). `shape` is complex, one
    number per channel of the input: size and phase with which the channel swings, relative to the channel that swings
    most; NaN: channel not used.
    """

    freq_hz: F64  # (n_mode, 3) Hz
    damping_ratio: F64  # (n_mode, 3)
    energy: F64  # (n_mode,)
    shape: C128  # (n_mode, n_channel)

    @classmethod
    def none(cls, n_channel: int) -> Modes:
        """Return no modes."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, n_channel), np.complex128))


def usable(values: F64) -> Bool:
    """Return which channels (n_channel,) have no unknown sample and none beyond all measure."""
    return np.asarray((np.abs(values) < SENSELESS).all(axis=0))


def bridged(values: F64, gap_max: int) -> F64:
    """Return `values` (n_row, n_channel) with gaps (NaN) of up to `gap_max` rows crossed by straight lines."""
    n_row = values.shape[0]
    known = np.isfinite(values)
    if known.all():
        return values
    values = np.where(known, values, np.nan)
    row = np.arange(n_row)[:, None]
    before = np.maximum.accumulate(np.where(known, row, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, row, n_row)[::-1], axis=0)[::-1]
    inner = ~known & (before >= 0) & (after < n_row) & (after - before - 1 <= gap_max)
    left = np.take_along_axis(values, np.maximum(before, 0), axis=0)
    right = np.take_along_axis(values, np.minimum(after, n_row - 1), axis=0)
    share = (row - before) / np.maximum(after - before, 1)
    return np.where(inner, left + (right - left) * share, values)


def weights(rows: F64) -> F64:
    """Return factors (n_channel,) that keep a channel with much more noise than the others from drowning them.

    The noise is what fourth differences show; a channel with up to three times the median noise counts in full.
    """
    noise = np.sqrt((np.diff(rows, 4, axis=0) ** 2).mean(axis=0))
    plenty = NOISY * float(np.median(noise))
    return np.asarray(plenty / np.maximum(noise, plenty)) if plenty > 0 else np.ones_like(noise)


def thinned(values: F64, rate_hz: float) -> tuple[F64, float, int]:
    """Return the values after a low-pass and at some 15 Hz (10 to 22.5), that rate, and the filter's length in thinned rows.

    Only rows that the symmetric filter covers in full come back, so a damped exponential stays exactly one: its pole
    is untouched, its amplitude is scaled by the filter's gain (1 within 4 % up to `top_hz`).
    """
    step = max(1, round(rate_hz / THIN_HZ))
    if step == 1 or values.shape[0] < 8 * step + 1:
        return values, rate_hz, 0
    at = np.arange(-4 * step, 4 * step + 1)
    taps = np.sinc(at / step) * np.kaiser(at.size, 2.5)
    taps /= taps.sum()
    stop = values.shape[0] - taps.size + 1
    rows = np.zeros(values[:stop:step].shape)
    for first, tap in enumerate(taps):  # a matrix product over windows would copy every row `taps.size` times
        rows += tap * values[first : first + stop : step]
    return rows, rate_hz / step, 8


def top_hz(rate_hz: float) -> float:
    """Return the highest frequency (Hz) at which a mode is looked for at a thinned rate."""
    return min(HIGH_HZ, TOP_RATIO * rate_hz)


def products(rows: F64, length: int) -> F64:
    """Return sums from which `pencil` takes the Gram matrices of `rows` (n_row, n_channel), up to a pencil length.

    Element [t, d] is the sum over channels and over rows before t of rows[t] * rows[t + d].
    """
    padded = np.concatenate([rows, np.zeros((length, rows.shape[1]))])
    ahead = sliding_window_view(padded, length + 1, axis=0)  # (n_row, n_channel, length + 1)
    sums = np.cumsum(np.einsum("tc,tcd->td", rows, ahead), axis=0)
    return np.concatenate([np.zeros((1, length + 1)), sums])


def pencil(
    sums: F64, length: int, orders: Sequence[int] = (), part: slice | None = None
) -> tuple[F64, list[C128]]:
    """Return the singular values of the Hankel matrix of rows, given their `products`, and the poles for each order.

    Poles are logarithms per row, `damping + j * angle`; `part` takes some of the rows. The matrix is decomposed through
    its Gram matrix of size `length + 1`: singular values below 1e-7 of the largest are lost, noise is far above that.
    """
    first, stop, _ = (part or slice(None)).indices(sums.shape[0] - 1)
    at = np.arange(length + 1)
    low, apart = first + np.minimum(at[:, None], at), np.abs(at[:, None] - at)
    gram = sums[low + (stop - first - length), apart] - sums[low, apart]
    power, vectors = np.linalg.eigh(gram)
    singular = np.sqrt(np.maximum(power[::-1], 0.0))
    poles = []
    for order in orders:
        space = vectors[:, -order:]
        # (I - last last^T)^-1 first^T second: the pseudo-inverse of a basis that lacks its last row
        last = space[-1]
        shift = space[:-1].T @ space[1:]
        shift += np.outer(last, last @ shift) / max(1.0 - float(last @ last), 1e-12)
        roots = np.linalg.eigvals(shift).astype(np.complex128)
        poles.append(np.log(roots[np.abs(roots) > 1e-3]))
    return singular, poles


def frequency_of(poles: C128, rate_hz: float) -> tuple[F64, F64]:
    """Return the frequency that is seen (Hz; negative for conjugates) and the damping ratio of poles."""
    return poles.imag * rate_hz / (2 * np.pi), -poles.real / np.maximum(np.abs(poles), 1e-300)


def ring_down(values: F64, rate_hz: float, *, energy_min: float = ENERGY_MIN) -> Modes:
    """Return the modes in `values` (n_row, n_channel), rows at `rate_hz` (10 to 120 Hz), all channels in one unit.

    Give it 5 to 20 s that begin when the disturbance itself is over (a fault cleared, a trip done): a step within the
    window is no sum of exponentials. A channel with an unknown sample (NaN) is not used. A slow drift need not be
    taken out. Returns no modes when there is nothing that can be told.
    """
    modes = Modes.none(values.shape[1])
    used = usable(values)
    rows, rate, _ = thinned(values[:, used].astype(np.float64), rate_hz)
    n_row = rows.shape[0]
    if n_row < ROWS_MIN or not np.ptp(rows, axis=0).any():
        return modes
    weight = weights(rows)
    rows = (rows - rows.mean(axis=0)) * weight
    trial = _poles(rows)
    kept = trial.reference
    with np.errstate(all="ignore"):
        fit = _fit(rows, kept)
        freq_hz, damping = frequency_of(kept, rate)
        noise = _noise(rows, fit, kept)
        sd = np.sqrt(noise * fit.spread / 2 + _spread(trial, kept))  # of the pole, per row
        sd_hz, sd_damping = sd * rate / (2 * np.pi), sd / np.abs(kept)
    inside = (freq_hz >= LOW_HZ) & (freq_hz <= top_hz(rate))
    inside &= (damping > DAMPING_RANGE[0]) & (damping < DAMPING_RANGE[1])
    total = fit.energy[inside].sum() + (fit.residual**2).sum()
    good = inside & (fit.energy >= energy_min * total)
    good &= (Z90 * sd_damping <= DAMPING_WIDTH_MAX) & (freq_hz * n_row >= CYCLES_MIN * rate)
    good &= fit.strength >= CHANCE * noise * by_chance(rows.shape[1], n_row)
    order = np.flatnonzero(good)[np.argsort(-fit.energy[good], kind="stable")]
    shape = np.full((order.size, values.shape[1]), np.nan, dtype=np.complex128)
    shape[:, used] = normal(fit.amplitude[order] / weight)
    return Modes(
        interval(freq_hz[order], sd_hz[order]),
        interval(damping[order], sd_damping[order]),
        fit.energy[order] / total,
        shape,
    )


def interval(value: F64, sd: F64) -> F64:
    """Return (n, 3): value, low and high end of its 90 % interval."""
    return np.stack([value, value - Z90 * sd, value + Z90 * sd], axis=1)


def normal(shape: C128) -> C128:
    """Return shapes (n_mode, n_channel) divided by their largest element."""
    if shape.size == 0:
        return shape
    largest = np.argmax(np.abs(shape), axis=1)[:, None]
    return np.asarray(shape / np.take_along_axis(shape, largest, axis=1))


class _Trial(NamedTuple):
    reference: C128  # (n_pole,)
    others: list[C128]  # poles of the other pencils on the whole window
    halves: list[C128]  # of the first and of the last three fifths


def _poles(rows: F64) -> _Trial:
    n_row = rows.shape[0]
    lengths = [min(int(n_row * share), LENGTH_MAX) for share in LENGTHS]
    sums = products(rows, max(lengths))
    singular, _ = pencil(sums, lengths[1])
    floor = max(OUTSTANDING * float(np.median(singular)), 1e-6 * float(singular[0]))
    most = min(ORDER_MAX, lengths[0] // 2 - EXTRA[-1])
    order = int(np.clip(np.count_nonzero(singular > floor), 2, max(most, 2)))
    orders = [order + extra for extra in EXTRA]
    found = [pencil(sums, length, orders)[1] for length in lengths]
    some = 3 * n_row // 5
    length = min(int(some * LENGTHS[1]), LENGTH_MAX)
    halves = [pencil(sums, length, orders[1:2], part)[1][0] for part in (slice(some), slice(-some, None))]
    reference = found[1][1]
    # Left out: what is gone within a row or grows beyond all measure; it would only spoil the fit.
    reference = reference[(reference.real > -2.0) & (reference.real * n_row < 20.0)]
    return _Trial(reference, [poles for group in found for poles in group], halves)


class _Fit(NamedTuple):
    amplitude: C128  # (n_pole, n_channel)
    residual: F64  # (n_row, n_channel)
    energy: F64  # (n_pole,) of the pole and its conjugate
    strength: F64  # (n_pole,) sum of squares of the pole's wave, all channels
    spread: F64  # (n_pole,) variance of the complex pole in noise of unit power


def _fit(rows: F64, poles: C128) -> _Fit:
    """Return the least-squares amplitudes of the poles, and what the fit knows about each pole."""
    at = np.arange(rows.shape[0])[:, None]
    waves = np.exp(at * poles)
    size = np.sqrt((np.abs(waves) ** 2).sum(axis=0))
    inverse = np.linalg.pinv(waves / size, rcond=1e-9) / size[:, None]
    amplitude = inverse @ rows
    residual = rows - (waves @ amplitude).real
    power = amplitude.conj() @ amplitude.T  # (n_pole, n_pole), summed over channels
    lifted = at * waves
    lifted = lifted - waves @ (
        inverse @ lifted
    )  # the change of a wave with its pole that no amplitude explains
    information = (lifted.conj().T @ lifted) * power
    scale = np.sqrt(np.maximum(np.diag(information).real, 1e-300))
    whole = np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-9, hermitian=True)
    spread = np.maximum(np.diag(whole).real, 1.0) / scale**2
    own = size**2 * np.diag(power).real
    cross = (waves**2).sum(axis=0) * (amplitude**2).sum(axis=1)
    energy = 2.0 * (own + cross.real)  # sum of (2 Re amplitude wave)^2
    return _Fit(amplitude, residual, np.maximum(energy, 0.0), own, spread)


def _noise(rows: F64, fit: _Fit, poles: C128) -> F64:
    """Return the power (n_pole,) of the residual beside each pole, per row and along the mode's shape.

    Channels are summed as the mode's shape sums them, so noise that they have in common counts as often as it is there.
    """
    n_row = rows.shape[0]
    power = (np.abs(fit.amplitude) ** 2).sum(axis=1)
    along = fit.residual @ (fit.amplitude.conj() / np.sqrt(power)[:, None]).T  # (n_row, n_pole)
    periodogram = np.abs(np.fft.fft(along, axis=0)) ** 2 / n_row
    at = np.fft.fftfreq(n_row)
    turn = poles.imag / (2 * np.pi)
    away = np.abs(at[:, None] - turn) * n_row  # (n_bin, n_pole) in bins
    between = np.abs(turn[:, None] - turn) * n_row
    levels = []
    for reach in BIN_REACHES:
        near = away <= reach
        taken = 2 * (between <= reach).sum(axis=0)  # each pole takes the freedom of two bins
        levels.append((periodogram * near).sum(axis=0) / np.maximum(near.sum(axis=0) - taken, 1))
    return np.asarray(np.maximum(*levels))


def by_chance(n_channel: int, n_row: int) -> float:
    """Return the power that the strongest line of white noise has once in a hundred windows, noise being 1 a channel.

    The sum over channels of a periodogram ordinate is Gamma(n_channel); its quantile is that of Wilson and Hilferty.
    """
    tail = 0.01 / max(n_row / 2, 1)
    deviate = math.sqrt(-2 * math.log(tail))  # a little above the normal quantile
    return float(n_channel * (1 - 1 / (9 * n_channel) + deviate / (3 * math.sqrt(n_channel))) ** 3)


def _spread(trial: _Trial, poles: C128) -> F64:
    """Return the variance (n_pole,) of each pole's parts over pencils, and between the first and the last rows.

    A pole that another pencil does not have at all counts as far away, so it ends with an interval that says nothing.
    """
    far = FAR_ROW + FAR_RATIO * np.abs(poles)
    away = np.array([np.abs(other[:, None] - poles).min(axis=0) for other in trial.others])
    over_pencils = (np.minimum(away, far) ** 2).mean(axis=0) / 2
    first, last = (half[np.argmin(np.abs(half[:, None] - poles), axis=0)] for half in trial.halves)
    over_parts = (np.minimum(np.abs(first - last), far) / 2) ** 2 / 2
    return np.asarray(over_pencils + over_parts)

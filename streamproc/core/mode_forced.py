"""Forced or natural? A sustained sinusoid from outside the system's own dynamics, told from a lightly damped mode.

Both are a narrow peak. What differs is how they move: noise drives a natural mode, so its complex amplitude wanders (an
Ornstein-Uhlenbeck process that forgets at the rate of the damping), while that of a forced oscillation stands still. The
series along the mode's shape is brought to zero frequency in some thirty overlapping blocks, and two hypotheses are
compared by their largest likelihoods: a wandering amplitude of any damping from 0.5 % up in white noise, and the same
with a line of constant amplitude on top. The white noise alone is the periodogram test of the field (Follum and Pierre,
IEEE Trans. PWRS 31, 2016), which calls a narrow natural mode forced; here the mode is part of what must be beaten.

The limit is set by simulation to a false alarm in a hundred for natural modes of 0.5 % damping and more, whatever their
damping, frequency and window (`tests/unit/test_modes.py` repeats part of it). A forced oscillation is seldom a pure sine:
what a line at exactly two or three times the frequency gains beyond chance is added.

A mode below 0.5 % damping cannot be told from a forced oscillation in minutes, and need not be: both want an operator.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from streamproc.core.modes import LOW_HZ, bridged, thinned, top_hz, usable, weights
from streamproc.values import C128, F64

BLOCK_MAX, BLOCK_MIN = 32, 12
CYCLES_MIN = 2.0  # of the oscillation in a block
DAMPING = np.geomspace(0.005, 0.15, 6)  # natural modes that have to be beaten
DECAYS = (0.005, 0.015)  # and damping ratios of ring-downs that begin with the window
NOISE = 10.0 ** np.arange(-4.0, 1.1)  # white noise per block, in powers of the mode's
OFFSETS_PER_ROW = 4  # lines tried per 1 / window
REACH_HZ = 0.03
GAP_MAX_S = 0.5
LIMIT = 16.0  # twice the difference of the log-likelihoods
HARMONICS = (2, 3)
ECHO = 8.0  # gain that a harmonic has by chance once in a hundred; more than that is added


def forced(values: F64, rate_hz: float, freq_hz: float) -> tuple[bool, float]:
    """Return whether the oscillation near `freq_hz` is forced, and a score in per unit of the limit.

    `values` is (n_row, n_channel) at `rate_hz` (10 to 120 Hz), all channels in one unit, at least 26 cycles long and
    better some minutes; gaps (NaN) of up to half a second are bridged, a channel with a longer one is not used. The line
    is looked for within 0.03 Hz; one that lasts for half the window only is not seen. The score is NaN where it cannot be
    told: too short, no channel, a frequency out of reach.
    """
    values = bridged(values, int(GAP_MAX_S * rate_hz))
    rows, rate, _ = thinned(values[:, usable(values)].astype(np.float64), rate_hz)
    if rows.shape[0] < 16 or not LOW_HZ <= freq_hz <= top_hz(rate) or not np.ptp(rows, axis=0).any():
        return False, float("nan")
    steps = np.diff(rows, axis=0) * weights(rows)
    along = _along(steps, rate, freq_hz)
    found = _line(along, rate, freq_hz, REACH_HZ)
    if found is None:
        return False, float("nan")
    gain, at_hz = found
    for multiple in HARMONICS:
        if multiple * at_hz <= top_hz(rate):
            rest = _along(steps, rate, multiple * at_hz)
            echo = _line(rest, rate, multiple * at_hz, multiple * rate / rows.shape[0])
            gain += max(echo[0] - ECHO, 0.0) if echo is not None else 0.0
    return bool(gain >= LIMIT), float(gain / LIMIT)


def _along(steps: F64, rate_hz: float, freq_hz: float) -> C128:
    """Return the series (n_row,) along the shape that has most power near a frequency."""
    if steps.shape[1] == 1:
        return steps[:, 0].astype(np.complex128)
    lines = np.fft.rfft(steps, axis=0)
    away = np.abs(np.fft.rfftfreq(steps.shape[0], 1 / rate_hz) - freq_hz)
    near = lines[np.argsort(away, kind="stable")[: 2 * BLOCK_MAX]]
    _, axes = np.linalg.eigh(near.conj().T @ near)
    return np.asarray(steps @ axes[:, -1])


def _line(series: C128, rate_hz: float, freq_hz: float, reach_hz: float) -> tuple[float, float] | None:
    """Return twice the gain in log-likelihood that a line brings, and its frequency (Hz); None: too short to tell."""
    n_row = series.size
    hop = max(round(n_row / (BLOCK_MAX + 1)), round(CYCLES_MIN * rate_hz / freq_hz))
    n_block = n_row // hop - 1
    if n_block < BLOCK_MIN:
        return None
    taper = np.hanning(2 * hop + 1)[:-1]
    turned = series * np.exp(-2j * np.pi * freq_hz / rate_hz * np.arange(n_row))
    blocks = sliding_window_view(turned, 2 * hop)[::hop][:n_block] @ taper
    step_hz = rate_hz / n_row / OFFSETS_PER_ROW
    n_step = max(int(min(reach_hz, rate_hz / hop / 2) / step_hz), 2)
    lines_hz = np.asarray(np.arange(-n_step, n_step + 1) * step_hz, dtype=np.float64)
    at_s = np.arange(n_block) * hop / rate_hz
    inverse, log_det = _covariances(taper, hop / rate_hz, n_block, 2 * np.pi * freq_hz * DAMPING)
    modes_hz = lines_hz[:: max(1, n_step // 8)]
    centred = blocks[:, None] * np.exp(-2j * np.pi * at_s[:, None] * modes_hz)  # (n_block, n_mode)
    likelihood = _Likelihood(inverse, log_det, centred, 2 * np.pi * hop / rate_hz * lines_hz)
    wane = [np.exp(-2 * np.pi * freq_hz * damping * at_s) for damping in DECAYS]
    without = max([likelihood.plain()] + [likelihood.with_line(decay)[0] for decay in wane])
    having, (line, mode) = likelihood.with_line(np.ones(n_block))
    return 2 * (having - without), freq_hz + float(lines_hz[line] + modes_hz[mode])


class _Likelihood:
    """Largest log-likelihoods over natural modes and noise, without and with a line on top."""

    def __init__(self, inverse: F64, log_det: F64, centred: C128, turn: F64) -> None:
        """Set out from covariances and data.

        `inverse` is (n_case, n_block, n_block), `centred` (n_block, n_mode) the blocks turned to each mode's frequency,
        `turn` (n_line,) the angle from block to block of each line, relative to that.
        """
        self._inverse, self._log_det = inverse, log_det
        self._parts = np.concatenate([centred.real, centred.imag], axis=1)
        self._weighted = self._complex(inverse @ self._parts)  # (n_case, n_block, n_mode)
        self._natural = (centred.conj() * self._weighted).sum(axis=1).real  # (n_case, n_mode)
        self._floor = 1e-12 * float(self._natural.max())
        self._waves = np.exp(1j * np.arange(inverse.shape[1]) * turn[:, None])  # (n_line, n_block)

    @staticmethod
    def _complex(parts: F64) -> C128:
        half = parts.shape[-1] // 2
        return np.asarray(parts[..., :half] + 1j * parts[..., half:])

    def plain(self) -> float:
        """Return the log-likelihood without a line, up to a constant."""
        return float(self._log(self._natural[:, None, :]).max())

    def with_line(self, decay: F64) -> tuple[float, tuple[int, int]]:
        """Return that with the best line, its amplitude `decay` (n_block,) times any; and the indices of line and mode."""
        common = self._waves.conj() @ (decay[:, None] * self._weighted)  # (n_case, n_line, n_mode)
        shaped = self._inverse * np.outer(decay, decay)
        n_block = decay.size
        diagonals = [np.trace(shaped, lag, axis1=1, axis2=2) for lag in range(n_block)]  # symmetric
        twice = np.where(np.arange(n_block) > 0, 2.0, 1.0) * self._waves.real
        own = np.stack(diagonals, axis=1) @ twice.T  # (n_case, n_line): the line against itself
        log = self._log(self._natural[:, None, :] - np.abs(common) ** 2 / own[:, :, None])
        best = np.unravel_index(int(np.argmax(log)), log.shape)
        return float(log[best]), (int(best[1]), int(best[2]))

    def _log(self, rest: F64) -> F64:
        n_block = self._inverse.shape[1]
        return np.asarray(-n_block * np.log(np.maximum(rest, self._floor)) - self._log_det[:, None, None])


def _covariances(taper: F64, hop_s: float, n_block: int, forgets: F64) -> tuple[F64, F64]:
    """Return inverse covariances (n_case, n_block, n_block) of a wandering amplitude in white noise, and log dets.

    A case is a rate of forgetting (1/s) and a level of noise; overlapping blocks share noise and amplitude.
    """
    size = taper.size
    overlap = np.correlate(taper, taper, "full")
    overlap /= overlap[size - 1]
    lag = np.arange(n_block)
    shared = np.where(lag < 2, np.interp(lag * size / 2, np.arange(size), overlap[size - 1 :]), 0.0)
    shift_s = np.arange(1 - size, size) * (2 * hop_s / size)
    wander = np.exp(-forgets[:, None, None] * np.abs(lag[:, None] * hop_s + shift_s)) @ overlap
    wander /= wander[:, :1]
    apart = np.abs(lag[:, None] - lag)
    cases = wander[:, None, apart] + NOISE[:, None, None] * shared[apart]
    cases = cases.reshape(-1, n_block, n_block)
    return np.linalg.inv(cases), np.linalg.slogdet(cases)[1]

"""Sustained oscillation: the rms of the frequency in four bands.

    band        window   rule
    0.01-0.15   198 s    governors, AGC          on means of a second
    0.15-1      12 s     inter-area modes        on frames
    1-5         6 s      local and plant modes   on frames
    5-Nyquist   2 s      torsion, controls       on frames

All are judged ten times a second, whatever the reporting rate: within 0.1 s a window of 2 s changes by a
twentieth.

Bands and response times as in the tools of the field (limits.md section 8). The energy is the sum of
squared projections on cosines and sines of the band (a matrix product: the DFT operator is up to 57 times
slower), after removing the line through the window.

A step of the frequency has energy in every band, but it is not an oscillation. So each window is cut in two
halves and the harmonic mean of their energies counts: an oscillation fills both halves, a step or a spike
only one. The price is a response of about one window. A band that starts at or above 0.8 x Nyquist of the
reporting rate is left out.

Limits: learnt ones are median + 2 x (maximum - median) of the calibration, never below a floor, because ten
minutes hold only a handful of independent 200 s windows. A gap of more than two frames (more than two
seconds for the slow band) makes the score NaN until it has left the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import FREQUENCY, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, last_row, recent, unknown_if
from streamproc.values import F64


@dataclass(frozen=True, slots=True)
class Band:
    """One band: edges in Hz, window in s, and the limits that are not learnt."""

    name: str
    low_hz: float
    high_hz: float  # 0: up to Nyquist
    window_s: float
    slow: bool  # on the per-second means
    floor_hz: float  # rms below which a learnt limit never goes
    generic_hz: float  # rms limit without training


BANDS = (
    # 10 mHz rms is a swing of 14 mHz: primary control starts at about 20 mHz (limits.md section 4)
    Band("oscillation_control", 0.01, 0.15, 198.0, slow=True, floor_hz=0.010, generic_hz=0.020),
    # 5 mHz is the frequency error a PMU may have in steady state (IEC/IEEE 60255-118-1)
    Band("oscillation_inter_area", 0.15, 1.0, 12.0, slow=False, floor_hz=0.002, generic_hz=0.005),
    # A real PMU at rest shows 5.0 mHz rms here (framecapture, 2012): without calibration the limit is twice that.
    Band("oscillation_local", 1.0, 5.0, 6.0, slow=False, floor_hz=0.002, generic_hz=0.010),
    Band("oscillation_fast", 5.0, 0.0, 2.0, slow=False, floor_hz=0.002, generic_hz=0.010),
)


@dataclass(frozen=True, slots=True)
class BandEnergy:
    """One row per band that the reporting rate can show."""

    name: str = "band_energy"
    every_s: float = 0.1  # a window of 2 s and more does not change much within it
    margin_ratio: float = 2.0
    off_delay_ms: int = 2000
    deadband_ratio: float = 0.2

    def _bands(self, rate_hz: float) -> list[tuple[Band, int]]:
        """Return the bands in reach of the rate, each with the rows of half a window."""
        plan = []
        for band in BANDS:
            rate = 1.0 if band.slow else rate_hz
            half = round(band.window_s * rate / 2)
            if band.low_hz < 0.8 * rate / 2 and half >= 8:
                plan.append((band, half))
        return plan

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        plan = self._bands(rate_hz)
        fast = max((2 * half for band, half in plan if not band.slow), default=0)
        slow = max((2 * half for band, half in plan if band.slow), default=0)
        return fast, slow

    def generic(self, rate_hz: float) -> Params:
        """Return the parameters without training."""
        params = {"limit": np.array([band.generic_hz for band, _ in self._bands(rate_hz)])}
        for band, half in self._bands(rate_hz):
            params[band.name] = _basis(half, 1.0 if band.slow else rate_hz, band)
        return params

    def fit(self, history: History) -> Params:
        """Return the projections with limits of 1 Hz, to be calibrated."""
        params = dict(self.generic(history.rate_hz))
        return {**params, "limit": np.ones(params["limit"].size)}

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with limits learnt from `levels` (n_tick, n_band, n_pmu)."""
        bands = [band for band in BANDS if band.name in params]
        limits = [
            learnt_limit(levels[:, row, :], self.margin_ratio, band.floor_hz)
            for row, band in enumerate(bands)
        ]
        return {**params, "limit": np.array(limits)}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (n_band, n_pmu)."""
        bands = [band for band in BANDS if band.name in params]
        longest = max((2 * params[band.name].shape[1] for band in bands if not band.slow), default=0)
        quick = recent(ops, ops.take(windows.fast, 1, FREQUENCY), longest) if longest else windows.fast
        energies = []
        for band in bands:
            basis = params[band.name]  # (n_wave, half)
            rows = 2 * basis.shape[1]
            if band.slow:
                window = recent(ops, ops.take(windows.slow, 1, FREQUENCY), rows)
            else:
                window = quick if rows == longest else ops.part(quick, 0, -rows, None)
            halves = ops.reshape(window, (2, rows // 2, -1))
            waves = ops.matmul(ops.const(basis), halves)  # (2, n_wave, n_pmu)
            energies.append(ops.sum_square(waves, 1, keep=True))  # (2, 1, n_pmu)
        both = ops.concat(energies, 1)  # (2, n_band, n_pmu)
        first, second = ops.take(both, 0, 0), ops.take(both, 0, 1)
        # Harmonic mean; the tiny constant keeps a frozen source at 0 instead of 0 / 0.
        mean = ops.div(ops.mul(first, second), ops.add(ops.add(first, second), ops.const(1e-12)))
        rms = ops.mul(ops.sqrt(mean), ops.const(np.sqrt(2.0) / params["limit"][:, None]))
        return unknown_if(ops, ops.isnan(last_row(ops, windows.now, FREQUENCY)), rms)

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return one rule per band."""
        bands = [band for band in BANDS if band.name in params]
        return tuple(
            Rule(
                name=band.name,
                version=1,
                family="grid",
                kind="oscillation",
                priority=3,
                limit=float(limit),
                unit="Hz rms",
                window_s=band.window_s,
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                text=(
                    f"Frequency at {{source}} oscillates between {band.low_hz:g} Hz and {_upper(band)} with "
                    "{value} {unit}, limit {limit} {unit}"
                ),
            )
            for band, limit in zip(bands, params["limit"], strict=True)
        )


def _upper(band: Band) -> str:
    return f"{band.high_hz:g} Hz" if band.high_hz else "half the reporting rate"


def _basis(half: int, rate_hz: float, band: Band) -> F64:
    """Return (n_wave, half): cosines and sines of the band, free of constant and slope, scaled to rms."""
    wave = np.arange(1, half // 2 + 1)
    wave_hz = wave * rate_hz / half
    inside = (wave_hz >= band.low_hz - 1e-9) & (wave_hz < (band.high_hz or rate_hz))
    angle = 2 * np.pi * np.outer(wave[inside], np.arange(half)) / half
    basis = np.concatenate([np.cos(angle), np.sin(angle)]) * np.sqrt(2.0) / half
    line, _ = np.linalg.qr(np.stack([np.ones(half), np.arange(half) - (half - 1) / 2], axis=1))
    return np.asarray(basis - (basis @ line) @ line.T)

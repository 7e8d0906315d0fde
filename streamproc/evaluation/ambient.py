"""The frequency under the events: a recording, its first half to calibrate, its second half to test.

A recording is cut into stretches without gaps; unknown values, times that go back and what the caller leaves out (a
documented disturbance) end a stretch. Each stretch is resampled to the rate of a corpus, band-limited, so that a rate
other than the recording's brings no edges that no grid has. What is used is the deviation from the nominal frequency
of the recording, so a recording at 60 Hz serves a corpus at 50 Hz; the output says so.

Without a recording the ambient is made: an Ornstein-Uhlenbeck process of 8 mHz with a memory of 40 s. The output says
that too: false alarms on it prove little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

from streamproc.errors import RecordingError
from streamproc.evaluation.noise import ornstein_uhlenbeck
from streamproc.values import F64, I64

CALIBRATE_S = 600.0
EXCEPT_S = 30.0  # left out on either side of a documented disturbance
STRETCH_MIN_S = 60.0  # a shorter stretch is not used
PLAUSIBLE_HZ = 5.0  # further from nominal is no frequency of a grid
STEP_MAX = 0.2  # of a frame: a time step may be off by so much
MADE_S, MADE_HZ, MADE_MEMORY_S = 3000.0, 8e-3, 40.0


@dataclass(frozen=True, slots=True)
class Ambient:
    """Deviation of the frequency, Hz, at `rate_hz`: what calibrates, and stretches to test on."""

    name: str
    rate_hz: float
    calibrate_hz: F64
    stretches: tuple[F64, ...]
    notes: tuple[str, ...] = ()

    @property
    def test_s(self) -> float:
        """Return how much there is to test on."""
        return sum(part.size for part in self.stretches) / self.rate_hz

    def at_rate(self, rate_hz: float) -> Ambient:
        """Return the same at another rate."""
        if rate_hz == self.rate_hz:
            return self
        parts = tuple(resampled(part, self.rate_hz, rate_hz) for part in self.stretches)
        return Ambient(
            self.name, rate_hz, resampled(self.calibrate_hz, self.rate_hz, rate_hz), parts, self.notes
        )

    def stretch(self, n_frame: int, rng: np.random.Generator) -> F64:
        """Return (n_frame,) from a random place of the test half; raises RecordingError if no stretch is that long."""
        room = np.array([max(0, part.size - n_frame) for part in self.stretches])
        if not room.sum():
            raise RecordingError(
                f"{self.name}: no stretch of {n_frame / self.rate_hz:.0f} s without a gap in its second half"
            )
        place = int(rng.integers(int(room.sum())))
        which = int(np.searchsorted(np.cumsum(room), place, side="right"))
        start = place - int(room[:which].sum())
        return self.stretches[which][start : start + n_frame]


def resampled(values: F64, rate_hz: float, wanted_hz: float) -> F64:
    """Return the values at another rate, band-limited; the ends are held."""
    if values.size == 0 or rate_hz == wanted_hz:
        return values
    ratio = Fraction(wanted_hz / rate_hz).limit_denominator(240)
    made: F64 = resample_poly(values, ratio.numerator, ratio.denominator, padtype="line")
    return made


def made_ambient(rate_hz: float, seed: int) -> Ambient:
    """Return an ambient that no grid has had."""
    rng = np.random.default_rng([seed, 7])
    rows = round((CALIBRATE_S + MADE_S) * rate_hz)
    path = ornstein_uhlenbeck(rng, (rows, 1), MADE_HZ, MADE_MEMORY_S * rate_hz)[:, 0]
    cut = round(CALIBRATE_S * rate_hz)
    told = "the ambient frequency is made, not recorded: false alarms on it prove little (--ambient FILE)"
    return Ambient("made ambient", rate_hz, path[:cut], (path[cut:],), (told,))


def recorded_ambient(
    name: str, t_ns: I64, freq_hz: F64, nominal_hz: float, except_s: Sequence[float] = ()
) -> Ambient:
    """Return the ambient of a recording, times ascending or not, NaN where unknown; raises RecordingError.

    `except_s`: seconds from the first frame of disturbances that are known.
    """
    rate_hz = rate_hz_of(name, t_ns)
    steps = np.diff(t_ns) * rate_hz / 1e9
    notes = _oddities(steps)
    at_s = (t_ns - t_ns[0]) / 1e9
    known = np.isfinite(freq_hz) & (np.abs(freq_hz - nominal_hz) < PLAUSIBLE_HZ)
    for s in except_s:
        known &= ~(np.abs(at_s - s) <= EXCEPT_S)
    broken = np.concatenate([[True], np.abs(steps - 1.0) > STEP_MAX])
    run = np.cumsum(broken | ~known | np.concatenate([[False], ~known[:-1]]))
    half = at_s[-1] / 2.0
    parts: list[tuple[float, F64]] = []
    for number in np.unique(run[known]):
        rows = np.flatnonzero((run == number) & known)
        halves = (rows[at_s[rows] < half], rows[at_s[rows] >= half])
        parts += [
            (float(at_s[chosen[0]]), freq_hz[chosen] - nominal_hz)
            for chosen in halves
            if chosen.size >= STRETCH_MIN_S * rate_hz
        ]
    wanted = round(CALIBRATE_S * rate_hz)
    first = next((part[:wanted] for start, part in parts if start < half and part.size >= wanted), None)
    if first is None:
        raise RecordingError(
            f"{name}: no {CALIBRATE_S / 60:g} minutes without a gap in its first half of {half / 60:.1f} minutes"
        )
    tests = tuple(part for start, part in parts if start >= half)
    if not tests:
        raise RecordingError(f"{name}: nothing in its second half is without a gap for {STRETCH_MIN_S:g} s")
    out = [f"{s:g} s +- {EXCEPT_S:g} s is left out: a documented disturbance" for s in except_s]
    told = f"its deviation from {nominal_hz:g} Hz moves every corpus, whatever the nominal frequency of that"
    return Ambient(name, rate_hz, first, tests, (told, *notes, *out))


def rate_hz_of(name: str, t_ns: I64) -> float:
    """Return the frames per second of a recording; raises RecordingError if nobody can tell."""
    if t_ns.size < 2:
        raise RecordingError(f"{name}: {t_ns.size} frames with a frequency: there is nothing to use")
    steps = np.diff(t_ns)
    steps = steps[steps > 0]
    if not steps.size:
        raise RecordingError(f"{name}: the times of its frames do not ascend")
    middle = float(np.median(steps))
    near = steps[np.abs(steps - middle) <= STEP_MAX * middle]
    if near.size < 0.8 * steps.size:
        raise RecordingError(
            f"{name}: its rate changes: only {near.size / steps.size:.0%} of the steps are near {middle / 1e6:.2f} ms"
        )
    return float(max(1, round(1e9 / float(near.mean()))))


def _oddities(steps: F64) -> tuple[str, ...]:
    back, gaps = int((steps <= 0).sum()), int((steps > 1.0 + STEP_MAX).sum())
    told = [f"its time goes back or stands still {back} times"] if back else []
    return (*told, *([f"it has {gaps} gaps"] if gaps else []))

"""What the frequency will do after a loss: how fast it falls, how low it will go and when, and where it settles.

After a loss the median frequency of an area follows a second-order curve: it falls with a slope that inertia sets, bends as
governors answer, turns, and settles above the turning point. What of this has been seen at an age is put into numbers
without a unit (means over six stretches, slopes and bends, all against the change so far), and a small network
(`core.event_net`) has learnt what follows from them, with the band in which it lies nine times of ten. Everything is
counted in the direction of the loss: down for supply, up for load.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.deviation import Deviation, line, median_of, middle, middle_half
from streamproc.core.event_features import Answers
from streamproc.values import F64

LEVELS = (0.05, 0.5, 0.95)
FLOOR_HZ = 0.004  # changes are measured against the change so far, and this
RATIO_MAX = 4.0
RECENT_S = 0.3  # the slope at the end is taken over so long, at least
SMOOTH_S = 0.1
ROCOF_S = (0.1, 0.5)  # the slope at the beginning is taken over this
TARGETS = ("turning", "settled", "turning_s")
NAMES = (
    *(f"median_{stretch}" for stretch in range(6)),
    *(f"mean_{stretch}" for stretch in range(6)),
    *("slope_quarter", "slope_half", "slope_all", "extreme", "apart_0", "apart_3", "apart_5", "swing"),
    *("since_extreme", "log_noise", "log_age"),
)


@dataclass(frozen=True, slots=True)
class Course:
    """The median frequency after the onset, in the direction of the loss."""

    sign: float
    scale_hz: float
    x: F64  # features
    extreme_hz: float  # largest change so far, >= 0
    extreme_s: float  # when that was
    now_hz: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Low, middle and high of what is to come; changes in Hz, signed, times in s after the onset."""

    turning_hz: tuple[float, float, float]
    settled_hz: tuple[float, float, float]
    turning_s: tuple[float, float, float]


def rocof_hz_s(moved: Deviation) -> float | None:
    """Return the slope of the median frequency at the beginning."""
    first, last = (round(s * moved.rate_hz) for s in ROCOF_S)
    common = middle(moved.freq[first : last + 1])
    known = np.isfinite(common)
    if known.sum() < 3:
        return None
    return line(np.flatnonzero(known) / moved.rate_hz, common[known])[1]


def course(moved: Deviation, seen: Answers, sign: float) -> Course:
    """Return what is known at the age of the answers."""
    n_row = max(2, round(seen.age_s * moved.rate_hz) + 1)
    common = middle_half(moved.freq[:n_row]) * sign
    known = np.isfinite(common)
    at_s = np.flatnonzero(known) / moved.rate_hz
    values = common[known]
    width = max(1, round(SMOOTH_S * moved.rate_hz))
    smooth = (
        np.convolve(values, np.full(width, 1.0 / width), mode="valid") if values.size >= width else values
    )
    place = int(np.argmax(smooth)) if smooth.size else 0
    extreme = max(0.0, float(smooth[place])) if smooth.size else 0.0
    extreme_s = float(at_s[min(place + width // 2, at_s.size - 1)]) if at_s.size else 0.0
    means = seen.common_hz * sign
    scale = max(extreme, float(np.abs(means).max())) + FLOOR_HZ
    slopes = [_slope(at_s, values, seen.age_s, part) for part in (0.25, 0.5, 1.0)]
    noise = median_of(seen.noise[0]) / np.sqrt(max(1.0, float(seen.known[0].sum())))
    apart = [
        float(np.std(row[seen.known[0] > 0.0])) if seen.known[0].any() else 0.0
        for row in seen.freq[[0, 3, 5]]
    ]
    ratios = [
        *(means / scale),
        *((seen.freq * seen.known[0]).sum(axis=1) * sign / max(1.0, float(seen.known[0].sum())) / scale),
        *(slope * seen.age_s / scale for slope in slopes),
        extreme / scale,
        *(value / scale for value in apart),
        seen.swing_hz / scale,
    ]
    x = np.array(
        [
            *np.clip(ratios, -RATIO_MAX, RATIO_MAX),
            (seen.age_s - extreme_s) / seen.age_s,
            np.log(noise / scale),
            np.log(seen.age_s),
        ]
    )
    return Course(sign, scale, x, extreme, extreme_s, float(means[-1]), seen.age_s)


def _slope(at_s: F64, values: F64, age_s: float, part: float) -> float:
    """Return the slope over the last part of the age, Hz/s."""
    chosen = at_s >= age_s - max(part * age_s, RECENT_S) - 1e-9
    return line(at_s[chosen], values[chosen])[1] if chosen.sum() >= 3 else 0.0


def targets(known: Course, turning_hz: float, settled_hz: float, turning_s: float) -> F64:
    """Return what the network is to answer for this truth (signed changes, s after the onset)."""
    return np.array(
        [
            known.sign * turning_hz / known.scale_hz,
            known.sign * settled_hz / known.scale_hz,
            np.log((max(turning_s, 0.0) + 0.2) / (known.age_s + 0.2)),
        ]
    )


def forecast(known: Course, answer: F64, widen: F64) -> Forecast:
    """Return the forecast from the network's answer (n_target * n_level,), its bands widened by learnt factors."""
    told = np.sort(answer.reshape(len(TARGETS), len(LEVELS)), axis=1)
    centre = told[:, 1:2]
    told = centre + (told - centre) * widen[:, None]
    least = known.extreme_hz / known.scale_hz
    turning = np.maximum(told[0], min(least, float(told[0, 1])) if told[0, 1] < least else told[0])
    hz = known.sign * known.scale_hz
    seconds = np.exp(told[2]) * (known.age_s + 0.2) - 0.2
    return Forecast(_ordered(turning * hz), _ordered(told[1] * hz), _ordered(np.maximum(seconds, 0.0)))


def _ordered(values: F64) -> tuple[float, float, float]:
    low, centre, high = np.sort(values).tolist()
    return low, centre, high

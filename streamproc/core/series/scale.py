"""The scale on which a series is forecast: logarithm where the series allows it, else per unit of its own spread.

A load that is always well above zero varies in proportion: the error at night and the error at the peak are alike in
per cent, a heat wave multiplies. Net load with sun and wind crosses zero, and there only differences make sense.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.values import F64

LOG_FLOOR_RATIO = 0.15  # log when the lowest 0.5 % lie above this share of the median
OUTLIER_SPREADS = (
    6.0  # beyond P01 - 6 (P99 - P01): held at that value, a unit error of 1,000 must not own a fit
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Forward and back; fitted on the past."""

    log: bool
    unit: float  # of the series; 1.0 for log
    low: float  # values are held within [low, high]
    high: float

    def forward(self, value: F64) -> F64:
        """Return the values on the scale; NaN stays NaN."""
        held = np.clip(value, self.low, self.high)
        return np.asarray(np.log(held) if self.log else held / self.unit)

    def back(self, scaled: F64) -> F64:
        """Return values in the unit of the series."""
        return np.asarray(np.exp(scaled) if self.log else scaled * self.unit)


def fit_scale(past: F64) -> Scale:
    """Return the scale of a series from its past (n,); all NaN gives a scale of one."""
    known = past[np.isfinite(past)]
    if not known.size:
        return Scale(False, 1.0, -np.inf, np.inf)
    p005, p01, median, p99 = np.quantile(known, (0.005, 0.01, 0.5, 0.99))
    if p005 > LOG_FLOOR_RATIO * median:
        return Scale(True, 1.0, 0.25 * float(p01), 4.0 * float(p99))
    spread = float(p99 - p01) or float(np.std(known)) or max(abs(float(median)), 1.0)
    return Scale(
        False, spread / 4.0, float(p01) - OUTLIER_SPREADS * spread, float(p99) + OUTLIER_SPREADS * spread
    )

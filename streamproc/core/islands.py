"""Groups of PMUs that run on their own: islands.

Two parts of a grid that are still tied swing against each other, but come back; parts that were separated have
frequencies that stay apart and angles that run away. PMUs are put in order of their frequency over the last half second
and parted wherever three things hold between the neighbours: the gap is wide against what they measure, it was there, to
the same side, in the half second before, and the angle between the two parts has run the same way by more than a swing
does. Angles are changes since the onset, without wraps; a reference that jumps is the same for all PMUs and drops out.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.deviation import Deviation, median_of
from streamproc.values import F64, I64

LOOK_S = 0.5
AGE_MIN_S = 1.0
GAP_HZ, GAP_SD = 0.02, 6.0
RUN_RAD = 1.0  # beyond what a stable swing reaches, mostly


def islands(moved: Deviation) -> tuple[I64, ...]:
    """Return the PMUs of each island, the largest first; one group or none if the area is whole."""
    width = round(LOOK_S * moved.rate_hz)
    if moved.n_row < round(AGE_MIN_S * moved.rate_hz) or width < 2:
        return ()
    last, before = _mean(moved.freq[-width:]), _mean(moved.freq[-2 * width : -width])
    turned, turned_before = (_mean(moved.angle[-back - 3 : -back or None]) for back in (0, width))
    known = np.flatnonzero(np.isfinite(last + before + turned + turned_before))
    if known.size < 2:
        return ()
    order = known[np.argsort(last[known], kind="stable")]
    noise = median_of(moved.noise[0]) * np.sqrt(2.0 / width)
    bounds = [
        cut
        for cut in range(1, order.size)
        if _parted(order[:cut], order[cut:], last, before, turned, turned_before, max(GAP_HZ, GAP_SD * noise))
    ]
    groups = np.split(order, bounds)
    return tuple(sorted((np.sort(group) for group in groups), key=lambda group: (-group.size, group[0])))


def _parted(
    slow: I64, fast: I64, last: F64, before: F64, turned: F64, turned_before: F64, gap_hz: float
) -> bool:
    """Return whether these PMUs have left those behind."""
    if float(last[fast].min() - last[slow].max()) <= gap_hz:
        return False
    apart_before, ran, ran_before = (
        median_of(rows[fast]) - median_of(rows[slow]) for rows in (before, turned, turned_before)
    )
    return apart_before > 0.5 * gap_hz and ran > RUN_RAD and ran > ran_before


def _mean(rows: F64) -> F64:
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    return np.asarray(
        np.where(count > 0, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    )

"""Is a mode badly damped, and for how long? Successive estimates of one mode, and the rule that judges them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from streamproc.core.modes import Modes
from streamproc.values import F64, I64

DampingClass: TypeAlias = Literal["ok", "warn", "raise"]

RAISE_BELOW = 0.03  # limits.md section 8 (from memory, in use at several operators)
WARN_BELOW = 0.05
PERSIST_S = 10.0
ESTIMATES_MIN = 3
GAP_MAX_S = 5.0
APART_HZ, APART_RATIO = 0.05, 0.08  # two estimates of one mode differ by no more in frequency
ALIKE_MIN = 0.5  # and have shapes with at least this modal assurance criterion


def damping_class(
    ts_s: F64,
    damping_ratio: F64,
    *,
    raise_below: float = RAISE_BELOW,
    warn_below: float = WARN_BELOW,
    persist_s: float = PERSIST_S,
    gap_max_s: float = GAP_MAX_S,
) -> DampingClass:
    """Return the class of a mode from its estimates so far.

    `ts_s` (n_estimate,) rises, s; `damping_ratio` is (n_estimate, 3): value, low and high end of a 90 % interval as in
    `modes.Modes`, NaN where a window did not show the mode or where it is forced. A class holds when the interval's
    upper end was below the limit in every known estimate for `persist_s`, at least three of them, the newest no older
    than `gap_max_s` before the last time and none further apart: an unknown estimate neither raises nor clears, but no
    delay outlives a long silence.
    """
    known = np.isfinite(damping_ratio).all(axis=1)
    at_s, high = ts_s[known], damping_ratio[known, 2]
    if at_s.size == 0 or ts_s[-1] - at_s[-1] > gap_max_s:
        return "ok"
    breaks = np.flatnonzero(np.diff(at_s) > gap_max_s)
    begin = int(breaks[-1]) + 1 if breaks.size else 0
    limits: tuple[tuple[DampingClass, float], ...] = (("raise", raise_below), ("warn", warn_below))
    for name, limit in limits:
        above = np.flatnonzero(~(high < limit))
        first = max(begin, int(above[-1]) + 1 if above.size else 0)
        if at_s.size - first >= ESTIMATES_MIN and at_s[-1] - at_s[first] >= persist_s:
            return name
    return "ok"


def followed(known: Modes, now: Modes) -> I64:
    """Return for each known mode (n_known,) the index of the same mode in `now`, -1 where it does not show.

    Same is what is near in frequency and alike in shape (the modal assurance criterion over the channels that both
    have). A mode of `now` is given to one known mode only, the stronger known one first.
    """
    answer = np.full(known.energy.size, -1, dtype=np.int64)
    if known.energy.size == 0 or now.energy.size == 0:
        return answer
    at_hz, now_hz = known.freq_hz[:, :1], now.freq_hz[:, 0]
    apart = np.abs(at_hz - now_hz) / np.maximum(APART_HZ, APART_RATIO * at_hz)  # (n_known, n_now)
    both = np.isfinite(known.shape).all(axis=0) & np.isfinite(now.shape).all(axis=0)
    one, two = known.shape[:, both], now.shape[:, both]
    size = (np.abs(one) ** 2).sum(axis=1)[:, None] * (np.abs(two) ** 2).sum(axis=1)
    alike = np.abs(one.conj() @ two.T) ** 2 / np.maximum(size, 1e-300)
    apart = np.where((apart <= 1.0) & ((alike >= ALIKE_MIN) | (not both.any())), apart, np.inf)
    for row in range(answer.size):
        best = int(np.argmin(apart[row]))
        if np.isfinite(apart[row, best]):
            answer[row] = best
            apart[:, best] = np.inf
    return answer

"""From series of any step to a fleet of quarter hours.

Coarser means are repeated (a half hour is two equal quarters): a slope between them would tell a quarter what came after
it. Finer ones are averaged before (`--step PT15M`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamproc.core.ahead.days import N_LEAD, STEP_S
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.training.ahead.samples import Fleet
from streamproc.values import F64

N = TypeVar("N", np.float64, np.int64, np.bool_)


def repeats(step_s: int) -> int:
    """Return how many quarter hours an interval is; raises DataError."""
    if step_s % STEP_S:
        raise DataError(
            f"intervals of {step_s} s are no whole quarters of an hour; give --step PT15M for means"
        )
    return step_s // STEP_S


def fleet_of(
    histories: Sequence[History], good: Sequence[F64], until: int, first_s: int | None = None
) -> Fleet:
    """Return the series up to interval `until` of one common grid; `good` are their believed values.

    `first_s`: UTC second of interval 0; without it local time at interval 0 stands for UTC, which only moves the grid.
    """
    one = histories[0]
    times = repeats(one.step_s)
    local_s = one.day * 86_400 + one.slot * one.step_s
    start_s = int(local_s[0]) if first_s is None else first_s
    offset_s = local_s - (start_s + np.arange(local_s.size) * one.step_s)
    n = until * times
    value = np.stack([np.repeat(g[:until], times) for g in good]).astype(np.float32)
    known = np.repeat(one.known, times, axis=0).T
    return Fleet(
        tuple(h.name for h in histories),
        start_s // STEP_S,
        value,
        padded(np.repeat(offset_s, times), n + N_LEAD),
        padded(np.repeat(one.holiday, times), n + N_LEAD),
        np.stack([padded(row, n + N_LEAD, np.nan) for row in known])
        if len(known)
        else np.zeros((0, n + N_LEAD)),
        one.known_names,
    )


def padded(row: NDArray[N], n: int, empty: float | None = None) -> NDArray[N]:
    """Return the first n values of a row, continued by its last one (or `empty`) where it is shorter."""
    if row.size >= n:
        return np.asarray(row[:n])
    more = np.full(n - row.size, row[-1] if empty is None else empty, row.dtype)
    return np.concatenate([row, more])


def known_scale(known: F64, until: int) -> tuple[F64, F64]:
    """Return mean and size (n_known,) of what is known ahead, from the values before `until`."""
    past = known[:, :until]
    if not past.size:
        return np.zeros(len(known)), np.ones(len(known))
    mean = np.nan_to_num(np.nanmean(past, axis=1))
    size = np.nanstd(past, axis=1)
    return mean, np.where(size > 1e-9, size, 1.0)

"""What was known ahead at any moment of the past, on the grid of a series: what a backtest may see.

    row            30     31     31     32     32     32 ...       in the order of rows, in a row as it became known
    known_s     09:00  09:00  15:00  09:00  15:00  21:00
    value        12.0   12.5   12.2   13.0   12.4   11.9           at 16:00: 12.0, 12.2, 12.4

The rules are those of the stream (`known.py`): of each interval the newest value that was known by then; a straight line
between valid times up to three hours apart; where intervals are longer than that, the mean of what lies in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.ahead.days import STEP_S
from streamproc.core.ahead.known import GAP_ROWS, Told, line
from streamproc.values import F64, I64


@dataclass(frozen=True, slots=True)
class Vintages:
    """All values, each with the time since which it was known."""

    names: tuple[str, ...]
    moments: I64  # (n_moment,), UTC seconds at which something became known, increasing
    known_s: I64  # (n_value,), UTC, not decreasing within a row
    row: I64  # (n_value,), interval of the grid, not decreasing
    column: I64  # (n_value,), place among the names
    value: F64  # (n_value,)

    def counts(self, now_s: I64) -> I64:
        """Return how often something had become known by moments (n,): where that is equal, the same was known."""
        return np.asarray(np.searchsorted(self.moments, now_s, side="right"), np.int64)

    def until(self, now_s: int) -> Vintages:
        """Return only what was known at a moment."""
        by_then = self.known_s <= now_s
        return Vintages(
            self.names,
            self.moments[self.moments <= now_s],
            self.known_s[by_then],
            self.row[by_then],
            self.column[by_then],
            self.value[by_then],
        )

    def at(self, now_s: int, first: int, last: int) -> F64:
        """Return what was known at a moment of the intervals first .. last - 1, (last - first, n_name); NaN = nothing."""
        out = np.full((last - first, len(self.names)), np.nan)
        begin, end = np.searchsorted(self.row, (first, last)).tolist()
        self._put(out, begin + np.flatnonzero(self.known_s[begin:end] <= now_s), first)
        return out

    def issued(self, issued_s: I64, now_s: int) -> F64:
        """Return of each interval what was known at its own moment `issued_s` (n,), (n, n_name), as a fit may see it.

        Where nothing was known then: what is known at `now_s`, the moment of the fit, after which nothing counts.
        """
        out = self.at(now_s, 0, issued_s.size)
        end = int(np.searchsorted(self.row, issued_s.size))
        limit = np.minimum(issued_s, now_s)[self.row[:end]]
        self._put(out, np.flatnonzero(self.known_s[:end] <= limit), 0)
        return out

    def scaled(self, mean: F64, size: F64) -> Vintages:
        """Return the values in spreads; mean and size are (n_name,)."""
        return replace(self, value=(self.value - mean[self.column]) / size[self.column])

    def _put(self, out: F64, which: I64, first: int) -> None:
        place = (self.row[which] - first) * len(self.names) + self.column[which]
        out.reshape(-1)[place] = self.value[
            which
        ]  # of a place that comes twice the last one stays: the newest


def vintages_of(told: Sequence[Told], names: Sequence[str], start_s: int, step_s: int, n: int) -> Vintages:
    """Return the records of these names on the `n` intervals of a grid that begins at `start_s`, UTC."""
    mine = sorted((one for one in told if one.name in names), key=lambda one: one.known_ns)
    parts = [_on_rows(one, start_s, step_s, n) for one in mine]
    sizes = [row.size for row, _ in parts]

    def each(values: Sequence[int]) -> I64:
        return np.repeat(np.array(values, np.int64), sizes)

    known_s = each([-(-one.known_ns // 1_000_000_000) for one in mine])
    row = np.concatenate([np.zeros(0, np.int64), *(row for row, _ in parts)])
    value = np.concatenate([np.zeros(0), *(value for _, value in parts)])
    column = each([list(names).index(one.name) for one in mine])
    order = np.argsort(row, kind="stable")
    return Vintages(tuple(names), np.unique(known_s), known_s[order], row[order], column[order], value[order])


def _on_rows(one: Told, start_s: int, step_s: int, n: int) -> tuple[I64, F64]:
    known = np.isfinite(one.value)
    number = (one.t_ns[known] // 1_000_000_000 - start_s) // step_s
    row, place, count = np.unique(number, return_inverse=True, return_counts=True)
    if not row.size:
        return row, np.zeros(0)
    value = np.bincount(place, one.value[known]) / count
    if row.size == 1:
        filled = value
        rows = row
    else:
        gap = max(GAP_ROWS * STEP_S // step_s, 1)
        filled = line(row - row[0], value, int(row[-1] - row[0]) + gap, gap)
        rows = row[0] + np.arange(filled.size)
    keep = np.isfinite(filled) & (rows >= 0) & (rows < n)
    return rows[keep], filled[keep]

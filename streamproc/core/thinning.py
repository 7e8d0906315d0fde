"""Frames averaged in blocks of a tenth of a second: what an oscillation of the grid needs, at a third of the room and less.

A block is numbered by its instants, so it holds the same frames whatever the batches were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.samples import taken
from streamproc.values import F32, F64, I64

BLOCK_S = 0.1


@dataclass(frozen=True, slots=True)
class Thin:
    """The block of frames under way."""

    number: int
    total_hz: F64  # (n_pmu,)
    count: F64

    @classmethod
    def fresh(cls, n_pmu: int) -> Thin:
        """Return the state before any frame."""
        return cls(-1, np.zeros(n_pmu), np.zeros(n_pmu))

    def take(self, index: I64) -> Thin:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones."""
        zero = np.zeros(index.size)
        return replace(self, total_hz=taken(self.total_hz, zero, index), count=taken(self.count, zero, index))


def block_rate_hz(rate_hz: float) -> float:
    """Return the rate of the rows that a rate of frames gives."""
    return rate_hz / _block_frames(rate_hz)


def _block_frames(rate_hz: float) -> int:
    return max(1, round(BLOCK_S * rate_hz))


def thinned(state: Thin, instant: I64, freq_hz: F32, rate_hz: float) -> tuple[Thin, F32, I64]:
    """Return the state after these frames (n, n_pmu), the rows (m, 1, n_pmu) that are complete, and after which tick."""
    number = instant // _block_frames(rate_hz)
    starts = np.flatnonzero(np.diff(number, prepend=state.number))
    known = np.isfinite(freq_hz)
    values = np.where(known, freq_hz, 0.0).astype(np.float64)
    cuts = np.concatenate([[0], starts]) if not starts.size or starts[0] > 0 else starts
    totals, counts = [], []
    total, count = state.total_hz, state.count
    bounds = [*cuts.tolist(), instant.size]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        if start in starts:
            totals.append(total)
            counts.append(count)
            total, count = np.zeros_like(total), np.zeros_like(count)
        total = np.cumsum(np.concatenate([total[None], values[start:stop]]), axis=0)[-1]
        count = count + known[start:stop].sum(axis=0)
    after = Thin(int(number[-1]) if number.size else state.number, total, count)
    if starts.size and state.number < 0:
        totals, counts, starts = totals[1:], counts[1:], starts[1:]
    if not totals:
        return after, np.zeros((0, 1, freq_hz.shape[1]), dtype=np.float32), starts
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.stack(totals) / np.where(np.stack(counts) > 0, np.stack(counts), np.nan)
    return after, rows.astype(np.float32)[:, None], starts

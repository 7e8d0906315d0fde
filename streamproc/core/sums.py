"""Interval means of many series: values are summed until their interval closes.

    values   . .. .  . | . . ...  . | .  .
             closed    |  closes    | open          values of the next interval are summed beside the open one

An interval closes when every live series has gone past its end, or `wait_ms` after it. A value for a closed interval is
late: counted, not used, because what followed from the interval is not taken back. A time stamp t belongs to the interval
[start, start + length) that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.values import F64, I64

MINUTE_NS = 60_000_000_000
LIVE_INTERVALS = 2  # a series silent for longer is not waited for


@dataclass(frozen=True, slots=True)
class Sums:
    """What is summed. Row = series; two columns: the open interval and the next one.

    `start` is the number of the open interval since 1970, -1 before the first value.
    """

    interval_min: int
    start: int
    total: F64  # (n_series, 2)
    count: I64  # (n_series, 2)
    seen: I64  # (n_series,), newest interval with a value of any quality

    @classmethod
    def fresh(cls, interval_min: int, n_series: int) -> Sums:
        """Return the sums before the first value."""
        zero = np.zeros((n_series, 2))
        return cls(interval_min, -1, zero, zero.astype(np.int64), np.full(n_series, -1, dtype=np.int64))

    @property
    def length_ns(self) -> int:
        """Return the length of an interval."""
        return self.interval_min * MINUTE_NS

    def widened(self, n_series: int) -> Sums:
        """Return the sums with room for more series, the old ones first."""
        more = Sums.fresh(self.interval_min, n_series - self.total.shape[0])
        return replace(
            self,
            total=np.concatenate([self.total, more.total]),
            count=np.concatenate([self.count, more.count]),
            seen=np.concatenate([self.seen, more.seen]),
        )

    def taken(self, source: I64) -> Sums:
        """Return the sums of other series: rows of these ones (-1: a new one)."""
        kept = np.where(source >= 0)[0]
        out = replace(Sums.fresh(self.interval_min, source.size), start=self.start)
        for ours, theirs in ((out.total, self.total), (out.count, self.count), (out.seen, self.seen)):
            ours[kept] = theirs[source[kept]]
        return out


def add(sums: Sums, series: I64, number: I64, value: F64) -> tuple[Sums, int]:
    """Return the sums with these values in, and how many came too late.

    `number` (n,) is the interval of each value, at most one after the open one; NaN values only show that a
    series is alive.
    """
    sums = replace(sums, start=int(number.min())) if sums.start < 0 else sums
    place = number - sums.start
    total, count, seen = sums.total.copy(), sums.count.copy(), sums.seen.copy()
    np.maximum.at(seen, series, number)
    known = np.isfinite(value) & (place >= 0)
    np.add.at(total, (series[known], place[known]), value[known])
    np.add.at(count, (series[known], place[known]), 1)
    return replace(sums, total=total, count=count, seen=seen), int((place < 0).sum())


def due(sums: Sums, now_ns: int, wait_ns: int) -> bool:
    """Return whether the open interval may close."""
    if sums.start < 0:
        return False
    end_ns = (sums.start + 1) * sums.length_ns
    if now_ns >= end_ns + wait_ns:
        return True
    live = sums.seen >= sums.start + 1 - LIVE_INTERVALS
    return bool(live.any() and (sums.seen[live] > sums.start).all())


def closed(sums: Sums) -> tuple[Sums, F64]:
    """Return the sums after the open interval, and its means (n_series,); NaN where there was no value."""
    count = sums.count[:, 0]
    mean = np.where(count > 0, sums.total[:, 0] / np.maximum(count, 1), np.nan)
    zero = np.zeros_like(sums.total[:, :1])
    after = replace(
        sums,
        start=sums.start + 1,
        total=np.concatenate([sums.total[:, 1:], zero], axis=1),
        count=np.concatenate([sums.count[:, 1:], zero.astype(np.int64)], axis=1),
    )
    return after, mean


def skipped(sums: Sums, number: int) -> Sums:
    """Return the sums whose open interval is `number`, far away."""
    return replace(Sums.fresh(sums.interval_min, sums.total.shape[0]), start=number)

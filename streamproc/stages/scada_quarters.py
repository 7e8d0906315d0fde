"""The means of whole quarter hours of all forecast series of an area: what the 48-hour forecasts live on.

One record per area and quarter hour on `grid.intervals.v1`: an aligned set, small enough to be kept for years. It is what
`stages.ahead` reads, and what `streamproc train forecast` can learn from.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.messages import Intervals, encode
from streamproc.core.quantiles import rounded
from streamproc.core.scada import LastValues
from streamproc.core.sums import Sums, add, closed, due, skipped
from streamproc.stages.scada_area import AreaPlan, AreaState
from streamproc.values import F64, I64, TOPIC_INTERVALS, Output


def quarters(
    track: AreaState, plan: AreaPlan, t_ns: I64, column: I64, good: F64, before: LastValues
) -> tuple[Sums, list[Output]]:
    """Return the sums of the quarter hours after these values, and the means of those that closed.

    `before` are the last values before these: what stood in an interval that they close.
    """
    sums, of = track.quarter, plan.quarter
    outputs: list[Output] = []
    series_of = np.full(len(plan.names.ids), -1, dtype=np.int64)
    series_of[of.columns] = np.arange(of.columns.size)
    series = series_of[column]
    number = t_ns // sums.length_ns
    mine = series >= 0

    def close_one(sums: Sums) -> Sums:
        start_ns = sums.start * sums.length_ns
        sums, mean = closed(sums)
        for last in (track.last, before):
            mean = _held(last, plan, start_ns, mean)
        if np.isfinite(mean).any():
            outputs.append(_intervals(plan, start_ns, mean, track.clock.ns))
        return sums

    for at in np.unique(number[mine]).tolist():
        if sums.start >= 0 and at > sums.start + 1:
            sums = close_one(close_one(sums))
            sums = skipped(sums, at) if at > sums.start + 1 else sums
        here = mine & (number == at)
        sums, _ = add(sums, series[here], number[here], good[here])
    while due(sums, track.clock.ns, of.wait_ns):
        sums = close_one(sums)
        if not sums.count.any():
            break
    return sums, outputs


def _held(last: LastValues, plan: AreaPlan, start_ns: int, mean: F64) -> F64:
    """Return the means, those of points that are scanned slower than quarter hours with the value that still stands."""
    if plan.hold_ns is None or not plan.hold_ns.any():
        return mean
    columns = plan.quarter.columns
    age_ns = start_ns - last.value_ns[columns]
    stands = np.isnan(mean) & (age_ns >= 0) & (age_ns < plan.hold_ns[columns])
    return np.where(stands, last.value[columns], mean)


def _intervals(plan: AreaPlan, start_ns: int, mean: F64, now_ns: int) -> Output:
    columns = plan.quarter.columns.tolist()
    means = _plain(mean)
    message = Intervals(
        area=plan.names.area,
        start_us=start_ns // 1000,
        ids=tuple(plan.names.ids[i] for i in columns),
        units=tuple(plan.names.units[i] for i in columns),
        means=tuple(means),
        available_at_us=now_ns // 1000,
    )
    return Output(TOPIC_INTERVALS, plan.names.area.encode(), encode(message), now_ns // 1_000_000)


def _plain(mean: F64) -> list[float | None]:
    """Return means to seven digits: a meter that stands still shows the same number, however often it was scanned."""
    known = np.isfinite(mean)
    digits = rounded(np.where(known, mean, 0.0)[:, None])[:, 0]
    return [value if there else None for value, there in zip(digits.tolist(), known.tolist(), strict=True)]

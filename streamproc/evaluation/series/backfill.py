"""The history of series as the records that the 48-hour stage takes in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamproc.core.ahead.days import PER_DAY, STEP_S
from streamproc.core.messages import Intervals, encode
from streamproc.errors import DataError
from streamproc.evaluation.series.grid import Series
from streamproc.training.ahead.fleets import repeats
from streamproc.values import F64, TOPIC_INTERVALS, Record


def history_records(
    parts: Sequence[Series], area: str, ids: Sequence[str], units: Sequence[str], days: int
) -> list[Record]:
    """Return one record for each of the newest quarter hours of the series, oldest first; raises DataError."""
    first = parts[0]
    if any(part.t_s.size != first.t_s.size or part.t_s[0] != first.t_s[0] for part in parts):
        raise DataError("the targets do not cover the same times; send them one after another")
    times = repeats(first.step_s)
    values = np.stack([np.repeat(part.raw, times) for part in parts], axis=1)  # (n_quarter, n_series)
    begin = max(0, len(values) - days * PER_DAY)
    start_s = int(first.t_s[0]) + begin * STEP_S
    return records_of(values[begin:], start_s // STEP_S, area, ids, units)


def records_of(values: F64, number: int, area: str, ids: Sequence[str], units: Sequence[str]) -> list[Record]:
    """Return the records of means (n_quarter, n_series), NaN = unknown, from quarter hour `number` since 1970 on."""
    records = []
    for row, means in enumerate(values.tolist()):
        start_s = (number + row) * STEP_S
        message = Intervals(
            area=area,
            start_us=start_s * 1_000_000,
            ids=tuple(ids),
            units=tuple(units),
            means=tuple(value if np.isfinite(value) else None for value in means),
            history=True,
        )
        end_ms = (start_s + STEP_S) * 1000
        records.append(Record(TOPIC_INTERVALS, 0, 0, end_ms, area.encode(), encode(message)))
    return records

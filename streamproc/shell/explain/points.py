"""The SCADA points of an alert: their values from an hour before the onset to 20 minutes after it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.messages import Alert, ScadaBatch, decode
from streamproc.core.open_alert import SCADA_US
from streamproc.values import F64, TOPIC_SCADA, Record

PRE_S, POST_S = (us / 1e6 for us in SCADA_US)
SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Point:
    """The values of one point that came as good, in order of their time since the onset."""

    id: str
    unit: str
    t_s: F64
    value: F64
    limits: tuple[float, ...]  # those of the catalogue, in `unit`


def is_point(alert: Alert, site: SiteConfig) -> bool:
    """Return whether an alert is about a point of the catalogue."""
    return any(point.id == alert.source for point in site.point)


def points_of(alert: Alert, records: Iterable[Record], site: SiteConfig) -> tuple[Point, ...]:
    """Return the points of an alert that are in the catalogue; those without a value have none."""
    wanted = {p.id: p for p in site.point if p.area == alert.area and p.id in alert.sources[:SHOWN_MAX]}
    found: dict[str, dict[int, float]] = {name: {} for name in wanted}
    first_us, last_us = (alert.onset_ts_us + round(s * 1e6) for s in (-PRE_S, POST_S))
    for record in records:
        batch = decode(ScadaBatch, record.value) if record.topic == TOPIC_SCADA else None
        if not isinstance(batch, ScadaBatch) or batch.area != alert.area:
            continue
        for point in batch.points:
            if point.id in found and point.quality == "good" and first_us <= point.ts_us <= last_us:
                found[point.id][point.ts_us] = point.value
    made = []
    for name in (source for source in alert.sources if source in wanted):
        times = sorted(found[name])
        table = wanted[name]
        made.append(
            Point(
                name,
                table.unit,
                (np.array(times, dtype=np.int64) - alert.onset_ts_us) / 1e6,
                np.array([found[name][t] for t in times], dtype=np.float64),
                tuple(limit for limit in (table.limit_high, table.limit_low) if limit is not None),
            )
        )
    return tuple(made)

"""Limits of SCADA points: values into scores, edges into findings.

A point has an upper limit, a lower one, both or none, in its own unit. Scores are in per unit as everywhere
(1.0 is at the limit), so that `core.condition` judges them with the same delays and deadbands as a
detector's:

    upper limit above zero    value / limit
    any other                 1 + (how far beyond) / |limit|        (a limit of 0: per 1 of the unit)

The delays are per point. Each point has its own rule name, `point_high:ID` or `point_low:ID`: limits of
different points are different limits, and an alert must not mix their values. NaN (bad, or not in this
record) holds everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamproc.core.condition import Edges, RuleArrays
from streamproc.core.findings import KINDS, finding_id
from streamproc.core.messages import Finding, encode
from streamproc.values import F64, I64, TOPIC_FINDINGS, U32, Output

HIGH, LOW = 0, 1
LARGEST = 1e300  # scores and values beyond it are told as this: JSON has no infinity
RULES = ("point_high", "point_low")
PRIORITY = 2  # a limit of plant or grid, told by one source: not the highest
RULE_VERSION = 1


class Limited(Protocol):
    """What of a point of the catalogue is needed here (`streamproc.config.PointTable`)."""

    @property
    def limit_high(self) -> float | None:
        """In the unit of the point."""

    @property
    def limit_low(self) -> float | None:
        """In the unit of the point."""

    @property
    def deadband(self) -> float:
        """In the unit of the point."""

    @property
    def on_delay_ms(self) -> int:
        """In event time."""

    @property
    def off_delay_ms(self) -> int:
        """In event time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of all points of an area as columns; NaN where a point has none. Row 0: high, 1: low."""

    limit: F64  # (2, n_point)
    scale: F64  # (2, n_point), what one per unit is
    rules: RuleArrays  # (2, n_point) each

    @classmethod
    def of(cls, points: Sequence[Limited]) -> Limits:
        """Return the columns of these points."""
        limit = np.array([[_or_nan(p.limit_high) for p in points], [_or_nan(p.limit_low) for p in points]])
        scale = np.where(limit == 0.0, 1.0, np.abs(limit))
        deadband = np.array([[p.deadband for p in points]] * 2)
        on_ns = np.array([[p.on_delay_ms for p in points]] * 2, dtype=np.int64) * 1_000_000
        off_ns = np.array([[p.off_delay_ms for p in points]] * 2, dtype=np.int64) * 1_000_000
        return cls(limit, scale, RuleArrays(on_ns, off_ns, 1.0 - deadband / scale))

    @property
    def any(self) -> bool:
        """Return whether there is any limit at all."""
        return bool(np.isfinite(self.limit).any())

    def scores(self, value: F64) -> F64:
        """Return (n_tick, 2, n_point) for values (n_tick, n_point); NaN = no limit, or unknown."""
        with np.errstate(over="ignore"):
            over = (value - self.limit[HIGH]) / self.scale[HIGH]
            under = (self.limit[LOW] - value) / self.scale[LOW]
        return np.asarray(np.clip(1.0 + np.stack([over, under], axis=1), -LARGEST, LARGEST))

    def values(self, edges: Edges) -> F64:
        """Return the value (n_edge,) that each edge's score stands for."""
        with np.errstate(over="ignore"):
            beyond = (edges.score - 1.0) * self.scale[edges.rule, edges.source]
        sign = np.where(edges.rule == HIGH, 1.0, -1.0)
        return np.asarray(np.clip(self.limit[edges.rule, edges.source] + sign * beyond, -LARGEST, LARGEST))


def _or_nan(limit: float | None) -> float:
    return np.nan if limit is None else limit


@dataclass(frozen=True, slots=True)
class Names:
    """What the findings of an area are called."""

    area: str
    position: str
    ids: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]


TEXTS = {
    HIGH: "{source} at {value} {unit} is at or over its upper limit of {limit} {unit}",
    LOW: "{source} at {value} {unit} is at or under its lower limit of {limit} {unit}",
}


def point_findings(names: Names, limits: Limits, edges: Edges, t_ns: I64, flags: U32) -> list[Output]:
    """Return one finding per edge, in their order; `t_ns` (n_tick,), `flags` (n_tick, n_point)."""
    value = limits.values(edges)
    outputs: list[Output] = []
    for i in range(edges.tick.size):
        tick, rule, source = int(edges.tick[i]), int(edges.rule[i]), int(edges.source[i])
        name = f"{RULES[rule]}:{names.ids[source]}"
        kind, ts_us = KINDS[int(edges.kind[i])], int(t_ns[tick]) // 1000
        limit = float(limits.limit[rule, source])
        finding = Finding(
            type=kind,
            finding_id=finding_id(names.area, name, RULE_VERSION, kind, ts_us, ""),
            area=names.area,
            position=names.position,
            ts_us=ts_us,
            kind=f"{names.kinds[source]}_{'high' if rule == HIGH else 'low'}",
            rule=name,
            rule_version=RULE_VERSION,
            priority=PRIORITY,
            sources=(names.ids[source],),
            scores=(round(float(edges.score[i]), 6),),
            onsets_us=(int(edges.onset_ns[i]) // 1000,),
            values=(round(float(value[i]), 6),),
            limit=limit,
            unit=names.units[source],
            text=TEXTS[rule],
            quality=int(flags[tick, source]),
        )
        outputs.append(_output(names.position, finding))
    return outputs


def watermark(names: Names, t_ns: int) -> Output:
    """Return the finding that carries nothing but time."""
    ts_us = t_ns // 1000
    mark = Finding(
        type="watermark",
        finding_id=finding_id(names.area, "scada", 0, "watermark", ts_us, ""),
        area=names.area,
        position=names.position,
        ts_us=ts_us,
    )
    return _output(names.position, mark)


def _output(position: str, finding: Finding) -> Output:
    return Output(TOPIC_FINDINGS, position.encode(), encode(finding), finding.ts_us // 1000)

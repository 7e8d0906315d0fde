"""Reading a worker's own `/metrics`, for the demo: counters, and quantiles between two readings.

A quantile between two readings is that of what happened in between, linear inside its bucket, as PromQL's
`histogram_quantile` over a range has it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_BUCKETS = "streamproc_stage_duration_seconds_bucket"

Buckets = Mapping[float, float]  # upper edge, s -> cumulative count


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading: counters and gauges by (name, label values), histogram buckets by stage."""

    at_s: float = 0.0
    values: Mapping[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    buckets: Mapping[str, Buckets] = field(default_factory=dict)

    def total(self, name: str) -> float:
        """Return the sum of a series over its labels."""
        return sum(value for (found, _), value in self.values.items() if found == name)

    def by_label(self, name: str) -> dict[str, float]:
        """Return a series by its first label."""
        return {
            labels[0]: value for (found, labels), value in self.values.items() if found == name and labels
        }


def parse_metrics(text: str, at_s: float) -> Reading:
    """Return the reading of a text in Prometheus' format; lines that are none are passed over."""
    values: dict[tuple[str, tuple[str, ...]], float] = {}
    buckets: dict[str, dict[float, float]] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is None:
            continue
        name, labels, value = (
            match.group(1),
            dict(_LABEL.findall(match.group(2) or "")),
            float(match.group(3)),
        )
        if name == _BUCKETS:
            buckets.setdefault(labels["stage"], {})[float(labels["le"])] = value
        else:
            values[name, tuple(labels.values())] = value
    return Reading(at_s, values, buckets)


def quantile_s(before: Reading, after: Reading, stage: str, q: float) -> float:
    """Return the q-quantile in seconds of what a stage took between two readings; NaN without any."""
    old, new = before.buckets.get(stage, {}), after.buckets.get(stage, {})
    edges = sorted(new)
    counts = [new[edge] - old.get(edge, 0.0) for edge in edges]
    if not counts or counts[-1] <= 0:
        return math.nan
    wanted = q * counts[-1]
    low_edge, low_count = 0.0, 0.0
    for edge, count in zip(edges, counts, strict=True):
        if count >= wanted:
            if math.isinf(edge):
                return low_edge
            share = (wanted - low_count) / (count - low_count) if count > low_count else 1.0
            return low_edge + (edge - low_edge) * share
        low_edge, low_count = edge, count
    return math.nan


def rate_per_s(before: Reading, after: Reading, name: str) -> dict[str, float]:
    """Return the increase per second of a counter by its first label."""
    span_s = after.at_s - before.at_s
    old = before.by_label(name)
    if span_s <= 0:
        return {}
    return {label: (value - old.get(label, 0.0)) / span_s for label, value in after.by_label(name).items()}

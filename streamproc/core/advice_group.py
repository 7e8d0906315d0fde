"""What advice is about: resources, limited points, the forecasts of both, and which of them hang together.

A group is a set of resources with all the limited points that they move: a connected part of the site's
`effect` tables. Every group is planned on its own, so that no resource is promised twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core.quantiles import LEVELS
from streamproc.values import F64

HIGH, LOW = "high", "low"
MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Resource:
    """What may be recommended to move (a `[[resource]]` table)."""

    id: str
    point: str
    unit: str
    value_min: float
    value_max: float
    ramp_per_min: float
    cost: float
    effect: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Watched:
    """A point with a limit."""

    id: str
    area: str
    unit: str
    limit_high: float | None
    limit_low: float | None

    def limit(self, side: str) -> float | None:
        """Return the limit of one side."""
        return self.limit_high if side == HIGH else self.limit_low


@dataclass(frozen=True, slots=True)
class Group:
    """Resources and limited points that hang together."""

    resources: tuple[Resource, ...]
    points: tuple[Watched, ...]

    @property
    def series(self) -> frozenset[str]:
        """Return every series that matters here."""
        return frozenset(p.id for p in self.points) | frozenset(r.point for r in self.resources)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The newest forecast of a series, as far as advice needs it."""

    series: str
    area: str
    issued_us: int
    interval_min: int
    valid_us: tuple[int, ...]
    quantiles: F64  # (7, n_step)
    last_value: float  # NaN: none
    last_us: int
    good: bool
    method: str
    digest: str

    def fresh(self, now_us: int) -> bool:
        """Return whether it is still the newest that can be expected, and good."""
        return self.good and now_us - self.issued_us <= (2 * self.interval_min + 2) * MINUTE_US

    def value_known(self, now_us: int) -> bool:
        """Return whether the last value is a value and not old."""
        return bool(np.isfinite(self.last_value)) and (
            now_us - self.last_us <= (2 * self.interval_min + 2) * MINUTE_US
        )


def groups_of(resources: Sequence[Resource], points: Sequence[Watched]) -> tuple[Group, ...]:
    """Return the connected groups, in the order of the site file; points that nothing moves are left out."""
    limited = {p.id for p in points if p.limit_high is not None or p.limit_low is not None}
    parts: list[tuple[list[Resource], set[str]]] = []
    for resource in resources:
        touches = (set(resource.effect) & limited) | {resource.point}
        if not set(resource.effect) & limited:
            continue
        joined = [part for part in parts if part[1] & touches]
        members = [r for part in joined for r in part[0]] + [resource]
        names = touches.union(*(part[1] for part in joined))
        parts = [part for part in parts if part not in joined] + [(members, names)]
    order = {r.id: i for i, r in enumerate(resources)}
    return tuple(
        Group(
            tuple(sorted(members, key=lambda r: order[r.id])),
            tuple(p for p in points if p.id in limited and any(p.id in r.effect for r in members)),
        )
        for members, _ in parts
    )


def path(outlook: Outlook, side: str, quantile: int, now_us: int, horizon_min: int) -> tuple[F64, list[int]]:
    """Return the quantile that must stay inside (n,), mirrored for lower limits, and its times."""
    row = quantile if side == HIGH else len(LEVELS) - 1 - quantile
    until_us = now_us + horizon_min * MINUTE_US
    keep = [i for i, t in enumerate(outlook.valid_us) if now_us < t <= until_us]
    return outlook.quantiles[row, keep], [outlook.valid_us[i] for i in keep]


def beyond(value: float | F64, limit: float, side: str) -> F64:
    """Return how far a value is over an upper or under a lower limit; negative inside."""
    return np.asarray(value - limit if side == HIGH else limit - value, dtype=np.float64)


def probability_beyond(outlook: Outlook, step_us: int, limit: float, side: str) -> float:
    """Return the probability of being beyond the limit at a valid time, between 0.05 and 0.95."""
    bands = outlook.quantiles[:, outlook.valid_us.index(step_us)]
    below = float(np.interp(limit, bands, LEVELS))
    return round(min(0.95, max(0.05, 1.0 - below if side == HIGH else below)), 3)

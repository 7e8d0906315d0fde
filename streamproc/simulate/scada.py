"""Seeded SCADA points of one area, their catalogue, and a feeder that is on its way over its capacity.

    24 feeders, 6 wind farms, 6 solar plants, 4 storages (MW)   12 voltages (kV)   4 currents (A)   4 weather

Loads follow the day (a morning and an evening peak, UTC), the sun its hours, the wind wanders; each point
adds an Ornstein-Uhlenbeck process of its own. The feeder `F07_mw` has been rising for 90 minutes at
`pivot_ns`, stands at 93 % of its capacity then and passes it about 20 minutes later, whatever the time of
day. The storage `BAT1_mw` stands behind that feeder and can relieve it: `follow` is what an operator does.
Values depend on the seed and on the
times that are asked for, in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from streamproc.config import PointTable, ResourceTable
from streamproc.core.messages import ScadaBatch, ScadaPoint
from streamproc.values import F64

Kind: TypeAlias = Literal[
    "feeder", "voltage", "wind", "solar", "storage", "current", "temperature", "irradiance"
]

RISING_FEEDER = "F07_mw"
RISING_LIMIT_MW = 12.0
RISING_FROM, RISING_TO, RISE_MIN = 0.65, 0.93, 90.0  # share of the limit, over the minutes before the pivot
RISING_MAX = 1.15
RELIEF = "BAT1_mw"
RAMP_MW_PER_MIN = 1.0  # of the storage


@dataclass(frozen=True, slots=True)
class Member:
    """One point: its id and unit, its size, and how much of that size it wanders, with which memory."""

    id: str
    kind: Kind
    size: float
    wander: float
    memory_s: float


def members() -> tuple[Member, ...]:
    """Return the 60 points, always the same."""
    rng = np.random.default_rng(
        60
    )  # of the grid, not of the run: the catalogue must not change with the seed
    loads = [
        Member(f"F{n:02d}_mw", "feeder", float(s), 0.02, 900.0)
        for n, s in enumerate(rng.uniform(4, 14, 24), 1)
    ]
    volts = [Member(f"BUS{n:02d}_kv", "voltage", 115.0, 0.004, 600.0) for n in range(1, 13)]
    wind = [
        Member(f"WIND{n}_mw", "wind", float(s), 0.25, 3600.0) for n, s in enumerate(rng.uniform(20, 60, 6), 1)
    ]
    solar = [
        Member(f"PV{n}_mw", "solar", float(s), 0.10, 900.0) for n, s in enumerate(rng.uniform(5, 25, 6), 1)
    ]
    storage = [Member(f"BAT{n}_mw", "storage", 5.0, 0.01, 300.0) for n in range(1, 5)]
    amperes = [Member(f"T{n}_a", "current", 400.0, 0.03, 900.0) for n in range(1, 5)]
    weather = [Member(f"TEMP{n}_degc", "temperature", 1.0, 1.0, 7200.0) for n in (1, 2)]
    sun = [Member(f"SUN{n}_w_m2", "irradiance", 900.0, 0.08, 1200.0) for n in (1, 2)]
    return (*loads, *volts, *wind, *solar, *storage, *amperes, *weather, *sun)


_UNITS: dict[str, Literal["MW", "kV", "A", "degC", "W/m2"]] = {
    "feeder": "MW",
    "voltage": "kV",
    "wind": "MW",
    "solar": "MW",
    "storage": "MW",
    "current": "A",
    "temperature": "degC",
    "irradiance": "W/m2",
}
_KINDS: dict[str, Literal["load", "generation", "voltage", "current", "weather"]] = {
    "feeder": "load",
    "voltage": "voltage",
    "wind": "generation",
    "solar": "generation",
    "storage": "generation",
    "current": "current",
    "temperature": "weather",
    "irradiance": "weather",
}


def catalogue(area: str) -> tuple[PointTable, ...]:
    """Return the `[[point]]` tables: limits on feeders and voltages; the rising feeder each minute."""
    return tuple(_point(member, area) for member in members())


def _point(member: Member, area: str) -> PointTable:
    low = high = None
    if member.kind == "feeder":
        high = RISING_LIMIT_MW if member.id == RISING_FEEDER else round(member.size * 1.6, 1)
    elif member.kind == "voltage":
        low, high = 109.0, 121.0
    watched = member.id in {RISING_FEEDER, RELIEF}
    return PointTable(
        id=member.id,
        area=area,
        unit=_UNITS[member.kind],
        kind=_KINDS[member.kind],
        interval_min=1 if watched else 15 if member.kind in {"voltage", "current"} else 5,
        forecast=member.kind not in {"temperature", "irradiance"},
        limit_high=high,
        limit_low=low,
        deadband=0.1 if member.kind == "feeder" else 0.2,
        on_delay_ms=10_000,
        off_delay_ms=10_000,
    )


def resources() -> tuple[ResourceTable, ...]:
    """Return the `[[resource]]` tables: the storage behind the rising feeder."""
    return (
        ResourceTable(
            id="BAT1",
            kind="storage",
            point=RELIEF,
            unit="MW",
            value_min=-5.0,
            value_max=5.0,
            ramp_per_min=RAMP_MW_PER_MIN,
            cost=5.0,
            effect={RISING_FEEDER: -1.0},
        ),
    )


class ScadaPoints:
    """The points with their memory; ask for times that do not go back."""

    def __init__(self, area: str, seed: int, pivot_ns: int) -> None:
        self.area = area
        self.pivot_ns = pivot_ns
        self._members = members()
        self._rng = np.random.default_rng([seed, 60])
        self._wander: F64 = self._rng.normal(0.0, 1.0, len(self._members))
        self._last_ns: int | None = None
        self._follows: tuple[int, float] | None = None  # since when, and to where, the storage goes

    def follow(self, t_ns: int, target_mw: float) -> None:
        """Let the storage go to a target from this time on, by its ramp, as if an operator had set it."""
        self._follows = (t_ns, target_mw)

    def _moved_mw(self, t_ns: int) -> float:
        if self._follows is None:
            return 0.0
        since_ns, target_mw = self._follows
        reach_mw = RAMP_MW_PER_MIN * max(0.0, (t_ns - since_ns) / 6e10)
        return float(np.clip(target_mw, -reach_mw, reach_mw))

    def values(self, t_ns: int) -> F64:
        """Return (n_point,) values at this time, in the order of `members()`."""
        memory_s = np.array([member.memory_s for member in self._members])
        kicks = self._rng.normal(0.0, 1.0, memory_s.size)
        if self._last_ns is not None:
            keep = np.exp(-max(0.0, (t_ns - self._last_ns) / 1e9) / memory_s)
            self._wander = keep * self._wander + np.sqrt(1.0 - keep**2) * kicks
        self._last_ns = t_ns
        hour = t_ns / 3.6e12 % 24.0
        levels = [self._level(member, hour, t_ns) for member in self._members]
        moved_mw = self._moved_mw(t_ns)
        for number, member in enumerate(self._members):
            levels[number] += moved_mw * {RELIEF: 1.0, RISING_FEEDER: -1.0}.get(member.id, 0.0)
        sizes = np.array([member.size * member.wander for member in self._members])
        made = np.array(levels) + self._wander * sizes
        positive = np.array([m.kind not in {"storage", "temperature"} for m in self._members])
        return np.asarray(np.round(np.where(positive, np.maximum(made, 0.0), made), 3))

    def batch(self, t_ns: int) -> ScadaBatch:
        """Return the message with all points at this time."""
        ts_us = t_ns // 1000
        pairs = zip(self._members, self.values(t_ns).tolist(), strict=True)
        points = tuple(ScadaPoint(id=member.id, value=value, ts_us=ts_us) for member, value in pairs)
        return ScadaBatch(area=self.area, points=points)

    def _level(self, member: Member, hour: float, t_ns: int) -> float:
        if member.id == RISING_FEEDER:
            share = RISING_TO + (RISING_TO - RISING_FROM) * ((t_ns - self.pivot_ns) / 6e10) / RISE_MIN
            return RISING_LIMIT_MW * min(RISING_MAX, max(RISING_FROM, share))
        day = 0.75 + 0.2 * np.exp(-((hour - 8.0) ** 2) / 8.0) + 0.25 * np.exp(-((hour - 19.0) ** 2) / 8.0)
        sun = max(0.0, float(np.sin(np.pi * (hour - 6.0) / 12.0)))
        by_kind = {
            "feeder": member.size * day,
            "voltage": member.size * (1.0 + 0.01 * (1.0 - day)),
            "wind": member.size * 0.5,
            "solar": member.size * sun,
            "storage": 0.0,
            "current": member.size * day,
            "temperature": 12.0 + 6.0 * np.sin(np.pi * (hour - 9.0) / 12.0),
            "irradiance": member.size * sun,
        }
        return float(by_kind[member.kind])

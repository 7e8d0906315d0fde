"""What the columns of a recording mean: names with units into quantities.

A column is NAME_QUANTITY_UNIT, or QUANTITY_UNIT when there is one device only; case does not matter:

    time          time_s time_ms time_us time_ns (also t_s, ts_us, ...), timestamp, time, datetime, utc: ISO 8601
    PMU           NAME_freq_hz  NAME_freq_dev_hz  NAME_freq_dev_mhz  NAME_rocof_hz_s
                  NAME_voltage_pu  NAME_voltage_v  NAME_voltage_kv  NAME_angle_rad  NAME_angle_deg
    SCADA point   NAME_mw _mvar _kv _a _hz _degc _w_m2 _m_s _pu; its id is the whole name of the column

At less than one row per second every column is a SCADA point: no PMU is that slow. A column whose name stands
in the site's catalogue is that point in any case. What fits nowhere is left out and named in
`Columns.ignored`; a unit is never guessed, but for plain numbers under `timestamp` or `time`, which are taken
as s, ms, us or ns since 1970 by their size.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

PMU_RATE_HZ_MIN = 1.0  # rows per second; below, voltages and frequencies are SCADA points too

TIME_SCALE_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_TIME = re.compile(r"(?:time|t|ts|timestamp|epoch)[ _(]+(s|ms|us|ns)\)?$")
_TIME_TEXT = {"timestamp", "time", "datetime", "date_time", "utc", "time_utc", "timestamp_utc", "ts"}

# (quantity, what one unit is in SI or pu); the longest ending wins.
_FREQUENCY = ("freq", "frequency", "f")
_VOLTAGE = ("voltage", "volt", "vm", "vmag", "v", "u")
_ANGLE = ("angle", "ang", "va", "vang", "phase", "voltage_angle")
PMU_ENDINGS: dict[str, tuple[str, float]] = {
    **{f"{word}_hz": ("freq", 1.0) for word in _FREQUENCY},
    **{f"{word}_dev_hz": ("freq_dev", 1.0) for word in _FREQUENCY},
    **{f"{word}_dev_mhz": ("freq_dev", 1e-3) for word in _FREQUENCY},
    **{f"{word}_hz_s": ("rocof", 1.0) for word in ("rocof", "dfreq", "dfdt")},
    **{f"{word}_pu": ("voltage_pu", 1.0) for word in _VOLTAGE},
    **{f"{word}_v": ("voltage", 1.0) for word in ("voltage", "volt", "vm", "vmag")},
    **{f"{word}_kv": ("voltage", 1e3) for word in _VOLTAGE},
    **{f"{word}_rad": ("angle", 1.0) for word in _ANGLE},
    **{f"{word}_deg": ("angle", 0.017453292519943295) for word in _ANGLE},
}
SCADA_ENDINGS = ("mw", "mvar", "kv", "a", "hz", "degc", "w_m2", "m_s", "pu")


@dataclass(frozen=True, slots=True)
class PmuColumns:
    """The columns of one PMU: quantity -> (column, scale)."""

    name: str
    quantities: dict[str, tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what. `time` is -1 without a time column; its scale is 0 for text."""

    time: int
    time_scale_ns: float
    pmus: tuple[PmuColumns, ...]
    points: tuple[tuple[str, int], ...]  # (id, column)
    ignored: tuple[str, ...]


def is_time(name: str) -> bool:
    """Return whether a column of this name holds the time."""
    word = name.strip().lower()
    return word in _TIME_TEXT or _TIME.match(word) is not None


def find_time(names: Sequence[str]) -> tuple[int, float]:
    """Return (column, ns per unit) of the first time column; (-1, 0) without one, scale 0 for text."""
    for column, name in enumerate(names):
        word = name.strip().lower()
        match = _TIME.match(word)
        if match is not None:
            return column, TIME_SCALE_NS[match.group(1)]
        if word in _TIME_TEXT:
            return column, 0.0
    return -1, 0.0


def find_columns(names: Sequence[str], rate_hz: float, points: Collection[str] = ()) -> Columns:
    """Return what the columns are, at this many rows per second, with this catalogue of points."""
    time, scale = find_time(names)
    pmus: dict[str, dict[str, tuple[int, float]]] = {}
    found_points: list[tuple[str, int]] = []
    ignored: list[str] = []
    for column, raw in enumerate(names):
        name = raw.strip()
        if column == time or is_time(name):
            continue
        pmu = _pmu_quantity(name) if rate_hz >= PMU_RATE_HZ_MIN else None
        if name in points:
            found_points.append((name, column))
        elif pmu is not None and pmu[1] not in pmus.get(pmu[0], {}):
            pmus.setdefault(pmu[0], {})[pmu[1]] = (column, pmu[2])
        elif name.lower().endswith(tuple(f"_{ending}" for ending in SCADA_ENDINGS)):
            found_points.append((name, column))
        else:
            ignored.append(name)
    table = tuple(PmuColumns(name, quantities) for name, quantities in pmus.items())
    return Columns(time, scale, table, tuple(found_points), tuple(ignored))


def _pmu_quantity(name: str) -> tuple[str, str, float] | None:
    """Return (PMU, quantity, scale) of a column, or None."""
    word = name.lower()
    for ending in sorted(PMU_ENDINGS, key=len, reverse=True):
        if word == ending or word.endswith(("_" + ending, "." + ending, " " + ending)):
            quantity, scale = PMU_ENDINGS[ending]
            return name[: len(name) - len(ending)].rstrip("_. ") or "PMU", quantity, scale
    return None

"""The network file (`[site] grid_file`): buses, lines, and where PMUs and points are. Refused as a whole, or taken.

[[bus]]                      [[line]]                         [[pmu]]
id = "NORTH"                 id = "L1"                        id = "SUBSTATION A"
kv = 380.0                   from_bus = "NORTH"               bus = "NORTH"
to_bus = "SOUTH"
x_pu = 0.02                      [[point]]
limit_mw = 900.0                 id = "L1.P"
line = "L1"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct

from streamproc.core.topology import Topology, topology_of
from streamproc.shell.site_breach import Breach
from streamproc.shell.strict_toml import parse_strict, read_text


class BusTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[bus]]`: a busbar or substation."""

    id: str
    area: str = ""
    kv: float | None = None


class LineTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[line]]`: a line or transformer between two buses."""

    id: str
    from_bus: str
    to_bus: str
    x_pu: float | None = None  # series reactance; needed for sensitivities
    limit_mw: float | None = None


class PmuPlace(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[pmu]]`: where a PMU is; its id is the station name of its configuration frame."""

    id: str
    bus: str


class PointPlace(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[point]]`: where a SCADA point is: at a bus, or on a line."""

    id: str
    bus: str | None = None
    line: str | None = None


class GridFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    bus: tuple[BusTable, ...] = ()
    line: tuple[LineTable, ...] = ()
    pmu: tuple[PmuPlace, ...] = ()
    point: tuple[PointPlace, ...] = ()


def load_grid(path: FilePath | str) -> GridFile:
    """Return the checked network; raises ConfigError with file, line, key, value and rule."""
    return parse_grid(read_text(path, "a network file"), str(path))


def parse_grid(text: str, name: str = "grid.toml") -> GridFile:
    """Return the checked network of a TOML text; raises ConfigError."""
    return parse_strict(text, name, GridFile, _breaches)


def load_topology(path: FilePath | str | None) -> Topology:
    """Return what is next to what; without a file nothing is known."""
    return Topology() if path is None else topology_in(load_grid(path))


def topology_in(grid: GridFile) -> Topology:
    """Return the topology of a network."""
    ends = {line.id: frozenset((line.from_bus, line.to_bus)) for line in grid.line}
    places: dict[str, frozenset[str]] = {pmu.id: frozenset((pmu.bus,)) for pmu in grid.pmu}
    for point in grid.point:
        places[point.id] = frozenset((point.bus,)) if point.bus is not None else ends[point.line or ""]
    return topology_of(((line.from_bus, line.to_bus) for line in grid.line), places)


def _breaches(grid: GridFile, given: Mapping[str, Any]) -> Iterator[Breach]:
    del given
    for name in ("bus", "line", "pmu", "point"):
        yield from _twice(name, [element.id for element in getattr(grid, name)])
    buses = {bus.id for bus in grid.bus}
    yield from _network(grid, buses)
    yield from _places(grid, buses, {line.id for line in grid.line})


def _network(grid: GridFile, buses: set[str]) -> Iterator[Breach]:
    for index, bus in enumerate(grid.bus):
        if bus.kv is not None and not 0 < bus.kv < 2000:
            yield Breach(("bus", index, "kv"), bus.kv, "must be above 0 and below 2000 (kV, not V)")
    for index, line in enumerate(grid.line):
        for key in ("from_bus", "to_bus"):
            if getattr(line, key) not in buses:
                yield Breach(("line", index, key), getattr(line, key), "no such [[bus]]")
        if line.from_bus == line.to_bus:
            yield Breach(
                ("line", index, "to_bus"), line.to_bus, "must not be from_bus: a line joins two buses"
            )
        for key in ("x_pu", "limit_mw"):
            value = getattr(line, key)
            if value is not None and not value > 0:
                yield Breach(("line", index, key), value, "must be greater than 0")


def _places(grid: GridFile, buses: set[str], lines: set[str]) -> Iterator[Breach]:
    for index, pmu in enumerate(grid.pmu):
        if pmu.bus not in buses:
            yield Breach(("pmu", index, "bus"), pmu.bus, "no such [[bus]]")
    for index, point in enumerate(grid.point):
        if (point.bus is None) == (point.line is None):
            yield Breach(("point", index, "id"), point.id, "needs either bus or line")
        elif point.bus is not None and point.bus not in buses:
            yield Breach(("point", index, "bus"), point.bus, "no such [[bus]]")
        elif point.line is not None and point.line not in lines:
            yield Breach(("point", index, "line"), point.line, "no such [[line]]")


def _twice(name: str, ids: Iterable[str]) -> Iterator[Breach]:
    seen: set[str] = set()
    for index, identity in enumerate(ids):
        if identity in seen:
            yield Breach((name, index, "id"), identity, "stands there twice")
        seen.add(identity)


def grid_text(grid: GridFile, source: str) -> str:
    """Return the TOML of a network, as `streamproc grid import` writes it."""
    rows = [f"# Made from {source}. Add [[pmu]] and [[point]]: where measurements are is not in it.\n"]
    for name in ("bus", "line", "pmu", "point"):
        for element in getattr(grid, name):
            rows.append(f"[[{name}]]")
            for key in element.__struct_fields__:
                value = getattr(element, key)
                if value is not None and value != "":
                    rows.append(f"{key} = {_toml(value)}")
            rows.append("")
    return "\n".join(rows)


def _toml(value: str | float) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else "?" for c in escaped) + '"'
    return f"{value:.9g}" if value != round(value) else f"{value:.1f}"

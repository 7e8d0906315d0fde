"""Networks of other programs as a network file: pandapower (JSON), MATPOWER (.m) and CIM/CGMES (XML or ZIP).

Their own libraries read them (`pip install 'streamproc[grid]'`). Only what is in service is taken.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from streamproc.errors import ConfigError
from streamproc.shell.grid_file import BusTable, GridFile, LineTable


def import_grid(path: Path) -> GridFile:
    """Return the network in a file, by its ending; raises ConfigError."""
    readers = {".json": _pandapower, ".m": _matpower, ".xml": _cim, ".zip": _cim}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: unknown ending; known are {', '.join(readers)}")
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    try:
        grid = reader(path)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: cannot be read as a network: {type(error).__name__}: {error}") from error
    if not grid.bus:
        raise ConfigError(f"{path}: holds no buses")
    return grid


def _library(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"this needs {name}: pip install 'streamproc[grid]'") from error


def _pandapower(path: Path) -> GridFile:
    return grid_of_pandapower(_library("pandapower").from_json(str(path)))


def grid_of_pandapower(net: Any) -> GridFile:  # noqa: ANN401 - pandapowerNet has no types
    """Return the network of a pandapower net: lines by length and reactance, transformers by short-circuit voltage."""
    base_mva = float(net.sn_mva) or 1.0
    names = _unique([str(name) if name else f"bus{index}" for index, name in net.bus["name"].items()])
    bus = dict(zip(net.bus.index, names, strict=True))
    buses = tuple(
        BusTable(id=bus[i], area=_word(net.bus.at[i, "zone"]), kv=float(net.bus.at[i, "vn_kv"]))
        for i in net.bus.index
        if bool(net.bus.at[i, "in_service"])
    )
    known = {b.id for b in buses}
    branches: list[LineTable] = []
    for i, row in net.line.iterrows():
        kv = float(net.bus.at[row["from_bus"], "vn_kv"])
        ohm = float(row["x_ohm_per_km"]) * float(row["length_km"]) / float(row["parallel"])
        name = str(row["name"]) if row["name"] else f"line{i}"
        limit_mw = 3**0.5 * kv * float(row["max_i_ka"]) * float(row["parallel"])
        branches.append(
            _branch(name, bus[row["from_bus"]], bus[row["to_bus"]], ohm / (kv * kv / base_mva), limit_mw, row)
        )
    for i, row in net.trafo.iterrows():
        x_pu = float(row["vk_percent"]) / 100.0 * base_mva / float(row["sn_mva"])
        name = str(row["name"]) if row["name"] else f"trafo{i}"
        branches.append(
            _branch(name, bus[row["hv_bus"]], bus[row["lv_bus"]], x_pu, float(row["sn_mva"]), row)
        )
    joined = [b for b in branches if b.id and {b.from_bus, b.to_bus} <= known and b.from_bus != b.to_bus]
    ids = _unique([b.id for b in joined])
    return GridFile(bus=buses, line=tuple(_named(b, i) for b, i in zip(joined, ids, strict=True)))


def _branch(name: str, one: str, other: str, x_pu: float, limit_mw: float, row: Any) -> LineTable:  # noqa: ANN401
    in_service = bool(row["in_service"])
    return LineTable(
        id=name if in_service else "",
        from_bus=one,
        to_bus=other,
        x_pu=x_pu if x_pu > 0 else None,
        limit_mw=limit_mw if 0 < limit_mw < 1e6 else None,
    )


def _matpower(path: Path) -> GridFile:
    case = _library("matpowercaseframes").CaseFrames(str(path))
    number = [int(n) for n in case.bus["BUS_I"]]
    buses = tuple(
        BusTable(id=str(n), area=f"{int(area)}", kv=float(kv) if float(kv) > 0 else None)
        for n, area, kv in zip(number, case.bus["BUS_AREA"], case.bus["BASE_KV"], strict=True)
    )
    rows = zip(
        case.branch["F_BUS"],
        case.branch["T_BUS"],
        case.branch["BR_X"],
        case.branch["RATE_A"],
        case.branch["BR_STATUS"],
        strict=True,
    )
    lines = [
        LineTable(
            id=f"{int(one)}-{int(other)}",
            from_bus=str(int(one)),
            to_bus=str(int(other)),
            x_pu=float(x) if float(x) > 0 else None,
            limit_mw=float(rate) if float(rate) > 0 else None,
        )
        for one, other, x, rate, status in rows
        if int(status) == 1 and int(one) != int(other)
    ]
    ids = _unique([line.id for line in lines])
    return GridFile(bus=buses, line=tuple(_named(b, i) for b, i in zip(lines, ids, strict=True)))


def _cim(path: Path) -> GridFile:
    """Substations are the buses: terminals lead over connectivity nodes and voltage levels to them."""
    data = _library("triplets").rdf_parser.load_all_to_dataframe([str(path)])
    value: dict[str, dict[str, str]] = {
        str(key): dict(zip(rows["ID"], rows["VALUE"], strict=True))
        for key, rows in data[["ID", "KEY", "VALUE"]].groupby("KEY")
    }
    kinds = value.get("Type", {})
    names = value.get("IdentifiedObject.name", {})
    level = value.get("VoltageLevel.Substation", {})
    node = value.get("ConnectivityNode.ConnectivityNodeContainer", {})
    nodes = value.get("Terminal.ConnectivityNode", {}) or value.get("Terminal.TopologicalNode", {})
    node = node or value.get("TopologicalNode.ConnectivityNodeContainer", {})
    at: dict[str, list[str]] = {}
    for terminal, equipment in sorted(value.get("Terminal.ConductingEquipment", {}).items()):
        container = node.get(nodes.get(terminal, ""), "")
        station = str(level.get(container, container))
        if kinds.get(station) == "Substation":
            at.setdefault(equipment, []).append(station)
    stations = sorted(str(i) for i, kind in kinds.items() if kind == "Substation")
    titles = dict(zip(stations, _unique([str(names.get(s, s)) for s in stations]), strict=True))
    ends = [
        (names.get(i, i), at[i])
        for i, kind in sorted(kinds.items())
        if kind in {"ACLineSegment", "SeriesCompensator"} and len(at.get(i, ())) == 2
    ]
    lines = [LineTable(id=str(name), from_bus=titles[a], to_bus=titles[b]) for name, (a, b) in ends if a != b]
    ids = _unique([line.id for line in lines])
    return GridFile(
        bus=tuple(BusTable(id=titles[s]) for s in stations),
        line=tuple(_named(line, i) for line, i in zip(lines, ids, strict=True)),
    )


def _named(line: LineTable, identity: str) -> LineTable:
    return LineTable(
        id=identity, from_bus=line.from_bus, to_bus=line.to_bus, x_pu=line.x_pu, limit_mw=line.limit_mw
    )


def _unique(names: list[str]) -> list[str]:
    """Return the names, the second of the same with #2 behind it, and so on."""
    count: dict[str, int] = {}
    found = []
    for name in names:
        count[name] = count.get(name, 0) + 1
        found.append(name if count[name] == 1 else f"{name} #{count[name]}")
    return found


def _word(value: object) -> str:
    return "" if value is None or value != value else str(value)  # noqa: PLR0124 - NaN of pandas

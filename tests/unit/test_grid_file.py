"""Protects the network file: strict, whole or not at all; networks of other programs come through their own libraries."""

from __future__ import annotations

from pathlib import Path

import pandapower as pp
import pandapower.networks as nw
import pytest

from streamproc.cli.root import app
from streamproc.errors import ConfigError
from streamproc.shell.grid_file import load_grid, load_topology, parse_grid
from streamproc.shell.grid_import import import_grid

GOOD = """
[[bus]]
id = "NORTH"
kv = 380.0
[[bus]]
id = "SOUTH"
[[line]]
id = "L1"
from_bus = "NORTH"
to_bus = "SOUTH"
[[pmu]]
id = "STATION A"
bus = "NORTH"
[[point]]
id = "L1.P"
line = "L1"
"""
MATPOWER = """function mpc = small
mpc.version = '2';
mpc.baseMVA = 100;
mpc.bus = [
 1 3 0 0 0 0 1 1 0 345 1 1.1 0.9;
 2 1 90 30 0 0 1 1 0 345 1 1.1 0.9;
 3 1 40 10 0 0 2 1 0 138 1 1.1 0.9;
];
mpc.gen = [
 1 0 0 300 -300 1 100 1 250 10;
];
mpc.branch = [
 1 2 0.01 0.085 0.176 250 250 250 0 0 1 -360 360;
 1 2 0.01 0.085 0.176 250 250 250 0 0 1 -360 360;
 2 3 0 0.06 0 0 0 0 0 0 0 -360 360;
];
"""
CIM = """<?xml version="1.0" encoding="UTF-8"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:cim="http://iec.ch/TC57/2013/CIM-schema-cim16#">
{stations}
<cim:ACLineSegment rdf:ID="_line"><cim:IdentifiedObject.name>L1</cim:IdentifiedObject.name></cim:ACLineSegment>
</rdf:RDF>
"""
STATION = """<cim:Substation rdf:ID="_s{n}"><cim:IdentifiedObject.name>{name}</cim:IdentifiedObject.name></cim:Substation>
<cim:VoltageLevel rdf:ID="_v{n}"><cim:VoltageLevel.Substation rdf:resource="#_s{n}"/></cim:VoltageLevel>
<cim:ConnectivityNode rdf:ID="_n{n}">
<cim:ConnectivityNode.ConnectivityNodeContainer rdf:resource="#_v{n}"/></cim:ConnectivityNode>
<cim:Terminal rdf:ID="_t{n}"><cim:Terminal.ConductingEquipment rdf:resource="#_line"/>
<cim:Terminal.ConnectivityNode rdf:resource="#_n{n}"/></cim:Terminal>"""


def test_places_are_near_each_other_along_lines(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GOOD)
    topology = load_topology(tmp_path / "grid.toml")
    assert topology.near(["STATION A"], ["L1.P"], 0) is True  # the line ends there
    assert topology.near(["STATION A"], ["nobody"], 5) is None
    assert load_topology(None).near(["STATION A"], ["L1.P"], 5) is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('to_bus = "SOUTH"', 'to_bus = "WEST"', 'grid.toml:10: line[0].to_bus = "WEST": no such [[bus]]'),
        ('to_bus = "SOUTH"', 'to_bus = "NORTH"', "must not be from_bus"),
        ('id = "SOUTH"', 'id = "NORTH"', "stands there twice"),
        ("kv = 380.0", "kv = 380000.0", "kV, not V"),
        ('line = "L1"', 'line = "L9"', "no such [[line]]"),
        ('line = "L1"', "", "needs either bus or line"),
        ('bus = "NORTH"\n[[point]]', 'buss = "NORTH"\n[[point]]', "unknown key; did you mean 'bus'?"),
        ("kv = 380.0", "limit = [", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_line_key_value_and_rule(old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as refused:
        parse_grid(GOOD.replace(old, new))
    assert told in str(refused.value)


def test_networks_of_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pp.to_json(nw.case9(), str(tmp_path / "case9.json"))
    (tmp_path / "small.m").write_text(MATPOWER)
    stations = "\n".join(STATION.format(n=n, name=name) for n, name in ((1, "ALPHA"), (2, "BETA")))
    (tmp_path / "net.xml").write_text(CIM.format(stations=stations))
    counts = {}
    for name in ("case9.json", "small.m", "net.xml"):
        out = tmp_path / f"{name}.toml"
        with pytest.raises(SystemExit) as end:
            app(["grid", "import", str(tmp_path / name), "--out", str(out)])
        assert not end.value.code, capsys.readouterr().err
        grid = load_grid(out)
        counts[name] = (len(grid.bus), len(grid.line))
    # Of the MATPOWER case the branch that is out of service is left away, and the parallel line has a name of its own.
    assert counts == {"case9.json": (9, 9), "small.m": (3, 2), "net.xml": (2, 1)}
    (line,) = load_grid(tmp_path / "net.xml.toml").line
    assert {line.from_bus, line.to_bus} == {"ALPHA", "BETA"}


def test_what_is_no_network_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for name, told in (("x.json", "x.json"), ("x.csv", "unknown ending"), ("none.m", "no such file")):
        with pytest.raises(ConfigError, match=told):
            import_grid(tmp_path / name)

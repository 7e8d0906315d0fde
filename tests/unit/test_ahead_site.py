"""Protects the lines of the site file that the 48-hour forecasts live on: who is the sum of whom, and the time zone."""

from __future__ import annotations

import pytest
from test_site_file import refused

from streamproc.shell.site_file import parse_site


def point(
    name: str, parent: str | None = None, *, area: str = "north", more: str = "", unit: str = "MW"
) -> str:
    above = f'parent = "{parent}"\n' if parent else ""
    return f'[[point]]\nid = "{name}"\narea = "{area}"\nunit = "{unit}"\n{above}{more}\n'


def test_sums_of_three_levels_are_read() -> None:
    config = parse_site(point("A") + point("S", "A") + point("F1", "S") + point("F2", "S"))
    assert [p.parent for p in config.point] == [None, "A", "S", "S"]
    assert config.site.time_zone == "UTC"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (point("A") + point("F", "B"), "no such [[point]]"),
        (point("A", area="south") + point("F", "A"), "must be of the same area and unit ('north', MW)"),
        (point("A", unit="Mvar") + point("F", "A"), "must be of the same area and unit"),
        (point("A", "A"), "must not lead back to the point itself"),
        (point("A", "B") + point("B", "A"), "must not lead back to the point itself"),
        (point("A", "C") + point("B", "A") + point("C", "B"), "must not lead back to the point itself"),
        (point("A", more="forecast = false") + point("F", "A"), "must be forecast, and its parts, too"),
        (point("A") + point("F", "A", more="forecast = false"), "must be forecast, and its parts, too"),
    ],
)
def test_sums_that_cannot_be_are_refused(text: str, rule: str) -> None:
    told = refused(text)
    assert rule in told
    assert "parent" in told
    assert "s.toml:" in told


def test_a_point_below_a_loop_is_no_part_of_it_and_ends_the_check() -> None:
    told = refused(point("A", "B") + point("B", "A") + point("F", "A"))
    assert told.count("must not lead back") >= 2


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Melbourne", "UTC", "Asia/Kathmandu"])
def test_a_time_zone_is_read(zone: str) -> None:
    assert parse_site(f'[site]\ntime_zone = "{zone}"\n').site.time_zone == zone


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_no_time_zone_is_refused_with_a_rule(zone: str) -> None:
    told = refused(f'[site]\ntime_zone = "{zone}"\n')
    assert "no such time zone" in told
    assert "time_zone" in told
    assert "s.toml:2" in told

"""The rules of a site file that go beyond types: bounds the right way up, names that exist, safe transport.

Each rule yields `Breach(path, value, rule)`; the loader adds file and line. All rules are tried, so that one
run of `streamproc check` shows everything that is wrong. None of them guesses: what is unclear is refused.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path as FilePath
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from streamproc.config import PointTable, ResourceTable, SiteConfig
from streamproc.shell.manifest import OVERRIDES
from streamproc.shell.site_alarms import alarm_breaches
from streamproc.shell.site_breach import SECRET, Breach
from streamproc.shell.site_lines import Path
from streamproc.shell.site_serve import serve_breaches

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # what can be a key, a label and a part of a file name
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):\d{1,5}")

# May be zero; every other number whose name says time, size or count must be above zero.
ZERO_IS_FINE = {
    "on_delay_ms",
    "off_delay_ms",
    "hold_min",
    "http_port",
    "deadband",
    "cost",
    "fetch_max_wait_ms",
}
POSITIVE = re.compile(
    r".*(_ms|_min|_count|_max|_records|_hz|_rad|_factor)|partitions|ramp_per_min|hold_max_s"
)

LEARNT_RULES = (  # only a site bundle has them: they need a calibration
    "spe",
    "t2",
    "voltage_shift",
    "angle_shift",
    "frequency_shift",
    "common_frequency_shift",
    "disagrees_voltage",
    "disagrees_angle",
)

KIND_UNITS: Mapping[str, tuple[str, ...]] = {
    "load": ("MW", "Mvar", "A"),
    "generation": ("MW", "Mvar"),
    "flow": ("MW", "Mvar", "A"),
    "voltage": ("kV", "pu"),
    "current": ("A", "pu"),
    "frequency": ("Hz",),
    "weather": ("degC", "W/m2", "m/s"),
    "state": ("state",),
}


def breaches(config: SiteConfig, given: Mapping[str, Any]) -> Iterator[Breach]:
    """Return every broken rule; `given` is the parsed file (what was really written, without defaults)."""
    for check in CHECKS:
        yield from check(config)
    yield from _kinds(config, given)


def _numbers(config: SiteConfig) -> Iterator[Breach]:
    for path, name, value in _leaves((), config):
        if isinstance(value, float) and not math.isfinite(value):
            yield Breach(path, value, "must be a finite number")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if name in ZERO_IS_FINE and value < 0:
                yield Breach(path, value, "must not be negative")
            elif (
                name not in ZERO_IS_FINE | {"value_min", "value_max"}
                and POSITIVE.fullmatch(name)
                and value <= 0
            ):
                yield Breach(path, value, "must be greater than 0")


def _site(config: SiteConfig) -> Iterator[Breach]:
    nominal_hz, quality = config.site.nominal_hz, config.quality
    if nominal_hz is not None and nominal_hz not in (50.0, 60.0):
        yield Breach(("site", "nominal_hz"), nominal_hz, "must be 50 or 60")
    swings = config.oscillation
    if swings.damping_low <= 0.0:
        yield Breach(("oscillation", "damping_low"), swings.damping_low, "must be above 0")
    if not swings.damping_low < swings.damping_reduced <= 0.25:
        rule = f"must be more than damping_low ({swings.damping_low:g}) and at most 0.25"
        yield Breach(("oscillation", "damping_reduced"), swings.damping_reduced, rule)
    if quality.freq_min_hz >= quality.freq_max_hz:
        rule = f"must be less than freq_max_hz ({quality.freq_max_hz:g})"
        yield Breach(("quality", "freq_min_hz"), quality.freq_min_hz, rule)
    elif nominal_hz in (50.0, 60.0) and not quality.freq_min_hz < nominal_hz < quality.freq_max_hz:
        rule = (
            f"must lie within freq_min_hz ({quality.freq_min_hz:g}) and freq_max_hz ({quality.freq_max_hz:g})"
        )
        yield Breach(("site", "nominal_hz"), nominal_hz, rule)
    if config.align.wait_ms > config.align.lead_ms:
        rule = f"must not be greater than lead_ms ({config.align.lead_ms})"
        yield Breach(("align", "wait_ms"), config.align.wait_ms, rule)
    if not 0 <= config.worker.http_port <= 65535:
        yield Breach(
            ("worker", "http_port"), config.worker.http_port, "must be a TCP port, or 0 for a free one"
        )
    if config.advise.horizon_min > 60:
        yield Breach(
            ("advise", "horizon_min"), config.advise.horizon_min, "must be at most 60 (forecasts end there)"
        )


def _broker(config: SiteConfig) -> Iterator[Breach]:
    broker = config.broker
    for address in broker.bootstrap.split(","):
        if not ADDRESS.fullmatch(address.strip()):
            yield Breach(
                ("broker", "bootstrap"), broker.bootstrap, 'must be "host:port" or several with commas'
            )
            break
    if not NAME.fullmatch(broker.group):
        yield Breach(("broker", "group"), broker.group, f"must match {NAME.pattern}")
    if broker.topic_prefix and not NAME.fullmatch(broker.topic_prefix):
        yield Breach(
            ("broker", "topic_prefix"), broker.topic_prefix, f"must be empty or match {NAME.pattern}"
        )
    if 2 * broker.heartbeat_interval_ms >= broker.session_timeout_ms:
        rule = f"must be less than half of session_timeout_ms ({broker.session_timeout_ms})"
        yield Breach(("broker", "heartbeat_interval_ms"), broker.heartbeat_interval_ms, rule)
    if broker.rebalance_timeout_ms < broker.session_timeout_ms:
        rule = f"must not be less than session_timeout_ms ({broker.session_timeout_ms})"
        yield Breach(("broker", "rebalance_timeout_ms"), broker.rebalance_timeout_ms, rule)
    if broker.delivery_timeout_ms < broker.request_timeout_ms:
        rule = f"must not be less than request_timeout_ms ({broker.request_timeout_ms})"
        yield Breach(("broker", "delivery_timeout_ms"), broker.delivery_timeout_ms, rule)
    if broker.replication_factor < 1:
        yield Breach(("broker", "replication_factor"), broker.replication_factor, "must be at least 1")


def _transport(config: SiteConfig) -> Iterator[Breach]:
    broker, protocol = config.broker, config.broker.security_protocol
    if protocol == "SASL_PLAINTEXT":
        rule = "sends the password unprotected: use SASL_SSL"
        yield Breach(("broker", "security_protocol"), protocol, rule)
    if broker.sasl_password is not None and not SECRET.fullmatch(broker.sasl_password):
        rule = 'must be "env:NAME" or "file:PATH", never the secret itself'
        yield Breach(("broker", "sasl_password"), broker.sasl_password, rule)
    for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
        value = getattr(broker, name)
        if protocol.startswith("SASL") and value is None:
            yield Breach(("broker", name), None, f'is required with security_protocol = "{protocol}"')
        elif not protocol.startswith("SASL") and value is not None:
            rule = f'has no effect with security_protocol = "{protocol}": use SASL_SSL'
            yield Breach(("broker", name), value, rule)
    for name in ("ca_file", "cert_file", "key_file"):
        value = getattr(broker, name)
        if value is not None and not protocol.endswith("SSL"):
            rule = f'has no effect with security_protocol = "{protocol}": use SSL or SASL_SSL'
            yield Breach(("broker", name), value, rule)
    for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(broker, name) is not None and getattr(broker, other) is None:
            yield Breach(("broker", name), getattr(broker, name), f"needs {other} too")


def _areas(config: SiteConfig) -> Iterator[Breach]:
    yield from _duplicates("area", "name", [a.name for a in config.area])
    for index, area in enumerate(config.area):
        here: Path = ("area", index)
        for name in ("name", "position"):
            if not NAME.fullmatch(getattr(area, name)):
                yield Breach((*here, name), getattr(area, name), f"must match {NAME.pattern}")
        for station, kv in area.nominal_kv.items():
            if not kv > 0:
                yield Breach((*here, "nominal_kv", station), kv, "must be greater than 0")
        if area.beta_mw_per_hz is not None and not 0 < area.beta_mw_per_hz < float("inf"):
            yield Breach((*here, "beta_mw_per_hz"), area.beta_mw_per_hz, "must be greater than 0")


def _points(config: SiteConfig) -> Iterator[Breach]:
    yield from _duplicates("point", "id", [p.id for p in config.point])
    areas = [a.name for a in config.area]
    for index, point in enumerate(config.point):
        here: Path = ("point", index)
        if not point.id.strip():
            yield Breach((*here, "id"), point.id, "must not be empty")
        if areas and point.area not in areas:
            yield Breach((*here, "area"), point.area, f"no such [[area]]{_known(point.area, areas)}")
        low, high = point.limit_low, point.limit_high
        if low is not None and high is not None:
            if low >= high:
                yield Breach((*here, "limit_low"), low, f"must be less than limit_high ({high:g})")
            elif 2 * point.deadband >= high - low:
                rule = "must be less than half of limit_high - limit_low, or no value would ever clear"
                yield Breach((*here, "deadband"), point.deadband, rule)


def _sums(config: SiteConfig) -> Iterator[Breach]:
    """A sum has the area and unit of its parts, and is no part of itself."""
    points = {p.id: p for p in config.point}
    for index, point in enumerate(config.point):
        here: Path = ("point", index, "parent")
        if point.parent is None:
            continue
        above = points.get(point.parent)
        if above is None:
            yield Breach(here, point.parent, f"no such [[point]]{_known(point.parent, points)}")
            continue
        if (above.area, above.unit) != (point.area, point.unit):
            rule = f"must be of the same area and unit ({point.area!r}, {point.unit})"
            yield Breach(here, point.parent, rule)
        if not (above.forecast and point.forecast):
            yield Breach(here, point.parent, "must be forecast, and its parts, too (forecast = true)")
        seen = {point.id}
        while above is not None and above.id not in seen:
            seen.add(above.id)
            above = points.get(above.parent) if above.parent is not None else None
        if above is not None:
            yield Breach(here, point.parent, "must not lead back to the point itself")


def _time_zone(config: SiteConfig) -> Iterator[Breach]:
    try:
        ZoneInfo(config.site.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        rule = "no such time zone; write one like Europe/Berlin or UTC"
        yield Breach(("site", "time_zone"), config.site.time_zone, rule)


def _resources(config: SiteConfig) -> Iterator[Breach]:
    yield from _duplicates("resource", "id", [r.id for r in config.resource])
    points = {p.id: p for p in config.point}
    for index, resource in enumerate(config.resource):
        here: Path = ("resource", index)
        if not resource.id.strip():
            yield Breach((*here, "id"), resource.id, "must not be empty")
        if resource.value_min >= resource.value_max:
            rule = f"must be less than value_max ({resource.value_max:g})"
            yield Breach((*here, "value_min"), resource.value_min, rule)
        yield from _resource_points(here, resource, points)


def _resource_points(
    here: Path, resource: ResourceTable, points: Mapping[str, PointTable]
) -> Iterator[Breach]:
    if resource.point not in points:
        yield Breach((*here, "point"), resource.point, f"no such [[point]]{_known(resource.point, points)}")
    elif resource.unit != "step" and points[resource.point].unit != resource.unit:
        rule = f"must be the unit of its point {resource.point!r} ({points[resource.point].unit})"
        yield Breach((*here, "unit"), resource.unit, rule)
    if not resource.effect:
        yield Breach((*here, "effect"), None, "must name at least one point that the resource moves")
    for name, change in resource.effect.items():
        if name not in points:
            yield Breach((*here, "effect", name), change, f"no such [[point]]{_known(name, points)}")
        elif change == 0:
            yield Breach((*here, "effect", name), change, "must not be 0: leave the point out")


def _detectors(config: SiteConfig) -> Iterator[Breach]:
    known = rule_names(config.worker.bundle)
    for name, table in config.detector.items():
        if name not in known:
            yield Breach(("detector", name), "(table)", f"no such rule{_known(name, known)}")
            continue
        for key, value in table.items():
            rule = _override(key, value)
            if rule:
                yield Breach(("detector", name, key), value, rule)


def _override(key: str, value: object) -> str:
    """Return the rule that a setting of a `[detector.RULE]` table breaks, or nothing."""
    if key not in OVERRIDES:
        return f"no such setting of a detector's rule{_known(key, list(OVERRIDES))}"
    if key == "enabled":
        return "" if isinstance(value, bool) else "must be true or false"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "must be a number"
    rules = {
        "limit": (math.isfinite(value) and value > 0, "must be a finite number greater than 0"),
        "deadband_ratio": (0 <= value < 1, "must be at least 0 and less than 1"),
        "priority": (value in (1, 2, 3, 4), "must be 1, 2, 3 or 4 (1 is the highest)"),
    }
    delay = (isinstance(value, int) and value >= 0, "must be whole milliseconds, not negative")
    holds, rule = rules.get(key, delay)
    return "" if holds else rule


def _kinds(config: SiteConfig, given: Mapping[str, Any]) -> Iterator[Breach]:
    # The default kind is only a default: a unit is held against a kind that somebody wrote down.
    for index, (point, written) in enumerate(zip(config.point, given.get("point", ()), strict=True)):
        if "kind" in written and point.unit not in KIND_UNITS[point.kind]:
            rule = f"a point of kind {point.kind!r} is measured in {' or '.join(KIND_UNITS[point.kind])}"
            yield Breach(("point", index, "unit"), point.unit, rule)


def generic_rules() -> Mapping[str, Mapping[str, Any]]:
    """Return rule name -> its table in the manifest of the generic bundle (of the model for 50 frames/s)."""
    text = resources.files("streamproc").joinpath("bundles/generic/manifest.toml").read_text(encoding="utf-8")
    models = tomllib.loads(text)["model"]
    return {rule["name"]: rule for model in models if model["rate_hz"] == 50.0 for rule in model["rule"]}


def rule_names(bundle: str | None) -> list[str]:
    """Return the rules that a `[detector.RULE]` table may name: generic, learnt, of the bundle."""
    names = [*generic_rules(), *LEARNT_RULES]
    manifest = FilePath(bundle) / "manifest.toml" if bundle is not None else None
    if manifest is not None and manifest.is_file():
        # A manifest that cannot be read is refused, with its reason, where the bundle is loaded.
        text = manifest.read_text(encoding="utf-8", errors="replace")
        found = re.findall(r'^name = "([^"]+)"', text, re.MULTILINE)
        names += [name for name in found if name not in names]
    return names


def _leaves(path: Path, value: object) -> Iterator[tuple[Path, str, object]]:
    """Yield (path, nearest field name, value) of everything that is not a table or an array."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _leaves((*path, name), getattr(value, name))
    elif isinstance(value, tuple):
        for index, element in enumerate(value):
            yield from _leaves((*path, index), element)
    elif isinstance(value, dict):
        for key, element in value.items():
            yield from _leaves((*path, key), element)
    elif path[0] != "detector":
        yield path, str(path[-1]), value


def _duplicates(table: str, field: str, names: list[str]) -> Iterator[Breach]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            rule = f"is already the {field} of [[{table}]] number {first[name] + 1}"
            yield Breach((table, index, field), name, rule)
        first.setdefault(name, index)


def _known(name: str, known: Mapping[str, object] | list[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    names = sorted(known)
    return (
        f"; known: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
        if names
        else "; there are none"
    )


CHECKS: tuple[Callable[[SiteConfig], Iterator[Breach]], ...] = (
    _numbers,
    _site,
    _broker,
    _transport,
    _areas,
    _points,
    _sums,
    _time_zone,
    _resources,
    _detectors,
    serve_breaches,
    alarm_breaches,
)

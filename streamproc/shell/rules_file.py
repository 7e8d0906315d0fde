"""The rationalisation file (`[site] rules_file`): why each alarm is one. Refused as a whole, or taken.

[[alarm]]
rule = "point_high:FDR_12.P"
cause = "Load above the rating of the feeder"
consequence = "Trip of the feeder within the hour"
corrective_action = "Shift load to feeder 13, call demand response"
severity = "major"                # of the consequence: severe, major, minor
response_time_min = 30            # with the severity this is priority 3 (core.rationale)
who = "dispatcher"
unit = "MW"                       # of limit and deadband; must be that of the point
limit = 19.5
deadband = 0.2
on_delay_ms = 20000
off_delay_ms = 60000
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path as FilePath
from typing import Any

from msgspec import Struct

from streamproc.config import PointTable, SiteConfig
from streamproc.core.rationale import priority_of
from streamproc.core.rules_message import AlarmRule, Rules
from streamproc.shell.site_breach import Breach
from streamproc.shell.strict_toml import parse_strict, read_text

LIMIT_KEYS = ("limit", "deadband", "on_delay_ms", "off_delay_ms", "unit")
PREFIXES = {"k": 1e3, "M": 1e6, "": 1.0}


class RulesFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    alarm: tuple[AlarmRule, ...] = ()


def load_rules(path: FilePath | str | None, config: SiteConfig) -> Rules | None:
    """Return the checked rules of a file, in force from the beginning; None without a file. Raises ConfigError."""
    return None if path is None else parse_rules(read_text(path, "a rules file"), config, str(path))


def parse_rules(
    text: str, config: SiteConfig, name: str = "rules.toml", valid_from_us: int = 0, seq: int = 1
) -> Rules:
    """Return the checked rules of a TOML text; raises ConfigError with line, key, value and rule."""
    file = parse_strict(text, name, RulesFile, partial(_breaches, config))
    digest = sha256(text.encode()).hexdigest()[:32]
    return Rules(digest=digest, seq=seq, valid_from_us=valid_from_us, alarms=file.alarm)


def _breaches(config: SiteConfig, file: RulesFile, given: Mapping[str, Any]) -> Iterator[Breach]:
    del given
    points = {point.id: point for point in config.point}
    seen: set[tuple[str, str, str]] = set()
    for index, alarm in enumerate(file.alarm):
        where = ("alarm", index)
        key = (alarm.rule, alarm.source, alarm.area)
        if key in seen:
            yield Breach((*where, "rule"), alarm.rule, "stands there twice for the same source and area")
        seen.add(key)
        if not 0 < alarm.response_time_min <= 24 * 60:
            rule = "must be above 0 and at most 1440 (minutes): what needs no answer is no alarm"
            yield Breach((*where, "response_time_min"), alarm.response_time_min, rule)
        elif alarm.priority is not None and alarm.priority != priority_of(alarm):
            rule = f"severity and response_time_min make it {priority_of(alarm)}; leave it out or change them"
            yield Breach((*where, "priority"), alarm.priority, rule)
        yield from _limits(where, alarm, points)


def _limits(where: tuple[str, int], alarm: AlarmRule, points: Mapping[str, PointTable]) -> Iterator[Breach]:
    side, _, identity = alarm.rule.partition(":")
    exact = side in {"point_high", "point_low"} and not set(identity) & set("*?[")
    wanted = [key for key in LIMIT_KEYS if getattr(alarm, key) is not None]
    if exact and identity not in points:
        yield Breach((*where, "rule"), alarm.rule, "no such [[point]] in the site file")
        return
    if not exact:
        for key in wanted:
            rule = "only with a rule of one point: point_high:ID or point_low:ID"
            yield Breach((*where, key), getattr(alarm, key), rule)
        return
    point = points[identity]
    if (alarm.limit is not None or alarm.deadband is not None) and alarm.unit != point.unit:
        rule = f"must be {point.unit}, the unit of the point" + _prefix(alarm, point)
        yield Breach((*where, "unit"), alarm.unit, rule)
    for key in ("deadband", "on_delay_ms", "off_delay_ms"):
        value = getattr(alarm, key)
        if value is not None and value < 0:
            yield Breach((*where, key), value, "must not be negative")
    yield from _upside_down(where, alarm, point, side)


def _prefix(alarm: AlarmRule, point: PointTable) -> str:
    """The usual mistake: kW for MW, V for kV."""
    unit, wanted = alarm.unit or "", point.unit
    for letter, factor in PREFIXES.items():
        if unit and unit == letter + wanted.lstrip("kM") and alarm.limit is not None:
            scale = factor / next(f for p, f in PREFIXES.items() if (p and wanted.startswith(p)) or not p)
            return f" ({alarm.limit:g} {unit} are {alarm.limit * scale:g} {wanted})"
    return ""


def _upside_down(where: tuple[str, int], alarm: AlarmRule, point: PointTable, side: str) -> Iterator[Breach]:
    limit, deadband = alarm.limit, point.deadband if alarm.deadband is None else alarm.deadband
    other = point.limit_low if side == "point_high" else point.limit_high
    mine = (point.limit_high if side == "point_high" else point.limit_low) if limit is None else limit
    if mine is None:
        yield Breach((*where, "limit"), None, "is required: the point has none in the site file")
    elif other is not None and (mine <= other if side == "point_high" else mine >= other):
        rule = f"must be {'above' if side == 'point_high' else 'below'} the other limit ({other:g})"
        yield Breach((*where, "limit"), mine, rule)
    elif other is not None and 2 * deadband >= abs(mine - other):
        rule = "must be less than half of the distance between the limits, or no value would ever clear"
        yield Breach((*where, "deadband"), deadband, rule)


def rules_text(alarms: Iterable[AlarmRule], comments: Mapping[str, str] | None = None) -> str:
    """Return the TOML of rules, as `streamproc alarms rationalise` writes it; `comments`: rule -> why."""
    rows = []
    for alarm in alarms:
        rows += [f"# {line}" for line in (comments or {}).get(alarm.rule, "").splitlines()]
        rows.append("[[alarm]]")
        for key in AlarmRule.__struct_fields__:
            value = getattr(alarm, key)
            if value is None or value in {"*", False} or value == "":
                continue
            rows.append(f"{key} = {_toml(value)}")
        rows.append("")
    return "\n".join(rows)


def _toml(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value:.9g}"

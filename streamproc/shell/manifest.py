"""`manifest.toml` of a bundle, read strictly, and the `[detector.RULE]` tables that adjust its rules.

An unknown key in a manifest is an error: a newer format must not be half understood. What may be adjusted
is only what keeps the scores linear: the limit, the priority, the delays, the deadband, or leaving a rule
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamproc.core.detector import Rule
from streamproc.errors import ConfigError

FORMAT = "streamproc-bundle/3"
OVERRIDES = ("enabled", "limit", "priority", "on_delay_ms", "off_delay_ms", "deadband_ratio")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the tables of a manifest."""


class RuleTable(Table, frozen=True):
    """`[[model.rule]]`: one row of scores."""

    name: str
    version: int
    family: str
    kind: str
    priority: int
    limit: float
    unit: str
    window_s: float
    on_delay_ms: int
    off_delay_ms: int
    deadband_ratio: float
    text: str
    whole_area: bool
    company: float


class GraphTable(Table, frozen=True):
    """`[[model.graph]]`: one ONNX file, judged at the instants whose number is a multiple of `stride`."""

    file: str
    digest: str
    stride: int
    fast_rows: int
    slow_rows: int
    rule_count: int


class ModelTable(Table, frozen=True):
    """`[[model]]`: the graphs for one area and reporting rate, or for any; their rules one after another."""

    name: str
    digest: str
    golden: str
    area: str
    any_stations: bool
    stations: tuple[str, ...]
    rate_hz: float
    nominal_hz: float
    base_v: tuple[float, ...]
    fast_rows: int
    slow_rows: int
    opset: int
    notes: tuple[str, ...]
    graph: tuple[GraphTable, ...]
    rule: tuple[RuleTable, ...]


class BundleTable(Table, frozen=True):
    """`[bundle]`: where it came from."""

    format: str
    name: str
    version: int
    created_from: dict[str, str]
    quantities: tuple[str, ...]
    input: tuple[dict[str, str], ...]


class Manifest(Table, frozen=True):
    """The whole file."""

    bundle: BundleTable
    model: tuple[ModelTable, ...]


def override_rule(rule: Rule, table: Mapping[str, Any]) -> Rule:
    """Return the rule as the site file wants it."""
    fields = {name: getattr(rule, name) for name in Rule.__dataclass_fields__}
    return Rule(**fields | {key: value for key, value in table.items() if key != "enabled"})


def check_override(name: str, table: Mapping[str, Any], names: set[str]) -> None:
    """Raise ConfigError unless the rule exists and every key may be set."""
    if name not in names:
        raise ConfigError(f"[detector.{name}]: no such rule; known: {', '.join(sorted(names))}")
    for key, value in table.items():
        if key not in OVERRIDES:
            raise ConfigError(f"[detector.{name}] {key}: unknown key; known: {', '.join(OVERRIDES)}")
        if isinstance(value, bool) != (key == "enabled") or isinstance(value, str):
            raise ConfigError(f"[detector.{name}] {key} = {value!r}: wrong type")
        if key == "limit" and not value > 0:
            raise ConfigError(f"[detector.{name}] limit = {value!r}: must be above 0")
        if key == "priority" and value not in (1, 2, 3, 4):
            raise ConfigError(f"[detector.{name}] priority = {value!r}: 1, 2, 3 or 4")
        if key.endswith("_delay_ms") and not (isinstance(value, int) and value >= 0):
            raise ConfigError(f"[detector.{name}] {key} = {value!r}: whole milliseconds, not negative")
        if key == "deadband_ratio" and not 0 <= value < 1:
            raise ConfigError(f"[detector.{name}] deadband_ratio = {value!r}: at least 0 and below 1")

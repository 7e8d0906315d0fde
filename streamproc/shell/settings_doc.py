"""The table of every setting, written from the structs themselves, so that it cannot go stale.

The meaning of a setting is the comment at its field in `streamproc.config` (behind it, or above it with
`#:`); type and default come from the struct; detector settings come from the detectors.
`docs/CONFIGURATION.md` is what `markdown` returns: `streamproc check --settings > docs/CONFIGURATION.md`, and
a test compares them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from streamproc.config import SiteConfig
from streamproc.shell.site_rules import LEARNT_RULES, generic_rules

_FIELD = re.compile(r"^    (\w+):[^#]*?(?:  # (.*))?$")
_ABOVE = re.compile(r"^    #: (.*)$")
_TYPES: Mapping[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "",
}


class Setting(NamedTuple):
    """One row of the table."""

    key: str
    type: str
    default: str
    meaning: str


def settings() -> Iterator[tuple[str, str, list[Setting]]]:
    """Yield (header in the file, sentence about the table, its settings), in the order of the file."""
    for name, hint in get_type_hints(SiteConfig).items():
        if name == "detector":
            continue
        is_array = get_origin(hint) is tuple
        kind = get_args(hint)[0] if is_array else hint
        about = (kind.__doc__ or "").partition(":")[2].strip()
        yield (f"[[{name}]]" if is_array else f"[{name}]"), about[0].upper() + about[1:], _rows(kind)
    yield "[detector.RULE]", "Adjusts one rule of the models; below are the rules.", list(OVERRIDE_ROWS)


OVERRIDE_ROWS = (
    Setting("enabled", "true or false", "true", "False leaves the rule out"),
    Setting("limit", "number", "of the rule", "In the unit of the rule"),
    Setting("priority", "1 or 2 or 3 or 4", "of the rule", "Of its alerts; 1 is the highest"),
    Setting("on_delay_ms", "integer", "of the rule", "Over the limit for this long before it raises"),
    Setting(
        "off_delay_ms", "integer", "of the rule", "Below limit and deadband for this long before it clears"
    ),
    Setting("deadband_ratio", "number", "of the rule", "It clears below limit * (1 - deadband_ratio)"),
)


def markdown() -> str:
    """Return the whole page."""
    lines = [
        "# Every setting of the site file",
        "",
        "One TOML file, read once. Precedence is one line long: the file, else the default. Units are in the",
        "key names. An unknown key, a wrong type or a bound upside down refuses to start and names file,",
        "line, key, value and rule; `streamproc check -c site.toml` does the same without starting.",
        "Secrets are written as `env:NAME` or `file:PATH`.",
        "",
        "A complete example: [deploy/site.example.toml](../deploy/site.example.toml).",
        "",
        "Written by `streamproc check --settings`; do not edit.",
    ]
    for header, about, rows in settings():
        lines += [
            "",
            f"## `{header}`",
            "",
            about,
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{r.key}` | {_cell(r.type)} | {_cell(r.default)} | {_cell(r.meaning)} |" for r in rows]
    lines += ["", "### Rules of the generic models", "", "Limits as for 50 frames/s.", ""]
    lines += [
        "| rule | limit | unit | priority | on-delay ms | off-delay ms | deadband ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rule in generic_rules().items():
        cells = (
            rule[key]
            for key in ("limit", "unit", "priority", "on_delay_ms", "off_delay_ms", "deadband_ratio")
        )
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    learnt = ", ".join(f"`{name}`" for name in LEARNT_RULES)
    lines += ["", f"Only in a bundle fitted to the site (`streamproc train anomaly`): {learnt}."]
    return "\n".join(lines) + "\n"


def _rows(kind: type[msgspec.Struct]) -> list[Setting]:
    meanings = _meanings(kind)
    hints = get_type_hints(kind)
    return [
        Setting(
            f.name,
            _type(hints[f.name]),
            "required" if f.required else _literal(_default(f)),
            meanings[f.name],
        )
        for f in msgspec.structs.fields(kind)
    ]


def _meanings(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    above = ""
    for line in inspect.getsource(kind).splitlines():
        comment, field = _ABOVE.match(line), _FIELD.match(line)
        if comment is not None:
            above = comment[1]
        elif field is not None:
            text = field[2] or above
            found[field[1]] = text[:1].upper() + text[1:]
            above = ""
    return found


def _type(hint: object) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(_literal(a) for a in get_args(hint))
    if get_origin(hint) is tuple:
        return f"array of {_type(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"table of {_type(get_args(hint)[1])}"
    if hint in _TYPES:
        return _TYPES[hint]
    return ", ".join(word for word in map(_type, get_args(hint)) if word)


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()


def _literal(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, (bool, str)):
        return msgspec.json.encode(value).decode()
    if isinstance(value, tuple):
        return "[]" if not value else str(list(value))
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

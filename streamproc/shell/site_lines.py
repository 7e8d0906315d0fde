"""In which line of a TOML file a key stands.

The standard parser tells values, not places. This walks the same text once and notes, for every key, its path
and line:

    [[point]]                 ("point", 0)
    limit_high = 5            ("point", 0, "limit_high")
    effect = { "F1.P" = 1 }   ("resource", 0, "effect"), the line for everything inside the braces

It is asked only after the standard parser has accepted the text, so it may be lenient; a path that it does
not know has the line of the nearest one above it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=(.*)$"""
)
_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(?:\.|$)""")
_STRING = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|#.*$""")


def key_lines(text: str) -> Mapping[Path, int]:
    """Return path -> line number (from 1) of every header and key."""
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if quote or depth:
            depth, quote = _open_after(line, depth, quote)
            continue
        header = _HEADER.match(line)
        if header is not None and "=" not in header[2]:
            table = _table_path(_parts(header[2]), header[1] == "[[", counts)
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault((*table, *_parts(key[1])), number)
            depth, quote = _open_after(key[2], 0, "")
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest known path above it; 1 if there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


def _parts(dotted: str) -> Path:
    return tuple(m[1] or m[2] or m[3] or "" for m in _PART.finditer(dotted))


def _table_path(parts: Path, is_array: bool, counts: dict[Path, int]) -> Path:
    # A header below an array of tables speaks of its latest element.
    path: Path = ()
    for part in parts[:-1]:
        path = (*path, part)
        path = (*path, counts[path]) if path in counts else path
    path = (*path, parts[-1])
    if is_array:
        counts[path] = counts.get(path, -1) + 1
        return (*path, counts[path])
    return path


def _open_after(rest: str, depth: int, quote: str) -> tuple[int, str]:
    # Brackets and triple quotes that are still open at the end of a line: its value goes on in the next.
    while True:
        if quote:
            end = rest.find(quote)
            if end < 0:
                return depth, quote
            rest, quote = rest[end + 3 :], ""
        start = min((i for i in (rest.find('"""'), rest.find("'''")) if i >= 0), default=-1)
        plain = _STRING.sub("", rest if start < 0 else rest[:start])
        depth += plain.count("[") + plain.count("{") - plain.count("]") - plain.count("}")
        if start < 0:
            return max(depth, 0), ""
        quote, rest = rest[start : start + 3], rest[start + 3 :]

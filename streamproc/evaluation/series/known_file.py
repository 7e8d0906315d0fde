"""A file of what was known ahead: one row per name, valid time and time at which the value was known.

    name,valid,known_at,value
    temperature_degc,2026-01-02T00:00Z,2026-01-01T06:00Z,3.5

Rows of one name and one `known_at` are one course, as a record of `grid.exogenous.v1` is. Nothing is guessed: a time that
the local clock skipped, or two values of one name, time and `known_at`, are errors with the row. A `known_at` that the
local clock shows twice counts as the later one: a value may be used too late, never too early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from streamproc.core.ahead.issue import HOLIDAY
from streamproc.core.ahead.known import Told
from streamproc.errors import DataError
from streamproc.evaluation.series.read import Table, bytes_of, read_table
from streamproc.evaluation.series.zone import to_utc
from streamproc.values import F64, I64


@dataclass(frozen=True, slots=True)
class Columns:
    """How the columns are called."""

    name: str = "name"
    valid: str = "valid"
    known_at: str = "known_at"
    value: str = "value"


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands in the file, in the order in which it was known."""

    path: Path
    digest: str  # SHA-256 of the file
    told: tuple[Told, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in it but `holiday`: the calendar of a file comes from its own options."""
        return tuple(sorted({one.name for one in self.told} - {HOLIDAY}))


def read_known(
    path: Path, zone: ZoneInfo, columns: Columns | None = None, time_format: str | None = None
) -> Sheet:
    """Return the courses of a file; raises DataError with file, row, column, value and what to do."""
    named = columns or Columns()
    raw = bytes_of(path)
    options = [
        ("--name-column", named.name),
        ("--valid-column", named.valid),
        ("--known-at-column", named.known_at),
        ("--value-column", named.value),
    ]
    table = read_table(path, raw, options)
    value = table.numbers(named.value)
    groups: dict[tuple[str, int], list[int]] = {}
    names = _names(table, named.name)
    known_s = _known_s(table, named.known_at, zone, time_format)
    for row, key in enumerate(zip(names, known_s.tolist(), strict=True)):
        groups.setdefault(key, []).append(row)
    seconds, is_local = _seconds(table, named.valid, time_format)
    told = []
    for (name, known), rows in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        at = np.array(rows, np.int64)
        valid = _utc(table, named.valid, seconds[at], at, zone) if is_local else seconds[at]
        told.append(_course(table, named, (name, known), at, valid, value[at]))
    return Sheet(path, hashlib.sha256(raw).hexdigest(), tuple(told))


def _names(table: Table, column: str) -> list[str]:
    names = ["" if cell is None else str(cell).strip() for cell in table.cells[column]]
    if "" in names:
        raise table.fail(
            names.index(""), column, "is empty; write what the value is of, such as temperature_degc"
        )
    return names


def _seconds(table: Table, column: str, time_format: str | None, *, up: bool = False) -> tuple[I64, bool]:
    times, is_local = table.times(column, time_format, up=up)
    if None in times:
        raise table.fail(times.index(None), column, "is empty; each value needs its time")
    return np.array(times, np.int64), is_local


def _known_s(table: Table, column: str, zone: ZoneInfo, time_format: str | None) -> I64:
    """Return UTC seconds (n,) since which the values are known."""
    seconds, is_local = _seconds(table, column, time_format, up=True)
    if not is_local:
        return seconds
    every, row, place = np.unique(seconds, return_index=True, return_inverse=True)
    # Asked twice: of a time that the clock shows twice the second answer is the later.
    t_s = _utc(table, column, np.tile(every, 2), np.tile(row, 2), zone)
    return t_s[every.size :][place]


def _utc(table: Table, column: str, local_s: I64, rows: I64, zone: ZoneInfo) -> I64:
    t_s, never, _ = to_utc(local_s, zone)
    if never.any():
        row = int(rows[np.argmax(never)])
        words = f"{str(table.cells[column][row])!r:.60}: {zone.key} skipped this local time; write times with an offset"
        raise table.fail(row, column, words)
    return t_s


def _course(table: Table, named: Columns, key: tuple[str, int], rows: I64, valid_s: I64, value: F64) -> Told:
    """Return the course of one name and one time of knowledge, in the order of its times."""
    order = np.argsort(valid_s, kind="stable")
    valid_s, value, rows = valid_s[order], value[order], rows[order]
    twin = np.flatnonzero(np.diff(valid_s) == 0)
    same = np.array_equal(value[twin], value[twin + 1], equal_nan=True)
    if not same:
        at = int(twin[np.argmax(value[twin] != value[twin + 1])])
        words = (
            f"{value[at + 1]:g}, but row {table.line[rows[at]]} says {value[at]:g} for the same {named.name}, "
            f"{named.valid} and {named.known_at}; keep one of them"
        )
        raise table.fail(int(rows[at + 1]), named.value, words)
    keep = np.append(np.diff(valid_s) > 0, True)
    return Told(key[0], key[1] * 1_000_000_000, valid_s[keep] * 1_000_000_000, value[keep])


def in_units(told: Sequence[Told], units: Mapping[str, str]) -> None:
    """Raise DataError for a unit of a name that is not there."""
    there = {one.name for one in told}
    for name in units:
        if name not in there:
            raise DataError(f"--unit {name}: there is no such name; there are {', '.join(sorted(there))}")

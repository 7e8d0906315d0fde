"""The rows of a CSV or Parquet file with one series in it, as anyone has it: a time, a target, what was known ahead.

Columns are named by the caller; nothing is guessed from their names. Text where a number should be is an error that
names file, row, column and value, because a guess there would be a forecast of something else; an empty cell and the
usual words for "no value" are NaN. Times are ISO 8601 with an offset or `Z`, or local without one, or counts since
1970, or anything that `--time-format` describes. What the rows lack as a series (order, gaps, twins, clock changes) is the
business of `grid.py`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from streamproc.errors import DataError
from streamproc.values import F64, I64

ABSENT = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "nat", "."})
TRUTHS = {"true": "1", "false": "0", "yes": "1", "no": "0", "t": "1", "f": "0"}
PARQUET = (".parquet", ".pq")
EPOCH_ENDS = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000))  # below: s, ms, us; above: ns


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns are to be read, and how."""

    time: str
    target: str
    known: tuple[str, ...] = ()
    holiday: str | None = None
    time_format: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """What stands in the file, in its order, without the rows that have no time."""

    path: Path
    digest: str  # SHA-256 of the file
    line: I64  # (n_row,), line of a CSV, row of a Parquet file, both from 1
    time_s: I64  # (n_row,), seconds since 1970 by UTC or, if `is_local`, by the local clock
    is_local: bool
    target: F64  # (n_row,)
    known: F64  # (n_row, n_known)
    holiday: F64 | None  # (n_row,), 1 and 0
    no_time: int  # rows left out

    def error(self, row: int, column: str, words: str) -> DataError:
        """Return an error about one cell."""
        return DataError(f"{self.path}: row {self.line[row]}, column {column!r}: {words}")


def read_rows(path: Path, wanted: Wanted) -> Rows:
    """Return the rows of a file; raises DataError with file, row, column, value and what to do."""
    raw = bytes_of(path)
    digest = hashlib.sha256(raw).hexdigest()
    table = read_table(path, raw, _options(wanted))
    times, is_local = table.times(wanted.time, wanted.time_format)
    has_time = np.array([time is not None for time in times], np.bool_)
    line = np.array(table.line, np.int64)[has_time]
    known = [table.numbers(name)[has_time] for name in wanted.known]
    return Rows(
        path,
        digest,
        line,
        np.array([time for time in times if time is not None], np.int64),
        is_local,
        table.numbers(wanted.target)[has_time],
        np.stack(known, axis=1) if known else np.zeros((line.size, 0)),
        table.numbers(wanted.holiday)[has_time] if wanted.holiday else None,
        int((~has_time).sum()),
    )


def read_table(path: Path, raw: bytes, columns: Sequence[tuple[str, str]]) -> Table:
    """Return the cells of some columns, each given as (option, name); raises DataError."""
    table = (_parquet if path.suffix.lower() in PARQUET else _csv)(path, raw, columns)
    if not table.line:
        raise DataError(f"{path}: there is a header but no row")
    return table


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as `Rows.digest`; raises DataError."""
    return hashlib.sha256(bytes_of(path)).hexdigest()


def names_of(path: Path) -> list[str]:
    """Return the names of a file's columns, in its order, without those that have none; raises DataError."""
    raw = bytes_of(path)
    if path.suffix.lower() in PARQUET:
        with _parquet_errors(path) as parquet:
            names = [str(name) for name in parquet(raw).schema_arrow.names]
    else:
        with _csv_errors(path):
            names = _head(path, raw)[1]
    return [name for name in names if name]


def bytes_of(path: Path) -> bytes:
    """Return what is in a file; raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of the wanted columns. A column is text, or an array where the file has types."""

    path: Path
    line: Sequence[int]
    cells: dict[str, Any]
    comma: bool = False  # numbers may be written 3,5

    def fail(self, row: int, column: str, words: str) -> DataError:
        """Return an error about one cell."""
        return DataError(f"{self.path}: row {self.line[row]}, column {column!r}: {words}")

    def numbers(self, column: str) -> F64:
        """Return a column of numbers (n_row,); true and false are 1 and 0."""
        cells = self.cells[column]
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf":
            values = cells.astype(np.float64)
        else:
            values = self._parsed(column, cells)
        if np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0])
            raise self.fail(row, column, "infinity is no measurement; leave the cell empty if it is unknown")
        return values

    def _parsed(self, column: str, cells: Sequence[Any]) -> F64:
        text = ["" if cell is None else str(cell).strip().lower() for cell in cells]
        text = ["nan" if cell in ABSENT else TRUTHS.get(cell, cell) for cell in text]
        if self.comma:
            text = [cell.replace(",", ".") for cell in text]
        try:
            return np.array(text, dtype=np.float64)
        except ValueError:
            row = next(i for i, cell in enumerate(text) if not _is_number(cell))
            wrong = sum(not _is_number(cell) for cell in text)
            more = f" (and {wrong - 1} more cells)" if wrong > 1 else ""
            words = (
                f"{str(cells[row]).strip()!r:.60} is no number{more}; write a number, or leave the cell empty"
            )
            raise self.fail(row, column, words) from None

    def times(
        self, column: str, time_format: str | None, *, up: bool = False
    ) -> tuple[list[int | None], bool]:
        """Return whole seconds since 1970, None where the cell is empty, and whether they are local ones.

        Parts of a second are cut off; `up`: they count as the next second.
        """
        cells = self.cells[column]
        if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
            if up:
                cells = cells.astype("datetime64[ns]") + np.timedelta64(999_999_999, "ns")
            seconds = cells.astype("datetime64[s]").astype(np.int64).tolist()
            unknown = np.isnat(cells).tolist()
            return [
                None if u else s for s, u in zip(seconds, unknown, strict=True)
            ], column not in self.cells.get("", ())
        text = ["" if cell is None else str(cell).strip() for cell in cells]
        filled = [cell for cell in text if cell.lower() not in ABSENT]
        if not filled:
            raise DataError(f"{self.path}: column {column!r} holds no time at all")
        if time_format is None and all(_is_number(cell) for cell in filled[:20]):
            return self._epochs(column, text, up=up), False
        return self._stamps(column, text, time_format, up=up)

    def _epochs(self, column: str, text: Sequence[str], *, up: bool) -> list[int | None]:
        values = self.numbers(column)
        largest = float(np.nanmax(np.abs(values)))
        if largest < 1e8:
            row = next(i for i, cell in enumerate(text) if cell)
            words = f"{text[row]!r} is no time; ISO 8601 is expected, or seconds since 1970, or give --time-format"
            raise self.fail(row, column, words)
        scale = next((size for end, size in EPOCH_ENDS if largest < end), 1_000_000_000)
        return [
            None if math.isnan(value) else int(-(-value // scale) if up else value // scale)
            for value in values.tolist()
        ]

    def _stamps(
        self, column: str, text: Sequence[str], time_format: str | None, *, up: bool
    ) -> tuple[list[int | None], bool]:
        def parse(cell: str) -> datetime:
            if time_format is None:
                return datetime.fromisoformat(cell)
            return datetime.strptime(cell, time_format)  # noqa: DTZ007 - local on purpose if it says no offset

        seconds: list[int | None] = []
        local: bool | None = None
        for row, cell in enumerate(text):
            if cell.lower() in ABSENT:
                seconds.append(None)
                continue
            try:
                stamp = parse(cell)
            except ValueError:
                wish = f"--time-format {time_format!r} does not fit" if time_format else "is no ISO 8601 time"
                words = f"{cell!r:.60} {wish}; write 2014-01-31T00:30Z, or tell the form with --time-format"
                raise self.fail(row, column, words) from None
            if local is not None and local != (stamp.tzinfo is None):
                words = (
                    f"{cell!r:.60}: some times have an offset from UTC and some not; write all of them alike"
                )
                raise self.fail(row, column, words)
            local = stamp.tzinfo is None
            whole = stamp.replace(tzinfo=UTC) if local else stamp
            seconds.append((math.ceil if up else math.floor)(whole.timestamp()))
        return seconds, bool(local)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _options(wanted: Wanted) -> list[tuple[str, str]]:
    """Return the wanted columns, each with the option that names it."""
    known = [("--known", name) for name in wanted.known]
    holiday = [("--holiday-column", wanted.holiday)] if wanted.holiday else []
    return [("--time", wanted.time), ("--target", wanted.target), *known, *holiday]


def _check_names(path: Path, names: Sequence[str], columns: Sequence[tuple[str, str]]) -> None:
    """Raise DataError for the first column that is not there, with those that are."""
    for option, name in columns:
        if name not in names:
            near = get_close_matches(name, names, 1)
            wish = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{path}: {option} {name!r}: there is no such column{wish}; the columns are {', '.join(map(repr, names))}"
            )


def _csv(path: Path, raw: bytes, columns: Sequence[tuple[str, str]]) -> Table:
    with _csv_errors(path):
        stream, names, delimiter, skipped = _head(path, raw)
        _check_names(path, names, columns)
        return _csv_cells(path, csv.reader(stream, delimiter=delimiter), names, columns, skipped + 1)


def _head(path: Path, raw: bytes) -> tuple[TextIOWrapper, list[str], str, int]:
    """Return a CSV behind its header, the names in it, the delimiter, and how many lines of remarks came before."""
    content = gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    stream = TextIOWrapper(BytesIO(content), encoding="utf-8-sig", newline="")
    head = stream.readline()
    skipped = 0
    while head.startswith("#"):
        head, skipped = stream.readline(), skipped + 1
    delimiter = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    if not any(names):
        raise DataError(f"{path}: row 1: a header with column names is expected")
    return stream, names, delimiter, skipped


@contextmanager
def _csv_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8, or as Parquet"
        ) from error
    except (OSError, EOFError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error


def _csv_cells(
    path: Path,
    reader: Any,  # noqa: ANN401
    names: Sequence[str],
    wanted: Sequence[tuple[str, str]],
    before: int,
) -> Table:
    places = {name: names.index(name) for _, name in wanted}
    columns: dict[str, list[str]] = {name: [] for name in places}
    lines: list[int] = []
    adders: list[tuple[int, Callable[[str], None]]] = [
        (at, columns[name].append) for name, at in places.items()
    ]
    for row in reader:
        if not row:
            continue
        if len(row) != len(names):
            raise DataError(
                f"{path}: row {before + reader.line_num}: {len(row)} cells, but the header has {len(names)} columns; "
                "is a line broken, or a cell with the delimiter in it without quotes?"
            )
        lines.append(before + reader.line_num)
        for at, add in adders:
            add(row[at])
    return Table(path, lines, dict(columns), comma=reader.dialect.delimiter != ",")


def _parquet(path: Path, raw: bytes, columns: Sequence[tuple[str, str]]) -> Table:
    wanted = list(dict.fromkeys(name for _, name in columns))
    with _parquet_errors(path) as parquet:
        file = parquet(raw)
        _check_names(path, [str(name) for name in file.schema_arrow.names], columns)
        table = file.read(columns=wanted)
    cells: dict[str, Any] = {name: table.column(name).to_numpy(zero_copy_only=False) for name in wanted}
    # pyarrow gives moments of any zone as UTC without saying so: the type of the column knows.
    cells[""] = [name for name in wanted if getattr(table.schema.field(name).type, "tz", None)]
    return Table(path, range(1, table.num_rows + 1), cells)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[Callable[[bytes], Any]]:
    """Yield what opens a Parquet file."""
    try:
        from pyarrow import ArrowException, BufferReader, parquet  # noqa: PLC0415 - an optional part
    except ImportError as error:
        raise DataError(f'{path}: Parquet needs pyarrow: pip install "streamproc[parquet]"') from error
    try:
        yield lambda raw: parquet.ParquetFile(BufferReader(raw))
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error

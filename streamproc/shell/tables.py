"""Tables out of files: CSV, CSV.GZ and Parquet, in chunks of rows.

A column is turned into numbers only when it is asked for, so labels beside the data may be any text. An empty
cell, and the usual words for "no value", are NaN. Other text in a column of numbers is an error with file,
line and column: a recording must not lose values silently. Times are UTC nanoseconds, `NO_TIME` where the
cell is empty.

The size of a chunk changes nothing in what the reader makes of it; it only bounds the memory.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from streamproc.errors import RecordingError
from streamproc.shell.columns import find_time
from streamproc.values import F64, I64

CHUNK_ROWS = 16_384
NO_TIME = int(np.iinfo(np.int64).min)  # a row without a time
ABSENT = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "nat"})


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows. `t_ns` is (n_row,), None in a table without times; `numbers(column)` is (n_row,) float64."""

    n_row: int
    t_ns: I64 | None
    numbers: Callable[[int], F64]


@dataclass(frozen=True, slots=True)
class Table:
    """A file whose header has been read. `chunks` goes on from there and can be taken once."""

    names: tuple[str, ...]
    chunks: Iterator[Chunk]


def open_table(path: Path) -> Table:
    """Return the table of a file, by its ending; raises RecordingError."""
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _open_parquet(path)
    try:
        stream = _text(path)
        first = stream.readline()
        while first.startswith("#"):
            first = stream.readline()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
    delimiter = max(",;\t", key=first.count)
    names = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter), []))
    if not any(names):
        raise RecordingError(f"{path}: line 1: a header with column names is expected")
    return Table(names, _csv_chunks(path, stream, names, delimiter))


def _text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("rt", encoding="utf-8-sig", newline="")


def _csv_chunks(path: Path, stream: TextIO, names: Sequence[str], delimiter: str) -> Iterator[Chunk]:
    time, scale_ns = find_time(names)
    reader = csv.reader((line for line in stream if not line.startswith("#")), delimiter=delimiter)
    line = 2
    with stream:
        while True:
            try:
                rows = list(islice(reader, CHUNK_ROWS))
            except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
                raise RecordingError(f"{path}: line {line} and following: {error}") from error
            if not rows:
                return
            place, line = _Place(path, line), line + len(rows)
            rows = [row for row in rows if row]
            if rows:
                yield _csv_chunk(place, rows, names, time, scale_ns)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chunk begins, for messages."""

    path: Path
    line: int

    def error(self, row: int, words: str) -> RecordingError:
        return RecordingError(f"{self.path}: line {self.line + row}: {words}")


def _csv_chunk(
    place: _Place, rows: list[list[str]], names: Sequence[str], time: int, scale_ns: float
) -> Chunk:
    try:
        cells = list(zip(*rows, strict=True))
    except ValueError:
        cells = []
    if len(cells) != len(names):
        wrong = next((i for i, row in enumerate(rows) if len(row) != len(names)), 0)
        raise place.error(wrong, f"{len(rows[wrong])} cells, the header has {len(names)} columns")

    def numbers(column: int) -> F64:
        return _numbers(place, names[column], cells[column])

    t_ns = None if time < 0 else _times(place, names[time], cells[time], scale_ns)
    return Chunk(len(rows), t_ns, numbers)


def _numbers(place: _Place, name: str, cells: Sequence[str]) -> F64:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        pass
    text = [cell.strip().lower() for cell in cells]
    try:
        return np.array(["nan" if cell in ABSENT else cell for cell in text], dtype=np.float64)
    except ValueError:
        at = next(i for i, cell in enumerate(text) if cell not in ABSENT and not _is_number(cell))
        raise place.error(at, f"column {name!r}: {cells[at]!r:.60} is no number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _times(place: _Place, name: str, cells: Sequence[str], scale_ns: float) -> I64:
    if scale_ns:
        # Whole microseconds and nanoseconds since 1970 have more digits than a float64 holds.
        if scale_ns < 1e6 and all(cell.lstrip("-").isdigit() for cell in cells):
            return np.array([int(cell) for cell in cells], dtype=np.int64) * int(scale_ns)
        return scaled_times(_numbers(place, name, cells), scale_ns)
    text = [cell.strip().removesuffix("Z") for cell in cells]
    if all(_is_number(cell) for cell in text[:1]):
        return scaled_times(_numbers(place, name, cells), 0.0)
    try:
        if "+" in text[0] or "-" in text[0][10:]:  # an offset from UTC, which numpy does not take
            raise ValueError
        return np.array(text, dtype="datetime64[ns]").astype(np.int64)
    except ValueError:
        return np.array([_iso_ns(place, name, row, cell) for row, cell in enumerate(text)], dtype=np.int64)


def scaled_times(values: F64, scale_ns: float) -> I64:
    """Return nanoseconds; scale 0: by size, s below 1e11 (year 5138), ms below 1e14, us below 1e17."""
    known = np.isfinite(values)
    largest = float(np.abs(values[known]).max(initial=0.0))
    scale = scale_ns or next((s for end, s in ((1e11, 1e9), (1e14, 1e6), (1e17, 1e3)) if largest < end), 1.0)
    whole = np.floor(np.where(known, values, 0.0))
    rest = np.where(known, values, 0.0) - whole
    # Whole units first: 1.7e9 s as one float64 number of nanoseconds would be wrong by 200 ns.
    t_ns = whole.astype(np.int64) * int(scale) + np.rint(rest * scale).astype(np.int64)
    return np.where(known, t_ns, NO_TIME)


def _iso_ns(place: _Place, name: str, row: int, cell: str) -> int:
    if cell.lower() in ABSENT:
        return NO_TIME
    try:
        stamp = datetime.fromisoformat(cell)
    except ValueError:
        raise place.error(row, f"column {name!r}: {cell!r:.60} is no ISO 8601 time") from None
    stamp = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    whole = int(stamp.replace(microsecond=0).timestamp())
    return whole * 1_000_000_000 + stamp.microsecond * 1000


def _open_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an optional part: the extra `parquet`
    except ImportError as error:
        raise RecordingError(f'{path}: Parquet needs pyarrow: pip install "streamproc[parquet]"') from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error
    names = tuple(str(name) for name in file.schema_arrow.names)
    return Table(names, _parquet_chunks(path, file.iter_batches(batch_size=CHUNK_ROWS), names))


def _parquet_chunks(path: Path, batches: Iterable[Any], names: Sequence[str]) -> Iterator[Chunk]:
    time, scale_ns = find_time(names)
    for batch in batches:

        def numbers(column: int, batch: Any = batch) -> F64:  # noqa: ANN401
            values = batch.column(column).to_numpy(zero_copy_only=False)
            try:
                return np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise RecordingError(f"{path}: column {names[column]!r} holds no numbers: {error}") from error

        t_ns = None if time < 0 else _arrow_times(path, batch.column(time), scale_ns, names[time])
        yield Chunk(batch.num_rows, t_ns, numbers)


def _arrow_times(path: Path, column: Any, scale_ns: float, name: str) -> I64:  # noqa: ANN401
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "M":
        return values.astype("datetime64[ns]").astype(np.int64)  # type: ignore[no-any-return]
    if values.dtype.kind in "iu" and scale_ns:
        return values.astype(np.int64) * int(scale_ns)  # type: ignore[no-any-return]
    if values.dtype.kind in "iuf":
        return scaled_times(values.astype(np.float64), scale_ns)
    return _times(_Place(path, 1), name, [str(value or "") for value in values], scale_ns)

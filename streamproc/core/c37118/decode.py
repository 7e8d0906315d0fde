"""Records to arrays: the decoder of whole records, in order.

Records that hold the same number of bytes are looked at together, as the rows of one matrix: SYNC, sizes, CRC
and numbers of all their frames at once. Only a record with something else in it (bad bytes, frames of several
sizes) meets the splitter, alone. The loops are over kinds of streams, changes of configuration and bad
frames, never over good ones; a stream costs one look into the book.

Data are decoded with the configuration in force where they stand: a configuration between two frames of a
call divides them into two batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamproc.core.c37118.book import Book
from streamproc.core.c37118.data import Alike, DataBatch, Layout, decode_rows
from streamproc.core.c37118.frame import (
    CFG1,
    CFG2,
    CFG3,
    COMMAND,
    DATA,
    FRAME_SIZE_MIN,
    HEADER_SIZE,
    Reason,
    Rejection,
    frames_good,
    split,
)
from streamproc.values import I64, U8, U16

FEW_RECORDS = 8  # of one size: below, the splitter takes them one by one


class Other(NamedTuple):
    """A good frame that is not data."""

    record: int
    kind: int
    idcode: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a number of records held."""

    book: Book
    batches: tuple[DataBatch, ...]  # streams that are alike share one
    rejections: tuple[tuple[int, Rejection], ...]  # (index of the record, why), in order
    others: tuple[Other, ...]


@dataclass(frozen=True, slots=True)
class _Frames:
    """All good frames of the records: where each begins in the joined bytes, and its header fields."""

    joined: U8
    start: I64
    size: I64
    record: I64
    base: I64  # where its record begins
    kind: U8
    idcode: U16


def decode(book: Book, buffers: Sequence[bytes]) -> Decoded:
    """Return what these records hold, each of them whole frames back to back; never raises for bad bytes."""
    frames, rejections = _find(buffers)
    work = _Work(book, frames, rejections)
    done = 0
    for index in np.flatnonzero(frames.kind != DATA).tolist():
        changed = work.learn(index)
        if changed is not None:
            work.run(done, index)
            work.book, done = changed, index
    work.run(done, frames.start.size)
    rejections.sort(key=lambda pair: (pair[0], pair[1].start))
    return Decoded(work.book, tuple(work.batches), tuple(rejections), tuple(work.others))


@dataclass(slots=True)
class _Work:
    """The decoder between two calls of its loop."""

    book: Book
    frames: _Frames
    rejections: list[tuple[int, Rejection]]
    batches: list[DataBatch] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)

    def learn(self, index: int) -> Book | None:
        """Take a frame that is not data; return the new book if other layouts are in force from here."""
        frames = self.frames
        start, record, kind = int(frames.start[index]), int(frames.record[index]), int(frames.kind[index])
        frame = frames.joined[start : start + int(frames.size[index])].tobytes()
        place, idcode = start - int(frames.base[index]), int(frames.idcode[index])
        refusal, book = None, self.book
        if kind in {CFG1, CFG2, CFG3}:
            book, refusal = self.book.learn(frame, place)
        elif kind == COMMAND and len(frame) < FRAME_SIZE_MIN + 2:
            detail = f"CMD: a command has {FRAME_SIZE_MIN + 2} bytes at least, this one {len(frame)}"
            refusal = Rejection(Reason.BAD_COMMAND, detail, place, len(frame), idcode)
        if refusal is not None:
            self.rejections.append((record, refusal))
        else:
            self.others.append(Other(record, kind, idcode, frame))
        if book.layouts is not self.book.layouts or book.contested is not self.book.contested:
            return book
        self.book = book  # pending fragments change no data frame
        return None

    def run(self, first: int, stop: int) -> None:
        """Decode the data frames first..stop: one book is in force for all of them."""
        index = first + np.flatnonzero(self.frames.kind[first:stop] == DATA)
        idcode = self.frames.idcode[index]
        if index.size and idcode[0] == idcode.min() == idcode.max():  # cheaper than sorting all of them
            self._stream(int(idcode[0]), index)
            return
        codes, which = np.unique(idcode, return_inverse=True)
        found = [self.book.lookup(code) for code in codes.tolist()]
        sizes = np.array([-1 if layout is None else layout.frame_size for layout in found], dtype=np.int64)
        odd = set(np.unique(which[self.frames.size[index] != sizes[which]]).tolist())
        alike: dict[Alike, list[int]] = {}
        for number, layout in enumerate(found):
            if layout is None or number in odd:
                self._stream(int(codes[number]), index[which == number])
            else:
                alike.setdefault(layout.alike, []).append(number)
        group, place = np.full(codes.size, -1), np.zeros(codes.size, dtype=np.int64)
        for number, members in enumerate(alike.values()):
            group[members], place[members] = number, np.arange(len(members))
        for number, members in enumerate(alike.values()):
            of_group = np.flatnonzero(group[which] == number)
            layouts = tuple(layout for m in members if (layout := found[m]) is not None)
            self._decode(layouts, place[which[of_group]], index[of_group])

    def _stream(self, idcode: int, chosen: I64) -> None:
        layout = self.book.lookup(idcode)
        if layout is None:
            detail = f"IDCODE {idcode}: no configuration is known; the CFG-2 or CFG-3 must come first"
            self._refuse(chosen, Reason.UNKNOWN_CONFIGURATION, detail)
            return
        fits = (self.frames.size == layout.frame_size)[chosen]
        if fits.all():
            self._decode_one(layout, chosen)
            return
        contested = self.book.contested.get(idcode)
        if contested is not None:
            proof = np.flatnonzero(self.frames.size[chosen] == contested.frame_size)
            if contested.frame_size != layout.frame_size and proof.size:
                self._decode_one(layout, chosen[: proof[0]][fits[: proof[0]]])
                self._mismatched(layout, idcode, chosen[: proof[0]][~fits[: proof[0]]])
                self.book = self.book.adopt(idcode)
                self._stream(idcode, chosen[proof[0] :])
                return
        self._decode_one(layout, chosen[fits])
        self._mismatched(layout, idcode, chosen[~fits])

    def _mismatched(self, layout: Layout, idcode: int, chosen: I64) -> None:
        detail = (
            f"FRAMESIZE: the configuration of IDCODE {idcode} makes data frames of {layout.frame_size} bytes"
        )
        self._refuse(chosen, Reason.SIZE_MISMATCH, detail)

    def _decode_one(self, layout: Layout, chosen: I64) -> None:
        if chosen.size:
            self._decode((layout,), np.zeros(chosen.size, dtype=np.int64), chosen)

    def _decode(self, layouts: tuple[Layout, ...], stream: I64, chosen: I64) -> None:
        layout = layouts[0]
        rows = _rows(self.frames, chosen, layout.frame_size)
        late = _fraction(rows) >= layout.time_base
        if late.any():
            detail = f"FRACSEC: the fraction of the second is not below TIME_BASE {layout.time_base}"
            self._refuse(chosen[late], Reason.BAD_FRACSEC, detail)
            rows, chosen, stream = rows[~late], chosen[~late], stream[~late]
        if chosen.size:
            record = self.frames.record[chosen]
            self.batches.append(decode_rows(layouts, stream, rows, chosen, record))

    def _refuse(self, chosen: I64, reason: Reason, detail: str) -> None:
        frames = self.frames
        for i in chosen.tolist():
            place = int(frames.start[i] - frames.base[i])
            refusal = Rejection(reason, detail, place, int(frames.size[i]), int(frames.idcode[i]))
            self.rejections.append((int(frames.record[i]), refusal))


def _rows(frames: _Frames, chosen: I64, size: int) -> U8:
    """Return the bytes of these frames, (n, size); without a copy when they stand back to back."""
    first, last = int(frames.start[chosen[0]]), int(frames.start[chosen[-1]])
    if last - first == (chosen.size - 1) * size:  # they do not overlap, so there is room for these only
        return frames.joined[first : last + size].reshape(-1, size)
    windows = np.lib.stride_tricks.sliding_window_view(frames.joined, size)
    return np.asarray(windows[frames.start[chosen]])


def _fraction(rows: U8) -> I64:
    words = np.ascontiguousarray(rows[:, 10:HEADER_SIZE]).view(">u4")[:, 0]
    return words.astype(np.int64) & 0xFFFFFF


def _find(buffers: Sequence[bytes]) -> tuple[_Frames, list[tuple[int, Rejection]]]:
    """Return the good frames of all buffers, in order, and what was refused."""
    joined = np.frombuffer(b"".join(buffers), dtype=np.uint8)
    even = _all_alike(buffers, joined)
    if even is not None:
        return even, []
    lengths = np.fromiter(map(len, buffers), np.int64, len(buffers))
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    tables: list[I64] = []  # (n, 3): start, size, record
    alone: list[int] = []
    for records in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[records[0]]) if records.size else 0
        size = int.from_bytes(buffers[int(records[0])][2:4], "big") if length else 0
        if size < FRAME_SIZE_MIN or length % size or records.size * (length // size) < FEW_RECORDS:
            alone += records.tolist()
            continue
        own = np.frombuffer(b"".join([buffers[i] for i in records.tolist()]), dtype=np.uint8)
        good = frames_good(own.reshape(-1, size)).reshape(records.size, -1).all(axis=1)
        tables.append(_table(starts[records[good]], records[good], size, length // size))
        alone += records[~good].tolist()
    rejections: list[tuple[int, Rejection]] = []
    for index in alone:
        parts = split(buffers[index])
        refused = parts.rejections if buffers[index] else (Rejection(Reason.EMPTY, "no bytes", 0, 0),)
        rejections += [(index, refusal) for refusal in refused]
        table = np.empty((parts.frames.shape[0], 3), dtype=np.int64)
        table[:, :2], table[:, 2] = parts.frames, index
        table[:, 0] += starts[index]
        tables.append(table)
    every = np.concatenate(tables) if tables else np.zeros((0, 3), dtype=np.int64)
    start, size, record = np.ascontiguousarray(every[np.argsort(every[:, 0], kind="stable")].T)
    kind = (joined[start + 1] >> 4 & 7).astype(np.uint8)
    idcode = joined[start + 4].astype(np.uint16) << np.uint16(8) | joined[start + 5]
    return _Frames(joined, start, size, record, starts[record], kind, idcode), rejections


def _all_alike(buffers: Sequence[bytes], joined: U8) -> _Frames | None:
    """Return the frames when every buffer holds the same number of good frames of one size: the common case."""
    length = len(buffers[0]) if buffers else 0
    size = int.from_bytes(buffers[0][2:4], "big") if length else 0
    if size < FRAME_SIZE_MIN or length % size or len(set(map(len, buffers))) != 1:
        return None
    rows = joined.reshape(-1, size)
    if not frames_good(rows).all():
        return None
    start = np.arange(0, joined.size, size, dtype=np.int64)
    record = np.repeat(np.arange(len(buffers), dtype=np.int64), length // size)
    kind = rows[:, 1] >> np.uint8(4)
    idcode = rows[:, 4].astype(np.uint16) << np.uint16(8) | rows[:, 5]
    # Fresh memory costs more than arithmetic: what is the same for all frames, or known already, takes none.
    sizes = np.broadcast_to(np.int64(size), start.shape)
    base = start if length == size else record * length
    return _Frames(joined, start, sizes, record, base, kind, idcode)


def _table(starts: I64, records: I64, size: int, n_frame: int) -> I64:
    table = np.empty((records.size, n_frame, 3), dtype=np.int64)
    table[:, :, 0] = starts[:, None] + size * np.arange(n_frame)
    table[:, :, 1] = size
    table[:, :, 2] = records[:, None]
    return table.reshape(-1, 3)

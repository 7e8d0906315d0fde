"""Which configuration is in force for which stream, and the decoder of whole records.

A `Book` is a value: learning a configuration gives a new one. The key is the stream's IDCODE. A new configuration
replaces the old one when its CFGCNT or any other content differs in a CFG-2 or CFG-3; one with the same CFGCNT of every
PMU but another shape of the data contradicts it and is refused (`config_conflict`). A CFG-1 tells what a PMU could send
and never decodes data.

`decode` takes the values of whole records, in order. Equal frames back to back never meet a Python loop; frames of other
kinds, mixed sizes and bad bytes take the slower way through the splitter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamproc.core.c37118.configuration import (
    ASSEMBLED_SIZE_MAX,
    FRAGMENTS_MAX,
    Configuration,
    assemble,
    parse_configuration,
)
from streamproc.core.c37118.data import DataBatch, Layout, compile_layout, decode_rows
from streamproc.core.c37118.frame import (
    CFG1,
    CFG2,
    CFG3,
    DATA,
    HEADER_SIZE,
    FRAME_SIZE_MIN,
    Reason,
    Rejection,
    crc_good,
    split,
    well_formed,
)
from streamproc.values import I64, U8

STREAMS_MAX = 4096  # IDCODEs in one book


@dataclass(frozen=True, slots=True)
class Book:
    """The configurations in force. `pair_single`: one configuration with IDCODE 0 serves any IDCODE (a real capture has it)."""

    layouts: Mapping[int, Layout] = field(default_factory=dict)
    fragments: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    pair_single: bool = True

    def lookup(self, idcode: int) -> Layout | None:
        """Return the layout of a stream, or None."""
        found = self.layouts.get(idcode)
        if found is None and self.pair_single and len(self.layouts) == 1:
            return self.layouts.get(0)
        return found

    def learn(self, frame: bytes, start: int = 0) -> tuple[Book, Rejection | None]:
        """Return the book that knows this configuration frame (CRC checked by the caller), or why it is refused."""
        idcode = int.from_bytes(frame[4:6], "big")
        if frame[1] >> 4 & 7 == CFG3 and frame[HEADER_SIZE : HEADER_SIZE + 2] != b"\0\0":
            return self._learn_fragment(frame, idcode, start)
        return self._learn_whole(frame, start)

    def _learn_whole(self, frame: bytes, start: int) -> tuple[Book, Rejection | None]:
        config = parse_configuration(frame, start)
        if isinstance(config, Rejection):
            return self, config
        if config.kind == CFG1:
            return self, None
        known = self.layouts.get(config.idcode)
        if known is not None and known.config == frame:
            return self, None
        refusal = self._contradiction(config, known, frame, start)
        if refusal is not None:
            return self, refusal
        layouts = {**self.layouts, config.idcode: compile_layout(config, frame)}
        return replace(self, layouts=dict(sorted(layouts.items()))), None

    def _contradiction(
        self, config: Configuration, known: Layout | None, frame: bytes, start: int
    ) -> Rejection | None:
        def refuse(reason: Reason, detail: str) -> Rejection:
            return Rejection(reason, detail, start, len(frame), config.idcode)

        if known is None:
            if len(self.layouts) >= STREAMS_MAX:
                return refuse(Reason.CONFIG_CONFLICT, f"more than {STREAMS_MAX} streams in one area")
            return None
        same_count = [p.cfgcnt for p in known.pmus] == [p.cfgcnt for p in config.pmus]
        size = compile_layout(config, frame).frame_size
        if same_count and size != known.frame_size:
            counts = [p.cfgcnt for p in config.pmus][:8]
            detail = (
                f"CFGCNT {counts} as before, but data frames of {size} bytes instead of {known.frame_size}"
            )
            return refuse(Reason.CONFIG_CONFLICT, detail)
        return None

    def _learn_fragment(self, frame: bytes, idcode: int, start: int) -> tuple[Book, Rejection | None]:
        mark = int.from_bytes(frame[HEADER_SIZE : HEADER_SIZE + 2], "big")
        before = () if mark == 1 else self.fragments.get(idcode, ())
        parts = (*before, frame)
        others = {k: v for k, v in self.fragments.items() if k != idcode}

        def refuse(detail: str) -> tuple[Book, Rejection]:
            return replace(self, fragments=others), Rejection(
                Reason.BAD_FRAGMENT, detail, start, len(frame), idcode
            )

        if mark != 65535:
            if mark != len(parts):
                return refuse(f"CONT_IDX: fragment {mark} came as number {len(parts)}")
            if len(parts) > FRAGMENTS_MAX or sum(map(len, parts)) > ASSEMBLED_SIZE_MAX:
                return refuse(f"CONT_IDX: more than {FRAGMENTS_MAX} fragments or {ASSEMBLED_SIZE_MAX} bytes")
            return replace(self, fragments={**others, idcode: parts}), None
        whole = assemble(parts)
        if whole is None:
            return refuse("CONT_IDX: the last fragment came without the ones before it")
        return replace(self, fragments=others)._learn_whole(whole, start)  # noqa: SLF001 - its own kind


@dataclass(frozen=True, slots=True)
class Other:
    """A good frame that is not data: what kind, where."""

    record: int
    kind: int
    idcode: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a number of records held."""

    book: Book
    batches: tuple[DataBatch, ...]
    rejections: tuple[tuple[int, Rejection], ...]  # (index of the record, why)
    others: tuple[Other, ...]


@dataclass(frozen=True, slots=True)
class _Frames:
    """All frames of the records: where each begins in the joined bytes, and its header fields."""

    joined: U8
    start: I64
    size: I64
    record: I64
    kind: U8
    idcode: I64


def decode(book: Book, buffers: Sequence[bytes]) -> Decoded:
    """Return what these records hold; each is one or more whole frames, back to back. Never raises for bad bytes."""
    frames, rejections = _find(buffers)
    batches: list[DataBatch] = []
    others: list[Other] = []
    done = 0
    for index in np.flatnonzero(frames.kind != DATA):
        batches += _decode_run(book, frames, done, int(index), rejections)
        start, size = int(frames.start[index]), int(frames.size[index])
        frame = frames.joined[start : start + size].tobytes()
        record, kind = int(frames.record[index]), int(frames.kind[index])
        others.append(Other(record, kind, int(frames.idcode[index]), frame))
        if kind in {CFG1, CFG2, CFG3}:
            book, refusal = book.learn(frame)
            if refusal is not None:
                rejections.append((record, refusal))
        done = int(index) + 1
    batches += _decode_run(book, frames, done, frames.start.size, rejections)
    rejections.sort(key=lambda pair: pair[0])
    return Decoded(book, tuple(batches), tuple(rejections), tuple(others))


def _find(buffers: Sequence[bytes]) -> tuple[_Frames, list[tuple[int, Rejection]]]:
    """Return the frames of all buffers; those with a bad CRC or a wrong size are among the rejections."""
    joined = np.frombuffer(b"".join(buffers), dtype=np.uint8)
    lengths = np.array([len(b) for b in buffers], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    if lengths.size and lengths[0] >= FRAME_SIZE_MIN and (lengths == lengths[0]).all():
        rows = joined.reshape(lengths.size, -1)
        if well_formed(rows, rows.shape[1]).all() and crc_good(rows).all():
            record = np.arange(lengths.size, dtype=np.int64)
            return _described(joined, starts, lengths, record), []
    found: list[I64] = []
    rejections: list[tuple[int, Rejection]] = []
    for index, buffer in enumerate(buffers):
        if not buffer:
            rejections.append((index, Rejection(Reason.EMPTY, "the record has no bytes", 0, 0)))
            continue
        parts = split(buffer)
        rejections += [(index, r) for r in parts.rejections]
        owner = np.full((parts.frames.shape[0], 1), index, dtype=np.int64)
        found.append(np.concatenate([parts.frames + [starts[index], 0], owner], axis=1))
    table = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)
    return _described(joined, table[:, 0], table[:, 1], table[:, 2]), rejections


def _described(joined: U8, start: I64, size: I64, record: I64) -> _Frames:
    kind = joined[start + 1] >> 4 & 7
    idcode = joined[start + 4].astype(np.int64) << 8 | joined[start + 5]
    return _Frames(joined, start, size, record, kind, idcode)


def _decode_run(
    book: Book, frames: _Frames, first: int, stop: int, rejections: list[tuple[int, Rejection]]
) -> Iterator[DataBatch]:
    """Yield a batch for each stream among the data frames first..stop: one configuration is in force for all of them."""
    if stop <= first:
        return
    for idcode in np.unique(frames.idcode[first:stop]):
        chosen = first + np.flatnonzero(frames.idcode[first:stop] == idcode)
        layout = book.lookup(int(idcode))
        if layout is None:
            detail = (
                f"IDCODE {idcode}: no configuration is known for this stream; send its CFG-2 or CFG-3 first"
            )
            rejections += _refuse_all(frames, chosen, Reason.UNKNOWN_CONFIGURATION, detail)
            continue
        wrong = frames.size[chosen] != layout.frame_size
        if wrong.any():
            detail = f"FRAMESIZE: the configuration of IDCODE {idcode} makes data frames of {layout.frame_size} bytes"
            rejections += _refuse_all(frames, chosen[wrong], Reason.SIZE_MISMATCH, detail)
            chosen = chosen[~wrong]
        yield from _decode_stream(layout, frames, chosen, rejections)


def _decode_stream(
    layout: Layout, frames: _Frames, chosen: I64, rejections: list[tuple[int, Rejection]]
) -> Iterator[DataBatch]:
    size = layout.frame_size
    start = frames.start[chosen]
    if chosen.size and start[-1] - start[0] == (chosen.size - 1) * size and (np.diff(start) == size).all():
        rows = frames.joined[start[0] : start[-1] + size].reshape(-1, size)
    else:
        rows = frames.joined[start[:, None] + np.arange(size)]
    fraction = rows[:, 11].astype(np.int64) << 16 | rows[:, 12].astype(np.int64) << 8 | rows[:, 13]
    wrong = fraction >= layout.time_base
    if wrong.any():
        detail = f"FRACSEC: the fraction reaches TIME_BASE {layout.time_base}"
        rejections += _refuse_all(frames, chosen[wrong], Reason.BAD_FRACSEC, detail)
        rows, chosen = rows[~wrong], chosen[~wrong]
    if chosen.size:
        yield decode_rows(layout, rows, chosen, frames.record[chosen])


def _refuse_all(frames: _Frames, chosen: I64, reason: Reason, detail: str) -> list[tuple[int, Rejection]]:
    return [
        (int(frames.record[i]), Rejection(reason, detail, 0, int(frames.size[i]), int(frames.idcode[i])))
        for i in chosen
    ]

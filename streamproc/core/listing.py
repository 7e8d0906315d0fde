"""A capture as a list of descriptions, one per frame, in order: what `streamproc decode` prints.

Each stream has its own book of configurations. Data frames wait until a configuration comes or enough are there, and are
decoded together, stream by stream; the order of the output is that of the capture all the same.

Commands over TCP and data over UDP (the mixed mode of the standard) are two streams: a stream that has no configuration for
its data takes the one that the same sender sent elsewhere, if exactly one of its streams has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from streamproc.core.c37118.book import LAST_FRAGMENT, Book
from streamproc.core.c37118.configuration import Configuration, parse_configuration
from streamproc.core.c37118.decode import decode
from streamproc.core.c37118.describe import (
    describe_configuration,
    describe_data,
    describe_other,
    head_of,
    iso,
)
from streamproc.core.c37118.frame import CFG1, CFG2, CFG3, COMMAND, DATA, HEADER_SIZE, Reason, Rejection
from streamproc.core.capture import CapturedFrame

Plain = dict[str, Any]
WAITING_MAX = 2048  # frames decoded together
FRAME_SHOWN_MAX = 256  # bytes of what was refused


@dataclass(slots=True)
class _Lister:
    base: Book
    books: dict[str, Book] = field(default_factory=dict)
    waiting: list[CapturedFrame] = field(default_factory=list)

    def book(self, stream: str) -> Book:
        return self.books.get(stream, self.base)

    def flush(self) -> Iterator[Plain]:
        """Describe what waits: data, headers, commands and rejections, no configuration among them."""
        described: list[Plain] = [{}] * len(self.waiting)
        data: dict[str, list[int]] = {}
        for index, item in enumerate(self.waiting):
            if item.rejection is not None:
                described[index] = _rejected(item, item.rejection)
            elif item.frame[1] >> 4 & 7 == DATA:
                data.setdefault(item.stream, []).append(index)
            else:
                described[index] = _other(item, self.book(item.stream))
        for stream, indices in data.items():
            self._data(stream, indices, described)
        yield from described
        self.waiting = []

    def _data(self, stream: str, indices: list[int], described: list[Plain]) -> None:
        frames = [self.waiting[i].frame for i in indices]
        book = self.book(stream)
        unknown = {frame[4:6] for frame in frames if book.lookup(int.from_bytes(frame[4:6], "big")) is None}
        for idcode in sorted(unknown):
            book = self._borrow(stream, book, int.from_bytes(idcode, "big"))
        decoded = decode(book, frames)
        if not unknown:
            self.books[stream] = decoded.book  # data may have proved a contested configuration right
        for batch in (part for every in decoded.batches for part in every.parts()):
            places = batch.record.tolist()
            for place, plain in zip(places, describe_data(batch, [frames[p] for p in places]), strict=True):
                described[indices[place]] = _placed(self.waiting[indices[place]], plain)
        for place, why in decoded.rejections:
            described[indices[place]] = _rejected(self.waiting[indices[place]], why)

    def _borrow(self, stream: str, book: Book, idcode: int) -> Book:
        sender = _sender(stream)
        lenders = [
            other
            for name, other in self.books.items()
            if name != stream and _sender(name) == sender and other.lookup(idcode) is not None
        ]
        layout = lenders[0].lookup(idcode) if len(lenders) == 1 else None
        return book if layout is None else book.learn(layout.config)[0]

    def configuration(self, item: CapturedFrame) -> Plain:
        """Learn a configuration and describe it."""
        frame, book = item.frame, self.book(item.stream)
        book, refusal = book.learn(frame)
        self.books[item.stream] = book
        if refusal is not None:
            return _rejected(item, refusal)
        cont_idx = int.from_bytes(frame[HEADER_SIZE : HEADER_SIZE + 2], "big") if _is_cfg3(frame) else 0
        config = self._parsed(frame, cont_idx, book)
        if config is None:
            return _placed(item, {**head_of(frame), "cont_idx": cont_idx})
        described = describe_configuration(config, frame)
        return _placed(item, {**described, "cont_idx": cont_idx} if _is_cfg3(frame) else described)

    def _parsed(self, frame: bytes, cont_idx: int, book: Book) -> Configuration | None:
        if not cont_idx:
            config = parse_configuration(frame)
            return None if isinstance(config, Rejection) else config
        layout = book.layouts.get(int.from_bytes(frame[4:6], "big"))
        if layout is None or cont_idx != LAST_FRAGMENT:  # only the last fragment makes it whole
            return None
        return Configuration(layout.kind, layout.idcode, layout.time_base, layout.data_rate, layout.pmus)


def list_frames(captured: Iterable[CapturedFrame], base: Book | None = None) -> Iterator[Plain]:
    """Yield one description per frame or rejection, in order; `base` is known to every stream beforehand."""
    lister = _Lister(base or Book())
    for item in captured:
        if item.rejection is None and item.frame[1] >> 4 & 7 in {CFG1, CFG2, CFG3}:
            yield from lister.flush()
            yield lister.configuration(item)
            continue
        lister.waiting.append(item)
        if len(lister.waiting) >= WAITING_MAX:
            yield from lister.flush()
    yield from lister.flush()


def _is_cfg3(frame: bytes) -> bool:
    return frame[1] >> 4 & 7 == CFG3


def _sender(stream: str) -> str:
    """Return the address of the sender in `udp 10.0.0.1:4713>10.0.0.2:5000`."""
    return stream.partition(" ")[2].partition(">")[0].rpartition(":")[0]


def _other(item: CapturedFrame, book: Book) -> Plain:
    frame = item.frame
    if frame[1] >> 4 & 7 == COMMAND and len(frame) < HEADER_SIZE + 4:
        detail = "CMD: the command frame has no command"
        return _rejected(item, Rejection(Reason.BAD_COMMAND, detail, 0, len(frame)))
    layout = book.lookup(int.from_bytes(frame[4:6], "big"))
    return _placed(item, describe_other(frame, layout.time_base if layout is not None else None))


def _placed(item: CapturedFrame, plain: Plain) -> Plain:
    plain["stream"] = item.stream
    plain["capture_ts"] = iso(item.ts_ns) if item.ts_ns else None
    return plain


def _rejected(item: CapturedFrame, why: Rejection) -> Plain:
    """Describe what was refused; a frame with a good CRC keeps the fields of its head, under its own type."""
    plain: Plain = {"type": "rejected", "reason": str(why.reason), "detail": why.detail}
    if item.rejection is None:
        head = head_of(item.frame)
        plain |= {"frame_type": head.pop("type"), **head}
    else:
        plain |= {"start": why.start, "size": why.size, "idcode": why.idcode}
        plain["crc_ok"] = False if why.reason == Reason.BAD_CRC else None
    plain["frame"] = item.frame[:FRAME_SHOWN_MAX].hex()
    return _placed(item, plain)

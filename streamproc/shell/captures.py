"""Captures of C37.118 as records: each frame of data or configuration is one record, in the order of capture.

What a capture holds beside them (commands, headers, other traffic) is left out; bytes that are no good frame
are passed on, so that they are refused, counted and reported as they would be live. The first configuration
of each stream comes before everything else: live it would be known from its compacted topic, also when a
capture begins in mid-stream.

Two streams with the same IDCODE and different configurations cannot share an area: the second gets an area of
its own, AREA.2, and so on.

A capture with data frames only, as a `.PmuCapture` of GSF is, gets the configuration that lies beside it
(`streamproc.shell.gsf_capture`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from streamproc.core.c37118 import CFG2, CFG3, COMMAND, DATA, HEADER, Book
from streamproc.core.c37118.frame import with_crc
from streamproc.core.capture import CapturedFrame
from streamproc.core.capture import read_capture as read_capture_bytes
from streamproc.errors import RecordingError
from streamproc.shell.gsf_capture import sibling_book
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, Record

CAPTURE_ENDINGS = (".pcap", ".pcapng", ".pmucapture", ".c37")
CAPTURE_SIZE_MAX = 2 << 30  # bytes; a capture is read as a whole


def read_capture(path: Path, key: bytes, note: Callable[[str], None]) -> Iterator[Record]:
    """Yield the records of a capture; raises RecordingError."""
    try:
        if path.stat().st_size > CAPTURE_SIZE_MAX:
            raise RecordingError(f"{path}: larger than {CAPTURE_SIZE_MAX} bytes: split the capture")
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    frames = [frame for frame in read_capture_bytes(content) if _is_input(frame)]
    data = [frame for frame in frames if frame.rejection is None and _kind(frame.frame) == DATA]
    if not data:
        first = next((f.rejection.detail for f in frames if f.rejection is not None), "it holds none")
        raise RecordingError(f"{path}: no data frame of IEEE C37.118 was found: {first}")
    used = {frame.stream for frame in data}
    frames = [frame for frame in frames if frame.stream in used]
    configs = _first_configs(frames)
    missing = sorted({f.stream for f in data} - set(configs))
    if missing:
        beside = _beside(path, data[0].frame, note)
        configs |= {stream: beside for stream in missing if beside}
    yield from _records(frames, configs, key, note)


def _records(
    frames: Sequence[CapturedFrame],
    configs: dict[str, list[bytes]],
    key: bytes,
    note: Callable[[str], None],
) -> Iterator[Record]:
    areas = areas_of(configs, key, note)
    bases = {stream: _time_base(parts) for stream, parts in configs.items()}

    def ts_ms(frame: CapturedFrame) -> int:
        fraction = int.from_bytes(frame.frame[11:14], "big") * 1000 // bases.get(frame.stream, 1 << 24)
        return int.from_bytes(frame.frame[6:10], "big") * 1000 + fraction

    first_ms = next(ts_ms(f) for f in frames if f.rejection is None and _kind(f.frame) == DATA)
    for stream, parts in configs.items():
        for part in parts:
            if areas.get(stream, key) == key:  # the topic of configurations is keyed by IDCODE alone
                yield Record(TOPIC_CONFIG, 0, 0, first_ms, b"%d" % _idcode(part), part)
        yield Record(TOPIC_FRAMES, 0, 0, first_ms, areas.get(stream, key), b"".join(parts))
    last_ms = first_ms
    for frame in frames:
        if frame.rejection is None and _kind(frame.frame) == DATA:
            last_ms = ts_ms(frame)
        if frame.frame:
            yield Record(TOPIC_FRAMES, 0, 0, last_ms, areas.get(frame.stream, key), frame.frame)


def _is_input(frame: CapturedFrame) -> bool:
    return frame.rejection is not None or _kind(frame.frame) not in {COMMAND, HEADER}


def _first_configs(frames: Sequence[CapturedFrame]) -> dict[str, list[bytes]]:
    """Return per stream the frames of its first whole configuration: one, or the fragments of a CFG-3."""
    found: dict[str, list[bytes]] = {}
    books: dict[str, Book] = {}
    for frame in frames:
        book = books.get(frame.stream, Book())
        if frame.rejection is not None or _kind(frame.frame) not in {CFG2, CFG3} or book.layouts:
            continue
        books[frame.stream], refusal = book.learn(frame.frame)
        if refusal is None:
            found.setdefault(frame.stream, []).append(frame.frame)
        else:
            found.pop(frame.stream, None)
    return {stream: parts for stream, parts in found.items() if books[stream].layouts}


def areas_of(configs: dict[str, list[bytes]], key: bytes, note: Callable[[str], None]) -> dict[str, bytes]:
    """Return the area of each stream: the first in which its IDCODE has no other configuration."""
    taken: list[dict[int, bytes]] = []
    areas: dict[str, bytes] = {}
    for stream, parts in configs.items():
        idcode = _idcode(parts[0])
        # The time of the configuration is not part of what it says.
        body = b"".join(part[14:-2] for part in parts)
        number = next((n for n, t in enumerate(taken) if t.get(idcode, body) == body), len(taken))
        if number == len(taken):
            taken.append({})
        taken[number][idcode] = body
        areas[stream] = key if number == 0 else key + b".%d" % (number + 1)
        if number:
            note(
                f"{stream} has another configuration for IDCODE {idcode}: its area is {areas[stream].decode()}"
            )
    return areas


def _beside(path: Path, data: bytes, note: Callable[[str], None]) -> list[bytes]:
    """Return the configurations that lie beside the capture and fit its data frames, or []."""
    book = sibling_book(path, len(data), note)
    if not book.layouts:
        note("no configuration in the capture nor beside it: its data frames will be refused")
    frames = [layout.config for layout in book.layouts.values()]
    idcode = _idcode(data)
    if len(frames) == 1 and _idcode(frames[0]) != idcode:
        # A real pair of files has this: the only configuration is of IDCODE 0, the data are of 1. In the file they
        # belong together; beside other streams nobody could tell.
        note(f"its IDCODE {_idcode(frames[0])} is taken for {idcode}, that of the data")
        frames = [with_crc(frames[0][:4] + idcode.to_bytes(2, "big") + frames[0][6:-2])]
    return frames


def _kind(frame: bytes) -> int:
    return frame[1] >> 4 & 7


def _idcode(frame: bytes) -> int:
    return int.from_bytes(frame[4:6], "big")


def _time_base(parts: Sequence[bytes]) -> int:
    """Return the TIME_BASE of a configuration."""
    book = Book()
    for part in parts:
        book, _ = book.learn(part)
    return next((layout.time_base for layout in book.layouts.values()), 1 << 24)

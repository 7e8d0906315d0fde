"""Frames of C37.118 out of a capture, with the stream each belongs to. Pure: bytes in, values out.

A capture is a pcap or pcapng file (`packets`), or frames back to back: a `.PmuCapture` of GSF or a `.c37`. A stream is one
direction of a connection (or of a pair of UDP ports): configurations of one stream say nothing about another with the
same IDCODE. Frames come in the order in which they were complete in the capture.

UDP: the splitter works within a datagram, never across. TCP: within the reassembled bytes of a direction (`reassembly`); a
gap ends the frame it falls into. Traffic that is not C37.118 is passed over: a stream counts as soon as one of its
payloads begins like a frame, a good frame is found in it, or it uses the usual ports 4712 and 4713.

A file of IEEE 1344 is refused by that name, as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from streamproc.core.c37118.frame import SYNC, TYPE_NAMES, VERSIONS, Reason, Rejection, split
from streamproc.core.packets import Datagram, Notice, Segment, is_packet_capture, read_packets
from streamproc.core.reassembly import ON_ITS_OWN, Direction, Piece

PORTS = (":4712", ":4713")  # not registered, but everybody uses them
FILE_STREAM = "file"
_SYNC = bytes([SYNC])
_SECOND_BYTES = {bytes([kind << 4 | version]) for kind in TYPE_NAMES for version in VERSIONS}


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame with a good CRC, or bytes that were refused. `ts_ns` is the time of capture, 0 when the file has none."""

    stream: str
    ts_ns: int
    frame: bytes
    rejection: Rejection | None = None


def read_capture(content: bytes) -> Iterator[CapturedFrame]:
    """Yield the frames of a capture file's bytes, in order of capture; never raises for bad bytes."""
    if is_packet_capture(content):
        yield from _packet_frames(content)
        return
    found = _found(FILE_STREAM, 0, content, 0, final=True)[0]
    if not content:
        found = [_refused(content, Reason.EMPTY, "the file has no bytes")]
    elif found[0].rejection is not None and found[0].rejection.reason == Reason.IEEE_1344:
        detail = "this file is a capture of IEEE 1344, a different and older protocol: it is not supported"
        found = [_refused(content, Reason.IEEE_1344, detail)]
    yield from found


def _refused(content: bytes, reason: Reason, detail: str) -> CapturedFrame:
    return CapturedFrame(FILE_STREAM, 0, content, Rejection(reason, detail, 0, len(content)))


def _begins_like_frame(content: bytes) -> bool:
    return content[:1] == _SYNC and content[1:2] in _SECOND_BYTES


def _found(
    stream: str, ts_ns: int, buffer: bytes, base: int, *, final: bool
) -> tuple[list[CapturedFrame], int]:
    """Return frames and rejections of a buffer in order of place, and how many bytes are done with."""
    parts = split(buffer, final=final)
    found: list[tuple[int, int, Rejection | None]] = [
        (start, start + size, None) for start, size in parts.frames.tolist()
    ]
    found += [(r.start, r.start + r.size, r) for r in parts.rejections]
    if parts.rejections:
        found.sort(key=lambda entry: entry[0])
    return [
        CapturedFrame(stream, ts_ns, buffer[start:stop], why and replace(why, start=why.start + base))
        for start, stop, why in found
    ], parts.consumed


@dataclass(slots=True)
class _Stream:
    """One direction: TCP state, bytes that wait for the rest of their frame, whether it is C37.118 at all."""

    name: str
    relevant: bool
    direction: Direction = field(default_factory=Direction)
    buffer: bytes = b""
    base: int = 0  # bytes of the stream before `buffer`

    def feed(self, piece: Piece, ts_ns: int) -> Iterator[CapturedFrame]:
        """Yield what this piece completes."""
        if piece.gap == ON_ITS_OWN:
            self.relevant = self.relevant or _begins_like_frame(piece.payload)
            yield from self.keep(_found(self.name, ts_ns, piece.payload, 0, final=True)[0])
            return
        if piece.gap:
            yield from self.end(ts_ns)
            if piece.gap > 0:
                detail = f"{piece.gap} bytes of the connection are missing in the capture"
                rejection = Rejection(Reason.CAPTURE_GAP, detail, self.base, piece.gap)
                yield from self.keep([CapturedFrame(self.name, ts_ns, b"", rejection)])
                self.base += piece.gap
        self.relevant = self.relevant or _begins_like_frame(piece.payload)
        self.buffer += piece.payload
        yield from self._split(ts_ns, final=False)

    def end(self, ts_ns: int) -> Iterator[CapturedFrame]:
        """Yield what is left: nothing more follows on these bytes."""
        if self.buffer:
            yield from self._split(ts_ns, final=True)

    def keep(self, found: list[CapturedFrame]) -> list[CapturedFrame]:
        """Return what of it is about C37.118."""
        self.relevant = self.relevant or any(f.rejection is None for f in found)
        return found if self.relevant else []

    def _split(self, ts_ns: int, *, final: bool) -> list[CapturedFrame]:
        found, consumed = _found(self.name, ts_ns, self.buffer, self.base, final=final)
        self.buffer = self.buffer[consumed:]
        self.base += consumed
        return self.keep(found)


def _packet_frames(content: bytes) -> Iterator[CapturedFrame]:
    streams: dict[str, _Stream] = {}
    ts_ns = 0

    def stream_of(name: str) -> _Stream:
        if name not in streams:
            ends = name.partition(" ")[2].split(">")
            streams[name] = _Stream(name, any(end.endswith(PORTS) for end in ends))
        return streams[name]

    for packet in read_packets(content):
        ts_ns = packet.ts_ns or ts_ns
        if isinstance(packet, Notice):
            rejection = Rejection(packet.reason, packet.detail, 0, len(packet.content))
            yield CapturedFrame(packet.stream, ts_ns, packet.content, rejection)
        elif isinstance(packet, Datagram):
            stream = stream_of(packet.stream)
            stream.relevant = stream.relevant or _begins_like_frame(packet.payload)
            if packet.payload:
                found, _ = _found(stream.name, ts_ns, packet.payload, 0, final=True)
                yield from stream.keep(found)
        else:
            yield from _segment_frames(packet, stream_of(packet.stream), streams.get(packet.reverse))
    for stream in streams.values():
        yield from _feed_all(stream, stream.direction.flush(), ts_ns)
        yield from stream.end(ts_ns)


def _segment_frames(segment: Segment, stream: _Stream, reverse: _Stream | None) -> Iterator[CapturedFrame]:
    if reverse is not None and segment.acknowledgement is not None:
        behind_hole = reverse.direction.acknowledged(segment.acknowledgement)
        yield from _feed_all(reverse, behind_hole, segment.ts_ns)
    pieces = stream.direction.take(segment.sequence, segment.payload, segment.syn)
    yield from _feed_all(stream, pieces, segment.ts_ns)


def _feed_all(stream: _Stream, pieces: Iterator[Piece], ts_ns: int) -> Iterator[CapturedFrame]:
    for piece in pieces:
        yield from stream.feed(piece, ts_ns)

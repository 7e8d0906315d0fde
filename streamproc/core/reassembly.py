"""One direction of a TCP connection: segments in any order become the bytes in their order.

    segment  |---- 1 ----|---- 2 ----|        |---- 4 ----|
    bytes    ============delivered===  <hole>  waiting

The first copy of a byte wins, as with a receiver: what comes again (retransmission, overlap) is cut away. A hole is given
up when the other side acknowledges bytes behind it (it had them, the capture did not), when more waits behind it than
`WAITING_SIZE_MAX`, or at the end. Then the bytes behind it are delivered, marked as coming after a gap.

A capture that begins within a connection may show its first segments out of order: what belongs before the first one seen
is delivered on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

WAITING_SIZE_MAX = 1 << 18  # bytes behind a hole
WAITING_COUNT_MAX = 512  # segments behind a hole
EARLY_COUNT_MAX = 64  # segments from before the first one seen
NEW_CONNECTION, ON_ITS_OWN = -1, -2
JUMP_MAX = 1 << 24  # sequence numbers further away than this belong to another connection


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes in order. `gap` counts bytes missing before them; otherwise it is NEW_CONNECTION or ON_ITS_OWN."""

    gap: int
    payload: bytes


@dataclass(slots=True)
class Direction:
    """What is known about one direction so far."""

    next_sequence: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict)  # by sequence number, first copy
    waiting_size: int = 0
    begin: int | None = None  # sequence number of the first byte seen, where the connection's begin was not
    early: set[int] = field(default_factory=set)

    def take(self, sequence: int, payload: bytes, syn: bool) -> Iterator[Piece]:
        """Yield what can be delivered now that this segment has come."""
        if syn:
            sequence = (sequence + 1) & 0xFFFFFFFF  # SYN counts as a byte
            if self.next_sequence is not None and sequence != self.next_sequence:
                yield from self.flush()
                yield Piece(NEW_CONNECTION, b"")
            self.next_sequence, self.begin = sequence, None
        if not payload:
            return
        if self.next_sequence is None:
            self.next_sequence = self.begin = sequence
        ahead = self._ahead(sequence)
        if abs(ahead) > JUMP_MAX:
            yield from self.flush()
            yield Piece(NEW_CONNECTION, payload)
            self.next_sequence, self.begin = (sequence + len(payload)) & 0xFFFFFFFF, None
            return
        if ahead > 0:
            self._keep(sequence, payload)
            if self.waiting_size > WAITING_SIZE_MAX or len(self.waiting) > WAITING_COUNT_MAX:
                yield from self._skip_hole()
            return
        if self._is_early(sequence, ahead, len(payload)):
            self.early.add(sequence)
            yield Piece(ON_ITS_OWN, payload)
        if len(payload) > -ahead:
            yield self._deliver(0, payload[-ahead:])
            yield from self._drain()

    def _is_early(self, sequence: int, ahead: int, size: int) -> bool:
        """Return whether a segment lies wholly before the first one seen, and has not been seen itself."""
        if self.begin is None or sequence in self.early or len(self.early) >= EARLY_COUNT_MAX:
            return False
        return self._ahead(self.begin) - ahead >= size

    def acknowledged(self, sequence: int) -> Iterator[Piece]:
        """Yield what waits behind a hole that the receiver says it has."""
        while self.waiting and self.next_sequence is not None and 0 < self._ahead(sequence) <= JUMP_MAX:
            first = min(self.waiting, key=self._ahead)
            if self._ahead(first) >= self._ahead(sequence):
                return
            yield from self._skip_hole()

    def flush(self) -> Iterator[Piece]:
        """Yield all that waits, holes or not: the capture or the connection ends here."""
        while self.waiting:
            yield from self._skip_hole()

    def _ahead(self, sequence: int) -> int:
        """Return how far `sequence` lies ahead of what was delivered; sequence numbers wrap at 2^32."""
        return ((sequence - (self.next_sequence or 0) + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def _keep(self, sequence: int, payload: bytes) -> None:
        known = self.waiting.get(sequence, b"")
        if len(payload) > len(known):
            self.waiting[sequence] = known + payload[len(known) :]
            self.waiting_size += len(payload) - len(known)

    def _deliver(self, gap: int, payload: bytes) -> Piece:
        self.next_sequence = ((self.next_sequence or 0) + gap + len(payload)) & 0xFFFFFFFF
        return Piece(gap, payload)

    def _skip_hole(self) -> Iterator[Piece]:
        first = min(self.waiting, key=self._ahead)
        gap = self._ahead(first)
        payload = self._pop(first)
        if gap > 0:
            yield self._deliver(gap, payload)
        elif len(payload) > -gap:
            yield self._deliver(0, payload[-gap:])
        yield from self._drain()

    def _drain(self) -> Iterator[Piece]:
        """Yield what waited and now follows on."""
        while self.waiting:
            first = min(self.waiting, key=self._ahead)
            ahead = self._ahead(first)
            if ahead > 0:
                return
            payload = self._pop(first)
            if len(payload) > -ahead:
                yield self._deliver(0, payload[-ahead:])

    def _pop(self, sequence: int) -> bytes:
        payload = self.waiting.pop(sequence)
        self.waiting_size -= len(payload)
        return payload

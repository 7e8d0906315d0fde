"""IP packets out of their fragments: a configuration of some PMUs over UDP is longer than an Ethernet frame.

    offset 0       1480      2960
    |----- 1 -----|----- 2 -----|-- 3 --|      any order; the last one has no "more fragments" and tells the end

The first copy of a byte wins. What never becomes whole is given back, so that it can be reported: at the end, or when more
packets wait than `PENDING_MAX`. A packet has 65535 bytes at most, so what waits is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PACKET_SIZE_MAX = 65535
PENDING_MAX = 64  # packets not whole yet; a sender fragments one after the other


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment: which packet it belongs to, where, and whether more follow."""

    ts_ns: int
    source: str
    target: str
    kind: int  # protocol of the payload
    identification: int
    offset: int
    more: bool
    content: bytes

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Return what all fragments of a packet have in common (RFC 791, 3.2)."""
        return self.source, self.target, self.kind, self.identification


@dataclass(slots=True)
class Fragments:
    """Fragments that wait for the others of their packets, oldest packet first."""

    pending: dict[tuple[str, str, int, int], list[Fragment]] = field(default_factory=dict)

    def take(self, fragment: Fragment) -> bytes | None:
        """Return the whole payload when this was the last missing fragment of a packet."""
        parts = [*self.pending.pop(fragment.key, ()), fragment]
        whole = _whole(parts)
        if whole is None:
            self.pending[fragment.key] = parts
        return whole

    def crowded_out(self) -> list[Fragment]:
        """Return, and forget, the fragments of the packet that waited longest when too many wait."""
        if len(self.pending) <= PENDING_MAX:
            return []
        return self.pending.pop(next(iter(self.pending)))

    def rest(self) -> list[Fragment]:
        """Return all fragments that still wait."""
        return [part for parts in self.pending.values() for part in parts]


def _whole(parts: list[Fragment]) -> bytes | None:
    """Return the payload of a packet if its fragments cover it from the first to the last byte."""
    last = [part for part in parts if not part.more]
    if not last:
        return None
    end = last[0].offset + len(last[0].content)
    payload = bytearray()
    # Stable: of two fragments at one place the first that came is looked at first, and wins.
    for part in sorted(parts, key=lambda part: part.offset):
        if part.offset > len(payload):
            return None
        payload += part.content[len(payload) - part.offset :]
    return bytes(payload[:end]) if end <= len(payload) and end <= PACKET_SIZE_MAX else None

"""Packets out of a capture file: pcap and pcapng, link layer, IP, down to UDP datagrams and TCP segments. Pure bytes.

    pcap      magic, link type | seconds, fraction, size | bytes | ...      both byte orders, micro- and nanoseconds
    pcapng    section header, interface description, enhanced or simple packet, ...      what Wireshark writes today

Link layers: Ethernet (with VLAN tags), raw IP, Linux "cooked" (SLL, SLL2), BSD null. Fragments of IP packets are put
together (`ip_fragments`); one whose packet never becomes whole is reported as a `Notice`, never silently lost. Lengths in
headers are not believed beyond the bytes that are there; what does not hold together is left out or ends the file with a
notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from streamproc.core.c37118.frame import Reason
from streamproc.core.ip_fragments import Fragment, Fragments

PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),  # byte order, ns per unit of the fraction
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_ETHERNET, _NULL, _LOOP, _SLL, _SLL2 = 1, 0, 108, 113, 276
_RAW_IP = {12, 14, 101, 228, 229}
_VLAN_TAGS = {0x8100, 0x88A8, 0x9100}
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
_EXTENSIONS = {
    0,
    43,
    60,
    135,
}  # IPv6 headers before the payload: hop by hop, routing, destination options, mobility
_FRAGMENT = 44
TIME_NS_MAX = (1 << 63) - 1  # a time of capture beyond the year 2262 is none
_EXTENSIONS_MAX = 8


@dataclass(frozen=True, slots=True)
class Datagram:
    """The payload of one UDP datagram. `stream` names its direction: from>to."""

    ts_ns: int
    stream: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment. `stream` names its direction: from>to; `reverse` the other one."""

    ts_ns: int
    stream: str
    reverse: str
    sequence: int
    acknowledgement: int | None
    syn: bool
    ends: bool  # FIN or RST
    payload: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """Bytes of the capture that could not be used, and why."""

    ts_ns: int
    stream: str
    reason: Reason
    detail: str
    content: bytes


Packet = Datagram | Segment | Notice


def is_packet_capture(content: bytes) -> bool:
    """Return whether these bytes begin like a pcap or pcapng file."""
    return content[:4] in PCAP_MAGIC or content[:4] == PCAPNG_MAGIC


def read_packets(content: bytes) -> Iterator[Packet]:
    """Yield the UDP datagrams and TCP segments of a capture file, in its order. Other packets are passed over."""
    blocks = _pcapng(content) if content[:4] == PCAPNG_MAGIC else _pcap(content)
    fragments = Fragments()
    for block in blocks:
        found = block if isinstance(block, Notice) else _transport(*block)
        packet: Packet | None
        if isinstance(found, Fragment):
            whole = fragments.take(found)
            yield from map(_lost, fragments.crowded_out())
            packet = _ports(found.ts_ns, found.kind, found.source, found.target, whole) if whole else None
        else:
            packet = found
        if packet is not None:
            yield packet
    yield from map(_lost, fragments.rest())


_Block = tuple[int, int, bytes]  # time of capture, link type, bytes


def _pcap(content: bytes) -> Iterator[_Block | Notice]:
    order, unit_ns = PCAP_MAGIC[content[:4]]
    if len(content) < 24:
        yield _broken(0, content, "the file header of a pcap has 24 bytes")
        return
    link = Struct(order + "I").unpack_from(content, 20)[0] & 0x0FFFFFFF
    head, at = Struct(order + "4I"), 24
    while at < len(content):
        if at + 16 > len(content):
            yield _broken(0, content[at:], "the file ends within a packet's header")
            return
        second, fraction, size, _ = head.unpack_from(content, at)
        ts_ns = second * 1_000_000_000 + fraction * unit_ns
        if at + 16 + size > len(content):
            detail = f"a packet of {size} bytes, {len(content) - at - 16} left in the file"
            yield _broken(ts_ns, content[at + 16 :], detail)
            return
        yield ts_ns, link, content[at + 16 : at + 16 + size]
        at += 16 + size


def _pcapng(content: bytes) -> Iterator[_Block | Notice]:
    at, order = 0, "<"
    interfaces: list[tuple[int, int]] = []  # link type, units of time per second
    while at + 12 <= len(content):
        if content[at : at + 4] == PCAPNG_MAGIC:
            order = "<" if content[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, size = Struct(order + "2I").unpack_from(content, at)
        if size < 12 or size % 4 or at + size > len(content):
            break
        body = content[at + 8 : at + size - 4]
        if kind == _INTERFACE and len(body) >= 8:
            interfaces.append((Struct(order + "H").unpack_from(body)[0], _units_per_s(body[8:], order)))
        elif kind in {_ENHANCED, _SIMPLE}:
            packet = _pcapng_packet(kind, body, order, interfaces)
            if packet is not None:
                yield packet
        at += size
    if at < len(content):
        yield _broken(0, content[at:], "a block of the pcapng does not fit into the file")


def _units_per_s(options: bytes, order: str) -> int:
    head, at = Struct(order + "2H"), 0
    while at + 4 <= len(options):
        code, size = head.unpack_from(options, at)
        if code == 9 and size >= 1:  # if_tsresol
            value = options[at + 4] if at + 4 < len(options) else 6
            return int(2 ** (value & 0x3F)) if value & 0x80 else int(10 ** min(value, 18))
        if code == 0:
            break
        at += 4 + (size + 3) // 4 * 4
    return 1_000_000


def _pcapng_packet(kind: int, body: bytes, order: str, interfaces: list[tuple[int, int]]) -> _Block | None:
    if kind == _SIMPLE:
        if not interfaces or len(body) < 4:
            return None
        size = Struct(order + "I").unpack_from(body)[0]
        return 0, interfaces[0][0], body[4 : 4 + size]
    if len(body) < 20:
        return None
    number, high, low, size, _ = Struct(order + "5I").unpack_from(body)
    if number >= len(interfaces):
        return None
    link, units_per_s = interfaces[number]
    ts_ns = (high << 32 | low) * 1_000_000_000 // units_per_s
    return ts_ns if ts_ns <= TIME_NS_MAX else 0, link, body[20 : 20 + size]


def _broken(ts_ns: int, content: bytes, detail: str) -> Notice:
    return Notice(ts_ns, "file", Reason.BAD_CAPTURE, detail, content)


def _transport(ts_ns: int, link: int, packet: bytes) -> Packet | Fragment | None:
    ether_type, network = _network(link, packet)
    if ether_type == _IPV4:
        return _ipv4(ts_ns, network)
    if ether_type == _IPV6:
        return _ipv6(ts_ns, network)
    return None


def _network(link: int, packet: bytes) -> tuple[int, bytes]:
    """Return the EtherType and the bytes of the network layer; 0 when it is neither IPv4 nor IPv6."""
    if link == _ETHERNET:
        at = 12
        while int.from_bytes(packet[at : at + 2], "big") in _VLAN_TAGS:
            at += 4
        return int.from_bytes(packet[at : at + 2], "big"), packet[at + 2 :]
    if link == _SLL:
        return int.from_bytes(packet[14:16], "big"), packet[16:]
    if link == _SLL2:
        return int.from_bytes(packet[0:2], "big"), packet[20:]
    network = packet[4:] if link in {_NULL, _LOOP} else packet
    if link not in {_NULL, _LOOP, *_RAW_IP} or not network:
        return 0, b""
    return {4: _IPV4, 6: _IPV6}.get(network[0] >> 4, 0), network


def _ipv4(ts_ns: int, packet: bytes) -> Packet | Fragment | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    head = (packet[0] & 15) * 4
    # 0: written by a network card that cuts segments itself; the capture then holds all of it
    total = int.from_bytes(packet[2:4], "big") or len(packet)
    source, target = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
    content = packet[head:total]
    place = int.from_bytes(packet[6:8], "big")
    if packet[9] in {_TCP, _UDP} and place & 0x3FFF:
        number, offset, more = int.from_bytes(packet[4:6], "big"), (place & 0x1FFF) * 8, bool(place & 0x2000)
        return Fragment(ts_ns, source, target, packet[9], number, offset, more, content)
    return _ports(ts_ns, packet[9], source, target, content)


def _ipv6(ts_ns: int, packet: bytes) -> Packet | Fragment | None:
    if len(packet) < 40:
        return None
    size = int.from_bytes(packet[4:6], "big") or len(packet) - 40
    source, target = (_ipv6_text(packet[at : at + 16]) for at in (8, 24))
    kind, content = packet[6], packet[40 : 40 + size]
    for _ in range(_EXTENSIONS_MAX):
        if kind == _FRAGMENT:
            if len(content) < 8 or content[0] not in {_TCP, _UDP}:
                return None
            place, number = int.from_bytes(content[2:4], "big"), int.from_bytes(content[4:8], "big")
            return Fragment(
                ts_ns, source, target, content[0], number, place & 0xFFF8, bool(place & 1), content[8:]
            )
        if kind not in _EXTENSIONS or len(content) < 8:
            break
        kind, content = content[0], content[8 + 8 * content[1] :]
    return _ports(ts_ns, kind, source, target, content)


def _ipv6_text(address: bytes) -> str:
    return "[" + ":".join(f"{int.from_bytes(address[i : i + 2], 'big'):x}" for i in range(0, 16, 2)) + "]"


def _lost(part: Fragment) -> Notice:
    detail = f"a fragment of an IP packet, bytes from {part.offset} on: others of its packet are missing"
    return Notice(part.ts_ns, f"{part.source}>{part.target}", Reason.IP_FRAGMENT, detail, part.content)


def _ports(ts_ns: int, kind: int, source: str, target: str, content: bytes) -> Packet | None:
    if kind not in {_TCP, _UDP} or len(content) < 8:
        return None
    here = f"{source}:{int.from_bytes(content[:2], 'big')}"
    there = f"{target}:{int.from_bytes(content[2:4], 'big')}"
    if kind == _UDP:
        size = int.from_bytes(content[4:6], "big") or len(content)
        return Datagram(ts_ns, f"udp {here}>{there}", content[8:size])
    if len(content) < 20:
        return None
    flags, head = content[13], (content[12] >> 4) * 4
    if head < 20:
        return None
    return Segment(
        ts_ns=ts_ns,
        stream=f"tcp {here}>{there}",
        reverse=f"tcp {there}>{here}",
        sequence=int.from_bytes(content[4:8], "big"),
        acknowledgement=int.from_bytes(content[8:12], "big") if flags & 0x10 else None,
        syn=bool(flags & 2),
        ends=bool(flags & 5),
        payload=content[head:],
    )

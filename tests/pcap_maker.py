"""Capture files for tests, written byte by byte: UDP datagrams and TCP segments on Ethernet, as pcap or pcapng."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack

HERE, THERE = b"\x0a\0\0\1", b"\x0a\0\0\2"


def udp(payload: bytes, *, source: int = 4713, target: int = 50000, sender: bytes = HERE) -> bytes:
    """Return an Ethernet packet with one UDP datagram."""
    datagram = pack(">HHHH", source, target, 8 + len(payload), 0) + payload
    return ethernet(ipv4(17, datagram, sender=sender))


def tcp(
    payload: bytes,
    sequence: int,
    *,
    source: int = 4712,
    target: int = 50000,
    flags: int = 0x18,
    acknowledgement: int = 0,
    sender: bytes = HERE,
    receiver: bytes = THERE,
) -> bytes:
    """Return an Ethernet packet with one TCP segment."""
    head = pack(">HHIIBBHHH", source, target, sequence & 0xFFFFFFFF, acknowledgement, 0x50, flags, 8192, 0, 0)
    return ethernet(ipv4(6, head + payload, sender=sender, receiver=receiver))


def ipv4(
    protocol: int, content: bytes, *, sender: bytes = HERE, receiver: bytes = THERE, fragment: int = 0
) -> bytes:
    """Return an IPv4 packet with a right header checksum."""
    head = pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(content), 1, fragment, 64, protocol, 0, sender, receiver)
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + pack(">H", 0xFFFF - total) + head[12:] + content


def ipv6(protocol: int, content: bytes, *, before: bytes = b"") -> bytes:
    """Return an IPv6 packet; `before` are extension headers, the first byte of `protocol`'s place is theirs to set."""
    address = bytes(15)
    head = pack(">IHBB", 0x60000000, len(before) + len(content), protocol, 64)
    return head + address + b"\1" + address + b"\2" + before + content


def ethernet(packet: bytes, *, kind: int = 0x0800, vlan: bool = False) -> bytes:
    """Return an Ethernet packet, with a VLAN tag if wanted."""
    tag = pack(">HH", 0x8100, 7) if vlan else b""
    return b"\x02\0\0\0\0\2\x02\0\0\0\0\1" + tag + pack(">H", kind) + packet


def pcap(
    packets: Iterable[bytes],
    *,
    link: int = 1,
    order: str = "<",
    nanoseconds: bool = False,
    start_s: int = 1_700_000_000,
) -> bytes:
    """Return a pcap file; packets are 10 ms apart."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    per_s = 1_000_000_000 if nanoseconds else 1_000_000
    for number, packet in enumerate(packets):
        second, rest = divmod(number, 100)
        out += pack(order + "IIII", start_s + second, rest * per_s // 100, len(packet), len(packet)) + packet
    return out


def pcapng(
    packets: Sequence[bytes], *, link: int = 1, order: str = "<", start_s: int = 1_700_000_000
) -> bytes:
    """Return a pcapng file with one interface of nanosecond resolution."""
    out = _block(0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = pack(order + "HHB3x", 9, 1, 9) + pack(order + "HH", 0, 0)
    out += _block(1, pack(order + "HHI", link, 0, 0) + options, order)
    for number, packet in enumerate(packets):
        stamp = start_s * 1_000_000_000 + number * 10_000_000
        head = pack(order + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet))
        out += _block(6, head + packet, order)
    return out


def _block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = pack(order + "I", 12 + len(body))
    return pack(order + "I", kind) + size + body + size

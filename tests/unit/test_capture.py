"""Frames come out of captures whole, in order, each with its stream, whatever the network did to the packets."""

from __future__ import annotations

import random
from pathlib import Path
from struct import pack

import pytest
from pcap_maker import HERE, THERE, ethernet, ipv4, ipv6, pcap, pcapng, tcp, udp

from streamproc.core.c37118 import Reason, encode_header
from streamproc.core.capture import CapturedFrame, read_capture
from streamproc.core.packets import Datagram, read_packets
from tests.command_frame import encode_command

DATA = Path(__file__).parent.parent / "data"
FRAMES = [encode_header(7, "text " + "x" * i, soc=1_700_000_000 + i) for i in range(40)]
STREAM = b"".join(FRAMES)


def _good(content: bytes) -> list[bytes]:
    return [c.frame for c in read_capture(content) if c.rejection is None]


def _reasons(content: bytes) -> list[Reason]:
    return [c.rejection.reason for c in read_capture(content) if c.rejection is not None]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_both_byte_orders_and_time_resolutions_of_pcap_are_read(order: str, nanoseconds: bool) -> None:
    content = pcap([udp(frame) for frame in FRAMES], order=order, nanoseconds=nanoseconds)
    captured = list(read_capture(content))
    assert [c.frame for c in captured] == FRAMES
    assert [c.ts_ns for c in captured] == [1_700_000_000_000_000_000 + 10_000_000 * i for i in range(40)]
    assert {c.stream for c in captured} == {"udp 10.0.0.1:4713>10.0.0.2:50000"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_is_read(order: str) -> None:
    captured = list(read_capture(pcapng([udp(frame) for frame in FRAMES], order=order)))
    assert [c.frame for c in captured] == FRAMES
    assert captured[3].ts_ns == 1_700_000_000_030_000_000


def _in_link_layer(link: int, packet: bytes) -> bytes:
    head = {
        0: pack("<I", 2),
        108: pack(">I", 2),
        12: b"",
        101: b"",
        113: pack(">HHHQH", 0, 1, 6, 0, 0x0800),
        276: pack(">HHIHBBQ", 0x0800, 0, 1, 1, 0, 6, 0),
    }
    return head[link] + packet


@pytest.mark.parametrize("link", [0, 12, 101, 108, 113, 276])
def test_other_link_layers_than_ethernet_are_read(link: int) -> None:
    packets = [_in_link_layer(link, udp(frame)[14:]) for frame in FRAMES]
    assert _good(pcap(packets, link=link)) == FRAMES


def test_vlan_tags_and_ethernet_padding_are_no_part_of_a_frame() -> None:
    packet = udp(FRAMES[0])[14:]
    assert _good(pcap([ethernet(packet, vlan=True), ethernet(packet) + bytes(20)])) == [FRAMES[0]] * 2


def test_ipv6_with_extension_headers_is_read() -> None:
    datagram = pack(">HHHH", 4713, 50000, 8 + len(FRAMES[0]), 0) + FRAMES[0]
    hop_by_hop = bytes([17, 0]) + bytes(6)
    packets = [ipv6(17, datagram), ipv6(0, datagram, before=hop_by_hop)]
    captured = list(read_capture(pcap([ethernet(p, kind=0x86DD) for p in packets])))
    assert [c.frame for c in captured] == [FRAMES[0]] * 2
    assert captured[0].stream == "udp [0:0:0:0:0:0:0:1]:4713>[0:0:0:0:0:0:0:2]:50000"


def _fragments(frame: bytes) -> list[bytes]:
    whole = pack(">HHHH", 4713, 50000, 8 + len(frame), 0) + frame
    starts = range(0, len(whole), 8)
    more = [0x2000 if start + 8 < len(whole) else 0 for start in starts]
    return [
        ethernet(ipv4(17, whole[start : start + 8], fragment=flag | start // 8))
        for start, flag in zip(starts, more, strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_fragments_of_an_ip_packet_are_put_together_in_any_order(seed: int) -> None:
    parts = _fragments(FRAMES[0])
    assert len(parts) > 2
    order = random.Random(seed).sample([*parts, parts[0]], len(parts) + 1) if seed else parts
    content = pcap([*order, udp(FRAMES[1])])
    assert _good(content)[:1] == [FRAMES[0]]
    assert _good(content)[-1:] == [FRAMES[1]]


def test_fragments_of_ipv6_are_put_together() -> None:
    whole = pack(">HHHH", 4713, 50000, 8 + len(FRAMES[0]), 0) + FRAMES[0]
    packets = [
        ethernet(ipv6(44, whole[:16], before=bytes([17, 0]) + pack(">HI", 1, 77)), kind=0x86DD),
        ethernet(ipv6(44, whole[16:], before=bytes([17, 0]) + pack(">HI", 16, 77)), kind=0x86DD),
    ]
    assert _good(pcap(packets)) == [FRAMES[0]]


def test_a_fragment_whose_packet_never_becomes_whole_is_reported_and_not_lost_silently() -> None:
    parts = _fragments(FRAMES[0])
    captured = list(read_capture(pcap([*parts[:1], *parts[2:], udp(FRAMES[1])])))
    assert captured[0].frame == FRAMES[1]
    assert {c.rejection and c.rejection.reason for c in captured[1:]} == {Reason.IP_FRAGMENT}
    assert len(captured) == len(parts)


def test_a_datagram_may_hold_several_frames_but_no_frame_reaches_into_the_next_one() -> None:
    content = pcap([udp(FRAMES[0] + FRAMES[1]), udp(FRAMES[2][:10]), udp(FRAMES[2][10:]), udp(FRAMES[3])])
    assert _good(content) == [FRAMES[0], FRAMES[1], FRAMES[3]]
    assert _reasons(content)[0] == Reason.TRUNCATED


def _pieces(size: int, base: int = 9000) -> list[tuple[int, bytes]]:
    return [(base + i, STREAM[i : i + size]) for i in range(0, len(STREAM), size)]


@pytest.mark.parametrize("size", [1, 3, 7, 64, 500, 100_000])
def test_tcp_segments_of_any_size_give_the_same_frames(size: int) -> None:
    assert _good(pcap([tcp(piece, at) for at, piece in _pieces(size)])) == FRAMES


def test_tcp_segments_out_of_order_repeated_and_overlapping_give_the_same_frames() -> None:
    pieces = _pieces(50)
    shuffled = [pieces[i ^ 1] if i ^ 1 < len(pieces) else pieces[i] for i in range(len(pieces))]
    packets = [tcp(b"", 8999, flags=2)]
    for at, piece in shuffled:
        more = STREAM[at - 9000 : at - 9000 + len(piece) + 20]
        packets += [tcp(piece, at), tcp(more, at), tcp(piece, at)]
    assert _good(pcap(packets)) == FRAMES
    assert not _reasons(pcap(packets))


def test_a_capture_that_begins_out_of_order_within_a_connection_loses_nothing() -> None:
    starts = [sum(map(len, FRAMES[:i])) for i in range(len(FRAMES))]
    packets = [tcp(frame, 9000 + at) for at, frame in zip(starts, FRAMES, strict=True)]
    order = [3, 1, 0, 2, 1, *range(4, len(FRAMES))]
    found = _good(pcap([packets[i] for i in order]))
    assert found == [FRAMES[i] for i in (3, 1, 0, 2, *range(4, len(FRAMES)))]


def test_sequence_numbers_that_wrap_are_followed() -> None:
    packets = [tcp(piece, at + 2**32 - 9000 - 700) for at, piece in _pieces(33)]
    assert _good(pcap(packets)) == FRAMES


def test_a_hole_is_given_up_once_the_receiver_acknowledges_bytes_behind_it() -> None:
    pieces = _pieces(100)
    packets = [tcp(piece, at) for at, piece in pieces[:4] + pieces[5:8]]
    behind = pieces[7][0] + 100
    back = tcp(b"", 1, source=50000, target=4712, acknowledgement=behind, sender=THERE, receiver=HERE)
    captured = list(read_capture(pcap([*packets, back, *(tcp(p, at) for at, p in pieces[8:])])))
    lost = [f for f in FRAMES if f not in [c.frame for c in captured]]
    assert 1 <= len(lost) <= 6
    reasons = [c.rejection.reason for c in captured if c.rejection is not None]
    assert Reason.CAPTURE_GAP in reasons
    gap = next(c for c in captured if c.rejection is not None and c.rejection.reason == Reason.CAPTURE_GAP)
    assert gap.rejection is not None
    assert gap.rejection.size == 100
    assert gap.ts_ns == 1_700_000_000_070_000_000  # when the acknowledgement came, not at the end


def test_a_hole_without_acknowledgement_is_given_up_at_the_end() -> None:
    pieces = _pieces(100)
    content = pcap([tcp(piece, at) for at, piece in pieces[:4] + pieces[5:]])
    assert len(_good(content)) >= len(FRAMES) - 6
    assert Reason.CAPTURE_GAP in _reasons(content)


def test_a_new_connection_on_the_same_ports_begins_anew() -> None:
    first = [tcp(b"", 99, flags=2), tcp(STREAM[:1000], 100)]
    second = [tcp(b"", 5_000_000, flags=2), tcp(STREAM, 5_000_001)]
    found = _good(pcap(first + second))
    assert found[-len(FRAMES) :] == FRAMES


def test_both_directions_of_a_connection_are_streams_of_their_own() -> None:
    command = encode_command(7, 5)
    there = tcp(command, 50, source=50000, target=4712, sender=THERE, receiver=HERE)
    captured = list(read_capture(pcap([tcp(FRAMES[0][:9], 1), there, tcp(FRAMES[0][9:], 10)])))
    assert [(c.stream, c.frame) for c in captured] == [
        ("tcp 10.0.0.2:50000>10.0.0.1:4712", command),
        ("tcp 10.0.0.1:4712>10.0.0.2:50000", FRAMES[0]),
    ]


def test_other_traffic_is_passed_over_and_unknown_ports_are_found() -> None:
    other = [
        udp(bytes(40), source=53, target=4000),
        tcp(b"GET / HTTP/1.1\r\n\r\n", 1, source=80, target=4001),
    ]
    arp = ethernet(bytes(28), kind=0x0806)
    content = pcap([*other, arp, udp(FRAMES[0], source=9999, target=8888)])
    assert [(c.frame, c.rejection) for c in read_capture(content)] == [(FRAMES[0], None)]


def test_garbage_on_the_usual_port_is_reported() -> None:
    assert _reasons(pcap([udp(b"hello, this is no frame")])) == [Reason.BAD_SYNC]


def test_a_capture_that_ends_early_gives_what_it_holds() -> None:
    content = pcap([udp(frame) for frame in FRAMES])
    for cut in (10, 30, len(content) - 5):
        captured = list(read_capture(content[:cut]))
        assert captured[-1].rejection is not None
        assert captured[-1].rejection.reason == Reason.BAD_CAPTURE
    assert _good(content[:-5]) == FRAMES[:-1]


def test_lengths_in_headers_that_lie_do_no_harm() -> None:
    packet = bytearray(udp(FRAMES[0]))
    for place in (14, 16, 17, 23, 34, 38, 39):
        for value in (0, 1, 0x45, 0x4F, 255):
            changed = packet.copy()
            changed[place] = value
            assert _good(pcap([bytes(changed), udp(FRAMES[1])]))[-1] == FRAMES[1]


def test_packets_without_room_for_their_headers_are_passed_over() -> None:
    whole = tcp(FRAMES[0], 1)
    for cut in range(len(whole)):
        assert all(isinstance(p, object) for p in read_packets(pcap([whole[:cut]])))
    assert isinstance(next(read_packets(pcap([udp(b"x")]))), Datagram)


def test_raw_frames_and_a_pmu_capture_need_no_packets() -> None:
    assert _good(STREAM) == FRAMES
    content = (DATA / "pmu_capture" / "framecapture.PmuCapture").read_bytes()
    captured = list(read_capture(content))
    assert len(captured) == 494
    assert all(isinstance(c, CapturedFrame) and c.stream == "file" and c.ts_ns == 0 for c in captured)


def test_a_capture_of_ieee_1344_is_refused_by_name_as_a_whole() -> None:
    content = (DATA / "pmu_capture" / "Sample1344.PmuCapture").read_bytes()
    (refused,) = read_capture(content)
    assert refused.rejection is not None
    assert refused.rejection.reason == Reason.IEEE_1344
    assert "IEEE 1344" in refused.rejection.detail
    assert refused.rejection.size == len(content)


def test_an_empty_file_is_empty_and_nothing_worse() -> None:
    assert _reasons(b"") == [Reason.EMPTY]


def test_frames_and_rejections_tile_a_raw_file() -> None:
    content = b"junk" + FRAMES[0] + b"\xaa\x01\xff\xff" * 5 + FRAMES[1] + FRAMES[2][:20]
    captured = list(read_capture(content))
    assert b"".join(c.frame for c in captured) == content

"""However bytes are cut into pieces, the same frames come out of them; whatever bytes there are, nothing raises."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pcap_maker import pcap, pcapng, tcp, udp

from streamproc.core.c37118 import (
    CFG2,
    CFG3,
    Book,
    Configuration,
    Layout,
    PmuInfo,
    compile_layout,
    decode,
    encode_configuration,
    encode_data,
    encode_header,
    split,
)
from streamproc.core.capture import read_capture
from streamproc.core.listing import list_frames
from streamproc.values import F64
from tests.command_frame import encode_command


def _pmu(number: int, form: int, n_phasor: int, n_analog: int, n_word: int) -> PmuInfo:
    return PmuInfo(
        stn=f"S{number}",
        idcode=number,
        format=form,
        phasor_names=tuple(f"P{i}" for i in range(n_phasor)),
        phasor_is_current=(False,) * n_phasor,
        phasor_factor=(0.5,) * n_phasor,
        analog_names=tuple(f"A{i}" for i in range(n_analog)),
        analog_type=(0,) * n_analog,
        analog_factor=(1.0,) * n_analog,
        analog_offset=(0.0,) * n_analog,
        digital_names=tuple(f"D{i}" for i in range(16 * n_word)),
        digital_normal=(0,) * n_word,
        digital_valid=(0xFFFF,) * n_word,
        nominal_hz=60.0,
        cfgcnt=1,
    )


def _layout(pmus: tuple[PmuInfo, ...], kind: int = CFG2) -> Layout:
    config = Configuration(kind, 7, 1_000_000, 30, pmus)
    return compile_layout(config, b"".join(encode_configuration(config)))


def _data(layout: Layout, count: int, seed: int = 1) -> list[bytes]:
    rng = np.random.default_rng(seed)
    phasor = rng.standard_normal((count, layout.phasor_pmu.size)) * (1 + 1j)
    return encode_data(
        layout,
        1_700_000_000_000_000_000 + 33_333_333 * np.arange(count),
        60 + 0.1 * rng.standard_normal((count, layout.n_pmu)),
        phasor=phasor,
        digital=rng.integers(0, 65536, (count, layout.digital_pmu.size)).astype(np.uint16),
    )


@cache
def _sources() -> tuple[bytes, ...]:
    """Return good frames of all kinds."""
    layout = _layout((_pmu(1, 11, 2, 1, 1), _pmu(2, 0, 1, 0, 1)))
    more = encode_configuration(Configuration(CFG3, 9, 1000, -5, (_pmu(3, 15, 1, 0, 1),)), fragment_size=80)
    return (
        layout.config,
        *_data(layout, 30),
        *more,
        encode_header(7, "text"),
        encode_header(7, ""),
        encode_command(7, 2),
    )


GARBAGE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\xaa" * 9, b"\xaa\x01\xff\xff" * 4, b"\xaa\x01\x00\x10" * 5, b"\xaa\x31\x00", b"\xaa\x01"]
    ),
)
PIECE = st.one_of(
    st.integers(0, 200).map(lambda i: _sources()[i % len(_sources())]),
    st.integers(0, 200).map(lambda i: _sources()[i % len(_sources())][:-1]),
    st.tuples(st.integers(0, 200), st.integers(0, 500), st.integers(1, 255)).map(lambda t: _damaged(*t)),
    GARBAGE,
)
BYTES = st.lists(PIECE, max_size=12).map(b"".join)


def _damaged(which: int, place: int, change: int) -> bytes:
    frame = bytearray(_sources()[which % len(_sources())])
    frame[place % len(frame)] ^= change
    return bytes(frame)


def _fed(content: bytes, sizes: list[int]) -> list[bytes]:
    """Return the frames of the content when it comes in pieces of these sizes, again and again."""
    found: list[bytes] = []
    waiting, at, number = b"", 0, 0
    while at < len(content):
        size = sizes[number % len(sizes)]
        waiting += content[at : at + size]
        at, number = at + size, number + 1
        parts = split(waiting, final=False)
        found += [waiting[start : start + length] for start, length in parts.frames.tolist()]
        waiting = waiting[parts.consumed :]
    return found + [waiting[start : start + length] for start, length in split(waiting).frames.tolist()]


@settings(max_examples=300, deadline=None)
@given(BYTES, st.lists(st.integers(1, 90), min_size=1, max_size=5))
def test_any_chunking_gives_the_same_frames(content: bytes, sizes: list[int]) -> None:
    whole = split(content)
    expected = [content[start : start + size] for start, size in whole.frames.tolist()]
    assert _fed(content, sizes) == expected


@settings(max_examples=300, deadline=None)
@given(BYTES)
def test_frames_and_rejections_tile_the_bytes(content: bytes) -> None:
    parts = split(content)
    places = [(start, start + size) for start, size in parts.frames.tolist()]
    places += [(r.start, r.start + r.size) for r in parts.rejections]
    at = 0
    for start, stop in sorted(places):
        assert start == at
        assert stop > start
        at = stop
    assert at == len(content) == parts.consumed


@settings(max_examples=200, deadline=None)
@given(st.lists(BYTES, max_size=5))
def test_the_decoder_answers_every_record_and_never_raises(records: list[bytes]) -> None:
    decoded = decode(Book(), records)
    counted = Counter(int(r) for b in decoded.batches for r in b.record)
    counted.update(o.record for o in decoded.others)
    counted.update(r for r, _ in decoded.rejections)
    for number, record in enumerate(records):
        held = any(frame[1] >> 4 == CFG3 for frame in _fed(record, [len(record) + 1])) if record else False
        assert counted[number] or held


@settings(max_examples=150, deadline=None)
@given(st.lists(BYTES, min_size=1, max_size=6), st.integers(0, 3000), st.integers(0, 255), st.booleans())
def test_a_damaged_capture_is_listed_without_an_exception(
    payloads: list[bytes], place: int, value: int, newer: bool
) -> None:
    at, packets = 1000, []
    for payload in payloads:
        packets += [udp(payload), tcp(payload, at)]
        at += len(payload)
    content = bytearray((pcapng if newer else pcap)(packets))
    content[place % len(content)] = value
    for plain in list_frames(read_capture(bytes(content))):
        assert plain["type"]
        assert plain["stream"]


@settings(max_examples=150, deadline=None)
@given(BYTES, st.lists(st.integers(1, 90), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_tcp_segments_in_any_near_order_list_the_same_frames(
    content: bytes, sizes: list[int], random: Any
) -> None:
    pieces, at, number = [], 0, 0
    while at < len(content):
        size = sizes[number % len(sizes)]
        pieces.append((at, content[at : at + size]))
        at, number = at + size, number + 1
    pieces.sort(key=lambda piece: piece[0] + random.uniform(0, 150))
    packets = [tcp(b"", 4999, flags=2), *(tcp(piece, 5000 + at) for at, piece in pieces)]
    expected = [content[start : start + size] for start, size in split(content).frames.tolist()]
    assert [c.frame for c in read_capture(pcap(packets)) if c.rejection is None] == expected


FORMATS = st.tuples(st.integers(0, 15), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=150, deadline=None)
@given(st.lists(FORMATS, min_size=1, max_size=5), st.sampled_from([CFG2, CFG3]), st.integers(0, 2**32 - 1))
def test_what_is_encoded_is_decoded_to_within_a_bit(
    forms: list[tuple[int, ...]], kind: int, seed: int
) -> None:
    pmus = tuple(_pmu(i, *form) for i, form in enumerate(forms))
    layout = _layout(pmus, kind)
    rng = np.random.default_rng(seed)

    def some(count: int, size: float) -> F64:
        values = rng.uniform(-size, size, (4, count))
        values[rng.uniform(size=values.shape) < 0.1] = np.nan
        return values

    n_pmu, n_phasor = layout.n_pmu, layout.phasor_pmu.size
    freq_hz, rocof_hz_s = 60 + some(n_pmu, 5), some(n_pmu, 9)
    phasor = some(n_phasor, 900) * np.exp(1j * rng.uniform(-3, 3, (4, n_phasor)))
    analog = some(layout.analog_pmu.size, 900)
    digital = rng.integers(0, 65536, (4, layout.digital_pmu.size)).astype(np.uint16)
    stat = rng.integers(0, 65536, (4, n_pmu)).astype(np.uint16)
    t_ns = 1_000_000_000 * rng.integers(0, 2**32, 4) + 1000 * rng.integers(0, 1_000_000, 4)
    quality = rng.integers(0, 256, 4).astype(np.uint8)
    frames = encode_data(
        layout,
        t_ns,
        freq_hz,
        rocof_hz_s=rocof_hz_s,
        phasor=phasor,
        analog=analog,
        digital=digital,
        stat=stat,
        time_quality=quality,
    )
    decoded = decode(Book(), [layout.config, *frames])
    assert not decoded.rejections
    (batch,) = decoded.batches
    assert batch.t_ns.tolist() == t_ns.tolist()
    assert batch.time_quality.tolist() == quality.tolist()
    assert batch.stat.tolist() == stat.tolist()
    assert batch.digital.tolist() == digital.tolist()
    np.testing.assert_allclose(batch.freq_hz, freq_hz, atol=0.000501)
    np.testing.assert_allclose(batch.rocof_hz_s, rocof_hz_s, atol=0.00501)
    np.testing.assert_allclose(
        batch.phasor, np.where(np.isnan(phasor), complex(np.nan, np.nan), phasor), atol=0.4
    )
    np.testing.assert_allclose(batch.analog, analog, atol=0.501)

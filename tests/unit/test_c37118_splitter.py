"""Protects the way from bytes to frames: every good frame is found, every bad byte is accounted for, nothing is slow."""

from __future__ import annotations

import random
from binascii import crc_hqx
from time import perf_counter

import numpy as np
import pytest
from c37118_cases import frames, pmu, stream

from streamproc.core.c37118 import Reason, encode_header, split
from streamproc.core.c37118.crc import crc_good, ranges_good
from streamproc.core.c37118.frame import header_bytes, with_crc
from tests.command_frame import encode_command


def frame(size: int, *, kind: int = 0, idcode: int = 5, seed: int = 0, version: int = 1) -> bytes:
    return with_crc(
        header_bytes(kind, size, idcode, 1, 2, version) + random.Random(seed).randbytes(size - 16)
    )


def flipped(good: bytes, place: int) -> bytes:
    bad = bytearray(good)
    bad[place] ^= 1
    return bytes(bad)


def reasons(buffer: bytes) -> list[tuple[str, int, int]]:
    parts = split(buffer)
    taken = int(parts.frames[:, 1].sum()) + sum(r.size for r in parts.rejections)
    assert taken == len(buffer) == parts.consumed, "frames and rejections tile the buffer"
    return [(str(r.reason), r.start, r.size) for r in parts.rejections]


A, B, C = frame(40, seed=1), frame(40, idcode=6, seed=2), frame(60, kind=3, seed=3)


def test_crc_has_the_published_check_value() -> None:
    rows = np.frombuffer(b"1234567890123456789"[:9] + b"\x29\xb1" + b"\0", np.uint8)
    assert crc_hqx(b"123456789", 0xFFFF) == 0x29B1
    assert crc_good(rows[None, :11])[0]


@pytest.mark.parametrize("size", [16, 18, 20, 33, 34, 36, 46, 48, 50, 100, 1690, 16384, 65534])
def test_crc_of_many_frames_equals_that_of_one(size: int) -> None:
    rng = np.random.default_rng(size)
    rows = rng.integers(0, 256, (40, size), dtype=np.uint8)
    for row in rows:
        row[-2:] = np.frombuffer(crc_hqx(row[:-2].tobytes(), 0xFFFF).to_bytes(2, "big"), np.uint8)
    assert crc_good(rows).all()
    places = rng.integers(0, size, 40)
    rows[np.arange(40), places] ^= 1 << rng.integers(0, 8, 40).astype(np.uint8)
    assert not crc_good(rows).any()


def test_crc_of_overlapping_ranges_equals_that_of_each() -> None:
    rng = np.random.default_rng(1)
    buffer = rng.integers(0, 256, 5000, dtype=np.uint8)
    starts = rng.integers(0, 2500, 200)
    ends = starts + rng.integers(16, 2500, 200)
    packed = buffer.tobytes()
    expected = [crc_hqx(packed[a:b], 0xFFFF) == 0 for a, b in zip(starts, ends, strict=True)]
    assert (ranges_good(buffer, starts, ends) == expected).all()
    good = np.frombuffer(packed + A + packed, np.uint8)
    assert ranges_good(good, np.array([5000, 5001]), np.array([5040, 5040])).tolist() == [True, False]


def test_merged_frames_come_apart() -> None:
    parts = split(A + B + C)
    assert parts.frames.tolist() == [[0, 40], [40, 40], [80, 60]]
    assert parts.rejections == ()


def test_a_long_run_of_equal_frames_with_one_bad_in_it_loses_only_that_one() -> None:
    assert reasons(A * 500 + flipped(B, 20) + A * 500 + C + B * 3) == [("bad_crc", 20000, 40)]
    assert split(A * 500 + flipped(B, 20) + A * 500 + C).frames.shape[0] == 1001


def test_two_bad_frames_in_a_row_are_two_findings() -> None:
    assert reasons(A + flipped(B, 20) + flipped(B, 30) + C) == [("bad_crc", 40, 40), ("bad_crc", 80, 40)]


def test_garbage_before_and_between_frames_is_named() -> None:
    assert reasons(b"xyz" + A + b"\xaa\xaa\x00" + B) == [("bad_sync", 0, 3), ("garbage", 43, 3)]


@pytest.mark.parametrize("size", [0, 1, 13, 14, 15])
def test_a_size_smaller_than_a_header_is_refused_by_name(size: int) -> None:
    lying = A[:2] + size.to_bytes(2, "big") + A[4:]
    assert reasons(B + lying + B) == [("bad_size", 40, 40)]


@pytest.mark.parametrize("size", [16, 17, 39, 41, 60, 65535])
def test_a_size_that_lies_does_not_swallow_the_frames_behind(size: int) -> None:
    lying = A[:2] + size.to_bytes(2, "big") + A[4:]
    parts = split(B + lying + B * 3)
    assert parts.frames[:, 0].tolist() == [0, 80, 120, 160]
    assert [r.reason for r in parts.rejections] == [Reason.BAD_CRC if size <= 160 else Reason.TRUNCATED]


def test_a_frame_that_is_cut_off_is_truncated_or_waited_for() -> None:
    assert reasons(A + C[:-5]) == [("truncated", 40, 55)]
    for cut in range(len(C)):
        parts = split(A + C[:cut], final=False)
        assert (parts.frames.tolist(), parts.rejections, parts.consumed) == ([[0, 40]], (), 40)


@pytest.mark.parametrize(("version", "kind", "reason"), [(0, 0, "bad_version"), (4, 3, "bad_version")])
def test_another_version_is_refused_by_name(version: int, kind: int, reason: str) -> None:
    assert reasons(frame(40, kind=kind, version=version) + A) == [(reason, 0, 40)]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_versions_of_2005_2011_and_2024_are_accepted(version: int) -> None:
    assert split(frame(40, version=version)).frames.tolist() == [[0, 40]]


@pytest.mark.parametrize("kind", [6, 7, 8, 15])
def test_another_type_is_refused_by_name(kind: int) -> None:
    assert reasons(A + frame(40, kind=kind) + A) == [("bad_type", 40, 40)]


def test_ieee_1344_is_refused_by_name() -> None:
    # SOC, sample count, status with the length in its low 12 bits, content, the same CRC
    old = b"".join(
        with_crc(bytes.fromhex("c9db78c0") + bytes([3, i, 0x20, 36]) + bytes(26)) for i in range(9)
    )
    assert reasons(old) == [("ieee_1344", 0, 324)]
    assert reasons(old + A) == [("ieee_1344", 0, 324)]


def test_the_smallest_frames_are_frames() -> None:
    assert split(encode_header(1, "") + encode_command(1, 2)).frames.tolist() == [[0, 16], [16, 18]]


@pytest.mark.parametrize("seed", range(3))
def test_the_next_frame_is_found_behind_64_kib_of_garbage(seed: int) -> None:
    garbage = random.Random(seed).randbytes(65536)
    parts = split(A + garbage + B)
    assert [40 + 65536, 40] in parts.frames.tolist()


@pytest.mark.parametrize(
    ("unit", "bytes_per_s_min"),
    [
        (b"\xaa", 50e6),
        (b"\xaa\x01\xff\xff", 2e6),  # every four bytes a frame of 64 KiB, said to be
        (b"\xaa\x01", 2e6),
        (b"\xaa\x01\x00\x10", 1e6),
        (b"\xaa\x01\x00\x00", 10e6),
    ],
)
def test_no_garbage_makes_the_search_quadratic(unit: bytes, bytes_per_s_min: float) -> None:
    buffer = unit * (4_000_000 // len(unit)) + A
    fastest = float("inf")
    for _ in range(3):
        begin = perf_counter()
        parts = split(buffer)
        fastest = min(fastest, perf_counter() - begin)
        if len(buffer) / fastest >= bytes_per_s_min:
            break
    assert parts.frames[-1].tolist() == [len(buffer) - 40, 40]
    assert len(buffer) / fastest >= bytes_per_s_min


def test_good_frames_between_lying_ones_are_all_found_however_many() -> None:
    _, layout = stream(pmu())
    good = frames(layout, 300)
    lying = b"\xaa\x01\xff\xf0" + bytes(20)
    buffer = b"".join(lying * 40 + one for one in good) + bytes(70000)
    parts = split(buffer)
    assert parts.frames.shape[0] == 300
    assert b"".join(buffer[s : s + n] for s, n in parts.frames.tolist()) == b"".join(good)


@pytest.mark.parametrize("step", [1, 2, 7, 39, 40, 41, 100])
def test_feeding_in_pieces_gives_the_same_frames(step: int) -> None:
    buffer = A + b"\xaa" + B * 9 + flipped(A, 3) + C + b"zz\xaa\x01" + B + A[:11]
    whole = [buffer[s : s + n] for s, n in split(buffer).frames.tolist()]
    found, rest = [], b""
    for at in range(0, len(buffer), step):
        rest += buffer[at : at + step]
        parts = split(rest, final=False)
        found += [rest[s : s + n] for s, n in parts.frames.tolist()]
        rest = rest[parts.consumed :]
    found += [rest[s : s + n] for s, n in split(rest).frames.tolist()]
    assert found == whole

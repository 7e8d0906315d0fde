"""Frames out of bytes: the common header, the CRC, and the splitter that finds the next frame after garbage.

    0      2          4       6     10       14            n      n+2
    SYNC   FRAMESIZE  IDCODE  SOC   FRACSEC  body ...      CHK

SYNC is 0xAA, then a byte with the frame type (bits 6-4) and the version (bits 3-0: 1 = 2005, 2 = 2011, 3 accepted for
the edition of 2024). CHK is CRC-CCITT (polynomial 0x1021, initial 0xFFFF) over everything before it
(IEEE C37.118.2-2011, 6.2 and Annex B).

A frame counts only with a good CRC. After a bad one the search goes on one byte behind its SYNC, never behind its
announced size: a size that lies must not swallow the frames behind it.

Bad bytes are values (`Rejection`), never exceptions, and no rejection allocates more than the input justifies.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from streamproc.values import I64, U8, U16, Bool

SYNC = 0xAA
HEADER_SIZE = 14  # SYNC, FRAMESIZE, IDCODE, SOC, FRACSEC
FRAME_SIZE_MIN = HEADER_SIZE + 2
FRAME_SIZE_MAX = 65535
VERSIONS = (1, 2, 3)
DATA, HEADER, CFG1, CFG2, COMMAND, CFG3 = 0, 1, 2, 3, 4, 5
TYPE_NAMES = {DATA: "data", HEADER: "header", CFG1: "cfg1", CFG2: "cfg2", COMMAND: "command", CFG3: "cfg3"}

_SYNC_PATTERN = re.compile(
    b"\xaa[" + re.escape(bytes(t << 4 | v for t in TYPE_NAMES for v in VERSIONS)) + b"]", re.DOTALL
)


class Reason(StrEnum):
    """Why bytes were refused: a closed list, because it becomes a metric label."""

    EMPTY = "empty"
    BAD_CRC = "bad_crc"
    BAD_SIZE = "bad_size"
    TRUNCATED = "truncated"
    BAD_VERSION = "bad_version"
    GARBAGE = "garbage"
    IEEE_1344 = "ieee_1344"
    UNKNOWN_CONFIGURATION = "unknown_configuration"
    CONFIG_CONFLICT = "config_conflict"
    SIZE_MISMATCH = "size_mismatch"
    BAD_TIME_BASE = "bad_time_base"
    BAD_FRACSEC = "bad_fracsec"
    BAD_RATE = "bad_rate"
    BAD_CONFIG = "bad_config"
    BAD_FRAGMENT = "bad_fragment"
    BAD_COMMAND = "bad_command"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Bytes that are not a usable frame: where they begin in the buffer, how many, and why."""

    reason: Reason
    detail: str
    start: int
    size: int
    idcode: int | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """What the splitter found. `frames` is (n_frame, 2): start and size, CRC good, in order."""

    frames: I64
    rejections: tuple[Rejection, ...]
    consumed: int  # bytes done with; what follows is the beginning of a frame


def split(buffer: bytes, *, final: bool = True) -> Split:
    """Return the frames of a buffer. With `final`, a frame that is cut off at the end is rejected as truncated."""
    even = _evenly_spaced(buffer)
    if even is not None:
        return even
    frames: list[tuple[int, int]] = []
    rejections: list[Rejection] = []
    at, end, bad_from = 0, len(buffer), -1
    while at < end:
        found = _SYNC_PATTERN.search(buffer, at)
        start = found.start() if found else end - (not final and buffer.endswith(b"\xaa"))
        if start > at and bad_from < 0:
            rejections.append(_garbage(buffer, at, start))
        at = start
        if found is None:
            break
        verdict = _judge(buffer, at, end, final)
        if isinstance(verdict, int):
            frames.append((at, verdict))
            at, bad_from = at + verdict, -1
        elif verdict is None:
            break
        else:
            if bad_from < 0:  # one run of bad bytes is one rejection, not one for each byte tried
                rejections.append(verdict)
                bad_from = at
            at += 1
    table = np.array(frames, dtype=np.int64).reshape(-1, 2)
    return Split(table, tuple(rejections), at)


def _judge(buffer: bytes, at: int, end: int, final: bool) -> int | None | Rejection:
    """Return the size of the frame at `at`, None when more bytes are needed, or why it is none."""
    rest = end - at
    size = int.from_bytes(buffer[at + 2 : at + 4], "big") if rest >= 4 else 0
    idcode = int.from_bytes(buffer[at + 4 : at + 6], "big") if rest >= 6 else None
    if rest >= 4 and size < FRAME_SIZE_MIN:
        detail = f"FRAMESIZE: {size} bytes announced, the smallest frame has {FRAME_SIZE_MIN}"
        return Rejection(Reason.BAD_SIZE, detail, at, min(rest, FRAME_SIZE_MIN), idcode)
    if rest < max(size, FRAME_SIZE_MIN):
        if not final:
            return None
        detail = f"FRAMESIZE: {size} bytes announced, {rest} received"
        return Rejection(Reason.TRUNCATED, detail, at, rest, idcode)
    frame = buffer[at : at + size]
    found, expected = int.from_bytes(frame[-2:], "big"), crc_hqx(frame[:-2], 0xFFFF)
    if found != expected:
        return Rejection(Reason.BAD_CRC, f"CHK: 0x{found:04x}, computed 0x{expected:04x}", at, size, idcode)
    return size


def _garbage(buffer: bytes, at: int, stop: int) -> Rejection:
    if at == 0 and is_ieee_1344(buffer):
        detail = "these bytes are IEEE 1344 (SYNC 0xAA is missing, sample count where FRAMESIZE belongs): not supported"
        return Rejection(Reason.IEEE_1344, detail, at, stop - at)
    if buffer[at] == SYNC and stop - at >= 2 and buffer[at + 1] >> 4 & 7 in TYPE_NAMES:
        detail = f"SYNC: version {buffer[at + 1] & 15}, accepted are {VERSIONS}"
        return Rejection(Reason.BAD_VERSION, detail, at, stop - at)
    return Rejection(
        Reason.GARBAGE, f"{stop - at} bytes without SYNC, first 0x{buffer[at : at + 8].hex()}", at, stop - at
    )


def is_ieee_1344(frame: bytes) -> bool:
    """Return whether the bytes look like an IEEE 1344 data or configuration frame: SOC first, its own CRC at the end.

    IEEE 1344 has SOC (4, counted from 1900 or 1970), SMPCNT (2, the low 12 bits count samples or bytes), then data and a
    CRC-CCITT as here. Only bytes that carry a good CRC without our SYNC are called so.
    """
    for size in (len(frame), int.from_bytes(frame[6:8], "big") & 0x0FFF):
        if 10 <= size <= len(frame) and frame[0] != SYNC:
            body = frame[: size - 2]
            if crc_hqx(body, 0xFFFF) == int.from_bytes(frame[size - 2 : size], "big"):
                return True
    return False


def _evenly_spaced(buffer: bytes) -> Split | None:
    """Return the split when the buffer is frames of one size back to back, all good: the common case, without a loop."""
    if len(buffer) < FRAME_SIZE_MIN or buffer[0] != SYNC:
        return None
    size = int.from_bytes(buffer[2:4], "big")
    if size < FRAME_SIZE_MIN or len(buffer) % size:
        return None
    rows = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, size)
    if not (well_formed(rows, size).all() and crc_good(rows).all()):
        return None
    starts = np.arange(rows.shape[0], dtype=np.int64) * size
    return Split(np.stack([starts, np.full_like(starts, size)], axis=1), (), len(buffer))


def well_formed(rows: U8, size: int) -> Bool:
    """Return per row of (n, size) bytes whether SYNC, type, version and FRAMESIZE are right."""
    second = rows[:, 1]
    kind, version = second >> 4, second & 15
    good = (rows[:, 0] == SYNC) & (kind <= CFG3) & (version >= VERSIONS[0]) & (version <= VERSIONS[-1])
    return np.asarray(good & (rows[:, 2] == size >> 8) & (rows[:, 3] == size & 255))


@lru_cache(maxsize=64)
def _crc_tables(size: int) -> tuple[U16, int]:
    """Return per pair of bytes what it adds to the CRC of `size` bytes, (size // 2, 65536), and the rest of an odd size.

    The CRC is linear over GF(2): the CRC of a message is the exclusive or of what each byte alone would give, and of
    what the initial value gives for that length.
    """
    one = np.array([crc_hqx(bytes([b]), 0) for b in range(256)], dtype=np.uint16)  # the byte is the last one
    table = np.empty((size, 256), dtype=np.uint16)
    current = one
    for place in range(size - 1, -1, -1):
        table[place] = current
        current = (current << 8) ^ one[current >> 8]  # one more zero byte behind it
    return table, crc_hqx(bytes(size), 0xFFFF)


def crc_good(rows: U8) -> Bool:
    """Return per row of (n, size) bytes whether CHK is right. Long or few frames go through `binascii`, one by one."""
    n_frame, size = rows.shape
    found = rows[:, -2].astype(np.uint16) << 8 | rows[:, -1]
    if n_frame < 16 or size > 256:
        packed = rows.tobytes()
        crcs = [crc_hqx(packed[i : i + size - 2], 0xFFFF) for i in range(0, n_frame * size, size)]
        return np.asarray(np.array(crcs, dtype=np.uint16) == found)
    table, start = _crc_tables(size - 2)
    crc = np.full(n_frame, start, dtype=np.uint16)
    columns = np.ascontiguousarray(rows[:, : size - 2].T)
    for place in range(size - 2):  # over the bytes of one frame, not over frames
        crc ^= table[place][columns[place]]
    return np.asarray(crc == found)


def with_crc(body: bytes) -> bytes:
    """Return the frame with its CHK appended; `body` is everything before it, FRAMESIZE already right."""
    return body + crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def header_bytes(kind: int, size: int, idcode: int, soc: int, fracsec: int, version: int = 1) -> bytes:
    """Return the 14 bytes that begin a frame of `size` bytes in all. `fracsec` is the whole 32-bit word."""
    sync = SYNC << 8 | kind << 4 | version
    return b"".join(
        [sync.to_bytes(2, "big"), size.to_bytes(2, "big"), idcode.to_bytes(2, "big")]
        + [(soc & 0xFFFFFFFF).to_bytes(4, "big"), (fracsec & 0xFFFFFFFF).to_bytes(4, "big")]
    )

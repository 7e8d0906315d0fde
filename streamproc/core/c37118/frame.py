"""Frames out of bytes: the common header, and the splitter that finds the next frame after garbage.

    0      2          4       6     10       14            n      n+2
    SYNC   FRAMESIZE  IDCODE  SOC   FRACSEC  body ...      CHK

SYNC is 0xAA, then a byte with the frame type (bits 6-4) and the version (bits 3-0: 1 = 2005, 2 = 2011; 3 is
accepted for the edition of 2024). CHK is the CRC of everything before it (IEEE C37.118.2-2011, 6.2 and Annex
B).

A frame counts only with a good CRC. After a bad one the search goes on one byte behind its SYNC, not behind
its announced size: a size that lies must not swallow the frames behind it. What looks like a frame within the
announced size of a bad one is no second finding, unless it is good.

Bad bytes are values (`Rejection`), never exceptions. Frames and rejections together tile the bytes consumed,
in order.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from dataclasses import dataclass, field
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

import numpy as np

from streamproc.core.c37118.crc import crc_good, ranges_good
from streamproc.values import I64, U8, Bool

SYNC = 0xAA
HEADER_SIZE = 14  # SYNC, FRAMESIZE, IDCODE, SOC, FRACSEC
FRAME_SIZE_MIN = HEADER_SIZE + 2
FRAME_SIZE_MAX = 65535
VERSIONS = (1, 2, 3)
DATA, HEADER, CFG1, CFG2, COMMAND, CFG3 = 0, 1, 2, 3, 4, 5
TYPE_NAMES = {DATA: "data", HEADER: "header", CFG1: "cfg1", CFG2: "cfg2", COMMAND: "command", CFG3: "cfg3"}

# A frame from its second byte on: type and version behind a SYNC, then a possible size or the end of the bytes. It begins
# with the second byte because in garbage of 0xAA alone every byte could be the first.
_SECOND = re.compile(
    rb"["
    + re.escape(bytes(t << 4 | v for t in TYPE_NAMES for v in VERSIONS))
    + rb"](?<=\xaa.)(?:[^\x00].|\x00[\x10-\xff]|.?\Z)",
    re.DOTALL,
)
_HEADER = Struct(">3H2I")
_RUN_MIN = 8  # equal frames in a row from which the array way pays
_RUN_MAX = 1 << 16
_WASTE_MIN = 1 << 18  # bytes of bad frames whose CRC is computed one by one before the sieve is made ...
_WASTE_RATIO = 1  # ... plus this many per byte gone forward
_SIEVE_SIZE = 1 << 16


class Reason(StrEnum):
    """Why bytes were refused: a closed list, because it becomes a metric label."""

    EMPTY = "empty"  # a record without bytes
    BAD_SYNC = "bad_sync"  # does not begin with a frame
    GARBAGE = "garbage"  # bytes between frames
    BAD_VERSION = "bad_version"
    BAD_TYPE = "bad_type"
    BAD_SIZE = "bad_size"  # FRAMESIZE smaller than a header
    TRUNCATED = "truncated"  # FRAMESIZE goes beyond the end
    BAD_CRC = "bad_crc"
    IEEE_1344 = "ieee_1344"
    UNKNOWN_CONFIGURATION = "unknown_configuration"  # data before its configuration
    SIZE_MISMATCH = "size_mismatch"  # data of another size than the configuration makes
    BAD_FRACSEC = "bad_fracsec"  # fraction of second not below TIME_BASE
    CONFIG_CONFLICT = "config_conflict"  # another shape of data without another CFGCNT
    BAD_CONFIG = "bad_config"
    BAD_TIME_BASE = "bad_time_base"
    BAD_RATE = "bad_rate"
    BAD_FRAGMENT = "bad_fragment"  # CFG-3 fragments missing, out of order, or too many
    BAD_COMMAND = "bad_command"
    CAPTURE_GAP = "capture_gap"
    IP_FRAGMENT = "ip_fragment"
    BAD_CAPTURE = "bad_capture"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Bytes that are not a usable frame: where they begin in the buffer, how many, and why."""

    reason: Reason
    detail: str
    start: int
    size: int
    idcode: int | None = None


class Split(NamedTuple):
    """What the splitter found."""

    frames: I64  # (n_frame, 2): start and size, CRC good, in order
    rejections: tuple[Rejection, ...]
    consumed: int  # bytes done with; what follows is the beginning of a frame


def split(buffer: bytes, *, final: bool = True) -> Split:
    """Return the frames of a buffer. With `final`, a frame cut off at the end is refused as truncated."""
    walk = _Walk(buffer, final)
    walk.to_the_end()
    table = np.concatenate(walk.frames) if walk.frames else np.zeros((0, 2), dtype=np.int64)
    return Split(table, tuple(walk.rejections), walk.at)


def well_formed(rows: U8) -> Bool:
    """Return per row of (n, size) bytes whether SYNC, type, version and FRAMESIZE are right."""
    size, second = rows.shape[1], rows[:, 1]
    kind, version = second >> 4, second & 15
    good = (rows[:, 0] == SYNC) & (kind <= CFG3) & (version >= VERSIONS[0]) & (version <= VERSIONS[-1])
    return np.asarray(good & (rows[:, 2] == size >> 8) & (rows[:, 3] == size & 255))


def frames_good(rows: U8) -> Bool:
    """Return per row of (n, size) bytes whether it is a good frame, CRC included."""
    good = well_formed(rows)
    if good.all():
        return crc_good(rows)
    good[good] = crc_good(rows[good])
    return good


@dataclass(slots=True)
class _Walk:
    """The splitter at work. `claim` is where the announced size of the last bad frame ends."""

    buffer: bytes
    final: bool
    at: int = 0
    claim: int = 0
    taken: int = 0  # where the last good frame ends
    frames: list[I64] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    wasted: int = 0
    sieve: I64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # where good frames begin ...
    sieve_end: int = 0  # ... before this place

    def to_the_end(self) -> None:
        """Walk until nothing more can be said."""
        end = len(self.buffer)
        in_step = True  # whether `at` is where a frame should begin
        while self.at < end:
            if in_step and (self._run() or self._foreign()):
                continue
            self._skip(self._next_begin(end))
            if self.at == end:
                break
            size = self._judge(end)
            if size is None:
                break
            in_step = size > 0
            if size > 0:
                self._close()
                self.frames.append(np.array([[self.at, size]], dtype=np.int64))
                self.at = self.claim = self.taken = self.at + size
        self._close()

    def _next_begin(self, end: int) -> int:
        """Return where the next bytes stand that could begin a frame, the end for none."""
        found = _SECOND.search(self.buffer, self.at + 1)
        if found is not None:
            return found.start() - 1
        return end - (self.buffer[-1] == SYNC)

    def _run(self) -> bool:
        """Take the equal frames back to back that begin here; return whether there were enough of them."""
        buffer, before = self.buffer, self.at
        size = int.from_bytes(buffer[before + 2 : before + 4], "big")
        count = last = _RUN_MIN
        if size < FRAME_SIZE_MIN or buffer[before : before + 4] != buffer[before + (last - 1) * size :][:4]:
            return False
        while (len(buffer) - self.at) // size >= count:
            rows = np.frombuffer(buffer, np.uint8, count * size, self.at).reshape(count, size)
            good = frames_good(rows)
            n_good = count if good.all() else int(np.argmin(good))
            if n_good:
                self._close()
                starts = self.at + size * np.arange(n_good, dtype=np.int64)
                self.frames.append(np.stack([starts, np.full_like(starts, size)], axis=1))
                self.at = self.claim = self.taken = self.at + n_good * size
            if n_good < count:
                break
            # Twice as many each time: a run that breaks costs no more than it brought.
            count = max(min(2 * count, (len(buffer) - self.at) // size, _RUN_MAX), 1)
        return self.at > before

    def _foreign(self) -> bool:
        """Refuse by name what stands where a frame should begin and can never be one of ours."""
        buffer, at = self.buffer, self.at
        if buffer[at] != SYNC:
            size = _ieee_1344_size(buffer, at) if at == 0 else 0
            detail = (
                f"{size} bytes of IEEE 1344 (no SYNC, good CRC): not supported, ask the source for C37.118"
            )
            return size > 0 and self._refuse(Reason.IEEE_1344, detail, size)
        if len(buffer) - at < 4 or _SECOND.match(buffer, at + 1):
            return False
        size = int.from_bytes(buffer[at + 2 : at + 4], "big")
        kind, version = buffer[at + 1] >> 4, buffer[at + 1] & 15
        if size < FRAME_SIZE_MIN and kind in TYPE_NAMES and version in VERSIONS:
            detail = f"FRAMESIZE: {size} bytes announced, the smallest frame has {FRAME_SIZE_MIN}"
            self._refuse(Reason.BAD_SIZE, detail, 4)
            return False  # where the next frame begins is unknown
        if not FRAME_SIZE_MIN <= size <= len(buffer) - at or crc_hqx(buffer[at : at + size], 0xFFFF):
            return False
        if kind in TYPE_NAMES:
            return self._refuse(Reason.BAD_VERSION, f"SYNC: version {version}, accepted are {VERSIONS}", size)
        return self._refuse(Reason.BAD_TYPE, f"SYNC: frame type {kind} is none of {tuple(TYPE_NAMES)}", size)

    def _judge(self, end: int) -> int | None:
        """Return the size of the frame here, None when more bytes are needed, 0 when it is none."""
        buffer, at = self.buffer, self.at
        rest = end - at
        size = int.from_bytes(buffer[at + 2 : at + 4], "big") if rest >= 4 else FRAME_SIZE_MIN
        if rest < size:
            if not self.final:
                return None
            announced = f"{size} bytes" if rest >= 4 else "no size"
            self._bad(Reason.TRUNCATED, f"FRAMESIZE: {announced} announced, {rest} bytes received", rest)
        elif at < self.sieve_end:
            if self._next_good(at) == at:
                return size
            self._bad(Reason.BAD_CRC, "CHK: not the CRC of the frame", size)
            self.at = max(self.at, self._next_good(at))
        elif crc_hqx(buffer[at : at + size], 0xFFFF) == 0:
            return size
        else:
            found = int.from_bytes(buffer[at + size - 2 : at + size], "big")
            expected = crc_hqx(buffer[at : at + size - 2], 0xFFFF)
            self._bad(Reason.BAD_CRC, f"CHK: 0x{found:04x}, computed 0x{expected:04x}", size)
            self.wasted += size
            if self.wasted > _WASTE_MIN + _WASTE_RATIO * at:
                self._make_sieve(end)
        return 0

    def _bad(self, reason: Reason, detail: str, size: int) -> None:
        """Go on one byte behind a bad SYNC; within the announced size of another one it is no finding."""
        after = self.at + 1
        if self.at >= self.claim:
            self._refuse(reason, detail, size)
        self.at = after

    def _refuse(self, reason: Reason, detail: str, size: int) -> bool:
        """Note a rejection of the bytes here and go behind them; return True."""
        self._close()
        head = self.buffer[self.at : self.at + 6]
        idcode = int.from_bytes(head[4:6], "big") if len(head) == 6 and head[0] == SYNC else None
        self.rejections.append(Rejection(reason, detail, self.at, size, idcode))
        self.at = self.claim = self.at + size
        return True

    def _skip(self, start: int) -> None:
        """Go to `start`. Bytes behind a bad frame belong to it; others are garbage."""
        if start > self.at and not self._is_open():
            first = self.buffer[self.at : self.at + 8].hex()
            detail = f"{start - self.at} bytes that begin no frame, the first are 0x{first}"
            self._refuse(Reason.GARBAGE if self.at else Reason.BAD_SYNC, detail, start - self.at)
        self.at = start

    def _is_open(self) -> bool:
        """Return whether the last finding is a rejection, so that it goes on to the next finding."""
        return bool(self.rejections) and self.rejections[-1].start >= self.taken

    def _close(self) -> None:
        """End the last rejection here."""
        if self._is_open():
            last = self.rejections[-1]
            self.rejections[-1] = Rejection(
                last.reason, last.detail, last.start, self.at - last.start, last.idcode
            )

    def _make_sieve(self, end: int) -> None:
        """Find the good frames that begin in the next 64 KiB, all at once."""
        first = self.at
        self.sieve_end = min(first + _SIEVE_SIZE, end)
        region = np.frombuffer(self.buffer, np.uint8)[first : self.sieve_end + FRAME_SIZE_MAX]
        own = region[: self.sieve_end - first]
        places = np.flatnonzero(own == SYNC)
        places = places[places + 4 <= region.size]
        sizes = region[places + 2].astype(np.int64) << 8 | region[places + 3]
        kind, version = region[places + 1] >> 4, region[places + 1] & 15
        likely = (
            (kind <= CFG3) & (version >= VERSIONS[0]) & (version <= VERSIONS[-1]) & (sizes >= FRAME_SIZE_MIN)
        )
        places, sizes = places[likely], sizes[likely]
        whole = places + sizes <= region.size
        good = np.full(places.size, not self.final)  # a cut frame must be waited for
        good[whole] = ranges_good(region, places[whole], (places + sizes)[whole])
        self.sieve = first + places[good]

    def _next_good(self, at: int) -> int:
        """Return where the next good frame of the sieve begins, its end if there is none."""
        place = int(np.searchsorted(self.sieve, at))
        return int(self.sieve[place]) if place < self.sieve.size else self.sieve_end


def _ieee_1344_size(buffer: bytes, start: int) -> int:
    """Return how many bytes from here are IEEE 1344 frames, 0 for none.

    IEEE 1344 has SOC (4), SMPCNT (2), a status word (2) whose low 12 bits are the frame's length, and the
    same CRC at its end. Only bytes with a good CRC are called so.
    """
    at = start
    while len(buffer) - at >= 10:
        size = int.from_bytes(buffer[at + 6 : at + 8], "big") & 0x0FFF
        if (
            not 10 <= size <= len(buffer) - at
            or buffer[at] == SYNC
            or crc_hqx(buffer[at : at + size], 0xFFFF)
        ):
            break
        at += size
    return at - start


def with_crc(body: bytes) -> bytes:
    """Return the frame with its CHK appended; `body` is everything before it, FRAMESIZE already right."""
    return body + crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def header_bytes(kind: int, size: int, idcode: int, soc: int, fracsec: int, version: int = 1) -> bytes:
    """Return the 14 bytes that begin a frame of `size` bytes in all. `fracsec` is the whole 32-bit word."""
    sync = SYNC << 8 | kind << 4 | version
    return _HEADER.pack(sync, size, idcode, soc & 0xFFFFFFFF, fracsec & 0xFFFFFFFF)

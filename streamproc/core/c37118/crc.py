"""CHK of many frames at once: CRC-CCITT, polynomial x^16 + x^12 + x^5 + 1, initial 0xFFFF (IEEE
C37.118.2-2011, Annex B).

`binascii.crc_hqx` needs 0.2 us a short frame, more than all the rest of the decoder. Frames of one size stand
as the columns of a matrix here, one 16-bit word a row, and a few array operations replace one call per frame.

Over GF(2) squaring a polynomial squares each of its terms. So from

    x^16 = x^12 + x^5 + 1          follows          x^256 = x^192 + x^80 + 1

which says, in words of 16 bits: a word 16 places from the end may be added (exclusive or) to the words 12, 5
and 0 places from the end, and dropped. That shortens a frame to 16 words without a single shift; Horner's
rule does the rest.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache

import numpy as np

from streamproc.values import I64, U8, U16, Bool

CHUNK_SIZE = 1 << 20  # bytes of frames handled at once: the matrix and its scratch stay in the cache
FEW_FRAMES = 24  # below this `binascii` is faster
BLOCK_SIZE = 256  # bytes that `_prefixes` walks one by one, in all blocks at once
ORDER = 32767  # x^32767 = 1 modulo the polynomial


def crc_good(rows: U8) -> Bool:
    """Return per row of (n_frame, size) bytes whether its last two bytes are the CRC of those before."""
    n_frame, size = rows.shape
    if n_frame < FEW_FRAMES or size % 2:
        packed = rows.tobytes()
        # With its own CHK behind it the CRC of a good frame is 0.
        each = [crc_hqx(packed[i : i + size], 0xFFFF) for i in range(0, n_frame * size, size)]
        return np.asarray(np.array(each, dtype=np.uint16) == 0)
    chunk = max(CHUNK_SIZE // size, FEW_FRAMES)
    left = [_remainder(rows[i : i + chunk]) for i in range(0, n_frame, chunk)]
    return np.asarray(np.concatenate(left) == 0)


def _remainder(rows: U8) -> U16:
    """Return (n_frame,) the CRC of each row, CHK included; rows have an even number of bytes."""
    n_frame, size = rows.shape
    words = np.ascontiguousarray(np.ascontiguousarray(rows).view(np.uint16).T)  # (n_word, n_frame)
    words.byteswap(inplace=True)
    words[0] ^= 0xFFFF  # the initial value
    n_word, at = size // 2, 0
    while n_word - at > 16:
        top = words[at : at + min(4, n_word - at - 16)]
        for behind in (4, 11, 16):
            words[at + behind : at + behind + len(top)] ^= top
        at += len(top)
    crc, fold, scratch = np.zeros((3, n_frame), dtype=np.uint16)
    for word in words[at:]:
        crc ^= word
        _shift_byte(crc, fold, scratch)
        _shift_byte(crc, fold, scratch)
    return crc


def _shift_byte(crc: U16, fold: U16, scratch: U16) -> None:
    """Multiply `crc` by x^8, modulo the polynomial, in place."""
    np.right_shift(crc, 8, out=fold)
    np.right_shift(fold, 4, out=scratch)
    fold ^= scratch
    crc <<= 8
    crc ^= fold
    fold <<= 5
    crc ^= fold
    fold <<= 7
    crc ^= fold


@lru_cache(maxsize=1)
def _powers() -> U16:
    """Return x^k modulo the polynomial for k = 0..32766."""
    powers = np.empty(ORDER, dtype=np.uint16)
    value = 1
    for k in range(ORDER):
        powers[k] = value
        value = (value << 1 & 0xFFFF) ^ (0x1021 if value & 0x8000 else 0)
    return powers


def ranges_good(buffer: U8, starts: I64, ends: I64) -> Bool:
    """Return per range of the buffer whether it ends in its own CRC, in a time that does not depend on the
    ranges' sizes.

    The CRC of a range follows from the CRCs of the two prefixes of the buffer, so ranges that overlap (sizes
    that lie, in garbage that looks like frames) cost no more than ranges that do not.
    """
    prefix = _prefixes(buffer)
    begin = prefix[starts] ^ np.uint16(0xFFFF)
    shift = (ends - starts) * 8
    left = prefix[ends].copy()
    for bit in range(16):
        moved = _powers()[(shift + bit) % ORDER]
        left ^= np.where(begin >> bit & 1, moved, np.uint16(0))
    return np.asarray(left == 0)


def _prefixes(buffer: U8) -> U16:
    """Return (n + 1,) the CRC with initial value 0 of the first 0, 1, ... n bytes."""
    n_block = buffer.size // BLOCK_SIZE + 1
    padded = np.zeros(n_block * BLOCK_SIZE, dtype=np.uint8)
    padded[: buffer.size] = buffer
    packed = padded.tobytes()
    crc = np.zeros(n_block, dtype=np.uint16)
    for block in range(n_block - 1):
        at = block * BLOCK_SIZE
        crc[block + 1] = crc_hqx(packed[at : at + BLOCK_SIZE], int(crc[block]))
    columns = np.ascontiguousarray(padded.reshape(n_block, BLOCK_SIZE).T).astype(np.uint16) << 8
    prefix = np.empty((BLOCK_SIZE, n_block), dtype=np.uint16)
    fold, scratch = np.zeros((2, n_block), dtype=np.uint16)
    for place in range(BLOCK_SIZE):  # over the bytes of a block; all blocks at once
        prefix[place] = crc
        crc ^= columns[place]
        _shift_byte(crc, fold, scratch)
    return np.ascontiguousarray(prefix.T).ravel()[: buffer.size + 1]

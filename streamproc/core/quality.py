"""One quality word per measurement: the `StateFlags` bits of GSF and STTP, named for what *set* means.

The raw words (STAT, time quality) travel beside it: nothing is collapsed for good. A measurement is used only when STAT
bits 15-14 are 00 (the two-bit reading of 2011; 01 may hold usable values at a site of 2005, and is still withheld: a
wrong value is worse than a missing one), it is finite and it is plausible. What is withheld becomes NaN plus a bit.

Angles need time: 1 us is 0.022 degrees at 60 Hz. An angle is withheld when the worse of MSG_TQ and PMU_TQ allows a
larger error than the site accepts (IEEE C37.118.2-2011, Tables 4 and 7).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from streamproc.values import F64, U8, U16, U32

BAD_DATA = 1 << 0
SUSPECT_DATA = 1 << 1
OVER_RANGE = 1 << 2
RECEIVED_AS_BAD = 1 << 11
CALCULATED = 1 << 12
BAD_TIME = 1 << 16
SUSPECT_TIME = 1 << 17
LATE_TIME = 1 << 18
OPERATOR_BLOCKED = 1 << 24
TEST_MODE = 1 << 25
SYSTEM_ERROR = 1 << 29
DISCARDED = 1 << 30  # the source did not deliver this instant

_BAD = BAD_DATA | OVER_RANGE | RECEIVED_AS_BAD | BAD_TIME | OPERATOR_BLOCKED | TEST_MODE | DISCARDED

# Clock error that a code allows, s. MSG_TQ: 0 locked, 1 is 1 ns, each step ten times more; 0xF clock failure; codes
# without a meaning count as failure. PMU_TQ: 0 says nothing (older profile).
_MSG_TQ_S: F64 = np.array([0.0, *(10.0 ** np.arange(-9, 2)), np.inf, np.inf, np.inf, np.inf])
_PMU_TQ_S: F64 = np.array([0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, np.inf])


def flags_of(stat: U16, time_quality: U8) -> U32:
    """Return the flags (n_frame, n_pmu) that STAT words and the frame's time quality byte (n_frame,) mean."""
    code = stat >> 14
    by_code = np.array(
        [
            0,
            SUSPECT_DATA | SYSTEM_ERROR | RECEIVED_AS_BAD,
            BAD_DATA | RECEIVED_AS_BAD,
            BAD_DATA | RECEIVED_AS_BAD | SYSTEM_ERROR,
        ],
        dtype=np.uint32,
    )
    flags = by_code[code]
    flags |= np.where(stat & 0x3000, np.uint32(SUSPECT_TIME), np.uint32(0))  # sync lost, or sorted by arrival
    flags |= np.where(stat & 0x0200, np.uint32(CALCULATED), np.uint32(0))
    failed = (time_quality & 15) == 15
    flags |= np.where(failed, np.uint32(BAD_TIME | SUSPECT_TIME), np.uint32(0))[:, None]
    return np.asarray(flags, dtype=np.uint32)


def clock_error_s(stat: U16, time_quality: U8) -> F64:
    """Return the clock error (n_frame, n_pmu) that the worse of both codes allows, seconds; inf = unknown."""
    return np.asarray(np.maximum(_MSG_TQ_S[time_quality & 15][:, None], _PMU_TQ_S[stat >> 6 & 7]))


def worst(flags: int) -> Literal["GOOD", "SUSPECT", "BAD"]:
    """Return the word for people."""
    if flags & _BAD:
        return "BAD"
    return "SUSPECT" if flags & (SUSPECT_DATA | SUSPECT_TIME | SYSTEM_ERROR | LATE_TIME) else "GOOD"

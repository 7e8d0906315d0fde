"""`streamproc bench decode`: how fast frames become arrays, on this machine, on one core.

"One PMU": frames of one PMU each (three polar phasors in float), 10,000 in a call; the same with rectangular phasors, and
with 16-bit integers. "40 PMUs": the frames of a concentrator. Every frame's SYNC, size and CRC are checked; times, STAT and
all numbers come out in SI.

Beside it, what cannot be beaten: a plain `np.frombuffer` with the structured dtype of the same frames and a copy of every
field to native numbers: no check, no unit, no NaN; and both again with the CRC from the standard library, frame by frame.

A value is a real number: magnitude, angle, frequency, ROCOF each count as one.
"""

from __future__ import annotations

import sys
from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson

from streamproc.core.c37118 import (
    CFG2,
    Book,
    Configuration,
    Layout,
    PmuInfo,
    compile_layout,
    decode,
    encode_configuration,
    encode_data,
)
from streamproc.shell.clock import SystemClock
from streamproc.shell.heap import keep_heap

PMU_FRAMES_PER_S_MIN = 5e6  # the target for one-PMU frames
VALUES_PER_S_MIN = 20e6  # the target for 40-PMU frames


@dataclass(frozen=True, slots=True)
class Case:
    """Frames to decode, and what they hold."""

    name: str
    layout: Layout
    book: Book
    frames: list[bytes]

    @property
    def value_count(self) -> int:
        """Return the numbers in one frame."""
        layout = self.layout
        return 2 * layout.phasor_pmu.size + 2 * layout.n_pmu + layout.analog_pmu.size


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one way was in one case."""

    case: str
    way: str
    frames_per_s: float
    pmu_frames_per_s: float
    values_per_s: float
    bytes_per_s: float


def main(*, json: bool = False, seconds: float = 6.0) -> int:
    """Measure all cases for about `seconds` in all and print; return 1 when a target is missed, 0 otherwise."""
    keep_heap()  # a process that lives long; without it about half as fast
    cases = [
        _case("one PMU", 1, 0b1011, 10_000),
        _case("one PMU, rectangular", 1, 0b1010, 10_000),
        _case("one PMU, integer", 1, 0b0001, 10_000),
        _case("40 PMUs", 40, 0b1011, 500),
    ]
    ways = [("decode", _decode), ("frombuffer", _frombuffer), ("frombuffer + crc_hqx", _frombuffer_crc)]
    each_s = seconds / (len(cases) * len(ways))
    speeds = [_speed(case, name, way, each_s) for case in cases for name, way in ways]
    missed = _missed(speeds)
    if json:
        rows = [{name: getattr(speed, name) for name in Speed.__slots__} for speed in speeds]
        sys.stdout.write(orjson.dumps({"speeds": rows, "missed": missed}).decode() + "\n")
    else:
        sys.stdout.write("\n".join([_HEAD, *map(_row, speeds), *missed]) + "\n")
    return 1 if missed else 0


def _missed(speeds: list[Speed]) -> list[str]:
    found = {(s.case, s.way): s for s in speeds}
    one, many = found["one PMU", "decode"], found["40 PMUs", "decode"]
    missed = []
    if not one.pmu_frames_per_s >= PMU_FRAMES_PER_S_MIN:
        missed.append(f"missed: {PMU_FRAMES_PER_S_MIN / 1e6:g} M PMU-frames/s for frames of one PMU")
    if not many.values_per_s >= VALUES_PER_S_MIN:
        missed.append(f"missed: {VALUES_PER_S_MIN / 1e6:g} M values/s for frames of 40 PMUs")
    return missed


def _case(name: str, n_pmu: int, form: int, count: int) -> Case:
    pmus = tuple(
        PmuInfo(
            stn=f"STATION {i}",
            idcode=i + 1,
            format=form,
            phasor_names=("VA", "VB", "VC"),
            phasor_is_current=(False,) * 3,
            phasor_factor=(9.15527,) * 3,
            analog_names=(),
            digital_names=(),
            nominal_hz=50.0,
            cfgcnt=1,
        )
        for i in range(n_pmu)
    )
    config = Configuration(CFG2, 7, 1_000_000, 50, pmus)
    (frame,) = encode_configuration(config)
    layout = compile_layout(config, frame)
    book, _ = Book().learn(frame)
    rng = np.random.default_rng(1)
    phasor = 200e3 * np.exp(1j * rng.uniform(-3, 3, (count, 3 * n_pmu)))
    t_ns = 1_700_000_000_000_000_000 + 20_000_000 * np.arange(count, dtype=np.int64)
    freq_hz = 50 + 0.01 * rng.standard_normal((count, n_pmu))
    return Case(name, layout, book, encode_data(layout, t_ns, freq_hz, phasor=phasor))


def _decode(case: Case) -> int:
    decoded = decode(case.book, case.frames)
    return sum(batch.record.size for batch in decoded.batches)


def _frombuffer(case: Case) -> int:
    rows = np.frombuffer(b"".join(case.frames), dtype=case.layout.dtype)
    for i in range(case.layout.n_pmu):
        block = rows[f"pmu{i}"]
        for name in ("stat", "phasor", "freq", "dfreq"):
            block[name].astype(block[name].dtype.newbyteorder("="))
    rows["soc"].astype(np.uint32)
    rows["fracsec"].astype(np.uint32)
    return int(rows.size)


def _frombuffer_crc(case: Case) -> int:
    good = sum(crc_hqx(frame, 0xFFFF) == 0 for frame in case.frames)
    return min(good, _frombuffer(case))


def _speed(case: Case, name: str, way: Callable[[Case], int], seconds: float) -> Speed:
    """Return the speed of the fastest call: what others do to this machine in the meantime is not ours."""
    if way(case) != len(case.frames):
        raise AssertionError(f"{name} lost frames of {case.name}")
    clock = SystemClock()
    best_s, end_s = float("inf"), clock.monotonic_s() + seconds
    while True:
        begin_s = clock.monotonic_s()
        way(case)
        now_s = clock.monotonic_s()
        best_s = min(best_s, now_s - begin_s)
        if now_s >= end_s:
            break
    per_s = len(case.frames) / best_s
    layout = case.layout
    return Speed(
        case=case.name,
        way=name,
        frames_per_s=per_s,
        pmu_frames_per_s=per_s * layout.n_pmu,
        values_per_s=per_s * case.value_count,
        bytes_per_s=per_s * layout.frame_size,
    )


_HEAD = f"{'':<22}{'':<22}{'M PMU-frames/s':>16}{'M values/s':>12}{'MB/s':>8}"


def _row(speed: Speed) -> str:
    return (
        f"{speed.case:<22}{speed.way:<22}{speed.pmu_frames_per_s / 1e6:>16.2f}"
        f"{speed.values_per_s / 1e6:>12.1f}{speed.bytes_per_s / 1e6:>8.0f}"
    )

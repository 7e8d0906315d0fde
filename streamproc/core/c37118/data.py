"""Data frames: a configuration compiles once to a NumPy structured dtype, and a batch of frames is one view of the bytes.

    STAT  PHASORS  FREQ  DFREQ  ANALOGS  DIGITALS     one block per PMU (IEEE C37.118.2-2011, 6.3)

PMUs whose blocks have the same shape (FORMAT and counts) are read together, whatever their number: the only loop is over
the few shapes of a stream. Numbers come out in SI: Hz (absolute), Hz/s, V, A, rad. What the PMU marked as absent (NaN, or
0x8000 in integer fields) is NaN. STAT stays the raw word; what it means is `streamproc.core.quality`'s business.

Analogs of a CFG-2 are given as sent (their meaning is the user's); with a CFG-3 an integer analog is scale * value +
offset. The angle offset of a CFG-3 tells what the PMU has already corrected and is not applied again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.c37118.configuration import Configuration, PmuInfo
from streamproc.core.c37118.frame import CFG3, DATA, HEADER_SIZE, header_bytes, with_crc
from streamproc.values import C128, F64, I64, U8, U16, U32

ABSENT = -32768  # 0x8000 in an integer field


@dataclass(frozen=True, slots=True)
class _Shape:
    """PMUs of a stream whose blocks have the same dtype, and where their columns go."""

    dtype: np.dtype[np.void]
    starts: I64  # (n_member,) offset of each block in the frame
    pmus: I64  # (n_member,) index of the PMU
    phasors: I64  # (n_member, phnmr) column in the phasor array
    analogs: I64  # (n_member, annmr)
    digitals: I64  # (n_member, dgnmr)
    polar: bool
    factor: F64  # (n_member, phnmr), V or A per bit; 1 for float
    analog_scale: F64  # (n_member, annmr)
    analog_offset: F64


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A stream's configuration, compiled. `config` holds the frame bytes it was made from."""

    config: bytes
    kind: int
    idcode: int
    time_base: int
    rate_hz: float
    pmus: tuple[PmuInfo, ...]
    frame_size: int
    dtype: np.dtype[np.void]
    phasor_pmu: I64  # (n_phasor,) index of the PMU that a phasor column belongs to
    analog_pmu: I64
    digital_pmu: I64  # per word
    nominal_hz: F64  # (n_pmu,)
    shapes: tuple[_Shape, ...]

    @property
    def n_pmu(self) -> int:
        """Return the number of PMU blocks of a frame."""
        return len(self.pmus)


@dataclass(frozen=True, slots=True)
class DataBatch:
    """Data frames of one layout, in the order of their arrival."""

    layout: Layout
    order: I64  # (n_frame,) place in the arrival order of the call
    record: I64  # (n_frame,) index of the input buffer
    t_ns: I64  # (n_frame,) UTC
    soc: U32
    fracsec: U32  # 24 bits
    time_quality: U8  # (n_frame,) the high byte of FRACSEC: leap bits and MSG_TQ
    stat: U16  # (n_frame, n_pmu)
    freq_hz: F64  # (n_frame, n_pmu)
    rocof_hz_s: F64  # (n_frame, n_pmu)
    phasor: C128  # (n_frame, n_phasor), V or A
    analog: F64  # (n_frame, n_analog)
    digital: U16  # (n_frame, n_word)


def _block_dtype(pmu: PmuInfo) -> np.dtype[np.void]:
    phasor = ">f4" if pmu.phasor_float else ">i2"
    freq = ">f4" if pmu.freq_float else ">i2"
    analog = ">f4" if pmu.analog_float else ">i2"
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [("stat", ">u2")]
    if pmu.phasor_names:
        fields.append(("phasor", phasor, (len(pmu.phasor_names), 2)))
    fields += [("freq", freq), ("dfreq", freq)]
    if pmu.analog_names:
        fields.append(("analog", analog, (len(pmu.analog_names),)))
    if pmu.digital_names:
        fields.append(("digital", ">u2", (len(pmu.digital_names) // 16,)))
    return np.dtype(fields)


def _shape(dtype: np.dtype[np.void], members: I64, starts: I64, config: Configuration) -> _Shape:
    pmus = config.pmus
    first = pmus[int(members[0])]
    ends = [np.cumsum([0, *counts]) for counts in zip(*map(_column_counts, pmus), strict=True)]
    places = [
        np.array([np.arange(end[m], end[m + 1]) for m in members], dtype=np.int64).reshape(members.size, -1)
        for end in ends
    ]
    factor = np.array([pmus[m].phasor_factor for m in members], dtype=np.float64).reshape(members.size, -1)
    scaled = config.kind == CFG3 and not first.analog_float
    scale = np.array([pmus[m].analog_factor if scaled else () for m in members], dtype=np.float64)
    offset = np.array([pmus[m].analog_offset if scaled else () for m in members], dtype=np.float64)
    return _Shape(
        dtype=dtype,
        starts=starts[members],
        pmus=members,
        phasors=places[0],
        analogs=places[1],
        digitals=places[2],
        polar=first.polar,
        factor=np.ones_like(factor) if first.phasor_float else factor,
        analog_scale=scale if scaled else np.ones(places[1].shape),
        analog_offset=offset if scaled else np.zeros(places[1].shape),
    )


def _column_counts(pmu: PmuInfo) -> tuple[int, int, int]:
    return len(pmu.phasor_names), len(pmu.analog_names), len(pmu.digital_names) // 16


def compile_layout(config: Configuration, frame: bytes) -> Layout:
    """Return the layout of a configuration; `frame` is kept so that a state can be packed and read again."""
    blocks = [_block_dtype(pmu) for pmu in config.pmus]
    sizes = np.array([block.itemsize for block in blocks], dtype=np.int64)
    starts = HEADER_SIZE + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    groups: dict[tuple[str, bool], list[int]] = {}
    for index, (block, pmu) in enumerate(zip(blocks, config.pmus, strict=True)):
        groups.setdefault((str(block), pmu.polar), []).append(index)
    shapes = tuple(
        _shape(blocks[members[0]], np.array(members, dtype=np.int64), starts, config)
        for members in groups.values()
    )
    counts = np.array([_column_counts(pmu) for pmu in config.pmus], dtype=np.int64)
    owner = [np.repeat(np.arange(len(blocks)), counts[:, column]) for column in range(3)]
    head = [("sync", ">u2"), ("framesize", ">u2"), ("idcode", ">u2"), ("soc", ">u4"), ("fracsec", ">u4")]
    body = [(f"pmu{i}", block) for i, block in enumerate(blocks)]
    return Layout(
        config=frame,
        kind=config.kind,
        idcode=config.idcode,
        time_base=config.time_base,
        rate_hz=config.rate_hz,
        pmus=config.pmus,
        frame_size=HEADER_SIZE + int(sizes.sum()) + 2,
        dtype=np.dtype([*head, *body, ("chk", ">u2")]),
        phasor_pmu=owner[0],
        analog_pmu=owner[1],
        digital_pmu=owner[2],
        nominal_hz=np.array([pmu.nominal_hz for pmu in config.pmus]),
        shapes=shapes,
    )


def decode_rows(layout: Layout, rows: U8, order: I64, record: I64) -> DataBatch:
    """Return the frames in (n_frame, frame_size) bytes: checked for SYNC, size and CRC by the caller."""
    n_frame = rows.shape[0]
    head = np.ascontiguousarray(rows[:, 6:14]).view(">u4")  # (n_frame, 2): SOC, FRACSEC
    soc, word = head[:, 0].astype(np.uint32), head[:, 1].astype(np.uint32)
    fraction = word & np.uint32(0xFFFFFF)
    # Half a unit is added so that 1/30 s of any TIME_BASE is rounded, not cut.
    t_ns = soc.astype(np.int64) * 1_000_000_000
    t_ns += (fraction.astype(np.int64) * 1_000_000_000 + layout.time_base // 2) // layout.time_base
    stat = np.empty((n_frame, layout.n_pmu), dtype=np.uint16)
    freq_hz, rocof_hz_s = np.empty(stat.shape), np.empty(stat.shape)
    phasor = np.empty((n_frame, layout.phasor_pmu.size), dtype=np.complex128)
    analog = np.empty((n_frame, layout.analog_pmu.size))
    digital = np.empty((n_frame, layout.digital_pmu.size), dtype=np.uint16)
    for shape in layout.shapes:
        block = _blocks(rows, shape)  # structured (n_frame, n_member)
        stat[:, shape.pmus] = block["stat"]
        freq_hz[:, shape.pmus] = _frequency(block["freq"], layout.nominal_hz[shape.pmus])
        rocof_hz_s[:, shape.pmus] = _rocof(block["dfreq"])
        if shape.phasors.size:
            phasor[:, shape.phasors] = _phasors(block["phasor"], shape)
        if shape.analogs.size:
            analog[:, shape.analogs] = _known(block["analog"]) * shape.analog_scale + shape.analog_offset
        if shape.digitals.size:
            digital[:, shape.digitals] = block["digital"]
    quality = (word >> np.uint32(24)).astype(np.uint8)
    return DataBatch(
        layout,
        order,
        record,
        t_ns,
        soc,
        fraction,
        quality,
        stat,
        freq_hz,
        rocof_hz_s,
        phasor,
        analog,
        digital,
    )


def _blocks(rows: U8, shape: _Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    size, count = shape.dtype.itemsize, shape.starts.size
    first = int(shape.starts[0])
    if count == 1 or (np.diff(shape.starts) == size).all():
        block = rows[:, first : first + count * size]
    else:
        block = rows[:, (shape.starts[:, None] + np.arange(size)).ravel()]
    return np.ascontiguousarray(block).view(shape.dtype).reshape(rows.shape[0], count)


def _known(raw: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> F64:
    """Return float64, NaN where an integer field says absent."""
    values = raw.astype(np.float64)
    if raw.dtype.kind == "i":
        values[raw == ABSENT] = np.nan
    return values


def _frequency(raw: np.ndarray[tuple[int, ...], np.dtype[np.generic]], nominal_hz: F64) -> F64:
    values = _known(raw)
    return values * 1e-3 + nominal_hz if raw.dtype.kind == "i" else values


def _rocof(raw: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> F64:
    values = _known(raw)
    return values * 1e-2 if raw.dtype.kind == "i" else values


def _phasors(raw: np.ndarray[tuple[int, ...], np.dtype[np.generic]], shape: _Shape) -> C128:
    """Return (n_frame, n_member, phnmr) complex; `raw` has a last axis of two words."""
    integer = raw.dtype.kind == "i"
    if shape.polar:
        # An integer magnitude is unsigned: 40000 must not become negative (the same bits, read again).
        magnitude = (raw[..., 0].astype(">i2").view(">u2") if integer else raw[..., 0]).astype(np.float64)
        angle_rad = raw[..., 1].astype(np.float64) * (1e-4 if integer else 1.0)
        values = magnitude * shape.factor * np.exp(1j * angle_rad)
    else:
        values = raw[..., 0].astype(np.float64) + 1j * raw[..., 1].astype(np.float64)
        values *= shape.factor
    if integer:
        absent = (raw[..., 0] == ABSENT) & (raw[..., 1] == ABSENT)
        values[absent] = complex(np.nan, np.nan)
    return np.asarray(values)


def encode_data(
    layout: Layout,
    t_ns: I64,
    freq_hz: F64,
    *,
    rocof_hz_s: F64 | None = None,
    phasor: C128 | None = None,
    analog: F64 | None = None,
    digital: U16 | None = None,
    stat: U16 | None = None,
    time_quality: int | U8 = 0,
    version: int = 1,
) -> list[bytes]:
    """Return one frame per instant. Shapes as in `DataBatch`; NaN is written as absent; what is left out is zero."""
    n_frame = t_ns.size
    words = np.asarray(time_quality, dtype=np.uint32) << np.uint32(24)
    second, rest_ns = np.divmod(np.asarray(t_ns, dtype=np.int64), 1_000_000_000)
    fraction = (rest_ns * layout.time_base + 500_000_000) // 1_000_000_000
    over = fraction >= layout.time_base  # rounded up to the next second
    second, fraction = second + over, np.where(over, 0, fraction)
    body = np.zeros((n_frame, layout.frame_size), dtype=np.uint8)
    body[:, :HEADER_SIZE] = np.frombuffer(
        header_bytes(DATA, layout.frame_size, layout.idcode, 0, 0, version), np.uint8
    )
    body[:, 6:10] = second.astype(">u4").view(np.uint8).reshape(n_frame, 4)
    body[:, 10:14] = (fraction.astype(np.uint32) | words).astype(">u4").view(np.uint8).reshape(n_frame, 4)
    given = {
        "stat": np.zeros((n_frame, layout.n_pmu), np.uint16) if stat is None else stat,
        "freq": freq_hz,
        "dfreq": np.zeros((n_frame, layout.n_pmu)) if rocof_hz_s is None else rocof_hz_s,
        "phasor": np.zeros((n_frame, layout.phasor_pmu.size), np.complex128) if phasor is None else phasor,
        "analog": np.zeros((n_frame, layout.analog_pmu.size)) if analog is None else analog,
        "digital": np.zeros((n_frame, layout.digital_pmu.size), np.uint16) if digital is None else digital,
    }
    for shape in layout.shapes:
        block = _write_blocks(shape, given, layout.nominal_hz[shape.pmus], n_frame)
        size = shape.dtype.itemsize
        columns = (shape.starts[:, None] + np.arange(size)).ravel()
        body[:, columns] = block.view(np.uint8).reshape(n_frame, -1)
    packed = body[:, :-2].tobytes()
    size = layout.frame_size - 2
    return [with_crc(packed[i : i + size]) for i in range(0, n_frame * size, size)]


def _write_blocks(
    shape: _Shape,
    given: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
    nominal_hz: F64,
    n_frame: int,
) -> np.ndarray[tuple[int, ...], np.dtype[np.void]]:
    block = np.zeros((n_frame, shape.pmus.size), dtype=shape.dtype)
    block["stat"] = given["stat"][:, shape.pmus]
    freq_hz, rocof = (
        given["freq"][:, shape.pmus].astype(np.float64),
        given["dfreq"][:, shape.pmus].astype(np.float64),
    )
    integer = block["freq"].dtype.kind == "i"
    block["freq"] = _to_int((freq_hz - nominal_hz) * 1e3) if integer else freq_hz
    block["dfreq"] = _to_int(rocof * 1e2) if integer else rocof
    if shape.phasors.size:
        values = given["phasor"][:, shape.phasors].astype(np.complex128)
        block["phasor"] = _phasor_words(values / shape.factor, shape.polar, block["phasor"].dtype.kind == "i")
    if shape.analogs.size:
        values_f = (
            given["analog"][:, shape.analogs].astype(np.float64) - shape.analog_offset
        ) / shape.analog_scale
        block["analog"] = _to_int(values_f) if block["analog"].dtype.kind == "i" else values_f
    if shape.digitals.size:
        block["digital"] = given["digital"][:, shape.digitals]
    return block


def _phasor_words(values: C128, polar: bool, integer: bool) -> F64 | I64:
    if polar:
        first, second = np.abs(values), np.angle(values)
    else:
        first, second = values.real, values.imag
    if not integer:
        return np.stack([first, second], axis=-1)
    if polar:
        absent = np.isnan(first)
        whole = np.clip(np.rint(np.where(absent, 0, first)), 0, 65535).astype(np.uint16).view(np.int16)
        pair = np.stack([whole, _to_int(second * 1e4)], axis=-1)
        pair[absent] = ABSENT
        return pair.astype(np.int64)
    return np.stack([_to_int(first), _to_int(second)], axis=-1)


def _to_int(values: F64) -> I64:
    absent = np.isnan(values)
    whole = np.clip(np.rint(np.where(absent, 0.0, values)), -32767, 32767).astype(np.int64)
    return np.where(absent, ABSENT, whole)

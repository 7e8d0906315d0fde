"""Data frames: a configuration compiles once to a NumPy structured dtype, and a batch of frames is one view
of the bytes.

    STAT  PHASORS  FREQ  DFREQ  ANALOGS  DIGITALS     one block per PMU (IEEE C37.118.2-2011, 6.3)

PMUs whose blocks have the same shape (FORMAT and counts) are read together, whatever their number: the only
loop is over the few shapes of a stream. Streams that are built alike are read together too: forty streams of
one PMU cost little more than one stream of forty, each with its own factors.

Numbers come out in SI: Hz (absolute), Hz/s, V, A, rad. What the PMU marked as absent (NaN, or 0x8000 in
integer fields) is NaN. STAT stays the raw word; what it means is `streamproc.core.quality`'s business.

Analogs of a CFG-2 are given as sent (their meaning is the user's); with a CFG-3 an integer analog is scale *
value + offset. The angle offset of a CFG-3 tells what the PMU has already corrected and is not applied again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from streamproc.core.c37118.configuration import (
    FORMAT_ANALOG_FLOAT,
    FORMAT_BITS,
    FORMAT_FREQ_FLOAT,
    FORMAT_PHASOR_FLOAT,
    Configuration,
    PmuInfo,
)
from streamproc.core.c37118.frame import CFG3, HEADER_SIZE
from streamproc.values import C128, F64, I64, U8, U16, U32

ABSENT = -32768  # 0x8000 in an integer field
CHUNK_SIZE = 1 << 18  # bytes of frames converted at once: what comes between stays in the cache


Raw: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]
Columns: TypeAlias = I64 | slice


@dataclass(frozen=True, slots=True)
class Shape:
    """PMUs of a stream whose blocks have the same dtype, and where their columns go."""

    dtype: np.dtype[np.void]
    starts: I64  # (n_member,) offset of each block in the frame
    stride: int  # bytes from block to block, 0 when they are not evenly spaced
    pmus: Columns  # index of the PMU, n_member of them
    phasors: Columns  # columns of the phasor array, n_member * phnmr of them
    analogs: Columns
    digitals: Columns
    polar: bool
    factor: F64  # (n_member, phnmr), V or A per bit; 1 for float
    angle_rad: F64  # (n_member, phnmr), taken from the angle; 0 for float
    analog_scale: F64  # (n_member, annmr)
    analog_offset: F64
    nominal_hz: F64  # (n_member,)

    def of_frames(self, stream: I64) -> Shape:
        """Return the shape with a row of factors for each frame; `self` has one for each stream."""
        return replace(self, **{name: getattr(self, name)[stream] for name in FACTORS})


FACTORS = ("factor", "angle_rad", "analog_scale", "analog_offset", "nominal_hz")  # a stream's own, of a Shape
Alike: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A stream's configuration, compiled. `config` holds the frame bytes it was made from."""

    config: bytes
    kind: int
    idcode: int
    time_base: int
    data_rate: int  # > 0 frames per second, < 0 seconds per frame
    rate_hz: float
    pmus: tuple[PmuInfo, ...]
    frame_size: int
    dtype: np.dtype[np.void]
    phasor_pmu: I64  # (n_phasor,) index of the PMU that a phasor column belongs to
    analog_pmu: I64
    digital_pmu: I64  # per word
    nominal_hz: F64  # (n_pmu,)
    shapes: tuple[Shape, ...]
    alike: Alike  # equal for streams that differ in names and factors only

    @property
    def n_pmu(self) -> int:
        """Return the number of PMU blocks of a frame."""
        return len(self.pmus)


@dataclass(frozen=True, slots=True)
class DataBatch:
    """Data frames of streams that are built alike, in the order of their arrival."""

    layouts: tuple[Layout, ...]  # by IDCODE
    stream: I64  # (n_frame,) index into `layouts`
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

    @property
    def layout(self) -> Layout:
        """Return one of the layouts: what is the same for all of them, or the only one."""
        return self.layouts[0]

    def parts(self) -> Iterator[DataBatch]:
        """Yield a batch per stream."""
        if len(self.layouts) == 1:
            yield self
            return
        arrays = [name for name in self.__slots__ if name not in {"layouts", "stream"}]
        for number, layout in enumerate(self.layouts):
            own = np.flatnonzero(self.stream == number)
            taken = {name: getattr(self, name)[own] for name in arrays}
            yield DataBatch(layouts=(layout,), stream=np.zeros(own.size, np.int64), **taken)


_Kind: TypeAlias = tuple[int, int, int, int]  # FORMAT, phasors, analogs, digital words


def _kind(pmu: PmuInfo) -> _Kind:
    return (pmu.format & FORMAT_BITS, *_column_counts(pmu))


@lru_cache(maxsize=1024)
def _block_dtype(form: int, n_phasor: int, n_analog: int, n_word: int) -> np.dtype[np.void]:
    phasor = ">f4" if form & FORMAT_PHASOR_FLOAT else ">i2"
    freq = ">f4" if form & FORMAT_FREQ_FLOAT else ">i2"
    analog = ">f4" if form & FORMAT_ANALOG_FLOAT else ">i2"
    fields: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [("stat", ">u2")]
    if n_phasor:
        fields.append(("phasor", phasor, (n_phasor, 2)))
    fields += [("freq", freq), ("dfreq", freq)]
    if n_analog:
        fields.append(("analog", analog, (n_analog,)))
    if n_word:
        fields.append(("digital", ">u2", (n_word,)))
    return np.dtype(fields)


def _shape(dtype: np.dtype[np.void], members: I64, starts: I64, config: Configuration) -> Shape:
    pmus = config.pmus
    first = pmus[int(members[0])]
    ends = [np.cumsum([0, *counts]) for counts in zip(*map(_column_counts, pmus), strict=True)]
    places = [
        np.concatenate([np.arange(end[m], end[m + 1]) for m in members]).astype(np.int64) for end in ends
    ]
    steps = np.diff(starts[members])
    scaled = config.kind == CFG3  # what a CFG-2 says about scaling analogs is for the user alone
    phasor_int, analog_int = not first.phasor_float, scaled and not first.analog_float

    def table(values: Sequence[tuple[float, ...]], count: int, used: bool, otherwise: float) -> F64:
        rows = [values[m] if used and values[m] else (otherwise,) * count for m in members]
        return np.array(rows, dtype=np.float64).reshape(members.size, count)

    n_phasor, n_analog, _ = _column_counts(first)
    return Shape(
        dtype=dtype,
        starts=starts[members],
        stride=dtype.itemsize if not steps.size else int(steps[0]) if (steps == steps[0]).all() else 0,
        pmus=_columns(members),
        phasors=_columns(places[0]),
        analogs=_columns(places[1]),
        digitals=_columns(places[2]),
        polar=first.polar,
        factor=table([p.phasor_factor for p in pmus], n_phasor, phasor_int, 1.0),
        angle_rad=table([p.phasor_angle_rad for p in pmus], n_phasor, scaled and phasor_int, 0.0),
        analog_scale=table([p.analog_factor for p in pmus], n_analog, analog_int, 1.0),
        analog_offset=table([p.analog_offset for p in pmus], n_analog, analog_int, 0.0),
        nominal_hz=np.array([pmus[m].nominal_hz for m in members]),
    )


def _columns(places: I64) -> Columns:
    """Return the columns as a slice where they are one: writing to a slice needs no index."""
    if places.size and places[-1] - places[0] == places.size - 1:
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def _column_counts(pmu: PmuInfo) -> tuple[int, int, int]:
    return len(pmu.phasor_names), len(pmu.analog_names), len(pmu.digital_names) // 16


def frame_size(pmus: Sequence[PmuInfo]) -> int:
    """Return the bytes of a data frame of these PMUs."""
    return HEADER_SIZE + sum(_block_dtype(*_kind(pmu)).itemsize for pmu in pmus) + 2


def compile_layout(config: Configuration, frame: bytes) -> Layout:
    """Return the layout of a configuration; `frame` is kept so that a state can be packed and read again."""
    groups: dict[_Kind, list[int]] = {}
    for index, pmu in enumerate(config.pmus):
        groups.setdefault(_kind(pmu), []).append(index)
    blocks = [_block_dtype(*_kind(pmu)) for pmu in config.pmus]
    sizes = np.array([block.itemsize for block in blocks], dtype=np.int64)
    starts = HEADER_SIZE + np.concatenate([[0], np.cumsum(sizes)[:-1]])
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
        data_rate=config.data_rate,
        rate_hz=config.rate_hz,
        pmus=config.pmus,
        frame_size=HEADER_SIZE + int(sizes.sum()) + 2,
        dtype=np.dtype([*head, *body, ("chk", ">u2")]),
        phasor_pmu=owner[0],
        analog_pmu=owner[1],
        digital_pmu=owner[2],
        nominal_hz=np.array([pmu.nominal_hz for pmu in config.pmus]),
        shapes=shapes,
        alike=_alike(config),
    )


def _alike(config: Configuration) -> Alike:
    """Return what must be equal for streams to be read together: bytes, times, and which phasors are voltages."""
    pmus = tuple((*_kind(pmu), pmu.phasor_is_current, pmu.phasor_component) for pmu in config.pmus)
    return (config.time_base, config.data_rate, pmus)


@lru_cache(maxsize=1024)
def _shapes_of(layouts: tuple[Layout, ...]) -> tuple[Shape, ...]:
    """Return the shapes of streams that are alike, their factors stacked: (n_stream, n_member, ...)."""
    return tuple(
        replace(shapes[0], **{name: np.stack([getattr(shape, name) for shape in shapes]) for name in FACTORS})
        for shapes in zip(*(layout.shapes for layout in layouts), strict=True)
    )


def decode_rows(layouts: tuple[Layout, ...], stream: I64, rows: U8, order: I64, record: I64) -> DataBatch:
    """Return the frames in (n_frame, frame_size) bytes: checked for SYNC, size and CRC by the caller.

    The layouts are alike; `stream` (n_frame,) says which of them each frame belongs to.
    """
    layout, n_frame = layouts[0], rows.shape[0]
    shapes = layout.shapes if len(layouts) == 1 else _shapes_of(layouts)
    rows = np.ascontiguousarray(rows)
    head = _view(rows, 6, 8, 1, np.dtype([("soc", ">u4"), ("fracsec", ">u4")]))[:, 0]
    soc, word = head["soc"].astype(np.uint32), head["fracsec"].astype(np.uint32)
    fraction = word & np.uint32(0xFFFFFF)
    stat = np.empty((n_frame, layout.n_pmu), dtype=np.uint16)
    freq_hz, rocof_hz_s = np.empty(stat.shape), np.empty(stat.shape)
    phasor = np.empty((n_frame, layout.phasor_pmu.size), dtype=np.complex128)
    analog = np.empty((n_frame, layout.analog_pmu.size))
    digital = np.empty((n_frame, layout.digital_pmu.size), dtype=np.uint16)
    batch = DataBatch(
        layouts=layouts,
        stream=stream,
        order=order,
        record=record,
        t_ns=_time_ns(soc, fraction, layout.time_base),
        soc=soc,
        fracsec=fraction,
        time_quality=(word >> np.uint32(24)).astype(np.uint8),
        stat=stat,
        freq_hz=freq_hz,
        rocof_hz_s=rocof_hz_s,
        phasor=phasor,
        analog=analog,
        digital=digital,
    )
    step = max(CHUNK_SIZE // layout.frame_size, 1)
    # A float from the wire may be anything, a signalling NaN too; that is the PMU's affair, not a warning of ours.
    with np.errstate(all="ignore"):
        for first in range(0, n_frame, step):
            frames = slice(first, first + step)
            for shape in shapes:
                own = shape if len(layouts) == 1 else shape.of_frames(stream[frames])
                _read_blocks(rows[frames], own, batch, frames)
    return batch


def _read_blocks(rows: U8, shape: Shape, batch: DataBatch, frames: slice) -> None:
    """Write the values of these PMUs into their columns of the batch."""
    block = _blocks(rows, shape)  # structured (n_frame, n_member)
    n_frame, names = rows.shape[0], shape.dtype.names or ()
    batch.stat[frames, shape.pmus] = block["stat"]
    batch.freq_hz[frames, shape.pmus] = _scaled(block["freq"], 1e-3, shape.nominal_hz)
    batch.rocof_hz_s[frames, shape.pmus] = _scaled(block["dfreq"], 1e-2, None)
    if "phasor" in names:
        batch.phasor[frames, shape.phasors] = _phasors(block["phasor"], shape).reshape(n_frame, -1)
    if "analog" in names:
        values = _known(block["analog"]) * shape.analog_scale + shape.analog_offset
        batch.analog[frames, shape.analogs] = values.reshape(n_frame, -1)
    if "digital" in names:
        batch.digital[frames, shape.digitals] = block["digital"].reshape(n_frame, -1)


def _time_ns(soc: U32, fraction: U32, time_base: int) -> I64:
    """Return UTC nanoseconds, to the nearest: 1/30 s must not drift by what was cut off."""
    fraction_ns = fraction.astype(np.int64)
    fraction_ns *= 1_000_000_000
    fraction_ns += time_base // 2
    fraction_ns //= time_base
    fraction_ns += soc.astype(np.int64) * 1_000_000_000
    return fraction_ns


def _view(rows: U8, start: int, stride: int, count: int, dtype: np.dtype[Any]) -> Raw:
    """Return a view (n_frame, count) of blocks that begin at `start`, without a copy."""
    return np.ndarray((rows.shape[0], count), dtype, rows, start, (rows.strides[0], stride))


def _blocks(rows: U8, shape: Shape) -> Raw:
    """Return the blocks of these PMUs, structured (n_frame, n_member)."""
    count = shape.starts.size
    if shape.stride:
        return _view(rows, int(shape.starts[0]), shape.stride, count, shape.dtype)
    size = shape.dtype.itemsize
    gathered = np.ascontiguousarray(rows[:, (shape.starts[:, None] + np.arange(size)).ravel()])
    return _view(gathered, 0, size, count, shape.dtype)


def _known(raw: Raw) -> F64:
    """Return float64, NaN where an integer field says absent."""
    values = raw.astype(np.float64)
    if raw.dtype.kind == "i":
        absent = values == ABSENT
        if absent.any():
            values[absent] = np.nan
    return values


def _scaled(raw: Raw, per_bit: float, offset: F64 | None) -> F64:
    """Return FREQ or DFREQ: a float is the value itself, an integer counts from `offset`."""
    values = _known(raw)
    if raw.dtype.kind == "i":
        values *= per_bit
        if offset is not None:
            values += offset
    return values


def _phasors(raw: Raw, shape: Shape) -> C128:
    """Return (n_frame, n_member, phnmr) complex; `raw` has a last axis of two words."""
    integer = raw.dtype.kind == "i"
    first, second = raw[..., 0].astype(np.float64), raw[..., 1].astype(np.float64)
    values = np.empty(first.shape, dtype=np.complex128)
    absent = (first == ABSENT) & (second == ABSENT) if integer else None
    if shape.polar:
        if integer:
            first += np.where(
                first < 0, 65536.0, 0.0
            )  # the magnitude is unsigned: 40000 must not be negative
            first *= shape.factor
            second *= 1e-4
            second -= shape.angle_rad
        _from_polar(first, second, values)
    else:
        if integer:
            first *= shape.factor
            second *= shape.factor
        values.real, values.imag = first, second
        if shape.angle_rad.any():
            values *= np.exp(-1j * shape.angle_rad)
    if absent is not None and absent.any():
        values[absent] = complex(np.nan, np.nan)
    return values


def _from_polar(magnitude: F64, angle_rad: F64, out: C128) -> None:
    """Write magnitude * (cos + i sin) through the tangent of half the angle; the two arrays are used up.

    NumPy computes a tangent eight at a time where the processor can, a sine and a cosine one by one: this is three times
    as fast, and as exact (2e-16). At half a turn the tangent is 1.6e16, never infinite: pi is no floating point number.
    """
    angle_rad *= 0.5
    tangent = np.tan(angle_rad, out=angle_rad)
    square = tangent * tangent
    magnitude /= square + 1.0
    np.subtract(1.0, square, out=square)
    np.multiply(magnitude, square, out=out.real)
    tangent *= 2.0
    np.multiply(magnitude, tangent, out=out.imag)

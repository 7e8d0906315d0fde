"""Values to frames: what a PMU or PDC would send. The simulator, recordings of plain numbers and the tests
use it.

The way back of `data` and `configuration`: NaN is written as absent (NaN, or 0x8000 in integer fields),
integers are rounded to the nearest and held within their range.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np

from streamproc.core.c37118.configuration import TIME_BASE_MASK, Configuration, PmuInfo
from streamproc.core.c37118.data import ABSENT, Layout, Raw, Shape
from streamproc.core.c37118.frame import (
    CFG3,
    DATA,
    FRAME_SIZE_MAX,
    HEADER,
    HEADER_SIZE,
    header_bytes,
    with_crc,
)
from streamproc.values import C128, F64, I64, U8, U16


def encode_header(idcode: int, text: str, *, soc: int = 0, fracsec: int = 0, version: int = 1) -> bytes:
    """Return a header frame; `text` is free."""
    return _frame(HEADER, idcode, text.encode("utf-8"), soc, fracsec, version)


LAST_FRAGMENT = 65535  # CONT_IDX of the last one


def _frame(kind: int, idcode: int, body: bytes, soc: int, fracsec: int, version: int) -> bytes:
    size = HEADER_SIZE + len(body) + 2
    return with_crc(header_bytes(kind, size, idcode, soc, fracsec, version) + body)


def encode_configuration(
    config: Configuration, *, fragment_size: int = FRAME_SIZE_MAX, version: int | None = None
) -> list[bytes]:
    """Return the frame, or the fragments of a CFG-3 that is longer than `fragment_size` bytes.

    Raises ValueError when a CFG-1 or CFG-2 does not fit into one frame.
    """
    write = _write_pmu3 if config.kind == CFG3 else _write_pmu2
    body = (config.time_base & TIME_BASE_MASK).to_bytes(4, "big") + len(config.pmus).to_bytes(2, "big")
    body += b"".join(write(pmu) for pmu in config.pmus) + (config.data_rate & 0xFFFF).to_bytes(2, "big")
    if version is None:
        version = 2 if config.kind == CFG3 else 1  # CFG-3 came with the edition of 2011

    def frame(part: bytes) -> bytes:
        return _frame(config.kind, config.idcode, part, config.soc, config.fracsec, version)

    if config.kind != CFG3:
        if HEADER_SIZE + len(body) + 2 > FRAME_SIZE_MAX:
            raise ValueError(f"a configuration of {len(body)} bytes needs CFG-3: FRAMESIZE has 16 bits")
        return [frame(body)]
    room = fragment_size - HEADER_SIZE - 4
    if len(body) <= room:
        return [frame(b"\0\0" + body)]
    parts = [body[i : i + room] for i in range(0, len(body), room)]
    marks = [*range(1, len(parts)), LAST_FRAGMENT]
    return [frame(mark.to_bytes(2, "big") + part) for mark, part in zip(marks, parts, strict=True)]


def _name16(name: str) -> bytes:
    return name.encode("utf-8")[:16].ljust(16)


def _name_long(name: str) -> bytes:
    raw = name.encode("utf-8")[:255]
    return bytes([len(raw)]) + raw


def _filled(values: Sequence[float], count: int, default: float) -> list[float]:
    return [*values, *[default] * count][:count]


def _write_pmu2(pmu: PmuInfo) -> bytes:
    names = (*pmu.phasor_names, *pmu.analog_names, *pmu.digital_names)
    n_word, n_analog = len(pmu.digital_names) // 16, len(pmu.analog_names)
    factor = [round(f * 1e5) & 0xFFFFFF for f in pmu.phasor_factor]
    phunit = [(1 << 24 if c else 0) | f for c, f in zip(pmu.phasor_is_current, factor, strict=True)]
    scale = [int(f) & 0xFFFFFF for f in _filled(pmu.analog_factor, n_analog, 1)]
    kind = [int(t) for t in _filled(pmu.analog_type, n_analog, 0)]
    anunit = [t << 24 | s for t, s in zip(kind, scale, strict=True)]
    counts = (pmu.idcode, pmu.format, len(pmu.phasor_names), n_analog, n_word)
    fnom = 1 if pmu.nominal_hz == 50.0 else 0
    return b"".join(
        [_name16(pmu.stn), Struct(">5H").pack(*counts), *map(_name16, names)]
        + [unit.to_bytes(4, "big") for unit in (*phunit, *anunit)]
        + [_masks(pmu, n_word), Struct(">2H").pack(fnom, pmu.cfgcnt)]
    )


def _masks(pmu: PmuInfo, n_word: int) -> bytes:
    normal = [int(m) for m in _filled(pmu.digital_normal, n_word, 0)]
    valid = [int(m) for m in _filled(pmu.digital_valid, n_word, 0xFFFF)]
    return b"".join(Struct(">2H").pack(n, v) for n, v in zip(normal, valid, strict=True))


def _write_pmu3(pmu: PmuInfo) -> bytes:
    n_phasor, n_analog, n_word = len(pmu.phasor_names), len(pmu.analog_names), len(pmu.digital_names) // 16
    flags = [int(v) for v in _filled(pmu.phasor_flags, n_phasor, 0)]
    user = [int(v) for v in _filled(pmu.phasor_user, n_phasor, 0)]
    component = [int(v) for v in _filled(pmu.phasor_component, n_phasor, 1)]
    angle = _filled(pmu.phasor_angle_rad, n_phasor, 0.0)
    phscale = b"".join(
        Struct(">HBBff").pack(
            flags[i], component[i] | (8 if pmu.phasor_is_current[i] else 0), user[i], factor, angle[i]
        )
        for i, factor in enumerate(pmu.phasor_factor)
    )
    scale, offset = _filled(pmu.analog_factor, n_analog, 1.0), _filled(pmu.analog_offset, n_analog, 0.0)
    anscale = b"".join(Struct(">ff").pack(s, o) for s, o in zip(scale, offset, strict=True))
    place = Struct(">fff").pack(pmu.latitude_deg, pmu.longitude_deg, pmu.elevation_m)
    svc_class = (pmu.svc_class or "M").encode("latin-1", "replace")[:1]
    names = (*pmu.phasor_names, *pmu.analog_names, *pmu.digital_names)
    fnom = 1 if pmu.nominal_hz == 50.0 else 0
    return b"".join(
        [
            _name_long(pmu.stn),
            Struct(">H16s").pack(pmu.idcode, pmu.global_id),
            Struct(">4H").pack(pmu.format, n_phasor, n_analog, n_word),
            *map(_name_long, names),
            *(phscale, anscale, _masks(pmu, n_word), place, svc_class),
            Struct(">iiHH").pack(pmu.window_us or 0, pmu.grp_dly_us or 0, fnom, pmu.cfgcnt),
        ]
    )


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
    """Return one frame per instant; shapes as in `DataBatch`. NaN is sent as absent, the rest as 0."""
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
    given: dict[str, Raw] = {
        "stat": np.zeros((n_frame, layout.n_pmu), np.uint16) if stat is None else stat,
        "freq": freq_hz,
        "dfreq": np.zeros((n_frame, layout.n_pmu)) if rocof_hz_s is None else rocof_hz_s,
        "phasor": np.zeros((n_frame, layout.phasor_pmu.size), np.complex128) if phasor is None else phasor,
        "analog": np.zeros((n_frame, layout.analog_pmu.size)) if analog is None else analog,
        "digital": np.zeros((n_frame, layout.digital_pmu.size), np.uint16) if digital is None else digital,
    }
    for shape in layout.shapes:
        block = _write_blocks(shape, given, n_frame)
        columns = (shape.starts[:, None] + np.arange(shape.dtype.itemsize)).ravel()
        body[:, columns] = block.view(np.uint8).reshape(n_frame, -1)
    packed = body[:, :-2].tobytes()
    size = layout.frame_size - 2
    return [with_crc(packed[i : i + size]) for i in range(0, n_frame * size, size)]


def _write_blocks(shape: Shape, given: dict[str, Raw], n_frame: int) -> Raw:
    """Return the blocks of these PMUs, structured (n_frame, n_member)."""
    n_pmu = shape.starts.size
    block = np.zeros((n_frame, n_pmu), dtype=shape.dtype)
    names = shape.dtype.names or ()
    freq_hz = np.asarray(given["freq"][:, shape.pmus], dtype=np.float64)
    rocof_hz_s = np.asarray(given["dfreq"][:, shape.pmus], dtype=np.float64)
    integer = block["freq"].dtype.kind == "i"
    block["stat"] = given["stat"][:, shape.pmus]
    with np.errstate(
        all="ignore"
    ):  # what a float32 cannot hold is sent as infinity, what is not a number as absent
        block["freq"] = _to_int((freq_hz - shape.nominal_hz) * 1e3) if integer else freq_hz
        block["dfreq"] = _to_int(rocof_hz_s * 1e2) if integer else rocof_hz_s
        if "phasor" in names:
            values = given["phasor"][:, shape.phasors].reshape(n_frame, n_pmu, -1)
            block["phasor"] = _phasor_words(values, shape, block["phasor"].dtype.kind == "i")
        if "analog" in names:
            analog = np.asarray(given["analog"][:, shape.analogs], dtype=np.float64).reshape(
                n_frame, n_pmu, -1
            )
            words = _over(analog - shape.analog_offset, shape.analog_scale)
            block["analog"] = _to_int(words) if block["analog"].dtype.kind == "i" else words
    if "digital" in names:
        block["digital"] = given["digital"][:, shape.digitals].reshape(n_frame, n_pmu, -1)
    return block


def _over(values: F64, factor: F64) -> F64:
    """Return values / factor; nothing can be sent through a factor of 0."""
    return np.divide(values, factor, out=np.zeros_like(values), where=factor != 0.0)


def _phasor_words(given: Raw, shape: Shape, integer: bool) -> F64 | I64:
    """Return (n_frame, n_pmu, phnmr, 2): the words on the wire. With one half unknown a phasor is unknown."""
    values = np.where(np.isnan(given), complex(np.nan, np.nan), given.astype(np.complex128))
    if shape.angle_rad.any():
        values = values * np.exp(1j * shape.angle_rad)
    if shape.polar:
        first, second = _over(np.abs(values), shape.factor), np.angle(values) * (1e4 if integer else 1.0)
    else:
        first, second = _over(values.real, shape.factor), _over(values.imag, shape.factor)
    if not integer:
        return np.stack([first, second], axis=-1)
    absent = np.isnan(values)
    if shape.polar:
        whole = np.clip(np.rint(np.where(absent, 0.0, first)), 0, 65535).astype(np.uint16).view(np.int16)
        pair = np.stack([whole.astype(np.int64), _to_int(second)], axis=-1)
    else:
        pair = np.stack([_to_int(first), _to_int(second)], axis=-1)
    pair[absent] = ABSENT
    return pair


def _to_int(values: F64) -> I64:
    """Return the words of an integer field: rounded, held within the range, absent for NaN."""
    absent = np.isnan(values)
    whole = np.clip(np.rint(np.where(absent, 0.0, values)), -32767, 32767).astype(np.int64)
    return np.where(absent, ABSENT, whole)

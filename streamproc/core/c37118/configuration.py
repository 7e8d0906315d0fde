"""Configuration frames CFG-1, CFG-2 and CFG-3: bytes to a `Layout` and back (IEEE C37.118.2-2011, 6.4 and 6.5).

A layout is what a data frame needs to be read: one NumPy structured dtype, compiled once, and the table of its channels.
CFG-3 may come in fragments (CONT_IDX); `assemble` puts them together.

Where the standard leaves a choice the raw numbers are kept: PHUNIT type is the most significant byte (0 voltage, 1
current), the factor the low 24 bits in 1e-5 V or A; ANUNIT's low 24 bits are signed. Names keep their bytes' meaning:
ASCII or UTF-8, what cannot be decoded is replaced, padding blanks and NULs are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError

from streamproc.core.c37118.frame import (
    CFG1,
    CFG2,
    CFG3,
    FRAME_SIZE_MAX,
    HEADER_SIZE,
    Reason,
    Rejection,
    header_bytes,
    with_crc,
)

FORMAT_POLAR, FORMAT_PHASOR_FLOAT, FORMAT_ANALOG_FLOAT, FORMAT_FREQ_FLOAT = 1, 2, 4, 8
TIME_BASE_MASK = 0xFFFFFF
FRAGMENTS_MAX = 64
ASSEMBLED_SIZE_MAX = 1 << 20  # bytes of a configuration put together from fragments
LAST_FRAGMENT = 65535
UNKNOWN_LOCATION = float("inf")


@dataclass(frozen=True, slots=True)
class PmuInfo:
    """One PMU of a stream, as its configuration frame describes it."""

    stn: str
    idcode: int
    format: int
    phasor_names: tuple[str, ...]
    phasor_is_current: tuple[bool, ...]
    phasor_factor: tuple[float, ...]  # V or A per bit of an integer phasor
    analog_names: tuple[str, ...]
    digital_names: tuple[str, ...]  # 16 per word
    nominal_hz: float
    cfgcnt: int
    analog_type: tuple[int, ...] = ()  # 0 point on wave, 1 rms, 2 peak
    analog_factor: tuple[float, ...] = ()
    analog_offset: tuple[float, ...] = ()
    digital_normal: tuple[int, ...] = ()  # mask per word
    digital_valid: tuple[int, ...] = ()  # mask per word
    phasor_angle_rad: tuple[
        float, ...
    ] = ()  # CFG-3 only: offset already announced by the PMU, not applied here
    phasor_component: tuple[
        int, ...
    ] = ()  # CFG-3: 0 zero, 1 positive, 2 negative sequence, 4 A, 5 B, 6 C; else ()
    phasor_flags: tuple[int, ...] = ()  # CFG-3: modification flags
    global_id: bytes = b""
    latitude_deg: float = UNKNOWN_LOCATION
    longitude_deg: float = UNKNOWN_LOCATION
    elevation_m: float = UNKNOWN_LOCATION
    svc_class: str = ""
    window_us: int | None = None
    grp_dly_us: int | None = None

    @property
    def polar(self) -> bool:
        """Return whether phasors are magnitude and angle."""
        return bool(self.format & FORMAT_POLAR)

    @property
    def phasor_float(self) -> bool:
        """Return whether phasors are float32."""
        return bool(self.format & FORMAT_PHASOR_FLOAT)

    @property
    def analog_float(self) -> bool:
        """Return whether analogs are float32."""
        return bool(self.format & FORMAT_ANALOG_FLOAT)

    @property
    def freq_float(self) -> bool:
        """Return whether FREQ and DFREQ are float32."""
        return bool(self.format & FORMAT_FREQ_FLOAT)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The content of one configuration frame."""

    kind: int  # CFG1, CFG2 or CFG3
    idcode: int
    time_base: int
    data_rate: int  # > 0 frames per second, < 0 seconds per frame
    pmus: tuple[PmuInfo, ...]
    soc: int = 0
    fracsec: int = 0

    @property
    def rate_hz(self) -> float:
        """Return frames per second."""
        return float(self.data_rate) if self.data_rate > 0 else -1.0 / self.data_rate


@dataclass(slots=True)
class _Cursor:
    """Reads a frame's body from left to right; every read is checked against the end."""

    body: bytes
    at: int = 0
    structs: dict[str, Struct] = field(default_factory=dict)

    def take(self, layout: str) -> tuple[int | float | bytes, ...]:
        unpacker = self.structs.setdefault(layout, Struct(">" + layout))
        values = unpacker.unpack_from(self.body, self.at)
        self.at += unpacker.size
        return values

    def integer(self, layout: str) -> int:
        return int(self.take(layout)[0])

    def integers(self, layout: str, count: int) -> tuple[int, ...]:
        return tuple(int(v) for v in self.take(f"{count}{layout}")) if count else ()

    def name16(self) -> str:
        return _text(self.raw(16))

    def name_long(self) -> str:
        return _text(self.raw(self.integer("B")))

    def raw(self, size: int) -> bytes:
        piece = self.body[self.at : self.at + size]
        if len(piece) != size:
            raise StructError(f"{size} bytes expected at {self.at}, {len(piece)} left")
        self.at += size
        return piece


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").rstrip(" \0")


def parse_configuration(frame: bytes, start: int = 0) -> Configuration | Rejection:
    """Return the configuration in a frame (CRC already checked), or why it is refused. `start` is for the rejection."""
    kind = frame[1] >> 4 & 7
    idcode = int.from_bytes(frame[4:6], "big")

    def refuse(reason: Reason, detail: str) -> Rejection:
        return Rejection(reason, detail, start, len(frame), idcode)

    cursor = _Cursor(frame[HEADER_SIZE:-2])
    try:
        if kind == CFG3:
            cursor.integer("H")  # CONT_IDX
        time_base = cursor.integer("I") & TIME_BASE_MASK
        count = cursor.integer("H")
        if time_base == 0:
            return refuse(Reason.BAD_TIME_BASE, "TIME_BASE: 0, the fraction of a second cannot be told")
        smallest = 30 if kind != CFG3 else 40
        if count == 0 or count * smallest > len(cursor.body):
            return refuse(Reason.BAD_CONFIG, f"NUM_PMU: {count} PMUs do not fit into {len(frame)} bytes")
        read = _read_pmu3 if kind == CFG3 else _read_pmu2
        pmus = tuple(read(cursor) for _ in range(count))
        data_rate = cursor.integer("h")
    except StructError as error:
        return refuse(Reason.BAD_CONFIG, f"the configuration ends early: {error}")
    if data_rate == 0:
        return refuse(Reason.BAD_RATE, "DATA_RATE: 0 is no rate")
    if cursor.at != len(cursor.body):
        left = len(cursor.body) - cursor.at
        return refuse(Reason.BAD_CONFIG, f"{left} bytes are left behind DATA_RATE")
    soc, fracsec = int.from_bytes(frame[6:10], "big"), int.from_bytes(frame[10:14], "big")
    return Configuration(kind, idcode, time_base, data_rate, pmus, soc, fracsec)


def _counts(cursor: _Cursor) -> tuple[int, int, int]:
    phnmr, annmr, dgnmr = cursor.integers("H", 3)
    if (phnmr + annmr + 16 * dgnmr) > len(cursor.body) - cursor.at:  # every name takes at least a byte
        raise StructError(f"PHNMR {phnmr}, ANNMR {annmr}, DGNMR {dgnmr} do not fit")
    return phnmr, annmr, dgnmr


def _read_pmu2(cursor: _Cursor) -> PmuInfo:
    stn = cursor.name16()
    idcode, form = cursor.integers("H", 2)
    phnmr, annmr, dgnmr = _counts(cursor)
    phasor_names = tuple(cursor.name16() for _ in range(phnmr))
    analog_names = tuple(cursor.name16() for _ in range(annmr))
    digital_names = tuple(cursor.name16() for _ in range(16 * dgnmr))
    phunit = cursor.integers("I", phnmr)
    anunit = cursor.integers("I", annmr)
    masks = cursor.integers("H", 2 * dgnmr)
    fnom, cfgcnt = cursor.integers("H", 2)
    return PmuInfo(
        stn=stn,
        idcode=idcode,
        format=form,
        phasor_names=phasor_names,
        phasor_is_current=tuple(unit >> 24 == 1 for unit in phunit),
        phasor_factor=tuple((unit & 0xFFFFFF) * 1e-5 for unit in phunit),
        analog_names=analog_names,
        digital_names=digital_names,
        nominal_hz=50.0 if fnom & 1 else 60.0,
        cfgcnt=cfgcnt,
        analog_type=tuple(unit >> 24 for unit in anunit),
        analog_factor=tuple(float(((unit & 0xFFFFFF) ^ 0x800000) - 0x800000) for unit in anunit),
        analog_offset=(0.0,) * annmr,
        digital_normal=masks[0::2],
        digital_valid=masks[1::2],
    )


def _read_pmu3(cursor: _Cursor) -> PmuInfo:
    stn = cursor.name_long()
    idcode = cursor.integer("H")
    global_id = cursor.raw(16)
    form = cursor.integer("H")
    phnmr, annmr, dgnmr = _counts(cursor)
    phasor_names = tuple(cursor.name_long() for _ in range(phnmr))
    analog_names = tuple(cursor.name_long() for _ in range(annmr))
    digital_names = tuple(cursor.name_long() for _ in range(16 * dgnmr))
    phscale = [cursor.take("HBBff") for _ in range(phnmr)]
    anscale = [cursor.take("ff") for _ in range(annmr)]
    masks = cursor.integers("H", 2 * dgnmr)
    latitude, longitude, elevation = (float(v) for v in cursor.take("fff"))
    svc_class = cursor.raw(1).decode("ascii", "replace")
    window_us, grp_dly_us = cursor.integers("i", 2)
    fnom, cfgcnt = cursor.integers("H", 2)
    return PmuInfo(
        stn=stn,
        idcode=idcode,
        format=form,
        phasor_names=phasor_names,
        phasor_is_current=tuple(bool(int(p[1]) & 8) for p in phscale),
        phasor_factor=tuple(float(p[3]) for p in phscale),
        analog_names=analog_names,
        digital_names=digital_names,
        nominal_hz=50.0 if fnom & 1 else 60.0,
        cfgcnt=cfgcnt,
        analog_type=(0,) * annmr,
        analog_factor=tuple(float(a[0]) for a in anscale),
        analog_offset=tuple(float(a[1]) for a in anscale),
        digital_normal=masks[0::2],
        digital_valid=masks[1::2],
        phasor_angle_rad=tuple(float(p[4]) for p in phscale),
        phasor_component=tuple(int(p[1]) & 7 for p in phscale),
        phasor_flags=tuple(int(p[0]) for p in phscale),
        global_id=global_id,
        latitude_deg=latitude,
        longitude_deg=longitude,
        elevation_m=elevation,
        svc_class=svc_class,
        window_us=window_us,
        grp_dly_us=grp_dly_us,
    )


def assemble(fragments: Sequence[bytes]) -> bytes | None:
    """Return one CFG-3 frame out of its fragments in order, None when they do not follow one another."""
    marks = [int.from_bytes(f[HEADER_SIZE : HEADER_SIZE + 2], "big") for f in fragments]
    if marks != [*range(1, len(fragments)), LAST_FRAGMENT]:
        return None
    body = b"".join(f[HEADER_SIZE + 2 : -2] for f in fragments)
    # FRAMESIZE cannot hold a configuration longer than a frame; it is not read again after this.
    head = fragments[-1][:2] + b"\xff\xff" + fragments[-1][4:HEADER_SIZE]
    return with_crc(head + b"\0\0" + body)


def encode_configuration(config: Configuration, *, fragment_size: int = FRAME_SIZE_MAX) -> list[bytes]:
    """Return the frame, or the fragments of a CFG-3 that is longer than `fragment_size` bytes.

    Raises ValueError when a CFG-1 or CFG-2 does not fit into one frame.
    """
    write = _write_pmu3 if config.kind == CFG3 else _write_pmu2
    body = (config.time_base & TIME_BASE_MASK).to_bytes(4, "big") + len(config.pmus).to_bytes(2, "big")
    body += b"".join(write(pmu) for pmu in config.pmus) + (config.data_rate & 0xFFFF).to_bytes(2, "big")
    version = 1 if config.kind != CFG3 else 2

    def frame(part: bytes) -> bytes:
        size = HEADER_SIZE + len(part) + 2
        return with_crc(
            header_bytes(config.kind, size, config.idcode, config.soc, config.fracsec, version) + part
        )

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
    component = [int(v) for v in _filled(pmu.phasor_component, n_phasor, 1)]
    angle = _filled(pmu.phasor_angle_rad, n_phasor, 0.0)
    phscale = b"".join(
        Struct(">HBBff").pack(
            flags[i], component[i] | (8 if pmu.phasor_is_current[i] else 0), 0, factor, angle[i]
        )
        for i, factor in enumerate(pmu.phasor_factor)
    )
    scale, offset = _filled(pmu.analog_factor, n_analog, 1.0), _filled(pmu.analog_offset, n_analog, 0.0)
    anscale = b"".join(Struct(">ff").pack(s, o) for s, o in zip(scale, offset, strict=True))
    place = Struct(">fff").pack(pmu.latitude_deg, pmu.longitude_deg, pmu.elevation_m)
    svc_class = (pmu.svc_class or "M").encode("ascii", "replace")[:1]
    names = (*pmu.phasor_names, *pmu.analog_names, *pmu.digital_names)
    fnom = 1 if pmu.nominal_hz == 50.0 else 0
    return b"".join(
        [_name_long(pmu.stn), pmu.idcode.to_bytes(2, "big"), pmu.global_id[:16].ljust(16, b"\0")]
        + [Struct(">4H").pack(pmu.format, n_phasor, n_analog, n_word), *map(_name_long, names)]
        + [phscale, anscale, _masks(pmu, n_word), place, svc_class]
        + [Struct(">ii").pack(pmu.window_us or 0, pmu.grp_dly_us or 0), Struct(">2H").pack(fnom, pmu.cfgcnt)]
    )


__all__ = [
    "CFG1",
    "CFG2",
    "CFG3",
    "Configuration",
    "PmuInfo",
    "assemble",
    "encode_configuration",
    "parse_configuration",
]

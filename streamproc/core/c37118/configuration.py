"""Configuration frames CFG-1, CFG-2 and CFG-3: bytes to values (IEEE C37.118.2-2011, 6.4 and 6.5).

    CFG-1, CFG-2            TIME_BASE  NUM_PMU  PMU ...  DATA_RATE      names of 16 bytes, factors as integers
    CFG-3         CONT_IDX  TIME_BASE  NUM_PMU  PMU ...  DATA_RATE      names with a length, factors as
    floats, location

Where the standard leaves a choice the raw numbers are kept: PHUNIT's type is the most significant byte (0
voltage, else current), the factor the low 24 bits in 1e-5 V or A; ANUNIT's low 24 bits are signed. Names keep
their bytes' meaning: ASCII or UTF-8; what cannot be decoded is replaced, padding blanks and NULs are cut.

Nothing is believed before it is counted: the numbers of PMUs and channels must fit into the bytes that are
there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from struct import error as EndOfBody  # noqa: N812 - what it means here

from streamproc.core.c37118.frame import CFG3, HEADER_SIZE, Reason, Rejection

FORMAT_POLAR, FORMAT_PHASOR_FLOAT, FORMAT_ANALOG_FLOAT, FORMAT_FREQ_FLOAT = 1, 2, 4, 8
FORMAT_BITS = 15  # the others are not used
TIME_BASE_MASK = 0xFFFFFF
PMU_SIZE_MIN = {2: 30, 3: 52}  # bytes of a PMU without channels in a CFG-1 or CFG-2, and in a CFG-3
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
    phasor_angle_rad: tuple[float, ...] = ()  # CFG-3: taken from the angle of integer phasors
    phasor_component: tuple[int, ...] = ()  # CFG-3: 0 zero, 1 positive, 2 negative sequence, 4 A, 5 B, 6 C
    phasor_flags: tuple[int, ...] = ()  # CFG-3: what was done to the samples, bits 15-0
    phasor_user: tuple[int, ...] = ()  # CFG-3: user flags
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
            raise EndOfBody(f"{size} bytes expected at {self.at}, {len(piece)} left")
        self.at += size
        return piece


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").rstrip(" \0")


def parse_configuration(
    frame: bytes, start: int = 0, *, body: bytes | None = None
) -> Configuration | Rejection:
    """Return the configuration in a frame (CRC already checked), or why it is refused.

    `start` is for the rejection. `body` is what follows CONT_IDX when a CFG-3 was put together from
    fragments.
    """
    kind = frame[1] >> 4 & 7
    idcode = int.from_bytes(frame[4:6], "big")

    def refuse(reason: Reason, detail: str) -> Rejection:
        return Rejection(reason, detail, start, len(frame), idcode)

    cursor = _Cursor(frame[HEADER_SIZE + (2 if kind == CFG3 else 0) : -2] if body is None else body)
    try:
        time_base = cursor.integer("I") & TIME_BASE_MASK
        count = cursor.integer("H")
        if time_base == 0:
            return refuse(Reason.BAD_TIME_BASE, "TIME_BASE: 0, the fraction of a second cannot be told")
        if count == 0 or count * PMU_SIZE_MIN[3 if kind == CFG3 else 2] > len(cursor.body):
            return refuse(Reason.BAD_CONFIG, f"NUM_PMU: {count} PMUs in {len(cursor.body)} bytes")
        read = _read_pmu3 if kind == CFG3 else _read_pmu2
        pmus = tuple(read(cursor) for _ in range(count))
        data_rate = cursor.integer("h")
    except EndOfBody as error:
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
        raise EndOfBody(f"PHNMR {phnmr}, ANNMR {annmr}, DGNMR {dgnmr} do not fit")
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
        phasor_is_current=tuple(unit >> 24 != 0 for unit in phunit),
        phasor_factor=tuple((unit & 0xFFFFFF) / 1e5 for unit in phunit),
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
    svc_class = cursor.raw(1).decode("latin-1")
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
        phasor_user=tuple(int(p[2]) for p in phscale),
        global_id=global_id,
        latitude_deg=latitude,
        longitude_deg=longitude,
        elevation_m=elevation,
        svc_class=svc_class,
        window_us=window_us,
        grp_dly_us=grp_dly_us,
    )

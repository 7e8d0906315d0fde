"""A seeded fleet of PMUs as C37.118 frames, with events whose truth is known.

One synchronous system. Its frequency wanders as an Ornstein-Uhlenbeck process, the same for all PMUs; each
PMU adds the answer of its own place to every event (`streamproc.simulate.events`). The angle is the integral
of the PMU's frequency, so the two never contradict each other.

Measurement noise is the tier T1 of the detection studies: 0.0003 pu, 0.5 mHz, 0.02 degrees. Whole seconds are
made from (seed, second), so the same fleet gives the same bytes however many seconds are asked for at a time.

Not modelled: the filter of a PMU (a step is one frame wide here), load steps, tap changers, more than one
swing mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamproc.core.c37118 import (
    CFG2,
    Book,
    Configuration,
    Layout,
    PmuInfo,
    encode_configuration,
    encode_data,
)
from streamproc.simulate.events import ABSENT_STAT, EventKind, GridEvent, effect
from streamproc.values import C128, F64, I64, TOPIC_CONFIG, TOPIC_FRAMES, U16, Record

NOISE_PU, NOISE_HZ, NOISE_RAD, NOISE_HZ_S = 3e-4, 5e-4, 3.5e-4, 0.01  # tier T1; 0.02 degrees
AMBIENT_HZ, AMBIENT_MEMORY_S = 8e-3, 40.0  # standard deviation and memory of the common frequency
AMBIENT_PU, AMBIENT_PU_MEMORY_S = 5e-4, 30.0  # of each voltage
CURRENT_A, CURRENT_LAG_RAD = 200.0, 0.3  # of the feeder that each PMU also measures


@dataclass(frozen=True, slots=True)
class Truth:
    """What an ideal detector would say: kind, first and last instant, and the PMU concerned first."""

    kind: EventKind
    family: Literal["grid", "quality"]
    start_ns: int
    until_ns: int | None  # None: it does not end by itself
    source: str


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The fleet: one PDC stream with all PMUs, or with `separate` one stream (and one frame) per PMU."""

    n_pmu: int = 40
    rate_hz: int = 30
    nominal_hz: float = 60.0
    nominal_kv: float = 230.0  # line to line
    seed: int = 1
    start_ns: int = 1_700_000_000_000_000_000  # of the first frame; a whole second
    idcode: int = 700
    name: str = "STATION"
    integer_format: bool = False
    separate: bool = False
    events: tuple[GridEvent, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """One second of all PMUs: arrays (n_frame, n_pmu), NaN where a PMU is absent."""

    t_ns: I64
    freq_hz: F64
    rocof_hz_s: F64
    voltage_pu: F64
    angle_rad: F64
    stat: U16


class Fleet:
    """Makes the seconds of a fleet, one after the other."""

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings
        self.place: F64 = np.linspace(0.0, 1.0, settings.n_pmu)
        self.names = tuple(f"{settings.name} {number:02d}" for number in range(1, settings.n_pmu + 1))
        self.configs = _configs(settings, self.names)
        self.layouts = _layouts(self.configs)
        rng = np.random.default_rng([settings.seed, 0])
        self._angle_rad: F64 = rng.uniform(-0.4, 0.4, settings.n_pmu) - 0.6 * self.place
        self._ambient_hz: F64 = rng.normal(0.0, AMBIENT_HZ, 1)
        self._ambient_pu: F64 = rng.normal(0.0, AMBIENT_PU, settings.n_pmu)
        self._level_pu: F64 = 1.0 + rng.normal(0.0, 0.01, settings.n_pmu)
        self._last_hz: F64 | None = None
        self._second = 0

    def truths(self) -> list[Truth]:
        """Return the truth of every event, in the order of the settings."""
        return [self._truth(event) for event in self.settings.events]

    def _truth(self, event: GridEvent) -> Truth:
        one = event.kind in {"drop_out", "clock_unlocked"}
        start_ns = self.settings.start_ns + round(event.start_s * 1e9)
        ends = one or event.kind == "oscillation"
        nearest = event.pmu if one else int(np.argmin(np.abs(self.place - event.at)))
        until_ns = start_ns + round(event.duration_s * 1e9) if ends else None
        return Truth(event.kind, "quality" if one else "grid", start_ns, until_ns, self.names[nearest])

    def seconds(self, count: int) -> Iterator[Second]:
        """Yield the next `count` seconds."""
        for _ in range(count):
            yield self._make()

    def instants(self, count: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (t_ns, its frames) for the next seconds. A stream whose PMU is absent sends nothing then."""
        for second in self.seconds(count):
            streams = self.encode(second)
            absent = (second.stat & ABSENT_STAT != 0).T if self.settings.separate else None
            for tick, t_ns in enumerate(second.t_ns.tolist()):
                yield (
                    t_ns,
                    [
                        frames[tick]
                        for number, frames in enumerate(streams)
                        if absent is None or not absent[number, tick]
                    ],
                )

    def encode(self, second: Second) -> list[list[bytes]]:
        """Return the frames of a second: per stream one frame per instant."""
        base_v = self.settings.nominal_kv * 1e3 / np.sqrt(3.0)
        turn = np.exp(1j * second.angle_rad)
        voltage: C128 = second.voltage_pu * base_v * turn
        current: C128 = second.voltage_pu * CURRENT_A * turn * np.exp(-1j * CURRENT_LAG_RAD)
        streams = []
        first = 0
        for layout in self.layouts:
            pmus = slice(first, first + layout.n_pmu)
            first += layout.n_pmu
            phasor = np.stack([voltage[:, pmus], current[:, pmus]], axis=2)  # (n_frame, n_pmu, 2)
            frames = encode_data(
                layout,
                second.t_ns,
                second.freq_hz[:, pmus],
                rocof_hz_s=second.rocof_hz_s[:, pmus],
                phasor=phasor.reshape(second.t_ns.size, -1),
                stat=second.stat[:, pmus],
            )
            streams.append(frames)
        return streams

    def _make(self) -> Second:
        settings, rate = self.settings, self.settings.rate_hz
        rng = np.random.default_rng([settings.seed, 1, self._second])
        tick = np.arange(self._second * rate, (self._second + 1) * rate)
        self._second += 1
        t_s: F64 = tick / rate
        shape = (rate, settings.n_pmu)
        common_hz = _walk(rng, self._ambient_hz, AMBIENT_HZ, AMBIENT_MEMORY_S * rate, rate)
        ambient_pu = _walk(rng, self._ambient_pu, AMBIENT_PU, AMBIENT_PU_MEMORY_S * rate, rate)
        self._ambient_hz, self._ambient_pu = common_hz[-1], ambient_pu[-1]
        effects = [effect(event, t_s, self.place) for event in settings.events]
        deviation_hz = common_hz + sum((made.freq_hz for made in effects), np.zeros(shape))
        voltage_pu = self._level_pu + ambient_pu + sum((made.voltage_pu for made in effects), np.zeros(shape))
        stat = np.bitwise_or.reduce([np.zeros(shape, dtype=np.uint16), *(made.stat for made in effects)])
        turned = self._angle_rad + np.cumsum(2 * np.pi * deviation_hz / rate, axis=0)
        self._angle_rad = turned[-1]
        before = deviation_hz[0] if self._last_hz is None else self._last_hz
        self._last_hz = deviation_hz[-1]
        rocof_hz_s = np.diff(np.concatenate([before[None], deviation_hz]), axis=0) * rate
        absent = np.where(stat & ABSENT_STAT != 0, np.nan, 0.0)
        return Second(
            t_ns=settings.start_ns + np.rint(tick * (1e9 / rate)).astype(np.int64),
            freq_hz=absent + settings.nominal_hz + deviation_hz + rng.normal(0, NOISE_HZ, shape),
            rocof_hz_s=absent + rocof_hz_s + rng.normal(0, NOISE_HZ_S, shape),
            voltage_pu=absent + voltage_pu + rng.normal(0, NOISE_PU, shape),
            angle_rad=sum((made.angle_rad for made in effects), turned) + rng.normal(0, NOISE_RAD, shape),
            stat=stat,
        )


def fleet_records(fleet: Fleet, area: str, seconds: int) -> Iterator[Record]:
    """Yield a fleet as records of an area: its configurations, then one record per instant."""
    key, start_ms = area.encode(), fleet.settings.start_ns // 1_000_000
    for layout, frame in zip(fleet.layouts, fleet.configs, strict=True):
        yield Record(TOPIC_CONFIG, 0, 0, start_ms, b"%d" % layout.idcode, frame)
    yield Record(TOPIC_FRAMES, 0, 0, start_ms, key, b"".join(fleet.configs))
    for t_ns, frames in fleet.instants(seconds):
        if frames:
            yield Record(TOPIC_FRAMES, 0, 0, t_ns // 1_000_000, key, b"".join(frames))


def _walk(rng: np.random.Generator, start: F64, sd: float, memory_rows: float, n_row: int) -> F64:
    """Return (n_row, width): the next rows of an Ornstein-Uhlenbeck process that stands at `start`."""
    keep = float(np.exp(-1.0 / memory_rows))
    path = rng.normal(0.0, sd * np.sqrt(1.0 - keep**2), (n_row, start.size))
    path[0] += keep * start
    for row in range(1, n_row):
        path[row] += keep * path[row - 1]
    return path


def _configs(settings: FleetSettings, names: Sequence[str]) -> list[bytes]:
    """Return the CFG-2 frame of each stream."""
    base_v = settings.nominal_kv * 1e3 / np.sqrt(3.0)
    volts, amperes = base_v * 2.0 / 65535, CURRENT_A * 10.0 / 65535  # per bit of an integer magnitude

    def pmu(number: int, stn: str) -> PmuInfo:
        return PmuInfo(
            stn=stn,
            idcode=settings.idcode + number,
            format=1 if settings.integer_format else 1 | 2 | 8,
            phasor_names=("VPOS", "IPOS"),
            phasor_is_current=(False, True),
            phasor_factor=(volts, amperes),
            analog_names=(),
            digital_names=(),
            nominal_hz=settings.nominal_hz,
            cfgcnt=1,
        )

    infos = [pmu(number, stn) for number, stn in enumerate(names, 1)]
    streams = [(info,) for info in infos] if settings.separate else [tuple(infos)]
    soc = settings.start_ns // 1_000_000_000
    return [
        encode_configuration(
            Configuration(CFG2, settings.idcode + number, 1_000_000, settings.rate_hz, stream, soc)
        )[0]
        for number, stream in enumerate(streams)
    ]


def _layouts(configs: Sequence[bytes]) -> list[Layout]:
    """Return what a receiver makes of the configurations: factors are rounded on the wire."""
    book = Book()
    for frame in configs:
        book, _ = book.learn(frame)
    return [book.layouts[int.from_bytes(frame[4:6], "big")] for frame in configs]

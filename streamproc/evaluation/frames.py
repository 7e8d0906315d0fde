"""Arrays into the C37.118 frames of one stream, as a PDC sends them: float format, polar, clock locked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamproc.core.c37118 import (
    CFG2,
    CFG3,
    Configuration,
    Layout,
    PmuInfo,
    compile_layout,
    encode_configuration,
    encode_data,
)
from streamproc.evaluation.noise import Signals
from streamproc.values import I64, TOPIC_CONFIG, TOPIC_FRAMES, Record

AREA = "corpus"
STREAM_IDCODE = 1
START_NS = 1_700_000_000_000_000_000  # of the first frame of every run; a whole second
BASE_V = 345e3 / np.sqrt(3.0)  # V to ground that stand for 1 pu; the site learns it, nobody is told
CHUNK_BYTES = 32 << 20  # frames made at once


@dataclass(frozen=True, slots=True)
class Stream:
    """The configuration of a corpus' PMUs."""

    layout: Layout
    config: tuple[bytes, ...]

    @classmethod
    def of(cls, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> Stream:
        """Return the stream of these PMUs, each with one voltage phasor."""
        pmus = tuple(
            PmuInfo(
                stn=name,
                idcode=number,
                format=1 | 2 | 8,  # polar, float phasors, float FREQ and DFREQ
                phasor_names=("V1",),
                phasor_is_current=(False,),
                phasor_factor=(1.0,),
                analog_names=(),
                digital_names=(),
                nominal_hz=nominal_hz,
                cfgcnt=0,
                phasor_component=(1,),
            )
            for number, name in enumerate(stations, 1)
        )
        long = len(stations) > 1000 or any(len(name.encode()) > 16 for name in stations)
        config = Configuration(CFG3 if long else CFG2, STREAM_IDCODE, 1_000_000, round(rate_hz), pmus)
        frames = encode_configuration(config)
        return cls(compile_layout(config, b"".join(frames)), tuple(frames))

    def times_ns(self, n_frame: int, first: int = 0) -> I64:
        """Return the time of frames of a run, from its frame `first` on."""
        since_ns: I64 = np.rint((first + np.arange(n_frame)) * (1e9 / self.layout.rate_hz)).astype(np.int64)
        return START_NS + since_ns

    def configuration(self) -> Iterator[Record]:
        """Yield the configuration as its topic has it, and in front of the frames."""
        start_ms = START_NS // 1_000_000
        for frame in self.config:
            yield Record(TOPIC_CONFIG, 0, 0, start_ms, b"%d" % STREAM_IDCODE, frame)
        yield Record(TOPIC_FRAMES, 0, 0, start_ms, AREA.encode(), b"".join(self.config))

    def records(self, signals: Signals) -> Iterator[Record]:
        """Yield the configuration, then one record per frame that is sent."""
        yield from self.configuration()
        yield from self.data(signals)

    def data(self, signals: Signals, first: int = 0) -> Iterator[Record]:
        """Yield one record per frame that is sent; the signals begin with frame `first` of the run."""
        key = AREA.encode()
        times_ns = self.times_ns(signals.freq_hz.shape[0], first)
        step = max(1, CHUNK_BYTES // self.layout.frame_size)
        for start in range(0, times_ns.size, step):
            part = slice(start, start + step)
            for row, frame in enumerate(self._frames(signals, times_ns, part), start):
                if frame:
                    t_ms = int(times_ns[row]) // 1_000_000
                    yield Record(TOPIC_FRAMES, 0, 1 + first + row, t_ms, key, frame)

    def _frames(self, signals: Signals, times_ns: I64, part: slice[int, int, None]) -> list[bytes]:
        """Return the frames of some rows, b"" for one that is lost."""
        phasor = signals.voltage_pu[part] * BASE_V * np.exp(1j * signals.angle_rad[part])
        freq_hz = signals.freq_hz[part]
        before = signals.freq_hz[max(0, part.start - 1)]
        rocof_hz_s = np.diff(freq_hz, axis=0, prepend=before[None]) * self.layout.rate_hz
        frames = encode_data(
            self.layout,
            times_ns[part],
            freq_hz,
            phasor=phasor,
            rocof_hz_s=rocof_hz_s,
            stat=signals.stat[part],
        )
        if signals.sent is None:
            return frames
        return [
            frame if sent else b"" for frame, sent in zip(frames, signals.sent[part].tolist(), strict=True)
        ]

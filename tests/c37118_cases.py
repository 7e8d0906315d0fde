"""Configurations and frames that the C37.118 tests share."""

from __future__ import annotations

import numpy as np

from streamproc.core.c37118 import (
    CFG2,
    Configuration,
    Layout,
    PmuInfo,
    compile_layout,
    encode_configuration,
    encode_data,
)
from streamproc.values import I64

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_000 * SECOND_NS


def pmu(form: int = 11, *, n_phasor: int = 1, n_analog: int = 0, n_word: int = 0, **more: object) -> PmuInfo:
    """One PMU; phasors take turns as voltage and current."""
    fields: dict[str, object] = {
        "stn": "STATION",
        "idcode": 9,
        "format": form,
        "phasor_names": tuple(f"P{i}" for i in range(n_phasor)),
        "phasor_is_current": tuple(i % 2 == 1 for i in range(n_phasor)),
        "phasor_factor": tuple(0.5 + i for i in range(n_phasor)),
        "analog_names": tuple(f"A{i}" for i in range(n_analog)),
        "analog_type": (1,) * n_analog,
        "analog_factor": (1.0,) * n_analog,
        "analog_offset": (0.0,) * n_analog,
        "digital_names": tuple(f"D{i}" for i in range(16 * n_word)),
        "digital_normal": (0x00F0,) * n_word,
        "digital_valid": (0x0FFF,) * n_word,
        "nominal_hz": 50.0,
        "cfgcnt": 1,
    }
    return PmuInfo(**{**fields, **more})  # type: ignore[arg-type]


def configuration(*pmus: PmuInfo, kind: int = CFG2, idcode: int = 7, **more: int) -> Configuration:
    """A stream of 50 frames per second."""
    fields = {"time_base": 1_000_000, "data_rate": 50, **more}
    return Configuration(kind=kind, idcode=idcode, pmus=pmus, **fields)


def stream(*pmus: PmuInfo, kind: int = CFG2, idcode: int = 7, **more: int) -> tuple[bytes, Layout]:
    """The configuration frame of a stream, and its layout."""
    config = configuration(*pmus, kind=kind, idcode=idcode, **more)
    frame = b"".join(encode_configuration(config))
    return frame, compile_layout(config, frame)


def instants(count: int, rate_hz: int = 50) -> I64:
    """Times of `count` frames."""
    return START_NS + np.arange(count, dtype=np.int64) * SECOND_NS // rate_hz


def frames(layout: Layout, count: int, seed: int = 0) -> list[bytes]:
    """Data frames with plausible random content."""
    rng = np.random.default_rng(seed)
    phasor = rng.uniform(90, 110, (count, layout.phasor_pmu.size)) * np.exp(
        1j * rng.uniform(-3, 3, (count, layout.phasor_pmu.size))
    )
    return encode_data(
        layout,
        instants(count),
        layout.nominal_hz + 0.05 * rng.standard_normal((count, layout.n_pmu)),
        rocof_hz_s=rng.standard_normal((count, layout.n_pmu)),
        phasor=phasor,
        analog=rng.integers(-99, 99, (count, layout.analog_pmu.size)).astype(np.float64),
        digital=rng.integers(0, 65536, (count, layout.digital_pmu.size)).astype(np.uint16),
    )

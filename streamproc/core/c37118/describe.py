"""Frames as plain dictionaries, for people and for scripts: everything that is in a frame, in SI units and raw.

What the PMU marked as absent is None in the engineering value and as sent in `raw`. A polar phasor keeps the angle that was
sent (an integer 31416 is 180.0004 degrees, not -179.9996). `fracsec` is the 24-bit fraction and `time_quality` the code
MSG_TQ (0 locked .. 15 clock failure); the leap bits stand beside them, and `fracsec_word` is all 32 bits as sent.
STAT bits 15-14 are given in both readings: one code (2011) and two flags (2005).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from streamproc.core.c37118.configuration import Configuration, PmuInfo
from streamproc.core.c37118.data import DataBatch, Layout
from streamproc.core.c37118.frame import CFG3, COMMAND, HEADER_SIZE, TYPE_NAMES

Plain = dict[str, Any]
DATA_ERROR = ("good", "pmu_error_no_information", "test_mode_or_absent", "pmu_error_do_not_use")
UNLOCKED = ("locked_or_below_10_s", "10_to_100_s", "100_to_1000_s", "above_1000_s")
TRIGGERS = (
    ("manual", "magnitude_low", "magnitude_high", "phase_angle_difference", "frequency_high_or_low")
    + ("rocof_high", "reserved", "digital")
    + ("user",) * 8
)
COMMANDS = {
    1: "data_transmission_off",
    2: "data_transmission_on",
    3: "send_header",
    4: "send_cfg1",
    5: "send_cfg2",
    6: "send_cfg3",
    8: "extended_frame",
}
COMPONENTS = (
    *("zero_sequence", "positive_sequence", "negative_sequence", "reserved"),
    *("phase_a", "phase_b", "phase_c", "reserved"),
)
ANALOG_TYPES = {0: "single_point_on_wave", 1: "rms", 2: "peak"}


@lru_cache(maxsize=65536)
def stat_fields(stat: int) -> Plain:
    """Return what the bits of a STAT word mean (IEEE C37.118.2-2011, Table 7), in a dictionary that is shared."""
    return {
        "data_error": stat >> 14,
        "data_error_text": DATA_ERROR[stat >> 14],
        "data_invalid": bool(stat & 0x8000),
        "pmu_error": bool(stat & 0x4000),
        "sync_error": bool(stat & 0x2000),
        "sorted_by_arrival": bool(stat & 0x1000),
        "trigger": bool(stat & 0x0800),
        "config_change": bool(stat & 0x0400),
        "data_modified": bool(stat & 0x0200),
        "pmu_time_quality": stat >> 6 & 7,
        "unlocked_time": stat >> 4 & 3,
        "unlocked_time_text": UNLOCKED[stat >> 4 & 3],
        "trigger_reason": stat & 15,
        "trigger_reason_text": TRIGGERS[stat & 15],
    }


@lru_cache(maxsize=256)
def time_fields(quality: int) -> Plain:
    """Return what the high byte of FRACSEC means. Direction 1: a second is deleted (GSF; tshark says the reverse)."""
    return {
        "time_quality": quality & 15,
        "leap_second_direction": quality >> 6 & 1,
        "leap_second_occurred": bool(quality & 0x20),
        "leap_second_pending": bool(quality & 0x10),
    }


def head_of(frame: bytes, time_base: int | None = None) -> Plain:
    """Return the fields that every frame has, of a frame with a good CRC. `ts` is None as long as TIME_BASE is unknown."""
    soc, word = int.from_bytes(frame[6:10], "big"), int.from_bytes(frame[10:14], "big")
    fraction = word & 0xFFFFFF
    fits = bool(time_base) and fraction < (time_base or 0)
    t_ns = soc * 1_000_000_000 + (fraction * 1_000_000_000 // time_base if fits and time_base else 0)
    return {
        "type": TYPE_NAMES[frame[1] >> 4 & 7],
        "version": frame[1] & 15,
        "size": len(frame),
        "idcode": int.from_bytes(frame[4:6], "big"),
        "soc": soc,
        "fracsec": fraction,
        "fracsec_word": word,
        "time_base": time_base,
        "ts": iso(t_ns) if fits else None,
        "crc_ok": True,
        **time_fields(word >> 24),
    }


def iso(t_ns: int) -> str:
    """Return a time as ISO 8601 with microseconds."""
    return str(np.datetime_as_string(np.datetime64(t_ns, "ns").astype("datetime64[us]"))) + "Z"


def describe_command(frame: bytes, time_base: int | None = None) -> Plain:
    """Return a command frame's fields; `extended` are the bytes behind CMD."""
    code = int.from_bytes(frame[HEADER_SIZE : HEADER_SIZE + 2], "big")
    name = COMMANDS.get(code, "user_designated" if 0x0100 <= code <= 0x0FFF else "reserved")
    return {
        **head_of(frame, time_base),
        "command": code,
        "command_text": name,
        "extended": frame[HEADER_SIZE + 2 : -2].hex(),
    }


def describe_header(frame: bytes, time_base: int | None = None) -> Plain:
    """Return a header frame's fields and its text."""
    text = frame[HEADER_SIZE:-2].decode("utf-8", "replace")
    return {**head_of(frame, time_base), "text": text}


def describe_other(frame: bytes, time_base: int | None = None) -> Plain:
    """Return a frame that is neither data nor a configuration."""
    is_command = frame[1] >> 4 & 7 == COMMAND
    return describe_command(frame, time_base) if is_command else describe_header(frame, time_base)


def describe_configuration(config: Configuration, frame: bytes) -> Plain:
    """Return all of a configuration. `frame` is the one that brought it, of a CFG-3 in fragments the last."""
    return {
        **head_of(frame, config.time_base),
        "data_rate": config.data_rate,
        "rate_hz": config.rate_hz,
        "pmus": [_configured(pmu, config.kind) for pmu in config.pmus],
    }


def _configured(pmu: PmuInfo, kind: int) -> Plain:
    described: Plain = {
        "stn": pmu.stn,
        "idcode": pmu.idcode,
        "format": pmu.format,
        "format_fields": {
            "phasor_polar": pmu.polar,
            "phasor_float": pmu.phasor_float,
            "analog_float": pmu.analog_float,
            "freq_float": pmu.freq_float,
        },
        "phasors": [_configured_phasor(pmu, i, kind) for i in range(len(pmu.phasor_names))],
        "analogs": [_configured_analog(pmu, i) for i in range(len(pmu.analog_names))],
        "digitals": [_configured_digital(pmu, i) for i in range(len(pmu.digital_names) // 16)],
        "nominal_hz": pmu.nominal_hz,
        "cfgcnt": pmu.cfgcnt,
    }
    if kind == CFG3:
        described |= {
            "global_id": pmu.global_id.hex(),
            "latitude_deg": pmu.latitude_deg,
            "longitude_deg": pmu.longitude_deg,
            "elevation_m": pmu.elevation_m,
            "svc_class": pmu.svc_class,
            "window_us": pmu.window_us,
            "grp_dly_us": pmu.grp_dly_us,
        }
    return described


def _configured_phasor(pmu: PmuInfo, index: int, kind: int) -> Plain:
    described: Plain = {
        "name": pmu.phasor_names[index],
        "type": phasor_type(pmu, index),
        "unit": "A" if pmu.phasor_is_current[index] else "V",
        "factor": pmu.phasor_factor[index],
    }
    if kind == CFG3:
        described["angle_offset_rad"] = pmu.phasor_angle_rad[index]
        described["component"] = COMPONENTS[pmu.phasor_component[index] & 7]
        described["modification_flags"] = pmu.phasor_flags[index]
    return described


def _configured_analog(pmu: PmuInfo, index: int) -> Plain:
    code = pmu.analog_type[index]
    return {
        "name": pmu.analog_names[index],
        "type": ANALOG_TYPES.get(code, "user" if code >= 65 else "reserved"),
        "type_code": code,
        "factor": pmu.analog_factor[index],
        "offset": pmu.analog_offset[index],
    }


def _configured_digital(pmu: PmuInfo, index: int) -> Plain:
    return {
        "names": list(pmu.digital_names[16 * index : 16 * index + 16]),
        "normal_mask": pmu.digital_normal[index],
        "valid_mask": pmu.digital_valid[index],
    }


def phasor_type(pmu: PmuInfo, index: int) -> str:
    """Return whether a phasor is a voltage or a current."""
    return "current" if pmu.phasor_is_current[index] else "voltage"


def describe_data(batch: DataBatch, frames: Sequence[bytes]) -> list[Plain]:
    """Return one dictionary per frame of the batch; `frames` are its bytes, in the same order."""
    layout = batch.layout
    rows = np.frombuffer(b"".join(frames), dtype=layout.dtype)
    stamps = np.datetime_as_string(batch.t_ns.astype("datetime64[ns]").astype("datetime64[us]")).tolist()
    word = rows["fracsec"].astype(np.uint32)
    columns = zip(
        frames,
        batch.soc.tolist(),
        (word & np.uint32(0xFFFFFF)).tolist(),
        word.tolist(),
        stamps,
        zip(*_all_pmus(batch, rows), strict=True),
        strict=True,
    )
    return [
        {
            "type": "data",
            "version": frame[1] & 15,
            "size": layout.frame_size,
            "idcode": frame[4] << 8 | frame[5],
            "soc": soc,
            "fracsec": fraction,
            "fracsec_word": whole,
            "time_base": layout.time_base,
            "ts": stamp + "Z",
            "crc_ok": True,
            **time_fields(whole >> 24),
            "pmus": pmus,
        }
        for frame, soc, fraction, whole, stamp, pmus in columns
    ]


def _all_pmus(batch: DataBatch, rows: np.ndarray[Any, Any]) -> list[list[Plain]]:
    layout = batch.layout
    ends = [np.searchsorted(owner, np.arange(layout.n_pmu + 1)) for owner in _owners(layout)]
    return [
        _one_pmu(batch, rows[f"pmu{i}"], i, [slice(int(end[i]), int(end[i + 1])) for end in ends])
        for i in range(layout.n_pmu)
    ]


def _owners(layout: Layout) -> tuple[Any, Any, Any]:
    return layout.phasor_pmu, layout.analog_pmu, layout.digital_pmu


def _one_pmu(
    batch: DataBatch, block: np.ndarray[Any, Any], index: int, columns: Sequence[slice]
) -> list[Plain]:
    """Return one PMU of every frame. Numbers leave NumPy a column at a time."""
    pmu = batch.layout.pmus[index]
    nothing: list[list[Plain]] = [[] for _ in range(len(block))]
    phasors = _phasors(pmu, block["phasor"], batch.phasor[:, columns[0]]) if pmu.phasor_names else nothing
    analogs = _analogs(pmu, block["analog"], batch.analog[:, columns[1]]) if pmu.analog_names else nothing
    digitals = _digitals(pmu, batch.digital[:, columns[2]]) if pmu.digital_names else nothing
    rest = zip(
        batch.stat[:, index].tolist(),
        _plain(batch.freq_hz[:, index]),
        _plain(block["freq"]),
        _plain(batch.rocof_hz_s[:, index]),
        _plain(block["dfreq"]),
        phasors,
        analogs,
        digitals,
        strict=True,
    )
    return [
        {
            "stn": pmu.stn,
            "idcode": pmu.idcode,
            "stat": stat,
            "stat_fields": stat_fields(stat),
            "phasors": phasor,
            "freq_hz": freq_hz,
            "freq_raw": freq_raw,
            "rocof_hz_s": rocof_hz_s,
            "rocof_raw": rocof_raw,
            "analogs": analog,
            "digitals": digital,
        }
        for stat, freq_hz, freq_raw, rocof_hz_s, rocof_raw, phasor, analog, digital in rest
    ]


def _plain(values: np.ndarray[Any, Any]) -> list[Any]:
    """Return a column as Python numbers; what is not finite as None, as JSON has no word for it."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        listed: list[Any] = values.tolist()
        return listed
    return [value if abs(value) < np.inf else None for value in values.tolist()]


def _phasors(pmu: PmuInfo, raw: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> list[list[Plain]]:
    magnitude, angle_rad = np.abs(value), np.angle(value)
    first, second = raw[..., 0], raw[..., 1]
    if pmu.polar:
        if not pmu.phasor_float:
            first = first.astype(np.int64) & 0xFFFF  # a magnitude has no sign
        sent = second.astype(np.float64)
        if not pmu.phasor_float:
            sent = sent * 1e-4 - (np.array(pmu.phasor_angle_rad) if pmu.phasor_angle_rad else 0.0)
        angle_rad = np.where(np.isnan(value), np.nan, sent)
        if pmu.phasor_float:
            magnitude = np.where(np.isnan(value), np.nan, first.astype(np.float64))
    columns = []
    for i, name in enumerate(pmu.phasor_names):
        quantity = phasor_type(pmu, i)
        numbers = zip(
            _plain(magnitude[:, i]),
            _plain(angle_rad[:, i]),
            _plain(np.degrees(angle_rad[:, i])),
            _plain(value[:, i].real),
            _plain(value[:, i].imag),
            _plain(first[:, i]),
            _plain(second[:, i]),
            strict=True,
        )
        columns.append(
            [
                {
                    "name": name,
                    "type": quantity,
                    "magnitude": absolute,
                    "angle_rad": radian,
                    "angle_deg": degree,
                    "real": real,
                    "imag": imag,
                    "raw": [one, two],
                }
                for absolute, radian, degree, real, imag, one, two in numbers
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def _analogs(pmu: PmuInfo, raw: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> list[list[Plain]]:
    columns = [
        [
            {"name": name, "value": number, "raw": sent}
            for number, sent in zip(_plain(value[:, i]), _plain(raw[:, i]), strict=True)
        ]
        for i, name in enumerate(pmu.analog_names)
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _digitals(pmu: PmuInfo, words: np.ndarray[Any, Any]) -> list[list[Plain]]:
    names = [_bit_names(pmu.digital_names[16 * i : 16 * i + 16]) for i in range(len(pmu.digital_names) // 16)]
    return [[_digital(name, word) for name, word in zip(names, row, strict=True)] for row in words.tolist()]


@lru_cache(maxsize=4096)
def _bit_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name of its own for each bit: a label that is empty or given twice gets the bit's number."""
    count = Counter(labels)
    return tuple(
        label if label and count[label] == 1 else f"{label}#{bit}" for bit, label in enumerate(labels)
    )


@lru_cache(maxsize=65536)
def _digital(names: tuple[str, ...], word: int) -> Plain:
    """Return a digital word, in a dictionary that is shared; the configuration's first label is bit 0."""
    return {"word": word, "bits": {name: word >> bit & 1 for bit, name in enumerate(names)}}

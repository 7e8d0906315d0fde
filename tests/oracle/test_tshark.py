"""Every field of every frame is what tshark, an independent decoder, reads; where it is blind or wrong is named here.

The exceptions (tshark 4.0.17), none wider than its reason:
INVISIBLE_SIZE   frames of 16 bytes are below the smallest size that it takes for a frame.
INJECTED_SOC     `c37_pmu_unclean` holds old frames that somebody put into the connection with sequence numbers of their own.
                 tshark shows what stands in such a segment. We give what a receiver gets: the first copy of each byte
                 (one true frame is lost to an overlap of one byte), and what lies behind a hole only at the end.
ABSENT_INTEGERS  the absent marker 0x8000 of FREQ, DFREQ and ANALOG: it prints -32768 times the factor, we give nothing.
LEAP_DIRECTION   its label is inverted, so the bit is compared.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest
from pcap_maker import pcap, pcapng, tcp, udp
from pdml import Plain, tshark_frames

from streamproc.core.c37118 import (
    CFG1,
    CFG2,
    CFG3,
    TYPE_NAMES,
    Configuration,
    PmuInfo,
    Rejection,
    compile_layout,
    encode_configuration,
    encode_data,
    encode_header,
    parse_configuration,
)
from streamproc.core.capture import read_capture
from streamproc.core.listing import list_frames
from tests.command_frame import encode_command

CAPTURES = Path(__file__).parent.parent / "data" / "c37118_pcaps"
INVISIBLE_SIZE = 16
INJECTED_SOC = 1_500_371_250  # two months before the rest of that capture
ABSENT_RAW = "8000"
KINDS = {name: kind for kind, name in TYPE_NAMES.items()}


def _ours(content: bytes) -> list[Plain]:
    return list(list_frames(read_capture(content)))


def _good(frames: list[Plain]) -> list[Plain]:
    return [frame for frame in frames if frame["type"] != "rejected"]


def _key(kind: int, frame: Plain) -> tuple[int, ...]:
    return kind, frame["idcode"], frame["size"], frame["soc"], frame["fracsec"]


def _keys(ours: list[Plain], theirs: list[Plain]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return [_key(KINDS[f["type"]], f) for f in ours], [_key(f["kind"], f) for f in theirs]


def _number(name: str, ours: float | None, theirs: float, half_digit: float = 0.0005) -> list[str]:
    """Compare with a number that was printed; tshark computes in single precision here and there."""
    if ours is None or theirs != theirs:
        return [] if ours is None and theirs != theirs else [f"{name}: {ours} is not {theirs}"]
    allowed = half_digit * 1.001 + 3e-7 * abs(theirs)
    return [] if abs(ours - theirs) <= allowed else [f"{name}: {ours} is not {theirs}"]


def _same(name: str, ours: Any, theirs: Any) -> list[str]:
    return [] if ours == theirs else [f"{name}: {ours!r} is not {theirs!r}"]


def _hex(values: list[Any], size: int) -> str:
    """Return the wire bytes of raw values: 2 bytes a value for integers, 4 for floats; nan where it was not finite."""
    if size == 2:
        return "".join(pack(">H", int(v) & 0xFFFF).hex() for v in values)
    return "".join("nan" if v is None else pack(">f", v).hex() for v in values)


def _raw(name: str, ours: list[Any], theirs: str) -> list[str]:
    size = len(theirs) // 2 // len(ours)
    if None in ours:
        return _same(name, size, 4)  # a NaN has many images; that it is one is compared as a number
    return _same(name, _hex(ours, size), theirs)


def _compare(ours: Plain, theirs: Plain) -> list[str]:
    wrong = _same("version", ours["version"], theirs["version"])
    wrong += _same("crc", int(ours["crc_ok"]), theirs["crc"])
    wrong += _same("time quality", ours["time_quality"], theirs["time_quality"])
    leap = [int(ours[f"leap_second_{name}"]) for name in ("direction", "occurred", "pending")]
    wrong += _same("leap bits", leap, theirs["leap"])
    if theirs["milliseconds"] is not None and ours["ts"] is not None:
        wrong += _number("time", int(ours["ts"][20:26]) / 1000, theirs["milliseconds"], 0.501)
    if theirs["kind"] == 0:
        wrong += _same("number of PMUs", len(ours["pmus"]), len(theirs["pmus"]))
        pairs = zip(ours["pmus"], theirs["pmus"], strict=True)
        wrong += [line for pair in pairs for line in _compare_data(*pair)]
    elif "pmus" in theirs:
        wrong += _same("TIME_BASE", ours["time_base"], theirs["time_base"])
        wrong += _same("DATA_RATE", ours["data_rate"], theirs["rate"])
        wrong += _same("NUM_PMU", len(ours["pmus"]), theirs["numpmu"])
        pairs = zip(ours["pmus"], theirs["pmus"], strict=True)
        wrong += [line for pair in pairs for line in _compare_config(*pair)]
    elif theirs["kind"] == 4:
        wrong += _same("CMD", ours["command"], theirs["command"])
    return wrong


def _compare_data(ours: Plain, theirs: Plain) -> list[str]:
    wrong = _same("STN", ours["stn"], theirs["stn"]) + _same("STAT", ours["stat"], theirs["stat"])
    fields = ours["stat_fields"]
    names = {
        "status": "data_error",
        "sync": "sync_error",
        "sorting": "sorted_by_arrival",
        "trigger": "trigger",
    }
    names |= {"CFGchange": "config_change", "data_modified": "data_modified", "pmu_tq": "pmu_time_quality"}
    names |= {"t_unlock": "unlocked_time", "trigger_reason": "trigger_reason"}
    for name, bits in theirs["stat_bits"].items():
        wrong += _same(f"STAT {name}", int(fields[names[name]]), bits)
    for mine, other in zip(ours["phasors"], theirs["phasors"], strict=True):
        wrong += _compare_phasor(mine, other)
    for name, raw in (("freq_hz", "freq_raw"), ("rocof_hz_s", "rocof_raw")):
        wrong += _raw(name, [ours[raw]], theirs[raw])
        wrong += _or_absent(name, ours[name], theirs[name], theirs[raw])
    for mine, other in zip(ours["analogs"], theirs["analogs"], strict=True):
        wrong += _same("analog name", mine["name"], other["name"]) + _raw(
            "analog", [mine["raw"]], other["raw"]
        )
        wrong += _or_absent("analog", mine["value"], other["value"], other["raw"])
    return wrong + _same("digitals", [d["word"] for d in ours["digitals"]], theirs["digitals"])


def _or_absent(name: str, ours: float | None, theirs: float, raw: str) -> list[str]:
    if raw == ABSENT_RAW:  # ABSENT_INTEGERS
        return _same(name, ours, None)
    # A float is printed with six digits.
    return _number(name, ours, theirs, 0.0005 if len(raw) == 4 else max(0.0005, 6e-6 * abs(theirs)))


def _compare_phasor(ours: Plain, theirs: Plain) -> list[str]:
    wrong = _same("phasor name", ours["name"], theirs["name"]) + _raw("phasor", ours["raw"], theirs["raw"])
    if "magnitude" not in theirs or theirs["magnitude"] != theirs["magnitude"]:
        unknown = re.search("nan", theirs["text"], re.IGNORECASE) is not None
        return wrong + _same("absent phasor", (ours["magnitude"], unknown), (None, True))
    wrong += _same("phasor unit", "A" if ours["type"] == "current" else "V", theirs["unit"])
    wrong += _number("magnitude", ours["magnitude"], theirs["magnitude"])
    wrong += _number("real", ours["real"], theirs["real"]) + _number("imag", ours["imag"], theirs["imag"])
    turn = (ours["angle_deg"] - theirs["angle"] + 180) % 360 - 180
    return wrong + _number("angle", turn, 0.0)


def _compare_config(ours: Plain, theirs: Plain) -> list[str]:
    digitals = ours["digitals"]
    wrong = _same("STN", ours["stn"], theirs["stn"]) + _same("IDCODE", ours["idcode"], theirs["idcode"])
    wrong += _same("FORMAT", ours["format"] & 15, theirs["format"])
    counts = [len(ours["phasors"]), len(ours["analogs"]), len(digitals)]
    wrong += _same("counts", counts, theirs["counts"])
    names = [p["name"] for p in ours["phasors"]] + [a["name"] for a in ours["analogs"]]
    wrong += _same("names", names + [n for d in digitals for n in d["names"]], theirs["names"])
    wrong += _same("normal", [d["normal_mask"] for d in digitals], theirs["normal"])
    wrong += _same("valid", [d["valid_mask"] for d in digitals], theirs["valid"])
    wrong += _same("FNOM", ours["nominal_hz"], 50.0 if theirs["fnom"] else 60.0)
    wrong += _same("CFGCNT", ours["cfgcnt"], theirs["cfgcnt"])
    return wrong + (_compare_units3(ours, theirs) if "svc_class" in ours else _compare_units2(ours, theirs))


def _compare_units2(ours: Plain, theirs: Plain) -> list[str]:
    words = {"V": "Volt", "A": "Ampere"}
    factors = [
        f"#{i} factor: {round(p['factor'] * 1e5)} * 10^-5, unit: {words[p['unit']]}"
        for i, p in enumerate(ours["phasors"], 1)
    ]
    texts = {0: "single point-on-wave", 1: "rms of analog input", 2: "peak of input"}
    analogs = [
        f"Factor for analog value #{i}: {texts.get(a['type_code'], 'user defined')}, value: {int(a['factor'])}"
        for i, a in enumerate(ours["analogs"], 1)
    ]
    return _same("PHUNIT", factors, theirs["factors"]) + _same("ANUNIT", analogs, theirs["analog_factors"])


def _compare_units3(ours: Plain, theirs: Plain) -> list[str]:
    components = ["zero_sequence", "positive_sequence", "negative_sequence", "reserved", "phase_a", "phase_b"]
    components += ["phase_c", "reserved"]
    wrong = _same("G_PMU_ID", [ours["global_id"]], theirs["gpmuid"])
    wrong += _same("phasor type", [p["unit"] == "A" for p in ours["phasors"]], theirs["phasor_type"])
    theirs_component = [components[int(c)] for c in theirs["phasor_component"]]
    wrong += _same("component", [p["component"] for p in ours["phasors"]], theirs_component)
    lists = [
        ("scale", [p["factor"] for p in ours["phasors"]], theirs["phasor_scale_factor"]),
        ("angle offset", [p["angle_offset_rad"] for p in ours["phasors"]], theirs["phasor_angle_offset"]),
        ("analog scale", [a["factor"] for a in ours["analogs"]], theirs["analog_scale"]),
        ("analog offset", [a["offset"] for a in ours["analogs"]], theirs["analog_offset"]),
        ("WINDOW", [ours["window_us"]], theirs["window_us"]),
        ("GRP_DLY", [ours["grp_dly_us"]], theirs["delay_us"]),
    ]
    place = [ours["latitude_deg"], ours["longitude_deg"], ours["elevation_m"]]
    lists.append(
        (
            "place",
            [v for v in place if abs(v) != float("inf")],
            [v for values in theirs["place"] for v in values],
        )
    )
    for name, mine, other in lists:
        wrong += _same(f"number of {name}", len(mine), len(other))
        pairs = zip(mine, other, strict=False)
        wrong += [line for m, o in pairs for line in _number(name, m, o, max(1e-9, 6e-6 * abs(o)))]
    text = {"P": "Protection", "M": "Monitoring"}[ours["svc_class"]]
    return wrong + _same("SVC_CLASS", [f"Service class: {text}"], theirs["class_text"])


def _assert_equal(ours: list[Plain], theirs: list[Plain]) -> None:
    my_keys, their_keys = _keys(ours, theirs)
    assert my_keys == their_keys
    wrong = [
        f"frame {number} ({mine['type']}): {line}"
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True))
        for line in _compare(mine, other)
    ]
    assert not wrong, "\n".join(wrong[:20])


CLEAN = sorted(path.name for path in CAPTURES.glob("*.pcap") if path.name != "c37_pmu_unclean.pcap")


@pytest.mark.parametrize("name", CLEAN)
def test_every_frame_of_a_capture_is_what_tshark_reads(name: str) -> None:
    path = CAPTURES / name
    ours = _ours(path.read_bytes())
    assert not [frame for frame in ours if frame["type"] == "rejected"]
    theirs = tshark_frames(path)
    assert len(theirs) > 200
    _assert_equal([frame for frame in ours if frame["size"] > INVISIBLE_SIZE], theirs)


def test_exactly_one_frame_of_all_captures_is_invisible_to_tshark() -> None:
    sizes = Counter(
        frame["size"]
        for name in CLEAN
        for frame in _ours((CAPTURES / name).read_bytes())
        if frame["size"] <= INVISIBLE_SIZE
    )
    assert sizes == {INVISIBLE_SIZE: 1}


def test_in_the_unclean_capture_only_the_injected_segment_is_seen_differently() -> None:
    path = CAPTURES / "c37_pmu_unclean.pcap"
    frames, theirs = _ours(path.read_bytes()), tshark_frames(path)
    ours = _good(frames)
    injected = [sum(f["soc"] == INJECTED_SOC and f["type"] == "data" for f in ours)]
    injected.append(sum(f["soc"] == INJECTED_SOC and f["kind"] == 0 for f in theirs))
    assert injected == [1, 2]
    ours = [f for f in ours if f["soc"] != INJECTED_SOC]
    theirs = [f for f in theirs if f["soc"] != INJECTED_SOC]
    my_keys, their_keys = map(Counter, _keys(ours, theirs))
    # tshark takes the segment that fills the place of the injected one for a retransmission, and does not show it.
    assert my_keys - their_keys == Counter({(0, 1, 112, 1_505_828_680, 316_667): 1})
    # The receiver still has the last byte of the injected segment when the next true one comes: that frame is lost to it.
    assert their_keys - my_keys == Counter({(0, 1, 112, 1_505_828_680, 333_333): 1})
    assert Counter(f["reason"] for f in frames if f["type"] == "rejected") == {
        "bad_sync": 2,
        "capture_gap": 1,
    }
    both = my_keys & their_keys
    ours = [f for f in ours if _key(KINDS[f["type"]], f) in both]
    _assert_equal(ours, [f for f in theirs if _key(f["kind"], f) in both])


# Frames of our own encoder.


def _pmu(number: int, form: int, cfgcnt: int, counts: tuple[int, int, int] = (4, 2, 2)) -> PmuInfo:
    n_phasor, n_analog, n_word = counts
    return PmuInfo(
        stn=f"STATION {number}",
        idcode=100 + number,
        format=form,
        phasor_names=tuple(f"PH{i}" for i in range(n_phasor)),
        phasor_is_current=tuple(i % 2 == 1 for i in range(n_phasor)),
        phasor_factor=tuple(9.15527 if i % 2 == 0 else 0.01 * (i + 1) for i in range(n_phasor)),
        analog_names=tuple(f"AN{i}" for i in range(n_analog)),
        digital_names=tuple(f"D{i}" for i in range(16 * n_word)),
        nominal_hz=50.0 if number % 2 else 60.0,
        cfgcnt=cfgcnt,
        analog_type=tuple((1, 2, 0)[i % 3] for i in range(n_analog)),
        analog_factor=tuple(float(i + 1) for i in range(n_analog)),
        analog_offset=tuple(0.25 * i for i in range(n_analog)),
        digital_normal=tuple(0x00F0 + i for i in range(n_word)),
        digital_valid=tuple(0xFFFF - i for i in range(n_word)),
        phasor_angle_rad=tuple(0.01 * i for i in range(n_phasor)),
        phasor_component=tuple((1, 0, 2, 4, 5, 6)[i % 6] for i in range(n_phasor)),
        phasor_flags=(0,) * n_phasor,
        global_id=bytes(range(16)),
        latitude_deg=48.25,
        longitude_deg=-11.5,
        elevation_m=512.0,
        svc_class="MP"[number % 2],
        window_us=40000,
        grp_dly_us=20000,
    )


def _frames_of(kind: int, pmus: tuple[PmuInfo, ...], seed: int) -> list[bytes]:
    """Return a configuration and some data with random values, absent markers and status words."""
    config = Configuration(kind, 7, 1_000_000, 50, pmus, soc=1_700_000_000)
    if kind == CFG2:  # these cannot be said in a CFG-2
        empty = {"phasor_angle_rad": (), "phasor_component": (), "phasor_flags": (), "global_id": b""}
        config = replace(config, pmus=tuple(replace(p, **empty) for p in pmus))
    frame = encode_configuration(config)[0]
    parsed = parse_configuration(frame)
    assert not isinstance(parsed, Rejection)
    layout = compile_layout(parsed, frame)
    rng = np.random.default_rng(seed)
    n_frame, n_pmu = 5, layout.n_pmu

    def some(shape: tuple[int, int], low: float, high: float) -> Any:
        values = rng.uniform(low, high, shape)
        values[rng.uniform(size=shape) < 0.1] = np.nan
        return values

    phasor_shape = (n_frame, layout.phasor_pmu.size)
    magnitude = rng.uniform(0, 200.0, phasor_shape)
    phasor = magnitude * np.exp(1j * rng.uniform(-np.pi, np.pi, phasor_shape))
    phasor[rng.uniform(size=phasor_shape) < 0.1] = complex(np.nan, np.nan)
    data = encode_data(
        layout,
        1_700_000_000_000_000_000 + 20_000_000 * np.arange(n_frame),
        layout.nominal_hz + some((n_frame, n_pmu), -2, 2),
        rocof_hz_s=some((n_frame, n_pmu), -5, 5),
        phasor=phasor,
        analog=some((n_frame, layout.analog_pmu.size), -1000, 1000),
        digital=rng.integers(0, 65536, (n_frame, layout.digital_pmu.size)).astype(np.uint16),
        stat=rng.integers(0, 65536, (n_frame, n_pmu)).astype(np.uint16),
        time_quality=rng.integers(0, 128, n_frame).astype(np.uint8),
    )
    return [frame, *data]


@pytest.mark.parametrize("kind", [CFG2, CFG3])
def test_frames_that_we_encode_are_read_alike_by_tshark_in_every_format(kind: int) -> None:
    frames = [
        frame
        for form in range(16)
        for frame in _frames_of(kind, tuple(_pmu(i, form, cfgcnt=form) for i in range(3)), seed=form)
    ]
    content = pcap([udp(frame) for frame in frames])
    ours = _ours(content)
    assert not [frame for frame in ours if frame["type"] == "rejected"]
    _assert_equal(ours, tshark_frames(content))


def test_pmus_of_different_formats_and_counts_in_one_frame_are_read_alike() -> None:
    counts = [(1, 0, 0), (0, 3, 0), (0, 0, 1), (6, 2, 3), (0, 0, 0), (2, 2, 2), (6, 2, 3)]
    pmus = tuple(_pmu(i, (3 * i) % 16, 1, count) for i, count in enumerate(counts))
    frames = _frames_of(CFG2, pmus, 1)
    content = pcapng([tcp(frame, 1000 + sum(map(len, frames[:i]))) for i, frame in enumerate(frames)])
    _assert_equal(_ours(content), tshark_frames(content))


def test_split_and_merged_tcp_segments_give_the_same_frames() -> None:
    pmus = tuple(_pmu(i, 15 - i, 1) for i in range(4))
    frames = _frames_of(CFG3, pmus, 2)
    stream = b"".join(frames)
    rng = np.random.default_rng(3)
    cuts = [0, *sorted(rng.integers(1, len(stream), 40).tolist()), len(stream)]
    pieces = [(a, stream[a:b]) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    content = pcap([tcp(piece, 5000 + at) for at, piece in pieces])
    ours = _ours(content)
    assert len(ours) == len(frames)
    _assert_equal(ours, tshark_frames(content))


def test_commands_headers_and_cfg1_are_read_alike() -> None:
    config = Configuration(CFG1, 7, 1_000_000, -10, (replace(_pmu(1, 5, 2), phasor_component=()),))
    frames = [*encode_configuration(config), encode_header(7, "a station in the north")]
    frames += [encode_command(7, code) for code in (1, 2, 3, 4, 5, 6)]
    content = pcap([udp(frame) for frame in frames])
    _assert_equal(_ours(content), tshark_frames(content))

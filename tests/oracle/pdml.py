"""What tshark says about C37.118 frames, as plain values: the reader of its `-T pdml` output."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Plain = dict[str, Any]
Element = ElementTree.Element
_PHASOR = re.compile(
    r", *(?P<magnitude>\S+?)(?P<unit>[VA]) ?∠ *(?P<angle>\S+?)° alt *(?P<real>\S+?)\+j *(?P<imag>\S+?)[VA](;|$)"
)
_NUMBER = r"(-?[0-9.]+(?:e[-+]?[0-9]+)?|-?nan|-?inf)"


def tshark_frames(capture: Path | bytes, *options: str) -> list[Plain]:
    """Return every frame that tshark sees in a capture, in order."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(capture, bytes):
            content, capture = capture, Path(folder) / "made.pcap"
            capture.write_bytes(content)
        out = Path(folder) / "out.xml"
        words = ["tshark", "-r", str(capture), *options, "-Y", "synphasor", "-T", "pdml"]
        with out.open("wb") as file:
            subprocess.run(words, stdout=file, stderr=subprocess.DEVNULL, check=True, timeout=240)
        return list(_frames(out))


def _frames(path: Path) -> Iterator[Plain]:
    for _, packet in ElementTree.iterparse(path):
        if packet.tag != "packet":
            continue
        for proto in packet.findall("proto"):
            if proto.get("name") == "synphasor":
                yield _frame(proto)
        packet.clear()


def _frame(proto: Element) -> Plain:
    plain: Plain = {
        "kind": _shown(proto, "frtype"),
        "version": _shown(proto, "version"),
        "size": _shown(proto, "frsize"),
        "idcode": _shown(proto, "idcode_stream_source"),
        "soc": _raw(proto, "soc"),
        "fracsec": _shown(proto, "fracsec_raw"),
        "leap": [_shown(proto, f"timeqal.{name}") for name in ("lsdir", "lsocc", "lspend")],
        "time_quality": _shown(proto, "timeqal.timequalindic"),
        "crc": _shown(proto, "checksum.status"),
        "milliseconds": _maybe(proto, "fracsec_ms"),
    }
    body = _find(proto, "data")
    if body is None:
        return plain
    if plain["kind"] == 0:
        plain["pmus"] = [_data_pmu(n) for n in body if (n.get("show") or "").startswith("Station")]
    elif plain["kind"] in {2, 3, 5}:
        plain["time_base"] = _shown(body, "conf.timebase")
        plain["numpmu"] = _shown(body, "conf.numpmu")
        plain["rate"] = _find_value(body, "rate_of_transmission")
        plain["pmus"] = [_config_pmu(n) for n in body if (n.get("show") or "").startswith("Station")]
    elif plain["kind"] == 4:
        plain["command"] = _shown(body, "command")
    return plain


def _data_pmu(station: Element) -> Plain:
    flags = next(n for n in station if n.get("show") == "Flags")
    freq = _find(station, "frequency_deviation_from_nominal")
    if freq is None:
        freq = _find(station, "actual_frequency_value")
    rocof = _find(station, "rate_change_frequency")
    assert freq is not None
    assert rocof is not None
    text = freq.get("showname") or ""
    return {
        "stn": _quoted(station.get("show") or ""),
        "stat": int(flags.get("value") or "", 16),
        "stat_bits": {n.get("name", "").rpartition(".")[2]: _number(n) for n in flags},
        "phasors": [_phasor(n) for n in station.iter("field") if n.get("name") == "synphasor.phasor"],
        "freq_raw": freq.get("value"),
        "freq_hz": _last_number(text.removesuffix(")").removesuffix("Hz")),
        "rocof_raw": rocof.get("value"),
        "rocof_hz_s": _last_number((rocof.get("showname") or "").removesuffix("Hz/s")),
        "analogs": [
            {
                "name": (n.get("show") or "").rstrip(),
                "raw": n.get("value"),
                "value": _last_number((n.get("showname") or "").partition(" (conv")[0]),
            }
            for n in station.iter("field")
            if n.get("name") == "synphasor.analog_value"
        ],
        "digitals": [
            int(n.get("value") or "", 16)
            for n in station.iter("field")
            if n.get("name") == "synphasor.digital_status_word"
        ],
    }


def _phasor(node: Element) -> Plain:
    text = node.get("showname") or ""
    tail = text[text.rindex('"') + 1 :]
    plain: Plain = {"name": (node.get("show") or "").rstrip(), "raw": node.get("value"), "text": tail}
    match = _PHASOR.search(tail)
    if match is not None:
        plain |= {key: float(match[key]) for key in ("magnitude", "angle", "real", "imag")}
        plain["unit"] = match["unit"]
    return plain


def _config_pmu(station: Element) -> Plain:
    names = [n.get("show", "").rstrip() for n in station.iter("field") if _is_name(n)]
    factors = [
        n.get("showname", "") for n in station.iter("field") if n.get("name") == "synphasor.conversion_factor"
    ]
    plain: Plain = {
        "stn": _quoted(station.get("show") or ""),
        "idcode": _shown(station, "idcode_data_source"),
        "format": sum(
            _shown(station, f"conf.{name}") << bit
            for bit, name in enumerate(("phasor_notation", "phasor_format", "analog_format", "dfreq_format"))
        ),
        "counts": [
            _shown(station, name) for name in ("num_phasors", "num_analog_values", "num_digital_status_words")
        ],
        "names": names,
        "factors": factors,
        "analog_factors": [
            n.get("showname", "")
            for n in station.iter("field")
            if n.get("name") == "synphasor.factor_for_analog_value"
        ],
        "normal": _all(station, "status_word_mask.normal_state"),
        "valid": _all(station, "status_word_mask.valid_bits"),
        "fnom": _shown(station, "conf.fnom"),
        "cfgcnt": _shown(station, "conf.cfgcnt"),
    }
    for key in ("phasor_scale_factor", "phasor_angle_offset", "phasor_type", "phasor_component"):
        plain[key] = _all(station, f"conf.{key}")
    plain["gpmuid"] = [n.get("value") for n in station.iter("field") if n.get("name") == "synphasor.gpmuid"]
    plain["analog_scale"] = _labelled(station, "Analog scale factor")
    plain["analog_offset"] = _labelled(station, "Analog offset")
    plain["place"] = [_labelled(station, f"PMU {word}") for word in ("Latitude", "Longitude", "Elevation")]
    plain["class_text"] = [
        n.get("showname") for n in station.iter("field") if "Service class" in (n.get("showname") or "")
    ]
    plain["window_us"] = _labelled(station, "PM window length")
    plain["delay_us"] = _labelled(station, "PM group delay")
    return plain


def _is_name(node: Element) -> bool:
    return node.get("name") in {"synphasor.channel_name", "synphasor.conf.chnam"}


def _labelled(station: Element, label: str) -> list[float]:
    texts = [n.get("showname") or "" for n in station.iter("field")]
    found = [re.search(_NUMBER, t.partition(":")[2]) for t in texts if t.startswith(label + ":")]
    return [float(m[1]) for m in found if m is not None]


def _find(node: Element, name: str) -> Element | None:
    return next((n for n in node.iter("field") if n.get("name") == f"synphasor.{name}"), None)


def _find_value(node: Element, name: str) -> int | None:
    found = _find(node, name)
    return (
        None if found is None else int.from_bytes(bytes.fromhex(found.get("value") or ""), "big", signed=True)
    )


def _maybe(node: Element, name: str) -> float | None:
    found = _find(node, name)
    return None if found is None else float(found.get("show") or "nan")


def _shown(node: Element, name: str) -> int:
    found = _find(node, name)
    assert found is not None, name
    return _number(found)


def _number(node: Element) -> int:
    text = node.get("show") or "0"
    return int(text == "True") if text in {"True", "False"} else int(text, 0)


def _all(node: Element, name: str) -> list[float]:
    return [
        float(int(text, 16)) if (text := n.get("show") or "0").startswith("0x") else float(text)
        for n in node.iter("field")
        if n.get("name") == f"synphasor.{name}"
    ]


def _raw(node: Element, name: str) -> int:
    found = _find(node, name)
    assert found is not None, name
    return int(found.get("value") or "", 16)


def _quoted(text: str) -> str:
    return text[text.index('"') + 1 : text.rindex('"')].rstrip()


def _last_number(text: str) -> float:
    return float(re.findall(_NUMBER, text, re.IGNORECASE)[-1])

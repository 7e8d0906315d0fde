"""`streamproc decode` prints everything that is in a capture, each stream with its own configuration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from struct import unpack
from typing import Any

import numpy as np
import pytest
from c37118_cases import configuration, frames, pmu, stream
from pcap_maker import pcap, tcp, udp

from streamproc.cli import root
from streamproc.core.c37118 import CFG3, Book, encode_configuration, encode_data, encode_header
from streamproc.core.c37118.describe import stat_fields, time_fields
from streamproc.core.capture import read_capture
from streamproc.core.listing import list_frames
from streamproc.errors import RecordingError
from streamproc.shell.gsf_capture import book_of, read_configurations, soap_configuration
from tests.command_frame import encode_command

DATA = Path(__file__).parent.parent / "data"
GSF = DATA / "pmu_capture"
Capture = pytest.CaptureFixture[str]


def _listed(content: bytes, base: Book | None = None) -> list[dict[str, Any]]:
    return list(list_frames(read_capture(content), base))


def _run(capsys: Capture, *words: str) -> tuple[int, list[str], str]:
    with pytest.raises(SystemExit) as end:
        root.app(["decode", *words])
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out.splitlines(), err


# The capture of GSF, and what another implementation wrote down about it.


def _sample_images() -> list[bytes]:
    text = (GSF / "sampleframes.txt").read_text("latin-1")
    images = [part.split(">>")[0] for part in text.split("Hexadecimal Image:")[1:]]
    return [bytes.fromhex("".join(image.split())) for image in images]


def test_framecapture_equals_the_sample_frames_of_another_implementation(capsys: Capture) -> None:
    data, command, config = _sample_images()
    code, lines, err = _run(capsys, str(GSF / "framecapture.PmuCapture"), "--json")
    assert code == 0
    assert "framecapture.config.xml makes data frames of [40] bytes, the capture has 88: not used" in err
    assert "sampleframes.txt is used" in err
    assert len(lines) == 494
    shown = [json.loads(line) for line in lines]
    assert all(f["type"] == "data" and f["pmus"][0]["stn"] == "PMU.001" for f in shown)
    whole = (GSF / "framecapture.PmuCapture").read_bytes()
    number = whole.index(data) // 88
    assert whole[88 * number :][:88] == data
    sample = shown[number]
    assert (sample["idcode"], sample["soc"], sample["fracsec"]) == (1, 0x50C60CA4, 0x0BB2CA)
    assert sample["ts"] == "2012-12-10T16:24:04.766666Z"
    floats = unpack(">14f", data[16:72])
    (pmu_shown,) = sample["pmus"]
    assert [p["name"] for p in pmu_shown["phasors"]] == [
        f"PZR.{n}" for n in ("AI", "BV", "CI", "AV", "BI", "CV")
    ]
    assert [v for p in pmu_shown["phasors"] for v in p["raw"]] == list(floats[:12])
    assert pmu_shown["freq_hz"] == floats[12]
    assert pmu_shown["rocof_hz_s"] == pytest.approx(floats[13], abs=1e-12)
    assert [a["value"] for a in pmu_shown["analogs"]] == [0.0, 0.0, 0.0]
    assert pmu_shown["digitals"][0]["word"] == 3
    assert pmu_shown["digitals"][0]["bits"]["DIG.stat1_02"] == 1
    described = _listed(command + config)
    assert (described[0]["command"], described[0]["command_text"]) == (1, "data_transmission_off")
    assert (described[1]["type"], described[1]["data_rate"], described[1]["size"]) == ("cfg2", 30, 494)


def test_the_soap_configuration_is_read_as_gsf_wrote_it() -> None:
    config = soap_configuration((GSF / "framecapture.config.xml").read_bytes(), "x")
    (only,) = config.pmus
    assert (config.idcode, config.time_base, config.data_rate) == (1, 16777215, 30)
    assert (only.stn, only.idcode, only.cfgcnt, only.nominal_hz) == ("PMSTN_34", 1, 8, 60.0)
    assert (only.polar, only.phasor_float, only.analog_float, only.freq_float) == (True, True, True, False)
    assert only.phasor_names == ("V1YPM", "I1WPM")
    assert only.phasor_is_current == (False, True)
    assert only.digital_names == tuple(f"PSV{i}" for i in range(49, 65))
    assert only.digital_valid == (65535,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "DTD"),
        ("<!DOCTYPE x><x/>".encode("utf-16"), "DTD"),
        (b"<x>", "not XML"),
        (b"<x/>", "ConfigurationFrame2"),
        (b'<x><ConfigurationFrame2 id="1"/></x>', "incomplete"),
        (b'<x><ConfigurationFrame2 id="1"><cells href="#2"/></ConfigurationFrame2></x>', "incomplete"),
    ],
)
def test_a_damaged_or_dangerous_xml_is_refused_in_one_sentence(content: bytes, words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        soap_configuration(content, "site.config.xml")


def test_a_configuration_can_be_given_as_a_file_and_a_wrong_one_is_named(
    capsys: Capture, tmp_path: Path
) -> None:
    frame, layout = stream(pmu())
    shown = tmp_path / "data.c37"
    shown.write_bytes(b"".join(frames(layout, 3)))
    config = tmp_path / "config.bin"
    config.write_bytes(frame)
    code, lines, _ = _run(capsys, str(shown), "--json", "--config-file", str(config))
    assert code == 0
    assert [json.loads(line)["type"] for line in lines] == ["data"] * 3
    config.write_bytes(b"nothing")
    code, lines, err = _run(capsys, str(shown), "--config-file", str(config))
    assert (code, lines) == (1, [])
    assert "no configuration frame" in err
    code, _, err = _run(capsys, str(tmp_path / "absent.c37"))
    assert code == 1
    assert "absent.c37: No such file" in err


def test_data_without_a_configuration_are_rejected_with_the_fields_of_their_head(
    capsys: Capture, tmp_path: Path
) -> None:
    _, layout = stream(pmu(), idcode=77)
    shown = tmp_path / "data.c37"
    shown.write_bytes(b"".join(frames(layout, 2)))
    code, lines, err = _run(capsys, str(shown), "--json")
    rejected = [json.loads(line) for line in lines]
    assert [r["reason"] for r in rejected] == ["unknown_configuration"] * 2
    assert (rejected[0]["frame_type"], rejected[0]["idcode"], rejected[0]["crc_ok"]) == ("data", 77, True)
    assert code == 1
    assert "no configuration" in err


def test_ieee_1344_is_refused_by_name(capsys: Capture) -> None:
    code, lines, err = _run(capsys, str(GSF / "Sample1344.PmuCapture"), "--json")
    assert code == 1
    assert [json.loads(line)["reason"] for line in lines] == ["ieee_1344"]
    assert "IEEE 1344" in err
    assert "not supported" in err


def test_the_lines_for_people_name_what_is_in_a_frame(capsys: Capture, tmp_path: Path) -> None:
    frame, layout = stream(pmu(n_phasor=2, stn="NO\x1bRTH"))
    nan = np.full((1, 1), np.nan)
    absent = encode_data(
        layout, np.array([0]), nan, rocof_hz_s=nan, phasor=np.full((1, 2), complex(np.nan, np.nan))
    )
    shown = tmp_path / "x.c37"
    shown.write_bytes(
        encode_header(7, "hello") + encode_command(7, 2) + frame + frames(layout, 1)[0] + absent[0] + b"?"
    )
    code, lines, _ = _run(capsys, str(shown))
    assert code == 0
    assert "header   IDCODE 7 21 bytes  hello" in lines[0]
    assert "2 data_transmission_on" in lines[1]
    assert "50 frames/s: NO?RTH (9) 2 phasors" in lines[2]
    assert "P1 " in lines[3]
    assert " A " in lines[3]
    assert "- Hz - Hz/s P0 - P1 -" in lines[4]
    assert "rejected  garbage" in lines[5] or "rejected  bad_sync" in lines[5]


# Streams.


def test_streams_with_the_same_idcode_do_not_mix() -> None:
    one, layout_one = stream(pmu(11, stn="ONE"))
    two, layout_two = stream(pmu(0, stn="TWO"))
    pairs = zip(frames(layout_one, 20), frames(layout_two, 20), strict=True)
    packets = [udp(one, source=4713), udp(two, source=4714)]
    packets += [udp(f, source=port) for pair in pairs for f, port in zip(pair, (4713, 4714), strict=True)]
    shown = _listed(pcap(packets))
    assert [f["type"] for f in shown] == ["cfg2"] * 2 + ["data"] * 40
    assert [f["pmus"][0]["stn"] for f in shown[2:]] == ["ONE", "TWO"] * 20


def test_data_over_udp_take_the_configuration_that_the_same_sender_sent_over_tcp() -> None:
    frame, layout = stream(pmu(stn="MIXED"))
    data = frames(layout, 3)
    shown = _listed(pcap([tcp(frame, 1), *(udp(f, source=30000, target=30001) for f in data)]))
    assert [f["type"] for f in shown] == ["cfg2", "data", "data", "data"]
    stranger = _listed(pcap([tcp(frame, 1), udp(data[0], sender=b"\x0a\0\0\x63")]))
    assert stranger[1]["reason"] == "unknown_configuration"


def test_a_configuration_that_changes_in_the_middle_serves_what_follows_it() -> None:
    old, layout_old = stream(pmu(11, stn="OLD"))
    new, layout_new = stream(pmu(0, stn="NEW", cfgcnt=2))
    shown = _listed(old + b"".join(frames(layout_old, 3)) + new + b"".join(frames(layout_new, 3)))
    assert [f["pmus"][0]["stn"] for f in shown] == ["OLD"] * 4 + ["NEW"] * 4


def test_a_cfg3_in_fragments_is_shown_whole_with_its_last_fragment() -> None:
    config = configuration(pmu(n_phasor=4, n_word=2, svc_class="P", window_us=20), kind=CFG3)
    fragments = encode_configuration(config, fragment_size=100)
    shown = _listed(b"".join(fragments))
    assert [f["cont_idx"] for f in shown] == [*range(1, len(fragments)), 65535]
    assert all("pmus" not in f for f in shown[:-1])
    assert shown[-1]["pmus"][0]["svc_class"] == "P"
    missing = _listed(b"".join(fragments[:1] + fragments[2:]))
    assert missing[-1]["reason"] == "bad_fragment"


def test_everything_of_a_frame_is_in_its_object() -> None:
    frame, layout = stream(pmu(1, n_phasor=2, n_analog=2, n_word=2, digital_names=("D",) * 17 + ("",) * 15))
    data = encode_data(
        layout,
        np.array([1_700_000_000_020_000_000]),
        np.array([[50.01]]),
        rocof_hz_s=np.array([[-0.25]]),
        phasor=np.array([[20000 * np.exp(1j), complex(np.nan, np.nan)]]),
        analog=np.array([[12.0, np.nan]]),
        digital=np.array([[5, 1]], dtype=np.uint16),
        stat=np.array([[0x6A95]], dtype=np.uint16),
        time_quality=0x75,
    )
    config, shown = _listed(frame + data[0])
    assert config["pmus"][0]["format_fields"] == {
        "phasor_polar": True,
        "phasor_float": False,
        "analog_float": False,
        "freq_float": False,
    }
    assert shown["ts"] == "2023-11-14T22:13:20.020000Z"
    assert (shown["soc"], shown["fracsec"], shown["time_base"]) == (1_700_000_000, 20000, 1_000_000)
    assert shown["fracsec_word"] == 0x75000000 | 20000
    assert (shown["time_quality"], shown["leap_second_direction"]) == (5, 1)
    assert (shown["leap_second_occurred"], shown["leap_second_pending"]) == (True, True)
    (only,) = shown["pmus"]
    assert only["stat"] == 0x6A95
    assert only["phasors"][0]["raw"] == [40000, 10000]
    assert only["phasors"][0]["magnitude"] == pytest.approx(20000)
    assert only["phasors"][0]["angle_deg"] == pytest.approx(57.29578)
    assert only["phasors"][1]["raw"] == [32768, -32768]
    assert {only["phasors"][1][key] for key in ("magnitude", "angle_rad", "angle_deg", "real", "imag")} == {
        None
    }
    assert (only["freq_hz"], only["freq_raw"]) == (pytest.approx(50.01), 10)
    assert (only["rocof_hz_s"], only["rocof_raw"]) == (pytest.approx(-0.25), -25)
    assert [a["value"] for a in only["analogs"]] == [12.0, None]
    assert [a["raw"] for a in only["analogs"]] == [12, -32768]
    assert only["digitals"][0] == {"word": 5, "bits": {f"D#{i}": int(i in {0, 2}) for i in range(16)}}
    assert only["digitals"][1]["bits"]["D"] == 1
    assert only["digitals"][1]["bits"]["#1"] == 0


def test_every_stat_word_is_read_bit_by_bit() -> None:
    for stat in range(65536):
        bits = f"{stat:016b}"
        fields = stat_fields(stat)
        assert fields["data_error"] == int(bits[0:2], 2)
        assert [fields[n] for n in ("data_invalid", "pmu_error", "sync_error", "sorted_by_arrival")] == [
            b == "1" for b in bits[:4]
        ]
        assert [fields[n] for n in ("trigger", "config_change", "data_modified")] == [
            b == "1" for b in bits[4:7]
        ]
        assert fields["pmu_time_quality"] == int(bits[7:10], 2)
        assert fields["unlocked_time"] == int(bits[10:12], 2)
        assert fields["trigger_reason"] == int(bits[12:16], 2)


def test_every_time_quality_byte_is_read_bit_by_bit() -> None:
    for quality in range(256):
        bits = f"{quality:08b}"
        assert time_fields(quality) == {
            "leap_second_direction": int(bits[1]),
            "leap_second_occurred": bits[2] == "1",
            "leap_second_pending": bits[3] == "1",
            "time_quality": int(bits[4:], 2),
        }


def test_a_sibling_configuration_is_not_believed_when_it_does_not_fit(
    capsys: Capture, tmp_path: Path
) -> None:
    for name in ("framecapture.PmuCapture", "framecapture.config.xml"):
        shutil.copy(GSF / name, tmp_path / name)
    code, lines, err = _run(capsys, str(tmp_path / "framecapture.PmuCapture"), "--json")
    assert code == 1
    assert "not used" in err
    assert {json.loads(line)["reason"] for line in lines} == {"unknown_configuration"}


def test_a_sibling_xml_that_fits_is_used(capsys: Capture, tmp_path: Path) -> None:
    shutil.copy(GSF / "framecapture.config.xml", tmp_path / "site.config.xml")
    (layout,) = book_of(read_configurations(tmp_path / "site.config.xml")).layouts.values()
    (tmp_path / "site.PmuCapture").write_bytes(b"".join(frames(layout, 4)))
    code, lines, err = _run(capsys, str(tmp_path / "site.PmuCapture"), "--json")
    assert code == 0
    assert "site.config.xml is used" in err
    assert [json.loads(line)["pmus"][0]["stn"] for line in lines] == ["PMSTN_34"] * 4

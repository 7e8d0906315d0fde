"""Protects the promise that a recording takes the same way as live data: what stands in the file is what is scored."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamproc.core.c37118 import Book, DataBatch, decode
from streamproc.core.messages import ScadaBatch
from streamproc.core.messages import decode as decode_message
from streamproc.errors import RecordingError
from streamproc.shell.captures import areas_of
from streamproc.shell.recording import AREA, BASE_V, read_recording
from streamproc.shell.tables import CHUNK_ROWS
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, TOPIC_SCADA, Record

DATA = Path(__file__).parents[1] / "data"
RATE_HZ = 30


def decoded(records: list[Record]) -> DataBatch:
    result = decode(Book(), [r.value or b"" for r in records if r.topic == TOPIC_FRAMES])
    assert not result.rejections
    (batch,) = result.batches
    return batch


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def table(header: str, *columns: np.ndarray) -> str:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return header + "\n" + "\n".join(",".join(str(cell) for cell in row) for row in rows) + "\n"


def test_a_csv_of_two_pmus_comes_back_from_real_frames_value_for_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(90) / RATE_HZ
    freq, volt, angle = 50 + rng.normal(0, 0.01, 90), rng.uniform(0.9, 1.1, 90), rng.uniform(-3, 3, 90)
    header = "time_s,A_freq_hz,A_voltage_pu,A_angle_rad,B one_freq_dev_mhz,B one_voltage_kv,B one_angle_deg"
    columns = (freq, volt, angle, (freq - 50) * 1e3, volt * 110, np.degrees(angle))
    path = write(tmp_path / "two.csv", table(header, t_s, *columns))
    records = list(read_recording(path, area="north"))
    batch = decoded(records)
    assert [pmu.stn for pmu in batch.layout.pmus] == ["A", "B one"]
    assert {r.key for r in records if r.topic == TOPIC_FRAMES} == {b"north"}
    assert records[0].topic == TOPIC_CONFIG
    assert batch.layout.rate_hz == RATE_HZ
    assert batch.layout.nominal_hz.tolist() == [50.0, 50.0]
    np.testing.assert_allclose(batch.t_ns / 1e9, t_s, atol=1e-6)
    np.testing.assert_allclose(batch.freq_hz, np.stack([freq, freq], axis=1), atol=4e-6)  # float32 near 50
    np.testing.assert_allclose(
        np.abs(batch.phasor), np.stack([volt * BASE_V, volt * 110e3], axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(np.angle(batch.phasor), np.stack([angle, angle], axis=1), atol=1e-6)
    assert np.isnan(batch.rocof_hz_s).all()


def test_a_frequency_without_a_voltage_makes_a_pmu_without_phasors(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", table("time_s,freq_hz", np.arange(60) / 30, np.full(60, 59.99)))
    batch = decoded(list(read_recording(path)))
    assert batch.phasor.shape == (60, 0)
    assert batch.layout.pmus[0].stn == "PMU"
    assert batch.layout.nominal_hz.tolist() == [60.0]


def test_an_empty_cell_is_nan_and_a_row_without_any_value_is_marked_absent(tmp_path: Path) -> None:
    text = "time_s,A_freq_hz,B_freq_hz\n0,60,60\n0.1,,60\n0.2,NaN,null\n0.3,60,60\n"
    batch = decoded(list(read_recording(write(tmp_path / "gaps.csv", text))))
    assert np.isnan(batch.freq_hz).tolist() == [[False, False], [True, False], [True, True], [False, False]]
    assert (batch.stat >> 14).tolist() == [[0, 0], [2, 0], [2, 2], [0, 0]]


def test_an_angle_without_a_frequency_tells_the_frequency_by_its_turn(tmp_path: Path) -> None:
    t_s = np.arange(300) / RATE_HZ
    angle = np.degrees(2 * np.pi * 0.1 * t_s)  # 0.1 Hz above nominal
    path = write(
        tmp_path / "angle.csv",
        table("time_s,A_voltage_pu,A_angle_deg", t_s, np.ones(300), (angle + 180) % 360 - 180),
    )
    batch = decoded(list(read_recording(path)))
    np.testing.assert_allclose(batch.freq_hz[1:, 0], 60.1, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_s", "1700000000.5"),
        ("ts_ms", "1700000000500"),
        ("ts_us", "1700000000500000"),
        ("ts_ns", "1700000000500000000"),
        ("timestamp", "2023-11-14T22:13:20.500Z"),
        ("timestamp", "2023-11-14 22:13:20.500"),
        ("timestamp", "2023-11-14T23:13:20.500+01:00"),
        ("timestamp", "1700000000.5"),
        ("time", "1700000000500"),
    ],
)
def test_every_way_of_writing_a_time_gives_the_same_instant(tmp_path: Path, name: str, value: str) -> None:
    path = write(tmp_path / "t.csv", f"{name},freq_hz\n{value},60.0\n")
    batch = decoded(list(read_recording(path, rate_hz=10)))
    assert batch.t_ns.tolist() == [1_700_000_000_500_000_000]


def test_times_with_milliseconds_only_still_tell_thirty_frames_per_second(tmp_path: Path) -> None:
    t_s = np.round(np.arange(300) / RATE_HZ, 3)
    path = write(tmp_path / "ms.csv", table("time_s,freq_hz", t_s, np.full(300, 60.0)))
    assert decoded(list(read_recording(path))).layout.rate_hz == RATE_HZ


def test_csv_gzip_and_parquet_of_the_same_rows_give_the_same_frames(tmp_path: Path) -> None:
    t_us = 1_700_000_000_000_000 + np.arange(100) * 20_000
    freq = np.round(50 + np.sin(np.arange(100)), 4)
    text = table("ts_us;x_freq_hz".replace(";", ","), t_us, freq)
    plain = write(tmp_path / "a.csv", text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.table({"ts_us": t_us, "x_freq_hz": freq}), tmp_path / "a.parquet")
    stamps = pa.array(t_us * 1000, type=pa.timestamp("ns"))
    pq.write_table(pa.table({"timestamp": stamps, "x_freq_hz": freq}), tmp_path / "b.parquet")
    expected = list(read_recording(plain))
    for name in ("a.csv.gz", "a.parquet", "b.parquet"):
        assert list(read_recording(tmp_path / name)) == expected


def test_rows_beyond_one_chunk_are_read_as_if_there_were_no_chunks(tmp_path: Path) -> None:
    n_row = CHUNK_ROWS + 7
    angle = np.linspace(0, 50, n_row) % 6.28 - 3.14
    path = write(tmp_path / "long.csv", table("time_s,A_angle_rad", np.arange(n_row) / 50, angle))
    batch = decoded(list(read_recording(path)))
    step_hz = 50 / (n_row - 1) / (2 * np.pi) * 50
    assert batch.t_ns.size == n_row
    np.testing.assert_allclose(batch.freq_hz[CHUNK_ROWS - 2 : CHUNK_ROWS + 2, 0], 60 + step_hz, atol=1e-3)


def test_slow_rows_are_scada_points_with_their_whole_names(tmp_path: Path) -> None:
    text = "timestamp,F1_mw,BUS1_kv,BUS1_freq_hz,label\n2026-01-01T00:00Z,1.5,,50,x\n2026-01-01T00:01Z,2,110,50,y\n"
    notes: list[str] = []
    records = list(read_recording(write(tmp_path / "s.csv", text), area="north", note=notes.append))
    assert {r.topic for r in records} == {TOPIC_SCADA}
    batches = [decode_message(ScadaBatch, r.value) for r in records]
    points = [{p.id: p.value for p in b.points} for b in batches if isinstance(b, ScadaBatch)]
    assert points == [
        {"F1_mw": 1.5, "BUS1_freq_hz": 50.0},
        {"F1_mw": 2.0, "BUS1_kv": 110.0, "BUS1_freq_hz": 50.0},
    ]
    assert any("label" in note for note in notes)


def test_a_column_with_the_name_of_a_catalogued_point_is_that_point(tmp_path: Path) -> None:
    text = "time_s,F1.P,freq_hz\n0,3,60\n0.1,4,60\n"
    records = list(read_recording(write(tmp_path / "p.csv", text), points={"F1.P"}))
    batches = [decode_message(ScadaBatch, r.value) for r in records if r.topic == TOPIC_SCADA]
    assert [b.points[0].value for b in batches if isinstance(b, ScadaBatch)] == [3.0, 4.0]
    assert decoded(records).t_ns.size == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time_s,freq_hz\n0,60\n0.1,sixty\n", "line 3: column 'freq_hz': 'sixty' is no number"),
        ("time_s,freq_hz\n0,60\n0.1\n", "line 3: 1 cells, the header has 2 columns"),
        ("time_s,freq_hz\n-5,60\n-4.9,60\n", "row 1 has time -5.000 s"),
        ("freq_hz\n60\n60\n", "no time column"),
        ("time_s,speed\n0,60\n0.1,60\n", "no column says what it is"),
        ("time_s,freq_hz\n", "a header but no row"),
        ("", "a header with column names is expected"),
        ("timestamp,freq_hz\nyesterday,60\n", "'yesterday' is no ISO 8601 time"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecordingError, match=r"bad\.csv") as caught:
        list(read_recording(write(tmp_path / "bad.csv", text), rate_hz=10 if "yesterday" in text else None))
    assert words in str(caught.value)


def test_what_is_no_recording_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        list(read_recording(tmp_path / "none.csv"))
    with pytest.raises(RecordingError, match="a recording is one of"):
        list(read_recording(write(tmp_path / "x.docx", "")))
    with pytest.raises(RecordingError, match="1344"):
        list(read_recording(DATA / "pmu_capture" / "Sample1344.PmuCapture"))


@pytest.mark.parametrize(
    ("name", "frame_count", "pmu_count"),
    [
        ("c37118_pcaps/C37.118_4in1PMU_TCP.pcap", 1342, 4),
        ("c37118_pcaps/C37.118_1PMU_UDP.pcap", 356, 1),
        ("pmu_capture/framecapture.PmuCapture", 494, 1),
    ],
)
def test_every_data_frame_of_a_real_capture_becomes_a_record(
    name: str, frame_count: int, pmu_count: int
) -> None:
    records = list(read_recording(DATA / name))
    result = decode(Book(), [r.value or b"" for r in records if r.topic == TOPIC_FRAMES])
    assert sum(batch.t_ns.size for batch in result.batches) == frame_count
    assert {batch.layout.n_pmu for batch in result.batches} == {pmu_count}
    assert {r.key for r in records if r.topic == TOPIC_FRAMES} == {AREA.encode()}


def test_bad_bytes_of_a_capture_are_passed_on_to_be_refused() -> None:
    records = list(read_recording(DATA / "c37118_pcaps" / "c37_pmu_unclean.pcap"))
    result = decode(Book(), [r.value or b"" for r in records if r.topic == TOPIC_FRAMES])
    assert len(result.rejections) == 2


def test_raw_frames_of_a_fleet_come_back_from_a_c37_file(tmp_path: Path) -> None:
    fleet = Fleet(FleetSettings(n_pmu=3, separate=True))
    frames = [frame for _, instant in fleet.instants(2) for frame in instant]
    path = tmp_path / "fleet.c37"
    path.write_bytes(b"".join([*fleet.configs, *frames]))
    records = [r for r in read_recording(path) if r.topic == TOPIC_FRAMES]
    assert [r.value for r in records[-len(frames) :]] == frames


def test_only_streams_that_contradict_each_other_get_areas_of_their_own() -> None:
    pcap = DATA / "c37118_pcaps" / "C37.118_2PMUsInSync_TCP.pcap"
    assert {r.key for r in read_recording(pcap) if r.topic == TOPIC_FRAMES} == {AREA.encode()}
    one, other = (Fleet(FleetSettings(n_pmu=n_pmu)).configs for n_pmu in (2, 3))
    notes: list[str] = []
    areas = areas_of({"tcp a": one, "tcp b": other, "tcp c": one}, b"north", notes.append)
    assert areas == {"tcp a": b"north", "tcp b": b"north.2", "tcp c": b"north"}
    assert len(notes) == 1


def test_eighty_minutes_of_frequency_are_read_in_under_three_seconds() -> None:
    begin_s = time.perf_counter()
    count = sum(1 for _ in read_recording(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz"))
    assert count == 145_652  # two configurations before the frames
    assert time.perf_counter() - begin_s < 3.0


def test_a_table_without_frequencies_has_the_nominal_frequency_of_the_site(tmp_path: Path) -> None:
    file = tmp_path / "dev.csv"
    rows = [f"{1_700_000_000 + i / 10:.1f},{i % 3}" for i in range(50)]
    file.write_text("\n".join(["time_s,A_freq_dev_mhz", *rows]))
    batch = decoded(list(read_recording(file, nominal_hz=50.0)))
    assert batch.layout.nominal_hz.tolist() == [50.0]
    assert abs(batch.freq_hz - 50.0).max() < 0.01


def test_a_rate_that_changes_in_the_middle_is_told_by_row_and_a_gap_is_none(tmp_path):
    def text(times):
        return "time_s,A_freq_hz\n" + "".join(f"{t:.4f},50.0\n" for t in times)

    def told(times):
        notes: list[str] = []
        list(read_recording(write(tmp_path / "r.csv", text(times)), note=notes.append))
        return [note for note in notes if "times a second" in note]

    slow, fast = np.arange(0, 20, 1 / 25), np.arange(20, 60, 1 / 50)
    assert told(fast) == []
    assert told(np.concatenate([fast[:500], fast[900:]])) == []
    (note,) = told(np.concatenate([fast, 60 + slow]))
    assert note.startswith("from about row 1985 on rows come 25 times a second, not 50")
    (note,) = told(np.concatenate([slow[:200], fast]))
    assert note.startswith("from about row 1 on rows come 25 times a second, not 50")

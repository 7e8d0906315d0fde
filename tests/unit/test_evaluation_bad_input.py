"""Protects the evaluation from bad input: a result, or an error that names the file, the event and the field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import STATIONS, five, steady, write_corpus

from streamproc.cli.evaluate import in_sample
from streamproc.cli.root import app
from streamproc.errors import RecordingError
from streamproc.evaluation.corpus import find_corpora, read_corpus
from streamproc.evaluation.evaluate import check_size
from streamproc.shell import evaluated

EVENT_CORPORA = Path(__file__).resolve().parents[1] / "data" / "events"


def broken(field: str):
    """The corpus by hand with one thing wrong."""
    x, events = five()
    meta = {}
    if field == "NaN":
        x[2, 40, 1, 0] = np.nan
    elif field == "shape":
        x = x[..., :2]
    elif field == "pmus":
        x = x[:, :, :3]
    elif field == "count":
        events = events[:3]
    elif field == "onset late":
        events[1]["t"] = 99.0
    elif field == "onset early":
        events[1]["t"] = -1.0
    elif field == "NaN df":
        events[3]["df"] = float("nan")
    elif field == "no dv":
        del events[3]["dv"]
    elif field == "phys":
        events[0]["phys"] = "earthquake"
    elif field == "near":
        events[1]["near"] = [9]
    elif field == "hertz":
        x[0, 5, 2, 2] = 377.0
    elif field == "volts":
        x[0, 5, 2, 0] = 345.0
    else:
        meta = {
            "fps 0": {"fps": 0},
            "fps": {"fps": 29.97},
            "no fps": {"fps": None},
            "twice": {"pmu_bus": ["A", "B", "A", "C"]},
            "empty": {"events": []},
            "nominal": {"nominal_hz": 400.0},
        }[field]
    return x, meta.pop("events", events), meta


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("NaN", r"event 2 \(load L1\): X: voltage of PMU EAST is nan at frame 40"),
        ("shape", r"X: \(event, frame, pmu, 3\) is expected, not \(5, 480, 4, 2\)"),
        ("pmus", "X has 3 PMUs, pmu_bus names 4"),
        ("count", "X has 5 events, meta.events 3"),
        ("onset late", r"event 1 \(gen G1\): t: 99 s; the onset must lie within 0\.0333 and 15\.5 s"),
        ("onset early", r"event 1 \(gen G1\): t: -1 s"),
        ("NaN df", r"event 3 \(line Line 1\): df: nan; a finite number"),
        ("no dv", r"meta: .*`dv`.*events\[3\]"),
        ("phys", r"event 0 \(fault 7\): phys: 'earthquake'"),
        ("near", r"event 1 \(gen G1\): near: 9 is no PMU"),
        ("hertz", r"event 0 \(fault 7\): X: frequency of PMU SOUTH is 377 at frame 5"),
        ("volts", r"event 0 \(fault 7\): X: voltage of PMU SOUTH is 345 at frame 5"),
        ("fps 0", "meta: fps: 0; a whole number from 5 to 240"),
        ("fps", r"meta: fps: 29\.97"),
        ("no fps", "meta: .*`fps`"),
        ("twice", "meta: pmu_bus: 'A' is empty or occurs twice"),
        ("empty", "X has 5 events, meta.events 0"),
        ("nominal", "meta: nominal_hz: 400; 50 or 60"),
    ],
)
def test_a_corpus_with_something_wrong_is_refused_by_file_event_and_field(tmp_path, field, words):
    x, events, meta = broken(field)
    path = write_corpus(tmp_path / "bad.npz", x, events, **meta)
    with pytest.raises(RecordingError, match=r"bad\.npz: " + words):
        read_corpus(path)


@pytest.mark.parametrize("file", sorted(EVENT_CORPORA.glob("*[0-9]_*.npz")), ids=lambda file: file.stem)
def test_angles_in_degrees_are_refused(tmp_path, file):
    with np.load(file) as arrays:
        x, meta = arrays["X"][:12].astype(np.float64), json.loads(str(arrays["meta"]))
    meta["events"] = meta["events"][:12]
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, X=x, meta=json.dumps(meta))
    read_corpus(good)
    x[..., 1] = np.degrees(x[..., 1])
    np.savez(bad, X=x, meta=json.dumps(meta))
    with pytest.raises(RecordingError, match=r"bad\.npz: X: angle: PMUs swing \d+ times .* rad are expected"):
        read_corpus(bad)


def test_a_file_that_is_no_corpus_is_refused_by_its_name(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(RecordingError, match=r"text\.npz: this is no \.npz"):
        read_corpus(tmp_path / "text.npz")
    with pytest.raises(RecordingError, match=r"none\.npz: there is no such file"):
        read_corpus(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", Y=np.zeros(3))
    with pytest.raises(RecordingError, match=r"other\.npz: there is no array 'X'"):
        read_corpus(tmp_path / "other.npz")
    np.savez(tmp_path / "json.npz", X=np.zeros((1, 2, 3, 3)), meta=np.array("{"))
    with pytest.raises(RecordingError, match=r"json\.npz: meta: "):
        read_corpus(tmp_path / "json.npz")


@pytest.mark.parametrize("n_pmu", [1, 3000])
def test_one_pmu_and_three_thousand_are_a_result(tmp_path, capsys, n_pmu):
    x = steady(n_frame=60, n_pmu=n_pmu)[None]
    x[..., 0] = 1.0
    x[0, 35:, :, 0] -= 0.3
    events = [{"k": "fault", "t": 35 / 30, "dv": 0.3, "df": 0.0}]
    path = write_corpus(tmp_path / "c.npz", x, events, pmu_bus=[str(i) for i in range(n_pmu)])
    words = ["evaluate", "events", str(path), "--noise", "T1", "--impair", "none", "--generic", "--json"]
    words += ["--ambient-minutes", "1"]
    if n_pmu == 3000:
        with pytest.raises(RecordingError, match=r"c\.npz: pmu_bus: 3000 PMUs at 30 frames/s are too many"):
            check_size(read_corpus(path))
        return
    with pytest.raises(SystemExit) as end:
        app([*words, "--jobs", "1"])
    said = json.loads(capsys.readouterr().out)
    assert not end.value.code
    assert said["tables"][0]["detection"]["found"] == 1
    assert said["tables"][0]["pmus"] == 1
    assert any("made" in note for note in said["notes"])


def test_a_corpus_that_the_describing_models_have_seen_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluated, "fitted_on", lambda: frozenset({"c.npz"}))
    assert in_sample([tmp_path / "other.npz"]) == []
    (note,) = in_sample([tmp_path / "other.npz", tmp_path / "c.npz"])
    assert note.startswith("kinds, places and sizes flatter on c.npz")


def test_a_recording_that_is_no_use_is_refused_by_its_name(tmp_path):
    rows = [f"{t},{60 + 0.01 * (t % 3)}" for t in range(100)]
    (tmp_path / "short.csv").write_text("\n".join(["time_s,freq_hz", *rows]))
    with pytest.raises(RecordingError, match=r"^short\.csv: no 10 minutes without a gap in its first half"):
        evaluated.read_ambient(tmp_path / "short.csv")
    (tmp_path / "volts.csv").write_text("time_s,A_voltage_pu\n0.0,1.0\n0.1,1.0\n")
    with pytest.raises(RecordingError, match=r"volts\.csv: "):
        evaluated.read_ambient(tmp_path / "volts.csv")


def test_a_directory_is_every_corpus_in_it(tmp_path):
    write_corpus(tmp_path / "b.npz")
    write_corpus(tmp_path / "a.npz")
    np.savez(tmp_path / "other.npz", Y=np.zeros(3))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    files, notes = find_corpora([tmp_path, tmp_path / "named.npz"])
    assert [file.name for file in files] == ["a.npz", "b.npz", "torn.npz", "named.npz"]
    assert notes == ["other.npz is no event corpus and is left out"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="empty: no event corpus"):
        find_corpora([tmp_path / "empty"])


def test_a_refusal_is_one_sentence_and_exit_code_one(tmp_path, capsys):
    path = write_corpus(tmp_path / "bad.npz", None, None, pmu_bus=[*STATIONS, "MORE"])
    with pytest.raises(SystemExit) as end:
        app(["evaluate", "events", str(path)])
    assert end.value.code == 1
    assert capsys.readouterr().err == f"streamproc: {path}: X has 4 PMUs, pmu_bus names 5\n"


@pytest.mark.parametrize("words", [["--noise", "T4"], ["--impair", "rain"]])
def test_a_wrong_word_is_refused_with_the_right_ones(tmp_path, capsys, words):
    path = write_corpus(tmp_path / "c.npz")
    with pytest.raises(SystemExit) as end:
        app(["evaluate", "events", str(path), *words])
    assert end.value.code == 2
    assert "none of" in capsys.readouterr().err

"""Protects `streamproc train`: a recording in, a bundle out that loads; a refusal is one sentence, exit 1."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streamproc.cli.root import app
from streamproc.shell.models import ModelSet

RECORDING = Path(__file__).resolve().parents[1] / "data" / "gsf_openpdc_freq" / "freq_80min.csv.gz"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        app(["train", *words])
    return int(end.value.code or 0)


def test_a_recording_becomes_a_bundle_that_loads(tmp_path, capsys):
    out = tmp_path / "bundle"
    assert run("anomaly", str(RECORDING), "--out", str(out), "--seconds", "120", "--json") == 0
    said = orjson.loads(capsys.readouterr().out)
    (model,) = said["models"]
    assert model["pmus"] == 1
    assert model["rate_hz"] == 30.0
    assert 110 <= model["seconds"] <= 120
    assert model["limits"]["frequency_jump"] >= 7.0
    assert ModelSet.load(out)


def test_too_short_a_recording_is_refused_in_one_sentence(tmp_path, capsys):
    out = tmp_path / "bundle"
    assert run("anomaly", str(RECORDING), "--out", str(out), "--seconds", "20") == 1
    said = capsys.readouterr().err
    assert said.startswith("streamproc: train anomaly: area ")
    assert "at least 60 s are needed" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_the_generic_bundle_can_be_written_and_loaded(tmp_path):
    assert run("generic", "--out", str(tmp_path / "generic")) == 0
    assert ModelSet.load(tmp_path / "generic")


def test_a_place_that_cannot_be_written_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("generic", "--out", str(tmp_path / "file" / "bundle")) == 1
    assert "cannot write" in capsys.readouterr().err

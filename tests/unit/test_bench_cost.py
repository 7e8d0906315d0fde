"""Protects the answer of `streamproc size`: the fit finds what is there, says how wrong it is, and errs on the safe side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from streamproc.cli.size import register
from streamproc.errors import ShellError
from streamproc.shell.bench.cost import (
    FILL_RATIO,
    CostModel,
    Point,
    fit,
    load_model,
    save,
    size,
    size_text,
)
from streamproc.shell.bench.load import Load

TRUE = np.array([0.04, 200e-6, 30e-6, 1.5e-6])


def point(pmus: int, rate_hz: int, noise: float = 1.0, pdc_pmus: int = 40) -> Point:
    load = Load(pmus, rate_hz, 1, pdc_pmus=pdc_pmus)
    row = np.array([1.0, load.areas * rate_hz, load.records_per_s, pmus * rate_hz])
    return Point(
        pmus=pmus,
        rate_hz=rate_hz,
        areas=load.areas,
        records_per_s=load.records_per_s,
        cores=float(row @ TRUE) * noise,
        memory_mb=100.0 + 2e-3 * pmus * rate_hz,
    )


def model(noise: float = 0.0) -> CostModel:
    rng = np.random.default_rng(1)
    sites = [(pmus, rate_hz) for pmus in (10, 100, 1000, 3000) for rate_hz in (25, 60)]
    return fit(
        [point(*site, 1.0 + noise * rng.standard_normal()) for site in sites], "today", {"cpu": "test"}
    )


def test_without_noise_the_fit_predicts_every_site_and_says_so() -> None:
    found = model()
    assert found.error_ratio < 0.02
    for pmus, rate_hz in ((40, 50), (600, 30), (2400, 60)):
        wanted = point(pmus, rate_hz)
        assert found.cores_of(Load(pmus, rate_hz, 1)) == pytest.approx(wanted.cores, rel=0.03)
        assert found.memory_mb_of(Load(pmus, rate_hz, 1)) == pytest.approx(wanted.memory_mb, rel=0.01)


def test_small_records_cost_more_than_large_ones_for_the_same_pmus() -> None:
    found = model()
    assert list(found.cores.values()) == pytest.approx(TRUE.tolist(), rel=0.02)
    small, large = size(found, 1000, 60, pdc_pmus=1), size(found, 1000, 60)
    assert small.cores - large.cores == pytest.approx((60_000 - 1500) * TRUE[2], rel=0.05)


def test_noise_shows_in_the_error_and_no_coefficient_is_negative() -> None:
    found = model(noise=0.1)
    assert 0.03 < found.error_ratio < 0.5
    assert found.error_ratio <= found.error_ratio_max
    assert min(*found.cores.values(), *found.memory.values()) >= 0.0


def test_two_measurements_are_the_least() -> None:
    fit([point(10, 25), point(100, 25)], "today", {})
    with pytest.raises(ShellError, match="at least two"):
        fit([point(10, 25)], "today", {})


def test_workers_are_planned_for_the_upper_end_of_the_error() -> None:
    found = model(noise=0.1)
    told = size(found, 3000, 60)
    assert told.cores_low < told.cores < told.cores_high
    assert told.workers * FILL_RATIO >= told.cores_high
    assert (told.workers - 1) * FILL_RATIO < told.cores_high
    assert told.partitions >= told.workers
    assert told.areas == 15
    assert size(found, 10, 25).workers == 1


def test_what_more_workers_cannot_help_is_said() -> None:
    found = model()
    one_area = size(found, 12_000, 60, areas=1)
    said = " ".join(one_area.warnings)
    assert "an area is not split" in said
    assert "1 areas" in said
    assert "extrapolation" in said
    assert one_area.partitions == 1
    assert size(found, 1000, 25).warnings == ()


def test_a_model_comes_back_from_its_file_and_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    found = model(noise=0.05)
    save(found, path)
    assert load_model(path) == found
    path.write_text(path.read_text().replace("streamproc-cost/1", "streamproc-cost/9"))
    with pytest.raises(ShellError, match="streamproc-cost/1"):
        load_model(path)
    path.write_text("{}")
    with pytest.raises(ShellError, match="not a cost model"):
        load_model(path)
    with pytest.raises(ShellError, match="No such file"):
        load_model(tmp_path / "none.json")
    with pytest.raises(ShellError, match="cannot be written"):
        save(found, tmp_path / "none" / "model.json")


def test_the_package_carries_a_model_that_was_measured() -> None:
    found = load_model()
    assert len(found.points) >= 4
    assert found.error_ratio > 0.0
    assert "workers" in size_text(size(found, 3000, 60), found)


def test_the_command_answers_people_and_scripts() -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    words = ["size", "--pmus", "3000", "--rate", "60"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "3,000 PMUs x 60 frames/s in 15 areas" in told.output
    plain = json.loads(CliRunner().invoke(app, [*words, "--json", "--areas", "30"]).output)
    assert plain["areas"] == 30
    assert plain["workers"] >= 1
    assert plain["cores_low"] <= plain["cores"] <= plain["cores_high"]

"""Protects `streamproc train forecast`: what it writes loads, says where it came from and is the same twice; what has been
tampered with is refused; and the models lose to nothing that costs nothing."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from ahead_cases import ABOUT, MONDAY, fleet_of_loads, loads, trained, weather, write

from streamproc.cli.root import app
from streamproc.core.ahead.bands import JUDGED, N_BLOCK, N_SHAPE
from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY
from streamproc.core.ahead.model import KNOTS, MEMBERS
from streamproc.errors import DataError, ModelError
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.training.ahead.bundle import files_of
from streamproc.training.ahead.card import card_of
from streamproc.training.ahead.generic import made_fleet
from streamproc.training.ahead.samples import issues_of, samples
from streamproc.training.ahead.train import figures, train

FILES = ("arrays.npz", "card.md", "golden.npz", "manifest.toml", "model.onnx")


def table(path: Path, days: int = 30, *, step: int = 1) -> Path:
    """A CSV of quarter (step 1) or half (2) hours with two targets and a temperature."""
    value, course = loads(2, days * PER_DAY)[:, ::step], weather(days * PER_DAY)[::step]
    rows = ["time,p_mw,q_mw,temperature_degc"]
    for at, (p, q, t) in enumerate(zip(*value.tolist(), course.tolist(), strict=True)):
        stamp = np.datetime64((MONDAY + at * step) * 900, "s")
        rows.append(f"{stamp}Z,{p:.4f},{q:.4f},{t:.3f}")
    path.write_text("\n".join(rows) + "\n")
    return path


def call(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    out, err = io.StringIO(), io.StringIO()
    line = ["train", "forecast", *words]
    with (
        patch.object(sys, "argv", ["streamproc", *line]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        app(line)
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def trained_twice(path: Path, step: int, *more: str, times: int = 1) -> tuple[list[Path], str]:
    """The bundles of one command in rooms of their own, and what it printed last."""
    source, out, rooms = table(path / "load.csv", step=step), "", []
    for room in range(times):
        rooms.append(path / str(room) / "b")
        words = [str(source), "--target", "p_mw", "--target", "q_mw", "--id", "F1.P", "--id", "F2.P", *more]
        rooms[-1].parent.mkdir()
        code, out, errors = call(*words, "--out", str(rooms[-1]))
        assert code == 0, errors
    return rooms, out


def test_the_command_is_the_same_twice_and_knows_where_it_came_from(tmp_path: Path) -> None:
    more = ("--known", "temperature_degc", "--zone", "Europe/Berlin", "--seed", "4", "--unit", "MW", "--json")
    (one, two), out = trained_twice(tmp_path, 2, *more, times=2)
    assert sorted(p.name for p in one.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    loaded = OnnxAhead.load(one)
    assert json.loads(out)["digest"] == loaded.digest
    about = loaded.manifest.bundle
    assert about.command.startswith("streamproc train forecast load.csv --target p_mw")
    assert str(tmp_path) not in about.command
    assert len(about.data_digest) == 64
    assert (about.seed, about.zone, about.unit, about.name) == (4, "Europe/Berlin", "MW", "load")
    assert about.trained_from.startswith("2024-01-01T01:00")
    assert about.trained_until.startswith("2024-01-31T00:30")
    assert loaded.manifest.series.ids == ("F1.P", "F2.P")
    assert loaded.known_names == ("temperature_degc",)
    known, course = loaded.manifest.known[0], weather(30 * PER_DAY)
    assert known.mean == pytest.approx(course.mean(), rel=0.02)
    assert known.size == pytest.approx(course.std(), rel=0.05)
    low, high = loaded.ranges_of(("F2.P", "nobody"))
    value = loads(2, 30 * PER_DAY)[1, ::2]
    assert (low[0], high[0]) == pytest.approx((value.min(), value.max()), rel=1e-3)
    assert np.isnan(low[1])
    assert set(loaded.manifest.metrics) == {"PT15M", "PT1H", "PT4H", "PT12H", "PT24H", "PT48H"}
    assert "F1.P" in (one / "card.md").read_text()


def test_quarter_hours_without_weather_make_a_bundle_that_loads(tmp_path: Path) -> None:
    (one,), out = trained_twice(tmp_path, 1)
    assert "48H ahead, held out" in out
    assert "forecast_bundle" in out
    assert OnnxAhead.load(one).known_names == ()


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("load.csv", "--target", "nobody"), "nobody"),
        (("load.csv", "--target", "p_mw", "--known", "wind"), "wind"),
        (("short.csv", "--target", "p_mw"), "10.0 days of history, at least 17 are needed"),
        (("load.csv", "--target", "p_mw", "--target", "q_mw", "--id", "A"), "1 names for 2 targets"),
        (("load.csv", "--target", "p_mw", "--target", "q_mw", "--id", "A", "--id", "A"), "a name of its own"),
        (("gone.csv", "--target", "p_mw"), "gone.csv"),
        (("load.csv",), "give a file and at least one --target"),
        (("load.csv", "--target", "p_mw", "--train-until", "2024-01-05"), "days of history"),
        (("load.csv", "--target", "p_mw", "--zone", "Europe/Nowhere"), "Europe/Nowhere"),
    ],
)
def test_what_cannot_be_trained_is_an_error_that_says_why(
    words: tuple[str, ...], rule: str, tmp_path: Path
) -> None:
    table(tmp_path / "load.csv")
    table(tmp_path / "short.csv", 10)
    code, _, errors = call(str(tmp_path / words[0]), *words[1:], "--out", str(tmp_path / "out"))
    assert code == 1
    assert rule in " ".join(errors.split())
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.onnx", "arrays.npz", "golden.npz", "manifest.toml"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "empty", "noise"])
def test_a_tampered_bundle_is_refused_naming_the_file(name: str, how: str, tmp_path: Path) -> None:
    files = dict(trained(1)[1])
    content = files.pop(name)
    half = len(content) // 2
    changed = {
        "flipped": content[:half] + bytes([content[half] ^ 0xFF]) + content[half + 1 :],
        "cut": content[:half],
        "empty": b"",
        "noise": b"\x00\xff" * 50,
    }
    write(tmp_path, files if how == "gone" else {**files, name: changed[how]})
    with pytest.raises(ModelError) as error:
        OnnxAhead.load(tmp_path)
    assert name in str(error.value)


def test_golden_vectors_that_are_damaged_anywhere_are_refused_by_name(tmp_path: Path) -> None:
    files = trained(1)[1]
    content = bytearray(files["golden.npz"])
    rng = np.random.default_rng(1)
    told = []
    for at in rng.integers(0, len(content), 60).tolist():
        content[at] ^= 0x55
        try:
            OnnxAhead.load(write(tmp_path, {**files, "golden.npz": bytes(content)}))
        except ModelError as error:
            told.append(str(error))
        content[at] ^= 0x55
    assert all("golden.npz" in words for words in told)
    assert len(told) > 40  # a time stamp within the zip is nobody's business


def test_golden_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    files = trained(1)[1]
    with np.load(io.BytesIO(files["golden.npz"])) as vectors:
        arrays = dict(vectors)
    for name, change in (("median", 1.001), ("plain", np.nan)):
        packed = io.BytesIO()
        np.savez(packed, **{**arrays, name: arrays[name] * change})  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=r"golden\.npz: the model does not reproduce"):
            OnnxAhead.load(write(tmp_path, {**files, "golden.npz": packed.getvalue()}))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('format = "streamproc-ahead/1"', 'format = "streamproc-ahead/2"', "format"),
        ("leads = 192", "leads = 96", "leads"),
        ("step_min = 15", "step_min = 5", "step_min"),
        ("history_rows = 1344", "history_rows = 672", "history_rows"),
        ('"F0"', '"F0", "F1"', "arrays.npz: low has shape"),
        ("seed = 1", 'seed = 1\nsecret = "x"', "secret"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(old: str, new: str, rule: str, tmp_path: Path) -> None:
    files = trained(1)[1]
    text = files["manifest.toml"].decode()
    assert old in text
    write(tmp_path, {**files, "manifest.toml": text.replace(old, new).encode()})
    with pytest.raises(ModelError, match=rule):
        OnnxAhead.load(tmp_path)


def test_the_bundle_of_the_package_loads_and_is_nobodys() -> None:
    model = OnnxAhead.load()
    assert model.known_names == ()
    assert model.manifest.bundle.command == "streamproc train forecast --generic --out DIR"
    assert model.shape.quantile.shape == (len(JUDGED), N_SHAPE)
    assert model.shape.scale.shape == (len(JUDGED), N_BLOCK)
    assert (np.diff(model.shape.quantile, axis=1) >= 0.0).all()
    assert msgspec.to_builtins(model.manifest)["model"]["digest"] == model.digest


@pytest.mark.parametrize("kind", ["load", "solar", "wind"])
def test_nothing_loses_to_a_fallback(kind: str) -> None:
    fleet = made_fleet(2, 49, 3)
    rows = [i for i, name in enumerate(fleet.names) if kind in name]
    mine = replace(fleet, names=tuple(fleet.names[i] for i in rows), value=fleet.value[rows])
    model, made = train(mine, 1, 1500)
    told = figures(model, made)
    assert told["PT15M"]["skill_persistence"] >= -0.02
    for words, of in told.items():
        for base in ("seasonal_1d", "seasonal_7d", "persistence"):
            assert of[f"skill_{base}"] >= -0.02, (words, base)
        assert of["pinball_spreads"] < of["mae_spreads"]


def test_weather_that_matters_helps_and_blends_are_shares() -> None:
    model = trained(known=True)[0]
    at = [KNOTS.index(lead) for lead in (48, 96, 192)]
    full, plain = (np.nanmean(np.abs(fit.error[:, at])) for fit in (model.full, model.plain))
    assert full < 0.98 * plain
    for fit in (model.full, model.plain):
        blend = fit.weights.blend
        assert blend.shape == (4, len(MEMBERS), 10)
        assert (blend >= 0.0).all()
        np.testing.assert_allclose(blend.sum(axis=1), 1.0, atol=1e-9)


def test_held_out_rows_were_not_in_the_fit() -> None:
    """Errors of the folds do not change with what came after them."""
    fleet = fleet_of_loads(2, 34)
    issues = issues_of(fleet, 0, 34 * PER_DAY, 800)
    assert issues.min() >= N_ROW
    assert issues.max() + N_LEAD <= 34 * PER_DAY
    made = samples(fleet, issues)
    from streamproc.training.ahead.fit import _folds

    for before, inside in _folds(made):
        assert made.issue[before].max() + N_LEAD <= made.issue[inside].min()


def test_a_past_too_short_to_hold_anything_back_still_makes_a_bundle(tmp_path: Path) -> None:
    model, made = train(fleet_of_loads(2, 18), 1, 300)
    metrics = figures(model, made)
    card = card_of(model, ABOUT, metrics, [])
    assert "nan" not in card
    assert not any(np.isnan(v) for of in metrics.values() for v in of.values())
    assert OnnxAhead.load(write(tmp_path, files_of(model, ABOUT, metrics, card))).manifest.metrics == metrics
    with pytest.raises(DataError, match="at least 17"):
        train(fleet_of_loads(2, 16), 1, 300)


def test_a_series_of_gaps_is_refused_and_some_gaps_are_not() -> None:
    fleet = fleet_of_loads(2, 30)
    with pytest.raises(DataError, match="gaps everywhere"):
        train(replace(fleet, value=np.full_like(fleet.value, np.nan)), 1, 300)
    value = fleet.value.copy()
    value[np.random.default_rng(1).random(value.shape) < 0.2] = np.nan
    model, made = train(replace(fleet, value=value), 1, 400)
    assert figures(model, made)["PT24H"]["skill_persistence"] > 0.0

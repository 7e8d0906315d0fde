"""Protects "bring your own ONNX": a declared specification, plain operators only, judged on data, packed like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from streamproc.cli.train import register
from streamproc.errors import ModelError
from streamproc.shell.ahead_model import OnnxAhead

DAYS = 30


def yesterday(name: str = "near", output: str = "median", domain: str = "") -> bytes:
    """A model that says: as on the newest day that is known."""
    ints = {"zero": [0], "one": [1], "axis": [1], "flat": [192]}
    nodes = [
        helper.make_node("Slice", [name, "zero", "one", "axis"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["places"], domain=domain),
        helper.make_node("Gather", ["history", "places"], [output], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [
            helper.make_tensor_value_info("history", TensorProto.FLOAT, ["n", 1344]),
            helper.make_tensor_value_info(name, TensorProto.INT64, [192, 7]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 192])],
        initializer=[numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ints.items()],
    )
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    return bytes(model.SerializeToString())


@pytest.fixture
def series(tmp_path: Path) -> Path:
    hours = np.arange(DAYS * 24)
    rng = np.random.default_rng(1)
    load = 50.0 + 10.0 * np.sin(hours / 24 * 2 * np.pi) + rng.normal(size=hours.size)
    rows = [f"2024-01-{1 + h // 24:02d}T{h % 24:02d}:00,{v:.3f}" for h, v in zip(hours, load, strict=True)]
    path = tmp_path / "load.csv"
    path.write_text("\n".join(["time,load_mw", *rows]) + "\n")
    return path


def trained(series: Path, model: bytes, out: Path) -> tuple[int, str]:
    import typer

    own = series.parent / "own.onnx"
    own.write_bytes(model)
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    words = ["train", "forecast", str(series), "--target", "load_mw", "--onnx", str(own), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    return done.exit_code, f"{done.output}{done.exception or ''}"


def test_an_own_model_becomes_a_bundle_that_loads_and_answers(series: Path, tmp_path: Path) -> None:
    code, said = trained(series, yesterday(), tmp_path / "b")
    assert code == 0, said
    loaded = OnnxAhead.load(tmp_path / "b")
    assert loaded.manifest.bundle.data_digest
    assert loaded.shape.scale.shape == (6, 6)
    assert (np.diff(loaded.shape.quantile, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (yesterday(name="secret"), "input 'secret' is not declared"),
        (yesterday(output="answer"), "expected 'median'"),
        (yesterday(domain="evil.ops"), "operator domain"),
        (b"nonsense", "own.onnx"),
    ],
)
def test_what_keeps_not_to_the_specification_is_refused_with_the_rule(
    series: Path, tmp_path: Path, model: bytes, rule: str
) -> None:
    code, said = trained(series, model, tmp_path / "b")
    assert code != 0
    assert rule in said
    with pytest.raises(ModelError):
        OnnxAhead.load(tmp_path / "b")


def test_the_model_is_the_one_that_was_given(series: Path, tmp_path: Path) -> None:
    trained(series, yesterday(), tmp_path / "b")
    assert (tmp_path / "b" / "model.onnx").read_bytes() == yesterday()
    assert onnx.load(tmp_path / "b" / "model.onnx").graph.name == "own"

"""Protects the gate before ONNX Runtime: nothing unchecked is loaded, and no fallback is silent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import tomli_w
from onnx import helper

from streamproc.core.detector import Windows
from streamproc.core.scoring import model_digest
from streamproc.errors import ConfigError, ModelError
from streamproc.shell.models import Bundle, ModelSet, SessionScorer
from streamproc.shell.onnx_file import check_model
from streamproc.training.anomaly import Recorded, fit_bundle
from streamproc.training.bundle import GENERIC_RATES_HZ, generic_bundle

SHIPPED = Path(__file__).resolve().parents[2] / "streamproc" / "bundles" / "generic"
NAN = float("nan")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    fast = (rng.normal(size=(2400, 3, 3)) * np.array([1e-3, 5e-4, 1e-3])[:, None]).astype(np.float32)
    base_v = np.array([1.0e5, 2.0e5, 3.0e5])
    return fit_bundle(
        [Recorded("north", ("S0", "S1", "S2"), 30.0, 60.0, fast, base_v)], SessionScorer, "test"
    )


@pytest.fixture
def site(files, tmp_path) -> Path:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def edit(site: Path, change) -> None:
    manifest = tomllib.loads((site / "manifest.toml").read_text())
    change(manifest)
    (site / "manifest.toml").write_text(tomli_w.dumps(manifest))


def replace_model(site: Path, model: onnx.ModelProto) -> None:
    content = model.SerializeToString()
    (site / "area_0.onnx").write_bytes(content)

    def own_digests(manifest) -> None:
        model = manifest["model"][0]
        model["graph"][0]["digest"] = hashlib.sha256(content).hexdigest()
        model["digest"] = model_digest([(graph["stride"], graph["digest"]) for graph in model["graph"]])

    edit(site, own_digests)


def windows(model, n_pmu: int, seed: int = 5):
    rng = np.random.default_rng(seed)
    size = np.array([1e-3, 5e-4, 1e-3])[:, None]
    fast = (rng.normal(size=(model.fast_rows, 3, n_pmu)) * size).astype(np.float32)
    slow = (rng.normal(size=(model.slow_rows, 3, n_pmu)) * size).astype(np.float32)
    return Windows(fast[-1], fast, slow)


def test_the_shipped_generic_bundle_is_what_the_command_writes():
    made = generic_bundle()
    assert {path.name for path in SHIPPED.iterdir()} == set(made)
    for name, content in made.items():
        if name.endswith(".npz"):  # compression may differ between builds of zlib: compare what is inside
            with np.load(io.BytesIO(content)) as new, np.load(SHIPPED / name) as old:
                for key in new.files:
                    np.testing.assert_allclose(new[key], old[key], rtol=1e-9, atol=1e-12)
    assert {m.table.rate_hz for m in Bundle.load(None).models} == set(GENERIC_RATES_HZ)


def test_a_changed_byte_is_refused(site):
    path = site / "area_0.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"area_0\.onnx: digest .*, the manifest says"):
        ModelSet.load(site)


def test_a_model_that_computes_something_else_is_refused(site):
    model = onnx.load_from_string((site / "area_0.onnx").read_bytes())
    last = next(node for node in model.graph.node if node.op_type == "Abs")
    last.op_type = "Identity"
    replace_model(site, model)
    with pytest.raises(ModelError, match="does not reproduce its golden vectors"):
        ModelSet.load(site)


@pytest.mark.parametrize(
    ("node", "rule"),
    [
        (helper.make_node("Loop", ["a"], ["b"]), "operator 'Loop'"),
        (helper.make_node("Abs", ["a"], ["b"], domain="evil.ops"), "operator domain b'evil.ops'"),
        (helper.make_node("Abs", ["a"], ["b"], body=helper.make_graph([], "g", [], [])), "sub-graphs"),
    ],
)
def test_operators_that_are_not_on_the_list_are_refused(site, node, rule):
    model = onnx.load_from_string((site / "area_0.onnx").read_bytes())
    model.graph.node.append(node)
    replace_model(site, model)
    with pytest.raises(ModelError, match=rule):
        ModelSet.load(site)


def test_external_data_is_refused(site):
    model = onnx.load_from_string((site / "area_0.onnx").read_bytes())
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    replace_model(site, model)
    with pytest.raises(ModelError, match="external data"):
        ModelSet.load(site)


def test_an_untested_opset_is_refused(site):
    model = onnx.load_from_string((site / "area_0.onnx").read_bytes())
    model.opset_import[0].version = 7
    replace_model(site, model)
    with pytest.raises(ModelError, match="opset 7, accepted 17 to 21"):
        ModelSet.load(site)


def test_no_bytes_crash_the_reader_of_onnx_files():
    rng = np.random.default_rng(2)
    good = (SHIPPED / "generic_30.onnx").read_bytes()[:4000]
    for _ in range(300):
        content = bytearray(good[: int(rng.integers(1, 4000))])
        content[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        with contextlib.suppress(ModelError):  # any other exception fails the test
            check_model(bytes(content), "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["bundle"].update(format="streamproc-bundle/9"), "format 'streamproc-bundle/9'"),
        (lambda m: m["bundle"].update(colour="blue"), "unknown field `colour`"),
        (lambda m: m["model"][0]["graph"][0].update(file="../secret"), "not a plain file name"),
        (lambda m: m["model"][0].update(golden="absent.npz"), "cannot read absent.npz"),
        (lambda m: m["model"][0]["graph"][0].update(fast_rows=5), "the manifest says"),
        (lambda m: m["model"][0].update(fast_rows=5), "the manifest contradicts itself"),
        (lambda m: m["model"][0]["graph"][1].update(stride=0), "the manifest contradicts itself"),
        (lambda m: m["model"][0]["graph"][1].update(stride=2), "is not that of its graphs"),
        (lambda m: m["model"][0]["graph"].pop(), r"its graphs give \d+ rows of scores for \d+ rules"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(site, change, words):
    edit(site, change)
    with pytest.raises(ModelError, match=words):
        ModelSet.load(site)


def test_a_directory_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read manifest\.toml"):
        ModelSet.load(tmp_path)


def test_the_known_area_gets_the_site_model(site):
    models = ModelSet.load(site)
    model = models.for_area("north", ("S0", "S1", "S2"), 30.0, 60.0)
    assert (model.reason, model.fallback_count) == ("", 0)
    np.testing.assert_array_equal(model.base_v, [1.0e5, 2.0e5, 3.0e5])
    assert models.for_area("north", ("S0", "S1", "S2"), 30.0, 60.0) is model


def test_a_graph_is_judged_only_at_multiples_of_its_stride(site):
    model = ModelSet.load(site).for_area("north", ("S0", "S1", "S2"), 30.0, 60.0)
    seen = windows(model, 3)
    whole, part = model.score(seen, 30_000_003), model.score(seen, 30_000_004)
    slow = [row for row, rule in enumerate(model.rules) if rule.kind == "oscillation"]
    assert np.isnan(part[slow]).all()
    every = np.isfinite(part).all(axis=1)
    np.testing.assert_array_equal(whole[every], part[every])
    assert np.isfinite(whole[[rule.name for rule in model.rules].index("oscillation_local")]).all()


def test_columns_in_another_order_give_the_same_scores(site):
    models = ModelSet.load(site)
    model = models.for_area("north", ("S0", "S1", "S2"), 30.0, 60.0)
    turned = models.for_area("north", ("S2", "S0", "S1"), 30.0, 60.0)
    seen = windows(model, 3)
    order = [2, 0, 1]
    other = Windows(*(array[..., order] for array in seen))
    np.testing.assert_array_equal(turned.score(other, 0), model.score(seen, 0)[:, order])
    np.testing.assert_array_equal(turned.base_v, model.base_v[order])


def test_a_pmu_of_the_bundle_that_does_not_send_is_masked(site):
    models = ModelSet.load(site)
    fewer = models.for_area("north", ("S0", "S2"), 30.0, 60.0)
    assert fewer.reason == ""
    scores = fewer.score(windows(fewer, 2), 0)
    assert scores.shape == (len(fewer.rules), 2)
    assert np.isfinite(scores[[rule.name for rule in fewer.rules].index("spe")]).all()


def test_an_unknown_pmu_is_scored_by_the_generic_model_and_said_so(site):
    models = ModelSet.load(site)
    mixed = models.for_area("north", ("S0", "NEW", "S1", "S2"), 30.0, 60.0)
    assert mixed.fallback_count == 1
    assert "1 PMUs are not in bundle site: NEW" in mixed.reason
    seen = windows(mixed, 4)
    seen.fast[-1, 1, 1] -= 0.1  # and with it the row of the instant
    scores = mixed.score(seen, 0)
    jumps = [row for row, rule in enumerate(mixed.rules) if rule.name == "voltage_jump"]
    assert len(jumps) == 2
    assert np.isnan(scores[jumps[0], 1])
    assert scores[jumps[1], 1] >= 1.0
    assert np.isnan(scores[jumps[1], [0, 2, 3]]).all()
    known = models.for_area("north", ("S0", "S1", "S2"), 30.0, 60.0)
    keep = [0, 2, 3]
    np.testing.assert_array_equal(
        scores[: len(known.rules), keep],
        known.score(Windows(*(np.ascontiguousarray(array[..., keep]) for array in seen)), 0),
    )


@pytest.mark.parametrize(
    ("area", "stations", "rate_hz", "nominal_hz"),
    [
        ("south", ("S0",), 30.0, 60.0),
        ("north", ("S0",), 50.0, 60.0),
        ("north", ("S0",), 30.0, 50.0),
        ("north", ("X", "Y"), 30.0, 60.0),
    ],
)
def test_an_area_that_the_bundle_does_not_fit_falls_back_whole_and_says_so(
    site, area, stations, rate_hz, nominal_hz
):
    model = ModelSet.load(site).for_area(area, stations, rate_hz, nominal_hz)
    assert model.fallback_count == len(stations)
    assert f"area {area}" in model.reason
    assert "spe" not in {rule.name for rule in model.rules}


def test_a_rate_without_a_generic_model_takes_the_nearest_and_says_so():
    model = ModelSet.load().for_area("a", ("X",), 29.0, 60.0)
    assert model.reason == "no generic model for 29 frames/s, the one for 30 is used"


def test_the_site_file_moves_a_limit_and_the_scores_with_it():
    plain = ModelSet.load().for_area("a", ("X",), 30.0, 60.0)
    moved = ModelSet.load(
        None, {"rocof": {"limit": 0.25, "on_delay_ms": 100}, "voltage_low": {"enabled": False}}
    )
    model = moved.for_area("a", ("X",), 30.0, 60.0)
    names = [rule.name for rule in model.rules]
    assert "voltage_low" not in names
    assert model.digest != plain.digest
    rule = model.rules[names.index("rocof")]
    assert (rule.limit, rule.on_delay_ms) == (0.25, 100)
    seen = windows(model, 1)
    before = plain.score(seen, 0)[[r.name for r in plain.rules].index("rocof")]
    np.testing.assert_allclose(model.score(seen, 0)[names.index("rocof")], before * 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"rocoff": {}}, r"\[detector.rocoff\]: no such rule"),
        ({"rocof": {"limit_hz": 1.0}}, "limit_hz: unknown key"),
        ({"rocof": {"limit": -1.0}}, "must be above 0"),
        ({"rocof": {"limit": "1"}}, "wrong type"),
        ({"rocof": {"enabled": 1}}, "wrong type"),
        ({"rocof": {"priority": 5}}, "1, 2, 3 or 4"),
        ({"rocof": {"on_delay_ms": 1.5}}, "whole milliseconds"),
        ({"rocof": {"deadband_ratio": 1.0}}, "below 1"),
    ],
)
def test_a_wrong_adjustment_is_refused_by_name(tables, words):
    with pytest.raises(ConfigError, match=words):
        ModelSet.load(None, tables)

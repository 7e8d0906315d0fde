"""Protects fitting: deterministic, margin on the excess, too little data refused."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.detector import Windows, learnt_limit
from streamproc.errors import ModelError
from streamproc.shell.models import ModelSet, SessionScorer
from streamproc.training.anomaly import Recorded, Tap, fit_bundle

NAN = float("nan")


def recorded(n_tick: int = 3000, n_pmu: int = 3, seed: int = 1) -> Recorded:
    rng = np.random.default_rng(seed)
    fast = (rng.normal(size=(n_tick, 3, n_pmu)) * np.array([1e-3, 5e-4, 1e-3])[:, None]).astype(np.float32)
    return Recorded("north", tuple(f"S{i}" for i in range(n_pmu)), 30.0, 60.0, fast, np.full(n_pmu, NAN))


def test_the_margin_is_on_the_excess_over_the_median():
    levels = np.array([[3.0, 1.0], [4.0, NAN], [NAN, NAN], [NAN, 8.0], [2.0, 4.0]])
    assert learnt_limit(levels, 2.0, 0.0) == 4.0 + 2.0 * (8.0 - 4.0)
    assert learnt_limit(levels, 2.0, 20.0) == 20.0
    assert learnt_limit(np.full((4, 2), NAN), 2.0, 7.0) == 7.0


def test_the_same_data_gives_the_same_bundle_and_the_bundle_loads(tmp_path):
    files = fit_bundle([recorded()], SessionScorer, "test")
    assert files == fit_bundle([recorded()], SessionScorer, "test")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    model = ModelSet.load(tmp_path).for_area("north", ("S0", "S1", "S2"), 30.0, 60.0)
    assert model.reason == ""
    assert {"spe", "t2", "frequency_jump"} <= {rule.name for rule in model.rules}


def test_other_data_gives_another_digest():
    one, two = (fit_bundle([recorded(seed=seed)], SessionScorer, "test")["manifest.toml"] for seed in (1, 2))
    assert one != two


def test_too_little_data_is_refused_with_the_amount_found():
    with pytest.raises(ModelError, match=r"area north: .* 40\.0 s of known data, at least 60 s"):
        fit_bundle([recorded(n_tick=1200)], SessionScorer, "test")
    with pytest.raises(ModelError, match="holds no PMU data"):
        fit_bundle([], SessionScorer, "test")


def test_a_channel_without_data_is_named_and_stays_unknown(tmp_path):
    data = recorded()
    data.fast[:, 1, 2] = NAN
    files = fit_bundle([data], SessionScorer, "test")
    assert b"S2 voltage: 0 s of known data" in files["manifest.toml"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    model = ModelSet.load(tmp_path).for_area("north", data.stations, 30.0, 60.0)
    fast = np.ascontiguousarray(recorded().fast[-model.fast_rows :])
    scores = model.score(Windows(fast[-1], fast, np.zeros((model.slow_rows, 3, 3), np.float32)), 0)
    row = [rule.name for rule in model.rules].index("voltage_jump")
    assert np.isnan(scores[row, 2])
    assert np.isfinite(scores[row, :2]).all()


def test_the_tap_keeps_the_newest_row_of_every_tick():
    tap = Tap()
    model = tap.for_area("a", ("X",), 30.0, 60.0)
    assert tap.for_area("a", ("X",), 30.0, 60.0) is model
    for tick in range(5):
        row = np.full((3, 1), tick, np.float32)
        assert model.score(Windows(row, row[None], row[None]), 70 + tick).shape == (0, 1)
    two = np.zeros((3, 2), np.float32)
    tap.for_area("a", ("X", "Y"), 30.0, 60.0).score(Windows(two, two[None], two[None]), 0)
    (only,) = tap.recorded()
    assert (only.stations, only.first_instant) == (("X",), 70)
    np.testing.assert_array_equal(only.fast[:, 0, 0], [0, 1, 2, 3, 4])

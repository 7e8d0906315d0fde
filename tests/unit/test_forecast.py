"""Protects the forecast model: what is shipped is what the expression says, loses to persistence nowhere that matters, says
nothing it cannot know, and is not used when a single byte of it is wrong."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.forecast import Grid, close, coverage, skip_to
from streamproc.core.quantiles import (
    DRIFT_ROWS,
    HISTORY_ROWS,
    LEVELS,
    build_numpy,
    n_step,
    persistence,
    rounded,
)
from streamproc.core.sums import add, due
from streamproc.errors import ModelError
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.models import SessionScorer
from streamproc.training.forecast import (
    SEEDS,
    emit,
    evaluate,
    fit,
    fit_generic,
    golden_history,
    windows,
    with_gaps,
)
from streamproc.training.forecast_series import means, series
from streamproc.values import F32, F64

FORECASTER = OnnxForecaster.load()
SHIPPED = Path(str(resources.files("streamproc") / "bundles" / "forecast"))
MADE = series(3, 6, seed=99)


def some_history(interval_min: int) -> F32:
    every = [windows(means(minutes, interval_min), interval_min)[0][:200] for minutes in MADE.values()]
    return with_gaps(np.concatenate(every), 5).astype(np.float32)


@pytest.mark.parametrize("interval_min", HISTORY_ROWS)
def test_the_onnx_file_gives_what_the_expression_gives(interval_min: int, tmp_path: Path) -> None:
    history, future = windows(means(MADE["load"], interval_min), interval_min)
    params = fit(interval_min, history[:500], future[:500], history[500:900], future[500:900])
    model = emit(interval_min, params)
    assert model == emit(interval_min, params)
    SessionScorer(model)  # accepted operators only
    for name in (
        "manifest.toml",
        *(f"interval_{i}.{ending}" for i in HISTORY_ROWS for ending in ("onnx", "npz")),
    ):
        shutil.copy(SHIPPED / name, tmp_path / name)
    (tmp_path / f"interval_{interval_min}.onnx").write_bytes(model)
    golden = golden_history(interval_min)
    np.savez(tmp_path / f"interval_{interval_min}.npz", history=golden, quantiles=build_numpy(golden, params))
    _set_digest(tmp_path, interval_min, model)
    rows = some_history(interval_min)
    ours = build_numpy(rows.astype(np.float64), params)
    theirs = OnnxForecaster.load(tmp_path).predict(interval_min, rows)
    assert np.isfinite(ours).all()
    scale = 1 + np.abs(ours).max(axis=(1, 2), keepdims=True)
    assert (np.abs(theirs - ours) / scale).max() < 1e-5


def _set_digest(directory: Path, interval_min: int, model: bytes) -> None:
    text = (directory / "manifest.toml").read_text()
    old = hashlib.sha256((SHIPPED / f"interval_{interval_min}.onnx").read_bytes()).hexdigest()
    assert old in text
    (directory / "manifest.toml").write_text(text.replace(old, hashlib.sha256(model).hexdigest()))


@pytest.mark.parametrize("interval_min", [5, 15])
def test_the_shipped_model_is_what_its_command_makes(interval_min: int) -> None:
    golden = golden_history(interval_min)[:-1]
    again = build_numpy(golden, fit_generic(interval_min))
    shipped = FORECASTER.predict(interval_min, golden.astype(np.float32))
    scale = 1 + np.abs(again).max(axis=(1, 2), keepdims=True)
    assert (np.abs(shipped - again) / scale).max() < 1e-4


@pytest.mark.parametrize("interval_min", HISTORY_ROWS)
def test_the_model_does_not_lose_to_persistence_and_its_band_holds_nine_of_ten(interval_min: int) -> None:
    days = {1: 2, 5: 6, 15: 15}[interval_min]
    made = {kind: means(minutes, interval_min) for kind, minutes in series(8, days, seed=1234).items()}
    for lead_min in (15, 60):
        mae, pinball, inside = [], [], []
        for values in made.values():
            history, future = windows(values, interval_min)
            model = FORECASTER.predict(interval_min, history.astype(np.float32)).astype(np.float64)
            walk = persistence(history, history[:, -1], future.shape[1])
            h = lead_min // interval_min - 1
            actual = future[:, h]
            mae.append(np.abs(model[:, 3, h] - actual).mean() / np.abs(history[:, -1] - actual).mean())
            pinball.append(_pinball(model[:, :, h], actual) / _pinball(walk[:, :, h], actual))
            inside.append(np.mean((actual >= model[:, 0, h]) & (actual <= model[:, 6, h])))
        assert np.mean(mae) < 1.0
        assert max(mae) < 1.08
        assert np.mean(pinball) < 0.98
        assert 0.85 < np.mean(inside) < 0.95


def _pinball(bands: F64, actual: F64) -> float:
    miss = actual[:, None] - bands
    return float(np.maximum(np.array(LEVELS) * miss, (np.array(LEVELS) - 1) * miss).mean())


def test_the_evaluation_says_what_persistence_is_worth_against_itself() -> None:
    made = {"load": means(MADE["load"], 15)}
    history, future = windows(made["load"], 15)
    params = fit(15, history[:500], future[:500], history[500:900], future[500:900])
    flat = type(params)(0 * params.weight, params.spread, params.quantile, params.drift_rows)
    for score in evaluate(15, flat, made):
        assert score.mae_ratio == pytest.approx(1.0)
    assert SEEDS["evaluation"] not in (SEEDS["weights"], SEEDS["quantiles"])


@settings(max_examples=60, deadline=None)
@given(
    interval_min=st.sampled_from([1, 5, 15]),
    size=st.floats(1e-3, 1e5),
    shift=st.floats(-1e4, 1e4),
    seed=st.integers(0, 50),
)
def test_quantiles_are_finite_ordered_and_follow_unit_and_level(
    interval_min: int, size: float, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plain = with_gaps(rng.normal(size=(20, HISTORY_ROWS[interval_min])).cumsum(axis=1), seed)
    base = FORECASTER.predict(interval_min, plain.astype(np.float32))
    assert np.isfinite(base).all()
    assert (np.diff(base, axis=1) >= 0).all()
    moved = FORECASTER.predict(interval_min, (plain * size + shift).astype(np.float32))
    # float32 holds seven digits of the level; what is left of a step after that is the honest tolerance.
    tolerance = 2e-3 * size + 2e-4 * (abs(shift) + 100 * size)
    assert (np.abs(moved - (base * size + shift)) <= tolerance).all()


def test_an_unknown_last_value_gives_no_answer_and_rows_do_not_see_each_other() -> None:
    history = some_history(5)[:40]
    alone = FORECASTER.predict(5, history)
    history[7, -1] = np.nan
    history[9] = np.nan
    again = FORECASTER.predict(5, history)
    assert np.isnan(again[[7, 9]]).all()
    others = [i for i in range(40) if i not in (7, 9)]
    assert (alone[others] == again[others]).all()


def test_a_wild_step_is_clipped_and_zeros_stay_zero() -> None:
    history = np.ones((2, 36), dtype=np.float32)
    history[0, 20] = 1e6
    history[1] = 0.0
    made = FORECASTER.predict(5, history)
    assert np.abs(made[0, 3] - 1).max() < 2e6
    assert np.abs(made[1]).max() < 1e-6


def test_persistence_spreads_like_a_walk_of_the_known_steps() -> None:
    history = np.array([[1.0, 2.0, 1.0, 2.0], [np.nan, np.nan, np.nan, 5.0]])
    made = persistence(history, history[:, -1], 4)
    assert made[0, 3].tolist() == [2.0] * 4
    assert made[0, 6, 3] - 2.0 == pytest.approx(1.644854 * 2.0)
    assert made[1, 6, 0] - 5.0 == pytest.approx(1.644854 * 0.1)  # no step known: 2 % of the value


def test_rounding_keeps_seven_digits_of_the_largest() -> None:
    made = rounded(np.array([[1234.56789, 0.00012345], [0.000123456789, 0.0]]))
    assert made.tolist() == [[1234.568, 0.0], [0.000123457, 0.0]]


def into(grid: Grid, *values: np.ndarray) -> tuple[Grid, int]:
    sums, late = add(grid.sums, *values)
    return replace(grid, sums=sums), late


def test_a_grid_closes_when_every_live_series_went_on_or_its_wait_is_over() -> None:
    grid = Grid.fresh(5, 3)
    assert not due(grid.sums, 10**18, 0)
    grid, late = into(grid, np.array([0, 1]), np.array([100, 100]), np.array([1.0, 2.0]))
    end_ns = 101 * grid.sums.length_ns
    assert late == 0
    assert not due(grid.sums, end_ns, 15)
    assert due(grid.sums, end_ns + 15, 15)
    grid, _ = into(grid, np.array([0]), np.array([101]), np.array([3.0]))
    assert not due(grid.sums, end_ns, 15)
    grid, _ = into(
        grid, np.array([1]), np.array([101]), np.array([np.nan])
    )  # of bad quality: alive all the same
    assert due(grid.sums, end_ns, 15)  # the third was never seen: not waited for
    grid, issue = close(grid, None)
    assert grid.history[:, -1].tolist()[:2] == [1.0, 2.0]
    assert issue.series.tolist() == [0, 1]
    grid, late = into(grid, np.array([0]), np.array([100]), np.array([9.0]))
    assert late == 1
    assert grid.sums.total[0].tolist() == [3.0, 0.0]


def test_a_far_jump_forgets_the_history_but_not_the_coverage() -> None:
    grid, _ = into(Grid.fresh(1, 1), np.array([0]), np.array([100]), np.array([1.0]))
    grid, _ = close(grid, None)
    grid = skip_to(grid, 10_000)
    assert grid.sums.start == 10_000
    assert np.isnan(grid.history).all()
    assert np.isnan(coverage(np.full(96, -1)))
    assert coverage(np.array([1] * 9 + [0] * 3)) == 0.75


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("interval_5.onnx", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "digest"),
        ("interval_5.npz", lambda b: b[:100], "golden vectors cannot be read"),
        ("manifest.toml", lambda b: b + b"\nfoo = 1\n", "foo"),
        ("manifest.toml", lambda b: b.replace(b"streamproc-forecast/1", b"streamproc-forecast/2"), "format"),
        (
            "manifest.toml",
            lambda b: b.replace(b'file = "interval_5', b'file = "../interval_5'),
            "plain file name",
        ),
        ("manifest.toml", lambda b: b.replace(b"interval_min = 5", b"interval_min = 15"), "one model each"),
        ("manifest.toml", lambda b: b"\xff", "manifest.toml"),
    ],
)
def test_a_damaged_bundle_is_refused_with_its_reason(
    file: str, change: object, said: str, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "b")
    target = tmp_path / "b" / file
    target.write_bytes(change(target.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ModelError, match=said):
        OnnxForecaster.load(tmp_path / "b")


def test_a_missing_file_and_wrong_golden_vectors_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "b")
    np.savez(tmp_path / "b" / "interval_5.npz", history=golden_history(5), quantiles=np.zeros((8, 7, 12)))
    with pytest.raises(ModelError, match="does not reproduce"):
        OnnxForecaster.load(tmp_path / "b")
    (tmp_path / "b" / "interval_5.npz").unlink()
    with pytest.raises(ModelError, match="cannot read"):
        OnnxForecaster.load(tmp_path / "b")
    with pytest.raises(ModelError, match="forecast model of 5 min"):
        FORECASTER.predict(5, np.zeros((1, 3), dtype=np.float32))


def test_histories_and_horizons_fit_together() -> None:
    for interval_min, rows in HISTORY_ROWS.items():
        assert n_step(interval_min) * interval_min == 60
        assert DRIFT_ROWS[interval_min] < rows

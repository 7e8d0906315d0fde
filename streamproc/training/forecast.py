"""The generic forecast bundle: models for 1, 5 and 15 minutes, fitted in closed form, and their worth.

    weights    ridge of (y[t+h] - y[t]) / s on the features of `core.quantiles`, all series pooled; five
               re-weighted solves, because the median minimises absolute errors: squares let jumps pull it away
    spread     not-negative least squares of the squared residuals on [1, g, b]
    quantiles  of residual / spread on series that were not used for the weights

Samples are also shown with a history that begins late and with gaps, so that a short history is a case that
the model knows and not a surprise. Targets are clipped at +-8 s sqrt(h): sunrise behind a night of zeros must
not own the fit.

Judged (`evaluate`) against persistence on further series of another seed: mean absolute error and pinball at
15 and 60 minutes, coverage of P05..P95. The figures of the last fit stand in the manifest. Reproducible: the
same command gives the same bytes on the same machine and numpy.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomli_w
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper
from scipy.optimize import nnls

from streamproc.core.graph import NumpyOps
from streamproc.core.quantiles import (
    DRIFT_ROWS,
    HISTORY_ROWS,
    LEVELS,
    NAMES,
    ForecastParams,
    build,
    build_numpy,
    features,
    n_step,
    persistence,
)
from streamproc.training.forecast_series import means, series
from streamproc.training.onnx_graph import IR_VERSION, OPSET, OnnxOps
from streamproc.values import F64, Bool

FORMAT = "streamproc-forecast/1"
COMMAND = "python -m streamproc.training.forecast DIR"
RIDGE = 30.0  # of the Gram matrix; any value from 3 to 300 gives the same errors within 0.5 %
TARGET_CLIP = 8.0  # s sqrt(h)
SEEDS = {"weights": 1, "quantiles": 2, "evaluation": 3}
LEADS = (1, 2, 3, 5, 8, 12, 15, 20, 30, 45, 60)  # fitted steps of the 1-minute model
ABSOLUTE_FROM = 0.1  # s: smaller errors count as squares
SAMPLES_MAX = 30_000  # per kind of use and interval
GAP_RATIO = 0.3  # of samples that get a late start or gaps
SPREAD_FLOOR = 1e-3  # s^2
DAYS: Mapping[int, int] = {1: 3, 5: 8, 15: 20}  # of series per interval


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of the model at one lead, in per unit of those of persistence on the same samples."""

    lead_min: int
    mae_ratio: float
    pinball_ratio: float
    coverage_90: float
    kinds: Mapping[str, float]  # MAE ratio by kind


def samples(minutes: F64, interval_min: int) -> tuple[F64, F64]:
    """Return (history (n, n_row), future (n, n_step)) of series with one value a minute."""
    return windows(means(minutes, interval_min), interval_min)


def windows(values: F64, interval_min: int) -> tuple[F64, F64]:
    """Return (history (n, n_row), future (n, n_step)) of interval means (n_series, n_interval)."""
    n_row, steps = HISTORY_ROWS[interval_min], n_step(interval_min)
    every = sliding_window_view(values, n_row + steps, axis=1)  # (n_series, n_start, n_row + n_step)
    stride = max(1, every.shape[0] * every.shape[1] // SAMPLES_MAX)
    flat = every[:, ::stride].reshape(-1, n_row + steps)
    return flat[:, :n_row].copy(), flat[:, n_row:].copy()


def with_gaps(history: F64, seed: int) -> F64:
    """Return the histories, some of them beginning late or holed; the last row always known."""
    rng = np.random.default_rng(seed)
    n, n_row = history.shape
    chosen: Bool = np.asarray(rng.random(n) < GAP_RATIO)
    start = np.where(chosen, rng.integers(0, n_row - 6, n), 0)
    holes: Bool = chosen[:, None] & (rng.random((n, n_row)) < 0.05)
    holes[:, -1] = False
    return np.where((np.arange(n_row) < start[:, None]) | holes, np.nan, history)


def fit(interval_min: int, weights: F64, weights_future: F64, held: F64, held_future: F64) -> ForecastParams:
    """Return the parameters from samples for the weights and held-out samples for the bands."""
    drift_rows, steps = DRIFT_ROWS[interval_min], n_step(interval_min)
    phi, target, spread_phi = _design(weights, weights_future, drift_rows)
    known = [h for h in range(steps) if steps <= 12 or h + 1 in LEADS]
    solved = np.stack([_solve(phi, target[:, h]) for h in known], axis=1)  # (n_feature, n_known)
    # Between fitted leads the weights are on the straight line: neighbouring leads differ by little.
    weight = np.stack([np.interp(np.arange(steps), known, row) for row in solved])  # (n_feature, n_step)

    phi, target, spread_phi = _design(held, held_future, drift_rows)
    residual = target - phi @ weight  # (n, n_step), in s
    spread = np.stack([nnls(spread_phi, residual[:, h] ** 2)[0] for h in range(steps)], axis=1)  # (3, n_step)
    spread[0] = np.maximum(spread[0], SPREAD_FLOOR)
    quantile = np.quantile(residual / np.sqrt(spread_phi @ spread), LEVELS, axis=0)  # (7, n_step)
    # The anchor and the ridge are the median: a shift learnt from made-up series is not worth having.
    return ForecastParams(weight, spread, quantile - quantile[3], drift_rows)


def _solve(phi: F64, target: F64) -> F64:
    """Return the ridge of least absolute errors, by re-weighted squares (n_feature,)."""
    penalty = RIDGE * np.eye(phi.shape[1])
    weight: F64 = np.zeros(phi.shape[1])
    for _ in range(5):
        trust = 1.0 / np.maximum(np.abs(target - phi @ weight), ABSOLUTE_FROM)
        weighted = phi * trust[:, None]
        weight = np.asarray(np.linalg.solve(weighted.T @ phi + penalty, weighted.T @ target), np.float64)
    return weight


def _design(history: F64, future: F64, drift_rows: int) -> tuple[F64, F64, F64]:
    with np.errstate(all="ignore"):
        last, size, phi, spread_phi = features(NumpyOps(), history, history.shape[1], drift_rows)
    bound = TARGET_CLIP * np.sqrt(np.arange(1.0, future.shape[1] + 1.0))
    return phi, np.clip((future - last) / size, -bound, bound), spread_phi


def fit_generic(interval_min: int) -> ForecastParams:
    """Return the parameters of the generic model."""
    parts = []
    for use in ("weights", "quantiles"):
        made = series(24, DAYS[interval_min], SEEDS[use])
        pairs = [samples(minutes, interval_min) for minutes in made.values()]
        history = np.concatenate([h for h, _ in pairs])
        future = np.concatenate([f for _, f in pairs])
        pick = np.random.default_rng(SEEDS[use]).permutation(history.shape[0])[:SAMPLES_MAX]
        parts += [with_gaps(history[pick], SEEDS[use]), future[pick]]
    return fit(interval_min, *parts)


def evaluate(interval_min: int, params: ForecastParams, made: Mapping[str, F64]) -> tuple[Score, ...]:
    """Return the scores at 15 and 60 minutes on interval means (kind -> (n_series, n_interval))."""
    told: dict[int, list[tuple[str, float, float, float]]] = {}
    for kind, values in made.items():
        history, future = windows(values, interval_min)
        model = build_numpy(history, params)  # (n, 7, n_step)
        walk = persistence(history, history[:, -1], future.shape[1])
        for lead_min in (15, 60):
            h = lead_min // interval_min - 1
            actual = future[:, h]
            mae = _ratio(np.abs(model[:, 3, h] - actual), np.abs(history[:, -1] - actual))
            pinball = _ratio(_pinball(model[:, :, h], actual), _pinball(walk[:, :, h], actual))
            inside = np.asarray(actual >= model[:, 0, h]) & (actual <= model[:, 6, h])
            told.setdefault(lead_min, []).append((kind, mae, pinball, float(inside.mean())))
    return tuple(
        Score(
            lead_min,
            float(np.mean([row[1] for row in rows])),
            float(np.mean([row[2] for row in rows])),
            float(np.mean([row[3] for row in rows])),
            {row[0]: round(row[1], 3) for row in rows},
        )
        for lead_min, rows in told.items()
    )


def _ratio(ours: F64, theirs: F64) -> float:
    return float(ours.mean() / theirs.mean())


def _pinball(bands: F64, actual: F64) -> F64:
    """Return the mean pinball loss (n,) of bands (n, 7)."""
    levels = np.array(LEVELS)
    miss = actual[:, None] - bands
    return np.asarray(np.maximum(levels * miss, (levels - 1.0) * miss).mean(axis=1))


def emit(interval_min: int, params: ForecastParams) -> bytes:
    """Return the ONNX file; the number of series is open."""
    n_row, steps = HISTORY_ROWS[interval_min], n_step(interval_min)
    ops = OnnxOps()
    made = build(ops, "history", n_row, params)
    ops.nodes.append(helper.make_node("Identity", [made], ["quantiles"]))
    graph = helper.make_graph(
        ops.nodes,
        "streamproc",
        [helper.make_tensor_value_info("history", TensorProto.FLOAT, ["series", n_row])],
        [helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["series", len(LEVELS), steps])],
        initializer=list(ops.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="streamproc"
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {"streamproc.interval_min": str(interval_min)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def golden_history(interval_min: int) -> F64:
    """Return histories (8, n_row) that show ramps, noise, gaps, a late start, zeros and a large level."""
    row = np.arange(HISTORY_ROWS[interval_min], dtype=np.float64)
    noise = np.modf((row + 1.0) * 0.6180339887498949)[0] - 0.5
    ramp, wave = 10.0 + 0.05 * row, 5.0 + np.sin(0.2 * row)
    made = np.stack([ramp + 0.02 * noise, wave, 20.0 + noise, wave, ramp, 0 * row, 110e3 + 50 * noise, ramp])
    made[3, 4:7] = np.nan  # a gap
    made[4, : row.size - 8] = np.nan  # a late start
    made[7, -1] = np.nan  # the last one unknown: the answer is NaN
    return np.asarray(np.round(made, 5).astype(np.float32), np.float64)


def forecast_bundle() -> dict[str, bytes]:
    """Return the files of the generic forecast bundle that the package ships."""
    files: dict[str, bytes] = {}
    models: list[dict[str, Any]] = []
    for interval_min in HISTORY_ROWS:
        params = fit_generic(interval_min)
        made = {
            k: means(v, interval_min) for k, v in series(6, DAYS[interval_min], SEEDS["evaluation"]).items()
        }
        model = emit(interval_min, params)
        name = f"interval_{interval_min}"
        history = golden_history(interval_min)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, history=history, quantiles=build_numpy(history, params))
        files |= {f"{name}.onnx": model, f"{name}.npz": buffer.getvalue()}
        models.append(_table(interval_min, name, model, evaluate(interval_min, params, made)))
    manifest = {
        "bundle": {
            "format": FORMAT,
            "name": "forecast",
            "version": 1,
            "created_from": {"command": COMMAND, "data": "simulated series", "seeds": str(SEEDS)},
            "quantiles": list(NAMES),
            "input": "history (series, row): interval means, oldest first, NaN = unknown, any unit",
        },
        "model": models,
    }
    files["manifest.toml"] = tomli_w.dumps(manifest).encode()
    return files


def _table(interval_min: int, name: str, model: bytes, scores: tuple[Score, ...]) -> dict[str, Any]:
    return {
        "interval_min": interval_min,
        "file": f"{name}.onnx",
        "digest": hashlib.sha256(model).hexdigest(),
        "golden": f"{name}.npz",
        "rows": HISTORY_ROWS[interval_min],
        "steps": n_step(interval_min),
        "opset": OPSET,
        "note": [
            f"simulated series of another seed, {s.lead_min} min: error {s.mae_ratio:.3f} and pinball "
            f"{s.pinball_ratio:.3f} of persistence, P05..P95 holds {100 * s.coverage_90:.1f} %"
            for s in scores
        ],
    }


def main(directory: Path) -> None:
    """Fit the generic models and write their bundle; the manifest last, so that half a bundle is none."""
    directory.mkdir(parents=True, exist_ok=True)
    files = forecast_bundle()
    for name in sorted(files, key=lambda name: name == "manifest.toml"):
        (directory / name).write_bytes(files[name])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

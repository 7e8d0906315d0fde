"""A fitted 48-hour model as a bundle: everything that a worker needs, and everything that a person asks about it.

model.onnx       the graph of `core.ahead.model.build`; with known-ahead columns a second output `plain` without them
manifest.toml    what it is, of which data (digest, range, command, seed), inputs with units, series, figures
arrays.npz       shape of the bands, ranges of the series
golden.npz       inputs and the outputs that numpy gave in float64
card.md          the same for a person
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import tomli_w
from onnx import TensorProto, helper

from streamproc.core.ahead.bands import JUDGED, Shape, block_of, shape_of
from streamproc.core.ahead.days import N_LEAD, N_ROW, days_of
from streamproc.core.ahead.model import KNOTS, Weights, bucket_of, build, build_numpy
from streamproc.core.ahead.rows import Inputs, inputs_of
from streamproc.training.ahead.fit import Fit
from streamproc.training.ahead.samples import Fleet, Samples
from streamproc.training.onnx_graph import IR_VERSION, OPSET, OnnxOps
from streamproc.training.trees_graph import OPSET_ML, TreeOps
from streamproc.values import F32, F64, I64

FORMAT = "streamproc-ahead/1"
PLACES = ("near", "alike")  # inputs of integers
GOLDEN_MAX = 8  # series and issues


@dataclass(frozen=True, slots=True)
class Trained:
    """What training made. `plain` is the model without what is known ahead; the same as `full` where nothing is."""

    fleet: Fleet
    full: Fit
    plain: Fit
    shape: Shape
    known_mean: F64  # (n_known,), in the unit of the column
    known_size: F64


def emit(full: Weights, plain: Weights) -> bytes:
    """Return the ONNX file; the number of series is open."""
    with_trees = full.trees is not None or plain.trees is not None
    ops = TreeOps() if with_trees else OnnxOps()
    n_known = full.n_known
    given = Inputs(*(name for name in Inputs._fields))
    if isinstance(ops, TreeOps):
        plainly = PLACES if n_known else (*PLACES, "known")  # what is not there cannot be cast
        given = Inputs(*(name if name in plainly else ops.double(name) for name in Inputs._fields))
    buckets = ops.places(bucket_of())
    outputs = {"median": build(ops, given, "series", buckets, full)}
    if n_known:
        outputs["plain"] = build(ops, given, "series", buckets, plain)
    for name, edge in outputs.items():
        edge = ops.single(edge) if isinstance(ops, TreeOps) else edge  # noqa: PLW2901
        ops.nodes.append(helper.make_node("Identity", [edge], [name]))
    used = {edge for node in ops.nodes for edge in node.input}
    graph = helper.make_graph(
        ops.nodes,
        "streamproc_ahead",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (kind, shape) in inputs_expected(n_known).items()
            if name in used
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", N_LEAD]) for name in outputs],
        initializer=list(ops.constants.values()),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)]
        + ([helper.make_opsetid("ai.onnx.ml", OPSET_ML)] if with_trees else []),
        producer_name="streamproc",
    )
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def inputs_expected(n_known: int) -> dict[str, tuple[int, list[int | str]]]:
    """Return type and shape of every input."""
    single, whole = TensorProto.FLOAT, TensorProto.INT64
    made: dict[str, tuple[int, list[int | str]]] = {
        "history": (single, ["n", N_ROW]),
        "near": (whole, [N_LEAD, 7]),
        "alike": (whole, [N_LEAD + 96, 12]),
        "share": (single, [N_LEAD + 96, 12]),
        "same": (single, [N_LEAD, 1]),
        "free": (single, [N_LEAD, 1]),
        "waves": (single, [N_LEAD, 4]),
        "clock": (single, [N_LEAD, 4]),
        "series": (whole, ["n"]),
    }
    if n_known:
        made["known"] = (single, [n_known, N_ROW + N_LEAD])
    return made


def shape_of_fit(made: Samples, fit: Fit, start: int) -> Shape:
    """Return the shape of the bands from the errors of the folds."""
    at = [KNOTS.index(lead) for lead in JUDGED]
    number = start + made.issue[fit.held][:, None] + np.array(JUDGED) - 1
    return shape_of(fit.error[:, at], block_of(number))


def files_of(
    trained: Trained, about: Mapping[str, Any], metrics: Mapping[str, Any], card: str
) -> dict[str, bytes]:
    """Return the files of a bundle. `about`: name, command, data digest, seed and the like, for the manifest."""
    model = emit(trained.full.weights, trained.plain.weights)
    scales = Scales(trained.shape, trained.known_mean, trained.known_size)
    return packed(model, golden_of(trained), trained.fleet, scales, about, metrics, card)


@dataclass(frozen=True, slots=True)
class Scales:
    """What a bundle knows beside its graph."""

    shape: Shape
    known_mean: F64  # (n_known,)
    known_size: F64


def packed(
    model: bytes,
    vectors: Mapping[str, Any],
    fleet: Fleet,
    scales: Scales,
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: str,
) -> dict[str, bytes]:
    """Return the files of a bundle around a graph and its golden vectors."""
    arrays, golden = io.BytesIO(), io.BytesIO()
    there = np.isfinite(fleet.value)
    np.savez_compressed(
        arrays,
        quantile=scales.shape.quantile,
        scale=scales.shape.scale,
        low=np.where(there, fleet.value, np.inf).min(axis=1).astype(np.float64),
        high=np.where(there, fleet.value, -np.inf).max(axis=1).astype(np.float64),
    )
    np.savez_compressed(golden, **vectors)
    manifest = {
        "bundle": {"format": FORMAT, **about},
        "model": {
            "file": "model.onnx",
            "digest": hashlib.sha256(model).hexdigest(),
            "arrays_digest": hashlib.sha256(arrays.getvalue()).hexdigest(),
            "opset": OPSET,
            "step_min": 15,
            "history_rows": N_ROW,
            "leads": N_LEAD,
        },
        "known": [
            {"name": name, "mean": float(mean), "size": float(size)}
            for name, mean, size in zip(fleet.known_names, scales.known_mean, scales.known_size, strict=True)
        ],
        "series": {"ids": list(fleet.names)},
        "metrics": dict(metrics),
    }
    return {
        "model.onnx": model,
        "arrays.npz": arrays.getvalue(),
        "golden.npz": golden.getvalue(),
        "card.md": card.encode(),
        "manifest.toml": tomli_w.dumps(manifest).encode(),
    }


def golden_of(trained: Trained) -> dict[str, F32 | F64 | I64]:
    """Return inputs and the outputs of numpy, for one issue at the end of the training."""
    made, given, series = golden_inputs(trained.fleet)
    made |= {"median": build_numpy(given, series, trained.full.weights)}
    made["plain"] = build_numpy(given, series, trained.plain.weights)
    return made


def golden_inputs(fleet: Fleet) -> tuple[dict[str, F32 | F64 | I64], Inputs[F32], I64]:
    """Return inputs of one issue at the end of the training, with a gap, and the rows of the series."""
    n = min(len(fleet.names), GOLDEN_MAX)
    issue = fleet.value.shape[1]
    window = slice(issue - N_ROW, issue + N_LEAD)
    history = fleet.value[:n, issue - N_ROW :].copy()
    history[0, 700:720] = np.nan
    days = days_of(fleet.start + issue, fleet.offset_s[window], fleet.holiday[window])
    given = inputs_of(history, days, fleet.known_at(issue)[0])
    series = np.append(np.arange(n - 1), len(fleet.names)).astype(np.int64)  # the last as an unknown one
    made: dict[str, F32 | F64 | I64] = {
        name: array for name, array in zip(Inputs._fields, given, strict=True)
    }
    return made | {"series": series}, given, series


def names_of(names: Sequence[str], most: int = 3) -> str:
    """Return some names and how many more there are, for a sentence."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

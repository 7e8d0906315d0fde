"""Day-ahead models of one origin slot as one ONNX graph each: ridge, kernel ridge, pooled ridge, trees, and their blend.

Inputs are the rows that `core.series` makes (`feeds` names them), output `median` (n, n_place) in the unit of the series.
The closed-form parts are the very expressions of the core (`linear.graph`), written in float64: the trees branch on the
linear forecast, and rounding it to float32 on another side of a threshold would move the sum by far more than 1e-5. Trees
see float32 on both sides.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from streamproc.core.series.blend import BlendModel
from streamproc.core.series.history import History
from streamproc.core.series.linear import CLIP, DayModel, DayPart, graph
from streamproc.core.series.pooled import FIRST_KNOWN, KNOWN_COLUMNS, WEEK, PooledModel, pooled_columns
from streamproc.core.series.rows import DayPlan, DayRows, day_rows
from streamproc.core.series.tree_rows import tree_rows
from streamproc.errors import ModelError
from streamproc.training.onnx_graph import IR_VERSION, OPSET
from streamproc.training.series.trees import FORECAST_COLUMN, WEEK_COLUMN, TreeModel, TreePart
from streamproc.training.trees_graph import OPSET_ML, TreeOps
from streamproc.values import F64, I64

Exportable = DayModel | PooledModel | TreeModel | BlendModel


class SeriesOps(TreeOps):
    """The operations of the day-ahead models, and their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, int] = {}  # name -> columns

    def input(self, name: str, n_column: int) -> str:
        """Return an input (n, n_column)."""
        self.inputs[name] = n_column
        return name


def export(model: Exportable, slot: int) -> bytes:
    """Return the model's part at a slot as one ONNX file; ModelError for a blend with members that have no graph."""
    ops = SeriesOps()
    median, plan = _value(ops, model, slot)
    ops.nodes.append(helper.make_node("Identity", [median], ["median"]))
    made = helper.make_graph(
        ops.nodes,
        "streamproc_series",
        [
            helper.make_tensor_value_info(name, TensorProto.DOUBLE, [f"rows_{name}", width])
            for name, width in ops.inputs.items()
        ],
        [helper.make_tensor_value_info("median", TensorProto.DOUBLE, ["n", plan.n_place])],
        initializer=list(ops.constants.values()),
    )
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)]
    whole = helper.make_model(made, opset_imports=versions, producer_name="streamproc")
    whole.ir_version = IR_VERSION
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString(deterministic=True))


def feeds(model: Exportable, history: History, places_from: I64, slot: int) -> dict[str, F64]:
    """Return the inputs of `export(model, slot)` for origins at these places (n_origin,)."""
    if isinstance(model, BlendModel):
        made: dict[str, F64] = {}
        for member, _ in _weighted(model):
            made |= feeds(member, history, places_from, slot)
        return made
    plan = _plan(model, slot)
    rows = day_rows(history, places_from, plan)
    level = {"level": rows.level[:, None]}
    if isinstance(model, DayModel):
        return level | {f"{model.name}_raw": _filled(_part(model, slot), rows)}
    about = tree_rows(history, places_from, plan, np.zeros((len(places_from), plan.n_place)), rows.level)
    if isinstance(model, PooledModel):
        raw = pooled_columns(about, plan.steps_per_day)
        raw = np.where(np.isnan(raw), model.mean, raw)
        return level | {f"{model.name}_raw": raw, "about": about}
    return level | {f"{model.name}_raw": _filled(_tree_part(model, slot).linear, rows), "about": about}


def _value(ops: SeriesOps, model: Exportable, slot: int) -> tuple[str, DayPlan]:
    """Return the edge of the median (n, n_place) in the unit of the series."""
    if isinstance(model, BlendModel):
        return _blend(ops, model, slot)
    plan = _plan(model, slot)
    level = ops.input("level", 1)
    if isinstance(model, DayModel):
        z = _linear(ops, _part(model, slot), f"{model.name}_raw", level)
    elif isinstance(model, PooledModel):
        z = _pooled(ops, model, plan, level)
    else:
        z = _trees(ops, model, slot, level)
    return (ops.exp(z) if plan.scale.log else ops.mul(z, ops.const(plan.scale.unit))), plan


def _linear(ops: SeriesOps, part: DayPart, name: str, level: str) -> str:
    return graph(ops, ops.input(name, len(part.standard.mean)), level, part)


def _pooled(ops: SeriesOps, model: PooledModel, plan: DayPlan, level: str) -> str:
    raw = ops.input(f"{model.name}_raw", len(model.mean))
    about = ops.input("about", _about_width(plan))
    ratio = ops.mul(ops.sub(raw, ops.const(model.mean)), ops.const(1.0 / model.size))
    low = ops.maximum(ratio, ops.const(-CLIP))
    phi = ops.sub(ops.const(0.0), ops.maximum(ops.sub(ops.const(0.0), low), ops.const(-CLIP)))
    z = ops.add(ops.part(about, 1, WEEK, WEEK + 1), ops.matmul(phi, ops.const(model.weight[:, None])))
    return ops.add(ops.reshape(z, (-1, plan.n_place)), level)


def _trees(ops: SeriesOps, model: TreeModel, slot: int, level: str) -> str:
    part, width = _tree_part(model, slot), _about_width(_plan(model, slot))
    n_place = part.linear.plan.n_place
    about = ops.input("about", width)
    before = ops.part(about, 1, 0, FORECAST_COLUMN)
    after = ops.part(about, 1, FORECAST_COLUMN + 1, None)
    if part.alone:
        start = ops.part(about, 1, WEEK_COLUMN, WEEK_COLUMN + 1)
        rows, width = ops.concat([before, after], 1), width - 1
        ops.input(f"{model.name}_raw", len(part.linear.standard.mean))
    else:
        z = ops.sub(_linear(ops, part.linear, f"{model.name}_raw", level), level)
        start = ops.reshape(z, (-1, 1))
        rows = ops.concat([before, start, after], 1)
    said = ops.add(start, ops.trees(part.booster, rows, width))
    return ops.add(ops.reshape(said, (-1, n_place)), level)


def _blend(ops: SeriesOps, model: BlendModel, slot: int) -> tuple[str, DayPlan]:
    total, plan = "", None
    for member, weight in _weighted(model):
        value, plan = _value(ops, member, slot)
        lead = np.minimum(np.arange(plan.n_place), len(weight) - 1)
        share = ops.mul(value, ops.const(weight[lead] / _shares(model)[lead]))
        total = ops.add(total, share) if total else share
    assert plan is not None
    return total, plan


def _weighted(model: BlendModel) -> list[tuple[DayModel | PooledModel | TreeModel, F64]]:
    """Return the members that have a graph; ModelError where none has weight at some lead."""
    kept = [
        (member, weight)
        for member, weight in zip(model.members, model.weight, strict=True)
        if isinstance(member, DayModel | PooledModel | TreeModel) and weight.any()
    ]
    if not kept or (np.sum([weight for _, weight in kept], axis=0) <= 0.0).any():
        raise ModelError(
            f"{model.name}: at some leads only fallbacks have weight; export its members instead"
        )
    return kept


def _shares(model: BlendModel) -> F64:
    """Return what the weights of the exported members add up to (n_lead,)."""
    return np.asarray(np.sum([weight for _, weight in _weighted(model)], axis=0))


def _plan(model: DayModel | PooledModel | TreeModel, slot: int) -> DayPlan:
    if isinstance(model, PooledModel):
        found = [plan for plan in model.plans if plan.slot == slot]
    elif isinstance(model, DayModel):
        found = [part.plan for part in model.parts if part.plan.slot == slot]
    else:
        found = [part.linear.plan for part in model.parts if part.linear.plan.slot == slot]
    if not found:
        raise ModelError(f"{model.name}: no part for slot {slot} of the day")
    return found[0]


def _part(model: DayModel, slot: int) -> DayPart:
    return next(part for part in model.parts if part.plan.slot == slot)


def _tree_part(model: TreeModel, slot: int) -> TreePart:
    return next(part for part in model.parts if part.linear.plan.slot == slot)


def _filled(part: DayPart, rows: DayRows) -> F64:
    raw = part.standard.raw(rows)
    return np.where(np.isnan(raw), part.standard.mean, raw)


def _about_width(plan: DayPlan) -> int:
    return FIRST_KNOWN + KNOWN_COLUMNS * len(plan.hinges)

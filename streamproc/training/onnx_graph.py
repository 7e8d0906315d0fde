"""The expression of the detectors, written as ONNX nodes.

`OnnxOps` implements the same operations as `core.graph.NumpyOps`, but each call adds one node. Equal calls
give the same node (hash-consing), so that detectors in different files share, for example, a slice of a
window without knowing of each other. float32 throughout; opset 18, IR 9: understood by every ONNX Runtime
since 1.17.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streamproc.core.detector import N_QUANTITY, Windows
from streamproc.core.scoring import Plan, build_all
from streamproc.errors import ModelError

OPSET = 18
IR_VERSION = 9


class OnnxOps:
    """Collects nodes and constants; `T` is the name of an edge."""

    def __init__(self, rows: Mapping[str, int] | None = None) -> None:
        self._rows = rows or {}  # of the inputs that are windows
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def _tensor(self, value: NDArray[Any]) -> str:
        key = hashlib.sha256(value.tobytes() + repr((value.dtype.str, value.shape)).encode()).hexdigest()[:16]
        name = f"c_{key}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def _ints(self, *values: int) -> str:
        return self._tensor(np.array(values, dtype=np.int64))

    def _node(self, kind: str, *inputs: str, **attributes: int) -> str:
        key = (kind, inputs, tuple(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = f"e_{len(self.nodes)}"
            node = helper.make_node(kind, list(inputs), [self._known[key]])
            node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
            self.nodes.append(node)
        return self._known[key]

    def const(self, value: NDArray[Any] | float) -> str:
        """Return a float32 constant."""
        return self._tensor(np.asarray(value, dtype=np.float32))

    def places(self, value: NDArray[np.int64]) -> str:
        """Return a constant of places, as `pick` takes them."""
        return self._tensor(np.asarray(value, np.int64))

    def matmul(self, a: str, b: str) -> str:
        """Return the matrix product over the last two axes."""
        return self._node("MatMul", a, b)

    def add(self, a: str, b: str) -> str:
        """Return a + b."""
        return self._node("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        """Return a - b."""
        return self._node("Sub", a, b)

    def mul(self, a: str, b: str) -> str:
        """Return a * b."""
        return self._node("Mul", a, b)

    def div(self, a: str, b: str) -> str:
        """Return a / b; 0 / 0 is NaN."""
        return self._node("Div", a, b)

    def abs(self, a: str) -> str:
        """Return the magnitude."""
        return self._node("Abs", a)

    def sqrt(self, a: str) -> str:
        """Return the square root."""
        return self._node("Sqrt", a)

    def exp(self, a: str) -> str:
        """Return e to the power of a."""
        return self._node("Exp", a)

    def maximum(self, a: str, b: str) -> str:
        """Return the larger of two; NaN if either is."""
        return self._node("Max", a, b)

    def isnan(self, a: str) -> str:
        """Return True where unknown."""
        return self._node("IsNaN", a)

    def number(self, a: str) -> str:
        """Return 1.0 for True and 0.0 for False."""
        return self._node("Cast", a, to=TensorProto.FLOAT)

    def ge(self, a: str, b: str) -> str:
        """Return True where a >= b (False if either is NaN)."""
        return self._node("GreaterOrEqual", a, b)

    def where(self, condition: str, a: str, b: str) -> str:
        """Return a where the condition holds, else b."""
        return self._node("Where", condition, a, b)

    def sum(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the sum along one axis."""
        return self._node("ReduceSum", a, self._ints(axis), keepdims=int(keep))

    def sum_square(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the sum of squares along one axis."""
        return self._node("ReduceSumSquare", a, self._ints(axis), keepdims=int(keep))

    def max(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the maximum along one axis; the input must be free of NaN."""
        return self._node("ReduceMax", a, self._ints(axis), keepdims=int(keep))

    def median(self, a: str, axis: int, *, keep: bool = False) -> str:
        """Return the median of the known values along an axis, NaN where there is none.

        The values are sorted with the unknown ones last, and the middle of the known is picked.
        """
        unknown = self.isnan(a)
        known = self._node("Cast", self._node("Not", unknown), to=TensorProto.INT64)
        count = self._node("ReduceSum", known, self._ints(axis), keepdims=1)
        filled = self.where(unknown, self.const(float(np.finfo(np.float32).max)), a)
        size = self._node("Gather", self._node("Shape", a), self._ints(axis), axis=0)
        ordered = f"e_{len(self.nodes)}_sorted"
        node = helper.make_node("TopK", [filled, size], [ordered, f"{ordered}_at"])
        options = {"axis": axis, "largest": 0, "sorted": 1}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in options.items())
        self.nodes.append(node)
        one, two, zero = (self._ints(value) for value in (1, 2, 0))
        lower = self._node("Div", self._node("Max", self.sub(count, one), zero), two)
        upper = self._node("Min", self._node("Div", count, two), self.sub(size, one))
        middle = [self._node("GatherElements", ordered, place, axis=axis) for place in (lower, upper)]
        mean = self.mul(self.add(*middle), self.const(0.5))
        found = self.where(self._node("Greater", count, zero), mean, self.const(np.nan))
        return found if keep else self._node("Squeeze", found, self._ints(axis))

    def part(self, a: str, axis: int, start: int, stop: int | None) -> str:
        """Return rows start..stop of an axis."""
        if axis == 0 and stop is None and start == -self._rows.get(a, 0):
            return a
        last = 2**31 - 1 if stop is None else stop
        return self._node("Slice", a, self._ints(start), self._ints(last), self._ints(axis))

    def take(self, a: str, axis: int, index: int) -> str:
        """Return one index of an axis, without that axis."""
        return self._node("Gather", a, self._tensor(np.array(index, dtype=np.int64)), axis=axis)

    def pick(self, a: str, axis: int, index: str) -> str:
        """Return the values at places of an axis, in the shape of the places."""
        return self._node("Gather", a, index, axis=axis)

    def trees(self, model: Any, rows: str, n_column: int) -> str:  # noqa: ANN401
        """Refuse: graphs with trees have operations of their own (`training.trees_graph`)."""
        raise ModelError(
            f"{type(model).__name__} on {rows} ({n_column} columns): a graph of detectors has no trees"
        )

    def reshape(self, a: str, shape: Sequence[int]) -> str:
        """Return the same values in another shape."""
        return self._node("Reshape", a, self._ints(*shape))

    def concat(self, parts: Sequence[str], axis: int) -> str:
        """Return the parts joined along an axis."""
        return self._node("Concat", *parts, axis=axis)


def emit(plan: Plan, n_pmu: int | None, metadata: dict[str, str]) -> bytes:
    """Return the plan as one ONNX file; `n_pmu` None leaves the number of PMUs open.

    A window at which no part looks is not an input.
    """
    rows = {"fast": plan.fast_rows, "slow": plan.slow_rows}
    ops = OnnxOps(rows)
    scores = build_all(ops, Windows("now", "fast", "slow"), plan.ordered)
    ops.nodes.append(helper.make_node("Identity", [scores], ["score"]))
    width: int | str = "pmu" if n_pmu is None else n_pmu
    shapes: dict[str, list[int | str]] = {"now": [N_QUANTITY, width]}
    shapes |= {name: [count, N_QUANTITY, width] for name, count in rows.items() if count}
    graph = helper.make_graph(
        ops.nodes,
        "streamproc",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [len(plan.rules), width])],
        initializer=list(ops.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="streamproc"
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {f"streamproc.{key}": value for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))

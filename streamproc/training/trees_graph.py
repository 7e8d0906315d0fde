"""Graphs with boosted trees: the operations of `onnx_graph` in float64, and one node for all trees.

Trees branch on numbers that other nodes have computed. In float32 such a number would now and then fall on the other side
of a threshold than in numpy, and move the sum by far more than 1e-5. So all is computed in float64, and both sides see
the same float32 in the trees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from streamproc.training.onnx_graph import OnnxOps

OPSET_ML = 1  # of TreeEnsembleRegressor as onnxmltools writes it


class TreeOps(OnnxOps):
    """The operations in float64, and trees."""

    def const(self, value: NDArray[Any] | float) -> str:
        """Return a float64 constant."""
        return self._tensor(np.asarray(value, dtype=np.float64))

    def double(self, a: str) -> str:
        """Return the values as float64."""
        return self._node("Cast", a, to=TensorProto.DOUBLE)

    def single(self, a: str) -> str:
        """Return the values as float32."""
        return self._node("Cast", a, to=TensorProto.FLOAT)

    def trees(self, model: Any, rows: str, n_column: int) -> str:  # noqa: ANN401
        """Return what a LightGBM booster says (n, 1) of float64 rows (n, n_column)."""
        made = convert_lightgbm(
            model,
            initial_types=[("rows", FloatTensorType([None, n_column]))],
            zipmap=False,
            target_opset=15,
        )
        node = next(node for node in made.graph.node if node.op_type == "TreeEnsembleRegressor")
        out = f"t_{len(self.nodes)}"
        copy = helper.make_node("TreeEnsembleRegressor", [self.single(rows)], [out], domain="ai.onnx.ml")
        copy.attribute.extend(node.attribute)
        self.nodes.append(copy)
        return self.double(out)

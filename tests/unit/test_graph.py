"""Protects the promise that a detector is one expression: ONNX and numpy give the same, NaN included."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from streamproc.core.detector import Windows
from streamproc.core.graph import NumpyOps, recent, run_numpy, unknown_if
from streamproc.core.scoring import Plan, score_numpy
from streamproc.detectors import DETECTORS
from streamproc.shell.models import SessionScorer
from streamproc.training.bundle import GENERIC_RATES_HZ, generic_plan, golden_windows
from streamproc.training.onnx_graph import OnnxOps, emit

NAN = float("nan")


class OneRow:
    """A stand-in for a detector: any expression as a plan of its own."""

    def __init__(self, expression, rows=4):
        self._expression, self._rows = expression, rows
        self.every_s = 0.0

    def rows(self, _rate_hz):
        return self._rows, 1

    def build(self, ops, windows, params):
        return self._expression(ops, windows.fast, windows.slow)

    def rules(self, _params, _rate_hz):
        return (None,)


EXPRESSIONS = {
    "arithmetic": lambda o, f, s: o.div(o.sub(o.mul(f, f), o.add(f, o.const(2.0))), o.sqrt(o.abs(f))),
    "maximum": lambda o, f, s: o.maximum(f, o.const(0.0)),
    "comparison": lambda o, f, s: o.where(o.ge(f, o.const(0.5)), f, o.const(7.0)),
    "mask": lambda o, f, s: o.number(o.isnan(f)),
    "sums": lambda o, f, s: o.add(o.sum(f, 0, keep=True), o.sum_square(f, 0, keep=True)),
    "largest": lambda o, f, s: o.max(o.where(o.isnan(f), o.const(0.0), f), 0, keep=True),
    "recent": lambda o, f, s: recent(o, f, 2),
    "unknown": lambda o, f, s: unknown_if(o, o.ge(f, o.const(0.0)), f),
    "pick": lambda o, f, s: o.concat([o.take(f, 1, 0), o.take(o.part(f, 0, 0, -1), 1, 2)], 0),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_operation_means_the_same_in_onnx(name):
    window = np.random.default_rng(3).normal(size=(4, 3, 2)).astype(np.float32)
    window[1, 0, 0] = window[3, 1, 1] = NAN
    slow = np.zeros((1, 3, 2), np.float32)
    windows = Windows(window[-1], window, slow)
    flat = lambda o, w: o.reshape(EXPRESSIONS[name](o, w.fast, w.slow), (1, -1))  # noqa: E731
    expected = run_numpy(flat, windows)
    ops = OnnxOps()
    edge = flat(ops, Windows("now", "fast", "slow"))
    graph = onnx.helper.make_graph(
        ops.nodes,
        "one",
        [
            onnx.helper.make_tensor_value_info("now", 1, [3, 2]),
            onnx.helper.make_tensor_value_info("fast", 1, [4, 3, 2]),
            onnx.helper.make_tensor_value_info("slow", 1, [1, 3, 2]),
        ],
        [onnx.helper.make_tensor_value_info(edge, 1, None)],
        initializer=list(ops.constants.values()),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    score = SessionScorer(model.SerializeToString())(windows)
    np.testing.assert_allclose(score, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate_hz", GENERIC_RATES_HZ)
def test_every_generic_model_equals_numpy(rate_hz):
    plan = generic_plan(rate_hz)
    graphs = [SessionScorer(emit(graph, None, {})) for graph in plan.graphs]
    for windows in golden_windows(plan, 5):
        expected = score_numpy(plan, windows)
        scores = np.concatenate([score(windows) for score in graphs])
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_recent_is_the_end_of_a_window():
    window = np.arange(9.0)
    np.testing.assert_array_equal(recent(NumpyOps(), window, 3), [6.0, 7.0, 8.0])
    np.testing.assert_array_equal(recent(NumpyOps(), window, 3, before=1), [5.0, 6.0, 7.0])
    ops = OnnxOps({"fast": 9})
    assert recent(ops, "fast", 9) == "fast"
    assert recent(ops, "fast", 8) != "fast"


def test_equal_calls_become_one_node():
    ops = OnnxOps()
    assert ops.abs("fast") == ops.abs("fast")
    assert ops.const(1.0) == ops.const(1.0)
    assert len(ops.nodes) == 1


def test_the_same_plan_gives_the_same_bytes():
    assert emit(generic_plan(30.0), None, {"a": "b"}) == emit(generic_plan(30.0), None, {"a": "b"})


def test_a_plan_is_as_long_as_its_longest_part():
    plan = Plan(30.0, ((DETECTORS[0], DETECTORS[0].generic(30.0)), (OneRow(lambda o, f, s: f, rows=9), {})))
    assert (plan.fast_rows, plan.slow_rows) == (9, 1)

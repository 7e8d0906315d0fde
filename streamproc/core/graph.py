"""The small set of array operations in which every detector is written, and what several of them share.

A detector is ONE expression. `NumpyOps` runs it in float64: the reference, used for fitting and in tests.
`streamproc.training.onnx_graph.OnnxOps` writes the very same expression as ONNX nodes. A test holds both
equal within 1e-5, so there is no second implementation that could drift.

Why these operations: each is one ONNX node whose treatment of NaN is defined and tested. NaN needs no mask
in most places: a matrix product or a sum along time touches one PMU's column only, so an unknown sample
makes exactly that PMU's score unknown. Where PMUs meet (low-rank models) the detector masks explicitly with
`isnan` and `where`.

`take` picks one index of an axis and drops the axis; `part` is a slice with fixed bounds (negative: from
the end). `ge` gives 1.0 / 0.0, False for NaN, as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamproc.core.detector import Windows
from streamproc.values import F64, Bool

T = TypeVar("T")
Array: TypeAlias = NDArray[Any]


class Ops(Protocol[T]):
    """What a detector may use. `T` is an array for numpy and the name of an edge for ONNX."""

    def const(self, value: Array | float) -> T:
        """Return a constant (float)."""

    def matmul(self, a: T, b: T) -> T:
        """Return the matrix product over the last two axes."""

    def add(self, a: T, b: T) -> T:
        """Return a + b."""

    def sub(self, a: T, b: T) -> T:
        """Return a - b."""

    def mul(self, a: T, b: T) -> T:
        """Return a * b."""

    def div(self, a: T, b: T) -> T:
        """Return a / b; 0 / 0 is NaN."""

    def abs(self, a: T) -> T:
        """Return the magnitude."""

    def sqrt(self, a: T) -> T:
        """Return the square root."""

    def exp(self, a: T) -> T:
        """Return e to the power of a."""

    def maximum(self, a: T, b: T) -> T:
        """Return the larger of two; NaN if either is."""

    def isnan(self, a: T) -> T:
        """Return True where unknown."""

    def number(self, a: T) -> T:
        """Return 1.0 for True and 0.0 for False."""

    def ge(self, a: T, b: T) -> T:
        """Return True where a >= b (False if either is NaN)."""

    def where(self, condition: T, a: T, b: T) -> T:
        """Return a where the condition holds, else b."""

    def sum(self, a: T, axis: int, *, keep: bool = False) -> T:
        """Return the sum along one axis."""

    def sum_square(self, a: T, axis: int, *, keep: bool = False) -> T:
        """Return the sum of squares along one axis."""

    def max(self, a: T, axis: int, *, keep: bool = False) -> T:
        """Return the maximum along one axis; the input must be free of NaN."""

    def median(self, a: T, axis: int, *, keep: bool = False) -> T:
        """Return the median of the known values along an axis, NaN where there is none."""

    def part(self, a: T, axis: int, start: int, stop: int | None) -> T:
        """Return rows start..stop of an axis."""

    def take(self, a: T, axis: int, index: int) -> T:
        """Return one index of an axis, without that axis."""

    def pick(self, a: T, axis: int, index: T) -> T:
        """Return the values at places (an array of integers) of an axis, in the shape of the places."""

    def trees(self, model: Any, rows: T, n_column: int) -> T:  # noqa: ANN401 - the core knows no library of trees
        """Return what boosted trees say (n, 1) of rows (n, n_column), which they see in float32."""

    def reshape(self, a: T, shape: Sequence[int]) -> T:
        """Return the same values in another shape; one -1 is allowed."""

    def concat(self, parts: Sequence[T], axis: int) -> T:
        """Return the parts joined along an axis."""


class NumpyOps:
    """The reference backend: float64, warnings of NaN arithmetic silenced by the caller (`run_numpy`)."""

    def const(self, value: Array | float) -> Array:
        """Return a float64 array."""
        return np.asarray(value, dtype=np.float64)

    def matmul(self, a: Array, b: Array) -> Array:
        """Return the matrix product over the last two axes."""
        return np.asarray(np.matmul(a, b))

    def add(self, a: Array, b: Array) -> Array:
        """Return a + b."""
        return np.asarray(a + b)

    def sub(self, a: Array, b: Array) -> Array:
        """Return a - b."""
        return np.asarray(a - b)

    def mul(self, a: Array, b: Array) -> Array:
        """Return a * b."""
        return np.asarray(a * b)

    def div(self, a: Array, b: Array) -> Array:
        """Return a / b; 0 / 0 is NaN."""
        return np.asarray(a / b)

    def abs(self, a: Array) -> Array:
        """Return the magnitude."""
        return np.abs(a)

    def sqrt(self, a: Array) -> Array:
        """Return the square root."""
        return np.asarray(np.sqrt(a))

    def exp(self, a: Array) -> Array:
        """Return e to the power of a."""
        return np.asarray(np.exp(a))

    def maximum(self, a: Array, b: Array) -> Array:
        """Return the larger of two; NaN if either is."""
        return np.asarray(np.maximum(a, b))

    def isnan(self, a: Array) -> Bool:
        """Return True where unknown."""
        return np.isnan(a)

    def number(self, a: Array) -> Array:
        """Return 1.0 for True and 0.0 for False."""
        return a.astype(np.float64)

    def ge(self, a: Array, b: Array) -> Bool:
        """Return True where a >= b (False if either is NaN)."""
        return np.asarray(a >= b)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """Return a where the condition holds, else b."""
        return np.where(condition, a, b)

    def sum(self, a: Array, axis: int, *, keep: bool = False) -> Array:
        """Return the sum along one axis."""
        return np.asarray(np.sum(a, axis=axis, keepdims=keep))

    def sum_square(self, a: Array, axis: int, *, keep: bool = False) -> Array:
        """Return the sum of squares along one axis."""
        return np.asarray(np.sum(a * a, axis=axis, keepdims=keep))

    def max(self, a: Array, axis: int, *, keep: bool = False) -> Array:
        """Return the maximum along one axis; the input must be free of NaN."""
        return np.asarray(np.max(a, axis=axis, keepdims=keep))

    def median(self, a: Array, axis: int, *, keep: bool = False) -> Array:
        """Return the median of the known values along an axis, NaN where there is none."""
        ordered = np.sort(a, axis=axis)  # NaN last
        count = np.isfinite(a).sum(axis=axis, keepdims=True)
        places = [np.maximum((count - 1) // 2, 0), np.minimum(count // 2, a.shape[axis] - 1)]
        middle = sum(np.take_along_axis(ordered, place, axis) for place in places) / 2.0
        middle = np.where(count > 0, middle, np.nan)
        return np.asarray(middle if keep else np.squeeze(middle, axis))

    def part(self, a: Array, axis: int, start: int, stop: int | None) -> Array:
        """Return rows start..stop of an axis."""
        return a[(slice(None),) * axis + (slice(start, stop),)]

    def take(self, a: Array, axis: int, index: int) -> Array:
        """Return one index of an axis, without that axis."""
        return a[(slice(None),) * axis + (index,)]

    def pick(self, a: Array, axis: int, index: Array) -> Array:
        """Return the values at places of an axis, in the shape of the places."""
        return np.asarray(np.take(a, index, axis=axis))

    def trees(self, model: Any, rows: Array, n_column: int) -> Array:  # noqa: ANN401
        """Return what boosted trees say (n, 1) of rows (n, n_column)."""
        assert rows.shape[1] == n_column
        return np.asarray(model.predict(rows.astype(np.float32)), np.float64)[:, None]

    def reshape(self, a: Array, shape: Sequence[int]) -> Array:
        """Return the same values in another shape."""
        return a.reshape(tuple(shape))

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """Return the parts joined along an axis."""
        return np.concatenate(list(parts), axis=axis)


def recent(ops: Ops[T], window: T, n_row: int, *, before: int = 0) -> T:
    """Return the last `n_row` rows of a window, ending `before` rows before its end.

    Short gaps in it are bridged (`core.window`), in its last row too: a detector that judges the instant itself
    reads `now`, with `last_row` or as a mask for `unknown_if`.
    """
    return ops.part(window, 0, -(before + n_row), -before or None)


def unknown_if(ops: Ops[T], unknown: T, score: T) -> T:
    """Return the score, NaN where `unknown` holds."""
    return ops.where(unknown, ops.const(np.nan), score)


def last_row(ops: Ops[T], now: T, quantity: int) -> T:
    """Return one quantity (1, n_pmu) of the instant to be judged, as it came."""
    return ops.part(now, 0, quantity, quantity + 1)


def run_numpy(build: Any, windows: Windows[Array], *args: Any) -> F64:  # noqa: ANN401 - any detector's build
    """Return what `build(ops, windows, *args)` gives in float64."""
    with np.errstate(all="ignore"):
        scores = build(NumpyOps(), Windows(*(np.asarray(array, np.float64) for array in windows)), *args)
    return np.asarray(scores, dtype=np.float64)

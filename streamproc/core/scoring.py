"""All detectors of an area as one expression: the graph that becomes `model.onnx`.

`plan` says how long the windows must be and what each row of the scores means; `build_all` stacks the rows.
The numpy backend runs the same expression for tests and for golden vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamproc.core.detector import Params, Rule
from streamproc.core.graph import Array, NumpyOps, Ops, T, run_numpy
from streamproc.values import F64


class Fitted(Protocol):
    """The part of a detector that scoring needs."""

    def rows(self, rate_hz: float, /) -> tuple[int, int]:
        """Return how many fast and slow rows the score looks at."""

    def build(self, ops: Ops[T], fast: T, slow: T, params: Params, /) -> T:
        """Return the scores (n_rule, n_pmu)."""

    def rules(self, params: Params, rate_hz: float, /) -> tuple[Rule, ...]:
        """Return the rule of each row."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Detectors with their parameters at one reporting rate."""

    rate_hz: float
    parts: tuple[tuple[Fitted, Params], ...]

    @property
    def fast_rows(self) -> int:
        """Return the rows of the fast window."""
        return max(part.rows(self.rate_hz)[0] for part, _ in self.parts)

    @property
    def slow_rows(self) -> int:
        """Return the rows of the slow window, at least 1."""
        return max(1, *(part.rows(self.rate_hz)[1] for part, _ in self.parts))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rule of every row of scores."""
        return tuple(rule for part, params in self.parts for rule in part.rules(params, self.rate_hz))


def build_all(ops: Ops[T], fast: T, slow: T, parts: Sequence[tuple[Fitted, Params]]) -> T:
    """Return the scores (n_rule, n_pmu) of all parts."""
    return ops.concat([part.build(ops, fast, slow, params) for part, params in parts], 0)


def score_numpy(plan: Plan, fast: Array, slow: Array) -> F64:
    """Return the scores (n_rule, n_pmu) in float64: the reference for the ONNX model."""
    return run_numpy(build_all, fast, slow, plan.parts)


__all__ = ["NumpyOps", "Plan", "build_all", "score_numpy"]

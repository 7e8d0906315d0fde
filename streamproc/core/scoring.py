"""All detectors of an area as expressions: the graphs that become the ONNX files of a model.

`plan` says how long the windows must be and what each row of the scores means; `build_all` stacks the rows.
The numpy backend runs the same expression for tests and for golden vectors.

A detector that looks at a mean over half a second gives much the same score a frame later. So each says how
often it wants to be judged (`every_s`), and a model has one graph per stride: a graph of stride 6 is run at
the instants whose number on the grid is a multiple of 6. That depends on nothing but the number: any split
into batches, and any restart, judges at the same instants. In between, its rows are NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamproc.core.detector import Params, Rule, Windows
from streamproc.core.graph import Array, NumpyOps, Ops, T, run_numpy
from streamproc.values import F64


class Fitted(Protocol):
    """The part of a detector that scoring needs."""

    @property
    def every_s(self) -> float:
        """Return how often the score is wanted, s; 0: at every instant."""

    def rows(self, rate_hz: float, /) -> tuple[int, int]:
        """Return how many fast and slow rows the score looks at; 0: none."""

    def build(self, ops: Ops[T], windows: Windows[T], params: Params, /) -> T:
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
        """Return the rows of the fast window; 0: none is looked at."""
        return max(part.rows(self.rate_hz)[0] for part, _ in self.parts)

    @property
    def slow_rows(self) -> int:
        """Return the rows of the slow window; 0: none is looked at."""
        return max(part.rows(self.rate_hz)[1] for part, _ in self.parts)

    @property
    def stride(self) -> int:
        """Return the instants from one judgement to the next, of the part that is judged most often."""
        return min(stride_of(part, self.rate_hz) for part, _ in self.parts)

    @property
    def graphs(self) -> tuple[Plan, ...]:
        """Return the plan as one plan per stride, the most frequent first."""
        strides = [stride_of(part, self.rate_hz) for part, _ in self.parts]
        return tuple(
            Plan(
                self.rate_hz,
                tuple(pair for pair, own in zip(self.parts, strides, strict=True) if own == stride),
            )
            for stride in sorted(set(strides))
        )

    @property
    def ordered(self) -> tuple[tuple[Fitted, Params], ...]:
        """Return the parts in the order of the rows of scores: graph by graph."""
        return tuple(pair for graph in self.graphs for pair in graph.parts)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rule of every row of scores."""
        return tuple(rule for part, params in self.ordered for rule in part.rules(params, self.rate_hz))


def stride_of(part: Fitted, rate_hz: float) -> int:
    """Return at every how many-th instant a detector is judged."""
    return max(1, round(part.every_s * rate_hz))


def model_digest(graphs: Sequence[tuple[int, str]]) -> str:
    """Return the digest of a model whose graphs have these strides and SHA-256 digests."""
    return hashlib.sha256(repr([(stride, digest) for stride, digest in graphs]).encode()).hexdigest()


def build_all(ops: Ops[T], windows: Windows[T], parts: Sequence[tuple[Fitted, Params]]) -> T:
    """Return the scores (n_rule, n_pmu) of all parts."""
    return ops.concat([part.build(ops, windows, params) for part, params in parts], 0)


def score_numpy(plan: Plan, windows: Windows[Array], instant: int = 0) -> F64:
    """Return the scores (n_rule, n_pmu) of an instant in float64: the reference for the ONNX graphs.

    At instant 0 every rule is judged.
    """
    scores = np.full((len(plan.rules), windows.now.shape[-1]), np.nan)
    row = 0
    for graph in plan.graphs:
        count = len(graph.rules)
        if instant % graph.stride == 0:
            scores[row : row + count] = run_numpy(build_all, windows, graph.parts)
        row += count
    return scores


__all__ = ["NumpyOps", "Plan", "build_all", "model_digest", "score_numpy", "stride_of"]

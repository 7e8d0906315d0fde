"""Which models are offered: every graph of the bundles that a worker would use, checked by the same loaders.

    anomaly-RATE, anomaly-RATE-each-STRIDE    the scores of a window, one graph per reporting rate
    forecast-MINUTES                          the quantiles of the next hour
    ahead                                     the medians of the next 48 hours

A model can be batched over requests when the first axis of every input and output is one free axis, and when a trial at the
start gives each row the same answer alone as among others: within the tolerance of golden vectors, because vector units
round a row by its place. Metadata tell the difference. What a trial costs decides where it runs: beside the sockets when
it is quick, else on a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.config import SiteConfig
from streamproc.core.oip import DATATYPES, TensorSpec
from streamproc.errors import ModelError
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.models import Bundle

QUICK_S = 0.002  # a call that takes less holds nobody up
TRIAL_ROWS = 8
DIFFERENCE_MAX = 1e-5  # of 1 + |value|, between a row alone and among others
TRIAL_CALLS = 5
FREE_SIZE = 3  # of a free axis in a trial

_OF_ORT = {
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


@dataclass(frozen=True, slots=True)
class Served:
    """One model as it is offered. `call` takes arrays by input name and returns the outputs in order."""

    name: str
    version: str
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
    batched: bool
    quick: bool
    difference: float  # of 1 + |value|: how far a row among others is from the row alone, in the trial

    def as_json(self) -> dict[str, Any]:
        """Return the model metadata of the protocol."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.as_json() for spec in self.inputs],
            "outputs": [spec.as_json() for spec in self.outputs],
            "properties": {
                "digest": self.digest,
                "batched": str(self.batched).lower(),
                "batch_difference": f"{self.difference:.1e}",
            },
        }


class Catalogue:
    """The models by name."""

    def __init__(self, models: Iterable[Served]) -> None:
        self.models = {model.name: model for model in models}

    def find(self, name: str, version: str = "") -> Served | None:
        """Return the model, None when there is none of this name and version ("": the only one)."""
        model = self.models.get(name)
        return model if model is not None and version in ("", model.version) else None


def served(name: str, version: str, digest: str, session: Any) -> Served:  # noqa: ANN401 - ONNX Runtime has no types
    """Return a session as a model that is offered; raises ModelError for a type that the protocol does not have."""
    inputs = tuple(_spec(edge, name) for edge in session.get_inputs())
    outputs = tuple(_spec(edge, name) for edge in session.get_outputs())
    wanted = [spec.name for spec in outputs]

    def call(arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        made: list[NDArray[Any]] = session.run(wanted, dict(arrays))
        return made

    free = _shares_first_axis(session)
    quick, difference = _trial(call, inputs, batched=free)
    batched = free and difference <= DIFFERENCE_MAX
    return Served(name, version, digest, inputs, outputs, call, batched, quick, difference)


def _spec(edge: Any, model: str) -> TensorSpec:  # noqa: ANN401
    datatype = _OF_ORT.get(edge.type)
    if datatype is None:
        raise ModelError(f"model {model}: {edge.name} is {edge.type}, which the protocol does not have")
    return TensorSpec(
        edge.name, datatype, tuple(size if isinstance(size, int) else -1 for size in edge.shape)
    )


def _shares_first_axis(session: Any) -> bool:  # noqa: ANN401
    edges = [*session.get_inputs(), *session.get_outputs()]
    first = {edge.shape[0] if edge.shape else None for edge in edges}
    rest_fixed = all(isinstance(size, int) for edge in edges for size in edge.shape[1:])
    return len(first) == 1 and isinstance(next(iter(first)), str) and rest_fixed


def _trial(
    call: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]],
    inputs: tuple[TensorSpec, ...],
    *,
    batched: bool,
) -> tuple[bool, float]:
    """Return whether a call is quick, and how far rows among others are from the same rows alone."""
    numbers = np.random.default_rng(1)
    rows = TRIAL_ROWS if batched else FREE_SIZE
    feed = {}
    for spec in inputs:
        shape = tuple(rows if size < 0 else size for size in spec.shape)
        dtype = np.dtype(DATATYPES[spec.datatype])
        made = numbers.normal(0.0, 1.0, shape) if dtype.kind == "f" else np.zeros(shape)
        feed[spec.name] = made.astype(dtype)
    together = call(feed)
    took_s = []
    for _ in range(TRIAL_CALLS):
        begun = time.perf_counter()
        call(feed)
        took_s.append(time.perf_counter() - begun)
    quick = sorted(took_s)[TRIAL_CALLS // 2] < QUICK_S
    if not batched:
        return quick, 0.0
    alone = [call({name: array[row : row + 1] for name, array in feed.items()}) for row in range(rows)]
    return quick, max(
        _difference(made, np.concatenate([answer[place] for answer in alone]))
        for place, made in enumerate(together)
    )


def _difference(made: NDArray[Any], alone: NDArray[Any]) -> float:
    """Return the largest difference in 1 + |value|; infinity where only one of both is known."""
    if made.shape != alone.shape or not np.array_equal(np.isnan(made), np.isnan(alone)):
        return float("inf")
    known = np.isfinite(alone)
    gaps = np.abs(made[known].astype(np.float64) - alone[known]) / (1.0 + np.abs(alone[known]))
    return float(gaps.max(initial=0.0))


def offered(config: SiteConfig) -> Catalogue:
    """Return the models that the workers of a site use; raises ModelError."""
    models = []
    bundle = config.worker.bundle
    for loaded in Bundle.load(None if bundle is None else Path(bundle)).models:
        for graph in loaded.graphs:
            each = "" if graph.stride == 1 else f"-each-{graph.stride}"
            name = f"anomaly-{loaded.table.name.rpartition('_')[2]}{each}"
            models.append(served(name, "1", loaded.table.digest, graph.score.session))
    forecaster = OnnxForecaster.load()
    for minutes, session in forecaster.sessions.items():
        models.append(served(f"forecast-{minutes}min", "1", forecaster.digest, session))
    ahead = OnnxAhead.load(config.worker.forecast_bundle)
    models.append(served("ahead", str(ahead.manifest.bundle.version), ahead.digest, ahead.session))
    return Catalogue(models)

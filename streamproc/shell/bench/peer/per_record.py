"""Our worker's score job, one record at a time: what stock Faust and Quix Streams run in `bench path`.

The very functions of the core (decode, align, features, conditions, findings); the detectors are the same
expressions, run by numpy (`core.scoring.score_numpy`) instead of ONNX Runtime. Needs numpy, msgspec, orjson.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.describe import Describer
from streamproc.core.detector import AreaModel, Windows
from streamproc.core.scoring import Plan, score_numpy
from streamproc.detectors import DETECTORS
from streamproc.stages.score import Models, ScoreStage
from streamproc.values import F32, F64, TOPIC_CONFIG, TOPIC_FRAMES, Output, Record


class NumpyModel:
    """core.detector.AreaModel on numpy."""

    reason, fallback_count, digest = "", 0, "numpy"

    def __init__(self, plan: Plan, n_pmu: int) -> None:
        self._plan = plan
        self.rules = plan.rules
        self.fast_rows, self.slow_rows = max(1, plan.fast_rows), max(1, plan.slow_rows)
        self.base_v: F64 = np.full(n_pmu, np.nan)

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores (n_rule, n_pmu) of an instant."""
        return score_numpy(self._plan, windows, instant).astype(np.float32)


class NumpyModels:
    """stages.score.Models on numpy: the detectors that need no training, as in the generic bundle."""

    describer: Describer | None = None

    def __init__(self) -> None:
        self._known: dict[tuple[float, int], AreaModel] = {}

    def for_area(self, _area: str, stations: tuple[str, ...], rate_hz: float, _nominal: float) -> AreaModel:
        """Return the model of an area."""
        key = (rate_hz, len(stations))
        if key not in self._known:
            made = [(detector, detector.generic(rate_hz)) for detector in DETECTORS]
            parts = tuple((detector, params) for detector, params in made if params is not None)
            self._known[key] = NumpyModel(Plan(rate_hz, parts), len(stations))
        return self._known[key]


class PerRecord:
    """The score stage with its state; `configs` is a file of configuration frames."""

    def __init__(self, configs: Path, models: Models | None = None) -> None:
        self._stage = ScoreStage(SiteConfig(), models or NumpyModels())
        known = Record(TOPIC_CONFIG, 0, 0, 0, b"all", configs.read_bytes())
        self._state = self._stage.learn(self._stage.fresh(), [known])

    def __call__(self, partition: int, offset: int, ts_ms: int, key: bytes, value: bytes) -> Sequence[Output]:
        """Return the findings of one record."""
        record = Record(TOPIC_FRAMES, partition, offset, ts_ms, key, value)
        step = self._stage.step(self._state, (record,))
        self._state = step.state
        return step.outputs

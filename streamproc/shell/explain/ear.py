"""A set of models that remembers: what each was asked and what it answered, until it is told to forget.

It stands before the real models of a path, so that the scores on the page are the very ones that were judged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from streamproc.core.describe import Describer
from streamproc.core.detector import AreaModel, Rule, Windows
from streamproc.core.grid import from_grid, to_grid
from streamproc.stages.score import Models
from streamproc.stages.score_state import TrackKey
from streamproc.values import F32, F64


@dataclass(frozen=True, slots=True)
class Heard:
    """One call of a model."""

    instant: int  # of the reporting grid
    row: F32  # (3, n_pmu) what it was asked about
    scores: F32  # (n_rule, n_pmu) what it answered


class Listening:
    """A model that remembers its calls."""

    def __init__(self, model: AreaModel, labels: tuple[str, ...]) -> None:
        self._model = model
        self.labels = labels
        self.rules: tuple[Rule, ...] = model.rules
        self.digest: str = model.digest
        self.fast_rows: int = model.fast_rows
        self.slow_rows: int = model.slow_rows
        self.base_v: F64 = model.base_v
        self.reason: str = model.reason
        self.fallback_count: int = model.fallback_count
        self.heard: deque[Heard] = deque()

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores of the model."""
        scores = self._model.score(windows, instant)
        self.heard.append(Heard(instant, windows.now.copy(), scores))
        return scores


Question: TypeAlias = tuple[str, tuple[str, ...], float, float]  # area, PMUs, rate, nominal frequency


class Ear:
    """The models of a path, each of them listening (`streamproc.stages.score.Models`)."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self.describer: Describer | None = models.describer
        self._known: dict[Question, Listening] = {}

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> Listening:
        """Return the model for these PMUs in this order; the same object for the same question."""
        key = (area, stations, rate_hz, nominal_hz)
        if key not in self._known:
            self._known[key] = Listening(self._models.for_area(*key), stations)
        return self._known[key]

    def of_track(self, track: TrackKey) -> list[Listening]:
        """Return the models of an area and rate: one for each set of PMUs, the newest last."""
        return [model for (area, _, rate, _), model in self._known.items() if (area, rate) == track]

    def tracks(self, area: str) -> list[TrackKey]:
        """Return the tracks of an area, first seen first."""
        return list(dict.fromkeys((name, rate) for name, _, rate, _ in self._known if name == area))

    def newest_us(self, area: str) -> int | None:
        """Return the time of the newest instant of an area; None before the first."""
        newest = [
            int(from_grid(np.array([model.heard[-1].instant]), rate)[0]) // 1000
            for (name, _, rate, _), model in self._known.items()
            if name == area and model.heard
        ]
        return max(newest, default=None)

    def forget(self, area: str, before_us: int) -> None:
        """Forget the calls of an area about instants before this time."""
        for (name, _, rate, _), model in self._known.items():
            if name != area:
                continue
            first = int(to_grid(np.array([before_us * 1000]), rate)[0])
            while model.heard and model.heard[0].instant < first:
                model.heard.popleft()

"""The stream's 48-hour model as a recipe for backtests: the same rows, fit and expression, on any series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamproc.core.ahead.days import N_LEAD, N_ROW, days_of
from streamproc.core.ahead.model import build_numpy
from streamproc.core.ahead.rows import Inputs, inputs_of
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.training.ahead.fleets import fleet_of, repeats
from streamproc.training.ahead.samples import Fleet
from streamproc.training.ahead.train import train
from streamproc.values import F32, F64, I64

ROWS_MAX = 2500


Ask = Callable[[Inputs[F32], bool], F64]
"""Inputs of one series, and whether what is known ahead is there -> medians (1, N_LEAD)."""


@dataclass(frozen=True, slots=True)
class StreamModel:
    """A 48-hour model asked at the origins of a backtest: inputs as in the stream, whoever answers."""

    name: str
    ask: Ask
    scaled: Callable[[F64], F64]  # what is known ahead (n_known, n) into spreads

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); leads beyond 48 hours are NaN."""
        times = repeats(history.step_s)
        whole = fleet_of([history], [history.value], history.value.size)
        out = np.full((len(origins), n_lead), np.nan)
        reach = min(n_lead, N_LEAD // times)
        for row, origin in enumerate(origins.tolist()):
            made = self._issue(whole, origin * times, reach * times)
            if made is not None:
                out[row, :reach] = made[: reach * times].reshape(reach, times).mean(axis=1)
        return out

    def _issue(self, fleet: Fleet, at: int, reach: int) -> F64 | None:
        past = fleet.value[:, max(at - N_ROW, 0) : at]
        if past.shape[1] < N_ROW or not np.isfinite(past[:, -N_ROW // 2 :]).any():
            return None
        window = slice(at - N_ROW, at + N_LEAD)
        known = self.scaled(fleet.known[:, window])
        there = bool(np.isfinite(known[:, N_ROW : N_ROW + reach]).all())  # leads beyond are not asked for
        days = days_of(fleet.start + at, fleet.offset_s[window], fleet.holiday[window])
        given = inputs_of(np.ascontiguousarray(past), days, np.nan_to_num(known))
        return np.asarray(self.ask(given, there)[0], np.float64)


@dataclass(frozen=True, slots=True)
class Stream:
    """The recipe."""

    name: str = "stream"
    seed: int = 1

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> StreamModel:  # noqa: ARG002
        """Return the model fitted on `value[:until]`; DataError when the past is too short."""
        if (until * history.step_s) // 86_400 * 96 <= N_ROW + N_LEAD:
            raise DataError(
                f"{history.name}: {until * history.step_s / 86_400:.1f} days before, 17 are needed"
            )
        made, _ = train(fleet_of([history], [history.value], until), self.seed, ROWS_MAX)
        full, plain = made.full.weights, made.plain.weights

        def ask(given: Inputs[F32], with_known: bool) -> F64:
            return build_numpy(given, np.array([0]), full if with_known else plain)

        def scaled(known: F64) -> F64:
            return (known - made.known_mean[:, None]) / made.known_size[:, None]

        return StreamModel(self.name, ask, scaled)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A bundle as a recipe: it is not fitted again, however old it is."""

    name: str
    model: StreamModel

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> StreamModel:  # noqa: ARG002
        """Return the model as it is."""
        return self.model

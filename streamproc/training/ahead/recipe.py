"""The stream's 48-hour model as a recipe for backtests: the same rows, fit and expression, on any series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.ahead.days import N_LEAD, N_ROW, days_of
from streamproc.core.ahead.model import Weights, build_numpy
from streamproc.core.ahead.rows import inputs_of
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.training.ahead.fleets import fleet_of, repeats
from streamproc.training.ahead.samples import Fleet
from streamproc.training.ahead.train import train
from streamproc.values import F64, I64

ROWS_MAX = 2500


@dataclass(frozen=True, slots=True)
class StreamModel:
    """A fitted model, asked at the origins of a backtest."""

    name: str
    full: Weights
    plain: Weights
    known_mean: F64
    known_size: F64

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); leads beyond 48 hours are NaN."""
        times = repeats(history.step_s)
        whole = fleet_of([history], [history.value], history.value.size)
        out = np.full((len(origins), n_lead), np.nan)
        reach = min(n_lead, N_LEAD // times)
        for row, origin in enumerate(origins.tolist()):
            made = self._issue(whole, origin * times)
            if made is not None:
                out[row, :reach] = made[: reach * times].reshape(reach, times).mean(axis=1)
        return out

    def _issue(self, fleet: Fleet, at: int) -> F64 | None:
        past = fleet.value[:, max(at - N_ROW, 0) : at]
        if past.shape[1] < N_ROW or not np.isfinite(past[:, -N_ROW // 2 :]).any():
            return None
        window = slice(at - N_ROW, at + N_LEAD)
        known = (fleet.known[:, window] - self.known_mean[:, None]) / self.known_size[:, None]
        blind = bool(np.isnan(known[:, N_ROW:]).any()) if known.size else False
        days = days_of(fleet.start + at, fleet.offset_s[window], fleet.holiday[window])
        given = inputs_of(np.ascontiguousarray(past), days, np.nan_to_num(known))
        weights = self.plain if blind or not known.size else self.full
        return np.asarray(build_numpy(given, np.array([0]), weights)[0])


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
        return StreamModel(self.name, made.full.weights, made.plain.weights, made.known_mean, made.known_size)

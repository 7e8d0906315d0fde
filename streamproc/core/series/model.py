"""What a forecast model of a series is: fitted on the past of some index, asked at origins after it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from streamproc.core.series.history import History
from streamproc.values import F64, I64


class Fitted(Protocol):
    """A model that has seen `value[:until]`."""

    @property
    def name(self) -> str:
        """Return the kind of model."""

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead) from `value[:origin]` of each origin; NaN = cannot be said."""


class Recipe(Protocol):
    """How a model is made. Recipes hold settings only; the same history gives the same model."""

    @property
    def name(self) -> str:
        """Return the kind of model."""

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Fitted:
        """Fit on `value[:until]` and nothing later, for origins at these slots of the day.

        `origin_slots` (n,) tells at which intervals of the day forecasts will be issued (one: day-ahead from
        midnight; all: rolling). Raises DataError when the past is too short, with what is needed.
        """


@runtime_checkable
class Choosing(Protocol):
    """A recipe with choices (group weights, ridge, blend weights) that are made once and kept for refits."""

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Recipe:
        """Return the recipe with its choices made on `value[:until]`; `fit` of the result is one solve or few.

        A recipe that is fitted without being settled makes its choices at every fit: right, but slower.
        """

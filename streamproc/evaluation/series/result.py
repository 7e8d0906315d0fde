"""The result of a backtest as one JSON object: what was asked, what was found, how good each method was, and where.

It holds what the text, the page and a later comparison need, so that `report` and `compare` read a result and never the
series again. Figures without a meaning are null. Equal input gives equal bytes: no clock, one seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from streamproc.errors import DataError
from streamproc.evaluation.series.grid import Finding

FORMAT = "streamproc.forecast-result.v1"


class Edge(msgspec.Struct, frozen=True):
    """How much better than a baseline: skill is 1 - MAE / its MAE; 95 % intervals over days."""

    skill: float | None
    skill_low: float | None
    skill_high: float | None
    difference: float | None  # MAE minus that of the baseline: negative is better
    difference_low: float | None
    difference_high: float | None


class Figures(msgspec.Struct, frozen=True):
    """How good forecasts were over some rows."""

    rows: int
    mae: float | None
    rmse: float | None
    mape: float | None  # %
    mape_left_out: float | None  # share of the rows near zero
    rmae: float | None
    mase: float | None
    bias: float | None  # mean of forecast minus truth
    pinball: float | None
    rpinball: float | None
    coverage: float | None  # share within P05 .. P95
    winkler: float | None


class Part(msgspec.Struct, frozen=True):
    """The figures of some of the rows."""

    name: str
    figures: Figures


class Rolling(msgspec.Struct, frozen=True):
    """Coverage of the 90 % band in every 30 days on end."""

    last_day: list[str]
    coverage: list[float]


class Daily(msgspec.Struct, frozen=True):
    """Absolute and quantile errors per local day, for differences between methods."""

    day: list[str]
    rows: list[int]
    abs_error: list[float]  # sums
    pinball: list[float]  # sums


class Method(msgspec.Struct, frozen=True):
    """One model or baseline."""

    name: str
    is_baseline: bool
    fits: int
    fallback_rows: int
    figures: Figures
    worst_30_days: float | None
    worst_30_days_end: str | None
    mae_not_suspect: float | None  # without the rows whose truth is suspect
    edges: dict[str, Edge]  # over each baseline
    by_lead: list[Part]
    by_hour: list[Part]
    by_season: list[Part]
    rolling: Rolling
    daily: Daily


class Example(msgspec.Struct, frozen=True):
    """One forecast as it was issued, with what came and what had been."""

    words: str
    method: str
    origin: str
    step_s: int
    before: list[float | None]
    truth: list[float | None]
    quantiles: list[list[float | None]]  # P05 .. P95
    naive: list[float | None]
    mae: float | None


class Leak(msgspec.Struct, frozen=True):
    """Some forecasts were asked again, each with all later values taken away."""

    origins: int
    moved: int


class Asked(msgspec.Struct, frozen=True):
    """The protocol."""

    file: str
    sha256: str
    time: str
    target: str
    known: list[str]
    holidays: str | None
    zone: str
    unit: str
    step: str
    horizon: str
    every: str
    at: str
    train_until: str
    refit: str
    first_value: str
    last_value: str
    first_origin: str
    last_origin: str
    origins: int
    warm_up_origins: int
    seed: int
    known_then: list[str] | None = None  # known ahead, of each origin what was known then


class Result(msgspec.Struct, frozen=True):
    """A whole backtest."""

    format: str
    asked: Asked
    quality: list[Finding]
    notes: list[str]
    span: float | None  # P99 - P1 of what is scored
    mase_scale: float | None
    leak: dict[str, Leak]
    methods: list[Method]
    examples: list[Example]

    @property
    def models(self) -> list[Method]:
        """Return the methods that are no baselines."""
        return [method for method in self.methods if not method.is_baseline]


def read_result(path: Path) -> Result:
    """Return the result in a file; raises DataError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        result = msgspec.json.decode(raw, type=Result)
    except msgspec.DecodeError as error:
        words = "write one with `streamproc backtest ... --json > result.json`"
        raise DataError(f"{path}: is no result of a backtest ({error}); {words}") from error
    if result.format != FORMAT:
        raise DataError(f"{path}: the result has the format {result.format!r}, {FORMAT!r} is expected")
    return result


def json_of(value: Any) -> bytes:  # noqa: ANN401 - a struct of this module
    """Return JSON on one line."""
    return msgspec.json.encode(value)

"""The higher door: names, times and units instead of tensors.

    POST /v1/forecast   {"series": "NORTH.LOAD", "horizon": "PT1H"}                    what the service said last
                        {"interval_min": 5, "history": [..., null, ...], "until": T}    what the model says of this history
    POST /v1/score      {"rate_hz": 30, "columns": {"NORTH_freq_hz": [...], ...}}       the alerts of a recording

What the service said comes from `grid.forecasts.v1` and is refused when it is over. A history may hold null for an interval
without a good value, as in the stream; what is then doubtful is said in `quality` and `reason`. A recording goes
through the very path of `streamproc score`.
"""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import orjson

from streamproc.config import SiteConfig
from streamproc.core.forecast import REASONS, Forecaster, issue_of
from streamproc.core.iso_time import iso_time
from streamproc.core.quantiles import HISTORY_ROWS, NAMES
from streamproc.core.sums import MINUTE_NS
from streamproc.errors import RequestError, StreamprocError
from streamproc.pipeline import run
from streamproc.shell.offline import make_path
from streamproc.shell.recording import read_recording
from streamproc.values import TOPIC_ALERTS

VALUES_MAX = 2_000_000  # of one recording
HISTORY_MAX = 10_000
DOUBTFUL = {"gap", "no_model", "model_error"}

Live = Callable[[str, str], Mapping[str, Any] | None]  # (series, horizon) -> the newest record, None: none


class ForecastAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /v1/forecast."""

    series: str = ""
    horizon: Literal["PT15M", "PT1H", "PT48H"] = "PT1H"
    interval_min: Literal[1, 5, 15] | None = None
    history: list[float | None] | None = None
    until: str | None = None
    unit: str = ""


class ScoreAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of /v1/score. Without `start` the recording begins at 1970-01-01T00:00:00Z."""

    columns: dict[str, list[float | None]]
    rate_hz: float
    area: str = "recording"
    start: str | None = None


class People:
    """What answers the higher door."""

    def __init__(
        self,
        config: SiteConfig,
        forecaster: Forecaster,
        live: Live | None,
        clock_us: Callable[[], int],
    ) -> None:
        self._config, self._forecaster, self._live, self._clock_us = config, forecaster, live, clock_us
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="score")

    def close(self) -> None:
        """Let go of the thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def forecast(self, tree: object) -> Mapping[str, Any]:
        """Return the quantiles of a series; raises RequestError."""
        asked = _read(tree, ForecastAsked)
        if asked.history is not None:
            return self._of_history(asked, asked.history)
        if not asked.series:
            raise RequestError(
                400, "series: the name of a series is expected, or a history with interval_min"
            )
        if self._live is None:
            raise RequestError(
                404, "no forecasts are read from the broker (start with --live); send a history instead"
            )
        told = self._live(asked.series, asked.horizon)
        if told is None:
            raise RequestError(
                404, f"series {asked.series!r:.80}: no forecast of {asked.horizon} was told lately"
            )
        if told["valid_ts_us"][-1] <= self._clock_us():
            raise RequestError(
                404, f"series {asked.series!r:.80}: its newest forecast is over, none came since"
            )
        return told

    def _of_history(self, asked: ForecastAsked, history: Sequence[float | None]) -> Mapping[str, Any]:
        if asked.interval_min is None:
            raise RequestError(400, "interval_min: 1, 5 or 15 is expected beside a history")
        if not 1 <= len(history) <= HISTORY_MAX:
            raise RequestError(400, f"history: {len(history)} values, 1 to {HISTORY_MAX} are read")
        rows = HISTORY_ROWS[asked.interval_min]
        values = np.full(rows, np.nan, dtype=np.float64)
        given = np.array([np.nan if value is None else value for value in history[-rows:]])
        values[rows - given.size :] = given
        if not np.isfinite(values[-1]):
            raise RequestError(400, "history: its last value is null; nothing honest can be said from there")
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if np.isinf(single).any():
            raise RequestError(400, "history: a number is too large for FP32")
        issue = issue_of(single[None, :], asked.interval_min, self._forecaster)
        until_ns = _time_ns(asked.until) if asked.until else 0
        step_ns = asked.interval_min * MINUTE_NS
        reason = REASONS[int(issue.reason[0])]
        return {
            "series": asked.series,
            "unit": asked.unit,
            "issued_at": iso_time(until_ns) if asked.until else None,
            "interval_min": asked.interval_min,
            "valid_at": [
                iso_time(until_ns + step * step_ns) if asked.until else f"PT{step * asked.interval_min}M"
                for step in range(1, issue.quantiles.shape[2] + 1)
            ],
            "quantiles": {name: issue.quantiles[0, row].tolist() for row, name in enumerate(NAMES)},
            "method": "persistence" if reason else "model",
            "reason": reason,
            "quality": "SUSPECT" if reason in DOUBTFUL else "GOOD",
            "model_digest": "" if reason else self._forecaster.digest,
        }

    async def score(self, tree: object) -> Mapping[str, Any]:
        """Return the alerts of a recording; raises RequestError."""
        asked = _read(tree, ScoreAsked)
        lengths = {len(values) for values in asked.columns.values()}
        if len(lengths) != 1 or not next(iter(lengths)):
            raise RequestError(400, "columns: lists of one length, not empty, are expected")
        if len(asked.columns) * next(iter(lengths)) > VALUES_MAX:
            raise RequestError(
                413, f"columns: more than {VALUES_MAX} values; use `streamproc score` on a file"
            )
        if not 0.01 <= asked.rate_hz <= 240:
            raise RequestError(400, f"rate_hz: {asked.rate_hz:g}, 0.01 to 240 rows per second are read")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._scored, asked)
        except RequestError:
            raise
        except StreamprocError as error:
            raise RequestError(400, str(error)) from error

    def _scored(self, asked: ScoreAsked) -> Mapping[str, Any]:
        begin_ns = _time_ns(asked.start) if asked.start else 0
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "request.csv"
            with file.open("w", newline="") as out:
                rows = csv.writer(out)
                rows.writerow(["time_ns", *asked.columns])
                for row, values in enumerate(zip(*asked.columns.values(), strict=True)):
                    told = ["" if value is None else repr(value) for value in values]
                    rows.writerow([begin_ns + round(row * 1e9 / asked.rate_hz), *told])
            notes: list[str] = []
            records = read_recording(
                file,
                area=asked.area,
                rate_hz=asked.rate_hz,
                points={point.id for point in self._config.point},
                nominal_hz=self._config.site.nominal_hz,
                note=notes.append,
            )
            path = make_path(self._config)
            alerts = [orjson.loads(o.value) for o in run(path, records) if o.topic == TOPIC_ALERTS]
        frames = sum(n for (metric, _), n in path.counts.items() if metric == "frames")
        return {"alerts": alerts, "frames": frames, "notes": notes}


def _read(tree: object, kind: type[Any]) -> Any:  # noqa: ANN401
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise RequestError(400, str(error)) from error


def _time_ns(text: str) -> int:
    try:
        told = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestError(400, f"{text!r:.40}: a time as in 2026-01-31T12:00:00Z is expected") from error
    if told.tzinfo is None:
        raise RequestError(400, f"{text!r:.40}: the time needs its offset from UTC, such as Z")
    since = told.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    number = (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    if not 0 <= number < 2**63 - 10**18:
        raise RequestError(400, f"{text!r:.40}: a time from 1970 to 2200 is expected")
    return number

"""Series, bundles and records for the tests of the 48-hour forecasts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from streamproc.config import PointTable, SiteConfig
from streamproc.core.ahead.bands import Shape
from streamproc.core.ahead.days import N_LEAD, PER_DAY, STEP_NS
from streamproc.core.ahead.issue import NO_SHAPE
from streamproc.core.ahead.memory import Memory, take_in
from streamproc.core.ahead.rows import Inputs
from streamproc.core.messages import Exogenous, Forecast, Intervals, encode
from streamproc.errors import ModelError
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.shell.engines import offsets_of
from streamproc.stages.ahead import AheadStage, AheadState, AreaAhead
from streamproc.training.ahead.bundle import Trained, files_of
from streamproc.training.ahead.card import card_of
from streamproc.training.ahead.samples import Fleet
from streamproc.training.ahead.train import figures, train
from streamproc.values import F32, F64, I64, TOPIC_EXOGENOUS, TOPIC_FORECASTS, TOPIC_INTERVALS, Output, Record

MONDAY = 1_704_067_200 // 900  # 2024-01-01T00:00Z
STEP_US = STEP_NS // 1000
BERLIN = offsets_of("Europe/Berlin")
UTC = offsets_of("UTC")
ABOUT = {
    "name": "made",
    "version": 1,
    "command": "made",
    "data": "made",
    "data_digest": "0" * 64,
    "seed": 1,
    "unit": "MW",
    "zone": "UTC",
    "trained_from": "2024-01-01T00:00Z",
    "trained_until": "2024-02-01T00:00Z",
}


def loads(n: int, rows: int, seed: int = 1) -> F32:
    """Series with a day, a week, and slow and fast noise (n, rows)."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows) / PER_DAY
    size = rng.uniform(5.0, 50.0, (n, 1))
    day = 1.0 + 0.3 * np.sin(2 * np.pi * (t - 0.3)) + 0.1 * np.sin(4 * np.pi * t)
    odd = np.arange(n) % 2 == 1  # they know no week, and forget within the hour
    keep, kick = np.where(odd, 0.5, 0.97), np.where(odd, 0.05, 0.01)
    slow = np.zeros((n, rows))
    for row in range(1, rows):
        slow[:, row] = keep * slow[:, row - 1] + kick * rng.normal(size=n)
    free = (np.arange(rows) // PER_DAY % 7 >= 5) & ~odd[:, None]
    week = np.where(free, 0.85, 1.0)
    return np.asarray(size * (day * week + slow + 0.005 * rng.normal(size=(n, rows))), np.float32)


def weather(rows: int, seed: int = 5) -> F64:
    """A temperature (rows,)."""
    rng = np.random.default_rng(seed)
    daily = 5.0 * np.sin(2 * np.pi * (np.arange(rows) / PER_DAY - 0.4))
    return np.asarray(12.0 + daily + np.cumsum(0.1 * rng.normal(size=rows)), np.float64)


def fleet_of_loads(n: int = 3, days: int = 32, *, known: bool = False, seed: int = 1) -> Fleet:
    rows = days * PER_DAY
    value = loads(n, rows, seed)
    courses, names = np.zeros((0, rows + N_LEAD)), ()
    if known:
        courses, names = weather(rows + N_LEAD)[None], ("temperature_degc",)  # type: ignore[assignment]
        value = (value - value.mean(axis=1, keepdims=True) * 0.03 * (courses[:, :rows] - 12.0)).astype(
            np.float32
        )
    offset, holiday = np.zeros(rows + N_LEAD, np.int64), np.zeros(rows + N_LEAD, np.bool_)
    return Fleet(tuple(f"F{i}" for i in range(n)), MONDAY, value, offset, holiday, courses, names)


@lru_cache(maxsize=4)
def trained(n: int = 3, *, known: bool = False, days: int = 40) -> tuple[Trained, dict[str, bytes]]:
    """A model and the files of its bundle."""
    model, made = train(fleet_of_loads(n, days, known=known), 1, 1200 * n)
    metrics = figures(model, made)
    return model, files_of(model, ABOUT, metrics, card_of(model, ABOUT, metrics, []))


@lru_cache(maxsize=4)
def loaded(n: int = 3, *, known: bool = False) -> OnnxAhead:
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), trained(n, known=known)[1])
        return OnnxAhead.load(directory)


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


@dataclass
class Fake:
    """An `Ahead` that says what it is told to, and remembers what it was asked."""

    answer: float | None = 7.0  # None: ModelError; NaN is told
    digest: str = "f" * 64
    shape: Shape = NO_SHAPE
    known_names: Sequence[str] = ()
    asked: list[tuple[Inputs[F32], bool]] = field(default_factory=list)
    low: float = np.nan
    high: float = np.nan

    def rows_of(self, ids: tuple[str, ...]) -> I64:
        return np.zeros(len(ids), np.int64)

    def ranges_of(self, ids: tuple[str, ...]) -> tuple[F64, F64]:
        return np.full(len(ids), self.low), np.full(len(ids), self.high)

    def scaled(self, courses: F64) -> F64:
        return courses

    def predict(self, given: Inputs[F32], rows: I64, *, with_known: bool) -> F32:
        self.asked.append((given, with_known))
        if self.answer is None:
            raise ModelError("made to fail")
        return np.full((len(rows), N_LEAD), self.answer, np.float32)


def intervals(
    number: int,
    means: Sequence[float | None],
    ids: Sequence[str] | None = None,
    *,
    area: str = "north",
    ts_ms: int | None = None,
    units: Sequence[str] | None = None,
) -> Record:
    """The record of one quarter hour; NaN is null."""
    plain = tuple(None if m is None or not np.isfinite(m) else float(m) for m in means)
    names = tuple(ids) if ids is not None else tuple(f"F{i}" for i in range(len(plain)))
    message = Intervals(
        area=area,
        start_us=number * STEP_US,
        ids=names,
        units=tuple(units) if units is not None else ("MW",) * len(names),
        means=plain,
    )
    at_ms = (number + 1) * STEP_US // 1000 + 20_000 if ts_ms is None else ts_ms
    return Record(TOPIC_INTERVALS, 0, number, at_ms, area.encode(), encode(message))


def exogenous(
    name: str, first: int, values: Sequence[float], known_number: int, *, area: str = "north", every: int = 1
) -> Record:
    """What is told at the beginning of interval `known_number` about `first` and every `every` intervals on."""
    message = Exogenous(
        area=area,
        name=name,
        known_at_us=known_number * STEP_US,
        valid_ts_us=tuple((first + every * i) * STEP_US for i in range(len(values))),
        values=tuple(None if not np.isfinite(v) else float(v) for v in values),
    )
    return Record(
        TOPIC_EXOGENOUS, 0, known_number, known_number * STEP_US // 1000, area.encode(), encode(message)
    )


def records_of(value: F32 | F64, first: int, ids: Sequence[str] | None = None) -> list[Record]:
    return [intervals(first + row, value[:, row].tolist(), ids) for row in range(value.shape[1])]


def run(
    stage: AheadStage, records: Sequence[Record], state: AheadState | None = None
) -> tuple[AheadState, list[Output], Counter[Any]]:
    step = stage.step(state if state is not None else stage.fresh(), records)
    return step.state, list(step.outputs), step.counts


def forecasts(outputs: Sequence[Output]) -> list[Forecast]:
    return [msgspec.json.decode(o.value, type=Forecast) for o in outputs if o.topic == TOPIC_FORECASTS]


def letters(outputs: Sequence[Output]) -> list[str]:
    return [dict(o.headers)["reason"].decode() for o in outputs if o.topic.endswith(".dlq")]


def remembered(value: F32 | F64, first: int, ids: tuple[str, ...] | None = None) -> Memory:
    """The memory after these means, without any issue."""
    names = ids if ids is not None else tuple(f"F{i}" for i in range(len(value)))
    memory = Memory.fresh(names)
    for row in range(value.shape[1]):
        memory = take_in(memory, first + row, value[:, row].astype(np.float64))
    return memory


def state_of(memory: Memory, area: str = "north") -> AheadState:
    return AheadState({area: AreaAhead(memory, ("MW",) * len(memory.ids))})


def stage_of(ahead: Any = None, points: tuple[PointTable, ...] = (), offsets: Any = UTC) -> AheadStage:
    return AheadStage(SiteConfig(point=points), ahead, offsets)


def quantiles_of(forecast: Forecast) -> F64:
    return np.array([getattr(forecast.quantiles, q) for q in forecast.quantiles.__struct_fields__])


def as_json(output: Output) -> Any:
    return orjson.loads(output.value)


ROWS = 6 * PER_DAY


def seasoned(rows: int = ROWS, n: int = 3, seed: int = 1) -> tuple[AheadState, F32]:
    """A state that knows some days, and the means that follow."""
    value = loads(n, rows + 2 * PER_DAY, seed)
    return state_of(remembered(value[:, :rows], MONDAY)), value[:, rows:]


def told_bytes(outputs: list[Output]) -> list[tuple[str, bytes, bytes, int]]:
    return [(o.topic, o.key, o.value, o.ts_ms) for o in outputs]

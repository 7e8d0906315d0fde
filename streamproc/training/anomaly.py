"""`streamproc train anomaly`: fit the detectors of a site on event-free data, in closed form, in seconds.

Two passes. First every detector fits its parameters on the whole recording (regressions, principal
components), its limits still 1. Then the very graphs that will run live score the recording, at the very
instants at which they would have been judged live;
the learnt limits are taken from these levels: median + margin * (maximum - median), margin fixed in the
detector. So the calibration cannot differ from the live path, and the margin never sees an event.

`Tap` is how the data gets here: it stands in for a model while the recording goes through the real score
stage (decode, align, window), and keeps the newest row of every tick. What was trained on is exactly what
will be scored.

Refused (`ModelError`): no channel with a minute of known data. A channel with too little is left out and
named in the notes of the bundle; its scores are NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.describe import Describer
from streamproc.core.detector import N_QUANTITY, History, Rule, Windows
from streamproc.core.scoring import Plan, stride_of
from streamproc.core.window import BRIDGED_ROWS, bridged
from streamproc.detectors import DETECTORS
from streamproc.errors import ModelError
from streamproc.stages.score import ScoreStage
from streamproc.training.bundle import ModelSpec, write_bundle
from streamproc.training.onnx_graph import emit
from streamproc.values import F32, F64, TOPIC_CONFIG, Record

KNOWN_S_MIN = 60.0  # s of known data that at least one channel must have
COMPANY_MIN = 3  # PMUs; with fewer nobody is told apart (`core.guard`)
COMPANY_QUANTILE, COMPANY_RANGE = 0.999, (0.3, 0.8)
BATCH = 512  # records per step: large enough to be fast, small enough for a progress bar
QUANTITY_NAMES = ("frequency", "voltage", "angle")

Scorer = Callable[[Windows[F32]], F32]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one area sent at one rate: the features of every tick."""

    area: str
    stations: tuple[str, ...]
    rate_hz: float
    nominal_hz: float
    fast: F32  # (n_tick, 3, n_pmu)
    base_v: F64  # (n_pmu,), NaN: relative to its own level
    first_instant: int = 0  # number of the first tick on the grid


class TapModel:
    """A model without rules that remembers the newest row of each call."""

    rules: tuple[Rule, ...] = ()
    digest = ""
    reason = ""
    fallback_count = 0
    fast_rows = 1
    slow_rows = 1

    def __init__(self, n_pmu: int) -> None:
        self.base_v: F64 = np.full(n_pmu, np.nan)
        self.rows: list[F32] = []
        self.first_instant = 0

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return no scores."""
        self.first_instant = self.first_instant if self.rows else instant
        self.rows.append(windows.now.copy())
        return np.zeros((0, windows.now.shape[1]), dtype=np.float32)


class Tap:
    """A set of such models: the score stage cannot tell the difference."""

    describer: Describer | None = None

    def __init__(self) -> None:
        self._models: dict[tuple[str, tuple[str, ...], float, float], TapModel] = {}

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> TapModel:
        """Return the memory for these PMUs."""
        key = (area, stations, rate_hz, nominal_hz)
        if key not in self._models:
            self._models[key] = TapModel(len(stations))
        return self._models[key]

    def recorded(self) -> list[Recorded]:
        """Return, per area and rate, the longest stretch with one set of PMUs, first seen first."""
        best: dict[tuple[str, float], Recorded] = {}
        for (area, stations, rate_hz, nominal_hz), model in self._models.items():
            known = best.get((area, rate_hz))
            if not model.rows or (known is not None and known.fast.shape[0] >= len(model.rows)):
                continue
            fast = np.stack(model.rows)
            best[area, rate_hz] = Recorded(
                area, stations, rate_hz, nominal_hz, fast, model.base_v, model.first_instant
            )
        return list(best.values())


def tap(site: SiteConfig, records: Iterable[Record], seconds: float | None) -> list[Recorded]:
    """Return the features of a recording as the score stage makes them; `seconds` cuts it after that time."""
    memory = Tap()
    stage = ScoreStage(site, memory)
    state = stage.fresh()
    batch: list[Record] = []
    first_ms: int | None = None
    for record in records:
        if record.topic == TOPIC_CONFIG:
            state = stage.learn(state, [record])
            continue
        first_ms = record.ts_ms if first_ms is None else first_ms
        if seconds is not None and record.ts_ms - first_ms >= seconds * 1000:
            break
        batch.append(record)
        if len(batch) == BATCH:
            state, batch = stage.step(state, batch).state, []
    state = stage.step(state, batch).state
    # The level that was 1 pu here is 1 pu for ever: a worker that starts during a sag must not take the sag
    # as base.
    bases = {
        (key[0], tuple(column.label for column in track.columns), key[1]): track.features.base_v
        for key, track in state.tracks.items()
    }
    return [
        replace(part, base_v=bases.get((part.area, part.stations, part.rate_hz), part.base_v))
        for part in memory.recorded()
    ]


def fit_bundle(
    recordings: Sequence[Recorded], open_model: Callable[[bytes], Scorer], command: str
) -> dict[str, bytes]:
    """Return the files of a site bundle for these areas; raises ModelError if nothing can be learnt."""
    if not recordings:
        raise ModelError("train anomaly: the recording holds no PMU data")
    digest = hashlib.sha256()
    specs = []
    for number, recorded in enumerate(recordings):
        digest.update(
            repr((recorded.area, recorded.stations, recorded.rate_hz, recorded.first_instant)).encode()
            + recorded.fast.tobytes()
        )
        specs.append(fit_area(recorded, f"area_{number}", open_model))
    return write_bundle("site", specs, {"command": command, "data_sha256": digest.hexdigest()})


def fit_area(recorded: Recorded, name: str, open_model: Callable[[bytes], Scorer]) -> ModelSpec:
    """Return the fitted model of one area; raises ModelError if there is too little data."""
    notes = _check_enough(recorded)
    rate_hz, n_pmu = recorded.rate_hz, len(recorded.stations)
    seconds = seconds_of(recorded.fast, rate_hz)
    history = History(rate_hz, recorded.fast.astype(np.float64), seconds, recorded.first_instant)
    by_stride = sorted(DETECTORS, key=lambda detector: stride_of(detector, rate_hz))  # as the rows of scores
    learnt = [(detector, detector.fit(history)) for detector in by_stride]
    fitted = [(detector, params) for detector, params in learnt if params is not None]
    draft = Plan(rate_hz, tuple(fitted))
    levels = score_all(draft, history, open_graphs(draft, n_pmu, open_model))  # (n_tick, n_rule, n_pmu)
    parts, row = [], 0
    for detector, params in fitted:
        count = len(detector.rules(params, rate_hz))
        parts.append((detector, detector.calibrated(params, levels[:, row : row + count])))
        row += count
    plan = Plan(rate_hz, tuple(parts))
    scores = score_all(plan, history, open_graphs(plan, n_pmu, open_model))
    return ModelSpec(
        name,
        plan,
        recorded.area,
        recorded.stations,
        recorded.nominal_hz,
        recorded.base_v,
        tuple(notes),
        company_levels(scores),
    )


def company_levels(scores: F64) -> tuple[float, ...]:
    """Return per rule the score that the largest of quiet data (n_tick, n_rule, n_pmu) rarely reaches."""
    if scores.shape[2] < COMPANY_MIN:
        return ()
    largest = np.nan_to_num(scores, nan=0.0).max(axis=2)
    return tuple(np.clip(np.quantile(largest, COMPANY_QUANTILE, axis=0), *COMPANY_RANGE).round(3).tolist())


def open_graphs(
    plan: Plan, n_pmu: int, open_model: Callable[[bytes], Scorer]
) -> tuple[tuple[Plan, Scorer], ...]:
    """Return the graphs of a plan, each with what runs it."""
    return tuple((graph, open_model(emit(graph, n_pmu, {}))) for graph in plan.graphs)


def score_all(plan: Plan, history: History, graphs: Sequence[tuple[Plan, Scorer]]) -> F64:
    """Return the scores (n_tick, n_rule, n_pmu) of every tick, as live; before the start is NaN."""
    n_tick, _, n_pmu = history.fast.shape
    fast_rows, slow_rows = max(1, plan.fast_rows), max(1, plan.slow_rows)
    now = history.fast.astype(np.float32)
    fast, slow = _padded(now, fast_rows - 1), _padded(history.slow.astype(np.float32), slow_rows)
    out = np.full((n_tick, len(plan.rules), n_pmu), np.nan)
    per_second = max(1, round(history.rate_hz))
    row = 0
    for graph, score in graphs:
        count = len(graph.rules)
        for tick in range(-history.first_instant % graph.stride, n_tick, graph.stride):
            second = min(tick // per_second, history.slow.shape[0])
            windows = Windows(now[tick], fast[tick : tick + fast_rows], slow[second : second + slow_rows])
            out[tick, row : row + count] = score(windows)
        row += count
    return out


def _padded(rows: F32, before: int) -> F32:
    """Return the rows as windows hold them: short gaps bridged, and unknown rows before the first."""
    blank = np.full((max(before, BRIDGED_ROWS), *rows.shape[1:]), np.nan, dtype=np.float32)
    return np.concatenate([blank[:before], bridged(blank[:BRIDGED_ROWS], rows)])


def seconds_of(fast: F32 | F64, rate_hz: float) -> F64:
    """Return (n_s, 3, n_pmu): means over blocks of one second, NaN where nothing is known."""
    per_second = max(1, round(rate_hz))
    n_s = fast.shape[0] // per_second
    blocks = fast[: n_s * per_second].astype(np.float64).reshape(n_s, per_second, *fast.shape[1:])
    known = np.isfinite(blocks)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(known, blocks, 0.0).sum(axis=1) / known.sum(axis=1))


def _check_enough(recorded: Recorded) -> list[str]:
    """Return notes on channels that cannot be learnt; raises ModelError if that is all of them."""
    known_s = np.isfinite(recorded.fast).sum(axis=0) / recorded.rate_hz  # (3, n_pmu)
    longest_s = float(known_s.max(initial=0.0))
    if longest_s < KNOWN_S_MIN:
        raise ModelError(
            f"train anomaly: area {recorded.area}: the best of {known_s.size} channels has {longest_s:.1f} s "
            f"of known data, at least {KNOWN_S_MIN:g} s are needed"
        )
    return [
        f"{recorded.stations[pmu]} {QUANTITY_NAMES[quantity]}: {known_s[quantity, pmu]:.0f} s of known data"
        for quantity in range(N_QUANTITY)
        for pmu in range(len(recorded.stations))
        if known_s[quantity, pmu] < KNOWN_S_MIN
    ]

"""One area at one reporting rate: from decoded frames to edges. The middle of the path, in order:

    samples     the PMU blocks of decoded frames: flags, implausible and withheld values become NaN
    align       closed instants
    features    rows of the windows
    score       the model at each instant; five quality rules and two of damping that no model brings; one PMU alone
                makes no event (`guard`)
    conditions  edges

The columns are the PMUs whose frames came in this area, sorted by stream IDCODE and block. A new PMU is a new column:
every array grows, and what was known of the others stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np

from streamproc.core import quality
from streamproc.core.align import Aligned, AlignState
from streamproc.core.c37118 import DataBatch, Layout, PmuInfo
from streamproc.core.condition import ConditionState, Edges, RuleArrays, advance
from streamproc.core.damping_watch import DampingLimits, DampingWatch, refilled, watched
from streamproc.core.describe import Describer, EventView, follow, raises_of
from streamproc.core.detector import FREQUENCY, N_QUANTITY, AreaModel, Rule, Windows
from streamproc.core.disturbance import Disturbance
from streamproc.core.event_watch import EventWatch
from streamproc.core.features import FeatureState, features
from streamproc.core.grid import to_grid
from streamproc.core.guard import Guard, guarded
from streamproc.core.samples import ANGLE, FREQ, N_VALUE, ROCOF, VOLT, Samples
from streamproc.core.source_quality import OVER_LIMIT, Stillness, quality_scores, stand_still, without
from streamproc.core.thinning import Thin
from streamproc.core.window import Window
from streamproc.values import C128, F32, F64, I64, U32, Bool

A = TypeVar("A", F64, I64, Bool)

HOLD_S, HOLD_FRAMES = 2.0, 5  # a running delay outlives so much unknown time, whichever is more


@dataclass(frozen=True, slots=True)
class Column:
    """One PMU of an area."""

    idcode: int  # of the stream
    block: int
    stn: str
    label: str


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """When a measurement is not used (the site file's `[quality]`)."""

    freq_min_hz: float
    freq_max_hz: float
    angle_error_max_rad: float


def columns_of(layouts: Sequence[Layout]) -> tuple[Column, ...]:
    """Return the columns of these streams, sorted; a station name that is empty or not unique gets its address."""
    places = sorted(
        (layout.idcode, block, pmu.stn) for layout in layouts for block, pmu in enumerate(layout.pmus)
    )
    names = [stn for _, _, stn in places]
    return tuple(
        Column(
            idcode, block, stn, stn if stn and names.count(stn) == 1 else f"{stn or 'PMU'}#{idcode}/{block}"
        )
        for idcode, block, stn in places
    )


@lru_cache(maxsize=4096)
def voltage_column(layout: Layout) -> I64:
    """Return per PMU the phasor that stands for its voltage, -1 for none: positive sequence if told, else the first."""
    chosen = np.full(layout.n_pmu, -1, dtype=np.int64)
    first = 0
    for block, pmu in enumerate(layout.pmus):
        volts = [i for i, current in enumerate(pmu.phasor_is_current) if not current]
        positive = [i for i in volts if _is_positive_sequence(pmu, i)]
        if volts:
            chosen[block] = first + (positive or volts)[0]
        first += len(pmu.phasor_names)
    return chosen


def _is_positive_sequence(pmu: PmuInfo, index: int) -> bool:
    return bool(pmu.phasor_component) and pmu.phasor_component[index] == 1


def samples_of(
    batches: Sequence[DataBatch], column_of: dict[tuple[int, int], int], limits: QualityLimits, rate_hz: float
) -> Samples:
    """Return the samples of decoded frames in arrival order.

    Streams are only cut into rows here; everything that costs runs once over all of them, so that forty streams of one
    PMU cost little more than one stream of forty.
    """
    order = np.concatenate([batch.order for batch in batches])
    arrival = np.argsort(order, kind="stable")
    rank = np.empty(order.size, dtype=np.int64)
    rank[arrival] = np.arange(order.size)
    instant = to_grid(np.concatenate([batch.t_ns for batch in batches]), rate_hz)[arrival]
    width = [batch.stat.shape[1] for batch in batches]
    n_frame = [batch.stat.shape[0] for batch in batches]
    frame = rank if max(width) == 1 else np.repeat(rank, np.repeat(width, n_frame))
    column = np.concatenate(
        [_per_pmu(batch, lambda layout: _columns_of_layout(layout, column_of)) for batch in batches]
    )
    value, flags = _values(batches, limits)
    sort = np.argsort(frame, kind="stable")
    record = np.concatenate([batch.record for batch in batches])[arrival]
    return Samples(frame[sort], column[sort], instant, value[sort], flags[sort], record)


def _values(batches: Sequence[DataBatch], limits: QualityLimits) -> tuple[F64, U32]:
    """Return values (n_sample, 4) and flags (n_sample,) frame by frame; what may not be used is NaN."""
    stat = np.concatenate([batch.stat.ravel() for batch in batches])
    time_quality = np.concatenate([np.repeat(batch.time_quality, batch.stat.shape[1]) for batch in batches])
    nominal_hz = np.concatenate([_per_pmu(batch, lambda layout: layout.nominal_hz) for batch in batches])
    phasor = np.concatenate([_voltage(batch).ravel() for batch in batches])
    flags = quality.flags_of(stat[:, None], time_quality)[:, 0]
    value = np.empty((stat.size, N_VALUE))
    freq_hz = np.concatenate([batch.freq_hz.ravel() for batch in batches])
    value[:, FREQ] = freq_hz
    value[:, ROCOF] = np.concatenate([batch.rocof_hz_s.ravel() for batch in batches])
    value[:, VOLT] = np.abs(phasor)
    # Read from both components: NaN in either must not become an angle.
    value[:, ANGLE] = np.where(np.isfinite(phasor), np.angle(phasor), np.nan)

    implausible = np.isfinite(freq_hz) & ~((freq_hz >= limits.freq_min_hz) & (freq_hz <= limits.freq_max_hz))
    flags |= np.where(implausible, np.uint32(quality.OVER_RANGE | quality.BAD_DATA), np.uint32(0))
    unusable = (flags & quality.BAD_DATA != 0) | (stat >> 14 != 0)
    value[unusable] = np.nan
    # A PMU that has a voltage must send it (some send a frequency only). What it does send is used, and told as bad.
    has_voltage = np.concatenate([_per_pmu(batch, _has_voltage) for batch in batches])
    absent = ~np.isfinite(freq_hz) | (has_voltage & ~np.isfinite(value[:, VOLT]))
    flags |= np.where(absent, np.uint32(quality.BAD_DATA), np.uint32(0))
    error_rad = 2.0 * np.pi * nominal_hz * quality.clock_error_s(stat[:, None], time_quality)[:, 0]
    untimely = ~(error_rad <= limits.angle_error_max_rad)
    value[untimely, ANGLE] = np.nan
    flags |= np.where(untimely, np.uint32(quality.SUSPECT_TIME), np.uint32(0))
    return value, flags


def _per_pmu(batch: DataBatch, of: Callable[[Layout], A]) -> A:
    """Return what `of` says of each PMU of a stream, for every sample of the batch: (n_frame * n_pmu,)."""
    return np.stack([of(layout) for layout in batch.layouts])[batch.stream].ravel()


def _has_voltage(layout: Layout) -> Bool:
    return np.asarray(voltage_column(layout) >= 0)


def _columns_of_layout(layout: Layout, column_of: dict[tuple[int, int], int]) -> I64:
    return np.array([column_of[layout.idcode, block] for block in range(layout.n_pmu)], dtype=np.int64)


def _voltage(batch: DataBatch) -> C128:
    """Return the voltage phasor (n_frame, n_pmu) that stands for each PMU, NaN where it has none."""
    chosen = voltage_column(batch.layout)
    if (chosen >= 0).all():
        return batch.phasor[:, chosen]
    found = np.full(batch.stat.shape, complex(np.nan, np.nan))
    has = np.flatnonzero(chosen >= 0)
    found[:, has] = batch.phasor[:, chosen[has]]
    return found


@dataclass(frozen=True, slots=True)
class AreaState:
    """Memory of one area and rate between batches."""

    columns: tuple[Column, ...]
    nominal_hz: float
    align: AlignState
    features: FeatureState
    fast: Window
    slow: Window
    conditions: ConditionState
    rule_names: tuple[str, ...]
    stillness: Stillness
    guard: Guard
    damping: DampingWatch
    last_second: int = -1  # of the last closed instant, for watermarks
    watch: EventWatch = field(default_factory=EventWatch)


@dataclass(frozen=True, slots=True)
class Scored:
    """What closed instants gave: times, edges, and flags for the evidence."""

    t_ns: I64  # (n,)
    edges: Edges
    flags: U32  # (n, n_pmu)
    bad: int = 0  # PMU frames that were there and may not be used,
    frozen: int = 0  # whose values stood still,
    unsynchronised: int = 0  # and whose clock was not locked, or too inexact for an angle
    unusable: I64 = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )  # (n_pmu,) frames missing, bad or frozen
    described: tuple[tuple[int, Disturbance], ...] = ()  # with the tick
    freq_hz: F64 = field(default_factory=lambda: np.zeros((0, 0)))  # (n, n_pmu) NaN: missing, bad or frozen


def fresh_area(
    columns: tuple[Column, ...], nominal_hz: float, base_v: F64, model: AreaModel, rate_hz: float
) -> AreaState:
    """Return the state of an area before its first frame."""
    n_pmu = len(columns)
    return AreaState(
        columns=columns,
        nominal_hz=nominal_hz,
        align=AlignState.fresh(n_pmu),
        features=FeatureState.fresh(base_v),
        fast=Window.empty(model.fast_rows, N_QUANTITY, n_pmu),
        slow=Window.empty(model.slow_rows, N_QUANTITY, n_pmu),
        conditions=ConditionState.fresh(0, n_pmu),
        rule_names=(),
        stillness=Stillness.fresh(n_pmu),
        guard=Guard.fresh(n_pmu),
        damping=DampingWatch.fresh(n_pmu, rate_hz),
    )


def widened(
    state: AreaState, columns: tuple[Column, ...], base_v: F64, model: AreaModel, rate_hz: float
) -> AreaState:
    """Return the state with more PMUs; `base_v` (for all of them) counts where none was known yet."""
    old = {(c.idcode, c.block): i for i, c in enumerate(state.columns)}
    index = np.array([old.get((c.idcode, c.block), -1) for c in columns], dtype=np.int64)
    place = np.flatnonzero(index >= 0)
    moved = np.empty(len(state.columns), dtype=np.int64)
    moved[index[place]] = place
    fresh = fresh_area(columns, state.nominal_hz, base_v, model, rate_hz)

    def spread(values: A, blank: A) -> A:
        grown = blank.copy()
        grown[..., place] = values[..., index[place]]
        return grown

    names = (
        "last_angle_rad",
        "last_hz",
        "base_sum_v",
        "base_count",
        "base_from",
        "second_sum",
        "second_count",
    )
    made = {name: spread(getattr(state.features, name), getattr(fresh.features, name)) for name in names}
    own = spread(state.features.base_v, base_v)
    grown = replace(state.features, base_v=np.where(np.isnan(own), base_v, own), **made)
    return replace(
        state,
        columns=columns,
        align=state.align.take(index, moved),
        features=grown,
        fast=state.fast.take(index, model.fast_rows),
        slow=state.slow.take(index, model.slow_rows),
        conditions=state.conditions.take(np.arange(len(state.rule_names)), index),
        stillness=state.stillness.take(index),
        guard=state.guard.take(index),
        damping=state.damping.take(index),
    )


def score(
    state: AreaState,
    closed: Aligned,
    t_ns: I64,
    model: AreaModel,
    rules: tuple[Rule, ...],
    rate_hz: float,
    limits: DampingLimits,
    describer: Describer | None = None,
) -> tuple[AreaState, Scored]:
    """Return the state after these closed instants, and what they gave.

    `rules` are the model's, then those of the quality and of the damping.
    """
    state = _with_rules(state, rules)
    stillness, still, stuck = stand_still(state.stillness, closed.value, rate_hz, state.nominal_hz)
    good = without(closed, stuck)
    state, scores = _scores(state, good, model, rate_hz)
    guard, scores, alone = guarded(state.guard, scores, model.rules, closed.instant, rate_hz)
    own = quality_scores(closed, still, alone)
    last = state.fast.end - t_ns.size
    freq_hz = state.fast.buffer[last : state.fast.end, FREQUENCY]
    damping, slow_swings = watched(
        state.damping, closed.instant, t_ns, state.last_second, freq_hz, rate_hz, limits
    )
    state = replace(state, damping=damping)
    conditions, edges = advance(
        state.conditions,
        RuleArrays.of(rules, _hold_ns(rate_hz)),
        t_ns,
        np.concatenate([scores, own.astype(np.float32), slow_swings.astype(np.float32)], axis=1),
    )
    held = np.stack([own[:, 0] == OVER_LIMIT, own[:, 1] == OVER_LIMIT, stuck])  # missing, bad, frozen
    _, bad, frozen = held.sum(axis=(1, 2)).tolist()
    there = closed.quality & quality.DISCARDED == 0
    untimely = int((there & (closed.quality & quality.SUSPECT_TIME != 0)).sum())
    counted = (bad, frozen, untimely, held.any(axis=0).sum(axis=0))
    view_of = partial(_view, state, closed.instant, rate_hz, limits)
    raises = raises_of(edges, rules, rate_hz)
    watch, described = follow(state.watch, raises, closed.instant, rate_hz, view_of, describer)
    state = replace(state, conditions=conditions, stillness=stillness, guard=guard, watch=watch)
    return state, Scored(t_ns, edges, closed.quality, *counted, described, good.value[:, :, FREQ])


def _view(
    state: AreaState, instants: I64, rate_hz: float, limits: DampingLimits, tick: int, watch: EventWatch
) -> EventView:
    """Return what is shown of the disturbance at one of these instants, which are in the window already."""
    labels = tuple(column.label for column in state.columns)
    return EventView(
        fast=state.fast.ending(state.fast.end - instants.size + tick + 1),
        age=int(instants[tick]) - watch.onset,
        onset=watch.onset,
        rate_hz=rate_hz,
        nominal_hz=state.nominal_hz,
        labels=labels,
        slow=watch.slow,
        modes=state.damping.told(labels, limits),
    )


def _hold_ns(rate_hz: float) -> int:
    return int(max(HOLD_S, HOLD_FRAMES / rate_hz) * 1e9)


def _with_rules(state: AreaState, rules: tuple[Rule, ...]) -> AreaState:
    names = tuple(rule.name for rule in rules)
    if names == state.rule_names:
        return state
    old = {name: i for i, name in enumerate(state.rule_names)}
    index = np.array([old.get(name, -1) for name in names], dtype=np.int64)
    return replace(
        state, rule_names=names, conditions=state.conditions.take(index, np.arange(len(state.columns)))
    )


def _scores(state: AreaState, closed: Aligned, model: AreaModel, rate_hz: float) -> tuple[AreaState, F32]:
    """Return the model's scores (n, n_rule, n_pmu): instant by instant, always windows of the same shape."""
    made, rows, slow_rows = features(state.features, closed.instant, closed.value, state.nominal_hz, rate_hz)
    fast = state.fast.append(rows)
    slow = state.slow
    first_end = fast.end - rows.shape[0]
    before = dict(slow_rows)
    instants = closed.instant.tolist()
    scores = np.full((rows.shape[0], len(model.rules), len(state.columns)), np.nan, dtype=np.float32)
    for tick in range(rows.shape[0]):
        if tick in before:
            slow = slow.append(before[tick][None])
        windows = Windows(rows[tick], fast.ending(first_end + tick + 1), slow.view())
        scores[tick] = model.score(windows, instants[tick])
    return replace(state, features=made, fast=fast, slow=slow), scores


@dataclass(frozen=True, slots=True)
class Making:
    """What makes the rows of the windows out of instants."""

    features: FeatureState
    stillness: Stillness
    thin: Thin


def refill(state: AreaState, closed: Aligned, making: Making, rate_hz: float) -> tuple[AreaState, Making]:
    """Return the state with only its windows filled further (rows that were already answered), and what makes rows."""
    stillness, _, stuck = stand_still(making.stillness, closed.value, rate_hz, state.nominal_hz)
    value = without(closed, stuck).value
    own, rows, slow_rows = features(making.features, closed.instant, value, state.nominal_hz, rate_hz)
    slow = state.slow
    for _, row in slow_rows:
        slow = slow.append(row[None])
    fast = state.fast.append(rows)
    freq_hz = fast.buffer[fast.end - rows.shape[0] : fast.end, FREQUENCY]
    thinned, thin = refilled(state.damping.rows, making.thin, closed.instant, freq_hz, rate_hz)
    damping = replace(state.damping, rows=thinned)
    return replace(state, fast=fast, slow=slow, damping=damping), Making(own, stillness, thin)


__all__ = [
    "AreaState",
    "Column",
    "QualityLimits",
    "Scored",
    "columns_of",
    "fresh_area",
    "samples_of",
    "score",
]

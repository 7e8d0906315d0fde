"""The memory of the score stage: what it holds between batches, and how it is packed.

Windows are not packed: they are refilled from the input. Everything else is, open instants included, so that a successor
goes on with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from streamproc.core.align import AlignState
from streamproc.core.area import AreaState, Column, Making, fresh_area
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.c37118 import Book, DataBatch, Decoded
from streamproc.core.condition import CLEAR, ConditionState, Edges, no_edges
from streamproc.core.damping_watch import DampingWatch, packed, unpacked
from streamproc.core.detector import AreaModel
from streamproc.core.event_watch import EventWatch
from streamproc.core.features import FeatureState
from streamproc.core.guard import Guard
from streamproc.core.samples import Samples
from streamproc.core.source_quality import Stillness
from streamproc.core.stream_clock import ClockState
from streamproc.core.thinning import Thin
from streamproc.stages.score_regulation import Regulation, packed_regulation, unpacked_regulation

BLOB_KIND = "score/11"


@dataclass(frozen=True, slots=True)
class Warming:
    """What refills the windows of one track: its own alignment and row maker, forgotten at the first new record."""

    align: AlignState
    making: Making


TrackKey: TypeAlias = tuple[str, float]  # area, reporting rate in Hz


@dataclass(frozen=True, slots=True)
class ScoreState:
    """Memory of one partition. `marks`: per track (UTC second, offset at which the stream clock came to it)."""

    shared: Book = field(default_factory=Book)
    books: Mapping[str, Book] = field(default_factory=dict)
    tracks: Mapping[TrackKey, AreaState] = field(default_factory=dict)
    marks: Mapping[TrackKey, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    warming: Mapping[TrackKey, Warming] = field(default_factory=dict)
    regulation: Mapping[str, Regulation] = field(default_factory=dict)  # by area
    refused: tuple[
        str, ...
    ] = ()  # why configurations of the broadcast topic were not learnt; told at the next step


def pack_state(state: ScoreState) -> bytes:
    """Return everything but the windows."""
    tracks = [
        {
            "key": key,
            "columns": track.columns,
            "nominal_hz": track.nominal_hz,
            "align": track.align,
            "features": track.features,
            "conditions": track.conditions,
            "rule_names": track.rule_names,
            "stillness": track.stillness,
            "guard": track.guard,
            "damping": packed(track.damping),
            "last_second": track.last_second,
            "watch": track.watch,
            "marks": state.marks.get(key, ()),
        }
        for key, track in state.tracks.items()
    ]
    books = {area: book.frames() for area, book in state.books.items()}
    regulation = packed_regulation(state.regulation)
    tree = {"shared": state.shared.frames(), "books": books, "tracks": tracks, "regulation": regulation}
    return pack_tree(BLOB_KIND, tree)


def unpack_state(
    blob: bytes, model_of: Callable[[TrackKey, tuple[Column, ...], float], AreaModel]
) -> ScoreState:
    """Return the state of `pack_state`, its windows empty; raises StateError for a foreign blob."""
    tree = unpack_tree(BLOB_KIND, blob)
    tracks: dict[TrackKey, AreaState] = {}
    marks: dict[TrackKey, tuple[tuple[int, int], ...]] = {}
    for item in tree["tracks"]:
        key = (str(item["key"][0]), float(item["key"][1]))
        tracks[key] = _unpacked_track(item, key, model_of)
        marks[key] = tuple((int(second), int(offset)) for second, offset in item["marks"])
    books = {area: Book.of(frames) for area, frames in tree["books"].items()}
    regulation = unpacked_regulation(tree["regulation"])
    return ScoreState(Book.of(tree["shared"]), books, tracks, marks, regulation=regulation)


def _unpacked_track(
    item: dict[str, Any], key: TrackKey, model_of: Callable[[TrackKey, tuple[Column, ...], float], AreaModel]
) -> AreaState:
    columns = tuple(Column(**column) for column in item["columns"])
    features = FeatureState(**item["features"])
    nominal_hz = float(item["nominal_hz"])
    align = {
        **item["align"],
        "waiting": Samples(**item["align"]["waiting"]),
        "time": ClockState(**{**item["align"]["time"], "held": Samples(**item["align"]["time"]["held"])}),
    }
    return replace(
        fresh_area(columns, nominal_hz, features.base_v, model_of(key, columns, nominal_hz), key[1]),
        align=AlignState(**align),
        features=features,
        conditions=ConditionState(**item["conditions"]),
        rule_names=tuple(item["rule_names"]),
        stillness=Stillness(**item["stillness"]),
        guard=Guard(**item["guard"]),
        damping=unpacked(item["damping"], len(columns), key[1]),
        last_second=item["last_second"],
        watch=EventWatch(**item["watch"]),
    )


def start_warming(track: AreaState) -> Warming:
    """Return what refills the windows of a track from the first record that is read again."""
    n_pmu = len(track.columns)
    own = replace(
        FeatureState.fresh(track.features.base_v), base_from=track.features.base_from
    )  # a base that is not known yet stays so: those rows have no voltage either way
    return Warming(AlignState.fresh(n_pmu), Making(own, Stillness.fresh(n_pmu), Thin.fresh(n_pmu)))


def emptied(track: AreaState, model: AreaModel, rate_hz: float) -> AreaState:
    """Return the track with empty windows: time leapt, and what was before says nothing about what comes."""
    fresh = fresh_area(track.columns, track.nominal_hz, track.features.base_v, model, rate_hz)
    damping = replace(track.damping, rows=fresh.damping.rows)
    return replace(track, fast=fresh.fast, slow=fresh.slow, damping=damping)


def begun(making: Making) -> Making:
    """Return what makes rows for time that begins anew."""
    return replace(making, features=anew(making.features), thin=Thin.fresh(making.thin.count.size))


def anew(features: FeatureState) -> FeatureState:
    """Return the row maker for time that begins anew: only the bases of the voltages stay."""
    fresh = FeatureState.fresh(features.base_v)
    bases = {name: getattr(features, name) for name in ("base_from", "base_sum_v", "base_count")}
    return replace(fresh, **bases)


def restarted(track: AreaState, model: AreaModel, first_ns: int, rate_hz: float) -> tuple[AreaState, Edges]:
    """Return the track for time that begins anew at `first_ns`, and the clears that this means.

    After a gap, windows are empty and conditions hold: missing data clears nothing. When time went back, conditions of
    the time before can never be judged again: what was active is cleared, and may raise anew at once.
    """
    damping = DampingWatch.fresh(len(track.columns), rate_hz)
    track = replace(emptied(track, model, rate_hz), features=anew(track.features), damping=damping)
    if track.last_second * 1_000_000_000 <= first_ns or not track.conditions.busy:
        return track, no_edges()
    rule, source = np.nonzero(track.conditions.active)
    zero = np.zeros(rule.size, dtype=np.int64)
    edges = Edges(
        tick=zero,
        rule=rule,
        kind=np.full(rule.size, CLEAR, dtype=np.uint8),
        source=source,
        onset_ns=track.conditions.onset_ns[rule, source],
        score=zero.astype(np.float64),
    )
    conditions = ConditionState.fresh(len(track.rule_names), len(track.columns))
    return replace(track, conditions=conditions, last_second=-1, watch=EventWatch()), edges


def until_new_stream(state: ScoreState, area: str, decoded: Decoded) -> int | None:
    """Return the record with which a stream comes that has no columns yet; None for none, or the first record."""
    known = {
        (rate_hz, column.idcode)
        for (name, rate_hz), track in state.tracks.items()
        if name == area
        for column in track.columns
    }
    first = [
        int(batch.record[np.argmax(batch.stream == number)])
        for batch in decoded.batches
        for number, layout in enumerate(batch.layouts)
        if (layout.rate_hz, layout.idcode) not in known
    ]
    return min((place for place in first if place > 0), default=None)


def by_track(area: str, batches: Iterable[DataBatch]) -> dict[TrackKey, list[DataBatch]]:
    """Return the batches by area and reporting rate."""
    tracks: dict[TrackKey, list[DataBatch]] = {}
    for batch in batches:
        tracks.setdefault((area, batch.layout.rate_hz), []).append(batch)
    return tracks

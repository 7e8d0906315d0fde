"""The score stage: C37.118 frames of one partition in, findings out, and each area's regulation need.

    records ── decode ── samples ── align ── features ── score ── conditions ── findings
                 |                    |
             dead letters      late, duplicate, wrong clock, missing: counted        └── minutes ── forecasts
                                                                                         (`stages.score_regulation`)

A record's key is its area. Streams of one area with the same reporting rate share a track: one grid, one window, one
model. Configurations come in the frames topic itself or through `grid.pmu.config.v1` (broadcast).

After a restart the windows are refilled from records that were already answered (`warm`); everything else, open instants
included, is in the blob. So the stage goes on as if it had never stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Protocol

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.align import align
from streamproc.core.area import (
    Column,
    QualityLimits,
    Scored,
    columns_of,
    fresh_area,
    refill,
    samples_of,
    score,
    widened,
)
from streamproc.core.c37118 import DataBatch, decode
from streamproc.core.damping_watch import WINDOW_S, DampingLimits, damping_rules
from streamproc.core.describe import Describer
from streamproc.core.detector import AreaModel
from streamproc.core.findings import area_findings
from streamproc.core.grid import from_grid
from streamproc.core.samples import Samples, no_samples
from streamproc.core.source_quality import quality_rules
from streamproc.core.stream_clock import AlignSettings
from streamproc.core.wire import Reason
from streamproc.stages.score_regulation import Regulation, coverage_gauges, summed, tell
from streamproc.stages.score_state import (
    ScoreState,
    TrackKey,
    Warming,
    begun,
    by_track,
    emptied,
    pack_state,
    restarted,
    start_warming,
    unpack_state,
    until_new_stream,
)
from streamproc.stages.score_work import Work, count, count_quality, note_decoded
from streamproc.values import (
    F64,
    SILENT,
    TOPIC_CONFIG,
    TOPIC_FRAMES,
    Output,
    Probe,
    Record,
    Step,
)

MARGIN_S = (
    5  # re-read a little more than the windows hold: open instants, and the second that is being summed
)
# Longer windows are not refilled: who reads on where a worker died must not be minutes late. What looks further back
# (clocks that drift by less than 50 ns/s) is blind until then; nothing is raised and nothing clears.
REFILL_S = 200
RECORD_SIZE_MAX = 1 << 20  # bytes; one of garbage takes a quarter of a second, and others wait behind it
FORGET_S = 600  # an area silent for longer than this holds no offset back


class Models(Protocol):
    """Where the models of an area come from (`streamproc.shell.models.ModelSet`)."""

    describer: Describer | None  # who says what a disturbance is; None: nobody does

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> AreaModel:
        """Return the model for these PMUs in this order."""


class ScoreStage:
    """values.Stage over `grid.pmu.frames.v1`."""

    name = "score"
    inputs = (TOPIC_FRAMES,)
    broadcast = (TOPIC_CONFIG,)

    def __init__(self, config: SiteConfig, models: Models) -> None:
        self._config = config
        self._models = models
        self._areas = {area.name: area for area in config.area}
        wanted = config.quality
        self._limits = QualityLimits(wanted.freq_min_hz, wanted.freq_max_hz, wanted.angle_error_max_rad)
        swings = config.oscillation
        self._damping = DampingLimits(swings.damping_low, swings.damping_reduced, swings.rms_min_hz)
        self._own_rules = (
            *quality_rules(wanted.missing_ms, wanted.bad_ms, config.align.frozen_ms, wanted.off_delay_ms),
            *damping_rules(self._damping),
        )

    def fresh(self) -> ScoreState:
        """Return the state before any record."""
        return ScoreState()

    def learn(self, state: ScoreState, records: Sequence[Record]) -> ScoreState:
        """Return the state that knows these configurations; bad ones are left out, and counted at the next step."""
        decoded = decode(state.shared, [r.value for r in records if r.value])
        known = decoded.book.layouts
        books = {
            area: replace(book, layouts=dict(sorted({**known, **book.layouts}.items())))
            for area, book in state.books.items()
        }
        refused = (*state.refused, *(str(rejection.reason) for _, rejection in decoded.rejections))
        return replace(state, shared=decoded.book, books=books, refused=refused)

    def step(self, state: ScoreState, records: Sequence[Record], probe: Probe = SILENT) -> Step[ScoreState]:
        """Return the findings of these records."""
        work = Work(Counter({("records", TOPIC_FRAMES): len(records)}))
        work.counts.update(("config_rejected", reason) for reason in state.refused)
        state = replace(state, warming={}, refused=()) if state.warming or state.refused else state
        for area, (places, chosen) in self._by_area(records, work).items():
            start = 0
            while start < len(chosen):
                state, taken = self._area_step(state, area, places[start:], chosen[start:], work, probe)
                start += taken
        if not records:  # asked where the areas stand
            for key, track in state.tracks.items():
                work.gauges |= self._gauges(state, key) if track.align.clock >= 0 else {}
            for area, regulation in state.regulation.items():
                work.gauges |= coverage_gauges(area, regulation)
        # What a record causes stands where the record stood: the order does not depend on the batch.
        work.outputs.sort(key=itemgetter(0))
        delays = {"align_wait": np.concatenate(work.waits_s)} if work.waits_s else {}
        return Step(state, tuple(output for _, output in work.outputs), work.counts, delays, work.gauges)

    def _area_step(
        self,
        state: ScoreState,
        area: str,
        places: Sequence[int],
        records: Sequence[Record],
        work: Work,
        probe: Probe,
    ) -> tuple[ScoreState, int]:
        """Return the state after some of these records, and how many.

        A new PMU is a new column from its own record on, whatever else is in the batch.
        """
        book, values = state.books.get(area, state.shared), [r.value or b"" for r in records]
        decoded = decode(book, values)
        stop = until_new_stream(state, area, decoded)
        if stop is not None:
            decoded, places, records = decode(book, values[:stop]), places[:stop], records[:stop]
        state = replace(state, books={**state.books, area: decoded.book})
        note_decoded(decoded, area, places, records, work)
        probe.lap("decode")
        for key, batches in by_track(area, decoded.batches).items():
            state = self._with_track(state, key, batches)
            state, made = self._advance(state, key, batches, work, probe)
            state = self._marked(state, key, records)
            work.outputs += [(places[record], output) for record, output in made]
            work.gauges |= self._gauges(state, key)
        return self._told(state, area, places, work), len(records)

    def _told(self, state: ScoreState, area: str, places: Sequence[int], work: Work) -> ScoreState:
        """Return the state after the minutes that ended; with each, the regulation need is told."""
        if not work.minutes:
            return state
        table = self._areas.get(area)
        beta_mw_per_hz = table.beta_mw_per_hz if table is not None else None
        regulation, made = tell(area, state.regulation[area], work.minutes, beta_mw_per_hz)
        work.minutes.clear()
        work.counts["regulation", area] += len(made)
        work.outputs += [(places[record], output) for record, output in made]
        work.gauges |= coverage_gauges(area, regulation)
        return replace(state, regulation={**state.regulation, area: regulation})

    def warm(self, state: ScoreState, records: Sequence[Record]) -> ScoreState:
        """Return the state with its windows refilled; nothing is said, counted or judged."""
        for area, (_, chosen) in self._by_area(records, Work(Counter())).items():
            book = state.books.get(area, state.shared)
            decoded = decode(book, [r.value or b"" for r in chosen])
            for key, batches in by_track(area, decoded.batches).items():
                track = state.tracks.get(key)
                if track is None:
                    continue
                warming = state.warming.get(key) or start_warming(track)
                samples = self._samples(track.columns, batches, key[1], known_only=True)
                aligned_state, pieces = align(warming.align, samples, self._settings(key[1]))
                making = warming.making
                for piece in pieces:
                    keep = piece.instant < track.align.next_open
                    part = replace(piece, instant=piece.instant[keep], value=piece.value[keep])
                    if piece.restart and keep.any():
                        track = emptied(track, self._model(key, track.columns, track.nominal_hz), key[1])
                        making = begun(making)
                    track, making = refill(track, part, making, key[1])
                state = replace(
                    state,
                    tracks={**state.tracks, key: track},
                    warming={**state.warming, key: Warming(aligned_state, making)},
                )
        return state

    def pack(self, state: ScoreState) -> bytes:
        """Return everything but the windows."""
        return pack_state(state)

    def unpack(self, blob: bytes) -> ScoreState:
        """Return the state of `pack`, its windows empty."""
        return unpack_state(blob, self._model)

    def resume_offset(self, state: ScoreState, topic: str, next_offset: int) -> int:  # noqa: ARG002
        """Return the offset of the oldest record that a window still needs (there is one topic)."""
        newest = max((marks[-1][0] for marks in state.marks.values() if marks), default=0)
        needed = [
            marks[0][1] for marks in state.marks.values() if marks and marks[-1][0] >= newest - FORGET_S
        ]
        return min([next_offset, *needed])

    def _by_area(self, records: Sequence[Record], work: Work) -> dict[str, tuple[list[int], list[Record]]]:
        """Return per area the records and their places in the batch; what names no area of ours is refused."""
        areas: dict[str, tuple[list[int], list[Record]]] = {}
        for place, record in enumerate(records):
            area = (record.key or b"").decode("utf-8", "replace")
            if record.value is not None and len(record.value) > RECORD_SIZE_MAX:
                told = f"{len(record.value)} bytes, at most {RECORD_SIZE_MAX}: send fewer frames in a record"
                work.refuse(place, record, Reason.TOO_LARGE, told)
            elif area and (not self._areas or area in self._areas):
                places, chosen = areas.setdefault(area, ([], []))
                places.append(place)
                chosen.append(record)
            elif area:
                work.refuse(
                    place, record, Reason.UNKNOWN_AREA, f"key {area!r:.80}: not an [[area]] of the site file"
                )
            else:
                work.refuse(place, record, Reason.MISSING_KEY, "a record's key names its area")
        return areas

    def _settings(self, rate_hz: float) -> AlignSettings:
        table = self._config.align
        return AlignSettings.of(rate_hz, table.wait_ms, table.lead_ms, table.reanchor_count)

    def _model(self, key: TrackKey, columns: tuple[Column, ...], nominal_hz: float) -> AreaModel:
        return self._models.for_area(key[0], tuple(c.label for c in columns), key[1], nominal_hz)

    def _with_track(self, state: ScoreState, key: TrackKey, batches: Sequence[DataBatch]) -> ScoreState:
        """Return the state whose track has a column for every PMU of these frames."""
        track = state.tracks.get(key)
        known = {(c.idcode, c.block) for c in track.columns} if track else set()
        layouts = {layout.idcode: layout for batch in batches for layout in batch.layouts}
        sent = {(idcode, block) for idcode, layout in layouts.items() for block in range(layout.n_pmu)}
        if track is not None and sent <= known:
            return state
        book = state.books[key[0]].layouts
        every = {idcode: book[idcode] for idcode, _ in known if idcode in book} | layouts
        columns = columns_of(list(every.values()))
        nominal_hz = self._config.site.nominal_hz or float(next(iter(layouts.values())).nominal_hz[0])
        nominal_hz = track.nominal_hz if track is not None else nominal_hz
        model = self._model(key, columns, nominal_hz)
        base_v = self._base_v(key[0], columns, model)
        grown = (
            widened(track, columns, base_v, model, key[1])
            if track
            else fresh_area(columns, nominal_hz, base_v, model, key[1])
        )
        return replace(state, tracks={**state.tracks, key: grown})

    def _base_v(self, area: str, columns: tuple[Column, ...], model: AreaModel) -> F64:
        table = self._areas.get(area)
        told = table.nominal_kv if table is not None else {}
        own = [told[c.label] * 1e3 / np.sqrt(3.0) if c.label in told else np.nan for c in columns]
        return np.where(np.isnan(own), model.base_v, own)

    def _samples(
        self,
        columns: tuple[Column, ...],
        batches: Sequence[DataBatch],
        rate_hz: float,
        *,
        known_only: bool = False,
    ) -> Samples:
        places = {(c.idcode, c.block): i for i, c in enumerate(columns)}
        chosen = batches
        if known_only:
            parts = [part for batch in batches for part in batch.parts()]
            chosen = [p for p in parts if all((p.layout.idcode, b) in places for b in range(p.layout.n_pmu))]
        return samples_of(chosen, places, self._limits, rate_hz) if chosen else no_samples()

    def _advance(
        self, state: ScoreState, key: TrackKey, batches: Sequence[DataBatch], work: Work, probe: Probe
    ) -> tuple[ScoreState, list[tuple[int, Output]]]:
        """Return the state after these frames, and the findings with the record that caused each."""
        area, rate_hz = key
        track = state.tracks[key]
        model = self._model(key, track.columns, track.nominal_hz)
        rules = (*model.rules, *self._own_rules)
        samples = self._samples(track.columns, batches, rate_hz)
        aligned_state, pieces = align(track.align, samples, self._settings(rate_hz))
        track = replace(track, align=aligned_state)
        probe.lap("window")
        table = self._areas.get(area)
        labels = tuple(column.label for column in track.columns)
        describer = self._models.describer
        if describer is not None and table is not None:
            describer = describer.of_area(table.beta_mw_per_hz)
        regulation = state.regulation.get(area, Regulation(rate_hz))
        say = partial(area_findings, area, table.position if table else "main", labels, rules, model.digest)
        made: list[tuple[int, Output]] = []
        for piece in pieces:
            count(work.counts, area, piece)
            if piece.instant.size == 0:
                continue
            t_ns = from_grid(piece.instant, rate_hz)
            if piece.restart:
                track, cleared = restarted(track, model, int(t_ns[0]), rate_hz)
                told = say(Scored(t_ns[:1], cleared, piece.quality[:1]), int(t_ns[0] // 1_000_000_000))
                made += [(int(piece.record[tick]), output) for tick, output in told]
            track, scored = score(track, piece, t_ns, model, rules, rate_hz, self._damping, describer)
            probe.lap("score")
            count_quality(work.counts, area, labels, scored)
            told = say(scored, track.last_second)
            made += [(int(piece.record[tick]), output) for tick, output in told]
            track = replace(track, last_second=int(t_ns[-1] // 1_000_000_000))
            regulation, ended = summed(regulation, rate_hz, track, piece.record, scored, model.rules)
            work.minutes += ended
            work.waits_s.append(piece.wait / rate_hz)
        work.counts["findings", area] += len(made)
        probe.lap("decide")
        every = {**state.regulation, area: regulation}
        return replace(state, tracks={**state.tracks, key: track}, regulation=every), made

    def _marked(self, state: ScoreState, key: TrackKey, records: Sequence[Record]) -> ScoreState:
        """Return the state with the offset noted at which the stream clock came to its present second.

        The first record of a batch may carry the second in; noting the batch's first offset errs on the safe side.
        """
        track = state.tracks[key]
        second = int(from_grid(np.array([track.align.clock]), key[1])[0] // 1_000_000_000)
        marks = state.marks.get(key, ())
        if marks and marks[-1][0] == second:
            return state
        span_s = min(max(track.fast.rows / key[1], track.slow.rows, WINDOW_S), REFILL_S) + MARGIN_S
        recent = (*(m for m in marks if m[0] < second), (second, records[0].offset))
        # Keep the newest mark that is older than the span: reading starts there.
        old = [i for i, (at, _) in enumerate(recent) if at <= second - span_s]
        return replace(state, marks={**state.marks, key: recent[old[-1] if old else 0 :]})

    def _gauges(self, state: ScoreState, key: TrackKey) -> dict[tuple[str, str], float]:
        track = state.tracks[key]
        area = key[0]
        digest = self._model(key, track.columns, track.nominal_hz).digest
        mean = track.align.lag_sum_s / np.maximum(track.align.lag_count, 1)
        return {
            ("event_time_s", area): float(from_grid(np.array([track.align.clock]), key[1])[0] / 1e9),
            ("pmus", area): float(len(track.columns)),
            ("model", f"score/{area}|{digest[:16]}"): 1.0,
            ("arrival_lag_max_s", area): float(mean.max(initial=0.0)),
        }

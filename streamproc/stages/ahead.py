"""The 48-hour stage: means of quarter hours in, forecasts of every series out, at every new quarter hour.

    grid.intervals.v1 ── means of one area and quarter hour ── believe ── history ── judge, learn ─┐
    grid.exogenous.v1 ── what is known ahead, and since when ──────────────────────────────────────┴─ model ── forecasts

An area's series are those of its records: a new one begins with nothing known, one that is gone for two weeks is
forgotten. Records of an interval that is past are late: counted, not used.

The whole state is in the blob: histories, what was told and not yet judged, bands. It changes with each quarter hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import msgspec
import numpy as np
import orjson

from streamproc.config import SiteConfig
from streamproc.core.ahead.bands import JUDGED, Bands
from streamproc.core.ahead.believe import NAMES as VERDICTS
from streamproc.core.ahead.believe import Usual
from streamproc.core.ahead.days import PER_DAY, STEP_MIN, STEP_NS
from streamproc.core.ahead.issue import MODEL, REASONS, Ahead, Issue, Offsets, issue
from streamproc.core.ahead.known import Known, Told, known_at, told
from streamproc.core.ahead.memory import FIGURES, WEIGHT_MIN, Memory, note, take_in
from streamproc.core.ahead.reconcile import sums_of
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.messages import Exogenous, Forecast, Intervals, Quantiles, decode
from streamproc.core.quantiles import NAMES
from streamproc.core.wire import Reason, Refusal, dead_letter
from streamproc.errors import StateError
from streamproc.values import (
    F32,
    I64,
    SILENT,
    TOPIC_EXOGENOUS,
    TOPIC_FORECASTS,
    TOPIC_INTERVALS,
    Counts,
    Output,
    Probe,
    Record,
    Step,
)

BLOB_KIND = "ahead/1"
SERIES_MAX = 3_000  # of all areas of a partition: their state is one record of at most 32 MB
FUTURE_MAX_MS = 86_400_000  # after the record's own time; believed, it would make all others late for good
KNOWN_RATIO_GOOD = 0.75  # of the last day: below, the input's quality is SUSPECT
HISTORY_EVERY = 16  # intervals: how often history that is sent afterwards is forecast, to learn from
LATE_MAX = 4  # records on end that are too late, before time is believed to have gone back
DIGITS = 7  # significant, of a published quantile
LEAD_WORDS = ("PT15M", "PT1H", "PT4H", "PT12H", "PT24H", "PT48H")  # of bands.JUDGED
assert len(LEAD_WORDS) == len(JUDGED)


@dataclass(frozen=True, slots=True)
class AreaAhead:
    """Memory of one area."""

    memory: Memory
    units: tuple[str, ...]
    late: int = 0  # records in a row that came too late


@dataclass(frozen=True, slots=True)
class AheadState:
    """Memory of one partition. What is known ahead comes for all areas: it is a broadcast topic."""

    areas: Mapping[str, AreaAhead] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    refused: tuple[str, ...] = ()  # reasons not yet counted


class AheadStage:
    """values.Stage over `grid.intervals.v1`."""

    name = "ahead"
    inputs = (TOPIC_INTERVALS,)
    broadcast = (TOPIC_EXOGENOUS,)

    def __init__(self, config: SiteConfig, ahead: Ahead | None, offsets: Offsets) -> None:
        self._ahead, self._offsets = ahead, offsets
        self._digest = ahead.digest if ahead is not None else ""
        self._parents = {p.id: p.parent for p in config.point if p.parent is not None}

    def fresh(self) -> AheadState:
        """Return the state before any record."""
        return AheadState()

    def learn(self, state: AheadState, records: Sequence[Record]) -> AheadState:
        """Return the state that also knows what these records say is known ahead; bad ones change nothing."""
        known, refused = dict(state.known), list(state.refused)
        for record in records:
            read = decode(Exogenous, record.value)
            if isinstance(read, Refusal):
                refused.append(str(read.reason))
                continue
            if len(read.values) != len(read.valid_ts_us):
                refused.append(str(Reason.WRONG_TYPE))
                continue
            values = np.array([np.nan if v is None else v for v in read.values], dtype=np.float64)
            t_ns = np.array(read.valid_ts_us, dtype=np.int64) * 1000
            order = np.argsort(t_ns, kind="stable")
            news = Told(read.name, read.known_at_us * 1000, t_ns[order], values[order])
            known[read.area] = told(known.get(read.area, Known()), news)
        return replace(state, known=known, refused=tuple(refused))

    def step(self, state: AheadState, records: Sequence[Record], probe: Probe = SILENT) -> Step[AheadState]:
        """Return the forecasts that these records cause."""
        counts: Counts = Counter({("records", TOPIC_INTERVALS): len(records)})
        counts.update(("exogenous_rejected", reason) for reason in state.refused)
        state = replace(state, refused=())
        outputs: list[Output] = []
        touched: dict[str, None] = {}

        def refuse(record: Record, why: Refusal) -> None:
            counts["rejected", why.reason] += 1
            counts["dead_letters", why.reason] += 1
            outputs.append(dead_letter(record, why.reason, why.detail))

        for record in records:
            read = _read(record)
            if isinstance(read, Refusal):
                refuse(record, read)
                continue
            number = read.start_us * 1000 // STEP_NS
            area = state.areas.get(read.area)
            others = sum(len(a.memory.ids) for name, a in state.areas.items() if name != read.area)
            if others + len(read.ids) > SERIES_MAX:
                rule = f"{others} others and these {len(read.ids)} series are more than {SERIES_MAX} of a partition"
                refuse(record, Refusal(Reason.TOO_LARGE, f"{rule}; give the topic more partitions"))
                continue
            if area is not None and number < area.memory.start:
                counts["late", read.area] += 1
                area = _turned(area, number)
                state = replace(state, areas={**state.areas, read.area: area})
                if area.memory.start >= 0:
                    continue
            state = self._take(state, read, number, counts, outputs)
            touched[read.area] = None
        probe.lap("ahead")
        gauges = _gauges(state, touched if records else state.areas)
        if self._digest:
            gauges["model", f"ahead|{self._digest[:16]}"] = 1.0
        return Step(state, tuple(outputs), counts, gauges=gauges)

    def _take(
        self,
        state: AheadState,
        read: Intervals,
        number: int,
        counts: Counts,
        outputs: list[Output],
    ) -> AheadState:
        area = state.areas.get(read.area)
        old = area.memory if area is not None else Memory.fresh(())
        ids, units = _series(area, read)
        memory = old.with_series(ids)
        place = {name: at for at, name in enumerate(ids)}
        mean = np.full(len(ids), np.nan)
        mean[[place[name] for name in read.ids]] = [np.nan if v is None else v for v in read.means]
        memory = take_in(memory, number, mean)
        known = known_at(state.known.get(read.area, Known()), memory.start)
        if read.history and memory.start % HISTORY_EVERY:
            return AheadState({**state.areas, read.area: AreaAhead(memory, units)}, state.known)
        made = issue(memory, known, self._ahead, self._offsets, sums_of(ids, self._parents))
        memory = note(memory, made.every, made.model, made.fallback)
        track = AreaAhead(memory, units)
        if not read.history:
            outputs += self.tell(read.area, track, made, read.available_at_us, counts)
        areas, every = {**state.areas, read.area: track}, {**state.known, read.area: known}
        return AheadState(areas, every)

    def tell(self, area: str, track: AreaAhead, made: Issue, at_us: int, counts: Counts) -> list[Output]:
        """Return the records of an issue; `at_us` is when its means were there, in event time."""
        memory = track.memory
        issued_us = memory.start * STEP_NS // 1000
        step_us = STEP_NS // 1000
        valid_us = issued_us + step_us * np.arange(1, made.quantiles.shape[2] + 1)
        available_us = max(at_us, issued_us)
        bands = _tidy(made.quantiles)
        assert np.isfinite(bands).all(), "a quantile is not finite"
        empty = Quantiles(**dict.fromkeys(NAMES, ()))
        outputs: list[Output] = []
        for row, series in enumerate(made.series.tolist()):
            reason = int(made.reason[row])
            newest = float(memory.history[series, -1])
            share = float(made.coverage[row])
            forecast = Forecast(
                series=memory.ids[series],
                area=area,
                unit=track.units[series],
                issued_at_us=issued_us,
                available_at_us=available_us,
                interval_min=STEP_MIN,  # type: ignore[arg-type]
                horizon="PT48H",
                valid_ts_us=(),
                quantiles=empty,
                method="model" if reason == MODEL else "fallback",
                reason=REASONS[reason],
                flags=self._flags(memory, made, row, series),
                known_ratio=round(float(made.known_ratio[row]), 4),
                model_digest=self._digest if reason == MODEL else "",
                quality="GOOD" if _good(memory, made, row, series) else "SUSPECT",
                last_value=newest if np.isfinite(newest) else None,
                last_ts_us=issued_us if np.isfinite(newest) else None,
                coverage_90=round(share, 4) if np.isfinite(share) else None,
            )
            counts["forecasts", area] += 1
            if reason != MODEL:
                counts["forecast_fallbacks", REASONS[reason]] += 1
            value = _encoded(forecast, bands[row], valid_us)
            outputs.append(Output(TOPIC_FORECASTS, forecast.series.encode(), value, available_us // 1000))
        return outputs

    def _flags(self, memory: Memory, made: Issue, row: int, series: int) -> tuple[str, ...]:
        wants = self._ahead is not None and len(self._ahead.known_names) > 0
        flags = (
            ("outside_training", bool(made.outside[row])),
            ("no_known_ahead", wants and not made.with_known and int(made.reason[row]) == MODEL),
            (f"last_{VERDICTS[int(memory.verdict[series])]}", int(memory.verdict[series]) != 0),
            ("reconciled", bool(made.added_up[row])),
        )
        return tuple(name for name, holds in flags if holds)

    def warm(self, state: AheadState, records: Sequence[Record]) -> AheadState:
        """Return the same state: it is whole in its blob."""
        del records
        return state

    def pack(self, state: AheadState) -> bytes:
        """Return the whole state."""
        return pack_tree(BLOB_KIND, {"areas": dict(state.areas), "known": dict(state.known)})

    def unpack(self, blob: bytes) -> AheadState:
        """Return the state of `pack`."""
        tree = unpack_tree(BLOB_KIND, blob)
        try:
            areas = {name: _area(item) for name, item in tree["areas"].items()}
            known = {name: _known(item) for name, item in tree["known"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StateError(f"the state blob of {self.name} does not fit: {error}") from error
        return AheadState(areas, known)

    def resume_offset(self, state: AheadState, topic: str, next_offset: int) -> int:
        """Return `next_offset`: nothing is re-read."""
        del state, topic
        return next_offset


def _tidy(quantiles: F32) -> F32:
    """Return quantiles (n, 7, N_LEAD) to DIGITS digits of the largest of their series: more would be noise."""
    largest = np.maximum(np.abs(quantiles).max(axis=(1, 2), initial=0.0), 1e-9)
    scale = (10.0 ** (DIGITS - 1 - np.floor(np.log10(largest)))).astype(np.float32)[:, None, None]
    rounded = np.rint(quantiles * scale)
    rounded /= scale
    return np.ascontiguousarray(rounded)


def _encoded(forecast: Forecast, bands: F32, valid_us: I64) -> bytes:
    """Return the bytes of `encode` for a forecast with these quantiles (7, N_LEAD), at a fifth of its price."""
    tree = msgspec.to_builtins(forecast)
    tree["quantiles"] = dict(zip(NAMES, bands, strict=True))
    tree["valid_ts_us"] = valid_us
    return orjson.dumps(tree, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def _read(record: Record) -> Intervals | Refusal:
    """Return the means of a record, or why it is refused."""
    read = decode(Intervals, record.value)
    if isinstance(read, Refusal):
        return read
    if not len(read.ids) == len(read.units) == len(read.means) or len(set(read.ids)) != len(read.ids):
        sizes = f"{len(read.ids)} ids, {len(read.units)} units, {len(read.means)} means"
        return Refusal(Reason.WRONG_TYPE, f"{sizes}: they must be of one length, each id once")
    if read.start_us // 1000 > max(record.ts_ms, read.available_at_us // 1000) + FUTURE_MAX_MS:
        return Refusal(Reason.FUTURE_TIME, f"start_us {read.start_us} is over a day after the record's time")
    if read.start_us * 1000 % STEP_NS:
        return Refusal(Reason.WRONG_TYPE, f"start_us {read.start_us} is not the start of a quarter hour")
    return read


def _series(area: AreaAhead | None, read: Intervals) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the series of an area after a record, and their units; what has no value left in its history goes."""
    units = dict(zip(read.ids, read.units, strict=True))
    if area is None:
        return read.ids, read.units
    if area.memory.ids == read.ids:
        return read.ids, read.units
    there = np.asarray(np.isfinite(area.memory.history).any(axis=1)).tolist()
    old = dict(zip(area.memory.ids, area.units, strict=True))
    others = [name for name, keep in zip(old, there, strict=True) if keep and name not in units]
    room = set(others[: SERIES_MAX - len(units)]) | set(units)
    every = {**{name: unit for name, unit in old.items() if name in room}, **units}
    return tuple(every), tuple(every.values())


def _turned(area: AreaAhead, number: int) -> AreaAhead:
    """Return an area after a late record; after LATE_MAX that are over a day late its time has gone back.

    Then only the bands stay. What is less late is told twice, or came behind its history (`backfill`).
    """
    if area.memory.start - number <= PER_DAY:
        return area
    if area.late + 1 < LATE_MAX:
        return replace(area, late=area.late + 1)
    old = area.memory
    return replace(area, memory=replace(Memory.fresh(old.ids), bands=old.bands, benched=old.benched), late=0)


def _good(memory: Memory, made: Issue, row: int, series: int) -> bool:
    return made.known_ratio[row] >= KNOWN_RATIO_GOOD and int(memory.verdict[series]) == 0


def _area(item: dict[str, Any]) -> AreaAhead:
    memory = item["memory"]
    parts = {**memory, "ids": tuple(memory["ids"])}
    parts |= {"usual": Usual(**memory["usual"]), "bands": Bands(**memory["bands"])}
    made = Memory(**parts)
    fresh = Memory.fresh(made.ids)
    for one in fields(Memory):
        ours, theirs = getattr(fresh, one.name), getattr(made, one.name)
        if isinstance(ours, np.ndarray) and ours.shape != theirs.shape:
            raise ValueError(f"{one.name} has shape {theirs.shape}, expected {ours.shape}")
    return AreaAhead(made, tuple(item["units"]), item["late"])


def _known(item: dict[str, Any]) -> Known:
    pending = tuple(Told(**one) for one in item["pending"])
    return Known(item["start"], item["course"], item["at_ns"], pending)


def _gauges(state: AheadState, touched: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the live figures of each area and horizon: means over the series that have any."""
    gauges: dict[tuple[str, str], float] = {}
    for area in touched:
        memory = state.areas[area].memory
        gauges["forecast_benched_series", area] = float(memory.benched.sum())
        figures = memory.figures.astype(np.float64)
        for judged, words in enumerate(LEAD_WORDS):
            mine = figures[figures[:, judged, 0] >= WEIGHT_MIN, judged]
            if not len(mine):
                continue
            of = dict(zip(FIGURES, mine.T, strict=True))
            label = f"{area}/{words}"
            gauges["ahead_coverage_ratio", label] = float(of["inside"].sum() / of["weight"].sum())
            gauges["ahead_pinball", label] = float((of["pinball"] / of["weight"]).mean())
            for base in ("persistence", "seasonal"):
                skill = 1.0 - of["error"].sum() / max(float(of[base].sum()), 1e-12)
                gauges[f"ahead_skill_{base}", label] = float(skill)
    return gauges

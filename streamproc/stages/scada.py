"""The SCADA stage: measurements of one partition in; findings about limits and forecasts out.

    records ── read ── in time? ── newer? ──┬── limits ── conditions ── findings
                 |         |          |     ├── grids of 1, 5, 15 min ── model ── forecasts of an hour
             dead letters: why     counted  └── quarter hours ── intervals (the 48-hour forecasts: `stages.ahead`)

Records are taken one at a time, in their order: how they were batched cannot matter. A record that is partly
bad is used for what is good in it, and goes to the dead-letter topic with its first reason.

With a catalogue (`[[point]]`) a point that is not in it, or belongs to another area, is refused. Without one
every point is taken: unit by the ending of its id, forecast every minute, no limits.

The whole state is in the blob (histories are short): nothing is re-read after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.condition import ConditionState, advance
from streamproc.core.forecast import (
    GAP,
    MODEL,
    REASONS,
    Forecaster,
    Grid,
    Issue,
    close,
    coverage,
    skip_to,
)
from streamproc.core.messages import Forecast, Quantiles, decode, encode
from streamproc.core.point_limits import point_findings, watermark
from streamproc.core.point_stale import stale_findings, stale_points
from streamproc.core.quantiles import NAMES
from streamproc.core.rationale import announced
from streamproc.core.rules_message import Rules
from streamproc.core.scada import AreaClock, LastValues, Points, in_time, newer, read_batch
from streamproc.core.sums import Sums, add, due
from streamproc.core.wire import Reason, Refusal, dead_letter
from streamproc.errors import StateError
from streamproc.stages.scada_area import (
    AreaPlan,
    AreaState,
    GridPlan,
    fresh_area,
    instants,
    refitted,
    restarted,
)
from streamproc.stages.scada_limits import LimitsOverTime
from streamproc.stages.scada_quarters import quarters
from streamproc.values import (
    F64,
    I64,
    SILENT,
    TOPIC_FORECASTS,
    TOPIC_RULES,
    TOPIC_SCADA,
    Counts,
    Output,
    Probe,
    Record,
    Step,
)

BLOB_KIND = "scada/4"
POINTS_MAX = 10_000  # of an area without a catalogue; more is a source that makes up ids
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ScadaState:
    """Memory of one partition."""

    areas: Mapping[str, AreaState] = field(default_factory=dict)
    eras: tuple[Rules, ...] = ()  # rationalised rules, learnt again after every start


class ScadaStage:
    """values.Stage over `grid.scada.measurements.v1`."""

    name = "scada"
    inputs = (TOPIC_SCADA,)
    broadcast: tuple[str, ...] = (TOPIC_RULES,)

    def __init__(self, config: SiteConfig, forecaster: Forecaster | None, rules: Rules | None = None) -> None:
        self._eras = () if rules is None else (rules,)
        self._limits = LimitsOverTime(config.point)
        self._forecaster = forecaster
        self._digest = forecaster.digest if forecaster is not None else ""
        self._reanchor_count = config.align.reanchor_count
        # Watermarks go on until the deciding stage has closed what we cleared.
        self._quiet_ns = (config.decide.quiet_ms + config.decide.group_window_ms) * 1_000_000 + 60 * SECOND_NS
        self._positions = {area.name: area.position for area in config.area}
        self._catalogued = bool(config.point)
        needed = frozenset(r.point for r in config.resource) | {p for r in config.resource for p in r.effect}
        areas = dict.fromkeys(p.area for p in config.point)
        self._plans = {
            area: AreaPlan.of(area, self._position(area), [p for p in config.point if p.area == area], needed)
            for area in areas
        }
        self._grown: dict[str, AreaPlan] = {}  # the newest plans of areas without a catalogue

    def fresh(self) -> ScadaState:
        """Return the state before any record."""
        return ScadaState(eras=self._eras)

    def learn(self, state: ScadaState, records: Sequence[Record]) -> ScadaState:
        """Return the state that knows the rules in these records; each set holds from its own event time on."""
        found = (decode(Rules, record.value) for record in records)
        for rules in found:
            if isinstance(rules, Rules):  # what cannot be read is counted by the deciding stage
                state = replace(state, eras=announced(state.eras, rules))
        return state

    def step(self, state: ScadaState, records: Sequence[Record], probe: Probe = SILENT) -> Step[ScadaState]:
        """Return the findings and forecasts of these records."""
        counts: Counts = Counter({("records", TOPIC_SCADA): len(records)})
        outputs: list[Output] = []
        touched: dict[str, None] = {}
        for record in records:
            read = read_batch(record)
            if isinstance(read, tuple) and self._positions and read[0] not in self._positions:
                read = Refusal(
                    Reason.UNKNOWN_AREA, f"area {read[0]!r:.80} is not an [[area]] of the site file"
                )
            if isinstance(read, Refusal):
                _refuse(record, (read,), counts, outputs)
                continue
            area, points, refusals = read
            track, made, more = self._take(state.areas.get(area), area, points, state.eras, counts, probe)
            outputs += made
            _refuse(record, refusals + more, counts, outputs)
            if track is not None:
                state = replace(state, areas={**state.areas, area: track})
                touched[area] = None
        gauges = _gauges(state, touched if records else dict.fromkeys(state.areas))
        if self._digest:
            gauges["model", f"forecast|{self._digest[:16]}"] = 1.0
        return Step(state, tuple(outputs), counts, gauges=gauges)

    def _take(
        self,
        track: AreaState | None,
        area: str,
        points: Points,
        eras: tuple[Rules, ...],
        counts: Counts,
        probe: Probe,
    ) -> tuple[AreaState | None, list[Output], tuple[Refusal, ...]]:
        """Return the area after one record, what follows, and what was refused."""
        known, unknown = self._known(track, area, points)
        clock = track.clock if track is not None else AreaClock()
        clock, taken, out_of_time, moved = in_time(clock, known, self._reanchor_count)
        refusals = unknown + out_of_time
        if not taken.ids:
            return (replace(track, clock=clock) if track is not None else None), [], refusals
        track, plan = self._room(track, area, taken.ids)
        track = restarted(track) if moved and clock.ns < track.clock.ns else track
        track = replace(track, clock=clock)
        column = np.array([plan.place[name] for name in taken.ids], dtype=np.int64)
        before = track.last
        last, fresh = newer(before, taken, column)
        counts["duplicates", area] += int((~fresh).sum())
        taken, column, track = taken.take(fresh), column[fresh], replace(track, last=last)
        outputs: list[Output] = []
        if taken.ids:
            track, outputs = self._judge(track, plan, taken, column, eras)
            track, stale = _stale(track, plan)
            outputs = [*stale, *outputs]
            counts["findings", area] += len(outputs)
            probe.lap("scada")
            track, issued = self._forecast(track, plan, taken, column, before, counts)
            outputs += issued
            probe.lap("forecast")
        return track, outputs, refusals

    def _known(
        self, track: AreaState | None, area: str, points: Points
    ) -> tuple[Points, tuple[Refusal, ...]]:
        if self._catalogued:
            plan = self._plans.get(area)
            place: Mapping[str, int] = plan.place if plan is not None else {}
            keep = np.array([name in place for name in points.ids], dtype=np.bool_)
            rule = f"is not a [[point]] of area {area!r:.80}"
        else:
            old = set(track.ids) if track is not None else set()
            room = POINTS_MAX - len(old)
            new = {name: i for i, name in enumerate(dict.fromkeys(n for n in points.ids if n not in old))}
            keep = np.array([new.get(name, -1) < room for name in points.ids], dtype=np.bool_)
            rule = f"an area without a catalogue holds at most {POINTS_MAX} points"
        refused = [points.ids[i] for i in np.flatnonzero(~keep).tolist()]
        return points.take(keep), tuple(
            Refusal(Reason.UNKNOWN_POINT, f"{name!r:.80}: {rule}") for name in refused
        )

    def _position(self, area: str) -> str:
        return self._positions.get(area, "main")

    def _plan(self, area: str, ids: tuple[str, ...]) -> AreaPlan:
        if self._catalogued:
            return self._plans[area]
        plan = self._grown.get(area)
        if plan is None or plan.names.ids != ids:
            plan = self._grown[area] = AreaPlan.plain(area, self._position(area), ids)
        return plan

    def _room(self, track: AreaState | None, area: str, ids: tuple[str, ...]) -> tuple[AreaState, AreaPlan]:
        """Return the area with a column for each of these points, and its plan."""
        if self._catalogued:
            plan = self._plans[area]
            return track or fresh_area(plan), plan
        old = track.ids if track is not None else ()
        every = tuple(dict.fromkeys((*old, *ids)))
        plan = self._plan(area, every)
        if track is None:
            return fresh_area(plan), plan
        if len(every) > len(old):
            grids = tuple(grid.widened(len(every)) for grid in track.grids)
            last, quarter = track.last.widened(len(every)), track.quarter.widened(len(every))
            track = replace(track, ids=every, last=last, grids=grids, quarter=quarter)
        return track, plan

    def _judge(
        self, track: AreaState, plan: AreaPlan, taken: Points, column: I64, eras: tuple[Rules, ...]
    ) -> tuple[AreaState, list[Output]]:
        """Hold the values against the limits of their time, instant by instant."""
        outputs: list[Output] = []
        is_limited = plan.limits is not None or (eras and self._catalogued)
        blocks = instants(taken, column, len(plan.names.ids)) if is_limited else ()
        for t_ns, value, flags, limits in self._limits.parted(plan, eras, blocks):
            conditions, edges = advance(track.conditions, limits.rules, t_ns, limits.scores(value))
            outputs += point_findings(plan.names, limits, edges, t_ns, flags)
            edge_ns = max(track.edge_ns, int(t_ns[edges.tick].max(initial=0)))
            track = replace(track, conditions=conditions, edge_ns=edge_ns)
        now_ns = track.clock.ns
        busy = track.conditions.busy or bool(track.stale.any())
        wanted = busy or (track.edge_ns > 0 and now_ns - track.edge_ns <= self._quiet_ns)
        if wanted and now_ns // SECOND_NS > track.second:
            track = replace(track, second=now_ns // SECOND_NS)
            outputs.append(watermark(plan.names, now_ns))
        return track, outputs

    def _forecast(
        self, track: AreaState, plan: AreaPlan, taken: Points, column: I64, before: LastValues, counts: Counts
    ) -> tuple[AreaState, list[Output]]:
        """Sum the values into their intervals, close what is due, and tell what follows."""
        outputs: list[Output] = []
        grids: list[Grid] = []
        good = np.where(taken.flags == 0, taken.value, np.nan)
        for grid, of in zip(track.grids, plan.grids, strict=True):
            series_of = np.full(len(plan.names.ids), -1, dtype=np.int64)
            series_of[of.columns] = np.arange(of.columns.size)
            series = series_of[column]
            mine = series >= 0
            issues: list[Issue] = []
            if mine.any():
                number = taken.t_ns[mine] // grid.sums.length_ns
                grid, issues, late = self._fill(grid, series[mine], number, good[mine])  # noqa: PLW2901
                counts["late", plan.names.area] += late
            while due(grid.sums, track.clock.ns, of.wait_ns):
                grid, issue = close(grid, self._forecaster)  # noqa: PLW2901
                issues.append(issue)
            for issue in issues:
                outputs += self._tell(track, plan, of, issue, counts)
            grids.append(grid)
        track = replace(track, grids=tuple(grids))
        quarter, told = quarters(track, plan, taken.t_ns, column, good, before)
        return replace(track, quarter=quarter), [*outputs, *told]

    def _fill(self, grid: Grid, series: I64, number: I64, value: F64) -> tuple[Grid, list[Issue], int]:
        """Return the grid with the values summed; intervals that they leave behind are closed on the way."""
        issues: list[Issue] = []
        late = 0
        for at in np.unique(number).tolist():
            if grid.sums.start >= 0 and at > grid.sums.start + 1 + grid.history.shape[1]:
                grid = skip_to(grid, at)
            while grid.sums.start >= 0 and at > grid.sums.start + 1:
                grid, issue = close(grid, self._forecaster)
                issues.append(issue)
            here = number == at
            sums, missed = add(grid.sums, series[here], number[here], value[here])
            grid, late = replace(grid, sums=sums), late + missed
        return grid, issues, late

    def _tell(
        self, track: AreaState, plan: AreaPlan, of: GridPlan, issue: Issue, counts: Counts
    ) -> Iterator[Output]:
        names = plan.names
        valid_us = tuple(t_ns // 1000 for t_ns in issue.valid_ns())
        available_us = max(track.clock.ns, issue.issued_ns) // 1000
        for row, series in enumerate(issue.series.tolist()):
            column = int(of.columns[series])
            reason = int(issue.reason[row])
            bands = issue.quantiles[row].tolist()
            share = float(issue.coverage[row])
            value_ns = int(track.last.value_ns[column])
            forecast = Forecast(
                series=names.ids[column],
                area=names.area,
                unit=names.units[column],
                issued_at_us=issue.issued_ns // 1000,
                available_at_us=available_us,
                interval_min=cast(Any, issue.interval_min),
                valid_ts_us=valid_us,
                quantiles=Quantiles(**{n: tuple(b) for n, b in zip(NAMES, bands, strict=True)}),
                method="model" if reason == MODEL else "persistence",
                reason=REASONS[reason],
                model_digest=self._digest if reason == MODEL else "",
                quality="SUSPECT" if reason == GAP else "GOOD",
                last_value=float(track.last.value[column]) if value_ns else None,
                last_ts_us=value_ns // 1000 if value_ns else None,
                coverage_90=round(share, 4) if np.isfinite(share) else None,
            )
            counts["forecasts", names.area] += 1
            if reason != MODEL:
                counts["forecast_fallbacks", REASONS[reason]] += 1
            yield Output(TOPIC_FORECASTS, forecast.series.encode(), encode(forecast), available_us // 1000)

    def warm(self, state: ScadaState, records: Sequence[Record]) -> ScadaState:
        """Return the same state: it is whole in its blob."""
        del records
        return state

    def pack(self, state: ScadaState) -> bytes:
        """Return the whole state."""
        return pack_tree(BLOB_KIND, {"areas": dict(state.areas)})

    def unpack(self, blob: bytes) -> ScadaState:
        """Return the state of `pack`; a changed catalogue keeps what it can."""
        tree = unpack_tree(BLOB_KIND, blob)
        areas: dict[str, AreaState] = {}
        try:
            for area, item in tree["areas"].items():
                if self._catalogued and area not in self._plans:
                    continue
                track = AreaState(
                    ids=tuple(item["ids"]),
                    clock=AreaClock(**item["clock"]),
                    last=LastValues(**item["last"]),
                    conditions=ConditionState(**item["conditions"]),
                    grids=tuple(Grid(**{**grid, "sums": Sums(**grid["sums"])}) for grid in item["grids"]),
                    quarter=Sums(**item["quarter"]),
                    edge_ns=item["edge_ns"],
                    second=item["second"],
                    stale=item["stale"],
                )
                areas[area] = refitted(track, self._plan(area, track.ids))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StateError(f"the state blob of {self.name} does not fit: {error}") from error
        return ScadaState(areas, self._eras)

    def resume_offset(self, state: ScadaState, topic: str, next_offset: int) -> int:
        """Return `next_offset`: nothing is re-read."""
        del state, topic
        return next_offset


def _stale(track: AreaState, plan: AreaPlan) -> tuple[AreaState, list[Output]]:
    """Return the area with the points that are stale by now, and what to tell of it."""
    if plan.stale_ns is None:
        return track, []
    now_ns, value_ns = track.clock.ns, track.last.value_ns
    stale = stale_points(value_ns, plan.stale_ns, now_ns)
    told = stale_findings(plan.names, track.stale, stale, value_ns, plan.stale_ns, now_ns)
    return replace(track, stale=stale, edge_ns=now_ns if told else track.edge_ns), told


def _refuse(record: Record, refusals: Sequence[Refusal], counts: Counts, outputs: list[Output]) -> None:
    for refusal in refusals:
        counts["rejected", str(refusal.reason)] += 1
    if refusals:
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        counts["dead_letters", str(first.reason)] += 1
        outputs.append(dead_letter(record, first.reason, first.detail + more))


def _gauges(state: ScadaState, touched: Mapping[str, None]) -> dict[tuple[str, str], float]:
    gauges: dict[tuple[str, str], float] = {}
    for area in touched:
        track = state.areas[area]
        gauges["event_time_s", area] = track.clock.ns / 1e9
        every = (
            np.concatenate([grid.inside.reshape(-1) for grid in track.grids]) if track.grids else np.zeros(0)
        )
        share = float(coverage(every.astype(np.int64)))
        if np.isfinite(share):
            gauges["forecast_coverage_ratio", area] = share
    return gauges

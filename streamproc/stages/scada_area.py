"""What the SCADA stage knows about one area: what the catalogue says, and what was measured.

An area without a catalogue has a plan, too: every point as it appears, unit by the ending of its id, every
minute, no limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamproc.config import PointTable
from streamproc.core.condition import ConditionState
from streamproc.core.forecast import Grid
from streamproc.core.point_limits import Limits, Names
from streamproc.core.point_stale import SCANS_MISSED
from streamproc.core.quantiles import HISTORY_ROWS
from streamproc.core.scada import AreaClock, LastValues, Points, unit_of
from streamproc.core.sums import Sums
from streamproc.values import F64, I64, U32, Bool

PLAIN_INTERVAL_MIN = 1  # grid of points without a catalogue
MINUTE_MS = 60_000
QUARTER_MIN = 15  # intervals whose means go on to the 48-hour forecasts
PLAIN_SCAN_MS = 10_000  # how often they are expected
WAIT_SCANS = 1.5  # an interval waits this many scans for the slowest point
CELLS_MAX = 1_000_000  # of one block of limit scores, for records that hold a long history
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class GridPlan:
    """Which points (columns of the area) are forecast on one grid, and how long it waits for them."""

    interval_min: int
    columns: I64  # (n_series,)
    wait_ns: int


@dataclass(frozen=True, slots=True)
class AreaPlan:
    """What the catalogue says about an area."""

    names: Names
    place: Mapping[str, int]  # id -> column
    grids: tuple[GridPlan, ...]
    quarter: GridPlan
    limits: Limits | None
    stale_ns: I64 | None = (
        None  # (n_point,) a point without a good value for longer is stale; None: no catalogue
    )
    hold_ns: I64 | None = (
        None  # (n_point,) a value stands so long for points scanned slower than quarter hours, else 0
    )

    @classmethod
    def of(cls, area: str, position: str, points: Sequence[PointTable], needed: frozenset[str]) -> AreaPlan:
        """Return the plan of a catalogue; points that advice needs are forecast in any case."""
        names = Names(
            area,
            position,
            tuple(p.id for p in points),
            tuple(p.kind for p in points),
            tuple(p.unit for p in points),
        )
        wanted = [i for i, p in enumerate(points) if p.forecast or p.id in needed]

        def plan(interval_min: int, chosen: list[int]) -> GridPlan:
            scan_ns = max((points[i].scan_ms for i in chosen), default=0) * 1_000_000
            wait_ns = min(int(WAIT_SCANS * scan_ns), interval_min * 60 * SECOND_NS)
            return GridPlan(interval_min, np.array(chosen, dtype=np.int64), wait_ns)

        grids = []
        for interval_min in HISTORY_ROWS:
            chosen = [i for i in wanted if grid_min(points[i]) == interval_min]
            if chosen:
                grids.append(plan(interval_min, chosen))
        limits = Limits.of(points)
        stale_ns = np.array([SCANS_MISSED * p.scan_ms * 1_000_000 for p in points], dtype=np.int64)
        place = {p.id: i for i, p in enumerate(points)}
        slow = np.array([p.scan_ms > QUARTER_MIN * MINUTE_MS for p in points], dtype=np.bool_)
        hold_ns = np.where(slow, stale_ns // SCANS_MISSED, 0)
        # Nobody waits for a point that speaks once an hour.
        prompt_ns = plan(QUARTER_MIN, [i for i in wanted if not slow[i]]).wait_ns
        quarter = replace(plan(QUARTER_MIN, wanted), wait_ns=prompt_ns)
        return cls(names, place, tuple(grids), quarter, limits if limits.any else None, stale_ns, hold_ns)

    @classmethod
    def plain(cls, area: str, position: str, ids: tuple[str, ...]) -> AreaPlan:
        """Return the plan of an area without a catalogue."""
        names = Names(area, position, ids, ("",) * len(ids), tuple(map(unit_of, ids)))
        wait_ns = int(WAIT_SCANS * PLAIN_SCAN_MS * 1_000_000)
        grid, quarter = (GridPlan(m, np.arange(len(ids)), wait_ns) for m in (PLAIN_INTERVAL_MIN, QUARTER_MIN))
        return cls(names, {name: i for i, name in enumerate(ids)}, (grid,), quarter, None)


def grid_min(point: PointTable) -> int:
    """Return the grid of a point's next hour in minutes: as the catalogue says, but never finer than it is scanned."""
    fitting = [m for m in HISTORY_ROWS if m >= point.interval_min and m * MINUTE_MS >= point.scan_ms]
    return min(fitting, default=max(HISTORY_ROWS))


@dataclass(frozen=True, slots=True)
class AreaState:
    """Memory of one area. `edge_ns`: last edge of a condition; `second`: that of the last watermark."""

    ids: tuple[str, ...]
    clock: AreaClock
    last: LastValues
    conditions: ConditionState
    grids: tuple[Grid, ...]
    quarter: Sums
    stale: Bool  # (n_point,) told as stale
    edge_ns: int = 0
    second: int = 0


def fresh_area(plan: AreaPlan) -> AreaState:
    """Return the area before any value."""
    n_point = len(plan.names.ids)
    return AreaState(
        ids=plan.names.ids,
        clock=AreaClock(),
        last=LastValues.fresh(n_point),
        conditions=ConditionState.fresh(2, n_point if plan.limits is not None else 0),
        grids=tuple(Grid.fresh(grid.interval_min, grid.columns.size) for grid in plan.grids),
        quarter=Sums.fresh(QUARTER_MIN, plan.quarter.columns.size),
        stale=np.zeros(n_point, dtype=np.bool_),
    )


def refitted(track: AreaState, plan: AreaPlan) -> AreaState:
    """Return the area as the catalogue of today wants it.

    Values and conditions stay with their points: what was raised must be cleared. Grids stay if they are the same ones;
    if not, their histories begin anew.
    """
    fresh = fresh_area(plan)
    shapes = [
        [(grid.interval_min, grid.n_series) for grid in of.grids] + [(0, of.quarter.seen.size)]
        for of in (track, fresh)
    ]
    if track.ids == fresh.ids and shapes[0] == shapes[1] and _width(track) == _width(fresh):
        return track
    place = {name: column for column, name in enumerate(track.ids)}
    source = np.array([place.get(name, -1) for name in fresh.ids], dtype=np.int64)
    kept = source >= 0
    last = LastValues.fresh(source.size)
    for ours, theirs in (
        (last.t_ns, track.last.t_ns),
        (last.value, track.last.value),
        (last.value_ns, track.last.value_ns),
    ):
        ours[kept] = theirs[source[kept]]
    stale = fresh.stale.copy()
    stale[kept] = track.stale[source[kept]]
    conditions = fresh.conditions
    if _width(track) == len(track.ids) and _width(fresh) > 0:
        conditions = track.conditions.take(np.arange(2), source)
    kept_ns = track.edge_ns
    return replace(fresh, clock=track.clock, last=last, conditions=conditions, edge_ns=kept_ns, stale=stale)


def _width(track: AreaState) -> int:
    return int(track.conditions.onset_ns.shape[1])


def restarted(track: AreaState) -> AreaState:
    """Return the area whose time goes back: nothing is known but what is active."""
    n_point = track.last.t_ns.size
    old = track.conditions
    zero = np.zeros_like(old.below_ns)
    conditions = replace(old, onset_ns=np.where(old.active, old.onset_ns, 0), below_ns=zero, said_ns=zero)
    grids = tuple(
        replace(Grid.fresh(grid.interval_min, grid.n_series), inside=grid.inside) for grid in track.grids
    )
    quarter = Sums.fresh(QUARTER_MIN, track.quarter.seen.size)
    last = LastValues.fresh(n_point)
    return replace(track, last=last, conditions=conditions, grids=grids, quarter=quarter, edge_ns=0, second=0)


def instants(taken: Points, column: I64, n_point: int) -> Iterator[tuple[I64, F64, U32]]:
    """Yield (t_ns (n_tick,), values (n_tick, n_point), flags) in blocks; NaN where there is no value."""
    t_ns, tick = np.unique(taken.t_ns, return_inverse=True)
    block = max(1, CELLS_MAX // max(n_point, 1))
    for start in range(0, t_ns.size, block):
        here = (tick >= start) & (tick < start + block)
        n_tick = min(block, t_ns.size - start)
        value = np.full((n_tick, n_point), np.nan)
        flags = np.zeros((n_tick, n_point), dtype=np.uint32)
        value[tick[here] - start, column[here]] = taken.value[here]
        flags[tick[here] - start, column[here]] = taken.flags[here]
        yield t_ns[start : start + n_tick], value, flags

"""SCADA records into arrays: what is believed, what is refused, and what time it is in an area.

One record holds points of one area, by id, each with its own time stamp. A bad point does not take the good
ones beside it down: it is left out, and the record also goes to the dead-letter topic with the first reason.

Time is event time; there is no other clock. The area's clock follows the median time stamp of each record, so
that a single station with a wrong clock does not move it.

        stale_time          taken                            future_time
    <----------------|--------------------------|--------------------------->
              clock - STALE                clock + LEAD            a point's time stamp

Two hours let hourly data with one missing value pass. In a record whose points nearly all agree on the time,
a point `SCATTER` ahead of them is refused, too. When `reanchor_count` records in a row hold nothing that
could be taken, and agree among themselves, the clock is what was wrong (or the recording starts again): it
moves to them.

Per point, time only goes forward: what is not newer than the last value of the same point is a re-delivery
(dropped in silence, counted). "bad" values are no values (NaN); "suspect" ones are judged against limits but
not forecast from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from streamproc.core.messages import ScadaBatch, ScadaPoint
from streamproc.core.quality import BAD_DATA, SUSPECT_DATA
from streamproc.core.wire import Reason, Refusal, read_json
from streamproc.values import F64, I64, U32, Bool, Record

HOUR_NS = 3_600_000_000_000
LEAD_NS = 2 * HOUR_NS
STALE_NS = 2 * HOUR_NS
SCATTER_NS = 300_000_000_000  # ahead of a record whose points agree
AGREE_NS = 60_000_000_000  # points of one scan lie this close together
AGREE_RATIO = 0.75  # of a record's points, for it to be one scan
TS_US_MAX = 2**63 // 1000 - 1  # later, nanoseconds do not fit into int64
FLAGS: Mapping[str, int] = {"good": 0, "suspect": SUSPECT_DATA, "bad": BAD_DATA}
# Ending of an id -> unit, where no catalogue tells it; the longest ending wins.
UNITS: Mapping[str, str] = {
    "_w_m2": "W/m2",
    "_mvar": "Mvar",
    "_degc": "degC",
    "_m_s": "m/s",
    "_mw": "MW",
    "_kv": "kV",
    "_hz": "Hz",
    "_pu": "pu",
    "_a": "A",
}


@dataclass(frozen=True, slots=True)
class Points:
    """The points of one record that could be read, in order of time. All arrays are (n,)."""

    ids: tuple[str, ...]
    t_ns: I64
    value: F64  # NaN where the quality is bad
    flags: U32

    def take(self, keep: Bool | I64) -> Points:
        """Return a part."""
        index = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        chosen = tuple(self.ids[i] for i in index.tolist())
        return Points(chosen, self.t_ns[index], self.value[index], self.flags[index])


@dataclass(frozen=True, slots=True)
class AreaClock:
    """Where an area's time stands. `ns` 0: not yet known. `apart`: records in a row it could not take."""

    ns: int = 0
    apart: int = 0
    apart_ns: int = 0


def unit_of(point_id: str) -> str:
    """Return the unit that the ending of an id says; "" if it says none."""
    word = point_id.lower()
    return next((unit for ending, unit in UNITS.items() if word.endswith(ending)), "")


def read_batch(record: Record) -> tuple[str, Points, tuple[Refusal, ...]] | Refusal:
    """Return area, points and what was refused among them, or why all of it is refused; never raises."""
    tree: Any = read_json(record.value)
    refused = _refusal(tree, record.key)
    if refused is not None:
        return refused
    try:
        batch = msgspec.convert(tree, ScadaBatch)
        read, bad = list(batch.points), list[Refusal]()
    except msgspec.ValidationError:
        read, bad = _one_by_one(tree["points"])
    points = [p for p in read if 0 < p.ts_us <= TS_US_MAX]
    bad += [_out_of_time(p) for p in read if not 0 < p.ts_us <= TS_US_MAX]
    return str(tree["area"]), _columns(points), tuple(bad)


def _refusal(tree: Any, key: bytes | None) -> Refusal | None:  # noqa: ANN401 - what JSON can hold
    """Return why the whole record is refused, before any of its points is looked at."""
    if isinstance(tree, Refusal):
        return tree
    if not isinstance(tree, dict):
        return Refusal(Reason.WRONG_TYPE, f"an object is expected, not {type(tree).__name__}")
    schema = tree.get("schema", "scada/1")
    if schema != "scada/1":
        return Refusal(Reason.WRONG_SCHEMA, f"schema: {schema!r:.80}, expected 'scada/1'")
    area, listed = tree.get("area"), tree.get("points")
    missing = [name for name, value in (("area", area), ("points", listed)) if value is None]
    if missing:
        return Refusal(Reason.MISSING_KEY, f"{missing[0]}: is required")
    if not isinstance(area, str) or not isinstance(listed, list):
        return Refusal(Reason.WRONG_TYPE, "area must be a string and points an array")
    return _key_refusal(key, area)


def _key_refusal(key: bytes | None, area: str) -> Refusal | None:
    if not key:
        return Refusal(Reason.MISSING_KEY, "a record's key names its area")
    if key != area.encode("utf-8", "replace"):
        name = key.decode("utf-8", "replace")
        return Refusal(Reason.UNKNOWN_AREA, f"area {area!r:.80} in a record with key {name!r:.80}")
    return None


def _one_by_one(listed: list[Any]) -> tuple[list[ScadaPoint], list[Refusal]]:
    read: list[ScadaPoint] = []
    bad: list[Refusal] = []
    for place, element in enumerate(listed):
        try:
            read.append(msgspec.convert(element, ScadaPoint))
        except msgspec.ValidationError as error:
            name = element.get("id", "?") if isinstance(element, dict) else "?"
            reason = Reason.MISSING_KEY if "missing required field" in str(error) else Reason.WRONG_TYPE
            bad.append(Refusal(reason, f"points[{place}] {name!r:.80}: {error}"))
    return read, bad


def _out_of_time(point: ScadaPoint) -> Refusal:
    reason = Reason.STALE_TIME if point.ts_us <= 0 else Reason.FUTURE_TIME
    return Refusal(reason, f"{point.id!r:.80}: ts_us {point.ts_us} is no time of this world")


def _columns(points: list[ScadaPoint]) -> Points:
    t_ns = np.array([p.ts_us for p in points], dtype=np.int64) * 1000
    flags = np.array([FLAGS[p.quality] for p in points], dtype=np.uint32)
    value = np.array([p.value for p in points], dtype=np.float64)
    value = np.where(flags == BAD_DATA, np.nan, value)
    order = np.argsort(t_ns, kind="stable")
    ids = tuple(points[i].id for i in order.tolist())
    return Points(ids, t_ns[order], value[order], flags[order])


def in_time(
    clock: AreaClock, points: Points, reanchor_count: int
) -> tuple[AreaClock, Points, tuple[Refusal, ...], bool]:
    """Return the clock after a record, the points that it takes, what it refuses, and whether it was set."""
    if not points.ids:
        return clock, points, (), False
    middle_ns = int(points.t_ns[(points.t_ns.size - 1) // 2])
    moved = False
    reference_ns = clock.ns or middle_ns
    kept = _taken(points.t_ns, reference_ns, middle_ns)
    if not kept.any():
        agrees = clock.apart > 0 and abs(middle_ns - clock.apart_ns) <= LEAD_NS
        clock = AreaClock(clock.ns, clock.apart + 1 if agrees else 1, middle_ns)
        if clock.apart < reanchor_count:
            return clock, points.take(kept), _refusals(points, ~kept, reference_ns), False
        moved, reference_ns = True, middle_ns
        kept = _taken(points.t_ns, reference_ns, middle_ns)
    taken = points.take(kept)
    middle_ns = int(taken.t_ns[(taken.t_ns.size - 1) // 2])
    now_ns = middle_ns if moved else max(clock.ns, middle_ns)
    return AreaClock(now_ns), taken, _refusals(points, ~kept, reference_ns), moved


def _taken(t_ns: I64, reference_ns: int, middle_ns: int) -> Bool:
    kept = (t_ns >= reference_ns - STALE_NS) & (t_ns <= reference_ns + LEAD_NS)
    one_scan = np.mean(np.abs(t_ns - middle_ns) <= AGREE_NS) >= AGREE_RATIO
    if t_ns.size >= 4 and one_scan:
        kept &= t_ns <= middle_ns + SCATTER_NS
    return np.asarray(kept)


def _refusals(points: Points, refused: Bool, reference_ns: int) -> tuple[Refusal, ...]:
    def tell(index: int) -> Refusal:
        ahead_s = (int(points.t_ns[index]) - reference_ns) / 1e9
        reason = Reason.FUTURE_TIME if ahead_s > 0 else Reason.STALE_TIME
        where = "ahead of" if ahead_s > 0 else "behind"
        return Refusal(reason, f"{points.ids[index]!r:.80}: {abs(ahead_s):.0f} s {where} its area")

    return tuple(tell(index) for index in np.flatnonzero(refused).tolist())


@dataclass(frozen=True, slots=True)
class LastValues:
    """The newest value of every point of an area, by column. `t_ns` 0: never seen."""

    t_ns: I64
    value: F64  # last good one; NaN: none yet
    value_ns: I64  # its time

    @classmethod
    def fresh(cls, n_point: int) -> LastValues:
        """Return the state in which no point was seen."""
        return cls(np.zeros(n_point, np.int64), np.full(n_point, np.nan), np.zeros(n_point, np.int64))

    def widened(self, n_point: int) -> LastValues:
        """Return the state for more points, the old ones first."""
        fresh = LastValues.fresh(n_point - self.t_ns.size)
        return LastValues(
            np.concatenate([self.t_ns, fresh.t_ns]),
            np.concatenate([self.value, fresh.value]),
            np.concatenate([self.value_ns, fresh.value_ns]),
        )


def newer(last: LastValues, points: Points, column: I64) -> tuple[LastValues, Bool]:
    """Return the last values after these points and which of them are newer than what was there.

    `points` is in order of time. Two values of one point at the same time in one record: the first one
    counts.
    """
    fresh: Bool = points.t_ns > last.t_ns[column]
    # Within the record: the sort is stable, so of equal (column, time) the first in the record comes first.
    order = np.lexsort((points.t_ns, column))
    same = (np.diff(column[order], prepend=-1) == 0) & (np.diff(points.t_ns[order], prepend=-1) == 0)
    fresh[order[same]] = False
    t_ns, value, value_ns = last.t_ns.copy(), last.value.copy(), last.value_ns.copy()
    np.maximum.at(t_ns, column[fresh], points.t_ns[fresh])
    good = fresh & (points.flags == 0)
    # In order of time: the last assignment is the newest.
    value[column[good]] = points.value[good]
    value_ns[column[good]] = points.t_ns[good]
    return replace(last, t_ns=t_ns, value=value, value_ns=value_ns), fresh

"""The scenario of the end-to-end tests: a fleet with three events, points on their way over a limit, an acknowledgement.

It comes in three parts: a worker is killed after the second, before it has saved that part, the next one in the
middle of the third. `Offline` says what the very same records make without a broker. Times are those of yesterday
at six: the same run whatever the time of day.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition
from live_rig import QUIET, Live, Tap

from streamproc.config import AreaTable, QualityTable
from streamproc.core.messages import Operator, encode
from streamproc.shell.demo_script import site_toml
from streamproc.shell.offline import make_path
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import ScadaPoints, catalogue, resources
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_CARDS,
    TOPIC_CONFIG,
    TOPIC_FINDINGS,
    TOPIC_FORECASTS,
    TOPIC_FRAMES,
    TOPIC_HEALTH,
    TOPIC_INTERVALS,
    TOPIC_OPERATOR,
    TOPIC_SCADA,
    TOPIC_SETPOINTS,
    Output,
    Record,
)

GRID, CITY = "grid", "city"  # the area of the frames, that of the points
INPUTS = (TOPIC_CONFIG, TOPIC_FRAMES, TOPIC_SCADA, TOPIC_OPERATOR)
OUTPUTS = (TOPIC_FINDINGS, TOPIC_ALERTS, TOPIC_CARDS, TOPIC_FORECASTS, TOPIC_SETPOINTS, TOPIC_HEALTH)
READ = (
    TOPIC_FRAMES,
    TOPIC_SCADA,
    TOPIC_INTERVALS,
    TOPIC_OPERATOR,
    TOPIC_FINDINGS,
    TOPIC_ALERTS,
    TOPIC_FORECASTS,
)
DAY_S, HOUR_S = 86_400, 3600
SNAPSHOT_MS = 6000  # so long, after a commit, a kill makes the successor repeat what it finds in the inputs
EVENTS = (
    GridEvent("generator_trip", 6.0, at=0.25, size=0.2, damping_ratio=0.1),
    GridEvent("line_trip", 36.0, at=0.7, size=0.35),
    GridEvent("drop_out", 46.0, duration_s=5.0, pmu=6),
)
PART_ENDS_S = (14, 40, 66)  # of the fleet, after its start
HISTORY_MIN, POINT_ENDS_MIN = 190, (0, 15, 40)  # of the points: the rising feeder passes its limit after 20
TABLES: dict[str, Any] = {
    "area": (AreaTable(name=GRID), AreaTable(name=CITY)),
    "point": catalogue(CITY),
    "resource": resources(),
    "quality": QualityTable(silent_ms=600_000),  # silence is told by the machine's time; that is another test
}


def scenario() -> tuple[list[Record], ...]:
    """Return the records of each part."""
    start_s = (int(time.time()) // DAY_S - 1) * DAY_S + 6 * HOUR_S
    fleet = Fleet(FleetSettings(n_pmu=12, start_ns=start_s * 10**9, events=EVENTS))
    points = ScadaPoints(CITY, seed=1, pivot_ns=start_s * 10**9)
    frames = list(fleet_records(fleet, GRID, PART_ENDS_S[-1]))
    measured = [point_record(points, start_s + 60 * m) for m in range(-HISTORY_MIN, POINT_ENDS_MIN[-1])]
    parts = []
    for end_s, end_min in zip(PART_ENDS_S, POINT_ENDS_MIN, strict=True):
        mine = [r for r in frames if r.ts_ms < (start_s + end_s) * 1000]
        told = [r for r in measured if r.ts_ms < (start_s + 60 * end_min) * 1000]
        frames, measured = frames[len(mine) :], measured[len(told) :]
        parts.append(mine + told)
    return tuple(parts)


def point_record(points: ScadaPoints, t_s: int) -> Record:
    """Return all points of one instant."""
    return Record(TOPIC_SCADA, 0, 0, t_s * 1000, CITY.encode(), encode(points.batch(t_s * 10**9)))


@dataclass(slots=True)
class Offline:
    """What the path without a broker makes of the parts, with an acknowledgement after the first."""

    config: Any
    parts: Sequence[Sequence[Record]]
    made: list[Output] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # transitions after each part
    acknowledgement: Record | None = None

    def run(self) -> Offline:
        """Run all parts."""
        path = make_path(self.config)
        for part in self.parts:
            self.made += path.feed(part)
            if self.acknowledgement is None:
                self.acknowledgement = acknowledgement_of(self.values(TOPIC_ALERTS))
                self.made += path.feed([self.acknowledgement])
            self.counts.append(len(self.values(TOPIC_ALERTS)))
        return self

    def values(self, topic: str) -> list[bytes]:
        """Return the values of one topic, in their order."""
        return [output.value for output in self.made if output.topic == topic]


def acknowledgement_of(alerts: Sequence[bytes]) -> Record:
    """Return an operator's word on the first alert of the grid."""
    first = next(a for a in map(json.loads, alerts) if a["area"] == GRID and a["family"] == "grid")
    ts_us = first["ts_us"] + 5_000_000
    said = Operator(action="acknowledge", alert_id=first["alert_id"], user="jo", ts_us=ts_us, comment="seen")
    return Record(TOPIC_OPERATOR, 0, 0, ts_us // 1000, first["alert_id"].encode(), encode(said))


class Site(Live):
    """The worker on topics of its own, with a group that notices a kill soon and commits seldom."""

    def __init__(self, bootstrap: str, home: Path) -> None:
        super().__init__(bootstrap, home, **TABLES)
        broker = msgspec.structs.replace(
            self.config.broker,
            session_timeout_ms=1500,
            heartbeat_interval_ms=400,
            rebalance_timeout_ms=4000,
            snapshot_interval_ms=SNAPSHOT_MS,
        )
        self.config = msgspec.structs.replace(self.config, broker=broker)
        self.site_path.write_text(site_toml(self.config))
        settings = {"bootstrap.servers": bootstrap, "group.id": broker.group, **QUIET}
        self._look = Consumer(settings)  # never joins: it only asks

    @property
    def pid(self) -> int:
        """Return the process id of the present worker."""
        assert self._worker is not None
        return self._worker.pid

    def drain(self) -> int:
        """Ask the worker to end; return its exit code."""
        assert self._worker is not None
        self._worker.terminate()
        return self._worker.wait(20)

    def topic_names(self) -> set[str]:
        """Return the topics under our prefix, without it."""
        there = self._look.list_topics(timeout=30).topics
        return {name.removeprefix(self.prefix) for name in there if name.startswith(self.prefix)}

    def ends(self, topic: str) -> list[int]:
        """Return the end offset of each partition of a topic."""
        places = self._places(topic)
        return [self._look.get_watermark_offsets(p, timeout=30, cached=False)[1] for p in places]

    def has_committed(self, topic: str) -> bool:
        """Return whether the group has committed a topic to its end."""
        found = self._look.committed(self._places(topic), timeout=30)
        return [max(place.offset, 0) for place in found] == self.ends(topic)

    def is_settled(self, tap: Tap) -> bool:
        """Return whether the worker, by its last heartbeats, is behind nothing: neither inputs nor its own outputs."""
        at: dict[str, dict[tuple[str, int], int]] = {}  # by stage
        for beat in (came.json for came in tap.of(TOPIC_HEALTH)):
            if beat["worker"].endswith(f":{self.pid}"):
                told = {(topic, beat["partition"]): offset for topic, offset in beat["next_offsets"].items()}
                at.setdefault(beat["stage"], {}).update(told)
        # The ends are asked after the heartbeats: what was put out meanwhile counts as not read.
        return all(
            all(known[topic, partition] == end for known in at.values() if (topic, partition) in known)
            and (end == 0 or any((topic, partition) in known for known in at.values()))
            for topic in READ
            for partition, end in enumerate(self.ends(topic))
        )

    def end(self) -> None:
        """End the worker and take the topics away."""
        self._look.close()
        super().end()

    def _places(self, topic: str) -> list[TopicPartition]:
        full = self.prefix + topic
        known = self._look.list_topics(full, timeout=30).topics[full].partitions
        return [TopicPartition(full, number) for number in sorted(known)]

"""An area that says nothing at all: the one thing that the stages cannot see, because their time is the data's.

The worker looks each second at the newest event time of every area of the site file. If it has not moved for
`quality.silent_ms` of this machine's own time, a finding of the family "service" goes to `grid.findings.v1`, and
the deciding stage makes an alert of it like of any other; the first new data clear it.

    event time   ─ ─ ─ ─ ─ ─ ┐ (nothing comes)                    ┌ ─ ─ ─
    finding                  └── silent_ms ──> raise              clear

The raise is dated `silent_ms` after the last event time, not by this machine's clock: a successor that finds the
same silence says the same bytes. It does not know what its predecessor said, so the first data after a start are
told as a clear; where nothing was open that changes nothing.

While it lasts, a watermark each TICK_S lets the time of the area pass: shelves end, "cannot evaluate" is told.

Only areas of the site file are expected to speak. One that never said anything is not missed here: which worker
would have got its data, only the sender knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamproc.config import SiteConfig
from streamproc.core.findings import finding_id
from streamproc.core.messages import Finding, encode
from streamproc.core.quality import DISCARDED
from streamproc.values import TOPIC_FINDINGS, Output

TICK_S = 10.0  # how often the time of a silent area is told to pass
SCANS_MISSED = 6  # SCADA points are polled: so many scans of the slowest point of an area must fail
RULES: Mapping[str, tuple[str, str]] = {  # stage -> rule, text
    "score": ("area_silent", "No PMU frames from area {source} for more than {limit} s"),
    "scada": ("scada_silent", "No SCADA records from area {source} for more than {limit} s"),
}
Key: TypeAlias = tuple[str, str]  # stage, area


@dataclass(slots=True)
class _Area:
    event_time_s: float
    moved_s: float  # monotonic, when it last moved
    heard: bool = False  # something new came since this process started
    said: bool | None = None  # whether it was last told as silent; None: not told by this process
    ticks: int = 0  # of TICK_S, told since it fell silent


class SilenceWatch:
    """Remembers when each area last moved; `look` says what to tell, `told` that it has been told."""

    def __init__(self, config: SiteConfig) -> None:
        self._positions = {area.name: area.position for area in config.area}
        silent_s = config.quality.silent_ms / 1000
        self._limits_s = {("score", area): silent_s for area in self._positions}
        for area in self._positions:
            scans_s = [point.scan_ms / 1000 for point in config.point if point.area == area]
            self._limits_s["scada", area] = max(silent_s, SCANS_MISSED * max(scans_s, default=0.0))
        self._areas: dict[Key, _Area] = {}
        self._pending: dict[Key, bool] = {}

    def look(self, now_s: float, event_times_s: Mapping[Key, float]) -> list[Output]:
        """Return the findings to publish now; `event_times_s` holds the areas of this worker."""
        self._areas = {key: known for key, known in self._areas.items() if key in event_times_s}
        self._pending = {}
        found = []
        for key, event_time_s in event_times_s.items():
            limit_s = self._limits_s.get(key)
            if limit_s is None:
                continue
            area = self._areas.setdefault(key, _Area(event_time_s, now_s))
            if event_time_s != area.event_time_s:
                area.event_time_s, area.moved_s, area.heard, area.ticks = event_time_s, now_s, True, 0
            silent = now_s - area.moved_s >= limit_s
            if silent and area.said is not True:
                found.append(self._finding(key, "raise", event_time_s + limit_s, event_time_s, limit_s))
                self._pending[key] = True
            elif silent and now_s - area.moved_s >= limit_s + (area.ticks + 1) * TICK_S:
                area.ticks = int((now_s - area.moved_s - limit_s) // TICK_S)
                found.append(self._tick(key, event_time_s + limit_s + area.ticks * TICK_S))
            elif not silent and area.heard and area.said is not False:
                found.append(self._finding(key, "clear", event_time_s, event_time_s, limit_s))
                self._pending[key] = False
        return found

    def told(self) -> None:
        """Note that what `look` returned is acknowledged by the broker."""
        for key, silent in self._pending.items():
            self._areas[key].said = silent

    def _tick(self, key: Key, at_s: float) -> Output:
        stage, area = key
        ts_us = round(at_s * 1e6)
        finding = Finding(
            type="watermark",
            finding_id=finding_id(area, RULES[stage][0], 1, "watermark", ts_us, ""),
            area=area,
            position=self._positions[area],
            ts_us=ts_us,
        )
        return Output(TOPIC_FINDINGS, self._positions[area].encode(), encode(finding), ts_us // 1000)

    def _finding(
        self, key: Key, kind: Literal["raise", "clear"], at_s: float, onset_s: float, limit_s: float
    ) -> Output:
        stage, area = key
        rule, text = RULES[stage]
        ts_us = round(at_s * 1e6)
        finding = Finding(
            type=kind,
            finding_id=finding_id(area, rule, 1, kind, ts_us, ""),
            area=area,
            position=self._positions[area],
            ts_us=ts_us,
            family="service",
            kind=rule,
            rule=rule,
            priority=2,
            sources=(area,),
            scores=(1.0 if kind == "raise" else 0.0,),
            onsets_us=(round(onset_s * 1e6),),
            limit=limit_s,
            unit="s",
            text=text,
            quality=DISCARDED,
        )
        return Output(TOPIC_FINDINGS, self._positions[area].encode(), encode(finding), ts_us // 1000)

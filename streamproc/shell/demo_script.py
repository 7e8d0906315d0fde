"""What the demo plays: its site, its events, its captures; and what of it was found.

Times are seconds after the fleet's first frame, which is sent when the worker is ready.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w

from streamproc.config import AreaTable, BrokerTable, QualityTable, SiteConfig, SiteTable, WorkerTable
from streamproc.evaluation.series.backfill import records_of
from streamproc.shell.recording import read_recording
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Truth
from streamproc.simulate.scada import ScadaPoints, catalogue, resources
from streamproc.values import TOPIC_FRAMES, Record

AREA = "fleet"
N_PMU, RATE_HZ = 40, 30
CAPTURE_S = 15.0  # of each capture are played
CYCLE_S, CYCLES = 120, 60  # the script again, this often
FIND_S = 5.0  # an alert whose onset is within this time after an event is about that event
EARLY_S = 0.1  # onsets are whole instants; an event between two shows in the next one
HISTORY_S, HISTORY_STEP_S, LIVE_STEP_S = 190 * 60, 60, 2  # the forecast model wants three hours

HISTORY_DAYS = 8  # quarter hours, for the 48-hour forecasts and their bands
QUARTER_S = 900
AHEAD_SERIES = "F01_mw"

SILENT_MS = 200_000  # the captures pause for 150 s between two rounds

# file below tests/data -> area
CAPTURES = {
    "c37118_pcaps/C37.118_4in1PMU_TCP.pcap": "capture-4-pmus",
    "pmu_capture/framecapture.PmuCapture": "capture-1-pmu",
}


def events() -> tuple[GridEvent, ...]:
    """Return the script: a generator trip, a drop-out, a line trip; later other places and an oscillation."""
    script = [
        GridEvent("generator_trip", 12.0, at=0.25, size=0.2, damping_ratio=0.1),
        GridEvent("drop_out", 24.0, duration_s=8.0, pmu=16),
        GridEvent("line_trip", 42.0, at=0.7, size=0.35),
    ]
    for cycle in range(1, CYCLES):
        start_s, shift = cycle * CYCLE_S, 0.13 * cycle % 0.8
        script += [
            GridEvent("line_trip", start_s + 12.0, at=0.1 + shift, size=0.35),
            GridEvent("drop_out", start_s + 45.0, duration_s=8.0, pmu=(16 + 7 * cycle) % N_PMU),
            GridEvent("oscillation", start_s + 75.0, at=0.9 - shift, size=0.06, duration_s=15.0, mode_hz=0.6),
        ]
    return tuple(script)


def quarter_hours(now_ns: int) -> list[Record]:
    """Return the history of the forecast points in quarter hours, the values in their middle, but for the newest one.

    That one closes live, with the points' own history.
    """
    points = ScadaPoints(AREA, seed=1, pivot_ns=now_ns)
    last = now_ns // (QUARTER_S * 1_000_000_000) - 1
    numbers = range(last - HISTORY_DAYS * 96, last)
    table = catalogue(AREA)
    chosen = [i for i, point in enumerate(table) if point.forecast]
    rows = [
        points.values((number * QUARTER_S + QUARTER_S // 2) * 1_000_000_000)[chosen] for number in numbers
    ]
    ids, units = ([getattr(table[i], name) for i in chosen] for name in ("id", "unit"))
    return records_of(np.array(rows), numbers.start, AREA, ids, units)


def captures() -> dict[Path, str]:
    """Return the captures of a clone of the repository with their areas; empty for an installed package."""
    root = Path(__file__).resolve().parents[2] / "tests" / "data"
    return {root / name: area for name, area in CAPTURES.items() if (root / name).is_file()}


def first_seconds(path: Path, area: str) -> Iterator[Record]:
    """Yield a capture up to `CAPTURE_S`: behind it one of them has a hole of 3.5 s, and its alerts come as late."""
    first_ms = None
    for record in read_recording(path, area=area):
        if record.topic == TOPIC_FRAMES:
            first_ms = record.ts_ms if first_ms is None else first_ms
            if record.ts_ms - first_ms > CAPTURE_S * 1000:
                return
        yield record


RULES = """# What is an alarm in the demo, why, and what to do.
[[alarm]]
rule = "*"
area = "fleet"
source = "STATION *"
cause = "Loss of generation or load, or switching"
consequence = "Frequency and voltages leave their bands"
corrective_action = "Check reserve and the breakers around the first-in"
severity = "major"
response_time_min = 5
who = "shift engineer"

[[alarm]]
rule = "point_high:F07_mw"
cause = "Load above the rating of the feeder"
consequence = "Trip of the feeder within the hour"
corrective_action = "Discharge BAT1, as recommended"
severity = "major"
response_time_min = 20
who = "dispatcher"
"""


def site(bootstrap: str, areas: Iterable[str], rules_file: str | None = None) -> SiteConfig:
    """Return the site file of the demo's worker."""
    return SiteConfig(
        site=SiteTable(name="demo", rules_file=rules_file),
        broker=BrokerTable(bootstrap=bootstrap, group="streamproc-demo", partitions=4),
        worker=WorkerTable(http_port=0, drain_timeout_ms=2000),
        quality=QualityTable(silent_ms=SILENT_MS),
        area=(AreaTable(name=AREA), *(AreaTable(name=area) for area in areas)),
        point=catalogue(AREA),
        resource=resources(),
    )


def site_toml(config: SiteConfig) -> str:
    """Return a site as the text of its file; what is None is left out."""

    def plain(tree: Any) -> Any:  # noqa: ANN401
        if isinstance(tree, Mapping):
            return {key: plain(value) for key, value in tree.items() if value is not None}
        return [plain(value) for value in tree] if isinstance(tree, list | tuple) else tree

    return tomli_w.dumps(plain(msgspec.to_builtins(config)))


@dataclass(frozen=True, slots=True)
class Found:
    """A true event and the first alert about it, if there was one."""

    truth: Truth
    alert: Mapping[str, Any] | None

    @property
    def onset_error_s(self) -> float:
        """Return how long after the event the alert's onset lies, s; NaN without an alert."""
        return math.nan if self.alert is None else self.alert["onset_ts_us"] / 1e6 - self.truth.start_ns / 1e9

    def line(self) -> str:
        """Return this in words."""
        what = f"{self.truth.kind.replace('_', ' ')} at {self.truth.source}"
        if self.alert is None:
            return f"{what}: no alert"
        told_s = self.alert["ts_us"] / 1e6 - self.truth.start_ns / 1e9
        return (
            f"{what}: alerted as {self.alert['kind']} at {self.alert['source']}, "
            f"onset {self.onset_error_s:+.2f} s, raised {told_s:+.2f} s after it"
        )


def compare(truths: Iterable[Truth], alerts: Iterable[Mapping[str, Any]], until_ns: int) -> list[Found]:
    """Return for each event that lies before `until_ns` the first alert of its family that begins with it."""
    raised = [alert for alert in alerts if alert["seq"] == 1 and alert["area"] == AREA]

    def first(truth: Truth) -> Mapping[str, Any] | None:
        for alert in raised:
            late_s = alert["onset_ts_us"] / 1e6 - truth.start_ns / 1e9
            if alert["family"] == truth.family and -EARLY_S <= late_s <= FIND_S:
                return alert
        return None

    return [Found(truth, first(truth)) for truth in truths if truth.start_ns + 1_000_000_000 < until_ns]

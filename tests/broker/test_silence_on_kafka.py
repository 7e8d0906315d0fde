"""Protects against the worst failure: data stop, and nobody says so. Also when the worker was killed meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_rig import until
from live_rig import Feed, Live, Tap

from streamproc.config import AreaTable, QualityTable
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import TOPIC_ALERTS, TOPIC_FRAMES

pytestmark = pytest.mark.broker
AREA = "north"


@pytest.fixture
def live(kafka: str, tmp_path: Path) -> Iterator[Live]:
    tables: dict[str, Any] = {"area": (AreaTable(name=AREA),), "quality": QualityTable(silent_ms=2000)}
    made = Live(kafka, tmp_path, **tables)
    try:
        yield made
    finally:
        made.end()


def play(feed: Feed, seconds: int) -> None:
    start_ns = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000
    fleet = Fleet(FleetSettings(n_pmu=3, rate_hz=10, start_ns=start_ns))
    feed.play(fleet, TOPIC_FRAMES, AREA, seconds, lambda _: None)


def told(tap: Tap) -> list[tuple[str, str, str]]:
    return [(a["kind"], a["state"], a["source"]) for a in service_alerts(tap)]


def service_alerts(tap: Tap) -> list[Any]:
    """The transitions; a copy of one, after a kill, has the same bytes and counts once."""
    return [
        json.loads(raw) for raw in dict.fromkeys(c.value for c in tap.of(TOPIC_ALERTS)) if b'"service"' in raw
    ]


def test_silence_is_alerted_while_it_lasts_and_cleared_by_the_first_data_whoever_is_at_work(
    live: Live,
) -> None:
    silent, heard = ("area_silent", "UNACK", AREA), ("area_silent", "RTNUN", AREA)
    live.start()
    feed = Feed(live)
    with Tap(live, (TOPIC_ALERTS,)) as tap:
        play(feed, 3)
        until("the silence is told", lambda: told(tap) == [silent], 15)
        live.kill()
        live.start()
        time_left_s = 5.0  # a successor that hears the same silence says nothing new
        end_s = time.monotonic() + time_left_s
        until("it has had time to say it twice", lambda: time.monotonic() > end_s, 10)
        assert told(tap) == [silent]
        play(feed, 8)
        until("it is over", lambda: told(tap) == [silent, heard], 15)
        first, last = service_alerts(tap)
    assert first["alert_id"] == last["alert_id"]
    assert first["message"].startswith("No PMU frames from area north for more than 2 s")

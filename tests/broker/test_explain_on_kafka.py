"""Protects `streamproc explain` on a real Kafka: an alert of a worker is drawn, and gone frames are said to be gone."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from fault_rig import until
from live_rig import QUIET, Feed, Live, Tap

from streamproc.config import AreaTable, QualityTable
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.values import TOPIC_ALERTS, TOPIC_CONFIG, TOPIC_FRAMES

pytestmark = pytest.mark.broker
AREA, OTHER = "north", "south"
EVENT_S, END_S, HOUR_S = 40, 66, 3600


@pytest.fixture
def live(kafka: str, tmp_path: Path) -> Iterator[Live]:
    tables: dict[str, Any] = {
        "area": (AreaTable(name=AREA), AreaTable(name=OTHER)),
        "quality": QualityTable(silent_ms=600_000),
    }
    made = Live(kafka, tmp_path, **tables)
    try:
        yield made
    finally:
        made.end()


def send(live: Live, start_s: int) -> None:
    """Send two areas: a loss of generation in one, nothing in the other."""
    feed = Feed(live)
    event = GridEvent("generator_trip", float(EVENT_S), at=0.25, size=0.3)
    for area, events, idcode in ((AREA, (event,), 700), (OTHER, (), 800)):
        settings = FleetSettings(n_pmu=8, start_ns=start_s * 10**9, events=events, idcode=idcode)
        for record in fleet_records(Fleet(settings), area, END_S):
            if record.topic in {TOPIC_CONFIG, TOPIC_FRAMES}:
                feed.send(record.topic, (record.key or b"").decode(), record.value, ts_ms=record.ts_ms)
    feed.flush()


def explain(live: Live, *words: str) -> subprocess.CompletedProcess[str]:
    command = live.command("explain", *words, "-c", str(live.site_path))
    return subprocess.run(
        command, cwd=live.home, env=live.environment, capture_output=True, text=True, timeout=60, check=False
    )


def delete_frames(live: Live) -> None:
    """Do what retention does: take all frames away."""
    admin = AdminClient({"bootstrap.servers": live.bootstrap, **QUIET})
    topic = live.prefix + TOPIC_FRAMES
    numbers = admin.list_topics(topic, timeout=30).topics[topic].partitions
    ends = [TopicPartition(topic, number, -1) for number in numbers]  # -1: up to the end
    for future in admin.delete_records(ends).values():
        future.result(timeout=30)


def test_an_alert_of_a_worker_is_drawn_from_its_topics_and_gone_frames_are_said_to_be_gone(
    live: Live,
) -> None:
    start_s = int(time.time()) // HOUR_S * HOUR_S - 2 * HOUR_S
    live.start()
    with Tap(live, (TOPIC_ALERTS,)) as tap:
        send(live, start_s)
        until(
            "the worker has raised the alert",
            lambda: any(b'"grid"' in c.value for c in tap.of(TOPIC_ALERTS)),
            30,
        )
        time.sleep(1.0)  # for what else it tells of it
        raised = [a for a in (c.json for c in tap.of(TOPIC_ALERTS)) if a["family"] == "grid"]
    alert = raised[0]
    assert alert["onset_ts_us"] == pytest.approx((start_s + EVENT_S) * 1e6, abs=0.2e6)

    done = explain(live, alert["alert_id"][:10], "--out", "page.html", "--save", "cut.c37", "--json")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert tree["alert"]["alert_id"] == alert["alert_id"]
    assert len(tree["told"]) >= len({a["seq"] for a in raised})
    # The scores are the worker's own: the same model, and the same alert rises when the frames are played again.
    assert tree["scores_of"]["model_digest"] == alert["model_digest"]
    assert [note for note in tree["notes"] if "do not raise" in note] == []
    assert tree["scores_of"]["pmus"] == [f"STATION {n:02d}" for n in range(1, 9)]
    html = (live.home / "page.html").read_text()
    assert alert["message"].rpartition(". ")[2][:40] in html
    assert re.search(r'data-name="frequency"[^>]*data-x="-10 20 ', html)
    largest = {item["quantity"]: item for item in tree["facts"]["largest"]}
    assert largest["frequency"]["change"] == pytest.approx(-0.3, abs=0.08)
    assert OTHER not in {item["source"] for item in tree["facts"]["answers"]}

    again = explain(live, alert["alert_id"], "--recording", "cut.c37", "--area", AREA, "--json", "-q")
    assert json.loads(again.stdout)["alert"]["alert_id"] == alert["alert_id"], again.stderr

    unknown = explain(live, "f" * 32)
    assert unknown.returncode == 1
    assert (
        f"no id of an alert in {live.prefix}{TOPIC_ALERTS} at {live.bootstrap} begins with" in unknown.stderr
    )
    assert alert["alert_id"] in unknown.stderr

    delete_frames(live)
    gone = explain(live, "latest", "--out", "gone.html")
    assert gone.returncode == 1
    assert (
        f"holds no record of area '{AREA}'" in gone.stderr
        or f"holds no record of area '{OTHER}'" in gone.stderr
    )
    assert re.search(r"partition \d+ holds nothing, its next offset is \d+", gone.stderr)
    assert "retention counts by the records' own times" in gone.stderr
    assert "--recording FILE" in gone.stderr
    assert not (live.home / "gone.html").exists()

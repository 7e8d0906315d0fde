"""What an operator of the service sees of it (metrics and logs) is whole, true and bounded after a run of every stage."""

from __future__ import annotations

import shutil
import subprocess
import time
from binascii import crc_hqx
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from fault_rig import until
from live_rig import Feed, Live, Series, Tap

from streamproc.core.messages import Operator, encode
from streamproc.shell.metrics import CONTENT_TYPE, LABEL_VALUES_MAX, OTHER
from streamproc.shell.series import STAGES
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.simulate.scada import ScadaPoints, catalogue, resources
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_CONFIG,
    TOPIC_FORECASTS,
    TOPIC_FRAMES,
    TOPIC_OPERATOR,
    TOPIC_SCADA,
    TOPIC_SETPOINTS,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]

AREA = "fleet"
RATE_HZ, SECONDS, EVENT_S = 30, 9, 6
HISTORY_MIN = 190  # the forecast model wants three hours
N_UNKNOWN = 1000  # areas, and as many IDCODEs
LOG_LINES_MAX = 20  # of one run, however many records it takes


@dataclass(frozen=True)
class Run:
    """What one worker shows after the run."""

    text: bytes
    content_type: str
    log: list[dict[str, Any]]
    told: list[str]  # lines for a person
    sent: Mapping[str, int]  # records by topic
    acknowledged: list[str]  # alert_id

    @property
    def series(self) -> Series:
        return Series(self.text)


@pytest.fixture(scope="module")
def run(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    # Without [[area]] tables every key is an area: so labels come from the wire, and must be bounded.
    tables = {"point": catalogue(AREA), "resource": resources()}
    live = Live(kafka, tmp_path_factory.mktemp("metrics"), **tables)
    try:
        live.start()
        yield exercised(live)
    finally:
        live.end()


def exercised(live: Live) -> Run:
    feed = Feed(live)
    outputs = (TOPIC_ALERTS, TOPIC_FORECASTS, TOPIC_SETPOINTS)
    with Tap(live, outputs) as tap:
        send_points(feed)
        send_fleet(feed)
        acknowledged = [acknowledge_first(feed, tap)]
        send_strangers(feed)
        for topic in outputs:
            until(f"something in {topic}", lambda t=topic: bool(tap.of(t)), 20)
        sent = {topic: feed.count(topic) for topic in (TOPIC_FRAMES, TOPIC_SCADA, TOPIC_OPERATOR)}
        until("all that was sent is behind the worker", lambda: is_read(live, sent), 30)
        until("the acknowledgement is told", lambda: acked(tap) == acknowledged, 10)
    return Run(
        text=live.exposed(),
        content_type=live.content_type(),
        log=live.logged(),
        told=[line for line in live.said() if line.startswith("streamproc: ")],
        sent=sent,
        acknowledged=acknowledged,
    )


def send_points(feed: Feed) -> None:
    """Three hours of every minute, then the present."""
    now_ns = time.time_ns() // 1_000_000_000 * 1_000_000_000
    points = ScadaPoints(AREA, seed=1, pivot_ns=now_ns)
    for minute in range(-HISTORY_MIN, 1):
        t_ns = now_ns + minute * 60_000_000_000
        feed.send(TOPIC_SCADA, AREA, encode(points.batch(t_ns)), ts_ms=t_ns // 1_000_000)
    feed.flush()


def send_fleet(feed: Feed) -> None:
    start_ns = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000
    event = GridEvent("line_trip", EVENT_S, at=0.5, size=0.35)
    fleet = Fleet(FleetSettings(n_pmu=8, rate_hz=RATE_HZ, start_ns=start_ns, events=(event,)))
    feed.send(TOPIC_CONFIG, "700", fleet.configs[0])
    feed.play(fleet, TOPIC_FRAMES, AREA, SECONDS, lambda _: None)


def send_strangers(feed: Feed) -> None:
    """A thousand areas with frames, and a thousand IDCODEs nobody has configured."""
    fleet = Fleet(FleetSettings(n_pmu=1, idcode=5000, start_ns=time.time_ns() // 10**9 * 10**9))
    ((_, (frame,)), *_) = fleet.instants(1)
    for number in range(N_UNKNOWN):
        feed.send(TOPIC_FRAMES, f"unknown-{number}", fleet.configs[0] + frame)
    for number in range(N_UNKNOWN):
        feed.send(TOPIC_FRAMES, AREA, with_idcode(frame, 10_000 + number))
    feed.flush()


def with_idcode(frame: bytes, idcode: int) -> bytes:
    changed = frame[:4] + idcode.to_bytes(2, "big") + frame[6:-2]
    return changed + crc_hqx(changed, 0xFFFF).to_bytes(2, "big")


def acknowledge_first(feed: Feed, tap: Tap) -> str:
    until("an open alert", lambda: bool(unacknowledged(tap)), 20)
    alert_id = unacknowledged(tap)[-1]
    word = Operator(action="acknowledge", alert_id=alert_id, user="op", ts_us=time.time_ns() // 1000)
    feed.send(TOPIC_OPERATOR, alert_id, encode(word))
    feed.flush()
    return alert_id


def unacknowledged(tap: Tap) -> list[str]:
    newest = {alert["alert_id"]: alert["state"] for alert in (came.json for came in tap.of(TOPIC_ALERTS))}
    return [alert_id for alert_id, state in newest.items() if state == "UNACK"]


def acked(tap: Tap) -> list[str]:
    found = [came.json for came in tap.of(TOPIC_ALERTS)]
    return list(dict.fromkeys(alert["alert_id"] for alert in found if alert["ack_by"] == "op"))


def is_read(live: Live, sent: Mapping[str, int]) -> bool:
    records = Series(live.exposed()).by("streamproc_records_total", "topic")
    return all(records.get(topic, 0) >= count for topic, count in sent.items())


def test_promtool_accepts_the_live_text(run: Run) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: .ci/tools promtool"
    found = subprocess.run(
        [promtool, "check", "metrics"], input=run.text, capture_output=True, check=False, timeout=30
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, b"")
    assert run.content_type == CONTENT_TYPE


def test_every_record_of_the_run_is_counted_once(run: Run) -> None:
    counted = run.series.by("streamproc_records_total", "topic")
    assert {topic: counted[topic] for topic in run.sent} == run.sent


def test_every_metric_that_a_stage_counts_is_in_the_tables(run: Run) -> None:
    # `Metrics.unlisted` is not to be seen from outside; each new word in it is logged once.
    assert [line for line in run.log if line["event"] == "metric not in the tables"] == []


def test_every_stage_of_the_path_is_measured(run: Run) -> None:
    counts = run.series.by("streamproc_stage_duration_seconds_count", "stage")
    assert counts.keys() == STAGES.keys()


def test_alert_advice_forecast_and_acknowledgement_are_counted(run: Run) -> None:
    series = run.series
    assert run.acknowledged
    assert series.by("streamproc_alert_transitions_total", "state").keys() >= {"UNACK", "ACKED"}
    assert series.by("streamproc_recommendations_total", "action").get("ISSUE", 0) >= 1
    forecasts = series.total("streamproc_forecasts_total")
    assert (
        forecasts > series.total("streamproc_forecast_fallbacks_total") > 0
    )  # by the model, and before it could


def test_the_models_in_force_are_shown_with_their_digests(run: Run) -> None:
    slots = run.series.by("streamproc_model_info", "slot")
    assert {f"score/{AREA}", "forecast"} <= slots.keys()
    assert set(slots.values()) == {1.0}  # one model in each, the newest
    digests = run.series.by("streamproc_model_info", "digest")
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests), digests


def test_a_thousand_unknown_areas_and_idcodes_bound_every_label(run: Run) -> None:
    values = run.series.label_values()
    for (name, label), found in values.items():
        assert len(found) <= LABEL_VALUES_MAX + 1, (name, label)
        assert not any(value.isdigit() and int(value) >= 5000 for value in found), (name, label)
    areas = values["streamproc_frames_total", "area"]
    assert {AREA, OTHER} <= areas
    assert len(areas) == LABEL_VALUES_MAX + 1
    frames = run.series.by("streamproc_frames_total", "area")
    assert sum(frames.values()) == RATE_HZ * SECONDS + N_UNKNOWN  # under whatever name: none is lost
    assert frames[AREA] == RATE_HZ * SECONDS
    assert frames[OTHER] == N_UNKNOWN - (LABEL_VALUES_MAX - 1)
    assert run.series.by("streamproc_rejected_total", "reason") == {"unknown_configuration": N_UNKNOWN}


def test_the_log_is_json_lines_of_events_and_not_of_records(run: Run) -> None:
    assert len(run.log) <= LOG_LINES_MAX < sum(run.sent.values()) / 50
    assert all({"ts", "level", "logger", "event"} <= line.keys() for line in run.log)
    # Beside them one line for the person who started it: where to look.
    assert len(run.told) == 1

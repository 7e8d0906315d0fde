"""No input, however bad, harms the good beside it: it is counted, kept and shown with its reason, and the rest goes on."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from fault_rig import until
from live_rig import RECORD_SIZE_MAX, Came, Feed, Live, Probes, Sent, Series, Tap

from streamproc.config import AreaTable, PointTable
from streamproc.core.iso_time import iso_time
from streamproc.core.wire import DEAD_LETTER_SIZE_MAX
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_FINDINGS,
    TOPIC_FRAMES,
    TOPIC_OPERATOR,
    TOPIC_SCADA,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]

AREA, POINTS = "fleet", "points"  # of frames, of SCADA
RATE_HZ, SECONDS, EVENT_S = 30, 14, 9
POINT = "PROBE_mw"  # over its limit in every second record: each good record makes exactly one finding
SCADA_EVERY = 5  # instants
BAD_EVERY = 30
HUGE_SIZE = 10_000_000
HUGE_AT = (100, 250)  # instants
P99_LIMIT_MS = 2000.0  # generous: it must not wait for the bad ones, no more
DEAD_LETTERS = tuple(f"{topic}.dlq" for topic in (TOPIC_FRAMES, TOPIC_SCADA, TOPIC_OPERATOR))


def scada(point_id: str, value: object, ts_us: int, **more: object) -> bytes:
    point = {"id": point_id, "value": value, "ts_us": ts_us}
    return json.dumps({"schema": "scada/1", "area": POINTS, "points": [point], **more}).encode()


def bad_scada(now_us: int) -> Iterator[tuple[str, bytes | None]]:
    """Yield (reason, record) of every way in which SCADA can be bad, 10 MB apart."""
    good = scada(POINT, 1.0, now_us)
    yield "unknown_point", scada("NOBODY_mw", 1.0, now_us)
    yield "wrong_type", scada(POINT, "high", now_us)
    yield "not_finite", scada(POINT, float("nan"), now_us)
    yield "duplicate_key", good.replace(b'"value": 1.0', b'"value": 1.0, "value": 2.0')
    yield "future_time", scada(POINT, 1.0, now_us + 86_400_000_000)
    yield "not_json", b"PROBE_mw;1.0;good"
    yield "wrong_schema", scada(POINT, 1.0, now_us, schema="scada/2")
    yield "empty", b""
    yield "empty", None


class Everything:
    """Sends good frames and points, and all that is bad between them."""

    def __init__(self, feed: Feed, start_ns: int) -> None:
        event = GridEvent("line_trip", EVENT_S, at=0.5, size=0.35)
        settings = FleetSettings(n_pmu=12, rate_hz=RATE_HZ, start_ns=start_ns, events=(event,))
        self.feed, self.fleet = feed, Fleet(settings)
        stranger = Fleet(replace(settings, idcode=900, n_pmu=1))
        self._stranger = next(frame for _, (frame,) in stranger.instants(1))
        (self._conflict,) = Fleet(replace(settings, integer_format=True)).configs
        self.n_good_point = 0

    def send(self) -> None:
        self.feed.play(self.fleet, TOPIC_FRAMES, AREA, SECONDS, self._between)

    def _between(self, number: int) -> None:
        now_us = time.time_ns() // 1000
        if number % SCADA_EVERY == 0:
            self.n_good_point += 1
            value = 20.0 * (self.n_good_point % 2)
            self.feed.send(TOPIC_SCADA, POINTS, scada(POINT, value, now_us))
        if number % BAD_EVERY == BAD_EVERY // 2:
            self._bad(now_us)
        if number in HUGE_AT:
            huge = scada(POINT, 1.0, now_us, padding="x" * HUGE_SIZE)
            self.feed.send(TOPIC_SCADA, POINTS, huge, reason="too_large")

    def _bad(self, now_us: int) -> None:
        for reason, value in bad_scada(now_us):
            self.feed.send(TOPIC_SCADA, POINTS, value, reason=reason)
        self.feed.send(TOPIC_FRAMES, AREA, self._stranger, reason="unknown_configuration")
        self.feed.send(TOPIC_FRAMES, AREA, self._conflict, reason="config_conflict")
        self.feed.send(TOPIC_FRAMES, AREA, b"", reason="empty")
        self.feed.send(TOPIC_FRAMES, AREA, None, reason="empty")
        self.feed.send(TOPIC_OPERATOR, "nobody", b'{"schema": "operator/9"}', reason="wrong_schema")


@dataclass(frozen=True)
class Run:
    """What went in and what came out of one worker."""

    sent: list[Sent]
    n_good_point: int
    fleet: Fleet
    came: dict[str, list[Came]]
    series: Series
    probes: Counter[tuple[str, int]]
    listed: list[dict[str, object]]
    said: list[dict[str, str]]

    @property
    def bad(self) -> dict[tuple[str, int, int], Sent]:
        return {(s.topic, s.partition, s.offset): s for s in self.sent if s.reason}

    @property
    def letters(self) -> dict[tuple[str, int, int], Came]:
        """Dead letters by the place of the record that they are about."""
        return {
            (c.headers["topic"], int(c.headers["partition"]), int(c.headers["offset"])): c
            for name in DEAD_LETTERS
            for c in self.came[name]
        }


@pytest.fixture(scope="module")
def run(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    point = PointTable(id=POINT, area=POINTS, unit="MW", limit_high=10.0, forecast=False)
    areas = (AreaTable(name=AREA), AreaTable(name=POINTS))
    live = Live(kafka, tmp_path_factory.mktemp("bad"), area=areas, point=(point,))
    try:
        live.allow_size(TOPIC_SCADA, RECORD_SIZE_MAX)
        live.start()
        yield exercised(live)
    finally:
        live.end()


def exercised(live: Live) -> Run:
    start_ns = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000
    topics = (TOPIC_FINDINGS, TOPIC_ALERTS, *DEAD_LETTERS)
    feed = Feed(live)
    with Tap(live, topics) as tap, Probes(live) as probes:
        everything = Everything(feed, start_ns)
        everything.send()
        taken = Counter(s.topic for s in feed.sent)
        until("all that was sent is behind the worker", lambda: all_read(live, taken), 20)
        n_bad = sum(bool(s.reason) for s in feed.sent)
        until("all dead letters are there", lambda: sum(len(tap.of(t)) for t in DEAD_LETTERS) >= n_bad, 10)
    listed = subprocess.run(
        live.command("dlq", "ls", "--json", "-c", str(live.site_path)),
        env=live.environment,
        cwd=live.home,
        capture_output=True,
        check=True,
        timeout=30,
    )
    return Run(
        sent=feed.sent,
        n_good_point=everything.n_good_point,
        fleet=everything.fleet,
        came={topic: tap.of(topic) for topic in topics},
        series=Series(live.exposed()),
        probes=probes.answers,
        listed=json.loads(listed.stdout),
        said=live.logged(),
    )


def all_read(live: Live, taken: Counter[str]) -> bool:
    records = Series(live.exposed()).by("streamproc_records_total", "topic")
    return all(records.get(topic, 0) >= count for topic, count in taken.items())


def findings(run: Run, area: str) -> list[Came]:
    told = [c for c in run.came[TOPIC_FINDINGS] if c.json["area"] == area and c.json["type"] != "watermark"]
    return [c for c in told if c.json["family"] != "service"]  # a worker that starts says whom it hears


def test_every_bad_record_is_counted_under_its_own_reason(run: Run) -> None:
    wanted = dict(Counter(s.reason for s in run.bad.values()))
    assert wanted == dict(Counter(s.reason for s in run.sent if s.reason))
    assert len(wanted) == 11
    assert run.series.by("streamproc_rejected_total", "reason") == wanted
    assert run.series.by("streamproc_dead_letters_total", "reason") == wanted


def test_every_bad_record_is_in_the_dead_letter_topic_of_its_input_once(run: Run) -> None:
    for name in DEAD_LETTERS:
        places = Counter((c.headers["partition"], c.headers["offset"]) for c in run.came[name])
        assert set(places.values()) == {1}
        assert {c.headers["topic"] for c in run.came[name]} == {name.removesuffix(".dlq")}
    assert run.letters.keys() == run.bad.keys()


def test_a_dead_letter_has_the_original_bytes_up_to_64_kib(run: Run) -> None:
    assert DEAD_LETTER_SIZE_MAX == 64 * 1024
    for place, sent in run.bad.items():
        assert run.letters[place].value == sent.value[:DEAD_LETTER_SIZE_MAX], place
    huge = [s for s in run.bad.values() if len(s.value) >= HUGE_SIZE]
    assert [s.reason for s in huge] == ["too_large"] * len(HUGE_AT)


def test_a_dead_letter_says_why_from_where_and_when(run: Run) -> None:
    for place, sent in run.bad.items():
        headers = run.letters[place].headers
        assert headers.keys() == {"reason", "detail", "topic", "partition", "offset", "time"}
        assert (headers["reason"], headers["time"]) == (sent.reason, iso_time(sent.ts_ms * 1_000_000))
        assert headers["detail"], place


def test_the_command_line_lists_every_dead_letter(run: Run) -> None:
    listed = {(row["topic"], row["partition"], row["offset"]): row for row in run.listed}
    assert len(run.listed) == len(listed)
    assert listed.keys() == run.bad.keys()
    for place, row in listed.items():
        assert row["reason"] == run.bad[place].reason
        assert row["detail"] == run.letters[place].headers["detail"]
        assert row["size"] == len(run.letters[place].value)


def test_every_record_is_counted_once(run: Run) -> None:
    wanted = Counter(s.topic for s in run.sent)
    found = run.series.by("streamproc_records_total", "topic")
    assert {topic: found[topic] for topic in wanted} == dict(wanted)


def test_every_good_frame_between_the_bad_ones_is_scored(run: Run) -> None:
    n_good = RATE_HZ * SECONDS
    assert run.series.by("streamproc_frames_total", "area") == {AREA: n_good}
    assert run.series.by("streamproc_instants_total", "area") == {AREA: n_good}
    for name in ("late", "duplicate", "wrong_clock", "missing"):
        assert run.series.total(f"streamproc_{name}_frames_total") == 0, name


def test_every_good_point_between_the_bad_ones_is_judged(run: Run) -> None:
    assert run.n_good_point == -(-RATE_HZ * SECONDS // SCADA_EVERY)
    types = [c.json["type"] for c in findings(run, POINTS)]
    assert types == [("raise", "clear")[n % 2] for n in range(run.n_good_point)]


def test_a_real_event_between_the_bad_records_is_alerted(run: Run) -> None:
    (truth,) = run.fleet.truths()
    raised = [c.json for c in run.came[TOPIC_ALERTS] if c.json["seq"] == 1 and c.json["area"] == AREA]
    about = [a for a in raised if abs(a["onset_ts_us"] / 1e6 - truth.start_ns / 1e9) < 0.5]
    assert [(a["family"], a["state"]) for a in about] == [("grid", "UNACK")]
    assert raised == about  # and of the bad records nothing is alerted


def test_the_worker_is_live_and_ready_all_the_time(run: Run) -> None:
    assert {status for _, status in run.probes} == {200}
    assert min(run.probes.values()) > SECONDS  # asked at least once a second


def test_good_records_do_not_wait_for_bad_ones(run: Run) -> None:
    waits_ms = [c.at_ms - c.ts_ms for area in (AREA, POINTS) for c in findings(run, area)]
    assert len(waits_ms) > 80
    assert np.quantile(waits_ms, 0.99) < P99_LIMIT_MS
    assert run.series.share_within("end_to_end", P99_LIMIT_MS / 1000) >= 0.99


def test_no_bad_record_makes_a_stage_fail(run: Run) -> None:
    assert run.series.total("streamproc_batch_retries_total") == 0
    assert [
        line for line in run.said if line["logger"].startswith("streamproc") and line["level"] != "INFO"
    ] == []

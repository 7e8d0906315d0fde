"""Protects `streamproc top`: true numbers, plain words about silence, bounded memory, a screen that always fits."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from rich.console import Console

from streamproc.cli.root import app
from streamproc.config import PointTable, SiteConfig, WorkerTable
from streamproc.core.messages import Alert, Forecast, Health, Quantiles, encode
from streamproc.core.setpoint import Setpoint
from streamproc.shell import top_state
from streamproc.shell.kafka_broker import free_port
from streamproc.shell.memory_broker import MemoryBroker
from streamproc.shell.metrics import Metrics
from streamproc.shell.scrape import Reading, parse_metrics
from streamproc.shell.top import KINDS, metrics_urls
from streamproc.shell.top_state import Source, TopState
from streamproc.shell.top_view import age, render, svg

ROOT = Path(__file__).resolve().parents[2]
NOW_US = 1_700_000_000_000_000
URL, OTHER_URL = "http://a:9108/metrics", "http://b:9108/metrics"


def alert(name: str = "a1", seq: int = 1, state: str = "UNACK", priority: int = 2, **fields: Any) -> Alert:
    values: dict[str, Any] = {
        "alert_id": name, "seq": seq, "state": state, "family": "grid", "kind": "k", "priority": priority,
        "area": "north", "position": "main", "onset_ts_us": NOW_US - 12_000_000, "ts_us": NOW_US, "source": "S",
        "sources": ("S",), "members": 1, "score": 1.0, "value": 1.0, "limit": 1.0, "unit": "Hz",
        "quality": "GOOD", "quality_flags": 0, "message": f"message of {name}", "rule": "r", "rule_version": 1,
        "rules": ("r",), "model_digest": "",
    }  # fmt: skip
    return Alert(**(values | fields))


def forecast(series: str = "F1", issued_s: float = 60.0, base: float = 10.0) -> Forecast:
    bands = {
        name: tuple(base + k + i / 10 for i in range(60))
        for k, name in enumerate(Quantiles.__struct_fields__)
    }
    issued_us = int(NOW_US - issued_s * 1e6)
    return Forecast(
        series=series, area="north", unit="MW", issued_at_us=issued_us, available_at_us=issued_us,
        interval_min=1, valid_ts_us=tuple(range(60)), quantiles=Quantiles(**bands), method="model", last_value=base,
    )  # fmt: skip


def advice(name: str = "r1", seq: int = 1, action: str = "ISSUE", valid_s: float = 300.0) -> Setpoint:
    return Setpoint(
        recommendation_id=name, seq=seq, action=action, area="north", reason="", ts_us=NOW_US,  # type: ignore[arg-type]
        valid_from_us=NOW_US, valid_until_us=int(NOW_US + valid_s * 1e6), message="Advice only: move BAT1 to 2 MW",
    )  # fmt: skip


def reading(
    at_s: float, frames: float, *, age_s: float = 0.5, area: str = "north", **stages: float
) -> Reading:
    metrics = Metrics()
    metrics.count("frames", area, frames)
    metrics.count("records", "grid.pmu.frames.v1", frames / 10)
    metrics.set_lag("grid.pmu.frames.v1", 0, 7)
    metrics.gauge("event_time_s", area, time.time() - age_s)
    for stage, seconds in stages.items():
        metrics.observe_stage(stage, [seconds] * int(frames))
    return parse_metrics(metrics.expose().decode(), at_s)


def state(*urls: str, points: tuple[PointTable, ...] = ()) -> TopState:
    made = TopState("demo", "kafka:9092", urls, points, now_s=0.0)
    made.broker.heard(0.0)
    made.caught_up, made.behind = True, 0
    return made


def picture_of(made: TopState, now_s: float = 1.0) -> Any:
    return made.picture(NOW_US, now_s)


def screen(picture: Any, width: int = 80, height: int = 24) -> list[str]:
    text = StringIO()
    Console(file=text, width=width, height=height).print(render(picture, width, height), soft_wrap=True)
    return text.getvalue().rstrip("\n").split("\n")


def test_rates_lag_and_quantiles_are_those_of_all_workers_together() -> None:
    made = state(URL, OTHER_URL)
    for url, size in ((URL, 100), (OTHER_URL, 300)):
        for at_s in (1.0, 2.0, 3.0):
            made.workers[url].take(reading(at_s, size * at_s, publish=0.004 if url == URL else 0.3))
    made.broker.heard(3.0)
    picture = picture_of(made, 3.0)
    assert (picture["frames_per_s"], picture["records_per_s"], picture["lag_records"]) == (400.0, 40.0, 14)
    publish = picture["stages"]["publish"]
    assert 200 < publish["p50_ms"] <= publish["p99_ms"] <= 500
    assert picture["stages"]["decode"] == {"p50_ms": None, "p99_ms": None}
    assert picture["problems"] == []
    assert any(
        "400 frames/s  40 records/s  lag 14" in line and "2 of 2 workers" in line for line in screen(picture)
    )


def test_an_area_that_moved_to_another_worker_is_as_old_as_there() -> None:
    made = state(URL, OTHER_URL)
    made.workers[URL].take(reading(1.0, 10, age_s=90.0))
    made.workers[OTHER_URL].take(reading(1.0, 10, age_s=0.4))
    assert 0.3 < picture_of(made)["newest_event_age_s"] < 2.0
    assert picture_of(made)["oldest_area"]["age_s"] < 2.0


def test_a_worker_that_does_not_answer_is_said_and_its_numbers_are_gone() -> None:
    made = state(URL, OTHER_URL)
    for at_s in (1.0, 2.0):
        made.workers[URL].take(reading(at_s, 100 * at_s))
    made.workers[OTHER_URL].failed("Connection refused", 2.0)
    made.workers[URL].failed("nothing within 2 s", 3.0)
    made.broker.heard(14.0)
    assert picture_of(made, 3.0)["frames_per_s"] == 100.0
    later = picture_of(made, 14.0)
    assert f"no answer from {URL} for 12 s (nothing within 2 s)" in later["problems"]
    assert f"no answer from {OTHER_URL} for 14 s (Connection refused)" in later["problems"]
    assert (later["frames_per_s"], later["lag_records"], later["newest_event_age_s"]) == (None, None, None)
    told = "\n".join(screen(later))
    assert "- frames/s  - records/s  lag -  newest measurement -  0 of 2 workers" in told


def test_a_silence_is_over_with_the_first_answer_and_old_readings_are_not_compared_with() -> None:
    worker = Source(URL, 0.0)
    worker.take(reading(1.0, 100))
    worker.failed("x", 5.0)
    assert not worker.readings
    worker.take(reading(6.0, 900))
    assert not worker.is_silent(6.5)
    assert len(worker.readings) == 1
    worker.take(reading(7.0, 20))  # restarted: it counts from zero
    assert [one.at_s for one in worker.readings] == [7.0]


def test_a_broker_that_does_not_answer_is_said_with_the_age_of_what_is_shown() -> None:
    made = state(URL)
    made.take(alert())
    made.broker.failed("nothing within 2 s", 9.0)
    picture = picture_of(made, 9.0)
    assert picture["topics_age_s"] == 9.0
    assert "no answer from kafka:9092 for 9 s (nothing within 2 s)" in picture["problems"]
    assert any(
        line.startswith("alerts: 1 active, 1 to acknowledge; AS OF 9 s AGO") for line in screen(picture)
    )
    never = TopState("demo", "kafka:9092", (), now_s=0.0)
    never.broker.failed("no connection", 4.0)
    told = screen(picture_of(never, 4.0))
    assert told.count("  not known") == 3
    assert any("no worker address is known" in line for line in told)


def test_stale_data_and_heartbeats_are_said() -> None:
    made = state(URL)
    made.workers[URL].take(reading(1.0, 100, age_s=45.0))
    made.take(Health(worker="vm:1", stage="score", partition=0, seq=1, ts_us=NOW_US - 30_000_000))
    made.take(Health(worker="vm:0", stage="score", partition=0, seq=1, ts_us=NOW_US - 900_000_000))
    picture = picture_of(made)
    assert picture["problems"] == [
        "no new measurement: the newest is 45 s old",
        "no heartbeat of any worker for 30 s",
    ]
    assert picture["heartbeats_age_s"] == {"vm:1": 30.0}
    made.behind, made.caught_up = 20, False
    made.missing = ("grid.setpoints.v1",)
    told = picture_of(made)["problems"]
    assert told[0] == "no topic grid.setpoints.v1, or it may not be read"
    assert told[1].startswith("still reading: 20 records")


def test_active_alerts_by_state_priority_and_age() -> None:
    made = state()
    made.take(alert("low", priority=4))
    made.take(alert("high", priority=1))
    made.take(alert("known", state="ACKED", priority=1))
    made.take(alert("gone", seq=3, state="NORM"))
    made.take(alert("back", seq=2, state="RTNUN"))
    made.take(alert("back", seq=1))  # came late or twice
    picture = picture_of(made)
    assert [a["alert_id"] for a in picture["alerts"]] == ["high", "low", "known", "back"]
    assert (picture["alerts_active"], picture["alerts_unacknowledged"]) == (4, 3)
    assert "  ALERT        P1   12 s  message of high" in screen(picture)
    made.take(alert("high", seq=2, state="NORM"))
    assert picture_of(made)["alerts_active"] == 3


def test_forecasts_that_may_cross_a_limit_come_first_and_advice_goes_with_its_time() -> None:
    points = (PointTable(id="F2", area="north", unit="MW", limit_high=15.0),)
    made = state(points=points)
    for one in (
        forecast("F1", 5.0),
        forecast("F2", 70.0),
        forecast("F2", 90.0, base=0.0),
        forecast("F3", 1.0),
    ):
        made.take(one)
    made.take(advice("expired", valid_s=-1))
    made.take(advice("withdrawn"))
    made.take(advice("withdrawn", 2, "WITHDRAW"))
    made.take(advice("in force"))
    picture = picture_of(made)
    assert [(f["series"], f["crosses"]) for f in picture["forecasts"]] == [
        ("F2", True),
        ("F3", False),
        ("F1", False),
    ]
    assert picture["forecasts"][0]["ahead"][0] == {"minutes": 15, "p05": 11.4, "p50": 14.4, "p95": 17.4}
    assert [r["recommendation_id"] for r in picture["recommendations"]] == ["in force"]
    told = "\n".join(screen(picture))
    assert "3 series, 1 may cross a limit; P50 [P05..P95]; newest 1 s old" in told
    assert "F2           10.0 MW  +15m 14.4 [11.4..17.4] +60m 18.9 [15.9..21.9] LIMIT 15" in told
    assert "  ISSUE   5 min left  move BAT1 to 2 MW" in told


def test_memory_is_bounded() -> None:
    made = state()
    for number in range(5000):
        made.take(alert(f"a{number}"))
        made.take(advice(f"r{number}"))
        made.take(Health(worker=f"w{number}", stage="s", partition=0, seq=1, ts_us=NOW_US))
    one = forecast()
    for number in range(3000):
        made.take(
            Forecast(
                **{name: getattr(one, name) for name in one.__struct_fields__} | {"series": f"F{number}"}
            )
        )
    picture = picture_of(made)
    assert len(picture["alerts"]) == top_state.ALERTS_MAX
    assert len(picture["forecasts"]) == top_state.SERIES_MAX
    assert len(picture["recommendations"]) == top_state.ADVICE_MAX
    assert len(picture["heartbeats_age_s"]) == top_state.WORKERS_MAX
    worker = Source(URL, 0.0)
    for second in range(1000):
        worker.take(Reading(float(second)))
    assert len(worker.readings) < 20


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60), (40, 10)])
def test_the_screen_fits_whatever_there_is_and_says_what_is_left_out(width: int, height: int) -> None:
    made = state(*(f"http://worker-{n}:9108/metrics" for n in range(9)))
    for number in range(90):
        made.take(alert(f"a{number}", message="x" * 300))
        made.take(forecast(f"F{number}", 1.0))
        made.take(advice(f"r{number}"))
    for picture in (picture_of(state(URL)), picture_of(made, 60.0)):
        lines = screen(picture, width, height)
        assert len(lines) <= max(height, 24)
        assert max(map(len, lines)) <= max(width, 80)
    assert any(re.match(r"! and \d more", line) for line in lines)
    assert sum(bool(re.match(r"  and \d+ more", line)) for line in lines) == 3


def test_a_text_from_the_wire_moves_no_cursor() -> None:
    made = state()
    made.take(alert(message="bad \x1b[2J\x07 station\r\n"))
    made.take(forecast("F\x1b[1m"))
    assert "\x1b" not in json.dumps(picture_of(made), ensure_ascii=False)
    assert "bad ?[2J? station??" in "\n".join(screen(picture_of(made)))


def test_ages_are_short() -> None:
    assert [age(s) for s in (0.4, 119, 120, 7200, 200_000, -3)] == [
        "0 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
        "-3 s",
    ]


def test_the_picture_of_the_readme_is_one_of_this_screen() -> None:
    drawn = svg(picture_of(state(URL)))
    assert "@font-face" not in drawn
    assert set(re.findall(r"https?://[^\"' <]+", drawn)) <= {
        "http://www.w3.org/2000/svg",
        URL,
        "https://www.textualize.io",
    }
    kept = (ROOT / "docs" / "top.svg").read_text().replace("&#160;", " ")
    for words in ("streamproc top", "frames/s", "records/s", "newest measurement", "p50 ms", "end to end",
                  "to acknowledge", "may cross a limit; P50 [P05..P95]", "in force, advice only"):  # fmt: skip
        assert words in kept, words
    assert "no answer" not in kept


def test_addresses_of_workers() -> None:
    assert metrics_urls(SiteConfig(), ()) == ("http://127.0.0.1:9108/metrics",)
    assert metrics_urls(SiteConfig(worker=WorkerTable(http_host="0.0.0.0")), ()) == (
        "http://127.0.0.1:9108/metrics",
    )
    assert metrics_urls(SiteConfig(worker=WorkerTable(http_host="::")), ()) == ("http://[::1]:9108/metrics",)
    assert metrics_urls(SiteConfig(worker=WorkerTable(http_port=0)), ()) == ()
    given = ("a:1", "http://b:2", "https://c:3/own/metrics")
    assert metrics_urls(SiteConfig(), given) == (
        "http://a:1/metrics",
        "http://b:2/metrics",
        "https://c:3/own/metrics",
    )


@contextmanager
def serving(*bodies: bytes) -> Iterator[list[str]]:
    """Give "host:port" of HTTP servers that answer so."""
    servers = []
    for body in bodies:

        class Page(BaseHTTPRequestHandler):
            page = body

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.page)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Page))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    try:
        yield [f"127.0.0.1:{server.server_port}" for server in servers]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def once(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, Any]:
    with pytest.raises(SystemExit) as end:
        app(["top", "--once", "--json", *words])
    return end.value.code, json.loads(capsys.readouterr().out)


def test_one_look_at_topics_and_workers(capsys: pytest.CaptureFixture[str]) -> None:
    with MemoryBroker().start(KINDS) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        for topic, value in (
            ("grid.alerts.v1", encode(alert())),
            ("grid.alerts.v1", b"not ours"),
            ("grid.alerts.v1", None),
            ("grid.forecasts.v1", encode(forecast())),
        ):
            producer.produce(topic, value, b"key", partition=0)
        assert producer.flush(10) == 0
        metrics, html = Metrics().expose(), b"<html>\nfoo bar\n</html>"
        with serving(metrics, html) as (worker, stranger):
            found = once(capsys, "--bootstrap", broker.bootstrap, "--metrics", worker)
            assert (found[0], found[1]["problems"]) == (0, [])
            assert [a["alert_id"] for a in found[1]["alerts"]] == ["a1"]
            assert [f["series"] for f in found[1]["forecasts"]] == ["F1"]
            assert found[1]["frames_per_s"] == 0
            code, picture = once(
                capsys, "--bootstrap", broker.bootstrap, "--metrics", worker, "--metrics", stranger
            )
    assert code == 1
    assert [one["answers"] for one in picture["workers"]] == [True, False]
    assert "(it answers, but with no metrics of streamproc)" in picture["problems"][0]


def test_one_look_when_nobody_is_there_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    begin_s = time.monotonic()
    code, picture = once(
        capsys, "--bootstrap", f"127.0.0.1:{free_port()}", "--metrics", f"127.0.0.1:{free_port()}"
    )
    assert time.monotonic() - begin_s < 5
    assert code == 1
    assert [re.sub(r":\d+", "", sentence) for sentence in picture["problems"]] == [
        "no answer from 127.0.0.1 for 0 s (no connection)",
        "no answer from http://127.0.0.1/metrics for 0 s (Connection refused)",
    ]
    assert picture["topics_age_s"] is None


@contextmanager
def mute() -> Iterator[str]:
    """Give the address of a server that accepts and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


def test_on_a_terminal_it_says_who_is_silent_and_ctrl_c_ends_it_at_once() -> None:
    with mute() as broker, mute() as worker:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "streamproc", "top", "--bootstrap", broker, "--metrics", worker]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1"}
        child = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        told = read_until(
            ours, f"no answer from http://{worker}/metrics for 4 s (nothing within 2 s)".encode()
        )
        begin_s = time.monotonic()
        os.kill(child.pid, signal.SIGINT)
        told += read_until(ours, None)
        assert child.wait(5) == 0, told
        assert time.monotonic() - begin_s < 1.0
    assert f"no answer from {broker} for 4 s".encode() in told
    assert told.rstrip().count(b"not known") >= 3
    assert told.index(b"\x1b[?1049h") < told.rindex(b"\x1b[?1049l")  # the terminal is given back


def read_until(terminal: int, mark: bytes | None) -> bytes:
    told, end_s = b"", time.monotonic() + 20
    while time.monotonic() < end_s and (mark is None or mark not in told):
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                told += os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
    assert mark is None or mark in told, told[-3000:].decode()
    return told

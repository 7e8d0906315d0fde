"""Protects `streamproc top` on a real service: true numbers, nothing joined or committed, silence said at once."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from live_rig import Feed, Live

from streamproc.config import AreaTable
from streamproc.shell.kafka_broker import KafkaBroker
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import TOPIC_FRAMES

pytestmark = pytest.mark.broker


class Top:
    """`streamproc top --json`, one picture a second."""

    def __init__(self, live: Live, *words: str) -> None:
        command = live.command("top", "-c", str(live.site_path), "--metrics", live.url, *words)
        self._child = subprocess.Popen(
            command, env=live.environment, cwd=live.home, stdout=subprocess.PIPE, start_new_session=True
        )
        self._pictures: queue.Queue[dict[str, Any]] = queue.Queue()
        self.last: dict[str, Any] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._pictures.put(json.loads(line))

    def until(self, holds: Callable[[dict[str, Any]], Any], timeout_s: float = 15.0) -> dict[str, Any]:
        """Return the first picture of which this holds."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            try:
                self.last = self._pictures.get(timeout=1.0)
            except queue.Empty:
                continue
            if holds(self.last):
                return self.last
        raise AssertionError(f"not within {timeout_s:g} s; the last picture: {self.last}")

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C; return the exit code and how long the end took."""
        begin_s = time.monotonic()
        os.kill(self._child.pid, signal.SIGINT)
        return self._child.wait(10), time.monotonic() - begin_s

    def end(self) -> None:
        """End it whatever happened."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()


def complains(start: str) -> Callable[[dict[str, Any]], bool]:
    return lambda picture: any(sentence.startswith(start) for sentence in picture["problems"])


def play(live: Live, seconds: int) -> threading.Thread:
    """Send a fleet in the background, with an event after two seconds."""
    start_ns = (time.time_ns() // 1_000_000_000 + 1) * 1_000_000_000
    event = GridEvent("line_trip", 2.0, at=0.5, size=0.35)
    fleet = Fleet(FleetSettings(n_pmu=8, rate_hz=25, start_ns=start_ns, events=(event,)))
    feed = Feed(live)
    thread = threading.Thread(target=feed.play, args=(fleet, TOPIC_FRAMES, "north", seconds, lambda _: None))
    thread.start()
    return thread


def test_a_running_service_and_what_happens_to_it(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    live = Live(own_kafka.bootstrap, tmp_path, area=(AreaTable(name="north"),))
    live.start()
    top = Top(live, "--json")
    try:
        playing = play(live, 6)
        picture = top.until(lambda p: p["alerts"] and (p["frames_per_s"] or 0) > 15)
        assert picture["frames_per_s"] < 40
        assert picture["lag_records"] < 50
        assert picture["newest_event_age_s"] < 3
        assert 0 < picture["stages"]["end_to_end"]["p50_ms"] <= picture["stages"]["end_to_end"]["p99_ms"]
        assert picture["alerts"][0]["state"] == "UNACK"
        assert picture["alerts"][0]["age_s"] < 12
        assert len(picture["heartbeats_age_s"]) == 1
        assert picture["problems"] == []
        screen_of(live, tmp_path)
        silence_is_said(live, own_kafka, top)
        playing.join()
        nothing_was_joined(live)
        own_kafka.pause()
        code, took_s = top.interrupt()
        assert (code, took_s < 1.0) == (0, True), took_s
    finally:
        own_kafka.resume()
        top.end()
        live.end()


def screen_of(live: Live, home: Path) -> None:
    """One look of a person, without a terminal, and the picture for the README."""
    command = live.command(
        "top", "-c", str(live.site_path), "--metrics", live.url.removeprefix("http://"), "--svg"
    )
    done = subprocess.run(
        [*command, str(home / "top.svg")], env=live.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"\d+ frames/s  \d+ records/s  lag \d+  newest measurement \d+\.\d s ago  1 of 1 workers", done.stdout
    )
    assert "ALERT" in done.stdout
    assert "not known" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    drawn = (home / "top.svg").read_text()
    assert "frames/s" in drawn.replace("&#160;", " ")
    assert "@font-face" not in drawn


def silence_is_said(live: Live, kafka: KafkaBroker, top: Top) -> None:
    """The worker is killed, the broker hangs and comes back."""
    live.kill()
    gone = top.until(complains(f"no answer from {live.url}/metrics for"))
    assert (gone["frames_per_s"], gone["lag_records"], gone["stages"]["decode"]["p50_ms"]) == (
        None,
        None,
        None,
    )
    assert "Connection refused" in str(gone["problems"])
    top.until(complains("no heartbeat of any worker for"))
    kafka.pause()
    hung = top.until(complains(f"no answer from {kafka.bootstrap} for"))
    assert hung["topics_age_s"] > 2
    kafka.resume()
    top.until(lambda p: not complains(f"no answer from {kafka.bootstrap} for")(p))


def nothing_was_joined(live: Live) -> None:
    admin = AdminClient({"bootstrap.servers": live.bootstrap, "log_level": 0})
    groups = {group.group_id for group in admin.list_consumer_groups().result(timeout=30).valid}
    assert groups == {live.config.broker.group}


def test_topics_that_are_not_there_are_said(kafka: str, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'[broker]\nbootstrap = "{kafka}"\ntopic_prefix = "absent."\n[worker]\nhttp_port = 0\n')
    root = Path(__file__).resolve().parents[2]
    command = ["-m", "streamproc", "top", "-c", str(site), "--once", "--json"]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    told = json.loads(done.stdout)["problems"]
    assert any("none of the topics absent.grid.alerts.v1, absent" in sentence for sentence in told), told

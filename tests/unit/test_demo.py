"""Protects the first minute of a visitor: the demo runs, shows true things in plain words, and leaves nothing behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from streamproc.shell.demo_script import CAPTURES, Found, captures, compare, events, site, site_toml
from streamproc.shell.demo_view import Board, alert_line, forecast_line, render, sparkline, status_line
from streamproc.shell.metrics import Metrics
from streamproc.shell.scrape import Reading, parse_metrics, quantile_s, rate_per_s
from streamproc.shell.site_file import parse_site
from streamproc.simulate.fleet import Fleet, FleetSettings

ALERT = {
    "alert_id": "a1",
    "seq": 1,
    "state": "UNACK",
    "family": "grid",
    "kind": "frequency_low",
    "priority": 2,
    "area": "fleet",
    "source": "STATION 03",
    "onset_ts_us": 1_700_000_012_000_000,
    "ts_us": 1_700_000_012_100_000,
    "message": "Frequency at STATION 03 is 59.7 Hz",
}
QUANTILES = {name: [10.0 + i / 10 + k for i in range(60)] for k, name in enumerate(("P05", "P50", "P95"))}
FORECAST = {
    "series": "F07_mw",
    "horizon": "PT1H",
    "unit": "MW",
    "interval_min": 1,
    "issued_at_us": 1_700_000_000_000_000,
    "quantiles": QUANTILES,
    "last_value": 9.9,
    "method": "model",
}


def reading(at_s: float, **stages: float) -> Reading:
    metrics = Metrics()
    metrics.count("frames", "north", 10 * at_s)
    metrics.count("forecasts", "north", 5)
    metrics.gauge("pmus", "north", 4)
    for stage, seconds in stages.items():
        metrics.observe_stage(stage, [seconds] * 100)
    return parse_metrics(metrics.expose().decode(), at_s)


def test_our_own_metrics_are_read_back() -> None:
    now = reading(7.0, end_to_end=0.03)
    assert now.total("streamproc_frames_total") == 70
    assert now.by_label("streamproc_pmus") == {"north": 4}
    assert 0.02 <= quantile_s(Reading(), now, "end_to_end", 0.5) <= 0.05
    assert math.isnan(quantile_s(Reading(), now, "publish", 0.5))
    assert rate_per_s(reading(5.0), now, "streamproc_frames_total") == {"north": 10.0}


def test_a_quantile_counts_only_what_came_between_two_readings() -> None:
    before, after = reading(1.0, publish=20.0), reading(2.0, publish=20.0)
    assert math.isnan(quantile_s(before, after, "publish", 0.99))


def test_the_board_counts_frames_pmus_alerts_and_the_watched_forecast() -> None:
    board = Board(watched_series="F07_mw", limit=12.0)
    for at_s in (1.0, 2.0, 3.0):
        board.take_reading(reading(at_s, end_to_end=0.01))
    assert board.frames_per_s() == (10.0, 40.0)
    assert board.baseline is not None
    board.take_alert(ALERT)
    board.take_alert({**ALERT, "seq": 2, "state": "RTNUN"})
    assert (board.counts["alerts"], board.counts["alert transitions"], board.open_alerts) == (1, 2, {})
    assert board.take_forecast(FORECAST)
    assert not board.take_forecast({**FORECAST, "series": "F08_mw"})
    assert board.counts["forecasts"] == 2
    assert "10 frames/s (40 PMU measurements/s)" in status_line(board)


def test_expired_advice_is_counted_but_not_shown() -> None:
    board = Board()
    advice = {"recommendation_id": "r", "action": "ISSUE", "valid_until_us": 100, "message": "Advice only: m"}
    assert not board.take_advice(advice, now_us=101)
    assert board.take_advice(advice, now_us=99)
    assert board.take_advice({**advice, "action": "WITHDRAW"}, now_us=500)
    assert not board.take_advice({**advice, "action": "WITHDRAW", "recommendation_id": "old"}, now_us=0)
    assert board.counts["recommendations"] == 4
    assert board.counts["recommendations in force"] == 2


def test_lines_are_plain_words() -> None:
    assert alert_line(ALERT) == "ALERT P2: Frequency at STATION 03 is 59.7 Hz"
    assert alert_line({**ALERT, "state": "RTNUN"}).startswith("returned to normal")
    told = forecast_line(FORECAST, 12.0)
    assert told == (
        "forecast F07_mw in MW: now 9.9, in 15 min 12.4 (11.4 to 13.4), in 60 min 16.9 (15.9 to 17.9); limit 12 MW"
    )
    assert sparkline([0.0, 0.5, 1.0], 0.0, 1.0) == " ▄█"


def test_the_picture_can_be_drawn_before_anything_has_come_and_after() -> None:
    board = Board(
        broker="memory", metrics_url="http://127.0.0.1:1/metrics", limit=12.0, watched_series="F07_mw"
    )
    for step in range(2):
        screen = StringIO()
        Console(file=screen, width=120).print(render(board, 3.0, 60.0))
        assert "http://127.0.0.1:1/metrics" in screen.getvalue()
        assert ("none yet" in screen.getvalue()) == (step == 0)
        board.take_alert(ALERT)
        board.take_forecast(FORECAST)
        board.take_advice(
            {"recommendation_id": "r", "action": "ISSUE", "valid_until_us": 1, "message": "m"}, 0
        )


def test_eighty_columns_and_twenty_four_lines_show_everything_however_much_there_is() -> None:
    board = Board(
        broker="memory", metrics_url="http://127.0.0.1:1/metrics", limit=12.0, watched_series="F07_mw"
    )
    for at_s in (1.0, 2.0, 3.0, 4.0):
        board.take_reading(reading(at_s, end_to_end=0.01, decode=0.002))
    for number in range(30):
        board.take_alert({**ALERT, "alert_id": str(number), "message": "a long sentence " * 20})
    board.take_forecast(FORECAST)
    advice = {"recommendation_id": "r", "action": "ISSUE", "valid_until_us": 1, "message": "less " * 60}
    board.take_advice(advice, 0)
    screen = StringIO()
    Console(file=screen, width=80).print(render(board, 3.0, 60.0, height=24))
    lines = screen.getvalue().splitlines()
    assert len(lines) <= 23
    for words in (
        "http://127.0.0.1:1",
        "ALERT P2",
        "forecast F07_mw",
        "ISSUE: less",
        "stages p50/p99",
        "end to end",
    ):
        assert any(words in line for line in lines), words


def test_the_demo_writes_a_site_file_that_is_accepted() -> None:
    config = site("127.0.0.1:9", ["capture"])
    assert parse_site(site_toml(config)) == config


def test_every_capture_of_the_script_lies_in_this_clone() -> None:
    assert sorted(captures().values()) == sorted(CAPTURES.values())


def test_an_alert_belongs_to_the_event_that_it_begins_with() -> None:
    fleet = Fleet(FleetSettings(events=events()[:2], start_ns=1_700_000_000_000_000_000))
    late = {**ALERT, "alert_id": "a2", "onset_ts_us": ALERT["onset_ts_us"] + 9_000_000}  # type: ignore[operator]
    trip, drop = compare(fleet.truths(), [late, ALERT], 1_700_000_060_000_000_000)
    assert trip.alert == ALERT
    assert trip.onset_error_s == pytest.approx(0.0, abs=1e-6)
    assert drop == Found(drop.truth, None)
    assert "no alert" in drop.line()
    assert compare(fleet.truths(), [], 1_700_000_001_000_000_000) == []


def running(directory: Path, *options: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "streamproc", "demo", *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def worker_pids(directory: Path) -> list[int]:
    """Return the processes whose command line names the site file of this demo."""
    mark = str(directory / ".cache").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.alone
@pytest.mark.slow
def test_within_half_a_minute_a_visitor_has_seen_everything(tmp_path: Path) -> None:
    demo = running(tmp_path, "--seconds", "30")
    told, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, told
    assert "in-memory development broker" in told
    assert "metrics: http://127.0.0.1:" in told
    assert "true event: generator trip at STATION 11: alerted" in told
    assert "forecast F07_mw in MW" in told
    assert "recommendation ISSUE: Advice only" in told or "recommendation UPDATE: Advice only" in told
    assert ", 0 dead letters" in told
    assert [path.name for path in tmp_path.iterdir()] == [".cache"]
    assert worker_pids(tmp_path) == []


@pytest.mark.alone
@pytest.mark.slow
def test_ctrl_c_ends_all_of_it_in_under_three_seconds(tmp_path: Path) -> None:
    demo = running(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "end to end" in line:
            break
    workers = worker_pids(tmp_path)
    begin_s = time.monotonic()
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=20)
    assert len(workers) == 1
    assert time.monotonic() - begin_s < 3.0
    assert demo.returncode == 0, rest
    assert "summary:" in rest
    assert worker_pids(tmp_path) == []


@pytest.mark.alone
@pytest.mark.slow
def test_a_demo_that_shows_too_little_in_its_time_says_what_is_missing(tmp_path: Path) -> None:
    demo = running(tmp_path, "--seconds", "5")
    told, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "within 5 s no alert of a true event" in told

"""Protects the metrics: valid for Prometheus' own linter, bounded in labels, vectorised, and complete."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest

from streamproc.shell.clock import ManualClock
from streamproc.shell.metrics import LABEL_VALUES_MAX, Metrics, Stopwatch
from streamproc.shell.series import COUNTERS, GAUGES, STAGES
from streamproc.values import Step


def lines(metrics: Metrics) -> list[str]:
    return metrics.expose().decode().splitlines()


def full() -> Metrics:
    """Every series with at least one value."""
    metrics = Metrics(ManualClock(10_000_000_000))
    for word, series in COUNTERS.items():
        metrics.count(word, "/".join("a" for _ in series.labels))
    for word in GAUGES:
        metrics.gauge(word, "a", 0.5)
    metrics.gauge("event_time_s", "north", 7.5)
    for stage in STAGES:
        metrics.observe_stage(stage, 0.003)
    metrics.set_lag("grid.pmu.frames.v1", 0, 12)
    metrics.set_model("anomaly/north", "0" * 64)
    return metrics


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install --no-install-recommends prometheus"
    done = subprocess.run(
        [promtool, "check", "metrics"], input=full().expose(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    assert not done.stdout


def test_a_step_becomes_counters_gauges_and_histograms() -> None:
    metrics = Metrics()
    counts = Counter({("frames", "north"): 40, ("alerts", "rocof/2"): 1, ("rejected", "bad_crc"): 3})
    delays_s = {"align_wait": np.array([0.0005, 0.001, 0.0011, 70.0, np.nan])}
    metrics.apply(Step(None, counts=counts, delays_s=delays_s, gauges={("pmus", "north"): 40.0}))
    text = lines(metrics)
    assert 'streamproc_frames_total{area="north"} 40.0' in text
    assert 'streamproc_alerts_total{kind="rocof",priority="2"} 1.0' in text
    assert 'streamproc_rejected_total{reason="bad_crc"} 3.0' in text
    assert 'streamproc_pmus{area="north"} 40.0' in text
    assert 'streamproc_stage_duration_seconds_bucket{le="0.001",stage="align_wait"} 2.0' in text
    assert 'streamproc_stage_duration_seconds_bucket{le="60.0",stage="align_wait"} 3.0' in text
    assert 'streamproc_stage_duration_seconds_count{stage="align_wait"} 4.0' in text


def test_the_stages_of_the_path_are_all_there_before_the_first_record() -> None:
    text = lines(Metrics())
    for stage in (
        "broker_to_worker",
        "decode",
        "align_wait",
        "window",
        "score",
        "decide",
        "publish",
        "end_to_end",
    ):
        assert f'streamproc_stage_duration_seconds_count{{stage="{stage}"}} 0.0' in text


def test_label_values_are_bounded_and_the_rest_is_counted_as_other() -> None:
    metrics = Metrics()
    for n in range(LABEL_VALUES_MAX + 50):
        metrics.count("frames", f"area-{n}")
    series = [line for line in lines(metrics) if line.startswith("streamproc_frames_total{")]
    assert len(series) == LABEL_VALUES_MAX + 1
    assert 'streamproc_frames_total{area="other"} 50.0' in series
    assert metrics.total("frames") == LABEL_VALUES_MAX + 50


def test_a_word_outside_the_tables_is_noted_not_published(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.count("bananas", "north", 3)
    metrics.gauge("bananas", "north", 3)
    metrics.observe_stage("lunch", 1.0)
    assert metrics.unlisted == {"bananas", "lunch"}
    assert "bananas" not in metrics.expose().decode()
    assert [r.message for r in caplog.records] == ["metric not in the tables"] * 2


def test_the_age_of_the_last_event_grows_while_nothing_comes() -> None:
    clock = ManualClock(1_000 * 1_000_000_000)
    metrics = Metrics(clock)
    metrics.gauge("event_time_s", "north", 999.0)
    assert 'streamproc_event_time_age_seconds{area="north"} 1.0' in lines(metrics)
    clock.advance(30)
    assert 'streamproc_event_time_age_seconds{area="north"} 31.0' in lines(metrics)
    assert 'streamproc_event_time_seconds{area="north"} 999.0' in lines(metrics)


def test_only_the_model_in_force_is_shown() -> None:
    metrics = Metrics()
    metrics.set_model("anomaly/north", "aa")
    metrics.set_model("anomaly/north", "bb")
    models = [line for line in lines(metrics) if line.startswith("streamproc_model_info{")]
    assert models == ['streamproc_model_info{digest="bb",slot="anomaly/north"} 1.0']


def test_a_partition_that_is_given_up_shows_no_lag() -> None:
    metrics = Metrics()
    metrics.set_lag("t", 3, 7)
    assert 'streamproc_consumer_lag_records{partition="3",topic="t"} 7.0' in lines(metrics)
    metrics.drop_lag("t", 3)
    metrics.drop_lag("t", 3)
    assert not [line for line in lines(metrics) if line.startswith("streamproc_consumer_lag_records{")]


def test_quantiles_are_those_of_the_observations_within_a_bucket() -> None:
    metrics = Metrics()
    assert math.isnan(metrics.stage_seconds.quantile_s("score", 0.5))
    metrics.observe_stage("score", np.concatenate((np.full(99, 0.0015), [4.0])))
    assert 0.001 <= metrics.stage_seconds.quantile_s("score", 0.5) <= 0.002
    assert 2.0 <= metrics.stage_seconds.quantile_s("score", 0.995) <= 5.0
    assert metrics.stage_seconds.count("score") == 100


def test_a_clock_of_another_machine_never_gives_a_negative_delay() -> None:
    metrics = Metrics()
    metrics.observe_stage("broker_to_worker", -0.004)
    assert 'streamproc_stage_duration_seconds_sum{stage="broker_to_worker"} 0.0' in lines(metrics)


def test_the_stopwatch_gives_each_lap_to_its_stage() -> None:
    clock, metrics = ManualClock(), Metrics()
    watch = Stopwatch(metrics, clock.monotonic_s)
    clock.advance(5.0)
    watch.start()
    clock.advance(0.25)
    watch.lap("decode")
    clock.advance(0.5)
    watch.lap("score")
    text = lines(metrics)
    assert 'streamproc_stage_duration_seconds_sum{stage="decode"} 0.25' in text
    assert 'streamproc_stage_duration_seconds_sum{stage="score"} 0.5' in text


def test_the_model_in_force_is_shown_once_per_slot() -> None:
    metrics = Metrics(ManualClock())
    metrics.gauge("model", "score/north|aaaa", 1.0)
    metrics.gauge("model", "score/north|bbbb", 1.0)
    text = metrics.expose().decode()
    assert 'streamproc_model_info{digest="bbbb",slot="score/north"} 1.0' in text
    assert "aaaa" not in text

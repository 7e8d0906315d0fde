"""Protects the acceptance on 80.9 minutes of real frequency: one event, one quality episode, no more.

The margins are those of the shipped detectors. `trained` fits a bundle on the first ten minutes, `generic`
uses the bundle of the package; both go through the real stages from a recording, as `streamproc score` does.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from streamproc.config import SiteConfig
from streamproc.shell.models import ModelSet, SessionScorer
from streamproc.shell.recording import read_recording
from streamproc.stages.decide import DecideStage
from streamproc.stages.score import ScoreStage
from streamproc.training.anomaly import fit_bundle, tap
from streamproc.values import TOPIC_ALERTS, TOPIC_CONFIG, TOPIC_FINDINGS, Record

RECORDING = Path(__file__).resolve().parents[1] / "data" / "gsf_openpdc_freq" / "freq_80min.csv.gz"
EVENT_S = 3198.5  # the spike to 59.842 Hz, as the publisher documents it
ZEROS_S = 145342 / 30  # the first of 308 frames of zeros
BATCH = 512


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(read_recording(RECORDING))


@pytest.fixture(scope="module")
def trained(records, tmp_path_factory) -> ModelSet:
    out = tmp_path_factory.mktemp("bundle")
    for name, content in fit_bundle(tap(SiteConfig(), records, 600.0), SessionScorer, "test").items():
        (out / name).write_bytes(content)
    return ModelSet.load(out)


def findings(records: list[Record], models: ModelSet) -> list[bytes]:
    stage = ScoreStage(SiteConfig(), models)
    state = stage.learn(stage.fresh(), [record for record in records if record.topic == TOPIC_CONFIG])
    frames = [record for record in records if record.topic != TOPIC_CONFIG]
    values = []
    for start in range(0, len(frames), BATCH):
        step = stage.step(state, frames[start : start + BATCH])
        state = step.state
        values += [output.value for output in step.outputs if output.topic == TOPIC_FINDINGS]
    return values


def alerts(values: list[bytes]) -> list[dict]:
    stage = DecideStage(SiteConfig())
    state = stage.fresh()
    out = []
    for start in range(0, len(values), BATCH):
        batch = [
            Record(TOPIC_FINDINGS, 0, start + number, 0, b"main", value)
            for number, value in enumerate(values[start : start + BATCH])
        ]
        step = stage.step(state, batch)
        state = step.state
        out += [orjson.loads(output.value) for output in step.outputs if output.topic == TOPIC_ALERTS]
    return out


@pytest.fixture(scope="module", params=["trained", "generic"])
def outcome(request, records):
    models = request.getfixturevalue("trained") if request.param == "trained" else ModelSet.load()
    values = findings(records, models)
    return [orjson.loads(value) for value in values], alerts(values)


def second(ts_us: int, records: list[Record]) -> float:
    first_us = min(record.ts_ms for record in records if record.topic != TOPIC_CONFIG) * 1000
    return (ts_us - first_us) / 1e6


def test_exactly_one_grid_event_with_its_onset_on_the_first_frame(outcome, records):
    _, transitions = outcome
    onsets = {a["alert_id"]: second(a["onset_ts_us"], records) for a in transitions if a["family"] == "grid"}
    assert list(onsets.values()) == [pytest.approx(EVENT_S, abs=1e-3)], onsets


def test_exactly_one_quality_episode_at_the_zeros(outcome, records):
    _, transitions = outcome
    onsets = {
        a["alert_id"]: second(a["onset_ts_us"], records) for a in transitions if a["family"] == "quality"
    }
    assert list(onsets.values()) == [pytest.approx(ZEROS_S, abs=0.05)], onsets


def test_nothing_else_is_said(outcome):
    _, transitions = outcome
    assert {a["family"] for a in transitions} == {"grid", "quality"}


def test_every_rule_that_raises_does_so_within_the_group_window_of_another(outcome):
    said, _ = outcome
    window_us = SiteConfig().decide.group_window_ms * 1000
    by_family = defaultdict(list)
    for finding in said:
        if finding["type"] == "raise":
            by_family[finding["family"]].append(finding["ts_us"])
    assert by_family["grid"]
    for times_us in by_family.values():
        gaps_us = [
            later - earlier for earlier, later in zip(sorted(times_us), sorted(times_us)[1:], strict=False)
        ]
        assert all(gap <= window_us for gap in gaps_us)

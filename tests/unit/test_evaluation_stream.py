"""Protects the evaluation of a long stream: no steps of its own making, right labels, every wrong raise counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_cases import RATE_HZ, alert, told, write_corpus

from streamproc.cli.evaluate import the_tools
from streamproc.cli.root import app
from streamproc.config import SiteConfig
from streamproc.core.quality import BAD_DATA, RECEIVED_AS_BAD, SUSPECT_DATA
from streamproc.errors import RecordingError
from streamproc.evaluation import noise, stream
from streamproc.evaluation.ambient import made_ambient
from streamproc.evaluation.corpus import read_corpus
from streamproc.evaluation.episodes import EPISODES, Episode, spoilt
from streamproc.evaluation.frames import START_NS
from streamproc.evaluation.noise import Signals
from streamproc.evaluation.seconds import (
    BAD,
    FAULT,
    MISSED,
    MISSED_EVENT,
    NORMAL,
    NOT_JUDGED,
    OTHER,
    SUPPLY,
    confusion_of,
    macro_f1,
    told_seconds,
    true_seconds,
)
from streamproc.evaluation.stream import Plan, looped, pieces, plan_stream
from streamproc.evaluation.stream_run import matched, one_stream


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return read_corpus(write_corpus(tmp_path_factory.mktemp("stream") / "hand.npz"))


def second_us(second: float) -> int:
    return START_NS // 1000 + round(second * 1e6)


def test_a_plan_keeps_its_distances_and_is_the_same_for_a_seed(corpus):
    plan = plan_stream(corpus, 90, 60, 1)
    assert plan == plan_stream(corpus, 90, 60, 1)
    assert plan != plan_stream(corpus, 90, 60, 2)
    assert len(plan.onsets) == 60
    assert np.diff([0, *plan.onsets, plan.n_row]).min() >= 45 * RATE_HZ
    assert {episode.kind for episode in plan.episodes} == set(EPISODES)


def test_more_events_than_fit_are_refused_with_the_time_they_need(corpus):
    with pytest.raises(RecordingError, match=r"hand\.npz: 60 events, 45 s apart, need 46 minutes, not 30"):
        plan_stream(corpus, 30, 60, 1)


def test_between_events_nothing_steps_and_angles_turn_as_the_frequencies_say(corpus, monkeypatch):
    monkeypatch.setitem(noise.TIERS, "T0", (0.0, 0.0, 0.0))
    monkeypatch.setattr(stream, "WANDER_PU", 0.0)
    plan = replace(plan_stream(corpus, 8, 5, 1), episodes=())
    made = list(pieces(corpus, made_ambient(RATE_HZ, 1), "T0", plan, 1))
    voltage, angle, frequency = (
        np.concatenate([getattr(piece, name) for piece in made])
        for name in ("voltage_pu", "angle_rad", "freq_hz")
    )
    assert voltage.shape == (plan.n_row, 4)
    step = np.diff(angle, axis=0) - 2 * np.pi * (frequency[1:] - 60.0) / RATE_HZ
    step -= 2 * np.pi * np.rint(step / (2 * np.pi))
    between = np.ones(plan.n_row, dtype=bool)
    for onset in plan.onsets:
        between[onset - 2 : onset + 10 * RATE_HZ] = False
    assert np.abs(step[between[1:]]).max() < 1e-3
    assert np.abs(np.diff(voltage, axis=0)[between[1:]]).max() < 1e-4
    rest = [onset - 2 * RATE_HZ for onset in plan.onsets]
    np.testing.assert_allclose(voltage[rest], np.tile(voltage[0], (5, 1)), atol=1e-6)


def test_the_ambient_goes_forwards_and_backwards_without_a_step():
    ambient = made_ambient(10.0, 1)
    path = looped(ambient, 70_000)
    assert path.size == 70_000
    assert np.abs(np.diff(path)).max() <= 1.2 * np.abs(np.diff(ambient.stretches[0])).max()


def test_episodes_spoil_their_own_rows_and_pmu_only():
    rng = np.random.default_rng(1)
    before = Signals.of(*(60 + rng.normal(size=(100, 3)) for _ in range(3)))
    episodes = (
        Episode("drop-out", 0, 110, 120),
        Episode("frozen", 1, 95, 130),
        Episode("gap", -1, 150, 160),
        Episode("invalid", 2, 170, 180),
    )
    held = {episodes[1]: np.array([1.0, 2.0, 3.0])}
    made = spoilt(before, episodes, 100, "T1", held, rng)
    assert np.isnan(made.freq_hz[10:20, 0]).all()
    assert (made.stat[10:20, 0] == 0x8000).all()
    assert (made.angle_rad[:30, 1] == 2.0).all()
    assert not made.sent[50:60].any()
    assert made.sent.sum() == 90
    assert (made.stat[70:80, 2] == 0x4000).all()
    same = np.ones((100, 3), dtype=bool)
    same[10:20, 0] = same[:30, 1] = same[70:80, 2] = False
    np.testing.assert_array_equal(made.voltage_pu[same], before.voltage_pu[same])


def test_true_seconds_are_those_of_the_events_and_of_the_data():
    episodes = (Episode("drop-out", 0, 12 * 30, 14 * 30), Episode("spike", 1, 40 * 30 + 3, 40 * 30 + 5))
    labels = true_seconds(60 * 30, 30.0, [(315, "fault", True), (50 * 30, "topology", False)], episodes)
    assert labels[9:16].tolist() == [NORMAL, FAULT, FAULT, MISSED_EVENT, MISSED_EVENT, FAULT, NORMAL]
    assert labels[39:42].tolist() == [NORMAL, BAD, NORMAL]
    assert (labels[50:55] == NOT_JUDGED).all()


def test_told_seconds_are_read_from_the_alerts():
    grid = alert(100, "g", onset_ts_us=second_us(3.2))
    named = alert(130, "g", seq=2, told=told("supply_lost"), onset_ts_us=second_us(3.2))
    late = alert(200, "g", seq=3, told=told("fault"), onset_ts_us=second_us(3.2))
    absent = {"family": "quality", "kind": "data_bad", "rules": ("data_bad",), "onset_ts_us": second_us(20.0)}
    flags = BAD_DATA | RECEIVED_AS_BAD
    missing = alert(610, "q", quality_flags=flags, cleared_ts_us=second_us(22.0), **absent)
    wrong = alert(900, "w", quality_flags=flags | SUSPECT_DATA, **(absent | {"onset_ts_us": second_us(28.0)}))
    other = alert(750, "o", onset_ts_us=second_us(25.0))
    labels = told_seconds(30 * 30, 30.0, [grid, named, late, missing, other, wrong])
    assert labels[2:9].tolist() == [NORMAL, *[SUPPLY] * 5, NORMAL]
    assert labels[19:23].tolist() == [NORMAL, MISSED, MISSED, NORMAL]
    assert labels[25:30].tolist() == [OTHER] * 5


def test_macro_f1_is_over_the_labels_that_occur():
    counts = confusion_of(np.array([0, 0, 0, 1, 5, NOT_JUDGED]), np.array([0, 0, 7, 1, 0, 3]))
    mean, each = macro_f1(counts)
    assert each == pytest.approx({"normal": 2 / 3, "fault": 1.0, "missing": 0.0})
    assert mean == pytest.approx(5 / 9)


def test_every_raise_that_is_no_events_is_false(corpus):
    plan = Plan(9000, (0, 4), (3000, 6000), ())
    alerts = [
        alert(500, "early"),
        alert(3001, "found"),
        alert(3090, "found", seq=2),
        alert(3200, "second"),
        alert(6010, "unseen"),
        alert(8000, "after"),
    ]
    outcomes, false = matched(corpus, plan, ["fault"] * 5, alerts)
    assert outcomes[0].delay_s == pytest.approx(1 / 30)
    assert [wrong.alert_id for wrong in false] == ["early", "second", "after"]


def test_a_stream_is_scored_by_event_and_by_second(corpus):
    table = one_stream(corpus, made_ambient(RATE_HZ, 1), "T1", 4.0, 2, 1, None, the_tools(), SiteConfig())
    assert table.minutes == 4.0
    assert sum(map(sum, table.confusion)) + 5 * sum(not o.visible for o in table.outcomes) == 240
    assert table.parameters > 100
    assert table.score == pytest.approx(table.seconds_macro_f1 - 0.03 * np.log10(table.parameters))


def test_the_command_prints_a_line_per_stream(corpus, capsys):
    words = [
        "evaluate",
        "stream",
        corpus.path,
        "--generic",
        "--minutes",
        "3",
        "--events",
        "1",
        "--noise",
        "T1",
    ]
    with pytest.raises(SystemExit) as end:
        app([*words, "--jobs", "1"])
    assert not end.value.code
    said = capsys.readouterr().out
    assert "macro-F1 by second" in said
    assert "hand    T1" in said
    assert "the stream is our own simulation" in said

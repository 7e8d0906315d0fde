"""Protects the figures of the evaluation: each against a value worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_cases import FRAMES, ONSET_ROW, RATE_HZ, alert, five, steady, told, write_corpus

from streamproc.core.disturbance import Estimate
from streamproc.errors import RecordingError
from streamproc.evaluation.ambient import recorded_ambient, resampled
from streamproc.evaluation.corpus import Corpus, read_corpus
from streamproc.evaluation.match import Outcome, Said, alarmed_rows, false_in_ambient, outcome_of
from streamproc.evaluation.metrics import (
    detection,
    f1_of,
    false_alarms,
    kinds,
    nadir,
    poisson_bound,
    reliability,
    share_bound,
    size,
    spread,
    where,
)
from streamproc.evaluation.run import Run, Setting, Task, lead_rows, row_of
from streamproc.evaluation.truth import plant_threshold_hz, truths_of

LEAD = lead_rows(RATE_HZ)
ONSET = LEAD + ONSET_ROW


# Metrics


def outcome(**changes) -> Outcome:
    fields = {
        "number": 0,
        "name": "c #0 gen",
        "k": "gen",
        "kind": "supply_lost",
        "dv": 0.1,
        "df": 0.1,
        "mw": None,
        "visible": True,
        "found": True,
        "delay_frames": 0,
        "delay_s": 0.0,
        "late_s": None,
        "open_s": None,
        "false_before": 0,
        "false_second": 0,
        "said": (Said(), Said(), Said()),
        "near": "EAST",
        "near_by": "corpus",
        "place": (),
        "rank": None,
        "nadir_hz": None,
        "nadir_told_hz": None,
        "size_told_mw": None,
        "rule": "",
        "quality": {},
    }
    return Outcome(**(fields | changes))


def test_the_poisson_bound_is_the_exact_one():
    assert poisson_bound(0) == pytest.approx(2.9957, abs=1e-4)  # -ln 0.05
    assert poisson_bound(1) == pytest.approx(4.7439, abs=1e-4)
    assert poisson_bound(5) == pytest.approx(10.513, abs=1e-3)


def test_the_bound_of_a_share_is_the_exact_one():
    assert share_bound(46, 46) == pytest.approx(0.05 ** (1 / 46))
    assert share_bound(0, 9) == 0.0
    assert share_bound(8, 10) == pytest.approx(0.4931, abs=1e-4)


def test_false_alarms_are_told_per_day_and_per_hundred_pmus():
    told_rate = false_alarms(1, 1800.0, 1800.0 * 24)
    assert told_rate.minutes == 30.0
    assert told_rate.per_day == pytest.approx(48.0)
    assert told_rate.per_day_100_pmus == pytest.approx(200.0)
    assert told_rate.per_day_bound == pytest.approx(48 * 4.7439, rel=1e-4)


def test_precision_counts_every_false_alarm_and_recall_only_what_can_be_seen():
    outcomes = [
        *[outcome() for _ in range(6)],
        outcome(found=False, delay_frames=None, delay_s=None),
        outcome(found=False, delay_frames=None, delay_s=None, late_s=7.0),
        outcome(found=False, visible=False, delay_frames=None, delay_s=None, false_before=1),
        outcome(visible=False),
        outcome(false_second=1),
    ]
    figures = detection(outcomes, false_ambient=1)
    assert (figures.events, figures.found, figures.unseen, figures.late) == (9, 7, 2, 1)
    assert figures.precision == pytest.approx(7 / 10)
    assert figures.recall == pytest.approx(7 / 9)
    assert figures.f1 == pytest.approx(2 * 0.7 * (7 / 9) / (0.7 + 7 / 9))


def test_of_nothing_there_is_no_figure():
    assert math.isnan(detection([], 0).recall)
    assert math.isnan(f1_of(0, 0, 0))
    assert math.isnan(spread([])[0])
    assert math.isnan(where([]).top1)


def test_percentiles_are_values_that_occurred():
    assert spread(range(1, 101)) == (50.0, 95.0, 100.0)
    assert spread([3.0, None, 1.0]) == (1.0, 3.0, 3.0)


def test_kinds_are_averaged_over_those_that_occur_and_unknown_is_a_miss():
    pairs = [
        ("fault", "fault"),
        ("fault", "fault"),
        ("topology", "fault"),
        ("topology", "unknown"),
        ("supply_lost", "supply_lost"),
    ]
    outcomes = [outcome(kind=truth, said=(Said(), Said(kind, 0.9), Said())) for truth, kind in pairs]
    figures = kinds(outcomes, 1)
    # fault: 2 right, 1 wrong: 0.8; topology: 0; supply lost: 1
    assert figures.f1 == pytest.approx({"fault": 0.8, "topology": 0.0, "supply_lost": 1.0})
    assert figures.macro_f1 == pytest.approx(0.6)
    assert figures.accuracy == pytest.approx(3 / 5)
    assert figures.committed == pytest.approx(4 / 5)
    assert figures.accuracy_committed == pytest.approx(3 / 4)
    assert figures.confusion["topology"] == {"fault": 1, "unknown": 1}


def test_an_event_that_is_not_found_is_in_no_place():
    outcomes = [
        outcome(rank=1),
        outcome(rank=3),
        outcome(rank=4),
        outcome(found=False),
        outcome(visible=False),
    ]
    figures = where(outcomes)
    assert (figures.events, figures.top1, figures.top3) == (4, 0.25, 0.5)


def test_confidence_is_compared_with_how_often_it_is_right():
    said = [("supply_lost", 0.95), ("supply_lost", 0.9), ("fault", 0.85), ("fault", 1.0), ("unknown", 0.3)]
    outcomes = [outcome(said=(Said(), Said(kind, share), Said())) for kind, share in said]
    bins = reliability(outcomes, 1)
    assert [b.events for b in bins] == [0, 0, 0, 0, 4]
    assert bins[-1].confidence == pytest.approx(0.925)
    assert bins[-1].right == 0.5


def test_the_turning_point_and_the_size_are_judged_with_their_bands():
    outcomes = [
        outcome(
            nadir_hz=59.80, nadir_told_hz=(59.81, 59.79, 59.83), mw=100.0, size_told_mw=(-90.0, -120.0, -80.0)
        ),
        outcome(
            nadir_hz=59.80, nadir_told_hz=(59.75, 59.74, 59.76), mw=100.0, size_told_mw=(50.0, 40.0, 60.0)
        ),
        outcome(),
    ]
    assert (nadir(outcomes).events, nadir(outcomes).covered) == (2, 0.5)
    assert nadir(outcomes).error_p50 == pytest.approx(10.0)
    assert nadir(outcomes).error_p90 == pytest.approx(50.0)
    assert (size(outcomes).events, size(outcomes).covered) == (2, 0.5)
    assert size(outcomes).error_p50 == pytest.approx(0.1)


# Matching


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return read_corpus(write_corpus(tmp_path_factory.mktemp("corpus") / "hand.npz"))


def answered(corpus: Corpus, *alerts, number: int = 1) -> Outcome:
    n_row = LEAD + FRAMES
    rows = tuple(row_of(a.ts_us, RATE_HZ) for a in alerts)
    task = Task(Setting(0, "T1"), number)
    run = Run(task, alerts, rows, LEAD, n_row, np.zeros(n_row), 0)
    return outcome_of(corpus, truths_of(corpus)[number], run)


@pytest.mark.parametrize(
    ("row", "found", "delay", "late", "before"),
    [
        (ONSET - 1, False, None, None, 1),
        (ONSET, True, 0, None, 0),
        (ONSET + 1, True, 1, None, 0),
        (ONSET + 150, True, 150, None, 0),
        (ONSET + 151, False, None, 151 / 30, 0),
        (ONSET + 301, False, None, None, 0),
    ],
)
def test_an_event_is_found_from_its_first_frame_to_five_seconds_later(
    corpus, row, found, delay, late, before
):
    got = answered(corpus, alert(row))
    assert (got.found, got.delay_frames, got.false_before) == (found, delay, before)
    assert got.late_s == (None if late is None else pytest.approx(late))


def test_a_second_alert_within_ten_seconds_is_false_but_a_record_of_the_first_is_not(corpus):
    got = answered(
        corpus, alert(ONSET), alert(ONSET + 30, seq=2), alert(ONSET + 60, "b"), alert(ONSET + 310, "c")
    )
    assert (got.found, got.false_second) == (True, 1)


def test_what_is_said_of_the_data_finds_nothing(corpus):
    got = answered(corpus, alert(ONSET, family="quality", kind="data_missing"))
    assert not got.found
    assert got.quality == {"data_missing": 1}


def test_an_event_that_nobody_can_see_is_neither_a_miss_nor_a_false_alarm(corpus):
    got = answered(corpus, alert(ONSET), alert(ONSET + 30, "b"), number=4)
    assert not got.visible
    assert got.false_second == 0
    assert answered(corpus, alert(ONSET - 5), number=4).false_before == 1


def test_a_raise_that_an_open_alert_takes_in_is_a_miss_that_says_so(corpus):
    got = answered(corpus, alert(ONSET - 60), alert(ONSET + 3, seq=2))
    assert not got.found
    assert got.open_s == pytest.approx(2.0)


def test_the_kind_is_the_newest_by_an_age(corpus):
    got = answered(
        corpus,
        alert(ONSET + 2),
        alert(ONSET + 15, seq=2, told=told("topology")),
        alert(ONSET + 30, seq=3, told=told("supply_lost", 0.8, place=("EAST", "WEST"))),
        alert(ONSET + 61, seq=4, told=told("fault")),
    )
    assert [said.kind for said in got.said] == ["topology", "supply_lost", "supply_lost"]
    assert (got.place, got.near, got.rank) == (("EAST", "WEST"), "WEST", 2)


def test_without_a_description_the_kind_is_unknown_and_the_place_who_saw_it(corpus):
    got = answered(corpus, alert(ONSET, sources=("SOUTH", "WEST")))
    assert [said.kind for said in got.said] == ["unknown"] * 3
    assert got.rank == 2


def test_estimates_are_read_as_told_at_one_second(corpus):
    nadir_hz = Estimate(value=59.7, low=59.6, high=59.8)
    size_mw = Estimate(value=790.0, low=700.0, high=900.0)
    got = answered(corpus, alert(ONSET + 30, told=told("supply_lost", nadir_hz=nadir_hz, size_mw=size_mw)))
    assert got.nadir_told_hz == (59.7, 59.6, 59.8)
    assert got.size_told_mw == (790.0, 700.0, 900.0)
    assert got.nadir_hz == pytest.approx(59.7, abs=0.01)


def quiet_run(*alerts) -> Run:
    rows = tuple(row_of(a.ts_us, RATE_HZ) for a in alerts)
    return Run(Task(Setting(0, "T1"), -1), alerts, rows, LEAD, LEAD + 900, np.zeros(LEAD + 900), 0)


def test_in_event_free_data_what_follows_the_lead_is_false():
    run = quiet_run(
        alert(LEAD - 90, "over"),
        alert(LEAD - 30, "over", seq=2, state="RTNUN"),
        alert(LEAD, "b"),
        alert(LEAD + 5, "b", seq=2),
        alert(LEAD + 95, "b", seq=3, state="RTNUN"),
    )
    assert [row for row, _ in false_in_ambient(run)] == [LEAD]
    assert alarmed_rows(run) == 95


def test_an_alarm_that_stands_since_the_lead_is_false_too():
    run = quiet_run(alert(LEAD - 90, "stands"), alert(LEAD + 450, "stands", seq=2))
    assert [row for row, _ in false_in_ambient(run)] == [LEAD - 90]
    assert alarmed_rows(run) == 900


# Truth


def test_a_line_that_carried_a_plant_is_a_loss_of_supply(tmp_path):
    x = np.stack([steady(), steady(), steady(), steady()])
    for number, settled_hz in enumerate((-0.2, -0.18, -0.009, 0.012)):
        x[number, 200:, :, 2] += settled_hz
    events = [{"k": k, "t": 5.0, "dv": 0.1, "df": 0.1} for k in ("gen", "gen", "line", "line")]
    corpus = read_corpus(write_corpus(tmp_path / "c.npz", x, events))
    assert plant_threshold_hz(corpus.events, np.array([-0.2, -0.18, -0.009, 0.012])) == pytest.approx(0.0095)
    assert [truth.kind for truth in truths_of(corpus)] == [
        "supply_lost",
        "supply_lost",
        "topology",
        "load_lost",
    ]


def test_what_the_corpus_says_of_the_kind_stands_above_the_rule(tmp_path):
    x, events = five()
    events[3]["phys"] = "islanding"
    corpus = read_corpus(write_corpus(tmp_path / "c.npz", x, events))
    assert truths_of(corpus)[3].kind == "islanding"


# Ambient


def recording(rate_hz: float = 30.0, seconds: float = 1500.0):
    rng = np.random.default_rng(4)
    t_ns = np.rint(np.arange(round(seconds * rate_hz)) * 1e9 / rate_hz).astype(np.int64)
    return t_ns, 60.0 + 0.01 * rng.normal(size=t_ns.size)


def test_the_first_half_calibrates_and_the_second_half_tests():
    t_ns, freq_hz = recording()
    ambient = recorded_ambient("r", t_ns, freq_hz, 60.0)
    assert ambient.calibrate_hz.size == 18000
    np.testing.assert_allclose(ambient.calibrate_hz, freq_hz[:18000] - 60.0)
    assert ambient.test_s == pytest.approx(750.0, abs=0.1)
    np.testing.assert_allclose(ambient.stretches[0], freq_hz[22500:] - 60.0, atol=1e-12)


def test_a_known_disturbance_and_zeros_are_left_out():
    t_ns, freq_hz = recording()
    freq_hz[-900:] = 0.0
    ambient = recorded_ambient("r", t_ns, freq_hz, 60.0, [1000.0])
    assert [round(part.size / 30.0) for part in ambient.stretches] == [220, 440]
    assert all(np.abs(part).max() < 1.0 for part in ambient.stretches)
    assert "1000 s" in ambient.notes[1]


def test_gaps_and_times_that_go_back_end_a_stretch_and_are_told():
    t_ns, freq_hz = recording()
    t_ns[30000:] += 5_000_000_000
    t_ns[36000:] -= 1_000_000_000
    ambient = recorded_ambient("r", t_ns, freq_hz, 60.0)
    assert len(ambient.stretches) == 3
    assert ambient.notes[1:] == ("its time goes back or stands still 1 times", "it has 1 gaps")


def test_a_recording_that_is_no_use_is_refused_by_name():
    t_ns, freq_hz = recording()
    with pytest.raises(
        RecordingError, match=r"^r: no 10 minutes without a gap in its first half of 5\.0 minutes"
    ):
        recorded_ambient("r", t_ns[:18000], freq_hz[:18000], 60.0)
    with pytest.raises(RecordingError, match=r"^r: its rate changes"):
        recorded_ambient("r", np.cumsum(np.tile([30_000_000, 50_000_000], 20000)), freq_hz[:40000], 60.0)
    with pytest.raises(RecordingError, match=r"^r: the times of its frames do not ascend"):
        recorded_ambient("r", t_ns[:100] * 0, freq_hz[:100], 60.0)


@pytest.mark.parametrize("wanted_hz", [25.0, 50.0, 60.0])
def test_another_rate_keeps_what_the_frequency_does(wanted_hz):
    t = np.arange(3000) / 30.0
    made = resampled(np.sin(2 * np.pi * 0.5 * t), 30.0, wanted_hz)
    at = np.arange(made.size) / wanted_hz
    inside = (at > 5) & (at < 95)
    np.testing.assert_allclose(made[inside], np.sin(2 * np.pi * 0.5 * at)[inside], atol=5e-3)

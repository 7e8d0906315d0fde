"""Protects the evaluation of events: right answers on a corpus made by hand, and no way to look better than it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import FRAMES, RATE_HZ, STATIONS, five, steady, write_corpus

from streamproc.cli.evaluate import the_tools
from streamproc.config import SiteConfig
from streamproc.core.c37118 import Book, decode
from streamproc.evaluation import run
from streamproc.evaluation import site as site_module
from streamproc.evaluation.ambient import Ambient, made_ambient
from streamproc.evaluation.corpus import read_corpus
from streamproc.evaluation.evaluate import Watch, Wish, evaluate_events
from streamproc.evaluation.frames import BASE_V, Stream
from streamproc.evaluation.impair import IMPAIRMENTS
from streamproc.evaluation.noise import TIERS, Signals, moved, noisy
from streamproc.evaluation.page import page
from streamproc.evaluation.run import LEAD_S, event_signals, lead_rows
from streamproc.evaluation.table import pooled
from streamproc.evaluation.text import miss_rows, report_lines
from streamproc.shell.evaluated import read_ambient
from streamproc.shell.models import ModelSet
from streamproc.values import TOPIC_FRAMES

DATA = Path(__file__).resolve().parents[1] / "data"


def short_ambient(rate_hz: float = RATE_HZ) -> Ambient:
    """Ten minutes to calibrate and two to test on."""
    made = made_ambient(rate_hz, 5)
    cut = round(120 * rate_hz)
    return Ambient(made.name, rate_hz, made.calibrate_hz, (made.stretches[0][:cut],), made.notes)


def tables_of(path, room, wish=None, site=None):
    wish = wish or Wish(("T1",), (), (), generic=True)
    return evaluate_events(
        [read_corpus(path)], short_ambient(), wish, the_tools(), site or SiteConfig(), room, Watch()
    )


def all_off() -> SiteConfig:
    """A site whose detectors are all switched off."""
    rules = ModelSet.load(None).for_area("corpus", STATIONS, 30.0, 60.0).rules
    return SiteConfig(detector={rule.name: {"enabled": False} for rule in rules})


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """The corpus made by hand, through the path with the generic bundle."""
    room = tmp_path_factory.mktemp("generic")
    path = write_corpus(room / "hand.npz")
    (table,) = tables_of(path, room)
    return path, table


def test_what_is_known_by_construction_is_found_on_its_first_frame(by_hand):
    _, table = by_hand
    fault, gen, load, line, unseen = table.outcomes
    assert (fault.found, fault.delay_frames) == (True, 0)
    assert (line.found, line.delay_frames) == (True, 0)
    assert gen.found
    assert load.found
    assert not unseen.visible
    assert (table.detection.events, table.detection.unseen, table.detection.found) == (4, 1, 4)
    assert table.detection.false_before == 0
    assert table.detection.recall == 1.0


def test_the_truth_follows_from_the_corpus(by_hand):
    _, table = by_hand
    assert [o.kind for o in table.outcomes] == ["fault", "supply_lost", "load_lost", "topology", "topology"]
    assert [o.near for o in table.outcomes[:4]] == ["EAST", "WEST", "SOUTH", "SOUTH"]
    assert [o.near_by for o in table.outcomes[:4]] == ["response", "corpus", "corpus", "response"]
    gen = table.outcomes[1]
    assert gen.mw == 800.0
    assert gen.nadir_hz == pytest.approx(59.7, abs=0.05)


def test_event_free_data_are_judged_but_for_their_lead(by_hand):
    _, table = by_hand
    assert table.false_alarms.minutes == pytest.approx((120 - LEAD_S) / 60, abs=0.01)
    assert table.false_alarms.pmu_days == pytest.approx(4 * (120 - LEAD_S) / 86400, abs=1e-6)


def test_a_detector_that_is_switched_off_makes_recall_fall(by_hand, tmp_path):
    path, _ = by_hand
    (table,) = tables_of(path, tmp_path, site=all_off())
    assert (table.detection.found, table.detection.recall, table.detection.f1) == (0, 0.0, 0.0)
    assert {row[1] for row in miss_rows(table)} == {"missed"}
    assert len(miss_rows(table)) == 4


def test_a_calibrated_site_finds_the_same_events_whatever_the_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(site_module, "CALIBRATE_S", 100.0)
    path = write_corpus(tmp_path / "hand.npz")
    wishes = [Wish(("T1",), ("missing20",), ("T1",), seed=3, jobs=jobs, ambient_s=30.0) for jobs in (1, 2)]
    rooms = [tmp_path / name for name in ("one", "two")]
    one, two = (tables_of(path, room, wish) for room, wish in zip(rooms, wishes, strict=True))
    assert one == two
    clean, missing = one
    assert clean.detection.recall == 1.0
    assert clean.detection.false_before == clean.detection.false_second == 0
    assert missing.impair == "missing20"


@pytest.mark.parametrize("generic", [False, True])
def test_disturbances_of_a_simulated_grid_are_found_on_real_ambient_frequency(generic, tmp_path):
    corpus = read_corpus(DATA / "andes39_events" / "events_12.npz")
    ambient = read_ambient(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz")
    wish = Wish(("T2",), (), (), seed=3, ambient_s=300.0, generic=generic)
    (table,) = evaluate_events([corpus], ambient, wish, the_tools(), SiteConfig(), tmp_path, Watch())
    assert (table.detection.events, table.detection.unseen) == (11, 1)
    assert table.detection.found == 11, miss_rows(table)
    assert table.detection.precision == 1.0
    assert table.detection.delay_s[1] <= 0.1
    assert table.where.top3 >= 0.8


def test_an_event_that_does_nothing_is_not_found(tmp_path):
    x, events = five()
    x[:] = x[:, :1]
    path = write_corpus(tmp_path / "still.npz", x, events)
    (table,) = tables_of(path, tmp_path)
    assert (table.detection.events, table.detection.found) == (4, 0)
    assert table.detection.false_before == 0


def test_another_seed_is_another_noise(by_hand, tmp_path):
    path, table = by_hand
    same, other = (
        tables_of(path, tmp_path, Wish(("T1",), (), (), generic=True, seed=seed))[0] for seed in (1, 2)
    )
    assert same == table
    assert [o.nadir_hz for o in other.outcomes] != [o.nadir_hz for o in table.outcomes]


def test_a_limit_runs_so_many_events_drawn_at_random(by_hand, tmp_path):
    path, _ = by_hand
    (table,) = tables_of(path, tmp_path, Wish(("T1",), (), (), generic=True, limit=2))
    assert len(table.outcomes) == 2


def test_the_report_names_what_was_missed_with_its_size(by_hand, tmp_path):
    path, _ = by_hand
    (table,) = tables_of(path, tmp_path, site=all_off())
    text = "\n".join(report_lines([table], ["a note"]))
    assert "note: a note" in text
    assert "hand #1 gen G1" in text
    assert "800" in text
    html = page([table], ["<b>"])
    assert "hand #3 line Line 1" in html
    assert "&lt;b&gt;" in html
    assert "http" not in html
    assert "<script" not in html
    assert "<svg" in html


def test_several_corpora_have_a_line_together(by_hand):
    _, table = by_hand
    assert pooled([table]) == []
    (both,) = pooled([table, table])
    assert both.detection.events == 2 * table.detection.events
    assert both.detection.recall == table.detection.recall
    assert both.false_alarms.pmu_days == pytest.approx(2 * table.false_alarms.pmu_days)


# Frames


@pytest.mark.parametrize(("rate_hz", "nominal_hz"), [(25, 50.0), (50, 50.0), (60, 60.0), (10, 50.0)])
def test_frames_carry_what_went_in_at_any_rate(rate_hz, nominal_hz):
    rng = np.random.default_rng(1)
    n, p = 3 * rate_hz, 5
    signals = Signals.of(
        1 + 0.1 * rng.normal(size=(n, p)), rng.uniform(-3, 3, (n, p)), nominal_hz + rng.normal(size=(n, p))
    )
    stream = Stream.of(tuple(f"S{i}" for i in range(p)), rate_hz, nominal_hz)
    records = [record for record in stream.records(signals) if record.topic == TOPIC_FRAMES]
    (batch,) = decode(Book(), [record.value for record in records]).batches
    assert batch.layouts[0].rate_hz == rate_hz
    assert set(batch.layouts[0].nominal_hz) == {nominal_hz}
    np.testing.assert_allclose(batch.freq_hz, signals.freq_hz, rtol=1e-6)
    np.testing.assert_allclose(np.abs(batch.phasor), np.abs(signals.voltage_pu) * BASE_V, rtol=1e-5)
    turn = np.angle(batch.phasor * np.exp(-1j * signals.angle_rad) * np.sign(signals.voltage_pu))
    assert np.abs(turn).max() < 1e-5
    assert np.ptp(np.diff(batch.t_ns)) <= 1000


def test_the_lead_is_the_events_own_steady_state(tmp_path):
    x = steady(nominal_hz=60.02)
    x[..., 1] += (2 * np.pi * 0.02 / RATE_HZ * np.arange(FRAMES))[:, None]
    events = [{"k": "fault", "t": 5.0, "dv": 0.1, "df": 0.1}]
    corpus = read_corpus(write_corpus(tmp_path / "c.npz", x[None], events))
    signals = event_signals(corpus, 0)
    step = np.diff(signals.angle_rad, axis=0) - 2 * np.pi * (signals.freq_hz[1:] - 60.0) / RATE_HZ
    assert np.abs(step).max() < 1e-5
    assert signals.freq_hz.shape[0] == lead_rows(RATE_HZ) + 150 + 11 * RATE_HZ


def test_noise_has_the_standard_deviations_of_its_tier():
    rest = Signals.of(np.ones((6000, 4)), np.zeros((6000, 4)), np.full((6000, 4), 60.0))
    made = noisy(rest, "T2", 30.0, np.random.default_rng(1))
    sd_pu, sd_hz, sd_deg = TIERS["T2"]
    assert np.diff(made.voltage_pu, axis=0).std() / np.sqrt(2) == pytest.approx(sd_pu, rel=0.05)
    assert made.freq_hz.std() == pytest.approx(sd_hz, rel=0.05)
    assert np.degrees(made.angle_rad.std()) == pytest.approx(sd_deg, rel=0.05)


def test_a_common_frequency_turns_all_angles_by_its_integral():
    rest = Signals.of(np.ones((90, 2)), np.zeros((90, 2)), np.full((90, 2), 50.0))
    made = moved(rest, np.full(90, 0.05), 30.0)
    assert made.angle_rad[-1] == pytest.approx(2 * np.pi * 0.05 * 3.0)
    assert made.freq_hz == pytest.approx(50.05)


# Impairments


def clean(n_frame: int = 900, n_pmu: int = 6) -> Signals:
    rng = np.random.default_rng(2)
    shape = (n_frame, n_pmu)
    return Signals.of(1 + 1e-3 * rng.normal(size=shape), rng.normal(size=shape), 60 + rng.normal(size=shape))


@pytest.mark.parametrize(("name", "share"), [("missing5", 0.05), ("missing20", 0.2), ("missing50", 0.5)])
def test_the_said_share_of_frames_is_missing(name, share):
    made = IMPAIRMENTS[name](clean(), 30.0, np.random.default_rng(1))
    gone = np.isnan(made.freq_hz)
    assert gone.mean() == pytest.approx(share, abs=0.02)
    assert (made.stat[gone] == 0x8000).all()
    assert (made.stat[~gone] == 0).all()
    np.testing.assert_array_equal(made.sent, ~gone.all(axis=1))


def test_one_pmu_stands_still_and_the_others_do_not():
    before = clean()
    made = IMPAIRMENTS["stuck"](before, 30.0, np.random.default_rng(1))
    other = np.flatnonzero((made.freq_hz != before.freq_hz).any(axis=0))
    assert other.size == 1
    rows = np.flatnonzero(made.freq_hz[:, other[0]] != before.freq_hz[:, other[0]])
    for values in (made.freq_hz, made.voltage_pu, made.angle_rad):
        assert np.ptp(values[rows[0] :, other[0]]) == 0.0


def test_a_clock_that_drifts_and_jumps_moves_the_angles_of_one_pmu():
    before = clean()
    made = IMPAIRMENTS["drift"](before, 30.0, np.random.default_rng(1))
    moved_rad = made.angle_rad - before.angle_rad
    (pmu,) = np.flatnonzero(np.abs(moved_rad).max(axis=0))
    late_s = moved_rad[:, pmu] / (2 * np.pi * before.freq_hz[:, pmu])
    steps = np.diff(late_s)
    jump = int(np.argmax(np.abs(steps)))
    assert abs(steps[jump]) == pytest.approx(50e-6, rel=0.01)
    assert np.delete(steps, jump) == pytest.approx(50e-9 / 30.0)
    np.testing.assert_array_equal(made.freq_hz, before.freq_hz)


def test_spikes_are_single_frames_of_one_pmu():
    before = clean(n_frame=9000)
    made = IMPAIRMENTS["spikes"](before, 30.0, np.random.default_rng(1))
    hit = (
        (made.freq_hz != before.freq_hz)
        | (made.voltage_pu != before.voltage_pu)
        | (made.angle_rad != before.angle_rad)
    )
    assert np.flatnonzero(hit.any(axis=0)).size == 1
    assert 40 <= hit.sum() <= 80  # every 5 s of 300


def test_what_is_spoilt_does_not_change_the_noise_below_it(tmp_path, monkeypatch):
    path = write_corpus(tmp_path / "hand.npz")
    seen = []

    def remember(signals, rate_hz, rng):
        seen.append(signals)
        return signals

    monkeypatch.setitem(run.IMPAIRMENTS, "stuck", remember)
    monkeypatch.setitem(run.IMPAIRMENTS, "spikes", remember)
    tables_of(path, tmp_path, Wish(("T1",), ("stuck", "spikes"), ("T1",), generic=True, limit=1))
    assert len(seen) >= 2
    np.testing.assert_array_equal(seen[0].freq_hz, seen[len(seen) // 2].freq_hz)

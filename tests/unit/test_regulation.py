"""Protects the forecast of the regulation need: causal, honest, whatever is missing, and told on real frequency."""

from __future__ import annotations

import gzip
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from series_cases import typed

from streamproc.core import regulation
from streamproc.core.regulation import (
    MAXIMUM,
    MINIMUM,
    PRIOR_ERROR,
    PRIOR_WEIGHT,
    Minutes,
    Rules,
    State,
    forecast,
    fresh,
    imbalance_mw,
    update,
)
from streamproc.errors import RecordingError
from streamproc.evaluation.regulation import extremes, issued, judge, minutes_of, past_quantiles
from streamproc.evaluation.regulation_made import fitted_prior, made_minutes

RECORDING = Path(__file__).resolve().parents[1] / "data" / "gsf_openpdc_freq" / "freq_80min.csv.gz"
RULES = Rules()


def gappy(hours: float = 5.0, n_area: int = 3) -> Minutes:
    """Made minutes with unknown ones: single, in rows, and in one area a whole hour."""
    made = made_minutes(hours, n_area, 3)
    gone = np.random.default_rng(1).random(made.share.shape) < 0.03
    gone[100:160, 1] = True
    unknown = [np.where(gone, np.nan, values) for values in (made.low_hz, made.high_hz, made.mean_hz)]
    return Minutes(made.number, *unknown, np.where(gone, 0.0, made.share))


def one_area(minutes: Minutes, area: int) -> Minutes:
    rest = {f.name: getattr(minutes, f.name)[:, area : area + 1] for f in fields(minutes)[1:]}
    return Minutes(minutes.number, **rest)


def same(first: State, second: State, area: slice = slice(None)) -> None:
    for field in fields(first):
        left, right = getattr(first, field.name), getattr(second, field.name)
        if field.name == "number":
            assert left == right
        else:
            assert left[area].tobytes() == right.tobytes(), field.name


@pytest.mark.parametrize("cuts", [(1, 2, 3, 150), (17, 120, 121), tuple(range(1, 300))])
def test_any_split_of_the_minutes_gives_the_same_bytes(cuts: tuple[int, ...]) -> None:
    minutes = gappy()
    whole = update(fresh(RULES, 3), RULES, minutes)
    state = fresh(RULES, 3)
    for start, end in zip((0, *cuts), (*cuts, None), strict=True):
        state = update(state, RULES, minutes.part(slice(start, end)))
    same(whole, state)


def test_areas_do_not_see_each_other() -> None:
    minutes = gappy()
    whole = update(fresh(RULES, 3), RULES, minutes)
    for area in range(3):
        same(
            whole,
            update(fresh(RULES, 1), RULES, one_area(minutes, area)),
            slice(area, area + 1),
        )


def test_the_future_moves_no_forecast_that_was_issued() -> None:
    minutes = gappy()
    told = issued(minutes, RULES)[0]
    for cut in (20, 77, 200):
        shifted = [values.copy() for values in (minutes.low_hz, minutes.high_hz, minutes.mean_hz)]
        for values in shifted:
            values[cut:] += 1.0
        other = issued(Minutes(minutes.number, *shifted, minutes.share), RULES)[0]
        np.testing.assert_array_equal(told[:cut], other[:cut])
        assert not np.array_equal(told[cut:], other[cut:], equal_nan=True)


def test_an_error_enters_when_its_window_has_passed_and_not_before() -> None:
    minutes = made_minutes(1.0, 1, 2)
    state = fresh(RULES, 1)
    first = None
    for row in range(40):
        state = update(state, RULES, minutes.part(slice(row, row + 1)))
        if first is None and np.isfinite(forecast(state).quantile_hz).all():
            first = row
        if first is not None:
            learnt = state.square.any()
            assert learnt == (row >= first + RULES.horizon)
            assert np.array_equal(state.wanted, fresh(RULES, 1).wanted) != learnt
    assert first == 4  # a third of the last quarter of an hour


def test_the_live_coverage_is_the_share_of_ended_windows_whose_extreme_lay_inside() -> None:
    minutes = gappy(6.0)
    told, truth = issued(minutes, RULES)[0], extremes(minutes, RULES.horizon)
    coverage = forecast(update(fresh(RULES, 3), RULES, minutes)).coverage
    inside = (truth >= told[..., 0]) & (truth <= told[..., -1])
    known = np.isfinite(truth) & np.isfinite(told).all(axis=-1)
    for area in range(3):
        for side in (MINIMUM, MAXIMUM):
            hit = inside[known[:, area, side], area, side]
            weight = 0.5 ** (np.arange(hit.size)[::-1] / (24 * 60.0) / regulation.HELD_HALF_LIFE_DAYS)
            assert coverage[area, side] == pytest.approx((hit * weight).sum() / weight.sum())
    young = update(fresh(RULES, 3), RULES, minutes.part(slice(0, 30)))
    assert np.isnan(forecast(young).coverage).all()


def test_time_that_went_back_keeps_what_was_learnt_and_forgets_what_was_seen() -> None:
    minutes = made_minutes(3.0, 1, 5)
    state = update(fresh(RULES, 1), RULES, minutes)
    back = regulation.rewound(state, RULES)
    assert back.number == -1
    assert np.isnan(back.recent).all()
    assert np.isnan(forecast(back).quantile_hz).all()
    assert back.error is state.error
    assert np.isfinite(forecast(update(back, RULES, minutes.part(slice(0, 20)))).quantile_hz).all()


def test_the_digest_names_the_rules() -> None:
    assert regulation.digest(Rules()) == regulation.digest(Rules(15)) != regulation.digest(Rules(30))


def test_what_is_learnt_is_the_miss_of_the_forecast_that_was_told_for_this_window() -> None:
    minutes = made_minutes(2.0, 1, 4)
    told, truth = issued(minutes, RULES)[0], extremes(minutes, RULES.horizon)
    wanted = np.tile(np.array(regulation.LEVELS), (2, 1))
    for row in range(120 - RULES.horizon):
        if np.isfinite(told[row]).all():
            u = np.array([-truth[row, 0, MINIMUM], truth[row, 0, MAXIMUM]])
            of_u = np.stack([-told[row, 0, MINIMUM, ::-1], told[row, 0, MAXIMUM]])
            wanted += regulation.GAMMA * (np.array(regulation.LEVELS) - (u[:, None] <= of_u))
    state = update(fresh(RULES, 1), RULES, minutes)
    assert state.wanted[0] == pytest.approx(wanted, abs=1e-12)


def test_missing_minutes_are_the_same_as_numbers_that_leap() -> None:
    minutes = made_minutes(5.0, 2, 5)
    gone = np.zeros(300, bool)
    gone[[60, 61, 90]] = gone[150:250] = True
    unknown = [
        np.where(gone[:, None], np.nan, values)
        for values in (minutes.low_hz, minutes.high_hz, minutes.mean_hz)
    ]
    explicit = Minutes(minutes.number, *unknown, np.where(gone[:, None], 0.0, minutes.share))
    leaping = Minutes(*(getattr(minutes, field.name)[~gone] for field in fields(minutes)))
    same(update(fresh(RULES, 2), RULES, explicit), update(fresh(RULES, 2), RULES, leaping))


def test_a_gap_feeds_nothing_and_is_told() -> None:
    minutes = made_minutes(4.0, 1, 6)
    before = update(fresh(RULES, 1), RULES, minutes.part(slice(0, 120)))
    assert forecast(before).share[0] == 1.0
    silent = Minutes(np.arange(120, 180), *(np.full((60, 1), np.nan) for _ in range(3)), np.zeros((60, 1)))
    partly = forecast(update(before, RULES, silent.part(slice(0, 6))))
    assert partly.share[0] == pytest.approx(9 / 15)
    assert np.isfinite(partly.quantile_hz).all()
    after = update(before, RULES, silent)
    assert np.isnan(forecast(after).quantile_hz).all()
    assert forecast(after).share[0] == 0.0
    later = update(before, RULES, silent.part(slice(0, 3)))  # windows with 3 of 15 minutes gone teach nothing
    taught = update(before, RULES, silent.part(slice(0, 1)))
    assert later.square.tobytes() == taught.square.tobytes() != before.square.tobytes()
    few = replace(minutes, share=np.full_like(minutes.share, 0.4))  # of each minute
    assert np.isnan(forecast(update(fresh(RULES, 1), RULES, few)).quantile_hz).all()


def test_a_minute_that_does_not_ascend_is_ignored() -> None:
    minutes = made_minutes(1.0, 1, 7)
    state = update(fresh(RULES, 1), RULES, minutes)
    assert update(state, RULES, minutes) is state


def test_quantiles_are_ordered_and_the_minimum_mirrors_the_maximum() -> None:
    minutes = gappy()
    told = issued(minutes, RULES)[0]
    assert (np.diff(told, axis=-1)[np.isfinite(told[..., 0])] >= 0.0).all()
    turned = Minutes(minutes.number, -minutes.high_hz, -minutes.low_hz, -minutes.mean_hz, minutes.share)
    other = issued(turned, RULES)[0]
    np.testing.assert_allclose(other, -told[:, :, ::-1, ::-1], atol=1e-12)


def test_a_frequency_that_stands_still_is_forecast_to_stand() -> None:
    still = np.full((200, 1), 0.02)
    told = issued(Minutes(np.arange(200), still, still, still, np.ones((200, 1))), RULES)[1]
    assert told == pytest.approx(0.02, abs=1e-3)


def test_one_trip_does_not_blow_up_the_next_hours() -> None:
    minutes = made_minutes(12.0, 1, 8)
    trip = minutes.low_hz.copy()
    trip[400] = -0.6
    calm, hit = (issued(replace(minutes, low_hz=low), RULES)[0] for low in (minutes.low_hz, trip))
    width = [float(np.mean(told[430:, 0, MINIMUM, -2] - told[430:, 0, MINIMUM, 1])) for told in (calm, hit)]
    assert width[1] < 1.6 * width[0]


@pytest.mark.parametrize("parts", [((8.2e-3, 80.0), (6.7e-3, 600.0)), ((8e-3, 40.0),), ((0.02, 1800.0),)])
def test_bands_hold_nine_of_ten_over_a_day(parts: tuple[tuple[float, float], ...]) -> None:
    finding = judge("made", made_minutes(24.0, 16, 2, parts), 15, 1, None)
    for part in finding.parts:
        ours, climatology, persistence = part.methods
        for side in (ours.minimum, ours.maximum):
            assert 0.86 < side.coverage < 0.94
            assert side.coverage_low < side.coverage < side.coverage_high
            assert side.below == pytest.approx(regulation.LEVELS, abs=0.06)
        for other in (climatology, persistence):
            assert ours.minimum.pinball_mhz < 1.02 * other.minimum.pinball_mhz
            assert ours.maximum.pinball_mhz < 1.02 * other.maximum.pinball_mhz
    assert finding.parts[1].windows == pytest.approx(16 * 719 / 15, rel=0.03)


def test_the_first_hours_are_nearly_as_honest() -> None:
    minutes = made_minutes(2.5, 96, 12)
    told, truth = issued(minutes, RULES)[0], extremes(minutes, RULES.horizon)
    asked = slice(4, 120)  # from the first answer on
    inside = (truth[asked] >= told[asked, ..., 0]) & (truth[asked] <= told[asked, ..., -1])
    assert 0.85 < float(inside.mean()) < 0.93  # .81 if a young spread were not widened


def test_the_prior_is_what_made_frequency_teaches() -> None:
    weight, error = fitted_prior(24.0, 24, 0)
    assert weight == pytest.approx(PRIOR_WEIGHT, abs=0.06)
    assert error == pytest.approx(PRIOR_ERROR, abs=0.12)


def test_power_is_lacking_where_the_frequency_is_low() -> None:
    hz = np.stack([np.linspace(-0.05, -0.03, 7), np.linspace(0.01, 0.02, 7)])
    mw = imbalance_mw(np.stack([hz, hz]), np.array([2000.0, np.nan]))
    assert mw[0, MINIMUM] == pytest.approx(np.linspace(-40.0, -20.0, 7))
    assert mw[0, MAXIMUM] == pytest.approx(np.linspace(60.0, 100.0, 7))
    assert np.isnan(mw[1]).all()


def test_truth_and_past_quantiles_know_their_windows() -> None:
    minutes = made_minutes(2.0, 2, 9)
    truth = extremes(minutes, 15)
    assert truth[10, 1, MINIMUM] == minutes.low_hz[11:26, 1].min()
    assert truth[10, 1, MAXIMUM] == minutes.high_hz[11:26, 1].max()
    assert np.isnan(truth[-15:]).all()
    past = past_quantiles(truth, 15)
    assert past[60, 0, 1] == pytest.approx(np.quantile(truth[:46, 0, 1], regulation.LEVELS))


def test_minutes_of_a_recording() -> None:
    t_ns = np.arange(0, 180 * 10**9, 10**8)
    freq_hz = np.full(t_ns.size, 50.01)
    freq_hz[700:1000] = np.nan
    freq_hz[5] = 0.0  # no frequency of a grid
    minutes = minutes_of("a", t_ns, freq_hz, 50.0)
    assert minutes.low_hz[:, 0] == pytest.approx(0.01)
    assert minutes.share[:, 0] == pytest.approx([599 / 600, 0.5, 1.0])
    assert minutes_of("a", t_ns, freq_hz, 50.0, [150.0]).share[2, 0] == pytest.approx(0.0, abs=0.01)
    with pytest.raises(RecordingError, match="no frequency within 5 Hz of 50 Hz"):
        minutes_of("a", t_ns, np.zeros(t_ns.size), 50.0)


def test_the_real_recording(capfd: pytest.CaptureFixture[str]) -> None:
    words = ("evaluate", "regulation", RECORDING, "--beta-mw-per-hz", "2500")
    assert typed(*words) == 0
    text = capfd.readouterr().out
    for told in (
        "after warm-up:",
        "second half:",
        "windows that do not overlap",
        "climatology",
        "persistence",
    ):
        assert told in text
    assert "so few prove little" in text
    assert "power lacking, MW" in text
    assert typed(*words, "--json") == 0
    without, within = json.loads(capfd.readouterr().out)["findings"]
    assert "without the disturbance at 3198.5 s" in without["name"]
    assert [part["name"] for part in without["parts"]] == ["after warm-up", "second half"]
    half = without["parts"][1]
    assert 2.0 < half["windows"] < 3.5
    ours = half["methods"][0]
    for side in ("minimum", "maximum"):
        assert 0.7 <= ours[side]["coverage"] <= 1.0
        assert all(ours[side]["pinball_mhz"] < m[side]["pinball_mhz"] for m in half["methods"][1:])
    assert within["parts"][1]["methods"][0]["minimum"]["coverage"] < ours["minimum"]["coverage"]
    assert without["last_mw"][MAXIMUM][0] == pytest.approx(-2.5 * without["last_mhz"][MINIMUM][-1])


def test_made_frequency_on_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert typed("evaluate", "regulation", "--simulate", "6", "--seed", "4", "--json") == 0
    first = capfd.readouterr().out
    (finding,) = json.loads(first)["findings"]
    assert finding["areas"] == 16
    assert finding["last_mw"] is None
    assert 0.8 < finding["parts"][1]["methods"][0]["minimum"]["coverage"] < 0.97
    assert typed("evaluate", "regulation", "--simulate", "6", "--seed", "4", "--json") == 0
    assert capfd.readouterr().out == first


def short(path: Path, seconds: int) -> Path:
    with gzip.open(path, "wt") as file:
        file.write("time_s,freq_hz\n")
        file.writelines(f"{n / 10:.1f},50.0{n % 3}\n" for n in range(seconds * 10))
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none.csv",), "there is no such file"),
        (("short.csv.gz",), "in 5 minutes nothing can be judged: 30 minutes of warm-up"),
        (("text.csv",), "text.csv"),
        ((), "name a recording, or make frequency with --simulate HOURS"),
        (("short.csv.gz", "--horizon", "PT90S"), "whole minutes are expected, PT5M to PT60M"),
        (("short.csv.gz", "--horizon", "soon"), "an ISO 8601 duration is expected"),
        (("short.csv.gz", "--beta-mw-per-hz", "-1"), "must be greater than 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    short(tmp_path / "short.csv.gz", 300)
    (tmp_path / "text.csv").write_text("hello\nworld\n")
    named = [tmp_path / word if ".csv" in word else word for word in words]
    assert typed("evaluate", "regulation", *named) == 1
    out = capfd.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1
    assert told in out.err

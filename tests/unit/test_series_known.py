"""Protects what was known ahead: a backtest sees at each origin what was known then; later knowledge moves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from series_cases import START, load, refused, rows_of, typed, write

from streamproc.core.ahead.days import N_LEAD, N_ROW, STEP_NS
from streamproc.core.ahead.known import Known, Told, known_at, told
from streamproc.core.ahead.vintages import vintages_of
from streamproc.core.series.history import History
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.models import recipe_of
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.protocol import audit, told_by
from streamproc.evaluation.series.read import Wanted
from streamproc.evaluation.series.run import Question, prepare
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.values import F64, I64

DAYS, UNTIL = 70, 49
HEAD = "name,valid,known_at,value"


def temperature(n: int, seed: int = 3) -> np.ndarray:
    """A temperature that the load follows: each day another."""
    return 10.0 + np.repeat(np.random.default_rng(seed).normal(0.0, 4.0, n // 24), 24)


def known_rows(
    value: np.ndarray, every_h: int = 24, reach_h: int = 36, noise: float = 0.1
) -> list[list[str]]:
    """Forecasts of an hourly course: issued `every_h` hours, one hour before the day, worse the farther they reach."""
    draws = np.random.default_rng(5)
    rows = []
    for issue in range(0, value.size, every_h):
        known, error = START + timedelta(hours=issue - 1), draws.normal()
        for hour in range(issue, min(issue + reach_h, value.size)):
            told_ = value[hour] + noise * (hour - issue) * error
            valid = START + timedelta(hours=hour)
            rows.append(
                ["temperature", f"{valid:%Y-%m-%dT%H:%MZ}", f"{known:%Y-%m-%dT%H:%MZ}", f"{told_:.4f}"]
            )
    return rows


def ground(tmp_path: Path) -> tuple[Path, np.ndarray]:
    value = temperature(24 * DAYS)
    return write(tmp_path / "load.csv", rows_of(load(24 * DAYS) + 3.0 * value)), value


def prepared(path: Path, known: Path, **more: str) -> tuple[Series, Plan]:
    asked = {"horizon": "PT24H", "every": "PT24H", "at": "00:00", "train_until": "2023-02-20", "refit": "P7D"}
    question = Question(path, Wanted("time", "load"), "UTC", **(asked | more), known_file=known)
    return prepare(question)


def changed_after(rows: list[list[str]], moment: str) -> list[list[str]]:
    """Other values where they became known after a moment."""
    return [[*row[:3], str(-5.0 * float(row[3]) + 70.0)] if row[2] > moment else row for row in rows]


@pytest.mark.parametrize("rhythm", [{}, {"every": "PT1H", "horizon": "PT6H", "train_until": "2023-03-03"}])
def test_values_that_became_known_after_an_origin_move_nothing(
    tmp_path: Path, rhythm: dict[str, str]
) -> None:
    path, value = ground(tmp_path)
    rows = known_rows(value, every_h=6, reach_h=48)
    at = START + timedelta(days=64, hours=7)
    one, plan = prepared(path, write(tmp_path / "one.csv", rows, HEAD), **rhythm)
    other_rows = changed_after(rows, f"{at:%Y-%m-%dT%H:%MZ}")
    assert other_rows != rows
    other, _ = prepared(path, write(tmp_path / "other.csv", other_rows, HEAD), **rhythm)
    upto = one.t_s[plan.origins] <= at.timestamp()
    before, after = (told_by(series, recipe_of("ridge"), plan) for series in (one, other))
    assert np.array_equal(before.quantiles[upto], after.quantiles[upto])
    assert not np.array_equal(before.quantiles[~upto], after.quantiles[~upto])
    for series, told_ in ((one, before), (other, after)):
        leak = audit(series, plan, told_, 1)
        assert leak.origins >= 8
        assert leak.moved == 0


def test_the_audit_counts_a_backtest_that_was_shown_later_knowledge(tmp_path: Path) -> None:
    path, value = ground(tmp_path)
    series, plan = prepared(path, write(tmp_path / "known.csv", known_rows(value, every_h=6), HEAD))
    assert series.vintages is not None
    # As if everything had been known all along: the last vintage of each hour, which is what a careless join does.
    leaky = replace(series, vintages=replace(series.vintages, known_s=np.zeros_like(series.vintages.known_s)))
    told_ = told_by(leaky, recipe_of("ridge"), plan)
    leak = audit(series, plan, told_, 1)
    assert leak.moved == leak.origins > 8


class Spy:
    """A model that says what it was shown."""

    name = "spy"

    def __init__(self) -> None:
        self.fits: dict[int, F64] = {}
        self.asked: dict[int, F64] = {}

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Spy:
        assert history.known_names == ("temperature",)
        self.fits[until] = history.known[:, 0]
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        for origin in origins.tolist():
            self.asked[origin] = history.known[:, 0]
        return np.zeros((origins.size, n_lead))


def test_an_origin_sees_the_newest_known_by_then_and_a_fit_what_was_known_at_each_origin(
    tmp_path: Path,
) -> None:
    path, _ = ground(tmp_path)
    rows = []
    for day in range(DAYS):
        for hours, mark in (
            (-12, 0.25),
            (-1, 0.5),
            (6, 0.75),
        ):  # noon before, an hour before, and too late for midnight
            known = START + timedelta(days=day, hours=hours)
            for hour in range(24):
                valid = START + timedelta(days=day, hours=hour)
                rows.append(
                    ["temperature", f"{valid:%Y-%m-%dT%H:%MZ}", f"{known:%Y-%m-%dT%H:%MZ}", f"{day + mark}"]
                )
    series, plan = prepared(path, write(tmp_path / "known.csv", rows, HEAD))
    spy = Spy()
    told_by(series, spy, plan)
    for origin in plan.origins.tolist():
        seen, day = spy.asked[origin], origin // 24
        assert (seen[origin : origin + 24] == day + 0.5).all()
        assert (seen[origin - 24 : origin] == day - 0.25).all()  # of yesterday the latest was known
    for until, seen in spy.fits.items():
        assert (seen[:until] == np.arange(until) // 24 + 0.5).all()
        assert (seen[until:] == until // 24 + 0.5).all()


def test_where_nothing_was_known_then_a_fit_takes_what_is_known_at_it(tmp_path: Path) -> None:
    path, value = ground(tmp_path)
    late = (START + timedelta(days=40)).strftime("%Y-%m-%dT%H:%MZ")
    rows = [[*row[:2], max(row[2], late), row[3]] for row in known_rows(value, reach_h=24)]
    series, plan = prepared(path, write(tmp_path / "known.csv", rows, HEAD))
    spy = Spy()
    told_by(series, spy, plan)
    for until, seen in spy.fits.items():
        assert np.isfinite(seen[:until]).all() == (until >= 24 * 40)
        if until < 24 * 40:
            assert np.isnan(seen).all()


def test_the_rules_are_those_of_the_stream() -> None:
    draws = np.random.default_rng(2)
    start = 1_900_000
    records = []
    for k in range(40):
        first = start - N_ROW + 30 * k
        t = np.sort(draws.choice(np.arange(first, first + 300), 60, replace=False))
        value = np.where(draws.random(60) < 0.1, np.nan, draws.normal(size=60))
        records.append(Told("t", int((first + draws.integers(-50, 50)) * STEP_NS), t * STEP_NS, value))
    known = Known()
    for record in records:
        known = told(known, record)
    stream = known_at(known, start).course["t"]
    span = vintages_of(records, ["t"], (start - N_ROW) * 900, 900, N_ROW + N_LEAD)
    ours = span.at(start * 900, 0, N_ROW + N_LEAD)[:, 0]
    assert np.isfinite(ours).sum() > 500
    assert np.allclose(ours, stream, rtol=0, atol=1e-12, equal_nan=True)


def test_longer_intervals_take_the_mean_of_what_lies_in_them() -> None:
    one = Told("t", 0, np.arange(8) * STEP_NS, np.arange(8.0))
    made = vintages_of([one], ["t"], 0, 3600, 3)
    assert made.at(0, 0, 3)[:2, 0].tolist() == [1.5, 5.5]


def test_the_commands_take_the_file_and_tell_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, value = ground(tmp_path)
    holiday = [["holiday", "2023-01-06T00:00Z", "2022-01-01T00:00Z", "1"]]
    known = write(tmp_path / "known.csv", known_rows(value)[24:] + holiday, HEAD)
    words = ("--known-file", known, "--train-until", "2023-02-20", "--json")
    assert (
        typed("evaluate", "forecast", path, "--time", "time", "--target", "load", "--model", "ridge", *words)
        == 0
    )
    result = json.loads(capfd.readouterr().out)
    assert result["leak"]["ridge"]["moved"] == 0
    assert result["asked"]["known_then"] == ["temperature"]
    assert any("known ahead from known.csv, at each origin" in note for note in result["notes"])
    assert any("'holiday' of known.csv is not used" in one["words"] for one in result["quality"])
    blind = ("--time", "time", "--target", "load", "--model", "ridge", *words[2:])
    assert typed("backtest", path, *blind) == 0
    without = json.loads(capfd.readouterr().out)
    mae = [one["methods"][0]["figures"]["mae"] for one in (result, without)]
    assert mae[0] < 0.8 * mae[1]


def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, value = ground(tmp_path)
    far = [[row[0], row[1].replace("2023", "1999"), row[2], row[3]] for row in known_rows(value)[:48]]
    known = write(tmp_path / "far.csv", far, HEAD)
    assert "far.csv: 'temperature' has no value for any time of the series" in refused(
        capfd, path, "--known-file", known
    )
    assert "cannot be read" in refused(capfd, path, "--known-file", tmp_path / "none.csv")
    known = write(tmp_path / "known.csv", known_rows(value), HEAD)
    gone = refused(capfd, path, "--known-file", known, "--known", "temperature")
    assert "there is no such column" in gone
    twice = write(tmp_path / "twice.csv", [[*row, row[1]] for row in rows_of(value)], "time,load,temperature")
    said = refused(capfd, twice, "--known-file", known, "--known", "temperature")
    assert "'temperature' is given by --known too" in said


def test_a_forecast_that_never_reaches_far_enough_teaches_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, value = ground(tmp_path)
    known = write(tmp_path / "known.csv", known_rows(value, reach_h=36), HEAD)
    words = (
        "train",
        "forecast",
        path,
        "--target",
        "load",
        "--known-file",
        known,
        "--out",
        tmp_path / "bundle",
    )
    assert typed(*words) == 1
    assert (
        "temperature: at no issue of the training enough was known: of the next 48 hours 90%"
        in capfd.readouterr().err
    )


def test_training_learns_how_good_forecasts_were_not_how_good_measurements_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, value = ground(tmp_path)
    known = write(tmp_path / "known.csv", known_rows(value, reach_h=72), HEAD)
    out = tmp_path / "bundle"
    words = ("train", "forecast", path, "--target", "load", "--known-file", known, "--out", out, "--json")
    assert typed(*words) == 0
    first = json.loads(capfd.readouterr().out)
    loaded = OnnxAhead.load(out)
    assert loaded.known_names == ("temperature",)
    assert "temperature, as known at each issue" in (out / "card.md").read_text()
    # What only became known after the last issue of the training changes no weight.
    late = f"{START + timedelta(days=DAYS - 1):%Y-%m-%dT%H:%MZ}"
    changed = changed_after(known_rows(value, reach_h=72), late)
    assert (
        typed(*words[:-2], out, "--known-file", write(tmp_path / "known.csv", changed, HEAD), "--json") == 0
    )
    assert json.loads(capfd.readouterr().out)["metrics"] is not None
    assert first["metrics"]["PT24H"]["skill_seasonal_1d"] > 0.0

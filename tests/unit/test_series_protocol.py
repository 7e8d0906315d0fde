"""Protects the backtest: nothing of the future reaches a forecast, and what is said of the protocol is what was done."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from series_cases import load, rows_of, write

from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.evaluation.series.baselines import BASELINES, NAIVE_1D, NAIVE_7D, PERSISTENCE, baseline
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.models import RECIPES, recipe_of
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.protocol import audit, told_by, with_bands
from streamproc.evaluation.series.read import Wanted
from streamproc.evaluation.series.refits import middles
from streamproc.evaluation.series.run import Question, prepare
from streamproc.values import F64, I64

DAYS = 70


def question(path: Path, **more: str) -> Question:
    told = {
        "horizon": "PT24H",
        "every": "PT24H",
        "at": "00:00",
        "train_until": "2023-02-20",
        "refit": "P7D",
    } | more
    return Question(path, Wanted("time", "load"), told.pop("zone", "UTC"), **told)


def prepared(tmp_path: Path, value: np.ndarray | None = None, **more: str) -> tuple[Series, Plan]:
    rows = rows_of(load(24 * DAYS) if value is None else value)
    return prepare(question(write(tmp_path / "load.csv", rows), **more))


class Spy:
    """A model that says what it was shown."""

    name = "spy"

    def __init__(self) -> None:
        self.fits: list[int] = []
        self.asked: list[tuple[int, int, bool]] = []

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Spy:
        assert np.isnan(history.value[until:]).all()
        assert history.value.size == until + n_lead
        assert origin_slots.tolist() == [0]
        self.fits.append(until)
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        assert np.isnan(history.value[origins[-1] :]).all()
        assert history.value.size == origins[-1] + n_lead == history.known.shape[0] == history.slot.size
        self.asked.append((int(origins[0]), origins.size, bool(np.isfinite(history.value[origins[-1] - 1]))))
        return np.full((origins.size, n_lead), 1.0)


def test_a_model_is_shown_nothing_of_the_future_and_is_fitted_every_week(tmp_path: Path) -> None:
    series, plan = prepared(tmp_path)
    spy = Spy()
    told = told_by(series, spy, plan)
    first = 24 * 49  # 2023-02-20
    assert plan.until == first
    assert plan.origins.tolist() == list(range(first, 24 * DAYS, 24))
    assert [until for until in spy.fits if until >= first] == [first, first + 168, first + 336]
    assert told.fits == len(spy.fits) == plan.n_fit
    assert all(count == 1 and last_is_known for _, count, last_is_known in spy.asked)
    assert plan.warm.size == 16  # a third of the 49 days before
    assert (told.quantiles[:, 3] == 1.0).all()


@pytest.mark.parametrize("name", ["ridge", "weekly mean"])
def test_no_forecast_moves_when_the_load_after_its_origin_changes(tmp_path: Path, name: str) -> None:
    value = load(24 * DAYS)
    changed = value.copy()
    at = 24 * 55
    changed[at:] = changed[at:][::-1] * 3.0 - 500.0
    changed[at + 30] = np.nan
    one, plan = prepared(tmp_path, value)
    other, same = prepared(tmp_path, changed)
    assert (plan.origins == same.origins).all()
    upto = plan.origins <= at
    before, after = (told_by(series, recipe_of(name), plan).quantiles for series in (one, other))
    assert np.array_equal(before[upto], after[upto], equal_nan=True)
    assert not np.array_equal(before[~upto], after[~upto], equal_nan=True)
    for base in BASELINES:
        assert np.array_equal(
            baseline(base, one, plan.origins[upto], 24), baseline(base, other, plan.origins[upto], 24)
        )


@pytest.mark.parametrize("name", ["ridge", "kernel"])
def test_nothing_moves_either_where_many_origins_of_a_day_share_a_call(tmp_path: Path, name: str) -> None:
    value = load(24 * DAYS)
    changed = value.copy()
    at = 24 * 64 + 7
    changed[at:] += 40.0
    rhythm = {"every": "PT1H", "horizon": "PT6H", "train_until": "2023-03-03"}
    one, plan = prepared(tmp_path, value, **rhythm)
    other, _ = prepared(tmp_path, changed, **rhythm)
    upto = plan.origins <= at
    before, after = (
        middles(s, recipe_of(name), plan, lambda: None)[0][plan.warm.size :] for s in (one, other)
    )
    assert np.array_equal(before[upto], after[upto])
    assert not np.array_equal(before, after)


def test_processes_change_nothing(tmp_path: Path) -> None:
    series, plan = prepared(tmp_path, refit="P2D")
    assert plan.n_fit >= 16
    (alone, fits), (shared, also) = (middles(series, recipe_of("ridge"), plan, jobs=jobs) for jobs in (1, 2))
    assert np.array_equal(alone, shared)
    assert fits == also


class Cheat(Spy):
    """A model that has kept the truth."""

    def __init__(self, truth: F64) -> None:
        super().__init__()
        self.truth = truth

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Cheat:
        return self

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        noise = float(np.nansum(history.value[-n_lead - 40 :]))  # depends on how much it is shown
        return self.truth[origins[:, None] + np.arange(n_lead)] + noise + origins.size


def test_the_audit_passes_honest_models_and_counts_what_moves(tmp_path: Path) -> None:
    series, plan = prepared(tmp_path, every="PT6H", train_until="2023-03-01")
    honest = recipe_of("weekly mean")
    assert audit(series, plan, told_by(series, honest, plan), 1).moved == 0
    cheat = Cheat(series.truth)
    leak = audit(series, plan, told_by(series, cheat, plan), 1)
    assert leak.origins == 8  # four of each of the two weeks
    assert leak.moved > 4  # asked alone, it says something else than in the company of later origins


def test_baselines_are_the_last_value_and_those_of_the_clock(tmp_path: Path) -> None:
    value = np.arange(24.0 * DAYS)
    value[24 * 50 - 1] = np.nan
    value[24 * 49 + 3] = np.nan
    series, _ = prepared(tmp_path, value)
    at = np.array([24 * 50])
    assert (baseline(PERSISTENCE, series, at, 24) == 24 * 50 - 2).all()
    one_day = baseline(NAIVE_1D, series, at, 24)[0]
    assert one_day[2] == 24 * 49 + 2
    assert one_day[3] == 24 * 48 + 3  # a day further back, where yesterday is not known
    assert baseline(NAIVE_7D, series, at, 24)[0, 5] == 24 * 43 + 5
    far = baseline(NAIVE_1D, series, at, 48)[0]
    assert far[24 + 2] == 24 * 49 + 2  # the second day has no yesterday yet


def test_where_a_model_says_nothing_the_fallback_speaks_and_is_counted(tmp_path: Path) -> None:
    class Silent(Spy):
        def predict(self, history: History, origins: I64, n_lead: int) -> F64:
            return np.full((origins.size, n_lead), np.nan)

    series, plan = prepared(tmp_path)
    told = told_by(series, Silent(), plan)
    assert told.replaced.all()
    assert np.array_equal(told.quantiles[:, 3], baseline(NAIVE_7D, series, plan.origins, 24))


def test_bands_of_a_long_series_cover_nine_of_ten(tmp_path: Path) -> None:
    series, plan = prepared(tmp_path, load(24 * 300), train_until="2023-04-01")
    middle, _ = middles(series, RECIPES["weekly mean"], plan, lambda: None)
    told = with_bands(series, plan, middle)
    truth = series.truth[plan.origins[:, None] + np.arange(24)]
    share = ((truth >= told[:, 0]) & (truth <= told[:, -1])).mean()
    assert 0.87 < share < 0.93
    assert (np.diff(told, axis=1) >= 0.0).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"train_until": "2030-01-01"}, "2030-01-01T00:00+00:00"),
        ({"train_until": "2022-01-01"}, "reaches from 2023-01-02T00:00"),
        ({"train_until": "soon"}, "--train-until 'soon'"),
        ({"horizon": "PT30M"}, "no multiple of the interval"),
        ({"horizon": "24h"}, "PT24H, PT30M or P7D"),
        ({"every": "PT5H"}, "neither a part nor a multiple"),
        ({"every": "PT90M"}, "no multiple of the interval"),
        ({"at": "25:00"}, "--at '25:00'"),
        ({"zone": "Mars/One"}, "no such time zone"),
        ({"refit": "weekly"}, "--refit 'weekly'"),
    ],
)
def test_what_cannot_be_asked_is_said(tmp_path: Path, more: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        prepared(tmp_path, **more)

"""The default recipe: works on any series, loses to no yardstick, and nothing after the origin moves it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_series_models import error, made, origins_of

from streamproc.core.series.blend import BlendModel, mix
from streamproc.core.series.fallback import Persistence, Seasonal
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.training.series.best import best
from streamproc.training.series.blend import Blend, buckets, learn
from streamproc.training.series.pooled import Pooled
from streamproc.training.series.ramp import Ramp
from streamproc.training.series.ramp_trees import RampTrees
from streamproc.training.series.trees import Trees

EVERY_SLOT = np.arange(48)


def spoilt(history: History, start: int, seed: int = 4) -> History:
    """Return the history with nonsense from an index on."""
    value = history.value.copy()
    value[start:] = np.random.default_rng(seed).choice([np.nan, 1e9, -5.0, 0.0], len(value) - start)
    return replace(history, value=value)


@pytest.mark.parametrize("recipe", [Ramp(), RampTrees(), Pooled(), Trees(), Trees("alone", alone=True)])
def test_no_forecast_and_no_fit_sees_the_future(recipe: Ramp) -> None:
    history = made(weather=True, net=True)
    until = int(origins_of(history, 90)[0])
    model = recipe.fit(history, until, 8, EVERY_SLOT)
    again = recipe.fit(spoilt(history, until), until, 8, EVERY_SLOT)
    at = np.array([until])
    assert again.predict(spoilt(history, until), at, 8).tobytes() == model.predict(history, at, 8).tobytes()
    for origin in range(until, until + 48 * 6, 13):
        at = np.array([origin])
        ours = model.predict(history, at, 8)
        assert np.isfinite(ours).all()
        assert model.predict(spoilt(history, origin), at, 8).tobytes() == ours.tobytes()


def test_the_ramp_is_far_better_than_persistence_and_keeps_what_the_day_ahead_knows() -> None:
    history = made(weather=True)
    origins = np.arange(48 * 95, 48 * 115)
    model = Ramp().fit(history, int(origins[0]), 4, EVERY_SLOT)
    ours = error(history, model.predict(history, origins, 4), origins)
    assert ours < 0.6 * error(history, Persistence().predict(history, origins, 4), origins)
    assert ours < 1.1 * error(
        history, model.base.predict(history, origins, 4), origins
    )  # white noise: no news in the last value


def test_a_meter_that_went_silent_makes_the_ramp_silent_and_the_blend_speak() -> None:
    history = made()
    origin = 48 * 100 + 20
    value = history.value.copy()
    value[origin - 6 : origin] = np.nan
    silent = replace(history, value=value)
    model = Ramp().fit(history, 48 * 95, 4, EVERY_SLOT)
    assert np.isnan(model.predict(silent, np.array([origin]), 4)).all()
    blend = BlendModel("b", (model, Seasonal(7)), np.array([[1.0] * 4, [0.0] * 4]))
    assert np.isfinite(blend.predict(silent, np.array([origin]), 4)).all()
    value[origin - 2 : origin] = history.value[origin - 2 : origin]  # two hours lost, then it is back
    back = model.predict(replace(history, value=value), np.array([origin]), 4)
    truth = history.value[origin : origin + 4]
    assert np.abs(back / truth - 1).max() < 0.25


def test_rolling_every_15_minutes_loses_to_no_yardstick() -> None:
    history = made(days=75, step_s=900, net=True, weather=True)
    slots = np.arange(96)
    until = 96 * 62
    recipe = best(history, until, 96, slots, trees=False)
    model = recipe.fit(history, until, 96, slots)
    origins = np.arange(until, 96 * 73, 7)
    ours = model.predict(history, origins, 96)
    assert np.isfinite(ours).all()
    truth = history.value[origins[:, None] + np.arange(96)]

    def by_lead(forecast: np.ndarray) -> np.ndarray:
        return np.abs(forecast - truth).mean(axis=0)

    yardsticks = [one.predict(history, origins, 96) for one in (Persistence(), Seasonal(1), Seasonal(7))]
    assert by_lead(ours)[0] < 1.02 * by_lead(yardsticks[0])[0]
    assert by_lead(ours).mean() < 0.75 * min(by_lead(one).mean() for one in yardsticks)
    assert model.weight.min() >= 0.0
    np.testing.assert_allclose(model.weight.sum(axis=0), 1.0, atol=1e-9)
    origin = origins[5:6]
    assert (
        model.predict(spoilt(history, int(origin[0])), origin, 96).tobytes()
        == model.predict(history, origin, 96).tobytes()
    )


@pytest.mark.parametrize("days", [1, 2, 7, 20, 50])
def test_a_short_past_gets_simple_models_that_speak(days: int) -> None:
    history = made(days=days + 2)
    until = 48 * days
    model = best(history, until, 48, np.array([0])).fit(history, until, 48, np.array([0]))
    forecast = model.predict(history, np.array([until]), 48)
    assert np.isfinite(forecast).all()
    assert np.abs(forecast / history.value[until : until + 48] - 1).mean() < 0.5
    assert ("ridge" in {member.name for member in model.members}) == (days >= 45)


@pytest.mark.parametrize("level", [0.0, 40.0, -3.0])
def test_a_constant_series_is_forecast_as_itself(level: float) -> None:
    history = made(days=70)
    history = replace(history, value=np.full(len(history.value), level))
    until = 48 * 66
    model = best(history, until, 48, np.array([0])).fit(history, until, 48, np.array([0]))
    np.testing.assert_allclose(model.predict(history, np.array([until]), 48), level, atol=1e-6)


def test_without_any_value_it_says_so() -> None:
    history = made(days=30)
    history = replace(history, value=np.full(len(history.value), np.nan))
    with pytest.raises(DataError, match="no value"):
        Blend((Persistence(), Seasonal())).fit(history, 48 * 20, 48, np.array([0]))


def test_weights_find_the_better_member_and_halve_what_is_independent() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(500, 4)) + 10
    good, equal = (truth + rng.normal(size=truth.shape) for _ in range(2))
    bad = truth + 6 * rng.normal(size=truth.shape)
    silent = np.full_like(truth, np.nan)
    weight = learn(np.stack([good, equal, bad, silent]), truth, np.zeros(4, np.int64))
    assert abs(weight[0, 0] - weight[1, 0]) < 0.1
    assert weight[2].max() < 0.1
    assert weight[3].max() == 0.0


def test_a_silent_member_gives_its_weight_to_the_others() -> None:
    one, other = np.array([[1.0, np.nan, np.nan]]), np.array([[3.0, 3.0, np.nan]])
    np.testing.assert_array_equal(mix([one, other], np.full((2, 3), 0.5)), [[2.0, 3.0, np.nan]])


def test_buckets_are_finer_where_leads_are_short() -> None:
    bucket = buckets(made(days=2, step_s=900), 96)
    assert len(np.unique(bucket[:8])) >= 3
    assert len(np.unique(bucket[48:])) <= 3

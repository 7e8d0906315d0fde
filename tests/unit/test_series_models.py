"""Models of a series: nothing later than the origin is seen, gaps and clock changes do no harm, skill is real."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from streamproc.core.series.fallback import Persistence, Seasonal
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.training.series.recipes import Ridge
from streamproc.values import F64


def made(
    days: int = 120, step_s: int = 1800, *, net: bool = False, weather: bool = False, seed: int = 1
) -> History:
    """Return a load with days, weeks, weather; `net` takes sun away until it goes below zero."""
    rng = np.random.default_rng(seed)
    per_day = 86_400 // step_s
    zone, start = ZoneInfo("Europe/Berlin"), datetime(2025, 1, 6, tzinfo=UTC)
    local = [(start + timedelta(seconds=step_s * i)).astimezone(zone) for i in range(days * per_day)]
    slot = np.array([(t.hour * 3600 + t.minute * 60) // step_s for t in local])
    day = np.array([t.date().toordinal() - 719_163 for t in local])
    hour = slot * step_s / 3600
    slow = np.convolve(rng.normal(size=len(day) + per_day), np.ones(per_day) / per_day**0.5, "valid")[
        : len(day)
    ]
    temperature = 12 + 6 * np.sin((hour - 9) / 24 * 2 * np.pi) + 3 * slow
    weekend = (day + 3) % 7 >= 5
    load = (
        100 + 30 * np.sin((hour - 8) / 24 * 2 * np.pi) - 15 * weekend + 1.5 * np.maximum(temperature - 15, 0)
    )
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0) * (1 + 0.3 * slow)
    value = load - (150 * sun if net else 0) + rng.normal(size=len(day)) * 2
    known = np.stack([temperature, sun], axis=1) if weather else np.zeros((len(day), 0))
    names = ("temperature", "radiation") if weather else ()
    return History("made", step_s, value, slot, day, np.isin(day, [20_179, 20_209]), known, names)


def origins_of(history: History, first_day: int, slots: tuple[int, ...] = (0,)) -> np.ndarray:
    last = history.day[-1] - 2
    wanted = (
        (history.day - history.day[0] >= first_day) & (history.day <= last) & np.isin(history.slot, slots)
    )
    return np.flatnonzero(wanted)


def error(history: History, forecast: F64, origins: np.ndarray) -> float:
    truth = history.value[origins[:, None] + np.arange(forecast.shape[1])]
    return float(np.nanmean(np.abs(forecast - truth)))


@pytest.mark.parametrize("net", [False, True])
@pytest.mark.parametrize("curved", [False, True])
def test_the_day_ahead_model_beats_seasonal_naive_by_a_fifth(net: bool, curved: bool) -> None:
    history = made(net=net, weather=True)
    origins, slots = origins_of(history, 80), np.array([0])
    model = Ridge(curved=curved).fit(history, int(origins[0]), 48, slots)
    ours = error(history, model.predict(history, origins, 48), origins)
    naive = min(error(history, Seasonal(days).predict(history, origins, 48), origins) for days in (1, 7))
    assert ours < 0.8 * naive


@pytest.mark.parametrize("recipe", [Ridge(), Ridge(curved=True), Seasonal(), Persistence()])
@pytest.mark.parametrize("slots", [(0,), (18,), tuple(range(48))])
def test_what_comes_after_the_origin_moves_no_forecast_and_no_fit(
    recipe: Ridge, slots: tuple[int, ...]
) -> None:
    history = made(weather=True)
    until = int(origins_of(history, 80)[0])
    model = recipe.fit(history, until, 48, np.array(slots))
    rng = np.random.default_rng(3)
    for origin in origins_of(history, 80, slots)[:: max(len(slots) // 2, 9)]:
        value = history.value.copy()
        value[origin:] = rng.choice([np.nan, 1e9, -5.0], len(value) - origin)
        changed = replace(history, value=value)
        one = np.array([origin])
        assert (model.predict(history, one, 48).tobytes()) == model.predict(changed, one, 48).tobytes()
    value = history.value.copy()
    value[until:] = 7.0
    again = recipe.fit(replace(history, value=value), until, 48, np.array(slots))
    at = np.array([until])
    assert again.predict(history, at, 48).tobytes() == model.predict(history, at, 48).tobytes()


def test_one_origin_at_a_time_gives_what_many_give() -> None:
    history = made(weather=True)
    origins = origins_of(history, 80, (0, 12, 30))
    model = Ridge().fit(history, int(origins[0]), 96, np.array([0, 12, 30]))
    many = model.predict(history, origins, 96)
    single = np.concatenate([model.predict(history, origins[i : i + 1], 96) for i in range(len(origins))])
    np.testing.assert_allclose(single, many, rtol=1e-12)


def test_across_the_clock_change_the_forecast_stays_on_the_clock() -> None:
    history = made(days=100)
    day = (datetime(2025, 3, 30, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    origin = np.array([int(np.flatnonzero(history.day == day)[0])])
    assert (history.day == day).sum() == 46
    model = Ridge().fit(history, int(origin[0]), 48, np.array([0]))
    forecast = model.predict(history, origin, 48)
    assert np.isfinite(forecast).all()
    truth = history.value[origin[0] : origin[0] + 48]
    assert np.abs(forecast[0] / truth - 1).mean() < 0.05


def test_gaps_in_the_past_cost_little_and_a_dead_meter_is_said() -> None:
    history = made(weather=True)
    origins = origins_of(history, 80)
    value = history.value.copy()
    rng = np.random.default_rng(2)
    value[rng.random(len(value)) < 0.05] = np.nan
    value[1000:1060] = np.nan
    holed = replace(history, value=value)
    whole = error(
        history,
        Ridge().fit(history, int(origins[0]), 48, np.array([0])).predict(history, origins, 48),
        origins,
    )
    model = Ridge().fit(holed, int(origins[0]), 48, np.array([0]))
    assert error(history, model.predict(holed, origins, 48), origins) < 1.25 * whole
    dead = replace(history, value=np.where(np.arange(len(value)) > origins[0] - 48 * 9, np.nan, value))
    assert np.isnan(model.predict(dead, origins[:1], 48)).all()


def test_too_short_a_past_says_how_much_is_needed() -> None:
    history = made(days=20)
    with pytest.raises(DataError, match="14 are needed"):
        Ridge().fit(history, 48 * 18, 48, np.array([0]))


def test_a_forecast_beyond_the_calendar_is_unknown() -> None:
    history = made(days=60)
    origin = np.array([len(history.value) - 10])
    for recipe in (Ridge(), Seasonal()):
        forecast = recipe.fit(history, int(origin[0]), 48, np.array([0])).predict(history, origin, 48)
        assert np.isfinite(forecast[0, :10]).all()
        assert np.isnan(forecast[0, 10:]).all()

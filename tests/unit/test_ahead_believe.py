"""Protects forecasts from bad meters: what is frozen, an outage or a wild value is no measurement, and honest series
(nights of a solar plant, new levels, what never moves) are left alone."""

from __future__ import annotations

import numpy as np
from ahead_cases import (
    MONDAY,
    forecasts,
    intervals,
    loaded,
    loads,
    quantiles_of,
    remembered,
    run,
    stage_of,
    state_of,
)

from streamproc.core.ahead.believe import FINE, MISSING, SPIKE, STUCK, STUCK_ROWS, ZERO
from streamproc.core.ahead.days import N_ROW, PER_DAY
from streamproc.core.ahead.memory import Memory, take_in
from streamproc.core.ahead.rows import fill
from streamproc.values import F32, F64

DAYS = 10 * PER_DAY


def fed(memory: Memory, values: list[float]) -> tuple[Memory, list[int]]:
    """The memory of one series after these means, and the verdicts."""
    told = []
    for value in values:
        memory = take_in(memory, memory.start, np.array([value]))
        told.append(int(memory.verdict[0]))
    return memory, told


def test_a_frozen_meter_is_seen_and_its_first_rows_are_taken_back() -> None:
    value = loads(1, DAYS + 40)
    memory = remembered(value[:, :DAYS], MONDAY)
    assert np.isfinite(memory.history).sum() == DAYS
    stands = float(value[0, DAYS - 1])
    memory, told = fed(memory, [stands] * 40)
    seen = told.index(STUCK)
    assert told[:seen] == [FINE] * (STUCK_ROWS - 1)  # with the row that it stands on: two hours
    assert set(told[seen:]) == {STUCK}
    assert np.isnan(memory.history[0, -41:]).all()  # the value that it froze on, too
    assert np.isfinite(memory.history[0, -42])
    memory, told = fed(memory, [float(v) for v in value[0, DAYS : DAYS + 3]])
    assert told == [FINE] * 3
    assert np.isfinite(memory.history[0, -3:]).all()


def test_a_frozen_meter_does_not_poison_the_forecast() -> None:
    """The next 48 hours after ten frozen hours are near those of a twin whose meter lives."""
    frozen_rows, rows = 40, N_ROW + 200
    value = loads(2, rows, seed=1)  # the model's own F0 and F1
    twin = value.copy()
    value[0, -frozen_rows:] = value[0, -frozen_rows - 1]
    said = []
    for one in (value, twin):
        stage = stage_of(loaded())
        state = state_of(remembered(one[:, :-1], MONDAY))
        _, outputs, _ = run(stage, [intervals(MONDAY + rows - 1, one[:, -1].tolist())], state)
        said.append(forecasts(outputs))
    frozen, well = said[0][0], said[1][0]
    assert frozen.flags == ("last_stuck",)
    assert frozen.quality == "SUSPECT"
    assert frozen.method == well.method == "model"
    assert frozen.last_value is None
    size = float(np.abs(twin[0]).mean())
    away = np.abs(quantiles_of(frozen)[3] - quantiles_of(well)[3]) / size
    assert away[8:].mean() < 0.05
    assert away.max() < 0.2
    poisoned = np.abs(float(value[0, -1]) - quantiles_of(well)[3]).mean() / size  # what persistence had said
    assert away.mean() < 0.3 * poisoned
    assert (quantiles_of(said[0][1]) == quantiles_of(said[1][1])).all()  # its neighbour is not touched


def test_zero_is_an_outage_where_a_series_stays_clear_of_it() -> None:
    memory = remembered(loads(1, DAYS), MONDAY)
    memory, told = fed(memory, [0.0] * 3)
    assert told == [ZERO] * 3
    assert np.isnan(memory.history[0, -3:]).all()


def test_a_thousandfold_value_is_a_spike_and_a_missing_one_is_missing() -> None:
    value = loads(1, DAYS)
    memory = remembered(value, MONDAY)
    memory, told = fed(memory, [1000.0 * float(value[0, -1]), np.nan, float(value[0, 0]), -1e5, 1e300])
    assert told == [SPIKE, MISSING, FINE, SPIKE, SPIKE]
    assert np.isnan(memory.history[0, -5:]).tolist() == [True, True, False, True, True]


def solar(days: int) -> F64:
    rng = np.random.default_rng(2)
    sun = np.maximum(0.0, np.sin(2 * np.pi * (np.arange(days * PER_DAY) / PER_DAY - 0.25)))
    return np.asarray(40.0 * sun * rng.uniform(0.3, 1.0, sun.size), np.float64)[None]


def test_nights_of_a_solar_plant_are_fine() -> None:
    value = solar(14)
    memory = Memory.fresh(("PV",))
    for row in range(value.shape[1]):
        memory = take_in(memory, MONDAY + row, value[:, row])
        assert memory.verdict[0] == FINE, row
    assert np.isfinite(memory.history).all()
    memory, told = fed(memory, [0.0] * 4 * PER_DAY)  # four days without light are no night
    assert told[-1] == STUCK


def test_a_new_level_is_accepted_after_half_a_day() -> None:
    value = loads(1, DAYS + 2 * PER_DAY)
    memory = remembered(value[:, :DAYS], MONDAY)
    higher = (20.0 * value[0, DAYS:]).tolist()
    memory, told = fed(memory, higher)
    assert told[:48] == [SPIKE] * 48
    assert set(told[48:]) == {FINE}
    assert np.isfinite(memory.history[0, -100:]).all()


def test_a_constant_series_is_never_seen_as_stuck_and_is_forecast() -> None:
    for level in (0.0, 5.0):
        for first in range(0, PER_DAY, 7):  # whatever the quarter hour at which it is judged anew
            memory = Memory.fresh(("C",))
            for row in range(5 * PER_DAY):
                memory = take_in(memory, MONDAY + first + row, np.array([level]))
                assert memory.verdict[0] == FINE, (level, first, row)
        stage = stage_of(loaded())
        _, outputs, _ = run(stage, [intervals(memory.start, [level], ("C",))], state_of(memory))
        (forecast,) = forecasts(outputs)
        np.testing.assert_allclose(quantiles_of(forecast)[3], level, atol=1e-3)


def test_nothing_is_judged_before_three_days_are_known() -> None:
    memory = remembered(loads(1, 2 * PER_DAY), MONDAY)
    _, told = fed(memory, [0.0, 1e6, 1e6, 1e6, *([3.0] * 30)])
    assert set(told) == {FINE}


def test_a_series_is_judged_by_itself() -> None:
    value = loads(5, DAYS + 30)
    many = remembered(value, MONDAY)
    for one in range(5):
        alone = remembered(value[one : one + 1], MONDAY)
        assert alone.history.tobytes() == many.history[one].tobytes()


def test_what_is_not_believed_is_bridged_from_other_days() -> None:
    value: F32 = loads(1, DAYS)
    memory, _ = fed(remembered(value, MONDAY), [0.0] * 4)
    filled = fill(memory.history)[0, -4:]
    week = value[0, DAYS - 672 : DAYS - 668]
    np.testing.assert_array_equal(filled, week)

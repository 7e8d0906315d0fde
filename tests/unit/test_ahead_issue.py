"""Protects what an issue says: by whom, why not by the model, with which weather, within what is possible, and adding up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from ahead_cases import (
    MONDAY,
    ROWS,
    Fake,
    as_json,
    exogenous,
    forecasts,
    intervals,
    loaded,
    loads,
    quantiles_of,
    records_of,
    remembered,
    run,
    seasoned,
    stage_of,
    state_of,
    told_bytes,
    weather,
)
from jsonschema import Draft202012Validator

from streamproc.config import PointTable
from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY
from streamproc.shell.series import GAUGES
from streamproc.stages.ahead import AheadState
from streamproc.values import F32

SCHEMA = orjson.loads(
    (Path(__file__).resolve().parents[2] / "schemas" / "forecast.v1.schema.json").read_bytes()
)


@pytest.mark.parametrize(
    ("ahead", "rows", "reason"),
    [
        (None, ROWS, "no_model"),
        (None, 100, "short_history"),
        (Fake(), 3 * PER_DAY - 2, "short_history"),
        (Fake(answer=None), ROWS, "model_error"),
        (Fake(answer=np.nan), ROWS, "model_error"),
        (Fake(answer=np.inf), ROWS, "model_error"),
    ],
)
def test_the_fallback_speaks_and_says_why(ahead: Fake | None, rows: int, reason: str) -> None:
    state, later = seasoned(rows)
    _, outputs, counts = run(stage_of(ahead), records_of(later[:, :1], MONDAY + rows), state)
    for row, (output, forecast) in enumerate(zip(outputs, forecasts(outputs), strict=True)):
        Draft202012Validator(SCHEMA).validate(as_json(output))
        assert (forecast.method, forecast.reason, forecast.model_digest) == ("fallback", reason, "")
        made = quantiles_of(forecast)
        assert (np.diff(made, axis=0) >= 0.0).all()
        assert (made[0] < made[-1]).any()
        np.testing.assert_allclose(made[3, :4], later[row, 0], rtol=1e-5)
        assert forecast.flags == ()
    assert counts["forecast_fallbacks", reason] == 3
    model = forecasts(run(stage_of(Fake()), records_of(later[:, :1], MONDAY + ROWS), seasoned()[0])[1])
    assert {(f.method, f.reason) for f in model} == {("model", "")}


def test_a_benched_model_is_told_and_counted_and_comes_back() -> None:
    value = loads(1, 24 * PER_DAY)
    start, switch = 5 * PER_DAY, 7 * PER_DAY + 48
    state = state_of(remembered(value[:, :start], MONDAY))
    fake = Fake(answer=float(value.max()) * 2)  # worse than anything
    stage = stage_of(fake)
    reasons, gauges = [], []
    for row in range(start, 16 * PER_DAY):
        if row == switch:
            fake.answer = None  # the best there is: the truth, from here on
        if fake.answer is None or row >= switch:
            fake.predict = lambda given, rows, *, with_known, at=row: value[:, at + 1 : at + 1 + N_LEAD]  # type: ignore[method-assign]
        step = stage.step(state, [intervals(MONDAY + row, value[:, row].tolist())])
        state = step.state
        (forecast,) = forecasts(list(step.outputs))
        reasons.append(forecast.reason)
        gauges.append(step.gauges["forecast_benched_series", "north"])
    assert reasons[: PER_DAY - 8] == [""] * (PER_DAY - 8)
    benched = [at for at, reason in enumerate(reasons) if reason == "benched"]
    assert benched
    assert PER_DAY <= benched[0] <= 2 * PER_DAY
    assert reasons[switch - start] == "benched"
    assert reasons[-1] == ""
    assert benched[-1] >= switch - start + PER_DAY
    assert len(benched) == benched[-1] - benched[0] + 1
    assert [g == 1.0 for g in gauges] == [reason == "benched" for reason in reasons]
    assert "forecast_benched_series" in GAUGES
    assert step.gauges["ahead_skill_persistence", "north/PT1H"] > 0.5
    assert 0.0 <= step.gauges["ahead_coverage_ratio", "north/PT48H"] <= 1.0
    assert all(name in GAUGES or name == "model" for name, _ in step.gauges)


def weathered(known_number: int | None) -> tuple[AheadState, Any, F32]:
    """State, stage and the means that follow, with a temperature that became known at an interval."""
    state, later = seasoned()
    stage = stage_of(loaded(known=True))
    if known_number is not None:
        course = weather(N_ROW + 3 * N_LEAD).tolist()
        state = stage.learn(
            state, [exogenous("temperature_degc", MONDAY + ROWS - N_ROW, course, known_number)]
        )
    return state, stage, later


def test_the_model_without_weather_speaks_where_it_is_missing_and_says_so() -> None:
    state, stage, later = weathered(None)
    _, outputs, _ = run(stage, records_of(later[:, :1], MONDAY + ROWS), state)
    plain = forecasts(outputs)
    assert [f.flags for f in plain] == [("no_known_ahead",)] * 3
    assert {f.method for f in plain} == {"model"}
    state, stage, later = weathered(MONDAY)
    _, outputs, _ = run(stage, records_of(later[:, :1], MONDAY + ROWS), state)
    full = forecasts(outputs)
    assert [f.flags for f in full] == [()] * 3
    assert all((quantiles_of(a)[3] != quantiles_of(b)[3]).any() for a, b in zip(plain, full, strict=True))


def test_what_is_known_later_than_an_issue_moves_nothing_until_its_time() -> None:
    first = MONDAY + ROWS
    without, stage, later = weathered(None)
    with_it, _, _ = weathered(first + 3)  # known at the third issue, which is that after interval first + 2
    records = records_of(later[:, :5], first)
    _, plain, _ = run(stage, records, without)
    _, told, _ = run(stage, records, with_it)
    assert told_bytes(plain)[: 3 * 2] == told_bytes(told)[: 3 * 2]
    assert all(a.value != b.value for a, b in zip(plain[3 * 2 :], told[3 * 2 :], strict=True))
    assert all("no_known_ahead" not in f.flags for f in forecasts(told)[3 * 2 :])


def test_later_records_change_no_earlier_forecast() -> None:
    state, later = seasoned()
    changed = later.copy()
    changed[:, 4:] *= 1.5
    one, two = (
        run(stage_of(loaded()), records_of(v[:, :8], MONDAY + ROWS), state)[1] for v in (later, changed)
    )
    assert told_bytes(one)[: 3 * 4] == told_bytes(two)[: 3 * 4]
    assert told_bytes(one)[3 * 4 :] != told_bytes(two)[3 * 4 :]


def test_leaving_the_training_range_is_told() -> None:
    state, later = seasoned()
    fake = Fake(low=float(later.min()) - 1.0, high=float(np.sort(later[:, 0])[1]))
    _, outputs, _ = run(stage_of(fake), records_of(later[:, :1], MONDAY + ROWS), state)
    outside = {f.series for f in forecasts(outputs) if "outside_training" in f.flags}
    assert outside == {f"F{np.argmax(later[:, 0])}"}
    _, outputs, _ = run(stage_of(loaded()), [intervals(MONDAY + ROWS, [*later[:2, 0].tolist(), 1.0])], state)
    assert "outside_training" in forecasts(outputs)[2].flags or "last_spike" in forecasts(outputs)[2].flags


def test_the_forecasts_of_a_catalogue_add_up_and_say_so() -> None:
    points = tuple(
        PointTable(id=name, area="north", unit="MW", parent="SUM" if name != "SUM" else None)
        for name in ("SUM", "A", "B")
    )
    value = loads(3, ROWS + 1, seed=8)
    value[0] = value[1] + value[2]
    ids = ("SUM", "A", "B")
    state = state_of(remembered(value[:, :ROWS], MONDAY, ids))
    stage = stage_of(loaded(), points)
    _, outputs, _ = run(stage, [intervals(MONDAY + ROWS, value[:, ROWS].tolist(), ids)], state)
    made = forecasts(outputs)
    assert [f.flags for f in made] == [("reconciled",)] * 3
    total, a, b = (quantiles_of(f)[3] for f in made)
    np.testing.assert_allclose(a + b, total, rtol=3e-6)  # of rounded numbers
    plain = forecasts(
        run(stage_of(loaded()), [intervals(MONDAY + ROWS, value[:, ROWS].tolist(), ids)], state)[1]
    )
    assert (
        np.abs(quantiles_of(plain[1])[3] + quantiles_of(plain[2])[3] - quantiles_of(plain[0])[3]).max() > 1e-3
    )


def test_forecasts_do_not_leave_what_a_series_can_reach() -> None:
    state, later = seasoned()
    for answer in (-1e6, 1e6):
        _, outputs, _ = run(stage_of(Fake(answer=answer)), records_of(later[:, :1], MONDAY + ROWS), state)
        for row, forecast in enumerate(forecasts(outputs)):
            history = state.areas["north"].memory.history[row]
            made, high = quantiles_of(forecast), np.nanmax(history)
            assert made.min() >= 0.0  # it has never been negative
            assert made.max() <= high + 0.51 * (high - np.nanmin(history))


def test_live_coverage_is_told() -> None:
    value = loads(2, 6 * PER_DAY)
    state = state_of(remembered(value[:, : 4 * PER_DAY], MONDAY))
    state, outputs, _ = run(
        stage_of(loaded()), records_of(value[:, 4 * PER_DAY :], MONDAY + 4 * PER_DAY), state
    )
    made = forecasts(outputs)
    assert made[0].coverage_90 is None
    assert made[-1].coverage_90 is not None
    assert 0.6 <= made[-1].coverage_90 <= 1.0

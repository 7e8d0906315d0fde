"""Protects the 48-hour stage: whatever comes, in whatever batches, and wherever it was restarted, the same honest forecasts
come out, and who is not asked is told why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from ahead_cases import (
    MONDAY,
    ROWS,
    STEP_US,
    as_json,
    exogenous,
    forecasts,
    intervals,
    letters,
    loaded,
    quantiles_of,
    records_of,
    run,
    seasoned,
    stage_of,
    told_bytes,
)
from jsonschema import Draft202012Validator

from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY
from streamproc.core.quantiles import rounded
from streamproc.errors import StateError
from streamproc.shell.series import COUNTERS
from streamproc.stages import ahead as ahead_stage
from streamproc.stages.ahead import AheadState
from streamproc.values import F32, TOPIC_EXOGENOUS, TOPIC_FORECASTS, TOPIC_INTERVALS, Record

SCHEMA = orjson.loads(
    (Path(__file__).resolve().parents[2] / "schemas" / "forecast.v1.schema.json").read_bytes()
)


def test_a_forecast_says_when_of_what_and_how_sure() -> None:
    state, later = seasoned()
    stage = stage_of(model := loaded())
    records = records_of(later[:, :4], MONDAY + ROWS)
    _, outputs, counts = run(stage, records, state)
    made = forecasts(outputs)
    assert len(made) == 3 * 4
    assert counts["forecasts", "north"] == 12
    assert counts["records", TOPIC_INTERVALS] == 4
    for output, forecast in zip(outputs, made, strict=True):
        Draft202012Validator(SCHEMA).validate(as_json(output))
        assert output.key == forecast.series.encode()
        assert output.ts_ms == forecast.available_at_us // 1000
        assert (forecast.method, forecast.reason, forecast.horizon) == ("model", "", "PT48H")
        assert forecast.interval_min == 15
        assert forecast.unit == "MW"
        assert forecast.model_digest == model.digest
        assert len(forecast.valid_ts_us) == N_LEAD
        assert forecast.valid_ts_us[0] == forecast.issued_at_us + STEP_US
        assert set(np.diff(forecast.valid_ts_us)) == {STEP_US}
        assert forecast.available_at_us >= forecast.issued_at_us
        assert forecast.last_ts_us == forecast.issued_at_us
        assert (np.diff(quantiles_of(forecast), axis=0) >= 0.0).all()
        assert np.isfinite(quantiles_of(forecast)).all()
        assert forecast.quality == "GOOD"
        assert forecast.known_ratio == 1.0
    assert made[-1].issued_at_us == (MONDAY + ROWS + 4) * STEP_US
    assert made[-1].last_value == pytest.approx(float(later[2, 3]), rel=1e-6)
    early = stage.step(
        state, [intervals(MONDAY + ROWS, later[:, 0].tolist(), ts_ms=(MONDAY + ROWS) * 900_000)]
    )
    assert all(f.available_at_us == f.issued_at_us for f in forecasts(list(early.outputs)))


def mixed(value: F32, first: int) -> list[Record]:
    """Two areas, gaps, a late record, letters, and a series that comes later."""
    made: list[Record] = []
    for row in range(value.shape[1]):
        if row in {5, 6, 20}:
            continue
        made.append(intervals(first + row, value[:, row].tolist()))
        ids = ("X", "Y") if row < 12 else ("Y", "Z", "X")
        made.append(intervals(first + row, [3.0 + row % 5, np.nan, 1.0][: len(ids)], ids, area="south"))
        if row % 9 == 4:
            made.append(intervals(first + row - 3, value[:, 0].tolist()))
            made.append(Record(TOPIC_INTERVALS, 0, row, 1, b"north", b"no json"))
    return made


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("restarted", [False, True])
def test_batches_and_restarts_do_not_show(size: int, restarted: bool) -> None:
    state, later = seasoned()
    records = mixed(later[:, :30], MONDAY + ROWS)
    whole_state, whole, whole_counts = run(stage_of(loaded()), records, state)
    stage, outputs, late = stage_of(loaded()), [], 0
    for start in range(0, len(records), size):
        state, more, counts = run(stage, records[start : start + size], state)
        outputs += more
        late += counts["late", "north"]
        if restarted:
            stage = stage_of(loaded())
            state = stage.unpack(stage.pack(state))
    assert told_bytes(outputs) == told_bytes(whole)
    assert late == whole_counts["late", "north"] == 3
    assert stage.pack(state) == stage.pack(whole_state)
    assert letters(whole) == ["not_json"] * 3


BAD = {
    "area": "north",
    "start_us": MONDAY * STEP_US,
    "ids": ["A", "B"],
    "units": ["MW", "MW"],
    "means": [1.0, 2.0],
}


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("wrong_type", {"means": [1.0]}),
        ("wrong_type", {"units": ["MW"]}),
        ("wrong_type", {"ids": ["A", "A"]}),
        ("wrong_type", {"ids": ["A", 3]}),
        ("wrong_type", {"means": [1.0, "2"]}),
        ("wrong_type", {"start_us": MONDAY * STEP_US + 1}),
        ("wrong_type", {"start_us": MONDAY * STEP_US + 300_000_000}),
        ("wrong_type", {"start_us": -900_000_000}),
        ("wrong_type", {"interval_min": 5}),
        ("wrong_schema", {"schema": "intervals/2"}),
        ("future_time", {"start_us": (MONDAY + 2 * PER_DAY) * STEP_US}),
        ("too_large", {"ids": [f"P{i}" for i in range(20)], "units": ["MW"] * 20, "means": [1.0] * 20}),
        ("empty", None),
        ("not_json", b"{"),
    ],
)
def test_a_bad_record_is_refused_under_its_reason(
    reason: str, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead_stage, "SERIES_MAX", 10)
    value = orjson.dumps({**BAD, **change}) if isinstance(change, dict) else change
    record = Record(TOPIC_INTERVALS, 0, 0, MONDAY * 900_000 + 1, b"north", value)
    stage = stage_of(None)
    state, outputs, counts = run(stage, [record])
    assert letters(outputs) == [reason]
    assert counts["rejected", reason] == counts["dead_letters", reason] == 1
    assert stage.pack(state) == stage.pack(stage.fresh())
    _, after, _ = run(stage, [intervals(MONDAY, [1.0])], state)
    assert len(forecasts(after)) == 1


def test_one_record_from_the_far_future_does_not_make_all_others_late() -> None:
    state, later = seasoned()
    wild = intervals(MONDAY + 1_000_000, [1.0, 1.0, 1.0], ts_ms=(MONDAY + ROWS) * 900_000)
    state, outputs, counts = run(stage_of(loaded()), [wild, *records_of(later[:, :1], MONDAY + ROWS)], state)
    assert letters(outputs) == ["future_time"]
    assert len(forecasts(outputs)) == 3
    assert not counts["late", "north"]


@pytest.mark.parametrize("means", [[None, None], [], [np.nan]])
def test_a_record_that_knows_nothing_says_nothing_and_stops_nothing(means: list[float | None]) -> None:
    stage = stage_of(loaded())
    state, outputs, _ = run(stage, [intervals(MONDAY, means)])
    assert outputs == []
    state, outputs, _ = run(stage, [intervals(MONDAY + 1, [3.0])], state)
    assert len(forecasts(outputs)) == 1
    for row in range(2, 2 + 2 * PER_DAY):
        state, outputs, _ = run(stage, [intervals(MONDAY + row, [None])], state)
    assert outputs == []  # two days without a value
    assert rounded(np.zeros((0, 7, N_LEAD))).shape == (0, 7, N_LEAD)


def test_series_beyond_the_most_of_an_area_push_out_those_that_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead_stage, "SERIES_MAX", 4)
    stage = stage_of(None)
    state, _, _ = run(stage, [intervals(MONDAY, [1.0, 2.0, 3.0], ("A", "B", "C"))])
    state, outputs, _ = run(stage, [intervals(MONDAY + 1, [5.0, 6.0, 7.0], ("D", "B", "E"))], state)
    memory = state.areas["north"].memory
    assert memory.ids == ("A", "B", "D", "E")
    assert memory.history[:, -1].tolist()[1:] == [6.0, 5.0, 7.0]
    assert memory.history[1, -2] == 2.0
    assert {f.series for f in forecasts(outputs)} == {"A", "B", "D", "E"}


def test_a_series_that_is_gone_for_two_weeks_is_forgotten() -> None:
    stage = stage_of(None)
    state, _, _ = run(stage, [intervals(MONDAY, [1.0, 2.0], ("A", "B"), units=("MW", "kV"))])
    state, outputs, _ = run(stage, [intervals(MONDAY + 9, [2.0], ("B",), units=("kV",))], state)
    assert state.areas["north"].units == ("MW", "kV")
    assert [f.unit for f in forecasts(outputs)] == ["MW", "kV"]
    state, outputs, _ = run(stage, [intervals(MONDAY + N_ROW - 1, [2.0], ("B",))], state)
    assert [f.series for f in forecasts(outputs)] == ["B"]  # a fortnight of silence: nothing is said
    state, _, _ = run(stage, [intervals(MONDAY + N_ROW, [2.0], ("B",))], state)
    state, _, _ = run(stage, [intervals(MONDAY + N_ROW + 1, [2.0], ("B",))], state)
    assert state.areas["north"].memory.ids == ("B",)


def test_what_is_learnt_of_one_area_or_name_stays_beside_the_others() -> None:
    stage = stage_of(None)
    state = stage.learn(stage.fresh(), [exogenous("t", MONDAY, [1.0], MONDAY)])
    more = [exogenous("u", MONDAY, [2.0], MONDAY), exogenous("t", MONDAY, [3.0], MONDAY, area="south")]
    state = stage.learn(state, more)
    assert {area: [one.name for one in known.pending] for area, known in state.known.items()} == {
        "north": ["t", "u"],
        "south": ["t"],
    }
    state, _, _ = run(stage, [intervals(MONDAY, [1.0])], state)
    assert sorted(state.known["north"].course) == ["t", "u"]
    assert len(state.known["south"].pending) == 1


def test_refused_exogenous_records_are_counted_and_change_nothing() -> None:
    stage = stage_of(None)
    good = exogenous("t", MONDAY, [1.0, 2.0], MONDAY)
    tree = orjson.loads(good.value or b"")
    short = orjson.dumps({**tree, "values": [1.0]})
    bad = [b"no json", short, orjson.dumps({**tree, "name": 3}), b'{"schema":"exogenous/9"}']
    records = [Record(TOPIC_EXOGENOUS, 0, i, 0, b"north", value) for i, value in enumerate(bad)]
    state = stage.learn(stage.fresh(), [*records[:2], good, *records[2:]])
    assert list(state.known) == ["north"]
    assert len(state.known["north"].pending) == 1
    state, outputs, counts = run(stage, [intervals(MONDAY, [1.0])], state)
    assert counts["exogenous_rejected", "not_json"] == 1
    assert counts["exogenous_rejected", "wrong_type"] == 2
    assert counts["exogenous_rejected", "wrong_schema"] == 1
    assert letters(outputs) == []
    _, _, counts = run(stage, [intervals(MONDAY + 1, [1.0])], state)
    assert not any(name == "exogenous_rejected" for name, _ in counts)  # once
    assert "exogenous_rejected" in COUNTERS


def test_a_foreign_blob_is_refused() -> None:
    stage = stage_of(None)
    state, _ = seasoned()
    blob = stage.pack(state)
    assert stage.pack(stage.unpack(blob)) == blob
    assert stage.resume_offset(state, TOPIC_INTERVALS, 17) == 17
    assert stage.warm(state, []) is state
    with pytest.raises(StateError):
        stage.unpack(blob[:-20])
    area = state.areas["north"]
    broken = replace(area, memory=replace(area.memory, history=area.memory.history[:, 1:]))
    with pytest.raises(StateError, match="history has shape"):
        stage.unpack(stage.pack(AheadState({"north": broken})))


def test_the_outputs_go_to_the_topic_of_forecasts() -> None:
    _, outputs, _ = run(stage_of(None), [intervals(MONDAY, [1.0])])
    assert {o.topic for o in outputs} == {TOPIC_FORECASTS}

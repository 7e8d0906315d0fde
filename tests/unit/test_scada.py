"""Protects the intake of SCADA: every bad point is refused by its own reason, the good ones beside it are used, and the
way records were batched, or where the worker was restarted, never shows in what comes out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import AreaTable, PointTable, SiteConfig
from streamproc.core.messages import Finding, Forecast, ScadaBatch, ScadaPoint, encode
from streamproc.errors import ModelError, StateError
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.stages.scada import ScadaStage, ScadaState
from streamproc.values import F32, TOPIC_FINDINGS, TOPIC_FORECASTS, TOPIC_SCADA, Output, Record

T0_US = 1_790_000_100_000_000  # a multiple of 5 minutes
MINUTE_US = 60_000_000
FORECASTER = OnnxForecaster.load()
POINTS = (
    PointTable(
        id="F1.P", area="north", unit="MW", interval_min=1, limit_high=10.0, deadband=0.5, scan_ms=10_000
    ),
    PointTable(id="F2.P", area="north", unit="MW", interval_min=1),
    PointTable(
        id="BUS.V",
        area="north",
        unit="kV",
        kind="voltage",
        limit_low=109.0,
        on_delay_ms=20_000,
        forecast=False,
    ),
)
CONFIG = SiteConfig(point=POINTS)


def record(offset: int, value: bytes | None, key: bytes | None = b"north") -> Record:
    return Record(TOPIC_SCADA, 0, offset, T0_US // 1000 + offset, key, value)


def batch(offset: int, *points: tuple[Any, ...], area: str = "north") -> Record:
    """One record; a point is (id, value, seconds after T0[, quality])."""
    listed = [
        {
            "id": p[0],
            "value": p[1],
            "ts_us": T0_US + int(p[2] * 1e6),
            **({"quality": p[3]} if len(p) > 3 else {}),
        }
        for p in points
    ]
    return record(offset, orjson.dumps({"schema": "scada/1", "area": area, "points": listed}), area.encode())


def run(
    stage: ScadaStage, records: list[Record], state: ScadaState | None = None
) -> tuple[ScadaState, list[Output], Counter[Any]]:
    step = stage.step(state if state is not None else stage.fresh(), records)
    return step.state, list(step.outputs), step.counts


def findings(outputs: list[Output]) -> list[Finding]:
    found = [msgspec.json.decode(o.value, type=Finding) for o in outputs if o.topic == TOPIC_FINDINGS]
    return [f for f in found if f.type != "watermark"]


def forecasts(outputs: list[Output]) -> list[Forecast]:
    return [msgspec.json.decode(o.value, type=Forecast) for o in outputs if o.topic == TOPIC_FORECASTS]


def letters(outputs: list[Output]) -> list[tuple[str, str]]:
    """(reason, offset) of the dead letters."""
    headers = [dict(o.headers) for o in outputs if o.topic.endswith(".dlq")]
    return [(h["reason"].decode(), h["offset"].decode()) for h in headers]


GOOD = {"id": "F1.P", "value": 1.0, "ts_us": T0_US}


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("not_json", b"hello"),
        ("not_json", b"\xff\xfe"),
        ("not_finite", b'{"area":"north","points":[{"id":"F1.P","value":NaN,"ts_us":1}]}'),
        ("duplicate_key", b'{"area":"north","area":"north","points":[]}'),
        ("duplicate_key", b'{"area":"north","points":[{"id":"F1.P","value":1,"value":2,"ts_us":1}]}'),
        ("wrong_schema", b'{"schema":"scada/2","area":"north","points":[]}'),
        ("wrong_type", b"[1,2]"),
        ("wrong_type", b'{"area":"north","points":{}}'),
        ("wrong_type", b'{"area":3,"points":[]}'),
        ("missing_key", b'{"area":"north"}'),
        ("unknown_area", b'{"area":"south","points":[]}'),
        ("too_large", b'{"area":"north","points":[' + b" " * (1 << 20) + b"]}"),
        ("too_deep", b"[" * 100 + b"]" * 100),
        ("empty", b""),
        ("empty", None),
    ],
)
def test_a_bad_record_is_refused_under_its_reason(reason: str, value: bytes | None) -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    _, outputs, counts = run(
        stage, [batch(0, ("F1.P", 1.0, 0)), record(1, value), batch(2, ("F1.P", 2.0, 10))]
    )
    assert letters(outputs) == [(reason, "1")]
    assert counts["rejected", reason] == 1
    assert counts["dead_letters", reason] == 1


@pytest.mark.parametrize(
    ("reason", "point"),
    [
        ("unknown_point", {"id": "F9.P", "value": 1.0, "ts_us": T0_US}),
        ("wrong_type", {"id": "F1.P", "value": "1.0", "ts_us": T0_US}),
        ("wrong_type", {"id": "F1.P", "value": None, "ts_us": T0_US}),
        ("wrong_type", {"id": "F1.P", "value": True, "ts_us": T0_US}),
        ("wrong_type", {"id": "F1.P", "value": 1.0, "ts_us": 1.5}),
        ("wrong_type", {"id": "F1.P", "value": 1.0, "ts_us": T0_US, "quality": "so so"}),
        ("wrong_type", "F1.P"),
        ("missing_key", {"id": "F1.P", "ts_us": T0_US}),
        ("future_time", {"id": "F1.P", "value": 1.0, "ts_us": T0_US + 86_400_000_000}),
        ("stale_time", {"id": "F1.P", "value": 1.0, "ts_us": T0_US - 86_400_000_000}),
        ("future_time", {"id": "F1.P", "value": 1.0, "ts_us": 2**62}),
        ("stale_time", {"id": "F1.P", "value": 1.0, "ts_us": -1}),
    ],
)
def test_a_bad_point_is_refused_and_the_good_one_beside_it_is_used(reason: str, point: Any) -> None:
    stage = ScadaStage(CONFIG, None)
    first = {"id": "F2.P", "value": 3.0, "ts_us": T0_US}
    value = orjson.dumps({"area": "north", "points": [first, point]})
    state, outputs, counts = run(stage, [batch(9, ("F2.P", 1.0, -10)), record(0, value)])
    assert letters(outputs) == [(reason, "0")]
    assert counts["rejected", reason] == 1
    assert state.areas["north"].last.value[1] == 3.0
    assert np.isnan(state.areas["north"].last.value[0])


def test_several_bad_points_of_one_record_make_one_dead_letter_and_a_count_each() -> None:
    stage = ScadaStage(CONFIG, None)
    made = batch(0, ("A", 1.0, 0), ("B", 1.0, 0), ("F1.P", 1.0, 0), ("F2.P", 1.0, 86_400))
    _, outputs, counts = run(stage, [batch(9, ("F1.P", 1.0, -1)), made])
    assert letters(outputs) == [("unknown_point", "0")]
    assert counts["rejected", "unknown_point"] == 2
    assert counts["rejected", "future_time"] == 1
    assert counts["dead_letters", "unknown_point"] == 1


def test_an_area_that_is_not_in_the_site_file_is_refused() -> None:
    stage = ScadaStage(SiteConfig(area=(AreaTable(name="north"),)), None)
    _, outputs, _ = run(stage, [batch(0, ("X_mw", 1.0, 0), area="south"), batch(1, ("X_mw", 1.0, 0))])
    assert letters(outputs) == [("unknown_area", "0")]


def test_a_record_without_a_key_is_refused() -> None:
    _, outputs, _ = run(ScadaStage(CONFIG, None), [record(0, b'{"area":"north","points":[]}', None)])
    assert letters(outputs) == [("missing_key", "0")]


def test_a_station_with_a_wrong_clock_does_not_move_the_time_of_the_others() -> None:
    stage = ScadaStage(SiteConfig(), None)
    names = [f"P{i}_mw" for i in range(8)]
    right = [(name, 1.0, 0) for name in names[1:]]
    state, outputs, _ = run(stage, [batch(0, (names[0], 1.0, 3600), *right)])
    assert letters(outputs) == [("future_time", "0")]
    assert state.areas["north"].clock.ns == T0_US * 1000


@pytest.mark.parametrize("days", [3, -3])
def test_when_all_records_agree_on_another_time_the_clock_follows_after_the_configured_count(
    days: int,
) -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    records = [batch(0, ("F1.P", 1.0, 0))]
    records += [batch(i + 1, ("F1.P", 2.0, days * 86_400 + 10 * i)) for i in range(12)]
    state, outputs, _ = run(stage, records)
    reason = "future_time" if days > 0 else "stale_time"
    assert letters(outputs) == [(reason, str(i + 1)) for i in range(4)]
    assert state.areas["north"].last.value[0] == 2.0
    assert state.areas["north"].clock.ns == T0_US * 1000 + (days * 86_400 + 110) * 10**9


def test_one_record_of_another_day_between_good_ones_never_moves_the_clock() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    records = []
    for i in range(40):
        records += [batch(2 * i, ("F1.P", 1.0, 10 * i)), batch(2 * i + 1, ("F2.P", 1.0, 86_400 + 10 * i))]
    state, outputs, _ = run(stage, records)
    assert len(letters(outputs)) == 40
    assert state.areas["north"].clock.ns == T0_US * 1000 + 390 * 10**9


def test_an_upper_limit_raises_with_its_first_value_over_and_clears_below_the_deadband() -> None:
    stage = ScadaStage(CONFIG, None)
    values = [9.0, 10.5, 9.8, 11.0, 9.4, 9.0]
    _, outputs, _ = run(stage, [batch(i, ("F1.P", v, 10 * i)) for i, v in enumerate(values)])
    told = [(f.type, f.ts_us, f.rule, f.sources) for f in findings(outputs)]
    assert told == [
        ("raise", T0_US + 10_000_000, "point_high:F1.P", ("F1.P",)),
        ("clear", T0_US + 40_000_000, "point_high:F1.P", ("F1.P",)),
    ]
    first = findings(outputs)[0]
    assert first.scores[0] * first.limit == pytest.approx(10.5)
    assert (first.kind, first.unit, first.position, first.priority) == ("load_high", "MW", "main", 2)


def test_a_lower_limit_waits_its_on_delay_and_tells_the_value_in_its_sentence() -> None:
    stage = ScadaStage(CONFIG, None)
    values = [110.0, 108.9, 108.5, 108.0, 110.0]
    _, outputs, _ = run(stage, [batch(i, ("BUS.V", v, 10 * i)) for i, v in enumerate(values)])
    told = findings(outputs)
    assert [f.type for f in told] == ["raise", "clear"]
    assert told[0].onsets_us == (T0_US + 10_000_000,)
    assert told[0].ts_us == T0_US + 30_000_000
    assert told[0].values == (108.0,)
    assert told[0].text == "{source} at {value} {unit} is at or under its lower limit of {limit} {unit}"


def test_a_bad_value_neither_raises_nor_clears_and_a_suspect_one_marks_its_finding() -> None:
    stage = ScadaStage(CONFIG, None)
    records = [
        batch(0, ("F1.P", 99.0, 0, "bad")),
        batch(1, ("F1.P", 10.5, 10, "suspect")),
        batch(2, ("F1.P", 0.0, 20, "bad")),
    ]
    _, outputs, _ = run(stage, records)
    told = findings(outputs)
    assert [(f.type, f.ts_us) for f in told] == [("raise", T0_US + 10_000_000)]
    assert told[0].quality == 2


def test_a_repeated_or_older_value_changes_nothing() -> None:
    stage = ScadaStage(CONFIG, None)
    records = [batch(i, ("F1.P", v, 10 * i)) for i, v in enumerate([9.0, 11.0, 9.0])]
    state, outputs, _ = run(stage, records)
    again, more, counts = run(stage, records, state)
    assert more == [o for o in more if o.topic == TOPIC_FINDINGS and not findings([o])]
    assert counts["duplicates", "north"] == 3
    assert again.areas["north"].last.value[0] == 9.0
    assert len(findings(outputs)) == 2


def test_time_marks_follow_a_clear_so_that_the_deciding_stage_can_close_it_and_then_stop() -> None:
    stage = ScadaStage(CONFIG, None)
    records = [batch(i, ("F1.P", 11.0 if i == 1 else 9.0, 10 * i)) for i in range(60)]
    _, outputs, _ = run(stage, records)
    marks = [o.ts_ms for o in outputs if o.topic == TOPIC_FINDINGS and b'"watermark"' in o.value]
    assert marks[0] == T0_US // 1000 + 10_000
    assert (
        marks[-1] == T0_US // 1000 + 100_000
    )  # 20 s clear + 5 s quiet + 15 s group + 60 s, on a grid of 10 s


def minutes(n: int, start: int = 0) -> list[Record]:
    """n minutes of two feeders, three scans a minute, one record each."""
    records = []
    for i in range(start * 3, (start + n) * 3):
        points = [
            ("F1.P", 5.0 + 0.01 * i + 0.05 * (i * 7 % 5), 20 * i),
            ("F2.P", 3.0 + 0.2 * (i % 2), 20 * i),
        ]
        records.append(batch(i, *points))
    return records


def test_every_closed_interval_gives_one_forecast_per_series_by_the_model_once_it_knows_enough() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    state, outputs, counts = run(stage, minutes(30))
    told = forecasts(outputs)
    assert {f.series for f in told} == {"F1.P", "F2.P"}
    assert len(told) == 2 * 29
    assert [f.method for f in told[:14]] == ["persistence"] * 14
    assert {f.reason for f in told[:14]} == {"short_history"}
    assert {f.method for f in told[14:]} == {"model"}
    assert counts["forecast_fallbacks", "short_history"] == 14
    last = told[-2]
    assert last.issued_at_us == T0_US + 29 * MINUTE_US
    assert last.valid_ts_us == tuple(T0_US + (29 + h) * MINUTE_US for h in range(1, 61))
    assert last.model_digest == FORECASTER.digest
    bands = np.array([last.quantiles.P05, last.quantiles.P50, last.quantiles.P95])
    assert (np.diff(bands, axis=0) > 0).all()
    assert abs(bands[1, 0] - 5.97) < 0.3
    assert last.last_value == pytest.approx(5.0 + 0.01 * 87 + 0.05 * (87 * 7 % 5))
    assert state.areas["north"].grids[0].sums.start == T0_US // MINUTE_US + 29


def test_live_coverage_is_counted_when_the_measurement_comes() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    state, outputs, _ = run(stage, minutes(45))
    told = [f for f in forecasts(outputs) if f.series == "F1.P"]
    assert told[25].coverage_90 is None
    grid = state.areas["north"].grids[0]
    mean = {
        T0_US + MINUTE_US * (i - 15): float(v) for i, v in enumerate(grid.history[0])
    }  # by end of interval
    bands = {f.valid_ts_us[14]: (f.quantiles.P05[14], f.quantiles.P95[14]) for f in told}
    judged = [low <= mean[end] <= high for end, (low, high) in bands.items() if end in mean]
    assert len(judged) == 44 - 15
    assert told[-1].coverage_90 == round(sum(judged) / len(judged), 4)
    assert sum(judged) > 0
    jump = [
        batch(1000 + i, ("F1.P", 500.0, 45 * 60 + 20 * i), ("F2.P", 3.0, 45 * 60 + 20 * i)) for i in range(20)
    ]
    step = stage.step(state, jump)
    after = [f for f in forecasts(list(step.outputs)) if f.series == "F1.P"][-1]
    assert after.coverage_90 is not None
    assert after.coverage_90 < 0.9
    assert ("forecast_coverage_ratio", "north") in step.gauges


def test_a_gap_falls_back_to_persistence_of_suspect_quality_and_silence_says_nothing() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    state, _, _ = run(stage, minutes(20))
    only_two = [batch(100 + i, ("F2.P", 3.0, 20 * 60 + 20 * i)) for i in range(3 * 70)]
    _, outputs, counts = run(stage, only_two, state)
    first = [f for f in forecasts(outputs) if f.series == "F1.P"]
    assert {(f.method, f.reason, f.quality) for f in first[1:]} == {("persistence", "gap", "SUSPECT")}
    assert len(first) == 60  # after an hour without a value nothing honest can be said
    assert counts["forecast_fallbacks", "gap"] == 59


def test_without_a_model_or_with_one_that_fails_persistence_is_told_and_metered() -> None:
    class Broken:
        digest = "broken"

        def predict(self, interval_min: int, history: F32) -> F32:
            if not np.isfinite(history[:, -1]).all() or history[0, -1] < 100:
                raise ModelError("no")
            return np.full((history.shape[0], 7, 60 // interval_min), np.nan, dtype=np.float32)

    for forecaster, reason in ((None, "no_model"), (Broken(), "model_error")):
        _, outputs, counts = run(ScadaStage(CONFIG, forecaster), minutes(12))
        assert {f.method for f in forecasts(outputs)} == {"persistence"}
        assert counts["forecast_fallbacks", reason] == 2 * 4
    records = [batch(i, ("X_mw", 500.0 + i % 3, 60 * i)) for i in range(20)]  # an answer that is not finite
    _, _, counts = run(ScadaStage(SiteConfig(), Broken()), records)
    assert counts["forecast_fallbacks", "model_error"] == 12


def test_an_area_without_a_catalogue_takes_every_point_and_reads_its_unit_from_the_id() -> None:
    stage = ScadaStage(SiteConfig(), FORECASTER)
    records = [batch(i, ("F1_mw", 5.0 + i % 3, 60 * i), ("BUS_kv", 110.0, 60 * i)) for i in range(8)]
    records += [batch(8 + i, ("F1_mw", 5.0, 480 + 60 * i), ("NEW", 1.0, 480 + 60 * i)) for i in range(8)]
    _, outputs, _ = run(stage, records)
    told = forecasts(outputs)
    assert {(f.series, f.unit, f.interval_min) for f in told} == {
        ("F1_mw", "MW", 1),
        ("BUS_kv", "kV", 1),
        ("NEW", "", 1),
    }


def test_a_record_that_holds_hours_of_history_gives_the_same_intervals() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    points = [("F1.P", 5.0 + 0.01 * i, 20 * i) for i in range(120)]
    _, outputs, _ = run(stage, [batch(0, *points)])
    issued = [f.issued_at_us for f in forecasts(outputs)]
    assert issued == [T0_US + i * MINUTE_US for i in range(1, 40)]  # the last one is open


def test_quarter_hourly_data_is_forecast_at_once_when_the_next_value_comes() -> None:
    point = PointTable(id="L", area="north", unit="MW", interval_min=15)
    stage = ScadaStage(SiteConfig(point=(point,)), FORECASTER)
    start = T0_US // (15 * MINUTE_US) * 15 * 60 - T0_US / 1e6
    _, outputs, _ = run(stage, [batch(i, ("L", 5.0 + i % 4, start + 900 * i)) for i in range(12)])
    told = forecasts(outputs)
    assert len(told) == 11
    assert told[-1].method == "model"
    assert told[-1].issued_at_us - T0_US == int((start + 900 * 11) * 1e6)


def mixed_stream(seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    records = []
    for i in range(150):
        points: list[tuple[Any, ...]] = [
            ("F2.P", float(3 + rng.normal()), 20 * i + int(rng.integers(-30, 30)))
        ]
        if rng.random() < 0.8:
            points.append(
                (
                    "F1.P",
                    float(9.5 + rng.normal()),
                    20 * i,
                    str(rng.choice(["good", "good", "suspect", "bad"])),
                )
            )
        if rng.random() < 0.5:
            points.append(("BUS.V", float(109.5 + rng.normal()), 20 * i))
        if rng.random() < 0.1:
            points.append(("GHOST", 1.0, 20 * i))
        records.append(batch(i, *points) if rng.random() > 0.05 else record(i, b"{"))
    return records


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 5), cuts=st.sets(st.integers(1, 149), max_size=12), kills=st.sets(st.integers(0, 11))
)
def test_the_same_records_in_other_batches_and_after_restarts_give_equal_bytes(
    seed: int, cuts: set[int], kills: set[int]
) -> None:
    records = mixed_stream(seed)
    whole = ScadaStage(CONFIG, FORECASTER).step(ScadaState(), records)
    stage = ScadaStage(CONFIG, FORECASTER)
    state, outputs, counts = stage.fresh(), [], Counter[Any]()
    bounds = [0, *sorted(cuts), len(records)]
    for n, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        step = stage.step(state, records[start:stop])
        outputs += step.outputs
        counts += step.counts
        state = step.state
        if n in kills:
            blob = stage.pack(state)
            stage = ScadaStage(CONFIG, FORECASTER)
            state = stage.unpack(blob)
            assert stage.pack(state) == blob
    assert tuple(outputs) == whole.outputs
    assert counts == whole.counts
    assert stage.pack(state) == stage.pack(whole.state)


def test_a_step_leaves_the_state_it_was_given_as_it_was() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    records = mixed_stream(1)
    state = stage.step(stage.fresh(), records[:80]).state
    blob = stage.pack(state)
    first = stage.step(state, records[80:])
    assert stage.pack(state) == blob
    assert stage.step(state, records[80:]).outputs == first.outputs


def test_a_foreign_or_changed_blob_is_refused_or_begun_anew() -> None:
    stage = ScadaStage(CONFIG, FORECASTER)
    with pytest.raises(StateError):
        stage.unpack(b"nonsense")
    blob = stage.pack(stage.step(stage.fresh(), minutes(5)).state)
    other = ScadaStage(SiteConfig(point=POINTS[:2]), FORECASTER)
    area = other.unpack(blob).areas["north"]
    assert area.ids == ("F1.P", "F2.P")
    assert area.last.value[1] == 3.0
    assert area.grids[0].sums.start == -1
    assert area.clock.ns > 0
    assert stage.resume_offset(stage.unpack(blob), TOPIC_SCADA, 7) == 7
    assert stage.warm(stage.unpack(blob), minutes(1)).areas.keys() == {"north"}
    assert stage.learn(stage.fresh(), []) == stage.fresh()


def test_a_condition_survives_a_change_of_the_catalogue_so_that_it_can_be_cleared() -> None:
    stage = ScadaStage(CONFIG, None)
    state, outputs, _ = run(stage, [batch(0, ("F1.P", 11.0, 0))])
    assert [f.type for f in findings(outputs)] == ["raise"]
    other = ScadaStage(
        SiteConfig(point=(POINTS[1], PointTable(id="X", area="north", unit="MW"), POINTS[0])), None
    )
    _, outputs, _ = run(other, [batch(1, ("F1.P", 5.0, 10))], other.unpack(stage.pack(state)))
    assert [(f.type, f.sources) for f in findings(outputs)] == [("clear", ("F1.P",))]
    bare = ScadaStage(SiteConfig(point=POINTS[1:2]), None)
    assert bare.unpack(stage.pack(state)).areas["north"].ids == ("F2.P",)
    back = ScadaStage(CONFIG, None)
    assert not back.unpack(bare.pack(bare.unpack(stage.pack(state)))).areas["north"].conditions.busy


def test_ten_megabytes_of_points_are_refused_without_being_read() -> None:
    huge = orjson.dumps({"area": "north", "points": [GOOD] * 200_000})
    assert len(huge) > 10_000_000
    _, outputs, counts = run(ScadaStage(CONFIG, None), [record(0, huge)])
    assert letters(outputs) == [("too_large", "0")]
    assert len(outputs[0].value) == 65536
    assert counts["rejected", "too_large"] == 1


def test_a_value_that_no_limit_can_measure_is_told_as_the_largest_number() -> None:
    config = SiteConfig(
        point=(PointTable(id="F1.P", area="north", unit="MW", limit_high=0.1, forecast=False),)
    )
    stage = ScadaStage(config, None)
    batch = ScadaBatch(area="north", points=(ScadaPoint(id="F1.P", value=1.7e308, ts_us=T0_US),))
    step = stage.step(stage.fresh(), [Record(TOPIC_SCADA, 0, 0, T0_US // 1000, b"north", encode(batch))])
    (raised,) = [o for o in step.outputs if b'"raise"' in o.value]
    assert b'"values":[1e+299]' in raised.value  # the largest score times the limit


def test_a_point_that_stops_reporting_while_others_go_on_is_an_episode_of_quality() -> None:
    stage = ScadaStage(CONFIG, None)
    both = [("F1.P", 9.0), ("F2.P", 1.0)]
    records = []
    for i in range(40):
        given = both if i < 5 or i >= 30 else both[:1]
        points = [(name, value, 10 * i) for name, value in given]
        if 10 <= i < 12:
            points.append(("F2.P", 1.0, 10 * i, "bad"))  # bad values are no values
        records.append(batch(i, *points))
    _, outputs, _ = run(stage, records)
    found = findings(outputs)
    told = [(f.type, f.family, f.rule, f.sources, (f.ts_us - T0_US) / 1e6) for f in found]
    assert told == [
        ("raise", "quality", "point_stale", ("F2.P",), 110.0),  # its last good value came at 40 s
        ("clear", "quality", "point_stale", ("F2.P",), 300.0),
    ]
    assert found[0].onsets_us == (T0_US + 40_000_000,)

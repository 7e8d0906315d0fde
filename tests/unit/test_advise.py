"""Protects the operator from bad advice: never outside bounds or ramps, never from old or bad input, never hunting, always
with its undo and its expiry; and whatever the solver answers, nothing unsafe is published."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import AdviseTable, PointTable, ResourceTable, SiteConfig
from streamproc.core.advice_group import Resource, Watched, groups_of
from streamproc.core.advice_plan import Problem
from streamproc.core.messages import Alert, Forecast, Quantiles, encode
from streamproc.core.setpoint import Setpoint
from streamproc.errors import StateError
from streamproc.shell.solver import solve
from streamproc.stages.advise import AdviseStage, AdviseState
from streamproc.values import F64, TOPIC_ALERTS, TOPIC_FORECASTS, TOPIC_SETPOINTS, Output, Record

T0_US = 1_790_000_100_000_000
MINUTE_US = 60_000_000
NAMES = ("P05", "P10", "P25", "P50", "P75", "P90", "P95")


def point(name: str, **more: Any) -> PointTable:
    return PointTable(id=name, area="north", unit="MW", interval_min=5, **more)


def storage(name: str = "BAT", **more: Any) -> ResourceTable:
    given_values: dict[str, Any] = {
        "point": "BAT.P", "value_min": -5.0, "value_max": 5.0, "ramp_per_min": 1.0, "cost": 5.0, "effect": {"F.P": -1.0}
    }  # fmt: skip
    return ResourceTable(id=name, kind="storage", unit="MW", **(given_values | more))


SITE = SiteConfig(
    point=(point("F.P", limit_high=12.0, limit_low=-12.0), point("BAT.P")),
    resource=(storage(),),
    advise=AdviseTable(horizon_min=60, quantile="P90", valid_min=10, hold_min=5),
)


def forecast(
    series: str,
    minute: float,
    level: float,
    *,
    slope: float = 0.0,
    band: float = 0.5,
    last: float | None = None,
    **more: Any,
) -> Record:
    """A forecast issued at a minute: P50 goes from `level` by `slope` per minute, P90 stands `band` above it."""
    issued_us = T0_US + int(minute * MINUTE_US)
    lead = np.arange(1, 13) * 5.0
    offset = {"P05": -1.3, "P10": -1.0, "P25": -0.5, "P50": 0.0, "P75": 0.5, "P90": 1.0, "P95": 1.3}
    rows = {name: tuple((level + slope * lead + band * offset[name]).tolist()) for name in NAMES}
    fields: dict[str, Any] = {
        "area": "north", "unit": "MW", "interval_min": 5, "method": "model", "model_digest": "d1",
        "last_value": level if last is None else last, "last_ts_us": issued_us,
    }  # fmt: skip
    told = Forecast(
        series=series,
        issued_at_us=issued_us,
        available_at_us=issued_us + 1_000_000,
        valid_ts_us=tuple(issued_us + int(m) * MINUTE_US for m in lead),
        quantiles=Quantiles(**rows),
        **(fields | more),
    )
    return Record(TOPIC_FORECASTS, 0, 0, told.available_at_us // 1000, series.encode(), encode(told))


def alert(
    minute: float, state: str, seq: int, value: float = 12.5, limits: tuple[str, ...] = ("point_high:F.P",)
) -> Record:
    ts_us = T0_US + int(minute * MINUTE_US)
    said: dict[str, Any] = {"state": state, "seq": seq, "value": value, "score": value / 12.0, "ts_us": ts_us}
    about: dict[str, Any] = {
        "family": "grid",
        "kind": "load_high",
        "priority": 2,
        "area": "north",
        "position": "main",
    }
    source: dict[str, Any] = {"source": "F.P", "sources": ("F.P",), "members": 1, "limit": 12.0, "unit": "MW"}
    rule: dict[str, Any] = {
        "rule": limits[0],
        "rule_version": 1,
        "rules": limits,
        "model_digest": "",
        "message": "",
    }
    told = Alert(
        alert_id="a" * 32,
        onset_ts_us=T0_US,
        quality="GOOD",
        quality_flags=0,
        **said,
        **about,
        **source,
        **rule,
    )
    return Record(TOPIC_ALERTS, 0, 0, ts_us // 1000, told.alert_id.encode(), encode(told))


def pair(minute: float, level: float, battery: float = 0.0, **more: Any) -> list[Record]:
    return [forecast("BAT.P", minute, battery), forecast("F.P", minute, level, **more)]


def run(
    records: list[Record], config: SiteConfig = SITE, solver: Any = solve
) -> tuple[AdviseState, list[Setpoint], Counter[Any]]:
    stage = AdviseStage(config, solver)
    step = stage.step(stage.fresh(), records)
    told = [msgspec.json.decode(o.value, type=Setpoint) for o in step.outputs if o.topic == TOPIC_SETPOINTS]
    return step.state, told, step.counts


def forward(message: Setpoint) -> dict[str, float]:
    return {d.resource: d.value for d in message.forward}


def test_a_forecast_that_crosses_its_limit_brings_advice_with_its_undo_its_effect_and_its_end() -> None:
    _, told, counts = run(pair(0, 11.0, slope=0.02))
    (issue,) = told
    assert counts["recommendations", "ISSUE"] == 1
    assert (issue.action, issue.seq, issue.advice_only, issue.area) == ("ISSUE", 1, True, "north")
    # P90 after an hour: 11 + 1.2 + 0.5 = 12.7; relieved to 1 % inside the limit.
    assert forward(issue) == {"BAT": pytest.approx(12.7 - 11.88)}
    assert [(d.resource, d.value, d.unit) for d in issue.reverse] == [("BAT", 0.0, "MW")]
    (effect,) = issue.expected_effect
    assert (effect.point, effect.unit) == ("F.P", "MW")
    assert effect.change == pytest.approx(-0.82)
    assert effect.low < effect.change < effect.high
    assert issue.relieved
    assert 0.05 < issue.confidence < 0.95
    assert issue.valid_until_us - issue.valid_from_us == 10 * MINUTE_US
    assert issue.preconditions
    assert all(p.holds for p in issue.preconditions)
    assert issue.message.startswith(
        "Advice only: move BAT from 0 to 0.82 MW. F.P is forecast (P90) to reach 12.7 MW"
    )
    assert issue.model_digest == "d1"


def test_a_lower_limit_is_held_against_the_mirrored_quantile() -> None:
    _, told, _ = run(pair(0, -11.0, slope=-0.02))
    assert forward(told[0]) == {"BAT": pytest.approx(-0.82)}
    assert "(P10)" in told[0].message


def test_no_reason_no_advice() -> None:
    assert run(pair(0, 11.0))[1] == []
    assert run(pair(0, 11.0, slope=0.02), SiteConfig(point=SITE.point))[1] == []


def test_half_a_picture_is_waited_for_and_not_for_ever() -> None:
    _, told, _ = run([*pair(0, 5.0), forecast("F.P", 5, 13.0)])
    assert told == []
    _, told, _ = run([*pair(0, 5.0), forecast("F.P", 5, 13.0), forecast("OTHER", 5.6, 1.0)])
    assert [m.action for m in told] == ["ISSUE"]


def test_an_alert_acts_at_once_and_its_end_withdraws_after_the_hold() -> None:
    records = [
        *pair(0, 11.0, last=12.4),
        alert(0.1, "UNACK", 1),
        *pair(5, 11.0, last=11.0),
        alert(5.2, "RTNUN", 2),
        *pair(10, 11.0),
    ]
    _, told, _ = run(records)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]
    assert forward(told[0]) == {"BAT": pytest.approx(12.4 - 11.88)}
    assert "is at 12.4 MW" in told[0].message
    assert told[0].confidence == 0.95
    assert told[1].reason == "F.P: its reason is gone"
    assert told[1].forward == ()
    assert told[1].seq == 2


def test_what_cannot_be_relieved_in_full_is_said_and_done_as_far_as_possible() -> None:
    _, told, _ = run(pair(0, 20.0))
    assert forward(told[0]) == {"BAT": 5.0}
    assert not told[0].relieved
    assert "Not fully relieved: up to" in told[0].message


def test_a_move_never_leaves_its_bounds_or_its_ramp() -> None:
    slow = msgspec.structs.replace(SITE, resource=(storage(ramp_per_min=0.01),))
    _, told, _ = run(pair(0, 11.0, slope=0.02), slow)
    assert forward(told[0]) == {"BAT": pytest.approx(0.6, abs=0.01)}  # an hour at 0.01 per minute
    assert not told[0].relieved
    near = msgspec.structs.replace(SITE, resource=(storage(value_max=0.3),))
    assert forward(run(pair(0, 11.0, slope=0.02), near)[1][0]) == {"BAT": 0.3}


def test_the_cheaper_resource_moves_first_and_a_tie_keeps_the_order_of_the_file() -> None:
    points = (*SITE.point, point("DR.P"))
    dear = storage("DR", point="DR.P", cost=9.0)
    both = SiteConfig(point=points, resource=(dear, storage()))
    records = [forecast("DR.P", 0, 0.0), *pair(0, 11.0, slope=0.02)]
    assert set(forward(run(records, both)[1][0])) == {"BAT"}
    tied = SiteConfig(point=points, resource=(storage("DR", point="DR.P"), storage()))
    assert set(forward(run(records, tied)[1][0])) == {"DR"}


def test_a_tap_moves_in_whole_steps() -> None:
    tap = ResourceTable(
        id="TAP",
        kind="tap",
        point="BAT.P",
        unit="step",
        value_min=-8,
        value_max=8,
        ramp_per_min=1.0,
        cost=1.0,
        effect={"F.P": -0.6},
    )
    _, told, _ = run(pair(0, 11.0, slope=0.02), msgspec.structs.replace(SITE, resource=(tap,)))
    assert forward(told[0]) == {"TAP": 2.0}  # 0.82 / 0.6, rounded to relief


def test_relief_of_one_limit_never_crosses_another() -> None:
    points = (*SITE.point, point("G.P", limit_high=3.0))
    site = SiteConfig(point=points, resource=(storage(effect={"F.P": -1.0, "G.P": 1.0}),))
    _, told, _ = run([forecast("G.P", 0, 2.2), *pair(0, 11.0, slope=0.02)], site)
    assert forward(told[0]) == {"BAT": pytest.approx(0.3)}  # G.P: P90 2.7, limit 3
    assert not told[0].relieved
    _, told, _ = run([*pair(0, 11.0, slope=0.02), forecast("OTHER", 0.6, 1.0)], site)
    assert told == []  # G.P is not foreseen: what moves it is not touched


@pytest.mark.parametrize(
    "bad",
    [
        pair(0, 11.0, slope=0.02, quality="SUSPECT"),
        [forecast("BAT.P", 0, 0.0, last_value=None), forecast("F.P", 0, 13.0)],
        [forecast("BAT.P", 0, 0.0, last_ts_us=T0_US - 60 * MINUTE_US), forecast("F.P", 0, 13.0)],
        [
            forecast("BAT.P", 0, 0.0, last=9.0),
            forecast("F.P", 0, 13.0),
        ],  # outside its bounds: 4 minutes at 1 per minute
    ],
)
def test_old_bad_or_unknown_input_gives_no_advice(bad: list[Record]) -> None:
    quick = msgspec.structs.replace(SITE, resource=(storage(ramp_per_min=0.05),))
    assert run(bad, quick)[1] == []


def test_advice_whose_input_goes_bad_or_old_is_withdrawn_at_once() -> None:
    _, told, _ = run([*pair(0, 13.0), *pair(5, 13.0, quality="SUSPECT")])
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]
    assert "old or of bad quality" in told[1].reason
    quiet = msgspec.structs.replace(SITE, advise=AdviseTable(valid_min=60))
    _, told, _ = run([*pair(0, 13.0), forecast("OTHER", 12.5, 1.0)], quiet)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]


def test_advice_that_nobody_renews_expires() -> None:
    _, told, _ = run([*pair(0, 13.0), forecast("OTHER", 10.1, 1.0)])
    assert [(m.action, m.reason) for m in told][1:] == [("WITHDRAW", "F.P: it has expired")]


def test_advice_is_renewed_while_its_reason_stands_and_updated_when_amounts_change() -> None:
    _, told, _ = run([*pair(0, 12.5), *pair(5, 12.5), *pair(10, 13.5)])
    assert [(m.action, m.seq) for m in told] == [("ISSUE", 1), ("UPDATE", 2), ("UPDATE", 3)]
    assert len({m.recommendation_id for m in told}) == 1
    amounts = [forward(m)["BAT"] for m in told]
    assert amounts[0] == amounts[1] == pytest.approx(13.0 - 11.88)
    assert amounts[2] == pytest.approx(14.0 - 11.88)
    assert told[1].valid_until_us == told[1].ts_us + 10 * MINUTE_US


def test_within_the_hold_advice_may_grow_but_not_shrink_or_vanish() -> None:
    slow = msgspec.structs.replace(SITE, advise=AdviseTable(hold_min=12, valid_min=60))
    levels = [12.5, 11.6, 13.5, 12.0, 10.0, 10.0, 10.0]
    records = [r for i, level in enumerate(levels) for r in pair(5 * i, level)]
    _, told, _ = run(records, slow)
    assert [(m.action, (m.ts_us - T0_US) // MINUTE_US) for m in told] == [
        ("ISSUE", 0),
        ("UPDATE", 10),
        ("WITHDRAW", 25),
    ]


def test_after_a_withdrawal_only_an_alert_brings_new_advice_within_the_hold() -> None:
    site = msgspec.structs.replace(SITE, advise=AdviseTable(hold_min=12, valid_min=60))
    start = [*pair(0, 13.0), *pair(15, 10.0)]
    _, told, _ = run([*start, *pair(20, 13.0)], site)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]
    _, told, _ = run([*start, *pair(20, 13.0), *pair(30, 13.0)], site)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW", "ISSUE"]
    assert told[0].recommendation_id != told[2].recommendation_id
    _, told, _ = run([*start, *pair(20, 11.0, last=12.5), alert(20.5, "UNACK", 1)], site)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW", "ISSUE"]


def test_advice_that_is_followed_stays_the_same_advice() -> None:
    # The storage does what was advised, so the feeder comes down by as much: the reason without advice still stands.
    _, told, _ = run(
        [*pair(0, 12.5), *pair(5, 12.5 - 1.12, battery=1.12), *pair(10, 12.5 - 1.12, battery=1.12)]
    )
    assert [m.action for m in told] == ["ISSUE", "UPDATE", "UPDATE"]
    assert {forward(m)["BAT"] for m in told} == {1.12}
    assert {m.reverse[0].value for m in told} == {0.0}
    assert "without this advice" in told[2].message
    _, told, _ = run([*pair(0, 12.5), *pair(5, 9.0, battery=1.12), *pair(10, 9.0, battery=1.12)])
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]


def test_repeated_and_older_records_change_nothing() -> None:
    records = [*pair(0, 12.5), alert(0.2, "UNACK", 1), *pair(5, 12.5, last=12.1)]
    _, told, _ = run(records)
    _, again, _ = run([r for r in records for _ in (0, 1)] + records)
    assert again == told


def test_groups_share_no_resource_and_hold_every_point_that_is_moved() -> None:
    def resource(name: str, *points: str) -> Resource:
        return Resource(name, f"{name}.P", "MW", 0.0, 1.0, 1.0, 1.0, dict.fromkeys(points, 1.0))

    limited = [Watched(name, "north", "MW", 1.0, None) for name in "ABCD"] + [
        Watched("E", "north", "MW", None, None)
    ]
    groups = groups_of(
        [
            resource("r1", "A"),
            resource("r2", "B", "C"),
            resource("r3", "C", "A"),
            resource("r4", "D"),
            resource("r5", "E"),
        ],
        limited,
    )
    told = [("".join(r.id for r in g.resources), "".join(p.id for p in g.points)) for g in groups]
    assert told == [("r1r2r3", "ABC"), ("r4", "D")]


def test_bad_records_are_refused_and_kept() -> None:
    broken = msgspec.json.decode(forecast("F.P", 0, 13.0).value or b"")
    broken["valid_ts_us"] = broken["valid_ts_us"][:3]
    records = [
        Record(TOPIC_FORECASTS, 0, 0, 0, b"F.P", b"{"),
        Record(TOPIC_ALERTS, 0, 0, 0, b"x", b'{"schema":"alert/2"}'),
        Record(TOPIC_FORECASTS, 0, 0, 0, b"F.P", msgspec.json.encode(broken)),
    ]
    stage = AdviseStage(SITE, solve)
    step = stage.step(stage.fresh(), records)
    # A strange alert is kept by the annunciating stage, which reads the same topic: once, not twice.
    assert [o.topic for o in step.outputs] == [TOPIC_FORECASTS + ".dlq"] * 2
    assert step.counts["dead_letters", "not_json"] == 1
    assert step.counts["dead_letters", "wrong_schema"] == 0
    assert {topic: n for (word, topic), n in step.counts.items() if word == "records"} == {TOPIC_FORECASTS: 2}
    assert step.counts["rejected", "wrong_type"] == 1


ADVERSARIES: dict[str, Any] = {
    "huge": lambda p, x: np.full_like(x, 1e9),
    "nan": lambda p, x: np.full_like(x, np.nan),
    "one nan": lambda p, x: np.where(np.arange(x.size) == 0, np.nan, x),
    "infinite": lambda p, x: np.full_like(x, np.inf),
    "sign flipped": lambda p, x: -x,
    "up and down swapped": lambda p, x: np.concatenate([x[1:2], x[0:1], x[2:]]),
    "twice": lambda p, x: 2 * x + 6.0,
    "too short": lambda p, x: x[:1],
    "wrong shape": lambda p, x: x[:, None],
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_whatever_a_broken_solver_answers_nothing_is_published_and_it_is_counted(name: str) -> None:
    def broken(problem: Problem) -> F64 | None:
        honest = solve(problem)
        assert honest is not None
        return np.asarray(ADVERSARIES[name](problem, honest))

    _, told, counts = run(pair(0, 11.0, slope=0.02), solver=broken)
    assert told == []
    assert counts["recommendations", "REFUSED"] == 1
    solvers = iter([solve, broken])

    def first_honest(problem: Problem) -> F64 | None:
        return next(solvers)(problem)

    _, told, counts = run([*pair(0, 12.5), *pair(5, 13.5)], solver=first_honest)
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]
    assert counts["recommendations", "REFUSED"] == 1


def test_a_solver_without_an_answer_gives_no_advice() -> None:
    assert run(pair(0, 13.0), solver=lambda p: None)[1] == []


numbers = st.one_of(st.floats(-1e9, 1e9), st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -0.0]))


@settings(max_examples=150, deadline=None)
@given(
    answer=st.lists(numbers, min_size=1, max_size=12),
    level=st.floats(-30, 30),
    battery=st.floats(-6, 6),
    ramp=st.floats(0.01, 5),
)
def test_no_answer_of_a_solver_leads_outside_bounds_and_ramps_or_to_more_trouble(
    answer: list[float], level: float, battery: float, ramp: float
) -> None:
    points = (*SITE.point, point("G.P", limit_high=3.0))
    site = SiteConfig(point=points, resource=(storage(ramp_per_min=ramp, effect={"F.P": -1.0, "G.P": 0.5}),))

    def arbitrary(problem: Problem) -> F64:
        return np.resize(np.array(answer), problem.cost.size)

    records = [forecast("G.P", 0, 2.0), *pair(0, level, battery=battery)]
    _, told, _ = run(records, site, arbitrary)
    for message in told:
        target = forward(message)["BAT"]
        assert -5.0 <= target <= 5.0
        assert abs(target - battery) <= ramp * 60 + 0.002
        change = -(target - battery)
        assert change * level < 0  # towards the inside
        assert 2.5 - 0.5 * change <= 3.001


@settings(max_examples=60, deadline=None)
@given(
    level=st.floats(-20, 20),
    slope=st.floats(-0.1, 0.1),
    battery=st.floats(-5, 5),
    ramp=st.floats(0.01, 2),
    low=st.floats(-5, 0),
    high=st.floats(0.1, 5),
)
def test_the_real_solver_passes_the_guard_and_relieves_when_it_can(
    level: float, slope: float, battery: float, ramp: float, low: float, high: float
) -> None:
    site = msgspec.structs.replace(
        SITE, resource=(storage(ramp_per_min=ramp, value_min=low, value_max=high),)
    )
    _, told, counts = run(pair(0, level, slope=slope, battery=battery), site)
    assert ("recommendations", "REFUSED") not in counts
    for message in told:
        assert low <= forward(message)["BAT"] <= high
        if message.relieved:
            ends = [level + slope * m + s * 0.5 for m in (5, 60) for s in (1, -1)]
            change = message.expected_effect[0].change
            assert all(-12.001 <= end + change <= 12.001 for end in ends)


def story(seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    seq, level = 0, 11.0
    for i in range(40):
        level += float(rng.normal(0.05, 0.5))
        records += pair(
            5 * i,
            level,
            battery=float(rng.uniform(-1, 1)),
            quality=str(rng.choice(["GOOD"] * 9 + ["SUSPECT"])),
        )
        if rng.random() < 0.2:
            seq += 1
            records.append(alert(5 * i + 0.2, str(rng.choice(["UNACK", "ACKED", "RTNUN", "NORM"])), seq))
        if rng.random() < 0.1:
            records.append(Record(TOPIC_ALERTS, 0, 0, 0, b"x", b"nonsense"))
    return records


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 8), cuts=st.sets(st.integers(1, 79), max_size=10), kills=st.sets(st.integers(0, 9))
)
def test_the_same_records_in_other_batches_and_after_restarts_give_equal_bytes(
    seed: int, cuts: set[int], kills: set[int]
) -> None:
    records = story(seed)
    stage = AdviseStage(SITE, solve)
    whole = stage.step(stage.fresh(), records)
    assert any(o.topic == TOPIC_SETPOINTS for o in whole.outputs)
    state, outputs = stage.fresh(), list[Output]()
    bounds = [0, *sorted(cuts), len(records)]
    for n, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        step = stage.step(state, records[start:stop])
        outputs += step.outputs
        state = step.state
        if n in kills:
            blob = stage.pack(state)
            stage = AdviseStage(SITE, solve)
            state = stage.unpack(blob)
            assert stage.pack(state) == blob
    assert tuple(outputs) == whole.outputs
    assert stage.pack(state) == stage.pack(whole.state)
    ids = [
        (m.recommendation_id, m.seq)
        for m in (msgspec.json.decode(o.value, type=Setpoint) for o in outputs if o.topic == TOPIC_SETPOINTS)
    ]
    assert len(set(ids)) == len(ids)


def test_a_foreign_blob_is_refused_and_nothing_is_re_read() -> None:
    stage = AdviseStage(SITE, solve)
    with pytest.raises(StateError):
        stage.unpack(b"nonsense")
    assert stage.resume_offset(stage.fresh(), TOPIC_ALERTS, 7) == 7
    assert stage.warm(stage.fresh(), []) == stage.learn(stage.fresh(), []) == stage.fresh()

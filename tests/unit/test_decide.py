"""Protects the promise to the operator: one alert for one disturbance, never a flood, never silence."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import SiteConfig
from streamproc.core.alarm import TRANSITIONS, after
from streamproc.core.messages import Finding, Operator, encode
from streamproc.stages.decide import DecideStage
from streamproc.values import TOPIC_FINDINGS, TOPIC_OPERATOR, Output, Record

S = 1_000_000  # us


def finding(
    what: str, at_s: float, sources: Sequence[str] = ("P1",), rule: str = "jump", **more: object
) -> Finding:
    ts_us = round(at_s * S)
    base: dict[str, object] = {
        "type": what,
        "finding_id": f"{what}{rule}{ts_us}{sources}{more.get('area', '')}",
        "area": "north",
        "position": "main",
        "ts_us": ts_us,
        "kind": "frequency_jump",
        "rule": rule,
        "priority": 2,
        "sources": tuple(sources),
        "scores": (2.0,) * len(sources),
        "onsets_us": (ts_us,) * len(sources),
        "limit": 0.5,
        "unit": "Hz",
        "text": "{source} has {value} {unit}, limit {limit}",
        "model_digest": "d",
    }
    return Finding(**{**base, **more})  # type: ignore[arg-type]


def mark(at_s: float, area: str = "north") -> Finding:
    return Finding(
        type="watermark", finding_id=f"w{at_s}{area}", area=area, position="main", ts_us=round(at_s * S)
    )


def records(messages: Sequence[Finding | Operator]) -> list[Record]:
    return [
        Record(TOPIC_OPERATOR if isinstance(m, Operator) else TOPIC_FINDINGS, 0, i, 0, b"main", encode(m))
        for i, m in enumerate(messages)
    ]


def run(messages: Sequence[Finding | Operator]) -> list[dict[str, object]]:
    stage = DecideStage(SiteConfig())
    step = stage.step(stage.fresh(), records(messages))
    return [orjson.loads(o.value) for o in step.outputs]


def test_many_pmus_and_rules_within_one_disturbance_are_one_alert() -> None:
    told = run(
        [
            finding("raise", 10.0, ["P3", "P1"], onsets_us=(round(9.9 * S), 10 * S)),
            finding("raise", 10.1, ["P2"], rule="rocof"),
            finding("raise", 14.0, ["P1"], rule="oscillation"),
            finding("clear", 20.0, ["P1", "P3"]),
            finding("clear", 20.0, ["P2"], rule="rocof"),
            finding("clear", 21.0, ["P1"], rule="oscillation"),
            mark(25.0),
            mark(26.0),
        ]
    )
    assert {t["alert_id"] for t in told} == {told[0]["alert_id"]}
    assert told[0]["source"] == "P3"
    assert told[0]["onset_ts_us"] == round(9.9 * S)
    assert [t["state"] for t in told] == ["UNACK", "RTNUN"]
    assert [t["seq"] for t in told] == [1, 2]
    assert told[-1]["cleared_ts_us"] == 21 * S
    assert told[-1]["ts_us"] == 26 * S  # quiet for five seconds
    assert told[-1]["rules"] == ["jump", "oscillation", "rocof"]


def test_a_second_disturbance_during_a_long_one_is_its_own_alert() -> None:
    told = run(
        [
            finding("raise", 10.0, rule="oscillation"),
            *map(mark, range(11, 60)),
            finding("raise", 60.0, ["P9"]),
        ]
    )
    assert len({t["alert_id"] for t in told}) == 2


def test_grid_and_quality_never_share_an_alert() -> None:
    told = run([finding("raise", 10.0), finding("raise", 10.0, rule="data_missing", family="quality")])
    assert [t["family"] for t in told] == ["grid", "quality"]
    assert told[0]["alert_id"] != told[1]["alert_id"]


def test_areas_do_not_share_an_alert() -> None:
    told = run([finding("raise", 10.0), finding("raise", 10.0, area="south")])
    assert len({t["alert_id"] for t in told}) == 2


def test_a_finding_that_comes_twice_changes_nothing() -> None:
    once = [finding("raise", 10.0), finding("clear", 12.0), mark(30.0)]
    assert run([*once, *once]) == run(once)


def test_ten_thousand_sources_at_once_are_one_alert_with_a_bounded_list() -> None:
    told = run([finding("raise", 10.0, [f"P{i:05d}" for i in range(10_000)])])
    assert len(told) == 1
    assert told[0]["members"] == 10_000
    assert len(told[0]["sources"]) == SiteConfig().decide.sources_max  # type: ignore[arg-type]


def test_acknowledge_then_clear_is_normal() -> None:
    (first,) = run([finding("raise", 10.0)])
    ack = Operator(
        action="acknowledge", alert_id=str(first["alert_id"]), user="ann", ts_us=12 * S, comment="seen"
    )
    told = run([finding("raise", 10.0), ack, finding("clear", 13.0), mark(20.0)])
    assert [t["state"] for t in told] == ["UNACK", "ACKED", "NORM"]
    assert told[1]["ack_by"] == "ann"
    assert told[1]["ack_comment"] == "seen"


def test_cleared_first_stays_until_acknowledged() -> None:
    (first,) = run([finding("raise", 10.0)])
    ack = Operator(action="acknowledge", alert_id=str(first["alert_id"]), user="ann", ts_us=900 * S)
    told = run([finding("raise", 10.0), finding("clear", 13.0), mark(20.0), mark(800.0), ack])
    assert [t["state"] for t in told] == ["UNACK", "RTNUN", "NORM"]


def test_a_worse_finding_reopens_an_acknowledged_alert() -> None:
    (first,) = run([finding("raise", 10.0)])
    ack = Operator(action="acknowledge", alert_id=str(first["alert_id"]), user="ann", ts_us=11 * S)
    told = run(
        [
            finding("raise", 10.0),
            ack,
            finding("raise", 12.0, rule="limit", priority=1, kind="frequency_limit"),
        ]
    )
    assert [t["state"] for t in told] == ["UNACK", "ACKED", "UNACK"]
    assert told[-1]["priority"] == 1
    assert told[-1]["kind"] == "frequency_limit"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", b"empty"),
        (b"{", b"not_json"),
        (b'{"schema":"finding/2"}', b"wrong_schema"),
        (b'{"schema":"finding/1"}', b"wrong_type"),
        (b'{"a":1,"a":2}', b"duplicate_key"),
    ],
)
def test_what_is_no_finding_goes_to_the_dead_letters(value: bytes, reason: bytes) -> None:
    stage = DecideStage(SiteConfig())
    step = stage.step(stage.fresh(), [Record(TOPIC_FINDINGS, 0, 7, 5, b"main", value)])
    (dead,) = step.outputs
    assert dead.topic == TOPIC_FINDINGS + ".dlq"
    assert dict(dead.headers)["reason"] == reason
    assert dict(dead.headers)["offset"] == b"7"
    assert dead.value == value


def test_an_unknown_alert_or_action_is_refused_with_its_reason() -> None:
    stage = DecideStage(SiteConfig())
    said = [
        Operator(action="acknowledge", alert_id="nobody", user="x", ts_us=1),
        Operator(action="trip", alert_id="nobody", user="x", ts_us=1),
    ]
    step = stage.step(stage.fresh(), records(said))
    assert [dict(o.headers)["reason"] for o in step.outputs] == [b"unknown_alert", b"unsupported_action"]


def test_the_table_has_no_way_out_of_an_active_alert_but_clear_and_acknowledge() -> None:
    assert {h for (s, h) in TRANSITIONS if s == "UNACK"} == {"acknowledge", "clear"}
    assert after("NORM", "acknowledge") == "NORM"


steps = st.lists(
    st.tuples(
        st.sampled_from(["raise", "clear", "update", "mark"]),
        st.sampled_from(["P1", "P2", "P3"]),
        st.sampled_from(["jump", "rocof"]),
        st.floats(0.0, 8.0),
    ),
    max_size=40,
)


@given(steps, st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_split_and_any_restart_gives_the_same_bytes(
    chosen: list[tuple[str, str, str, float]], cuts: list[int]
) -> None:
    at_s, messages = 10.0, []
    for kind, source, rule, wait_s in chosen:
        at_s += wait_s
        messages.append(mark(at_s) if kind == "mark" else finding(kind, at_s, [source], rule))
    every = records(messages)
    stage = DecideStage(SiteConfig())
    whole = stage.step(stage.fresh(), every)
    state, told = stage.fresh(), list[Output]()
    bounds = [0, *sorted(min(c, len(every)) for c in cuts), len(every)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        state = stage.unpack(stage.pack(state))  # a restart at every cut
        step = stage.step(state, every[start:stop])
        state = step.state
        told += step.outputs
    assert tuple(told) == whole.outputs
    assert stage.pack(state) == stage.pack(whole.state)

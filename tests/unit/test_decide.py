"""Protects the promise to the operator: one alert for one disturbance, never a flood, never silence."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamproc.config import AreaTable, SiteConfig
from streamproc.core.blob import pack_tree
from streamproc.core.decide import OPEN_ALERTS_MAX, SEEN_MAX
from streamproc.core.messages import Finding, Operator, encode
from streamproc.errors import StateError
from streamproc.shell.schema_files import schema_of
from streamproc.stages.decide import DecideStage
from streamproc.values import TOPIC_ALERTS, TOPIC_FINDINGS, TOPIC_OPERATOR, Output, Record

S = 1_000_000  # us
ALERT = Draft202012Validator(schema_of("alert"))


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
    told = [orjson.loads(o.value) for o in step.outputs if o.topic == TOPIC_ALERTS]
    for alert in told:
        ALERT.validate(alert)
    return told


def ack(alert: dict[str, object], at_s: float, user: str = "ann", comment: str = "") -> Operator:
    return Operator(
        action="acknowledge",
        alert_id=str(alert["alert_id"]),
        user=user,
        ts_us=round(at_s * S),
        comment=comment,
    )


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


def test_the_first_in_of_one_frame_is_the_source_that_shows_most() -> None:
    told = run([finding("raise", 10.0, ["P1", "P2", "P3"], scores=(1.5, 9.0, 3.0))])
    assert told[0]["source"] == "P2"


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
    assert [t["family"] for t in told[:2]] == ["grid", "quality"]
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


steps = st.lists(
    st.tuples(
        st.sampled_from(["raise", "clear", "update", "mark", "again", "acknowledge"]),
        st.sampled_from([("P1",), ("P2",), ("P1", "P2"), ("P3", "P4", "P5", "P6")]),
        st.sampled_from(["jump", "rocof"]),
        st.floats(0.0, 8.0),
    ),
    max_size=40,
)


@given(steps, st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_split_and_any_restart_gives_the_same_bytes(
    chosen: list[tuple[str, tuple[str, ...], str, float]], cuts: list[int]
) -> None:
    at_s, messages = 10.0, list[Finding | Operator]()
    for number, (kind, sources, rule, wait_s) in enumerate(chosen):
        at_s += wait_s
        if kind == "mark":
            messages.append(mark(at_s))
        elif kind == "again":
            messages += messages[-3:]
        elif kind == "acknowledge":
            known = run(messages)
            messages += [ack(alert, at_s) for alert in known[-1:]]
        else:
            scores = (2.0 + number,) * len(sources)
            messages.append(finding(kind, at_s, sources, rule, scores=scores))
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


def test_the_same_pmus_in_a_second_disturbance_during_a_long_one_are_another_alert() -> None:
    told = run(
        [
            finding("raise", 10.0, ["P1", "P2"]),
            finding("raise", 11.0, ["P1"], rule="oscillation"),
            finding("clear", 12.0, ["P1", "P2"]),
            *map(mark, range(13, 300)),
            finding("raise", 300.0, ["P1", "P2"]),
        ]
    )
    assert len({t["alert_id"] for t in told}) == 2
    assert told[-1]["onset_ts_us"] == 300 * S


def test_a_condition_that_chatters_stays_in_its_alert() -> None:
    beats = [finding(what, at, ["P1"]) for at in range(10, 200, 8) for what in ("raise", "clear")]
    beats = [b if b.type == "raise" else msgspec.structs.replace(b, ts_us=b.ts_us + 4 * S) for b in beats]
    told = run(beats)
    assert [(t["seq"], t["state"]) for t in told] == [(1, "UNACK")]


def test_one_instant_may_clear_parts_of_several_alerts() -> None:
    told = run(
        [
            finding("raise", 10.0, ["P1"], rule="oscillation"),
            finding("raise", 60.0, ["P2"], rule="oscillation"),
            finding("clear", 100.0, ["P1", "P2"], rule="oscillation"),
            mark(110.0),
        ]
    )
    assert len({t["alert_id"] for t in told}) == 2
    assert [t["state"] for t in told] == ["UNACK", "UNACK", "RTNUN", "RTNUN"]


def test_growth_within_the_first_second_is_told_when_the_second_is_over() -> None:
    told = run(
        [
            finding("raise", 10.0, ["P1"]),
            finding("raise", 10.1, [f"P{i}" for i in range(2, 30)]),
            finding("update", 10.2, ["P1"], scores=(9.0,)),
            mark(10.9),
            mark(11.0),
            mark(12.0),
            mark(40.0),
        ]
    )
    assert [(t["seq"], t["members"], t["ts_us"]) for t in told] == [(1, 1, 10 * S), (2, 29, 11 * S)]
    assert told[1]["score"] == 9.0
    assert "P1 and 28 others" in str(told[1]["message"])


def test_a_normal_alert_that_comes_back_within_the_window_is_the_same_one_and_not_acknowledged() -> None:
    (first,) = run([finding("raise", 10.0)])
    again = [
        finding("raise", 10.0),
        ack(first, 11),
        finding("clear", 12.0),
        mark(18.0),
        finding("raise", 20.0),
    ]
    told = run(again)
    assert len({t["alert_id"] for t in told}) == 1
    assert [t["state"] for t in told] == ["UNACK", "ACKED", "NORM", "UNACK"]
    assert told[-1]["ack_by"] is None
    assert told[-1]["cleared_ts_us"] is None


def test_after_the_window_it_is_a_new_one() -> None:
    told = run([finding("raise", 10.0), finding("clear", 12.0), mark(18.0), finding("raise", 30.0)])
    assert [t["state"] for t in told] == ["UNACK", "RTNUN", "UNACK"]
    assert told[-1]["alert_id"] != told[0]["alert_id"]


def test_a_clock_of_an_operator_that_is_ahead_holds_back_no_update() -> None:
    (first,) = run([finding("raise", 10.0)])
    told = run([finding("raise", 10.0), ack(first, 10**6), finding("update", 15.0, scores=(7.0,))])
    assert [(t["state"], t["ts_us"]) for t in told] == [
        ("UNACK", 10 * S),
        ("ACKED", 10**12),
        ("ACKED", 15 * S),
    ]


def test_the_measured_value_is_told_where_a_finding_has_it() -> None:
    (told,) = run(
        [finding("raise", 10.0, ["V1", "V2"], scores=(1.1, 1.2), values=(107.0, 106.0), limit=110.0)]
    )
    assert told["value"] == 106.0
    assert str(told["message"]).startswith("V2 and 1 other has 106 Hz, limit 110 (area north), since 1970-")


@pytest.mark.parametrize("text", ["{", "{}", "{0}", "{source.__class__}", "{source!r:>9999999}", "{nobody}"])
def test_a_strange_text_ends_nothing(text: str) -> None:
    (told,) = run([finding("raise", 10.0, text=text)])
    assert str(told["message"]).startswith(text)


def test_a_score_that_no_float_can_scale_is_told_all_the_same() -> None:
    (told,) = run([finding("raise", 10.0, scores=(1.7e308,), limit=50.0)])
    assert told["value"] == 1e300


def test_first_in_is_the_earliest_onset_then_the_higher_priority() -> None:
    told = run(
        [
            finding("raise", 10.0, ["P5", "P4"]),
            finding("raise", 10.0, ["P9"], rule="limit", priority=1),
            finding("raise", 10.1, ["P1"], rule="slow", onsets_us=(round(9.5 * S),)),
        ]
    )
    assert [t["source"] for t in told] == ["P4", "P9", "P1"]
    assert [t["onset_ts_us"] for t in told] == [10 * S, 10 * S, round(9.5 * S)]
    assert len({t["alert_id"] for t in told}) == 1


def test_the_id_is_a_hash_of_what_was_seen_first() -> None:
    (told,) = run([finding("raise", 10.0)])
    assert told["alert_id"] == sha256(b"jump|1|d|north|P1|10000000").hexdigest()[:32]


def test_a_watermark_that_comes_late_or_twice_changes_nothing() -> None:
    once = [finding("raise", 10.0), finding("clear", 12.0), mark(17.0)]
    assert run([*once, mark(17.0), mark(11.0)]) == run(once)


def test_only_the_time_of_the_same_area_lets_an_alert_go() -> None:
    told = run([finding("raise", 10.0), finding("clear", 12.0), mark(99.0, area="south")])
    assert [t["state"] for t in told] == ["UNACK"]


def test_the_gauge_falls_to_zero_for_every_position_of_the_site() -> None:
    stage = DecideStage(SiteConfig(area=(AreaTable(name="north", position="west"),)))
    step = stage.step(stage.fresh(), records([finding("raise", 10.0, position="west")]))
    active = {position: n for (name, position), n in step.gauges.items() if name == "active_alerts"}
    assert active == {"main": 0.0, "west": 1.0}
    assert step.gauges["alerts_in_state", "UNACK"] == 1.0
    (output,) = step.outputs
    done = [ack(orjson.loads(output.value), 11), finding("clear", 12.0), mark(20.0)]
    assert stage.step(step.state, records(done)).gauges[("active_alerts", "west")] == 0.0


def test_memory_is_bounded() -> None:
    stage = DecideStage(SiteConfig())
    state = stage.fresh()
    every = [
        m
        for i in range(300)
        for m in (finding("raise", i * 100.0), finding("clear", i * 100.0 + 1), mark(i * 100.0 + 50))
    ]
    state = stage.step(state, records(every)).state
    assert len(state.alerts) == 300  # nobody acknowledged: they stay, up to a named limit
    assert len(state.alerts) < OPEN_ALERTS_MAX
    assert all(len(ids) <= SEEN_MAX for ids in state.seen.values())
    done = [ack({"alert_id": alert_id}, 10**5) for alert_id in state.alerts]
    state = stage.step(state, records([*done, mark(10**5)])).state
    assert not state.alerts
    assert len(stage.pack(state)) < 64 * SEEN_MAX


def test_beyond_the_limit_the_oldest_that_are_over_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.core.decide.OPEN_ALERTS_MAX", 3)
    stage = DecideStage(SiteConfig())
    over = [
        m
        for at in (10.0, 100.0, 200.0)
        for m in (finding("raise", at), finding("clear", at + 1), mark(at + 9))
    ]
    state = stage.step(
        stage.fresh(), records([*over, finding("raise", 300.0), finding("raise", 400.0, ["P2"])])
    ).state
    assert [a.onset_us // S for a in state.alerts.values()] == [200, 300, 400]


def test_a_finding_older_than_what_is_remembered_opens_nothing_twice() -> None:
    many = [finding("update", 10.0 + i, ["nobody"]) for i in range(1, SEEN_MAX + 2)]
    first = [finding("raise", 10.0), finding("clear", 12.0), mark(20.0)]
    assert run([*first, *many, *first]) == run(first)


@pytest.mark.parametrize(
    "blob", [b"", b"x", pack_tree("score/1", {}), pack_tree("decide/1", {"alerts": [{}]})]
)
def test_a_blob_of_another_kind_is_refused(blob: bytes) -> None:
    stage = DecideStage(SiteConfig())
    with pytest.raises(StateError):
        stage.unpack(blob)


def ids(told: Sequence[dict[str, object]]) -> list[object]:
    return list(dict.fromkeys(alert["alert_id"] for alert in told))


def test_what_chatters_for_minutes_does_not_swallow_the_next_event() -> None:
    said = [finding("raise", 0.0, ("P1", "P2", "P3"), scores=(9.0, 8.0, 7.0))]
    for start in range(2, 92, 6):
        said += [finding("clear", start, ("P1",)), finding("raise", start + 3.0, ("P1",))]
    said += [finding("clear", 4.1, ("P2", "P3"))]
    said += [finding("raise", 90.0, ("P2", "P3"), scores=(5.0, 4.0))]
    told = run(sorted(said, key=lambda message: message.ts_us))
    assert len(ids(told)) == 2
    assert told[-1]["source"] == "P2"


@pytest.mark.parametrize(
    ("at_s", "score", "kind", "alerts"),
    [
        (12.0, 30.0, "frequency_jump", 2),  # far larger: no consequence of what was there
        (12.0, 15.0, "frequency_jump", 1),
        (6.0, 30.0, "frequency_jump", 1),  # so early a disturbance still shows itself
        (12.0, 30.0, "oscillation", 1),  # oscillations grow
    ],
)
def test_only_what_stands_out_of_a_disturbance_is_another_one(
    at_s: float, score: float, kind: str, alerts: int
) -> None:
    said = [
        finding("raise", 0.0, ("P1", "P2"), scores=(8.0, 7.0)),
        finding("raise", at_s, ("P3", "P4"), rule="voltage_jump", kind=kind, scores=(score, score)),
    ]
    assert len(ids(run(said))) == alerts

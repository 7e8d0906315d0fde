"""Protects the desk: one event is one card, updated in place; causes are told from consequences; a flood stays readable
and nothing in it is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamproc.config import AnnunciateTable, SiteConfig
from streamproc.core.messages import Alert, encode
from streamproc.core.quality import SUSPECT_TIME
from streamproc.core.topology import Topology, topology_of
from streamproc.shell.schema_files import examples, schema_of
from streamproc.stages.annunciate import AnnunciateStage
from streamproc.values import TOPIC_ALERTS, TOPIC_CARDS, Record
from tests.unit.alarm_cases import Desk, S

CARD = Draft202012Validator(schema_of("card"))
EXAMPLE = examples()["alert"]
assert isinstance(EXAMPLE, Alert)
BASE: dict[str, Any] = {name: getattr(EXAMPLE, name) for name in EXAMPLE.__struct_fields__}
# Six substations in a row, and one that is far away; one point and one PMU in each.
ROW = topology_of(
    [(f"B{n}", f"B{n + 1}") for n in range(5)],
    {f"P{n}": frozenset({f"B{n}"}) for n in range(6)} | {f"V{n}": frozenset({f"B{n}"}) for n in range(6)},
)


def alert(name: str, at_s: float, state: str = "UNACK", seq: int = 1, **more: Any) -> Alert:
    onset_us = round(more.pop("onset_s", at_s) * S)
    sources = tuple(more.pop("sources", ("P1",)))
    usual = {
        "alert_id": name,
        "seq": seq,
        "state": state,
        "onset_ts_us": onset_us,
        "ts_us": round(at_s * S),
        "source": sources[0],
        "sources": sources,
        "members": len(sources),
        "disturbance": None,
        "command": None,
        "held": None,
        "guidance": None,
        "message": name,
        "rule": "jump",
        "priority": 2,
    }
    return Alert(**{**BASE, **usual, **more})


def limit(name: str, at_s: float, state: str = "UNACK", **more: Any) -> Alert:
    source = more.pop("source", "V1")
    return alert(
        name,
        at_s,
        state,
        kind="point_low",
        rule=f"point_low:{source}",
        sources=(source,),
        model_digest="",
        **more,
    )


def records(alerts: list[Alert]) -> list[Record]:
    return [Record(TOPIC_ALERTS, 0, i, a.ts_us // 1000, b"", encode(a)) for i, a in enumerate(alerts)]


def run(
    alerts: list[Alert], topology: Topology | None = None, config: SiteConfig | None = None
) -> list[dict[str, Any]]:
    stage = AnnunciateStage(config or SiteConfig(), topology)
    step = stage.step(stage.fresh(), records(alerts))
    told = [orjson.loads(o.value) for o in step.outputs if o.topic == TOPIC_CARDS]
    for card in told:
        CARD.validate(card)
    return told


def test_one_event_is_one_card_updated_in_place_with_cause_and_consequences() -> None:
    told = run(
        [
            limit("voltage", 100.4),
            alert("fault", 100.5, onset_s=100.0),
            alert("data", 101.0, family="quality", kind="data_missing", rule="data_missing", priority=3),
        ]
    )
    assert len({card["card_id"] for card in told}) == 1
    assert [card["seq"] for card in told] == [1, 2, 3]
    last = told[-1]
    assert (last["parent"], last["consequences"]) == ("fault", ["voltage", "data"])
    assert last["message"] == "fault; with 1 limit, 1 source of doubtful data"
    assert [card["annunciate"] for card in told] == [True, False, False]
    assert last["first_in"] == "P1"


def test_first_in_is_corrected_by_the_quality_of_time() -> None:
    doubtful = {"quality_flags": SUSPECT_TIME, "sources": ("P9",)}
    near = run([alert("a", 100.0), alert("b", 100.3, onset_s=99.5, rule="x", kind="k", **doubtful)])
    assert near[-1]["first_in"] == "P1"
    sure = run([alert("a", 100.0), alert("b", 100.3, onset_s=98.5, rule="x", kind="k", **doubtful)])
    assert sure[-1]["first_in"] in {"P1", "P9"}
    assert sure[-1]["onset_ts_us"] <= 100 * S


def test_space_parts_what_time_does_not() -> None:
    both = [limit("a", 100.0, source="V0"), limit("b", 101.0, source="V5")]
    assert len({card["card_id"] for card in run(both)}) == 1  # without a network: the area
    assert len({card["card_id"] for card in run(both, ROW)}) == 2
    near = [limit("a", 100.0, source="V0"), limit("b", 101.0, source="V2")]
    assert len({card["card_id"] for card in run(near, ROW)}) == 1
    event = [alert("fault", 100.0, sources=("P0",), kind="frequency_jump"), limit("b", 101.0, source="V5")]
    assert len({card["card_id"] for card in run(event, ROW)}) == 1  # frequency is felt everywhere


def test_two_areas_feel_one_event_and_two_events_are_two_cards() -> None:
    felt = [alert("n", 100.0), alert("s", 100.8, area="south")]
    assert len({card["card_id"] for card in run(felt)}) == 1
    assert run(felt)[-1]["areas"] == ["north", "south"]
    apart = [alert("n", 100.0), alert("s", 110.0, area="south")]
    assert len({card["card_id"] for card in run(apart)}) == 2
    assert len({card["card_id"] for card in run([alert("n", 100.0), alert("m", 112.0)])}) == 2


def test_the_state_is_that_of_the_most_pressing_member_and_an_ack_stays_through_updates() -> None:
    told = run(
        [
            alert("a", 100.0),
            alert("a", 105.0, "ACKED", 2, ack_by="ann"),
            alert("a", 106.0, "ACKED", 3, ack_by="ann", score=9.0),
            limit("v", 107.0),
            limit("v", 120.0, "RTNUN", seq=2),
            alert("a", 130.0, "NORM", 4),
            limit("v", 140.0, "NORM", seq=3),
        ]
    )
    assert [c["state"] for c in told] == ["UNACK", "ACKED", "ACKED", "UNACK", "ACKED", "RTNUN", "NORM"]
    assert [c["annunciate"] for c in told] == [True, False, False, True, False, False, False]


def test_what_chatters_for_an_hour_is_one_card_that_says_so() -> None:
    alerts = []
    for turn in range(60):
        alerts.append(limit(f"c{turn}", 100.0 + 60 * turn))
        alerts.append(limit(f"c{turn}", 130.0 + 60 * turn, "RTNUN", seq=2))
    told = run(alerts)
    assert len({card["card_id"] for card in told}) == 1
    assert told[-1]["raised"] == 60
    assert "came back" not in told[0]["message"]


def test_beyond_the_rate_one_card_counts_exactly_and_priority_one_always_comes() -> None:
    alerts = [limit(f"a{n}", 100.0 + 0.01 * n, source=f"Q{n}", area="north") for n in range(40)]
    far = topology_of([], {f"Q{n}": frozenset({f"B{n}"}) for n in range(41)})
    urgent = limit("urgent", 102.0, source="Q40", priority=1)
    told = run([*alerts, urgent], far)
    shown = {c["card_id"] for c in told if c["kind"] != "alarm_flood"}
    assert len(shown) == 11
    assert any(c["priority"] == 1 and c["annunciate"] for c in told)
    floods = [c for c in told if c["kind"] == "alarm_flood"]
    assert floods[-1]["waiting"] == {"P2": 30}
    assert [c["annunciate"] for c in floods] == [True] + [False] * 29
    assert told[0]["parent"] == "a0"  # first-out is kept


def test_what_still_presses_gets_its_turn_when_there_is_room_and_the_count_ends() -> None:
    alerts = [limit(f"a{n}", 100.0 + 0.01 * n, source=f"Q{n}") for n in range(14)]
    gone = [limit(f"a{n}", 200.0 + n, "NORM", seq=2, source=f"Q{n}") for n in (12, 13)]
    later = [limit("later", 800.0, source="Q20")]
    far = topology_of([], {f"Q{n}": frozenset({f"B{n}"}) for n in range(21)})
    told = run([*alerts, *gone, *later], far)
    shown = [c["parent"] for c in told if c["annunciate"] and c["kind"] != "alarm_flood"]
    assert set(shown) == {f"a{n}" for n in range(12)} | {"later"}
    floods = [c for c in told if c["kind"] == "alarm_flood"]
    assert (floods[-1]["waiting"], floods[-1]["state"]) == ({}, "NORM")


def test_ten_thousand_simultaneous_triggers() -> None:
    """Raw topic complete, desk within its rate, first-out kept, counts exact."""
    desk = Desk()
    sources = [f"PMU{n}" for n in range(10_000)]
    for start in range(0, 10_000, 500):
        onsets = tuple(100 * S + start + n for n in range(500))
        desk.edge("raise", 100.0 + start / 1e6, sources[start : start + 500], onsets_us=onsets)
    desk.time(103.0)
    last = desk.records[-1]
    assert last["members"] == 10_000
    cards = run([Alert(**_typed(r)) for r in desk.records])
    assert len({c["card_id"] for c in cards}) == 1
    assert (cards[-1]["sources"], cards[-1]["first_in"]) == (10_000, "PMU0")
    assert sum(c["annunciate"] for c in cards) == 1


def _typed(record: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    alert = msgspec.convert(record, Alert)
    return {name: getattr(alert, name) for name in alert.__struct_fields__}


steps = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["UNACK", "ACKED", "RTNUN", "NORM", "SHLVD"]),
        st.sampled_from([1, 2, 3]),
        st.floats(0.0, 200.0),
    ),
    max_size=40,
)


@given(steps, st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_split_and_any_restart_gives_the_same_bytes(
    chosen: list[tuple[int, str, int, float]], cuts: list[int]
) -> None:
    at_s, seqs, alerts = 100.0, Counter[int](), list[Alert]()
    for number, state, priority, wait_s in chosen:
        at_s += wait_s
        seqs[number] += 1
        make = limit if number % 2 else alert
        place = {"source": f"V{number}"} if number % 2 else {"sources": (f"P{number}",)}
        alerts.append(make(f"a{number}", at_s, state, seq=seqs[number], priority=priority, **place))
    every = records(alerts)
    stage = AnnunciateStage(SiteConfig(annunciate=AnnunciateTable(rate_max=2)), ROW)
    whole = stage.step(stage.fresh(), every)
    state_, told = stage.fresh(), []
    bounds = [0, *sorted(min(c, len(every)) for c in cuts), len(every)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        state_ = stage.unpack(stage.pack(state_))
        step = stage.step(state_, every[start:stop])
        state_ = step.state
        told += step.outputs
    assert tuple(told) == whole.outputs
    assert stage.pack(state_) == stage.pack(whole.state)


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([1, 2, 3, 4]), st.floats(0, 90)), max_size=80))
@settings(max_examples=60, deadline=None)
def test_no_ten_minutes_hold_more_than_the_rate_and_priority_one(
    chosen: list[tuple[int, int, float]],
) -> None:
    at_s, alerts = 0.0, []
    for number, (place, priority, wait_s) in enumerate(chosen):
        at_s += wait_s
        alerts.append(limit(f"a{number}", at_s, source=f"Q{place}", priority=priority))
    far = topology_of([], {f"Q{n}": frozenset({f"B{n}"}) for n in range(61)})
    told = run(alerts, far, SiteConfig(annunciate=AnnunciateTable(rate_max=3)))
    new = [c["ts_us"] for c in told if c["annunciate"] and c["priority"] > 1 and c["kind"] != "alarm_flood"]
    for ts_us in new:
        assert sum(ts_us - 600 * S < other <= ts_us for other in new) <= 3
    urgent = {a.alert_id for a in alerts if a.priority == 1}
    shown = {c["parent"] for c in told} | {i for c in told for i in c["consequences"]}
    assert urgent <= shown


def test_a_strange_record_goes_to_the_dead_letters() -> None:
    stage = AnnunciateStage(SiteConfig())
    step = stage.step(stage.fresh(), [Record(TOPIC_ALERTS, 0, 5, 0, b"", b"{}")])
    (dead,) = step.outputs
    assert dict(dead.headers)["reason"] == b"wrong_type"

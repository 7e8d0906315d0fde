"""Protects the alarm life at the deciding stage: shelves end, nothing is hidden that must be seen, unknown is a third value.

The desk restarts from its blob at every record: what is said here survives every restart.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamproc.config import AreaTable, DecideTable, PositionTable, SiteConfig, SuppressTable
from streamproc.core.blob import pack_tree
from streamproc.core.decide import DecideState
from streamproc.errors import StateError
from streamproc.stages.decide import OLDER_KIND, DecideStage
from tests.unit.alarm_cases import Desk, S

HIDE = SiteConfig(suppress=(SuppressTable(rule="low:*", while_rule="breaker_open"),))


def raised(desk: Desk, at_s: float = 100.0, **more: Any) -> str:
    return str(desk.edge("raise", at_s, **more)[0]["alert_id"])


def test_a_shelf_is_told_with_who_why_and_until_when_and_comes_back_by_itself() -> None:
    desk = Desk()
    alert = raised(desk)
    told = desk.shelve(alert, 110.0, until_s=410.0)
    assert told["state"] == "SHLVD"
    assert told["held"] == {"by": "ann", "reason": "known", "until_ts_us": 410 * S, "one_shot": False}
    assert desk.time(409.0) == []
    (back,) = desk.time(411.0)
    assert (back["state"], back["ts_us"], back["held"]) == ("UNACK", 410 * S, None)


def test_a_shelf_ends_although_its_alarm_goes_on_updating() -> None:
    desk = Desk()
    alert = raised(desk)
    desk.shelve(alert, 110.0, until_s=170.0)
    for second in range(111, 175):
        desk.edge("update", second, scores=(float(second),))
    assert desk.last(alert)["state"] == "UNACK"


def test_a_one_shot_shelf_is_over_when_the_condition_returns_and_a_timed_one_is_not() -> None:
    for one_shot, state in ((True, "NORM"), (False, "SHLVD")):
        desk = Desk()
        alert = raised(desk)
        desk.shelve(alert, 101.0, until_s=1000.0, one_shot=one_shot)
        desk.edge("clear", 102.0)
        desk.time(110.0)
        assert desk.last(alert)["state"] == state
        assert desk.last(alert)["cleared_ts_us"] == 102 * S


def test_a_shelved_alarm_takes_in_its_own_members_for_hours_and_nothing_else() -> None:
    desk = Desk()
    alert = raised(desk, sources=("P1", "P2"))
    desk.shelve(alert, 101.0, until_s=7000.0)
    desk.edge("clear", 105.0, ("P1", "P2"))
    desk.time(120.0)
    (again,) = desk.edge("raise", 5000.0, ("P1",))
    assert (again["alert_id"], again["state"], again["cleared_ts_us"]) == (alert, "SHLVD", None)
    (other,) = desk.edge("raise", 5001.0, ("P1", "P9"))
    assert other["alert_id"] != alert
    assert other["state"] == "UNACK"


def test_what_stands_out_or_is_more_urgent_is_not_covered_by_a_shelf() -> None:
    desk = Desk()
    alert = raised(desk)
    desk.shelve(alert, 101.0, until_s=7000.0)
    desk.edge("clear", 105.0)
    large = desk.edge("raise", 200.0, scores=(4.0,))[-1]
    assert (large["alert_id"] != alert, large["state"]) == (True, "UNACK")
    urgent = Desk()
    alert = raised(urgent)
    urgent.shelve(alert, 101.0, until_s=7000.0)
    (told,) = urgent.edge("raise", 105.0, ("P1",), rule="jump", priority=1)
    assert (told["alert_id"], told["state"], told["held"]) == (alert, "UNACK", None)


def test_the_ceiling_of_a_shelf_is_the_sites() -> None:
    desk = Desk(SiteConfig(decide=DecideTable(shelve_max_min=10)))
    alert = raised(desk)
    told = desk.shelve(alert, 101.0, until_s=101.0 + 601.0)
    assert (told["state"], told["command"]["result"]) == ("UNACK", "refused")
    assert "at most 10 min" in told["command"]["reason"]
    assert desk.shelve(alert, 101.0, until_s=101.0 + 600.0)["state"] == "SHLVD"


def test_out_of_service_stays_until_somebody_returns_it() -> None:
    desk = Desk()
    alert = raised(desk)
    assert desk.say("out_of_service", alert, 101.0, reason="relay test")["state"] == "OOSRV"
    desk.edge("clear", 102.0)
    desk.time(1e6)
    desk.edge("raise", 1e6 + 1, scores=(50.0,))
    assert desk.last(alert)["state"] == "OOSRV"
    assert desk.say("return_to_service", alert, 1e6 + 2)["state"] == "UNACK"


def test_a_repeated_command_is_answered_once_and_a_contradictory_one_is_refused_with_the_reason() -> None:
    desk = Desk()
    alert = raised(desk)
    assert desk.say("acknowledge", alert, 101.0)["command"]["result"] == "done"
    repeated = desk.say("acknowledge", alert, 101.0)["command"]
    assert repeated["result"] == "repeated"
    assert "before" in repeated["reason"]
    assert desk.say("acknowledge", alert, 105.0, "bob")["command"]["reason"] == "it is ACKED already"
    refused = desk.say("unshelve", alert, 106.0)
    assert (refused["state"], refused["command"]["result"]) == ("ACKED", "refused")
    assert desk.last(alert)["ack_by"] == "ann"  # the first of two consoles
    assert desk.counts["operator_commands", "acknowledge/repeated"] == 2
    assert desk.counts["operator_commands", "unshelve/refused"] == 1


def test_of_two_consoles_the_first_in_the_topic_wins_whatever_their_clocks_say() -> None:
    for first, second in (("ann", "bob"), ("bob", "ann")):
        desk = Desk()
        alert = raised(desk)
        desk.say("acknowledge", alert, 103.0 if first == "ann" else 102.0, first)
        desk.say("shelve", alert, 102.5, second, reason="x", until_s=300.0)
        last = desk.last(alert)
        assert (last["state"], last["ack_by"], last["held"]["by"]) == ("SHLVD", first, second)


def test_a_name_that_the_position_does_not_list_is_refused_and_told() -> None:
    desk = Desk(SiteConfig(position=(PositionTable(name="main", users=("ann",)),)))
    alert = raised(desk)
    told = desk.say("acknowledge", alert, 101.0, "mallory")
    assert (told["state"], told["ack_by"], told["command"]["result"]) == ("UNACK", None, "refused")
    assert "'mallory' is not listed for position main" in told["command"]["reason"]


def test_a_command_from_before_the_last_raise_is_late() -> None:
    desk = Desk()
    alert = raised(desk)
    desk.say("acknowledge", alert, 101.0)
    desk.edge("raise", 110.0, priority=1)  # re-alarm
    assert desk.last(alert)["state"] == "UNACK"
    told = desk.say("acknowledge", alert, 105.0)
    assert (told["state"], told["command"]["result"]) == ("UNACK", "late")


def test_answers_to_recommendations_pass_by_and_are_counted() -> None:
    desk = Desk()
    desk.state = desk.stage.fresh()
    from streamproc.core.messages import Operator

    told = desk.take(Operator(action="accept", recommendation_id="r", user="ann", ts_us=1))
    assert told == desk.dead == []
    assert desk.counts["operator_commands", "accept/other"] == 1


def test_a_latched_alert_stays_until_it_is_reset() -> None:
    desk = Desk(SiteConfig(decide=DecideTable(latch=("jump*",))))
    alert = raised(desk)
    desk.say("acknowledge", alert, 101.0)
    desk.edge("clear", 102.0)
    (told,) = desk.time(108.0)
    assert (told["state"], told["latched"], told["cleared_ts_us"]) == ("ACKED", True, 102 * S)
    assert desk.time(1000.0) == []
    again = desk.edge("raise", 1000.5)
    assert again[0]["alert_id"] == alert or again[0]["state"] == "UNACK"
    desk.edge("clear", 1001.0)
    desk.time(1010.0)
    reset = desk.say("reset", alert, 1011.0)
    assert (reset["latched"], reset["command"]["result"]) == (False, "done")
    assert reset["state"] in {"NORM", "RTNUN"}


def test_suppression_by_design_is_told_never_hides_priority_one_and_ends_with_its_cause() -> None:
    desk = Desk(HIDE)
    (parent,) = desk.edge("raise", 100.0, ("CB7",), "breaker_open")
    told = desk.edge("raise", 130.0, ("BUS.V",), "low:BUS.V", priority=3)
    assert [t["state"] for t in told] == ["UNACK", "DSUPR"]
    assert told[-1]["suppressed_by"] == parent["alert_id"]
    urgent = desk.edge("raise", 160.0, ("BUS.W",), "low:BUS.W", priority=1)
    assert [t["state"] for t in urgent] == ["UNACK"]
    told = desk.edge("clear", 170.0, ("CB7",), "breaker_open")
    assert ("low:BUS.V", "UNACK") in [(t["rule"], t["state"]) for t in told]
    assert desk.counts["alert_transitions", "DSUPR"] == 1


def test_what_is_shelved_hides_nothing_and_two_never_hide_each_other() -> None:
    desk = Desk(HIDE)
    parent = raised(desk, sources=("CB7",), rule="breaker_open")
    desk.shelve(parent, 101.0, until_s=900.0)
    assert [t["state"] for t in desk.edge("raise", 130.0, ("BUS.V",), "low:BUS.V")] == ["UNACK"]
    both = SiteConfig(
        suppress=(
            SuppressTable(rule="a", while_rule="b"),
            SuppressTable(rule="b", while_rule="a"),
        )
    )
    desk = Desk(both)
    desk.edge("raise", 100.0, ("P1",), "a")
    desk.edge("raise", 130.0, ("P2",), "b")
    assert sorted(a["state"] for a in desk.newest.values()) == ["DSUPR", "UNACK"]


def test_unknown_holds_the_state_shows_its_age_and_becomes_an_alert_of_its_own() -> None:
    desk = Desk(SiteConfig(decide=DecideTable(hold_max_s=60)))
    alert = raised(desk)
    desk.edge("raise", 110.0, rule="data_missing", family="quality")
    held = desk.last(alert)
    assert (held["state"], held["unknown_since_ts_us"], held["quality"]) == ("UNACK", 110 * S, "BAD")
    assert "not evaluated since" in held["message"]
    desk.time(169.0)
    told = {t["rule"]: t for t in desk.time(171.0)}
    assert told["jump"]["unknown_s"] == 61.0
    doubt = told["cannot_evaluate"]
    assert (doubt["family"], doubt["state"], doubt["sources"]) == ("quality", "UNACK", ["P1"])
    # Acknowledging it, or "no data", acknowledges nothing behind it.
    missing = next(a for a in desk.newest.values() if a["rule"] == "data_missing")
    desk.say("acknowledge", doubt["alert_id"], 172.0)
    desk.say("acknowledge", missing["alert_id"], 172.0)
    assert desk.last(alert)["state"] == "UNACK"
    desk.edge("clear", 180.0, rule="data_missing", family="quality")
    assert desk.last(alert)["unknown_since_ts_us"] is None
    desk.time(190.0)
    assert desk.last(doubt["alert_id"])["state"] == "NORM"
    assert desk.last(alert)["state"] == "UNACK"


def test_one_source_that_can_be_seen_is_enough_and_a_silent_area_blinds_all() -> None:
    desk = Desk()
    alert = raised(desk, sources=("P1", "P2"))
    desk.edge("raise", 110.0, ("P1",), rule="data_missing", family="quality")
    assert desk.last(alert)["unknown_since_ts_us"] is None
    desk.edge("raise", 111.0, ("north",), rule="area_silent", family="service", model_digest="")
    assert desk.last(alert)["unknown_since_ts_us"] == 111 * S
    told = desk.time(111.0 + 301.0)
    assert [t["rule"] for t in told if t["seq"] == 1] == ["cannot_evaluate"]


def test_fifty_alerts_in_doubt_since_the_same_instant_are_one_alert_of_doubt() -> None:
    desk = Desk(SiteConfig(area=(AreaTable(name="north"),)))
    for number in range(50):
        desk.edge("raise", 100.0 + 20 * number, (f"P{number}",))
    desk.edge("raise", 2000.0, ("north",), rule="area_silent", family="service", model_digest="")
    told = desk.time(2400.0)
    doubts = [t for t in told if t["rule"] == "cannot_evaluate"]
    assert len({t["alert_id"] for t in doubts}) == 1
    assert desk.last(doubts[0]["alert_id"])["members"] == 50


def test_an_older_blob_is_understood_and_a_foreign_one_refused() -> None:
    """Acknowledgements of before an upgrade are there after it."""
    desk = Desk()
    alert = raised(desk)
    desk.say("acknowledge", alert, 101.0)
    rows = []
    for known in desk.state.alerts.values():
        fields = {name: value for name, value in msgspec.to_builtins(known).items() if name not in NEW}
        fields.pop("members")
        rows.append((fields, [(*key, cleared) for key, cleared in known.members.items()]))
    blob = pack_tree(OLDER_KIND, {"alerts": msgspec.msgpack.encode(rows), "seen": {}})
    stage = DecideStage(SiteConfig())
    assert stage.unpack(blob).alerts[alert].state == "ACKED"
    with pytest.raises(StateError, match="decide/1"):
        stage.unpack(pack_tree("decide/1", {"alerts": b"", "seen": {}}))
    assert stage.fresh() == DecideState()


NEW = {
    "raised_us",
    "returned",
    "latched",
    "held_by",
    "held_reason",
    "held_until_us",
    "one_shot",
    "suppressed_by",
    "unknown_us",
    "doubt_id",
    "command",
    "commands",
}

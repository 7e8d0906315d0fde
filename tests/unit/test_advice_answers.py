"""Protects what operators answer to advice: told back on its record, heeded, and held against what happened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.config import AreaTable, PositionTable
from streamproc.core.messages import Operator, encode
from streamproc.core.setpoint import Setpoint
from streamproc.shell.solver import solve
from streamproc.stages.advise import AdviseStage
from streamproc.values import TOPIC_OPERATOR, TOPIC_SETPOINTS, Output, Record
from tests.unit.test_advise import MINUTE_US, SITE, T0_US, alert, pair, point, run, storage


def said(action: str, identity: str, minute: float, user: str = "ann", **more: Any) -> Record:
    ts_us = T0_US + int(minute * MINUTE_US)
    words = Operator(action=action, recommendation_id=identity, user=user, ts_us=ts_us, **more)
    return Record(TOPIC_OPERATOR, 0, 0, ts_us // 1000, identity.encode(), encode(words))


def first_id() -> str:
    _, (issue,), _ = run(pair(0, 12.5))
    return issue.recommendation_id


ID = first_id()
FOLLOWED = [*pair(5, 12.5 - 1.12, battery=1.12), *pair(10, 12.5 - 1.12, battery=1.12)]


def test_accepted_advice_says_so_and_later_what_came_of_it() -> None:
    _, told, counts = run([*pair(0, 12.5), said("accept", ID, 1), *FOLLOWED])
    assert [m.action for m in told] == ["ISSUE", "ANSWER", "UPDATE", "OUTCOME", "UPDATE"]
    assert [m.seq for m in told] == [1, 2, 3, 4, 5]
    answer = told[1].answer
    assert answer is not None
    assert (answer.by, answer.action, answer.result) == ("ann", "accept", "done")
    assert told[1].forward == told[0].forward
    (found,) = told[3].outcome
    assert (found.point, found.verdict, found.promised) == ("F.P", "within", -1.12)
    assert found.realised == pytest.approx(-1.12)
    assert all(m.answer == answer for m in told[1:])
    assert counts["recommendation_answers", "accept/done"] == 1
    assert counts["recommendation_outcomes", "within"] == 1


def test_what_nobody_did_is_told_as_less() -> None:
    _, told, _ = run([*pair(0, 12.5), said("accept", ID, 1), *pair(5, 12.5), *pair(10, 12.5)])
    (found,) = next(m for m in told if m.action == "OUTCOME").outcome
    assert (found.verdict, found.realised) == ("less", 0.0)


def test_a_point_that_stays_away_ends_as_unknown_and_not_never() -> None:
    rest = [record for minute in (5, 10, 15, 20, 25, 30) for record in pair(minute, 12.5)[:1]]
    _, told, counts = run([*pair(0, 12.5), said("accept", ID, 1), *rest])
    assert next(m for m in told if m.action == "OUTCOME").outcome == ()
    assert counts["recommendation_outcomes", "unknown"] == 1


def test_rejected_advice_is_withdrawn_and_stays_away_for_an_hour() -> None:
    later = [record for minute in range(5, 75, 5) for record in pair(minute, 12.5)]
    _, told, _ = run([*pair(0, 12.5), said("reject", ID, 1, reason="unit under test"), *later])
    assert [m.action for m in told[:4]] == ["ISSUE", "ANSWER", "WITHDRAW", "ISSUE"]
    assert "unit under test" in told[2].reason
    assert told[3].ts_us >= T0_US + 60 * MINUTE_US
    assert told[3].recommendation_id != ID


def test_not_now_is_heard_for_the_hold_only() -> None:
    later = [record for minute in (5, 10, 15) for record in pair(minute, 12.5)]
    _, told, _ = run([*pair(0, 12.5), said("not_now", ID, 1), *later])
    assert [m.action for m in told[:4]] == ["ISSUE", "ANSWER", "WITHDRAW", "ISSUE"]
    assert told[3].ts_us <= T0_US + 11 * MINUTE_US


@pytest.mark.parametrize(
    ("answer", "result", "detail"),
    [
        (said("reject", ID, 1), "refused", "reject needs a reason"),
        (said("accept", ID, 30), "refused", "had expired"),
        (said("accept", ID, 1, "mallory"), "refused", "not listed for position desk"),
    ],
)
def test_an_answer_that_cannot_be_heeded_is_told_back(answer: Record, result: str, detail: str) -> None:
    site = msgspec.structs.replace(
        SITE,
        area=(AreaTable(name="north", position="desk"),),
        position=(PositionTable(name="desk", users=("ann",)),),
    )
    state, told, _ = run([*pair(0, 12.5), answer], site)
    assert [m.action for m in told] == ["ISSUE", "ANSWER"]
    assert told[1].answer is not None
    assert told[1].answer.result == result
    assert detail in told[1].answer.detail
    assert state.followed == ()


def test_the_second_answer_is_repeated_and_the_first_stays() -> None:
    answers = [said("accept", ID, 1), said("reject", ID, 2, "bob", reason="x")]
    _, told, counts = run([*pair(0, 12.5), *answers, *FOLLOWED])
    assert told[2].answer is not None
    assert (told[2].answer.result, told[2].answer.detail) == ("repeated", "ann has said accept")
    assert told[3].answer is not None
    assert told[3].answer.by == "ann"
    assert counts["recommendation_answers", "reject/repeated"] == 1


def test_an_unknown_recommendation_goes_to_the_dead_letters_and_words_to_alerts_pass_by() -> None:
    stage = AdviseStage(SITE, solve)
    alarm = Record(
        TOPIC_OPERATOR, 0, 0, 0, b"", encode(Operator(action="shelve", alert_id="a", user="x", ts_us=1))
    )
    step = stage.step(stage.fresh(), [said("accept", "nobody", 1), alarm])
    (dead,) = step.outputs
    assert dict(dead.headers)["reason"] == b"unknown_recommendation"
    assert step.counts["recommendation_answers", "accept/unknown"] == 1


def test_alternatives_and_the_worst_moment_with_and_without_are_told() -> None:
    site = msgspec.structs.replace(
        SITE,
        point=(*SITE.point, point("BAT2.P")),
        resource=(storage(), storage("BAT2", point="BAT2.P", cost=9.0)),
    )
    from tests.unit.test_advise import forecast

    _, (issue,), _ = run([forecast("BAT2.P", 0, 0.0), *pair(0, 12.5)], site)
    (other,) = issue.alternatives
    assert {d.resource for d in issue.forward} == {"BAT"}
    assert {d.resource for d in other.forward} == {"BAT2"}
    assert issue.cost is not None
    assert issue.cost < other.cost
    (effect,) = issue.expected_effect
    assert effect.without == pytest.approx(12.5)
    assert effect.with_advice == pytest.approx(12.5 + effect.change)
    assert effect.without_low is not None
    assert effect.with_low is not None
    assert effect.without_low < effect.without
    assert effect.with_low < 12.5 + effect.change - (effect.without - effect.without_low) + 1e-9


@given(st.lists(st.integers(0, 40), max_size=4), st.sampled_from(["accept", "reject", "not_now"]))
@settings(max_examples=40, deadline=None)
def test_other_batches_and_restarts_give_the_same_bytes(cuts: list[int], action: str) -> None:
    later = [record for minute in range(5, 40, 5) for record in pair(minute, 12.5 - 0.01 * minute)]
    records = [*pair(0, 12.5), said(action, ID, 1, reason="x"), said("accept", ID, 2), *later]
    records.insert(6, alert(7, "UNACK", 1))
    stage = AdviseStage(SITE, solve)
    whole = stage.step(stage.fresh(), records)
    state, told = stage.fresh(), list[Output]()
    bounds = [0, *sorted(min(c, len(records)) for c in cuts), len(records)]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        state = stage.unpack(stage.pack(state))
        step = stage.step(state, records[start:stop])
        state = step.state
        told += step.outputs
    assert tuple(told) == whole.outputs
    assert stage.pack(state) == stage.pack(whole.state)
    for output in told:
        if output.topic == TOPIC_SETPOINTS:
            assert msgspec.json.decode(output.value, type=Setpoint).advice_only is True

"""Protects the last look at a recommendation: a truth table over every precondition, adversarial numbers, and that it
shares nothing with those whom it checks."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core import advice_guard
from streamproc.core.advice_guard import Declared, Seen, objections
from streamproc.core.setpoint import Difference, Effect, Setpoint

NOW_US = 1_790_000_000_000_000
MINUTE_US = 60_000_000
BATTERY = Declared(-5.0, 5.0, 1.0, False, {"F.P": -1.0, "G.P": 0.5}, 0.0, 0, 12 * MINUTE_US)
FEEDER = Seen(12.0, -12.0, 12.6, 9.0, 0, 12 * MINUTE_US)
OTHER = Seen(20.0, -20.0, 10.0, 8.0, 0, 12 * MINUTE_US)


def difference(value: float, resource: str = "BAT") -> Difference:
    return Difference(resource=resource, attribute="setpoint", value=value, unit="MW")


def effect(point: str, change: float, **more: Any) -> Effect:
    low, high = sorted((0.8 * change, 1.2 * change))
    return Effect(**{"point": point, "change": change, "low": low, "high": high, "unit": "MW", **more})


def record(**more: Any) -> Setpoint:
    usual: dict[str, Any] = {
        "recommendation_id": "r",
        "seq": 1,
        "action": "ISSUE",
        "area": "north",
        "reason": "x",
        "forward": (difference(1.0),),
        "reverse": (difference(0.0),),
        "expected_effect": (effect("F.P", -1.0), effect("G.P", 0.5)),
        "confidence": 0.8,
        "ts_us": NOW_US,
        "valid_from_us": NOW_US,
        "valid_until_us": NOW_US + 10 * MINUTE_US,
        "message": "x",
    }
    return Setpoint(**{**usual, **more})


def looked_at(
    told: Setpoint | None = None, battery: Declared = BATTERY, feeder: Seen = FEEDER, other: Seen = OTHER
) -> list[str]:
    return objections(
        record() if told is None else told, {"BAT": battery}, {"F.P": feeder, "G.P": other}, 30.0, NOW_US
    )


def declared(**more: Any) -> Declared:
    fields = {name: getattr(BATTERY, name) for name in BATTERY.__slots__}
    return Declared(**{**fields, **more})


def seen(of: Seen, **more: Any) -> Seen:
    return Seen(**{**{name: getattr(of, name) for name in of.__slots__}, **more})


def test_what_is_right_passes() -> None:
    assert looked_at() == []


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("outside -5 to 5", {"told": record(forward=(difference(5.2),))}),
        ("outside -5 to 5", {"told": record(reverse=(difference(-6.0),))}),
        ("not all are finite", {"told": record(forward=(difference(math.nan),))}),
        ("not all are finite", {"told": record(forward=(difference(math.inf),))}),
        ("not all are finite", {"battery": declared(measured=math.nan)}),
        ("beyond its ramp", {"battery": declared(ramp_per_min=0.01)}),
        ("no whole step", {"battery": declared(is_step=True), "told": record(forward=(difference(1.5),))}),
        ("measurement is", {"battery": declared(measured_age_us=13 * MINUTE_US)}),
        ("forecast is", {"feeder": seen(FEEDER, forecast_age_us=13 * MINUTE_US)}),
        ("is not declared", {"told": record(forward=(difference(1.0, "X"),))}),
        ("undo is another's", {"told": record(reverse=(difference(0.0, "X"),))}),
        ("moved twice", {"told": record(forward=(difference(1.0),) * 2, reverse=(difference(0.0),) * 2)}),
        ("of one length", {"told": record(reverse=())}),
        ("of one length", {"told": record(forward=(), reverse=())}),
        ("within the horizon", {"told": record(valid_until_us=NOW_US)}),
        ("within the horizon", {"told": record(valid_until_us=NOW_US + 49 * 60 * MINUTE_US)}),
        ("the moves give", {"told": record(expected_effect=(effect("F.P", -2.0), effect("G.P", 0.5)))}),
        ("the moves give", {"told": record(expected_effect=(effect("F.P", 1.0), effect("G.P", 0.5)))}),
        ("the moves give", {"told": record(expected_effect=(effect("F.P", -1.0),))}),
        (
            "its own interval",
            {"told": record(expected_effect=(effect("F.P", -1.0, low=-0.5, high=0.0), effect("G.P", 0.5)))},
        ),
        ("over its upper limit", {"other": seen(OTHER, limit_high=10.2)}),
        ("confidence", {"told": record(confidence=math.nan)}),
        ("confidence", {"told": record(confidence=1.5)}),
    ],
)
def test_the_truth_table_of_preconditions(words: str, case: dict[str, Any]) -> None:
    found = looked_at(**case)
    assert any(words in one for one in found), found


@given(
    st.sampled_from([1e9, -1e9, math.nan, math.inf, -math.inf, 5.1, -5.1, 40.0]),
    st.sampled_from(["forward", "reverse"]),
)
@settings(max_examples=60, deadline=None)
def test_adversarial_numbers_never_pass(value: float, where: str) -> None:
    assert looked_at(record(**{where: (difference(value),)})) != []


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_alternating_targets_pass_only_within_bounds_and_ramp(targets: list[float]) -> None:
    measured = 0.0
    for sign, target in enumerate(targets):
        value = abs(target) * (-1.0) ** sign
        told = record(
            forward=(difference(value),),
            expected_effect=(effect("F.P", -value), effect("G.P", 0.5 * value)),
        )
        battery = declared(measured=measured, ramp_per_min=0.1)
        if not looked_at(told, battery, seen(FEEDER, worst_low=-1e3, worst_high=1e3), OTHER):
            assert -5.01 <= value <= 5.01
            assert abs(value - measured) <= 0.1 * 30.0 + 0.011
            measured = value


def test_it_imports_nothing_of_those_whom_it_checks() -> None:
    tree = ast.parse(Path(advice_guard.__file__).read_text(encoding="utf-8"))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    ours = {m for m in modules if m and m.startswith("streamproc")}
    assert ours == {"streamproc.core.setpoint"}


# Three slips of a published advice design, one each.
def test_openeca_a_range_check_that_is_always_true() -> None:
    """ "larger than the minimum or lower than the maximum" lets everything pass; ours refuses on either side."""
    assert looked_at(record(forward=(difference(6.0),))) != []
    assert looked_at(record(forward=(difference(-6.0),))) != []


def test_openeca_two_places_name_two_thresholds() -> None:
    """The limit that is told is the declared one: there is one place for it."""
    from tests.unit.test_advise import SITE, pair, run

    _, (issue,), _ = run(pair(0, 12.5))
    high = SITE.point[0].limit_high
    assert high is not None
    assert f"upper limit of {high:g}" in issue.reason


def test_openeca_the_rule_of_one_transformer_names_another() -> None:
    told = record(
        forward=(difference(1.0, "T2"),),
        reverse=(difference(0.0, "T1"),),
        expected_effect=(effect("F.P", -1.0), effect("G.P", 0.5)),
    )
    found = objections(told, {"T1": BATTERY, "T2": BATTERY}, {"F.P": FEEDER, "G.P": OTHER}, 30.0, NOW_US)
    assert any("undo is another's" in one for one in found)


def test_what_the_guard_objects_to_never_leaves_and_ends_what_was_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from streamproc.stages import advise as stage
    from tests.unit.test_advise import pair, run

    calls = []

    def objecting(told: Setpoint, *rest: Any) -> list[str]:
        calls.append(told)
        return ["no"] if len(calls) > 1 else []

    monkeypatch.setattr(stage, "objections", objecting)
    _, told, counts = run([*pair(0, 12.5), *pair(5, 13.5)])
    assert [m.action for m in told] == ["ISSUE", "WITHDRAW"]
    assert "the guard objects: no" in told[1].reason
    assert counts["recommendations", "REFUSED"] == 1
    assert msgspec.json.decode(msgspec.json.encode(told[0])) is not None

"""Protects the JSON border: whatever comes in is a message or a reason from the closed list, never an exception."""

from __future__ import annotations

import json

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.iso_time import iso_time
from streamproc.core.messages import (
    Alert,
    Finding,
    Forecast,
    Health,
    Operator,
    ScadaBatch,
    ScadaPoint,
    decode,
    encode,
)
from streamproc.core.setpoint import Setpoint
from streamproc.core.wire import JSON_SIZE_MAX, Reason, Refusal, dead_letter, read_json
from streamproc.values import Record

GOOD = {"schema": "scada/1", "area": "north", "points": [{"id": "F1.P", "value": 1.5, "ts_us": 1}]}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"", Reason.EMPTY),
        (b"x" * (JSON_SIZE_MAX + 1), Reason.TOO_LARGE),
        (b"hello", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b'{"schema":"scada/1"} {}', Reason.NOT_JSON),
        (b'{"area":"a","points":[{"id":"x","value":NaN,"ts_us":1}]}', Reason.NOT_FINITE),
        (b'{"area":"a","points":[{"id":"x","value":1e400,"ts_us":1}]}', Reason.NOT_JSON),
        (b'{"area":"a","area":"b","points":[]}', Reason.DUPLICATE_KEY),
        (b'{"area":"a","points":[{"id":"x","id":"y","value":1,"ts_us":1}]}', Reason.DUPLICATE_KEY),
        (b'{"schema":"scada/2","area":"a","points":[]}', Reason.WRONG_SCHEMA),
        (b'{"schema":7,"area":"a","points":[]}', Reason.WRONG_SCHEMA),
        (b"[]", Reason.WRONG_TYPE),
        (b'{"area":"a"}', Reason.WRONG_TYPE),
        (b'{"area":"a","points":[{"id":"x","value":"1","ts_us":1}]}', Reason.WRONG_TYPE),
        (b'{"area":"a","points":[{"id":"x","value":1,"ts_us":1.5}]}', Reason.WRONG_TYPE),
        (b'{"area":"a","points":[{"id":"x","value":null,"ts_us":1}]}', Reason.WRONG_TYPE),
        (b'{"a":' * 40 + b"1" + b"}" * 40, Reason.TOO_DEEP),
    ],
)
def test_what_is_wrong_has_its_reason(value: bytes | None, reason: Reason) -> None:
    found = decode(ScadaBatch, value)
    assert isinstance(found, Refusal)
    assert found.reason == reason
    assert found.detail


def test_unknown_fields_are_ignored_within_a_version() -> None:
    found = decode(ScadaBatch, orjson.dumps({**GOOD, "new": 1}))
    assert found == ScadaBatch(area="north", points=(ScadaPoint(id="F1.P", value=1.5, ts_us=1),))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise(value: bytes) -> None:
    assert isinstance(decode(ScadaBatch, value), Refusal | ScadaBatch)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(["area", "points", "schema", "id", "value", "ts_us", "quality"]), trees)
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_field_never_raises(field: str, value: object) -> None:
    point = {"id": "F1.P", "value": 1.5, "ts_us": 1}
    message: dict[str, object] = {
        **GOOD,
        "points": [{**point, field: value} if field in {*point, "quality"} else point],
    }
    if field in GOOD:
        message[field] = value
    found = decode(ScadaBatch, json.dumps(message).encode("utf-8", "surrogatepass"))
    assert isinstance(found, Refusal | ScadaBatch)


def test_a_number_that_is_not_finite_is_never_sent() -> None:
    with pytest.raises(AssertionError, match="not finite"):
        encode(ScadaBatch(area="a", points=(ScadaPoint(id="x", value=float("nan"), ts_us=1),)))


def test_a_dead_letter_tells_where_it_came_from() -> None:
    letter = dead_letter(Record("t", 3, 42, 1_700_000_000_123, b"k", b"v" * 100_000), "bad_crc", "x" * 1000)
    headers = dict(letter.headers)
    assert letter.topic == "t.dlq"
    assert len(letter.value) == 65536
    assert headers["partition"] == b"3"
    assert headers["offset"] == b"42"
    assert headers["time"] == b"2023-11-14T22:13:20.123Z"
    assert len(headers["detail"]) == 500


def test_times_that_no_calendar_holds_are_still_told() -> None:
    assert iso_time(10**22) == "10000000000000s"
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"


def test_a_key_that_comes_twice_among_a_hundred_thousand_is_found_in_one_pass() -> None:
    members = ",".join(f'"k{i}":1' for i in range(90_000))
    found = decode(ScadaBatch, f'{{{members},"k89999":2}}'.encode())
    assert isinstance(found, Refusal)
    assert found.reason == Reason.DUPLICATE_KEY
    assert "k89999" in found.detail


def tree_text(tree: object, twice: bool) -> str:
    """JSON by hand: with `twice`, the first key of every object comes again."""
    if isinstance(tree, dict):
        pairs = [(json.dumps(key), tree_text(value, twice)) for key, value in tree.items()]
        return "{" + ",".join(f"{key}:{value}" for key, value in pairs + (pairs[:1] if twice else [])) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(tree_text(value, twice) for value in tree) + "]"
    return json.dumps(tree)


finite_trees = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('ab"\\\n\u20ac', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


def holds_keys(tree: object) -> bool:
    if isinstance(tree, dict):
        return bool(tree)
    return isinstance(tree, list) and any(map(holds_keys, tree))


@given(finite_trees)
@settings(max_examples=200, deadline=None)
def test_a_tree_is_read_as_it_is_and_refused_when_a_key_comes_twice(tree: object) -> None:
    assert read_json(tree_text(tree, twice=False).encode()) == tree
    found = read_json(tree_text(tree, twice=True).encode())
    if holds_keys(tree):
        assert isinstance(found, Refusal)
        assert found.reason == Reason.DUPLICATE_KEY
    else:
        assert found == tree


@given(
    st.sampled_from([Finding, Operator, ScadaBatch, Forecast, Setpoint, Health, Alert]),
    st.sampled_from(["NaN", "-Infinity", "1e999", "1" * 400, "[" * 5000, '"\\ud800"', "1e308", "-0.0", "01"]),
    st.integers(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_no_strange_literal_anywhere_is_taken_or_raises(kind: type, literal: str, at: int) -> None:
    names = [field.name for field in msgspec.structs.fields(kind)]
    text = f'{{"{names[at % len(names)]}":{literal}}}'
    found = decode(kind, text.encode())
    assert isinstance(found, Refusal)
    assert found.reason in set(Reason)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ts_us", -1),
        ("ts_us", 2**53),
        ("ts_us", 2**70),
        ("quality", -1),
        ("quality", 2**32),
        ("priority", 0),
        ("priority", 5),
        ("onsets_us", [-1]),
        ("scores", [None]),
        ("family", "other"),
        ("type", "begin"),
    ],
)
def test_a_finding_out_of_range_is_refused(field: str, value: object) -> None:
    fine = {"type": "raise", "finding_id": "f", "area": "a", "position": "main", "ts_us": 1}
    assert isinstance(decode(Finding, json.dumps(fine).encode()), Finding)
    found = decode(Finding, json.dumps(fine | {field: value}).encode())
    assert isinstance(found, Refusal)
    assert found.reason == Reason.WRONG_TYPE
    assert field in found.detail


def test_an_operator_has_a_name() -> None:
    said = {"action": "acknowledge", "alert_id": "a", "user": "", "ts_us": 1}
    assert isinstance(decode(Operator, json.dumps(said).encode()), Refusal)


def test_a_detail_is_cut_between_characters() -> None:
    letter = dead_letter(Record("t", 0, 0, 0, None, None), "bad_crc", "x" * 499 + "\u20ac")
    assert dict(letter.headers)["detail"].decode("utf-8") == "x" * 499

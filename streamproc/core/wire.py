"""How JSON records are read and refused: strictly, and each refusal with its reason.

A duplicate key would silently let the last one win and a NaN is not JSON: both are refused before any type is looked at.
A refusal is a value (`Refusal`) with a reason from a closed list, because it becomes a metric label and a dead-letter
header; it is never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
import orjson

from streamproc.core.iso_time import iso_time
from streamproc.core.json_tree import depth, duplicate_key
from streamproc.values import DLQ_SUFFIX, Output, Record

JSON_SIZE_MAX = 1 << 20  # bytes of one JSON record
JSON_DEPTH_MAX = 32  # nested arrays and objects; our own messages need four
DEAD_LETTER_SIZE_MAX = 64 * 1024  # bytes kept of a record that could not be evaluated
DETAIL_SIZE_MAX = 500  # bytes of a reason's detail

# 2^53 - 1: exact in every reader, the year 2255. A SCADA point later than that is refused alone, not with its batch.
TimeUs: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Flags: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Priority: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4)]  # 1 is the highest
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Reason(StrEnum):
    """Why a JSON record, or one point in it, was refused."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    DUPLICATE_KEY = "duplicate_key"
    NOT_FINITE = "not_finite"
    WRONG_SCHEMA = "wrong_schema"
    WRONG_TYPE = "wrong_type"
    MISSING_KEY = "missing_key"
    UNKNOWN_AREA = "unknown_area"
    UNKNOWN_POINT = "unknown_point"
    UNKNOWN_ALERT = "unknown_alert"
    UNKNOWN_RECOMMENDATION = "unknown_recommendation"
    UNSUPPORTED_ACTION = "unsupported_action"
    FUTURE_TIME = "future_time"
    STALE_TIME = "stale_time"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not taken in. `detail` names the field, the value and the rule."""

    reason: str
    detail: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every message: frozen; unknown fields are ignored when read."""


def read_json(value: bytes | None) -> Any | Refusal:  # noqa: ANN401 - it is JSON: anything
    """Return the parsed tree, or why it is refused: size, depth, NaN, duplicate keys, not JSON at all."""
    if not value:
        return Refusal(Reason.EMPTY, "the record has no bytes")
    if len(value) > JSON_SIZE_MAX:
        return Refusal(Reason.TOO_LARGE, f"{len(value)} bytes, at most {JSON_SIZE_MAX}")
    try:
        tree = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if b"NaN" in value or b"Infinity" in value:
            return Refusal(
                Reason.NOT_FINITE, "NaN and Infinity are not JSON; leave the point out or send quality bad"
            )
        return Refusal(
            Reason.NOT_JSON, f"{error.msg} at line {error.lineno} column {error.colno}"[:DETAIL_SIZE_MAX]
        )
    if depth(tree) > JSON_DEPTH_MAX:
        return Refusal(Reason.TOO_DEEP, f"nested deeper than {JSON_DEPTH_MAX}")
    twice = duplicate_key(value)
    if twice is not None:
        return Refusal(Reason.DUPLICATE_KEY, f"key {twice!r:.80} occurs twice in one object")
    return tree


def dead_letter(record: Record, reason: str, detail: str) -> Output:
    """Return the dead letter of a record: its bytes (the first 64 KiB), and in the headers where it came from and why."""
    return Output(
        topic=record.topic + DLQ_SUFFIX,
        key=record.key or b"",
        value=(record.value or b"")[:DEAD_LETTER_SIZE_MAX],
        ts_ms=record.ts_ms,
        headers=(
            ("reason", str(reason).encode()),
            ("detail", _cut(detail)),
            ("topic", record.topic.encode()),
            ("partition", b"%d" % record.partition),
            ("offset", b"%d" % record.offset),
            ("time", iso_time(record.ts_ms * 1_000_000).encode()),
        ),
    )


def _cut(detail: str) -> bytes:
    """Return the start of a text as UTF-8: a character is whole or not there."""
    return detail.encode("utf-8", "replace")[:DETAIL_SIZE_MAX].decode("utf-8", "ignore").encode()

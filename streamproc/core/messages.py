"""Every JSON message of the service: its shape, how it is written, and that its types and ranges are right when read.

Written with orjson (sorted keys: the same value is always the same bytes). `core.wire` has read the bytes before msgspec
checks names, types and ranges here.

Times are integer microseconds UTC (`*_us`): 2^53 is too small for nanoseconds in a browser. Unknown fields are ignored
inside one schema version; another version is refused as `wrong_schema`.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
import orjson

from streamproc.core.disturbance import Disturbance
from streamproc.core.json_tree import all_finite
from streamproc.core.rules_message import Rules
from streamproc.core.setpoint import Setpoint
from streamproc.core.wire import (
    DETAIL_SIZE_MAX,
    Count,
    Flags,
    Message,
    Name,
    Priority,
    Reason,
    Refusal,
    TimeUs,
    read_json,
)


class Finding(Message, frozen=True, kw_only=True):
    """Edges of one rule in one area at one instant; all its sources in one record.

    Type "watermark" carries only time, type "describe" what is known of a disturbance by now.
    """

    schema: Literal["finding/1"] = "finding/1"
    type: Literal["raise", "update", "clear", "watermark", "describe"]
    finding_id: str
    area: str
    position: str
    ts_us: TimeUs
    family: Literal["grid", "quality", "service"] = "grid"
    kind: str = ""
    rule: str = ""
    rule_version: int = 1
    priority: Priority = 4
    sources: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    onsets_us: tuple[TimeUs, ...] = ()
    values: tuple[float, ...] = ()  # measured, in `unit`; () where value = score * limit
    limit: float = 0.0
    unit: str = ""
    window_s: float = 0.0
    text: str = ""
    quality: Flags = 0  # StateFlags, the worst of the sources
    model_digest: str = ""
    disturbance: Disturbance | None = None


class Replay(Message, frozen=True, kw_only=True):
    """The records that show an alert again: those of one key of a topic between two times (`streamproc explain`)."""

    topic: str
    key: str
    from_ts_us: TimeUs
    to_ts_us: TimeUs


class Guidance(Message, frozen=True, kw_only=True):
    """What the site's rationalisation says about an alert: why it is one, and what to do."""

    cause: str
    consequence: str
    corrective_action: str
    response_time_min: float
    who: str = ""


class Held(Message, frozen=True, kw_only=True):
    """Why an alert is not annunciated, by an operator's word."""

    by: Name
    reason: Name
    until_ts_us: TimeUs | None = None  # null: until it is returned to service
    one_shot: bool = False  # over when the condition returns to normal


class Command(Message, frozen=True, kw_only=True):
    """The last command to an alert and its result."""

    command_id: str
    action: str
    user: str
    ts_us: TimeUs
    result: Literal["done", "repeated", "late", "refused"]
    reason: str = ""


class Alert(Message, frozen=True, kw_only=True):
    """One transition of one alert. Key of the record: `alert_id`; `seq` counts the transitions from 1."""

    schema: Literal["alert/1"] = "alert/1"
    alert_id: str
    seq: Count
    state: Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"]
    family: Literal["grid", "quality", "service"]
    kind: str
    priority: Priority
    area: str
    position: str
    onset_ts_us: TimeUs  # event time of the first frame that shows it
    ts_us: TimeUs  # event time of this transition
    source: str  # first-in
    sources: tuple[str, ...]
    members: Count  # how many sources in all; `sources` is cut at `decide.sources_max`
    score: float
    value: float
    limit: float
    unit: str
    quality: Literal["GOOD", "SUSPECT", "BAD"]
    quality_flags: Flags
    message: str
    rule: str
    rule_version: int
    rules: tuple[str, ...]
    model_digest: str
    cleared_ts_us: TimeUs | None = None
    ack_by: str | None = None
    ack_comment: str | None = None
    disturbance: Disturbance | None = None
    replay: Replay | None = None
    held: Held | None = None  # shelved or out of service: who, why, until when
    suppressed_by: str | None = None  # the alert that stands above this one
    latched: bool = False  # the condition has gone; held until an operator resets it
    unknown_since_ts_us: TimeUs | None = None  # its sources cannot be evaluated since: the state is held
    unknown_s: float | None = None
    command: Command | None = None  # what became of the last command of an operator
    guidance: Guidance | None = None


class Card(Message, frozen=True, kw_only=True):
    """One event on one desk, updated in place. Key of the record: `card_id`; `seq` counts its records from 1."""

    schema: Literal["card/1"] = "card/1"
    card_id: str
    seq: Count
    state: Literal[
        "NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"
    ]  # of its most pressing member
    priority: Priority
    position: str
    area: str
    areas: tuple[str, ...]
    kind: str  # of its cause; alarm_flood: a count of what waits
    onset_ts_us: TimeUs
    ts_us: TimeUs
    annunciate: bool  # asks for attention anew: new, more urgent, or back
    first_in: str  # source
    parent: str | None  # alert id of the cause
    consequences: tuple[str, ...]  # alert ids, cut at `annunciate.members_max`
    members: int  # alerts in all
    sources: int  # of all alerts
    raised: int  # how often any of them came or came back
    waiting: dict[str, int] = msgspec.field(default_factory=dict)  # of a flood: priority -> events not shown
    quality: Literal["GOOD", "SUSPECT", "BAD"]
    model_digest: str
    message: str
    guidance: Guidance | None = None


class Operator(Message, frozen=True, kw_only=True):
    """What an operator says to an alert (`core.command`) or to a recommendation (`accept`, `reject`, `not_now`)."""

    schema: Literal["operator/1"] = "operator/1"
    action: str
    alert_id: str = ""
    recommendation_id: str = ""
    user: Name
    ts_us: TimeUs
    comment: str = ""
    reason: str = ""  # of a shelf, an outage, a rejection: required there
    until_ts_us: TimeUs = 0  # end of a shelf
    one_shot: bool = False  # the shelf is over when the condition returns to normal
    command_id: str = ""  # "": a hash of all of it


class ScadaPoint(Message, frozen=True, kw_only=True):
    """One measured value, in the unit of the catalogue."""

    id: str
    value: float
    ts_us: int
    quality: Literal["good", "suspect", "bad"] = "good"


class ScadaBatch(Message, frozen=True, kw_only=True):
    """A batch of points of one area."""

    schema: Literal["scada/1"] = "scada/1"
    area: str
    points: tuple[ScadaPoint, ...]


class Intervals(Message, frozen=True, kw_only=True):
    """The means of all forecast series of an area over one quarter of an hour."""

    schema: Literal["intervals/1"] = "intervals/1"
    area: str
    start_us: TimeUs
    interval_min: Literal[15] = 15
    ids: tuple[str, ...]
    units: tuple[str, ...]
    means: tuple[float | None, ...]  # null: no good value
    available_at_us: TimeUs = 0  # event time at which it closed; 0: its end
    history: bool = False  # sent afterwards (`streamproc backfill`): learnt from, nothing is said about it


class Exogenous(Message, frozen=True, kw_only=True):
    """The course of something that is known ahead in an area, and when it was known."""

    schema: Literal["exogenous/1"] = "exogenous/1"
    area: str
    name: Name  # as the models know it, such as temperature_degc
    unit: str = ""
    known_at_us: TimeUs
    valid_ts_us: tuple[TimeUs, ...]
    values: tuple[float | None, ...]  # one per time; null: not known


class Quantiles(Message, frozen=True, kw_only=True):
    """One value per valid time and quantile, in the unit of the series."""

    P05: tuple[float, ...]
    P10: tuple[float, ...]
    P25: tuple[float, ...]
    P50: tuple[float, ...]
    P75: tuple[float, ...]
    P90: tuple[float, ...]
    P95: tuple[float, ...]


class Forecast(Message, frozen=True, kw_only=True):
    """One issue of the forecast of one series."""

    schema: Literal["forecast/1"] = "forecast/1"
    series: str
    area: str
    unit: str
    issued_at_us: int
    available_at_us: int
    interval_min: Literal[1, 5, 15]
    valid_ts_us: tuple[int, ...]
    quantiles: Quantiles
    method: Literal["model", "persistence", "fallback"]
    reason: str = ""  # why the fallback was used; "" for the model
    horizon: Literal["PT15M", "PT1H", "PT48H"] = "PT1H"
    flags: tuple[
        str, ...
    ] = ()  # what a reader must know: outside_training, no_known_ahead, stuck, reconciled, disturbance ...
    known_ratio: float | None = None  # share of the last day's intervals (PT15M: 15 minutes' frames) believed
    model_digest: str = ""
    quality: Literal["GOOD", "SUSPECT", "BAD"] = "GOOD"
    last_value: float | None = None
    last_ts_us: int | None = None
    coverage_90: float | None = None  # share of recent measurements inside P05..P95


class Health(Message, frozen=True, kw_only=True):
    """The heartbeat of one worker and partition, each second."""

    schema: Literal["health/1"] = "health/1"
    worker: str
    stage: str
    partition: int
    seq: int
    ts_us: int
    next_offsets: dict[str, int] = msgspec.field(default_factory=dict)
    lag_records: int | None = None
    last_event_ts_us: int | None = None
    models: dict[str, str] = msgspec.field(default_factory=dict)
    worst_quality: Literal["GOOD", "SUSPECT", "BAD"] = "GOOD"


MESSAGES: dict[str, type[Message]] = {
    "finding": Finding,
    "alert": Alert,
    "card": Card,
    "operator": Operator,
    "scada": ScadaBatch,
    "intervals": Intervals,
    "exogenous": Exogenous,
    "forecast": Forecast,
    "setpoint": Setpoint,
    "health": Health,
    "rules": Rules,
}

# Looked up once: asking a class for its fields costs more than reading a message.
VERSIONS: dict[type[Message], str] = {
    kind: next(f.default for f in msgspec.structs.fields(kind) if f.name == "schema")
    for kind in MESSAGES.values()
}

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Return the JSON bytes of a message, keys sorted. Every number in it must be finite (asserted: it is ours)."""
    tree = msgspec.to_builtins(message)
    assert all_finite(tree), f"a number of {type(message).__name__} is not finite: {tree}"
    return orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)


def decode(kind: type[M], value: bytes | None) -> M | Refusal:
    """Return the message, or why it is refused; never raises."""
    tree = read_json(value)
    if isinstance(tree, Refusal):
        return tree
    if not isinstance(tree, dict):
        return Refusal(Reason.WRONG_TYPE, f"an object is expected, not {type(tree).__name__}")
    wanted = VERSIONS[kind]
    found = tree.get("schema", wanted)
    if found != wanted:
        return Refusal(Reason.WRONG_SCHEMA, f"schema: {found!r:.80}, expected {wanted!r}")
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        return Refusal(Reason.WRONG_TYPE, str(error)[:DETAIL_SIZE_MAX])

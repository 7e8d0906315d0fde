"""The published contract, made from the code: JSON Schema 2020-12 per message, one example each, and AsyncAPI 3.

`schemas/` holds what this file makes; a test compares them, so neither can drift. A change that is compatible stays in
version 1 (new optional fields; readers ignore what they do not know); any other is a new version on a new topic.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamproc import __version__, values
from streamproc.config import BrokerTable
from streamproc.core.card import OpenCard, card_message, member_of
from streamproc.core.messages import (
    MESSAGES,
    Alert,
    Exogenous,
    Finding,
    Forecast,
    Health,
    Intervals,
    Operator,
    Quantiles,
    ScadaBatch,
    ScadaPoint,
    encode,
)
from streamproc.core.rules_message import AlarmRule, Rules
from streamproc.core.setpoint import Difference, Effect, Precondition, Setpoint
from streamproc.core.wire import Message
from streamproc.shell.topics import DEAD_LETTER_RETENTION_MS, INPUTS, TOPICS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIGEST = "9f2c61d0a7b1e5f3c4d89b7a6e5d4c3b2a190817f6e5d4c3b2a1908f7e6d5c4b"

# topic -> (what its key is, what a record holds, who writes it)
CHANNELS: dict[str, tuple[str, str | None, str]] = {
    values.TOPIC_FRAMES: (
        "area",
        None,
        "One or more whole IEEE C37.118.2 frames, back to back, as they came.",
    ),
    values.TOPIC_CONFIG: (
        "stream IDCODE",
        None,
        "The CFG-2 or CFG-3 frame in force (fragments: one after another).",
    ),
    values.TOPIC_SCADA: ("area", "scada", "A batch of SCADA points of one area."),
    values.TOPIC_INTERVALS: (
        "area",
        "intervals",
        "Means of all forecast series of an area over a quarter hour.",
    ),
    values.TOPIC_EXOGENOUS: (
        "area/name",
        "exogenous",
        "What is known ahead (weather, prices, holidays), and since when.",
    ),
    values.TOPIC_FINDINGS: (
        "operator position",
        "finding",
        "Edges of conditions, and one watermark a second.",
    ),
    values.TOPIC_ALERTS: ("alert id", "alert", "The transitions of alerts."),
    values.TOPIC_CARDS: ("card id", "card", "Events on operators' desks, one card each, updated in place."),
    values.TOPIC_FORECASTS: (
        "series",
        "forecast",
        "One issue of the forecast of one series, for 15 minutes (AREA.regulation.*), an hour or 48.",
    ),
    values.TOPIC_SETPOINTS: ("recommendation id", "setpoint", "Recommendations. Advice only."),
    values.TOPIC_OPERATOR: ("alert or recommendation id", "operator", "What operators did."),
    values.TOPIC_RULES: (
        "valid from, us",
        "rules",
        "What is rationalised about alarms, from an event time on.",
    ),
    values.TOPIC_HEALTH: ("worker", "health", "A heartbeat per worker, stage and partition, each second."),
    values.TOPIC_STATE: (
        "group/stage/partition",
        None,
        "State blobs of the service; nobody else reads them.",
    ),
}


def _rules() -> Rules:
    rule = AlarmRule(
        rule="point_high:FDR_12.P",
        cause="Load above the rating of the feeder",
        consequence="Trip of the feeder within the hour",
        corrective_action="Shift load to feeder 13, call demand response",
        severity="major",
        response_time_min=30.0,
        who="dispatcher",
        unit="MW",
        limit=19.5,
        deadband=0.2,
        on_delay_ms=20_000,
        off_delay_ms=60_000,
    )
    return Rules(digest=DIGEST[:32], valid_from_us=1_355_156_585_500_000, alarms=(rule,))


def _card(alert: Alert) -> OpenCard:
    member = member_of(alert)
    return OpenCard(
        card_id="5b1d0c7a9e3f42d8a6c0e9b7f1d2c3a4",
        position="main",
        area="north",
        begun_us=alert.onset_ts_us,
        last_us=alert.onset_ts_us,
        members={alert.alert_id: member},
        seq=1,
        raised=1,
    )


def examples() -> dict[str, Message]:
    """Return one example of every message."""
    t_us, digest = 1_355_156_585_500_000, DIGEST
    finding = _finding(t_us, digest)
    alert = Alert(
        alert_id="9ed9ea9694fd1237e3671616e8ae1777",
        seq=1,
        state="UNACK",
        family="grid",
        kind="frequency_jump",
        priority=2,
        area="north",
        position="main",
        onset_ts_us=t_us,
        ts_us=t_us,
        source="PMSTN_34",
        sources=("PMSTN_34", "PMSTN_35"),
        members=2,
        score=5.26,
        value=63.12,
        limit=12.0,
        unit="x usual",
        quality="GOOD",
        quality_flags=0,
        message="Frequency at PMSTN_34 and 1 other left its course by 63.12 times the usual, limit 12 (area north), "
        "since 2012-12-10T16:23:05.500Z",
        rule="frequency_jump",
        rule_version=1,
        rules=("frequency_jump", "frequency_step"),
        model_digest=digest,
    )
    seen = "unit 3 tripped"
    operator = Operator(
        action="acknowledge", alert_id=alert.alert_id, user="j.doe", ts_us=t_us + 8_000_000, comment=seen
    )
    point = ScadaPoint(id="FDR_12.P", value=18.4, ts_us=t_us)
    return {
        "finding": finding,
        "alert": alert,
        "rules": _rules(),
        "card": card_message(_card(alert), t_us, 50, sound=True),
        "operator": operator,
        "scada": ScadaBatch(area="north", points=(point,)),
        "intervals": _intervals(),
        "exogenous": _exogenous(),
        "forecast": _forecast(t_us, digest),
        "setpoint": _setpoint(t_us, digest),
        "health": _health(t_us, digest),
    }


def _health(t_us: int, digest: str) -> Health:
    models = {"score/north": digest}
    return Health(
        worker="node-1:4242", stage="score", partition=0, seq=17, ts_us=t_us, lag_records=0, models=models
    )


def _finding(t_us: int, digest: str) -> Finding:
    text = "Frequency at {source} left its course by {value} times the usual, limit {limit}"
    return Finding(
        type="raise",
        finding_id="5d2b8c1f0a9e4d7c6b3a291807f6e5d4",
        area="north",
        position="main",
        ts_us=t_us,
        kind="frequency_jump",
        rule="frequency_jump",
        priority=2,
        sources=("PMSTN_34",),
        scores=(5.26,),
        onsets_us=(t_us,),
        limit=12.0,
        unit="x usual",
        window_s=0.5,
        text=text,
        model_digest=digest,
    )


def _intervals() -> Intervals:
    return Intervals(
        area="north",
        start_us=1_355_156_100_000_000,
        ids=("FDR_12.P", "FDR_13.P"),
        units=("MW", "MW"),
        means=(18.4, None),
    )


def _exogenous() -> Exogenous:
    return Exogenous(
        area="north",
        name="temperature_degc",
        unit="degC",
        known_at_us=1_355_155_200_000_000,
        valid_ts_us=(1_355_158_800_000_000, 1_355_162_400_000_000),
        values=(3.5, None),
    )


def _forecast(t_us: int, digest: str) -> Forecast:
    spread = {"P05": -0.9, "P10": -0.7, "P25": -0.3, "P50": 0.0, "P75": 0.3, "P90": 0.7, "P95": 0.9}
    steps = range(1, 5)
    return Forecast(
        series="FDR_12.P",
        area="north",
        unit="MW",
        issued_at_us=t_us,
        available_at_us=t_us,
        interval_min=15,
        valid_ts_us=tuple(t_us + step * 900_000_000 for step in steps),
        quantiles=Quantiles(
            **{q: tuple(18.4 + 0.2 * s + d * s**0.5 for s in steps) for q, d in spread.items()}
        ),
        method="model",
        model_digest=digest,
        last_value=18.4,
        last_ts_us=t_us,
        coverage_90=0.91,
    )


def _setpoint(t_us: int, digest: str) -> Setpoint:
    return Setpoint(
        recommendation_id="c0ffee5d2b8c1f0a9e4d7c6b3a291807",
        seq=1,
        action="ISSUE",
        area="north",
        reason="forecast",
        evidence=("P90 of FDR_12.P reaches 20.6 MW at 2012-12-10T17:08:05.500Z, limit 20 MW",),
        forward=(Difference(resource="BESS_1", attribute="p", value=-1.2, unit="MW"),),
        reverse=(Difference(resource="BESS_1", attribute="p", value=0.0, unit="MW"),),
        preconditions=(Precondition(name="resource value known", holds=True, detail="BESS_1 at 0 MW"),),
        expected_effect=(Effect(point="FDR_12.P", change=-1.2, low=-1.2, high=-1.2, unit="MW"),),
        confidence=0.9,
        ts_us=t_us,
        valid_from_us=t_us,
        valid_until_us=t_us + 600_000_000,
        message="Advice only: discharge BESS_1 by 1.2 MW to keep FDR_12.P below 20 MW",
        model_digest=digest,
    )


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a message."""
    (top,), parts = msgspec.json.schema_components((MESSAGES[name],), ref_template="#/$defs/{name}")
    kind = top["$ref"].rsplit("/", 1)[1]
    body = dict(parts.pop(kind))
    found = {"$schema": DIALECT, "$id": f"urn:streamproc:schema:{name}:1", **body}
    if parts:
        found["$defs"] = parts
    return found


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document: every topic with key, partitions, policy and message."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    inputs = {*INPUTS} - {values.TOPIC_FINDINGS, values.TOPIC_ALERTS, values.TOPIC_FORECASTS}
    for topic, (key, message, text) in CHANNELS.items():
        channels[topic] = _channel(topic, key, message, text)
        action = "receive" if topic in inputs else "send"
        operations[f"{action}.{topic}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{_pointer(topic)}"},
        }
    for topic in INPUTS:
        dead = topic + values.DLQ_SUFFIX
        channels[dead] = _dead_letter_channel(topic, dead)
        operations[f"send.{dead}"] = {"action": "send", "channel": {"$ref": f"#/channels/{_pointer(dead)}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streamproc",
            "version": __version__,
            "description": "PMU and SCADA measurements in, alerts, forecasts and advice out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": {name: {"$ref": f"./{name}.v1.schema.json"} for name in MESSAGES}},
    }


def _pointer(topic: str) -> str:
    return topic.replace("~", "~0").replace("/", "~1")


def _channel(topic: str, key: str, message: str | None, text: str) -> dict[str, Any]:
    policy, retention_ms, split = TOPICS[topic]
    # An application that does not know the site finds the number that an empty site file gives.
    count = BrokerTable().partitions if split == "input" else 1
    setting = " (broker.partitions)" if split == "input" else ""
    body: dict[str, Any] = {
        "name": message or topic,
        "bindings": {"kafka": {"key": {"type": "string", "description": key}}},
    }
    if message is None:
        body["contentType"] = "application/octet-stream"
        body["payload"] = {"type": "string", "format": "binary"}
    else:
        body["payload"] = {"$ref": f"#/components/schemas/{message}"}
    return {
        "address": topic,
        "description": f"{text} Key: {key}. Partitions: {count}{setting}.",
        "messages": {message or "bytes": body},
        "bindings": {
            "kafka": {
                "topic": topic,
                "partitions": count,
                "topicConfiguration": {"cleanup.policy": policy.split(","), "retention.ms": retention_ms},
            }
        },
    }


def _dead_letter_channel(topic: str, dead: str) -> dict[str, Any]:
    headers = {
        "type": "object",
        "properties": {
            name: {"type": "string"} for name in ("reason", "detail", "topic", "partition", "offset", "time")
        },
    }
    return {
        "address": dead,
        "description": f"What could not be evaluated of {topic}: the original bytes (first 64 KiB), why and whence. "
        "Key: that of the record. Partitions: 1.",
        "messages": {
            "dead_letter": {
                "name": "dead_letter",
                "contentType": "application/octet-stream",
                "headers": headers,
                "bindings": {"kafka": {"key": {"type": "string", "description": "that of the record"}}},
                "payload": {"type": "string", "format": "binary"},
            }
        },
        "bindings": {
            "kafka": {
                "topic": dead,
                "partitions": 1,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": DEAD_LETTER_RETENTION_MS,
                },
            }
        },
    }


def files() -> dict[str, str]:
    """Return every file of `schemas/` by its relative path."""
    found = {f"{name}.v1.schema.json": _text(schema_of(name)) for name in MESSAGES}
    found |= {f"examples/{name}.v1.json": _text(json.loads(encode(m))) for name, m in examples().items()}
    found["asyncapi.json"] = _text(asyncapi())
    return found


def _text(tree: Any) -> str:  # noqa: ANN401
    return json.dumps(tree, indent=2, sort_keys=True) + "\n"

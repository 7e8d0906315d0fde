"""A deciding stage to talk to: findings and commands in, the newest record of every alert out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from streamproc.config import SiteConfig
from streamproc.core.messages import Finding, Operator, encode
from streamproc.shell.schema_files import schema_of
from streamproc.stages.decide import DecideStage
from streamproc.values import TOPIC_ALERTS, TOPIC_FINDINGS, TOPIC_OPERATOR, Output, Record

S = 1_000_000  # us
ALERT = Draft202012Validator(schema_of("alert"))


class Desk:
    """One deciding stage; every call is one record, and every record a restart from its blob."""

    def __init__(self, config: SiteConfig | None = None) -> None:
        self.stage = DecideStage(config or SiteConfig())
        self.state = self.stage.fresh()
        self.records: list[dict[str, Any]] = []  # every transition told
        self.dead: list[Output] = []
        self.counts: dict[Any, int] = {}
        self.number = 0

    def restart(self) -> None:
        self.state = self.stage.unpack(self.stage.pack(self.state))

    def take(self, message: Finding | Operator, *, restart: bool = True) -> list[dict[str, Any]]:
        if restart:
            self.restart()
        topic = TOPIC_OPERATOR if isinstance(message, Operator) else TOPIC_FINDINGS
        self.number += 1
        step = self.stage.step(self.state, [Record(topic, 0, self.number, 0, b"main", encode(message))])
        self.state = step.state
        told = [orjson.loads(o.value) for o in step.outputs if o.topic == TOPIC_ALERTS]
        self.dead += [o for o in step.outputs if o.topic != TOPIC_ALERTS]
        for key, count in step.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
        for alert in told:
            ALERT.validate(alert)
        self.records += told
        return told

    def edge(
        self, what: str, at_s: float, sources: Sequence[str] = ("P1",), rule: str = "jump", **more: Any
    ) -> list[dict[str, Any]]:
        ts_us = round(at_s * S)
        base: dict[str, Any] = {
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
            "text": "{source} has {value} {unit}",
            "model_digest": "d",
        }
        return self.take(Finding(**{**base, **more}))

    def time(self, at_s: float, area: str = "north") -> list[dict[str, Any]]:
        mark = Finding(type="watermark", finding_id="", area=area, position="main", ts_us=round(at_s * S))
        return self.take(mark)

    def say(self, action: str, alert_id: str, at_s: float, user: str = "ann", **more: Any) -> dict[str, Any]:
        ts_us = round(at_s * S)
        if "until_s" in more:
            more["until_ts_us"] = round(more.pop("until_s") * S)
        (told,) = self.take(Operator(action=action, alert_id=alert_id, user=user, ts_us=ts_us, **more))
        return told

    def shelve(self, alert_id: str, at_s: float, until_s: float, **more: Any) -> dict[str, Any]:
        return self.say("shelve", alert_id, at_s, reason="known", until_s=until_s, **more)

    @property
    def newest(self) -> dict[str, dict[str, Any]]:
        return {alert["alert_id"]: alert for alert in self.records}

    def last(self, alert_id: str) -> dict[str, Any]:
        return self.newest[alert_id]

"""Protects what operators said against the end of a worker and of the broker: acknowledgement, shelf, out of service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_rig import until
from live_rig import Live

from streamproc.cli.root import app
from streamproc.core.messages import Finding, encode
from streamproc.shell.kafka_broker import KafkaBroker
from streamproc.shell.operator import alerts
from streamproc.shell.sender import Sender
from streamproc.values import TOPIC_FINDINGS, Record

pytestmark = pytest.mark.broker
SHELF_MIN = 0.1
RULES = """[[alarm]]
rule = "jump"
cause = "Loss of generation"
consequence = "Shedding"
corrective_action = "Start reserve"
severity = "severe"
response_time_min = 2
"""


@pytest.fixture
def live(own_kafka: KafkaBroker, tmp_path: Path) -> Iterator[Live]:
    made = Live(own_kafka.bootstrap, tmp_path)
    try:
        yield made
    finally:
        made.end()


def send(live: Live, *findings: Finding) -> None:
    async def sent() -> None:
        async with Sender(live.config) as sender:
            for finding in findings:
                ts_ms = finding.ts_us // 1000
                await sender.send(Record(TOPIC_FINDINGS, 0, 0, ts_ms, b"main", encode(finding)))

    asyncio.run(sent())


def edge(kind: Any, source: str, ts_us: int) -> Finding:
    return Finding(
        type=kind,
        finding_id=f"{kind}{source}{ts_us}",
        area=source,  # an area each: alerts of their own
        position="main",
        ts_us=ts_us,
        kind="frequency_jump",
        rule="jump",
        priority=2,
        sources=() if kind == "watermark" else (source,),
        scores=() if kind == "watermark" else (2.0,),
        onsets_us=() if kind == "watermark" else (ts_us,),
        limit=0.5,
        unit="Hz",
        text="{source}",
    )


def said(live: Live, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        app([*words, "-c", str(live.site_path)])
    return int(end.value.code or 0)


def states(live: Live) -> dict[str, tuple[str, str, str]]:
    """Area -> id, state, by whom."""
    newest = asyncio.run(alerts(live.config)).values()
    return {
        a["area"]: (a["alert_id"], a["state"], (a["held"] or {}).get("by") or a["ack_by"]) for a in newest
    }


def test_what_operators_said_outlives_worker_and_broker_and_a_shelf_still_ends(
    own_kafka: KafkaBroker, live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    live.start()
    now_us = time.time_ns() // 1000
    rules = live.home / "rules.toml"
    rules.write_text(RULES)
    assert said(live, "alarms", "apply", str(rules), "--at", "2026-01-01T00:00:00Z") == 0
    assert "+ jump: priority 1" in capsys.readouterr().out
    rules.write_text(RULES.replace("severe", "hard"))
    assert (
        said(live, "alarms", "apply", str(rules), "--at", "2026-01-02T00:00:00Z") == 1
    )  # refused as a whole
    assert "rules.toml:6: alarm[0].severity" in capsys.readouterr().err
    send(live, *(edge("raise", area, now_us) for area in ("a", "b", "c", "d")))
    until("four alerts are told", lambda: len(states(live)) == 4, 30)
    (first, *_) = asyncio.run(alerts(live.config)).values()
    assert (first["priority"], first["guidance"]["corrective_action"]) == (1, "Start reserve")
    ids = {area: known[0] for area, known in states(live).items()}
    assert said(live, "ack", ids["a"], "--user", "ann") == 0
    shelf = ("--reason", "known", "--minutes", str(SHELF_MIN), "--user", "bob")
    assert said(live, "alarms", "shelve", ids["b"], *shelf) == 0
    assert said(live, "alarms", "out-of-service", ids["c"], "--reason", "relay test", "--user", "ann") == 0
    assert said(live, "alarms", "unshelve", ids["d"]) == 1  # it is not shelved: refused, with the reason
    assert "SHLVD" in capsys.readouterr().out

    live.kill()
    own_kafka.kill()
    own_kafka.start()
    live.start()
    kept = {area: known[1:] for area, known in states(live).items()}
    assert kept == {"a": ("ACKED", "ann"), "b": ("SHLVD", "bob"), "c": ("OOSRV", "ann"), "d": ("UNACK", None)}

    later_us = now_us + int((SHELF_MIN * 60 + 60) * 1e6)
    send(live, *(edge("watermark", area, later_us) for area in ("a", "b", "c", "d")))
    until("the shelf has ended", lambda: states(live)["b"][1] == "UNACK", 30)
    assert said(live, "alarms", "return", ids["c"], "--user", "bob") == 0
    assert said(live, "alarms", "unack", ids["a"], "--user", "ann") == 0
    kept = {area: known[1:] for area, known in states(live).items()}
    assert kept == {area: ("UNACK", None) for area in "abcd"}
    assert said(live, "alarms", "list") == 0
    assert capsys.readouterr().out.count("UNACK") >= 4

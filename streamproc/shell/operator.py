"""An operator's word to an alert: sent to `grid.operator.v1`, and the answer on the alert's own record awaited.

An operator must not believe that an alert is acknowledged, or shelved, when it is not: so every command waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from streamproc.config import SiteConfig
from streamproc.core.command import command_id
from streamproc.core.messages import Operator, encode
from streamproc.errors import ShellError
from streamproc.reader import Reader
from streamproc.shell.sender import Sender
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wire_name
from streamproc.values import TOPIC_ALERTS, TOPIC_OPERATOR, Record

ANSWER_TIMEOUT_S = 10.0


async def tell(site: SiteConfig, said: Operator) -> Mapping[str, Any]:
    """Send a command and return the record of the alert that answers it; raises ShellError if it was not done."""
    if said.alert_id not in await alerts(site):
        told = f"no alert {said.alert_id!r:.80} in the topic: `streamproc alarms list` prints their ids"
        raise ShellError(told)
    identity = command_id(said)
    async with _reader(site, from_start=False, follow=True) as reader:
        await send(site, said)
        answer = await _answer(reader, said.alert_id, identity)
    result = answer["command"]
    if result["result"] != "done":
        where = f"alert {said.alert_id} ({answer['state']})"
        raise ShellError(f"{where}: {said.action} {result['result']}: {result['reason']}")
    return answer


async def _answer(reader: Reader, alert_id: str, identity: str) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async for transition in reader:
                command = transition.value.get("command") or {}
                if transition.id == alert_id and command.get("command_id") == identity:
                    return transition.value
    except TimeoutError:
        pass
    told = f"sent, but alert {alert_id} did not answer within {ANSWER_TIMEOUT_S:g} s: does a worker run?"
    raise ShellError(told)


async def alerts(site: SiteConfig) -> dict[str, Mapping[str, Any]]:
    """Return the newest record of every alert in the topic, by id."""
    newest: dict[str, Mapping[str, Any]] = {}
    async with _reader(site, from_start=True, follow=False) as reader:
        async for transition in reader:
            newest[transition.id] = transition.value
    return newest


async def send(site: SiteConfig, said: Operator) -> None:
    """Send one command to the topic of operators; raises ShellError."""
    key = (said.alert_id or said.recommendation_id).encode()
    record = Record(TOPIC_OPERATOR, 0, 0, said.ts_us // 1000, key, encode(said))
    async with Sender(site) as sender:
        await sender.send(record)


def _reader(site: SiteConfig, *, from_start: bool, follow: bool) -> Reader:
    settings = client_settings(site.broker)
    bootstrap = settings.pop("bootstrap_servers")
    topic = wire_name(site, TOPIC_ALERTS)
    return Reader(bootstrap, topic=topic, from_start=from_start, follow=follow, **settings)

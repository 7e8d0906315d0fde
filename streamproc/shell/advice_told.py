"""Recommendations as the topic holds them: what is in force, what operators answered, what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from streamproc.config import SiteConfig
from streamproc.core.messages import Operator
from streamproc.errors import ShellError
from streamproc.reader import Reader
from streamproc.shell.operator import ANSWER_TIMEOUT_S, send
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wire_name
from streamproc.values import TOPIC_SETPOINTS


def _reader(site: SiteConfig, *, from_start: bool, follow: bool) -> Reader:
    settings = client_settings(site.broker)
    bootstrap = settings.pop("bootstrap_servers")
    topic = wire_name(site, TOPIC_SETPOINTS)
    return Reader(
        bootstrap, topic=topic, id_field="recommendation_id", from_start=from_start, follow=follow, **settings
    )


async def records(site: SiteConfig) -> list[Mapping[str, Any]]:
    """Return every record of the topic, each once."""
    async with _reader(site, from_start=True, follow=False) as reader:
        return [transition.value async for transition in reader]


async def answer(site: SiteConfig, said: Operator) -> Mapping[str, Any]:
    """Send an answer and return the record that tells its result; raises ShellError if it was not done."""
    known = {record["recommendation_id"]: record for record in await records(site)}
    last = known.get(said.recommendation_id)
    if last is None:
        raise ShellError(f"no recommendation {said.recommendation_id!r:.80}: see `streamproc advice list`")
    if last["action"] == "WITHDRAW":
        raise ShellError(f"recommendation {said.recommendation_id} is withdrawn: {last['reason']}")
    async with _reader(site, from_start=False, follow=True) as reader:
        await send(site, said)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                async for transition in reader:
                    told = transition.value.get("answer") or {}
                    if transition.value.get("action") == "ANSWER" and told.get("ts_us") == said.ts_us:
                        break
        except TimeoutError:
            waited = f"sent, but no answer came within {ANSWER_TIMEOUT_S:g} s: does a worker run?"
            raise ShellError(waited) from None
    if told["result"] != "done":
        raise ShellError(f"{said.action} {told['result']}: {told['detail']}")
    return transition.value


def in_force(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the newest record of every recommendation that was not withdrawn, the newest last."""
    newest: dict[str, Mapping[str, Any]] = {}
    for record in found:
        before = newest.get(record["recommendation_id"])
        if record["action"] == "OUTCOME" and before is not None and before["action"] != "WITHDRAW":
            continue
        newest[record["recommendation_id"]] = record
    return [record for record in newest.values() if record["action"] in {"ISSUE", "UPDATE", "ANSWER"}]


def report(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what was recommended, answered, promised and realised."""
    issued = {r["recommendation_id"] for r in found if r["action"] == "ISSUE"}
    answers = [r["answer"] for r in found if r["action"] == "ANSWER"]
    done = Counter(a["action"] for a in answers if a["result"] == "done")
    reasons = Counter(a["reason"] for a in answers if a["result"] == "done" and a["action"] == "reject")
    outcomes = [o for r in found if r["action"] == "OUTCOME" for o in r["outcome"]]
    promised = sum(abs(o["promised"]) for o in outcomes)
    realised = sum(o["realised"] * (1 if o["promised"] >= 0 else -1) for o in outcomes)
    return {
        "recommended": len(issued),
        "answers": dict(sorted(done.items())),
        "acceptance_ratio": done["accept"] / len(issued) if issued else None,
        "rejected_because": dict(reasons.most_common(10)),
        "outcomes": dict(sorted(Counter(o["verdict"] for o in outcomes).items())),
        "promised": round(promised, 3),
        "realised": round(realised, 3),
        "realised_ratio": round(realised / promised, 3) if promised else None,
    }

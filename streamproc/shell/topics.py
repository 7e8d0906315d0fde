"""The topics that the service needs: wanted, compared with what is there, and made.

`streamproc topics plan` shows the difference, `topics apply` removes it; the running service never creates a
topic (outside `demo`). Three kinds of difference:

    missing    created
    setting    altered; settings that we do not name stay as they are
    conflict   not touched: another partition count would part a key from the state it has,
               another replication factor needs a reassignment by the operator of the cluster

Inputs and alerts carry CreateTime: the record's own time is the event time. A record from the future is refused
by our stages with a reason and a dead letter, not by the broker without one; so `message.timestamp.after.max.ms`
is open.

Records of `delete` topics go by their time stamp: an old recording sent with its own times is gone at the
broker's next check of retention (`streamproc replay --restamp now` avoids that). What it caused must not go with
it: findings, forecasts and dead letters carry LogAppendTime, and stay their full time from when they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamproc import values
from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.site_file import client_settings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FOREVER_MS = -1
BLOB_SIZE_MAX = 32 * 1024 * 1024  # bytes of one state blob on the wire
APPLY_TIMEOUT_S = 15.0
_OPEN_MS = 2**63 - 1

Policy: TypeAlias = Literal["delete", "compact", "compact,delete"]

# topic -> (policy, retention in ms, how it is partitioned). "input": broker.partitions, one area per key.
# "one": the whole picture of an operator position must meet in one place.
TOPICS: Mapping[str, tuple[Policy, int, Literal["input", "one"]]] = {
    values.TOPIC_FRAMES: ("delete", 3 * DAY_MS, "input"),
    values.TOPIC_CONFIG: ("compact", FOREVER_MS, "one"),
    values.TOPIC_SCADA: ("delete", 7 * DAY_MS, "input"),
    values.TOPIC_INTERVALS: ("delete", 800 * DAY_MS, "input"),  # two years: what forecasts are trained on
    values.TOPIC_EXOGENOUS: ("compact,delete", 800 * DAY_MS, "one"),
    values.TOPIC_FINDINGS: ("delete", 30 * DAY_MS, "one"),
    # Nothing of these three is deleted by time unless the site sets a retention: they are the record of what
    # was said.
    values.TOPIC_ALERTS: ("compact,delete", FOREVER_MS, "one"),
    values.TOPIC_CARDS: ("compact,delete", FOREVER_MS, "one"),
    values.TOPIC_SETPOINTS: ("compact,delete", FOREVER_MS, "one"),
    values.TOPIC_FORECASTS: ("delete", 30 * DAY_MS, "one"),
    values.TOPIC_OPERATOR: ("compact", FOREVER_MS, "one"),
    values.TOPIC_RULES: ("compact", FOREVER_MS, "one"),
    values.TOPIC_HEALTH: ("delete", DAY_MS, "one"),
    values.TOPIC_STATE: ("compact", FOREVER_MS, "one"),
}
INPUTS = (
    values.TOPIC_FRAMES,
    values.TOPIC_CONFIG,
    values.TOPIC_SCADA,
    values.TOPIC_INTERVALS,
    values.TOPIC_FINDINGS,
    values.TOPIC_OPERATOR,
    values.TOPIC_ALERTS,
    values.TOPIC_FORECASTS,
)
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
KEPT = {
    "message_timestamp_type": "LogAppendTime"
}  # retention counts from when a record came, whatever its own time
# How long every transition of one alert stays before compaction leaves only its last.
COMPACTION_LAG_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic as it should be; `name` is the one on the wire."""

    name: str
    partition_count: int
    replication_factor: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, partition count or replication factor that differs."""

    topic: str
    key: str
    found: str
    wanted: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs; empty when all is as wanted."""

    wanted_count: int
    missing: tuple[Wanted, ...] = ()
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Change, ...] = ()
    kept: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Topic -> its own settings now: altering one must repeat the others."""

    @property
    def is_empty(self) -> bool:
        """Return whether nothing differs."""
        return not (self.missing or self.changes or self.conflicts)

    def lines(self) -> list[str]:
        """Return the difference for a person, one line each."""
        rows = []
        for topic in self.missing:
            told = f"{topic.partition_count} partitions, {topic.settings['cleanup.policy']}"
            rows.append(f"+ {topic.name}: {told}, retention {_days(topic.settings['retention.ms'])}")
        rows += [f"~ {c.topic}: {c.key} {c.found} -> {c.wanted}" for c in self.changes]
        rows += [
            f"! {c.topic}: {c.key} is {c.found}, wanted {c.wanted}; not changed here" for c in self.conflicts
        ]
        return rows


def wire_name(config: SiteConfig, topic: str) -> str:
    """Return the name of a topic on the wire: the site's prefix before it."""
    return config.broker.topic_prefix + topic


def wanted_topics(config: SiteConfig) -> tuple[Wanted, ...]:
    """Return every topic of a site as it should be, dead-letter topics last."""
    replicas = config.broker.replication_factor
    common = {
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": str(_OPEN_MS),
        "min.insync.replicas": str(min(2, replicas)),
        "unclean.leader.election.enable": "false",
    }

    def topic(name: str, policy: Policy, retention_ms: int, count: int, **more: str) -> Wanted:
        settings = {"cleanup.policy": policy, "retention.ms": str(retention_ms), **common}
        settings |= {key.replace("_", "."): value for key, value in more.items()}
        return Wanted(wire_name(config, name), count, replicas, settings)

    found = []
    for name, (policy, retention_ms, split) in TOPICS.items():
        more: dict[str, str] = {}
        if policy == "compact,delete":
            lag_ms = retention_ms if name == values.TOPIC_EXOGENOUS else COMPACTION_LAG_MS
            more["min_compaction_lag_ms"] = str(lag_ms)
        if name in {values.TOPIC_FINDINGS, values.TOPIC_FORECASTS, values.TOPIC_INTERVALS}:
            more |= KEPT
        if name == values.TOPIC_STATE:
            # Superseded every second: small segments and an eager cleaner keep what a successor must scan
            # short.
            more |= {"max_message_bytes": str(BLOB_SIZE_MAX), "segment_bytes": str(64 * 1024 * 1024)}
            more |= {"min_cleanable_dirty_ratio": "0.1"}
        count = config.broker.partitions if split == "input" else 1
        found.append(topic(name, policy, retention_ms, count, **more))
    found += [
        topic(name + values.DLQ_SUFFIX, "delete", DEAD_LETTER_RETENTION_MS, 1, **KEPT) for name in INPUTS
    ]
    return tuple(found)


def plan_topics(config: SiteConfig) -> Plan:
    """Return the difference between wanted and found; raise ShellError if the broker does not answer."""
    return asyncio.run(plan(config))


def apply_topics(config: SiteConfig) -> Plan:
    """Create what is missing, alter what differs; return what was done (its conflicts were not)."""
    return asyncio.run(apply(config))


async def plan(config: SiteConfig) -> Plan:
    """Return the difference between wanted and found."""
    async with _Admin(config) as admin:
        return await _plan(admin, wanted_topics(config))


async def apply(config: SiteConfig) -> Plan:
    """Create what is missing, alter what differs; return what was done (its conflicts were not)."""
    wanted = wanted_topics(config)
    async with _Admin(config) as admin:
        todo = await _plan(admin, wanted)
        await _create(admin, todo)
        await _alter(admin, todo)
        # The controller answers before every broker has heard of it: done is when a new plan says so.
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + APPLY_TIMEOUT_S
        left = await _plan(admin, wanted)
        while left.missing or left.changes:
            if loop.time() > deadline_s:
                raise ShellError(f"not in force after {APPLY_TIMEOUT_S:g} s: {'; '.join(left.lines())}")
            await asyncio.sleep(0.05)
            left = await _plan(admin, wanted)
        return todo


async def _create(admin: AIOKafkaAdminClient, todo: Plan) -> None:
    new = [
        NewTopic(t.name, t.partition_count, t.replication_factor, None, dict(t.settings))
        for t in todo.missing
    ]
    if new:
        for name, code, *words in (await admin.create_topics(new, timeout_ms=30_000)).topic_errors:
            if code != TopicAlreadyExistsError.errno:  # somebody was faster; the next plan looks at it
                _refuse(f"topic {name} cannot be created", code, *words)


async def _alter(admin: AIOKafkaAdminClient, todo: Plan) -> None:
    # AlterConfigs replaces all settings of a topic, so those that are not ours are repeated.
    altered = {c.topic: dict(todo.kept[c.topic]) for c in todo.changes}
    for change in todo.changes:
        altered[change.topic][change.key] = change.wanted
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, made) for name, made in altered.items()]
    for reply in await admin.alter_configs(resources) if resources else ():
        for code, words, _, name in reply.resources:
            _refuse(f"topic {name} cannot be altered", code, words)


async def _plan(admin: AIOKafkaAdminClient, wanted: tuple[Wanted, ...]) -> Plan:
    there = set(await admin.list_topics())
    missing = tuple(t for t in wanted if t.name not in there)
    present = [t for t in wanted if t.name in there]
    if not present:
        return Plan(len(wanted), missing)
    described = {t["topic"]: t["partitions"] for t in await admin.describe_topics([t.name for t in present])}
    current, own = await _settings(admin, [t.name for t in present])
    changes, conflicts = [], []
    for topic in present:
        for key, value in topic.settings.items():
            found = current[topic.name].get(key, "(not known to this broker)")
            if found != value:
                changes.append(Change(topic.name, key, found, value))
        partitions = described[topic.name]
        replicas = min(len(p["replicas"]) for p in partitions)
        for key, number, want in (
            ("partitions", len(partitions), topic.partition_count),
            ("replication factor", replicas, topic.replication_factor),
        ):
            if number != want:
                conflicts.append(Change(topic.name, key, str(number), str(want)))
    return Plan(len(wanted), missing, tuple(changes), tuple(conflicts), own)


async def _settings(
    admin: AIOKafkaAdminClient, names: list[str]
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Return (all settings in force, those set on the topic itself), by topic."""
    topic_source = 1  # DescribeConfigs, config_source DYNAMIC_TOPIC_CONFIG
    current: dict[str, dict[str, str]] = {}
    own: dict[str, dict[str, str]] = {}
    replies = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    for reply in replies:
        for code, words, _, name, entries in reply.resources:
            _refuse(f"the settings of topic {name} cannot be read", code, words)
            current[name] = {entry[0]: entry[1] for entry in entries}
            own[name] = {entry[0]: entry[1] for entry in entries if entry[3] == topic_source}
    return current, own


def _refuse(what: str, code: int, *words: str | None) -> None:
    if code != 0:
        told = next((w for w in words if w), None) or for_code(code).__name__
        raise ShellError(f"{what}: {told}")


def _days(retention_ms: str) -> str:
    return "unlimited" if int(retention_ms) < 0 else f"{int(retention_ms) / DAY_MS:g} d"


class _Admin:
    """An admin client that turns the library's errors into one sentence."""

    def __init__(self, config: SiteConfig) -> None:
        self._bootstrap = config.broker.bootstrap
        self._client = AIOKafkaAdminClient(client_id="streamproc-topics", **_arguments(config))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        try:
            await self._client.start()
        except (KafkaError, OSError) as error:
            await self._client.close()
            raise ShellError(f"no Kafka answers at {self._bootstrap}: {error}") from error
        return self._client

    async def __aexit__(self, _kind: object, value: BaseException | None, _trace: object) -> None:
        await self._client.close()
        if isinstance(value, KafkaError):
            raise ShellError(f"Kafka at {self._bootstrap} refused: {value}") from value


def _arguments(config: SiteConfig) -> dict[str, Any]:
    return client_settings(config.broker)

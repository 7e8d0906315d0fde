"""What `streamproc check` asks a cluster that lets us in: topics, their policies, permissions, group, workers.

Only questions: nothing is created, altered, produced or committed. A group is described, never joined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from streamproc import values
from streamproc.config import SiteConfig
from streamproc.core.c37118.book import Book
from streamproc.core.c37118.decode import decode as decode_frames
from streamproc.core.messages import Health, decode
from streamproc.shell.checks.kafka_ask import (
    DESCRIBE_CONFIGS,
    NOT_TOLD,
    OPERATIONS,
    READ,
    WRITE,
    TopicFound,
    ask_group,
    ask_topics,
    may,
)
from streamproc.shell.checks.line import Line, fail, ok, one_line, warn
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import Wanted, wanted_topics, wire_name

ASK_TIMEOUT_S = 15.0  # all questions about topics and the group
READ_TIMEOUT_S = 6.0  # the newest records of three topics
CONFIG_RECORDS_MAX = 500
BEAT_OLD_S = 5.0  # a worker says something each second
AHEAD_MS = 250.0  # time stamps of the future beyond this: one of the two clocks is wrong
RECORD_SIZE = 1_000_000  # bytes of an ordinary record; Kafka takes 1 MiB unless told otherwise
APPLY = "`streamproc topics apply -c ...` sets it"

_UNKNOWN, _TOPIC_REFUSED, _GROUP_REFUSED, _NO_GROUP = 3, 29, 30, 69  # error codes of the protocol

# What a worker does with each topic; dead letters are written.
_USES: Mapping[str, tuple[int, ...]] = {
    values.TOPIC_FRAMES: (READ,),
    values.TOPIC_CONFIG: (READ,),
    values.TOPIC_SCADA: (READ,),
    values.TOPIC_INTERVALS: (READ, WRITE),
    values.TOPIC_EXOGENOUS: (READ,),
    values.TOPIC_FINDINGS: (READ, WRITE),
    values.TOPIC_ALERTS: (READ, WRITE),
    values.TOPIC_CARDS: (WRITE,),
    values.TOPIC_SETPOINTS: (WRITE,),
    values.TOPIC_FORECASTS: (READ, WRITE),
    values.TOPIC_OPERATOR: (READ,),
    values.TOPIC_RULES: (READ,),
    values.TOPIC_HEALTH: (WRITE,),
    values.TOPIC_STATE: (READ, WRITE),
}
# At least this much; -1 is without end. Not as wanted, but more, is a warning.
_AT_LEAST = ("retention.ms", "min.insync.replicas", "max.message.bytes", "min.compaction.lag.ms")
_MUST = ("cleanup.policy", "max.message.bytes", "message.timestamp.type")


@dataclass(slots=True)
class Cluster:
    """What was found: the lines, and the reporting rates in the configuration topic, by key."""

    lines: list[Line] = field(default_factory=list)
    rates_hz: dict[str, set[float]] | None = None  # None: not read


async def check_cluster(config: SiteConfig, now_us: int) -> Cluster:
    """Ask everything; what does not answer in time is a line too."""
    found = Cluster()
    admin = AIOKafkaAdminClient(client_id="streamproc-check", **client_settings(config.broker))
    readable: set[str] = set()
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            await admin.start()
            readable = await _ask(admin, config, found.lines)
    except (KafkaError, OSError, TimeoutError) as error:
        told = (
            f"no answer within {ASK_TIMEOUT_S:g} s"
            if isinstance(error, TimeoutError)
            else one_line(repr(error))
        )
        found.lines.append(
            fail("topics", f"the cluster does not answer: {told}", "see the log of the brokers")
        )
    finally:
        await _within(admin.close())
    if readable:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await _read(config, readable, now_us, found)
        except (KafkaError, OSError, TimeoutError) as error:
            told = "no answer in time" if isinstance(error, TimeoutError) else one_line(repr(error))
            found.lines.append(warn("workers", f"the newest records cannot be read: {told}"))
    return found


async def _ask(admin: AIOKafkaAdminClient, config: SiteConfig, lines: list[Line]) -> set[str]:
    """Add the lines about topics, permissions and the group; return the topics that may be read."""
    wanted = {topic.name: topic for topic in wanted_topics(config)}
    found = await ask_topics(admin, wanted)
    there = {name: topic for name, topic in found.items() if topic.error_code == 0}
    lines += topic_lines(wanted, found)
    described = [name for name, topic in there.items() if may(topic.allowed, DESCRIBE_CONFIGS)]
    lines += await _policies(admin, [wanted[name] for name in described])
    if len(described) < len(there):
        told = f"the settings of {len(there) - len(described)} topics may not be read: not compared"
        lines.append(warn("policy", told, "allow DESCRIBE_CONFIGS on the topics, or ask their operator"))
    lines += access_lines(config, found)
    lines += await _group(admin, config)
    return {name for name, topic in there.items() if may(topic.allowed, READ)}


def topic_lines(wanted: Mapping[str, Wanted], found: Mapping[str, TopicFound]) -> list[Line]:
    """Compare which topics are there, their partitions and replicas."""
    codes = {name: found[name].error_code if name in found else _UNKNOWN for name in wanted}
    missing = [name for name, code in codes.items() if code == _UNKNOWN]
    lines = []
    if missing:
        told = f"{len(missing)} of {len(wanted)} do not exist: {', '.join(missing)}"
        lines.append(fail("topics", told, "`streamproc topics apply -c ...` creates them"))
    for name, topic in wanted.items():
        code = codes[name]
        if code not in {0, _UNKNOWN, _TOPIC_REFUSED}:  # a refusal is told once, under "access"
            lines.append(fail("topics", f"{name}: {for_code(code).__name__}", "see the log of the brokers"))
        elif code == 0:
            lines += _partitions(topic, found[name])
    if not lines:
        refused = sum(topic.error_code == _TOPIC_REFUSED for topic in found.values())
        lines.append(
            ok("topics", f"{len(wanted) - refused} of {len(wanted)} are there with their partitions")
        )
    return lines


def _partitions(topic: Wanted, found: TopicFound) -> list[Line]:
    lines = []
    count, replicas = len(found.partitions), min((len(p["replicas"]) for p in found.partitions), default=0)
    if count != topic.partition_count:
        told = f"{topic.name} has {count} partitions, wanted {topic.partition_count}"
        todo = "set broker.partitions to what is there (for an input), or make the topic anew"
        lines.append(fail("topics", told, todo))
    if replicas != topic.replication_factor:
        told = f"{topic.name} has {replicas} replicas, wanted {topic.replication_factor}"
        lines.append(warn("topics", told, "set broker.replication_factor, or reassign the partitions"))
    headless = [p["partition"] for p in found.partitions if p["leader"] < 0]
    if headless:
        told = f"{topic.name} has no leader for {headless[:5]}: nothing can be read or written there"
        lines.append(fail("topics", told, "start the brokers that hold it"))
    elif any(len(p["isr"]) < len(p["replicas"]) for p in found.partitions):
        lines.append(
            warn("topics", f"{topic.name} has replicas that are not in sync", "see the other brokers")
        )
    return lines


async def _policies(admin: AIOKafkaAdminClient, topics: list[Wanted]) -> list[Line]:
    if not topics:
        return []
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    current: dict[str, dict[str, str]] = {}
    for reply in await admin.describe_configs(resources):
        for code, _words, _kind, name, entries in reply.resources:
            if code == 0:
                current[name] = {entry[0]: entry[1] for entry in entries}
    lines = [line for topic in topics for line in policy_lines(topic, current.get(topic.name, {}))]
    return lines or [ok("policy", f"the settings of {len(topics)} topics are as wanted")]


def policy_lines(topic: Wanted, current: Mapping[str, str]) -> list[Line]:
    """Compare the settings of a topic; what would lose or refuse records is a failure."""
    lines = []
    size = current.get("max.message.bytes", "")
    if "max.message.bytes" not in topic.settings and size.isdecimal() and int(size) < RECORD_SIZE:
        told = f"{topic.name}: max.message.bytes is {size}, records of up to {RECORD_SIZE} bytes can come"
        lines.append(warn("policy", told, f"raise it, or message.max.bytes of the broker, to {RECORD_SIZE}"))
    for key, wanted in topic.settings.items():
        found = current.get(key)
        if found is None:
            lines.append(warn("policy", f"{topic.name}: this broker does not know {key}"))
        elif found != wanted and not (key in _MUST and key in _AT_LEAST and int(found) >= int(wanted)):
            told = f"{topic.name}: {key} is {found}, wanted {wanted}"
            less = key in _AT_LEAST and _size(found) < _size(wanted)
            grave = key in _MUST or (less and key == "min.insync.replicas")
            lines.append(fail("policy", told, APPLY) if grave else warn("policy", told, APPLY))
    return lines


def _size(text: str) -> float:
    return float("inf") if int(text) < 0 else float(text)


def access_lines(config: SiteConfig, found: Mapping[str, TopicFound]) -> list[Line]:
    """Say which of the operations that a worker needs the broker does not allow to this user."""
    who = f"user {config.broker.sasl_username}" if config.broker.sasl_username else "this client"
    uses = {wire_name(config, topic): needed for topic, needed in _USES.items()}
    lines, told_any = [], False
    for name, topic in found.items():
        needed = uses.get(name, (WRITE,))
        if topic.error_code == _TOPIC_REFUSED:
            refused = ["DESCRIBE", *(OPERATIONS[one] for one in needed)]
        elif topic.error_code:
            continue
        else:
            told_any = told_any or topic.allowed != NOT_TOLD
            refused = [OPERATIONS[one] for one in needed if not may(topic.allowed, one)]
        if refused:
            todo = f"kafka-acls --add --allow-principal ... --topic {name} " + " ".join(
                f"--operation {word}" for word in refused
            )
            lines.append(fail("access", f"{who} has no {', '.join(refused)} on {name}", todo))
    if lines:
        return lines
    if not any(topic.error_code == 0 for topic in found.values()):
        return []
    if not told_any:
        return [warn("access", "the broker does not say what is allowed: a refusal would show at the start")]
    return [ok("access", f"{who} may read and write what a worker does")]


async def _group(admin: AIOKafkaAdminClient, config: SiteConfig) -> list[Line]:
    name = config.broker.group
    todo = f"kafka-acls --add --allow-principal ... --group {name} --operation READ"
    group = await ask_group(admin, name)
    if group is None:
        return [ok("group", f"{name}: no broker coordinates it, as on a cluster that has had no group yet")]
    if group.error_code == _GROUP_REFUSED or not may(group.allowed, READ):
        return [fail("group", f"{name}: this user may not join it (no READ on the group)", todo)]
    if group.error_code not in {0, _NO_GROUP}:
        return [warn("group", f"{name}: {for_code(group.error_code).__name__}")]
    if not group.members:
        return [ok("group", f"{name}: no worker is in it now ({group.state or 'unknown to the broker'})")]
    told = f"{name}: {group.state}, {len(group.members)} members ({one_line(', '.join(group.members[:4]))})"
    if group.state != "Stable":
        return [warn("group", told, "a rebalance goes on; if it stays so, see the logs of the workers")]
    return [ok("group", told)]


async def _read(config: SiteConfig, readable: set[str], now_us: int, found: Cluster) -> None:
    """Read the newest heartbeats, one record with the broker's own time stamp, and the configurations."""
    consumer = AIOKafkaConsumer(
        client_id="streamproc-check",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **client_settings(config.broker),
    )
    try:
        await consumer.start()
        names = {
            t: wire_name(config, t) for t in (values.TOPIC_HEALTH, values.TOPIC_FINDINGS, values.TOPIC_CONFIG)
        }
        if names[values.TOPIC_HEALTH] in readable:
            beats = await _newest(consumer, names[values.TOPIC_HEALTH], 200)
            found.lines.append(worker_line(beats, now_us))
        if names[values.TOPIC_FINDINGS] in readable:
            stamped = [
                r for r in await _newest(consumer, names[values.TOPIC_FINDINGS], 1) if r.timestamp_type == 1
            ]
            found.lines.append(stamp_line(stamped, now_us))
        if names[values.TOPIC_CONFIG] in readable:
            found.rates_hz = rates_of(await _newest(consumer, names[values.TOPIC_CONFIG], CONFIG_RECORDS_MAX))
    finally:
        await _within(consumer.stop())


async def _newest(consumer: AIOKafkaConsumer, topic: str, count: int) -> list[ConsumerRecord]:
    """Return the last records of partition 0, at most `count`."""
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    begin = max((await consumer.beginning_offsets([place]))[place], end - count)
    if begin >= end:
        return []
    consumer.seek(place, begin)
    records: list[ConsumerRecord] = []
    while await consumer.position(place) < end:  # compaction leaves holes: the position counts
        batch = await consumer.getmany(timeout_ms=500, max_records=count)
        records += [record for some in batch.values() for record in some]
    return records


def worker_line(records: list[ConsumerRecord], now_us: int) -> Line:
    """Compare our clock with the newest heartbeat: who runs, and whether the two clocks agree."""
    beats = [
        beat for beat in (decode(Health, record.value) for record in records) if isinstance(beat, Health)
    ]
    if not beats:
        return ok("workers", "no heartbeat is in the health topic: no worker runs or ran of late")
    newest = max(beats, key=lambda beat: beat.ts_us)
    names = {beat.worker for beat in beats if newest.ts_us - beat.ts_us < BEAT_OLD_S * 1e6}
    age_s = (now_us - newest.ts_us) / 1e6
    if age_s * 1000 < -AHEAD_MS:
        told = f"the heartbeat of {newest.worker} is {-age_s:.1f} s ahead of this clock (grid.health.v1)"
        return warn("workers", told, "one of the two clocks is wrong: see `clock`, here and there")
    if age_s > BEAT_OLD_S:
        todo = "no worker runs, or it cannot write, or its clock is behind: see its /readyz"
        return warn("workers", f"the newest heartbeat ({newest.worker}) is {age_s:,.0f} s old", todo)
    told = f"{len(names)} at work, newest heartbeat {max(age_s, 0):.1f} s old by this clock (grid.health.v1)"
    return ok("workers", told)


def stamp_line(records: list[ConsumerRecord], now_us: int) -> Line:
    """Compare our clock with a time stamp that the broker set itself (LogAppendTime): it can only be older."""
    if not records:
        return ok(
            "offset", "no record with the broker's own time (LogAppendTime) yet: its clock is not compared"
        )
    ahead_ms = records[-1].timestamp - now_us / 1000
    told = f"the broker stamped its newest finding {abs(ahead_ms) / 1000:,.1f} s"
    if ahead_ms > AHEAD_MS:
        return warn(
            "offset", f"{told} in the future of this clock", "one of the two clocks is wrong: see `clock`"
        )
    return ok("offset", f"{told} ago: it is not ahead of this clock (more is not in its answers)")


def rates_of(records: list[ConsumerRecord]) -> dict[str, set[float]]:
    """Return the reporting rates in these configuration records, by their key (the IDCODE)."""
    rates: dict[str, set[float]] = {}
    for record in records:
        if record.value:
            stream = one_line((record.key or b"").decode("utf-8", "replace"), 64)
            book = decode_frames(Book(), [record.value]).book
            rates.setdefault(stream, set()).update(layout.rate_hz for layout in book.layouts.values())
    return {stream: found for stream, found in rates.items() if found}


async def _within(closing: Awaitable[object], limit_s: float = 2.0) -> None:
    """Wait for a client to close, but not for a broker that does not answer."""
    try:
        await asyncio.wait_for(closing, limit_s)
    except (KafkaError, OSError):
        return

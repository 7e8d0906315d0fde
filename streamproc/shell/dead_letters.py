"""What stands in the dead-letter topics: the original bytes, their origin, and why they could not be used.

Nothing here commits, deletes or moves: looking changes nothing, and two people can look at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.site_file import client_settings
from streamproc.values import DLQ_SUFFIX


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter; `topic`, `partition` and `offset` are those of the original record."""

    place: str  # "TOPIC/PARTITION/OFFSET" of the dead letter itself
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    time: str  # ISO 8601, the original record's own time
    key: bytes | None
    value: bytes


async def read_dead_letters(
    config: SiteConfig, *, last_count: int, topic: str | None = None
) -> list[DeadLetter]:
    """Return the newest `last_count` dead letters of each partition, oldest first; of one topic or of all."""
    try:
        partitions = await _partitions(config, topic)
        found = await _read(config, partitions, last_count) if partitions else []
    except (KafkaError, OSError) as error:
        raise ShellError(f"no Kafka answers at {config.broker.bootstrap}: {error}") from error
    return [_letter(record) for record in sorted(found, key=lambda r: (r.timestamp, r.topic, r.offset))]


async def _partitions(config: SiteConfig, topic: str | None) -> list[TopicPartition]:
    prefix = config.broker.topic_prefix
    admin = AIOKafkaAdminClient(**client_settings(config.broker))
    try:
        await admin.start()
        names = [n for n in await admin.list_topics() if n.startswith(prefix) and n.endswith(DLQ_SUFFIX)]
        if not names:
            told = f"there are no dead-letter topics at {config.broker.bootstrap}"
            raise ShellError(f"{told}: `streamproc topics apply` makes them")
        if topic is not None:
            names = [n for n in names if n == prefix + topic.removesuffix(DLQ_SUFFIX) + DLQ_SUFFIX]
        described = await admin.describe_topics(names) if names else []
    finally:
        await admin.close()
    return sorted(TopicPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"])


async def _read(
    config: SiteConfig, partitions: list[TopicPartition], last_count: int
) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **client_settings(config.broker))
    found: list[ConsumerRecord] = []
    try:
        await consumer.start()
        consumer.assign(partitions)
        low = await consumer.beginning_offsets(partitions)
        high = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(low[partition], high[partition] - last_count))
        left = {p for p in partitions if low[p] < high[p]}
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=500)).values():
                found += records
            left = {p for p in left if await consumer.position(p) < high[p]}
    finally:
        await consumer.stop()
    return found


def _letter(record: ConsumerRecord) -> DeadLetter:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}

    def number(name: str) -> int:
        text = headers.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else -1

    return DeadLetter(
        place=f"{record.topic}/{record.partition}/{record.offset}",
        reason=headers.get("reason", ""),
        detail=headers.get("detail", ""),
        topic=headers.get("topic", ""),
        partition=number("partition"),
        offset=number("offset"),
        time=headers.get("time", ""),
        key=record.key,
        value=record.value or b"",
    )

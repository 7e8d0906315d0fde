"""Read alerts, each transition once: the consumer for neighbours of the service.

    async with Reader("127.0.0.1:9092") as reader:
        async for transition in reader:
            print(transition.value["message"])

The service delivers at least once, with the same bytes for the same (`alert_id`, `seq`) every time. So once
in effect is a matter of the reader: it remembers which pairs it has given out and leaves the rest away. A
pair that comes again with *other* bytes breaks the promise of the service; that raises `ConflictError`,
because either of the two may be wrong.

Memory is bounded: the last `memory_count` pairs are remembered, by a digest each. With a `group` the reader
goes on where it stopped: the offset is committed when the next transition is asked for, and after a start the
pairs of the records before it are remembered again without being given out. One reader per group: it must see
all partitions.

It works on every topic whose records carry an id and a sequence number, for example setpoints:
`Reader(bootstrap, topic="grid.setpoints.v1", id_field="recommendation_id")`.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamproc.errors import ShellError, StreamprocError
from streamproc.values import TOPIC_ALERTS

log = logging.getLogger(__name__)


class ConflictError(StreamprocError):
    """The same id and sequence number came twice with different bytes."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One record, given out once. `raw` are its bytes as they stand in the topic."""

    id: str
    seq: int
    value: Mapping[str, Any]
    raw: bytes
    partition: int
    offset: int


class Seen:
    """Remembers (id, seq) and a digest of the bytes; beyond `memory_count` the oldest go first."""

    def __init__(self, memory_count: int = 100_000) -> None:
        self._memory_count = memory_count
        self._digests: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def is_new(self, identity: str, seq: int, raw: bytes) -> bool:
        """Return whether this pair comes for the first time; raise if it came with other bytes."""
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        before = self._digests.get((identity, seq))
        if before is None:
            self._digests[identity, seq] = digest
            if len(self._digests) > self._memory_count:
                self._digests.popitem(last=False)
            return True
        if before != digest:
            raise ConflictError(f"{identity} seq {seq} came twice with different bytes")
        return False


class Reader:
    """An async iterator over the transitions of one topic; also an async context manager.

    `from_start` begins with the oldest record, else with what comes; a group's committed offset is stronger
    than both. Without `follow` it ends at what stood in the topic at the start. `foreign_count` counts
    records that are no JSON object with an id and a sequence number; they are left away.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        topic: str = TOPIC_ALERTS,
        id_field: str = "alert_id",
        group: str | None = None,
        from_start: bool = True,
        follow: bool = True,
        memory_count: int = 100_000,
        **client_settings: Any,  # noqa: ANN401  (those of AIOKafkaConsumer, as they are)
    ) -> None:
        self.foreign_count = 0
        self._bootstrap, self._topic, self._id_field = bootstrap, topic, id_field
        self._group, self._from_start, self._follow = group, from_start, follow
        self._memory_count = memory_count
        self._client_settings = {"bootstrap_servers": bootstrap, **client_settings}
        self._seen = Seen(memory_count)
        self._consumer: AIOKafkaConsumer | None = None
        self._begin: dict[TopicPartition, int] = {}  # what lies before is remembered, not given out
        self._end: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Reader:
        """Connect and find the offsets to begin and, without `follow`, to end at."""
        self._consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self._client_settings,
        )
        try:
            await self._consumer.start()
            await self._take_up(self._consumer)
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise ShellError(f"no Kafka answers at {self._bootstrap}: {error}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def __aiter__(self) -> AsyncIterator[Transition]:
        """Yield each transition once; commit it when the next is asked for."""
        consumer = self._consumer
        if consumer is None:
            raise ShellError("a Reader is used as `async with Reader(...) as reader`")
        while self._follow or await self._is_behind(consumer):
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            for partition, records in batches.items():
                for record in records:
                    transition = self._transition(record)
                    if transition is not None and record.offset >= self._begin[partition]:
                        yield transition
                # Here the caller has come back for more: what it was given, it has dealt with.
                if self._group is not None and records[-1].offset >= self._begin[partition]:
                    await consumer.commit({partition: records[-1].offset + 1})

    async def _take_up(self, consumer: AIOKafkaConsumer) -> None:
        partitions = await self._partitions()
        consumer.assign(partitions)
        low = await consumer.beginning_offsets(partitions)
        self._end = await consumer.end_offsets(partitions)
        for partition in partitions:
            committed = await consumer.committed(partition) if self._group is not None else None
            start = low[partition] if self._from_start else self._end[partition]
            self._begin[partition] = max(low[partition], start if committed is None else committed)
            consumer.seek(partition, max(low[partition], self._begin[partition] - self._memory_count))

    async def _partitions(self) -> list[TopicPartition]:
        # A consumer knows the partitions of a topic only once it has joined a group for it; the admin client
        # asks.
        admin = AIOKafkaAdminClient(**self._client_settings)
        try:
            await admin.start()
            described = await admin.describe_topics([self._topic])
        finally:
            await admin.close()
        numbers = sorted(p["partition"] for topic in described for p in topic["partitions"])
        if not numbers:
            raise ShellError(f"there is no topic {self._topic} at {self._bootstrap}")
        return [TopicPartition(self._topic, number) for number in numbers]

    async def _is_behind(self, consumer: AIOKafkaConsumer) -> bool:
        for partition, end in self._end.items():
            if await consumer.position(partition) < end:
                return True
        return False

    def _transition(self, record: ConsumerRecord) -> Transition | None:
        raw = record.value
        if raw is None:
            return None  # a tombstone: compaction will forget this alert
        try:
            value = orjson.loads(raw)
            identity, seq = value[self._id_field], value["seq"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            identity = seq = value = None
        if not isinstance(identity, str) or not isinstance(seq, int):
            self.foreign_count += 1
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning("record without id and sequence number", extra=place)
            return None
        if not self._seen.is_new(identity, seq, raw):
            return None
        return Transition(identity, seq, value, raw, record.partition, record.offset)

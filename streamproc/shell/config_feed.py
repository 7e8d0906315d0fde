"""Everything on the broadcast topics, from their beginning on, for every partition alike: the PMU configurations.

A reader without a group: it takes no part in the assignment of work. `catch_up` reads to the end that the broker reports
at that moment; `since` gives what came from a place on. The topic is compacted, so it is as long as there are streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.values import Record

POLL_WAIT_MS = 200


class ConfigFeed:
    """Follows compacted topics. `settings` are aiokafka's."""

    def __init__(self, settings: dict[str, Any], topics: Sequence[str], *, prefix: str = "") -> None:
        self._settings, self._topics, self._prefix = settings, topics, prefix
        self._records: list[Record] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._tps: list[TopicPartition] = []
        self._lock = asyncio.Lock()

    def since(self, index: int) -> Sequence[Record]:
        """Return the records from a place on."""
        return self._records[index:]

    async def catch_up(self) -> None:
        """Read to the present end of the topics."""
        async with self._lock:
            consumer = await self._started()
            ends = await consumer.end_offsets(self._tps)
            while any([await consumer.position(tp) < ends[tp] for tp in self._tps]):
                fetched = await consumer.getmany(timeout_ms=POLL_WAIT_MS)
                self._records += [self._plain(r) for part in fetched.values() for r in part]

    async def stop(self) -> None:
        """End the reader."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(**self._settings, enable_auto_commit=False, fetch_max_wait_ms=20)
            await consumer.start()
            self._consumer = consumer
            names = [self._prefix + topic for topic in self._topics]
            for name in names:
                await consumer._client._wait_on_metadata(name)  # noqa: SLF001 - makes the topic's partitions known
            self._tps = [
                TopicPartition(name, number)
                for name in names
                for number in sorted(consumer.partitions_for_topic(name) or {0})
            ]
            consumer.assign(self._tps)
            await consumer.seek_to_beginning(*self._tps)
        return self._consumer

    def _plain(self, record: Any) -> Record:  # noqa: ANN401 - aiokafka's ConsumerRecord
        topic = record.topic.removeprefix(self._prefix)
        return Record(topic, record.partition, record.offset, record.timestamp, record.key, record.value)

"""What every state must know (configuration frames): compacted topics, read from the start without a group.

Each worker has the whole of them, so a partition that changes hands needs nothing. The feed keeps the newest
record of each key and numbers the changes; a stage host asks what is new since the number it has seen. A
key sent again with the same bytes is no change: gateways repeat configurations every minute.

A frame can be read before the configuration that was sent just ahead of it on the other topic. So before a
host accepts "unknown configuration" it asks the feed to `catch_up` to the end and tries once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from streamproc.config import BrokerTable
from streamproc.errors import ShellError
from streamproc.shell.site_file import client_settings
from streamproc.values import Record

log = logging.getLogger(__name__)

CATCH_UP_TIMEOUT_S = 10.0
_POLL_MS = 1000


class ConfigFeed:
    """The newest record of each key of some topics, with a number for each change."""

    def __init__(self, broker: BrokerTable, topics: Sequence[str], client_id: str = "streamproc") -> None:
        self._broker, self._topics, self._client_id = broker, tuple(topics), client_id
        self._newest: dict[tuple[str, bytes | None], tuple[int, Record]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._pump: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self.version = 0

    async def start(self) -> None:
        """Read everything that is there; then follow in the background."""
        if not self._topics:
            return
        names = [self._broker.topic_prefix + topic for topic in self._topics]
        consumer = AIOKafkaConsumer(
            *names,
            client_id=f"{self._client_id}-feed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,  # `catch_up` waits behind a pending fetch: the broker answers in order
            **client_settings(self._broker),
        )
        self._consumer = consumer
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise ShellError(f"{', '.join(self._topics)} cannot be read: {error!r}") from error
        self._pump = asyncio.create_task(self._follow(consumer))
        await self.catch_up()

    async def stop(self) -> None:
        """Stop following."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def catch_up(self) -> None:
        """Return when everything that stands in the topics now has been read (or after a time limit)."""
        consumer = self._consumer
        if consumer is None:
            return
        places = list(consumer.assignment())
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                ends = await consumer.end_offsets(places)
                while True:
                    self._moved.clear()
                    if not [p for p in places if await consumer.position(p) < ends[p]]:
                        return
                    await self._moved.wait()
        except (TimeoutError, KafkaError) as error:
            log.warning("configurations may be behind", extra={"error": repr(error)})

    def since(self, version: int) -> list[Record]:
        """Return the newest records that changed after `version`, in the order of their changes."""
        return [record for at, record in sorted(self._newest.values(), key=lambda n: n[0]) if at > version]

    def take(self, records: Sequence[Record]) -> None:
        """Note records in the order of their topics."""
        for record in records:
            key = (record.topic, record.key)
            known = self._newest.get(key)
            if known is None or known[1].value != record.value:
                self.version += 1
                self._newest[key] = (self.version, record)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        prefix_size = len(self._broker.topic_prefix)
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                log.warning("configurations cannot be followed", extra={"error": repr(error)})
                await asyncio.sleep(_POLL_MS / 1000)
                continue
            for place, some in fetched.items():
                topic = place.topic[prefix_size:]
                self.take([Record(topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in some])
            self._moved.set()

"""What the service told last about each series, from `grid.forecasts.v1`, for `POST /v1/forecast`.

It reads without a group and commits nothing: it is a listener. After a start it reads the last minutes again, so that it
knows every series that is alive. At most SERIES_MAX series are kept; a further one is counted and left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.config import BrokerTable
from streamproc.shell.site_file import client_settings
from streamproc.values import TOPIC_FORECASTS

log = logging.getLogger(__name__)

SERIES_MAX = 100_000  # (series, horizon)
BACK_MS = 20 * 60_000  # a quarter hour's issue, and what it may be late
RETRY_S = 5.0


class LiveForecasts:
    """The newest record per series and horizon."""

    def __init__(self, broker: BrokerTable) -> None:
        self._broker = broker
        self._told: dict[tuple[str, str], bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self.left_out = 0
        self.connected = False

    def newest(self, series: str, horizon: str) -> Mapping[str, Any] | None:
        """Return the newest record of a series; None: none was told."""
        raw = self._told.get((series, horizon))
        return None if raw is None else orjson.loads(raw)

    def take(self, raw: bytes | None) -> None:
        """Keep a record; one that is no forecast is left to those whose topic it is."""
        try:
            told = orjson.loads(raw or b"")
            key = (str(told["series"]), str(told.get("horizon", "PT1H")))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        if key not in self._told and len(self._told) >= SERIES_MAX:
            self.left_out += 1
            return
        self._told[key] = raw or b""

    def start(self, now_ms: int) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._listen(now_ms))

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self, now_ms: int) -> None:
        """Read for as long as the server runs; a broker that is away is tried again."""
        while True:
            try:
                await self._read(now_ms)
            except KafkaError as error:
                self.connected = False
                log.warning("%s cannot be read: %s; again in %g s", TOPIC_FORECASTS, error, RETRY_S)
                await asyncio.sleep(RETRY_S)

    async def _read(self, now_ms: int) -> None:
        topic = self._broker.topic_prefix + TOPIC_FORECASTS
        consumer = AIOKafkaConsumer(**client_settings(self._broker), enable_auto_commit=False)
        await consumer.start()
        try:
            numbers = consumer.partitions_for_topic(topic) or await self._partitions(consumer, topic)
            places = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(places)
            begins = await consumer.offsets_for_times(dict.fromkeys(places, now_ms - BACK_MS))
            for place, found in begins.items():
                if found is None:
                    await consumer.seek_to_end(place)
                else:
                    consumer.seek(place, found.offset)
            self.connected = True
            async for record in consumer:
                self.take(record.value)
        finally:
            await consumer.stop()

    @staticmethod
    async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
        await consumer.topics()
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise KafkaError(f"the broker has no topic {topic}")
        return set(numbers)

"""State blobs on the compacted topic `grid.state.v1`: what outlives a window, with the input offsets at which it was so.

A blob is looked for from the end backwards, in steps that double: active stages write every second, so the newest lies
near. Of several blobs the one with the highest offsets counts, so that a worker that had lost its partitions without
knowing cannot set its successor back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.values import TOPIC_STATE, Output

OFFSETS_HEADER = "next_offsets"
FIRST_LOOK_RECORDS = 64


@dataclass(frozen=True, slots=True)
class Blob:
    """A packed state and, per input topic, the offset from which its owner had still to speak."""

    value: bytes
    next_offsets: dict[str, int]


def blob_key(group: str, stage: str, partition: int) -> str:
    """Return the key under which a stage keeps the state of a partition."""
    return f"{group}/{stage}/{partition}"


def blob_output(key: str, blob: Blob, ts_ms: int) -> Output:
    """Return the record of a blob."""
    offsets = orjson.dumps(blob.next_offsets, option=orjson.OPT_SORT_KEYS)
    return Output(TOPIC_STATE, key.encode(), blob.value, ts_ms, ((OFFSETS_HEADER, offsets),))


class StateStore:
    """Reads blobs. `settings` are aiokafka's."""

    def __init__(self, settings: dict[str, Any], *, prefix: str = "") -> None:
        self._settings = settings
        self._tp = TopicPartition(prefix + TOPIC_STATE, 0)

    async def load(self, key: str) -> Blob | None:
        """Return the newest blob of a key, or None when there is none."""
        consumer = AIOKafkaConsumer(**self._settings, enable_auto_commit=False, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            consumer.assign([self._tp])
            first = (await consumer.beginning_offsets([self._tp]))[self._tp]
            end = (await consumer.end_offsets([self._tp]))[self._tp]
            look, stop = FIRST_LOOK_RECORDS, end
            while stop > first:
                start = max(first, end - look)
                found = await self._scan(consumer, start, stop, key.encode())
                if found is not None:
                    return found
                stop, look = start, look * 2
            return None
        finally:
            await consumer.stop()

    async def _scan(self, consumer: AIOKafkaConsumer, start: int, stop: int, key: bytes) -> Blob | None:
        consumer.seek(self._tp, start)
        best: Blob | None = None
        while await consumer.position(self._tp) < stop:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    if record.offset < stop and record.key == key and record.value is not None:
                        best = _better(
                            best, Blob(record.value, orjson.loads(dict(record.headers)[OFFSETS_HEADER]))
                        )
        return best


def _better(one: Blob | None, two: Blob) -> Blob:
    if one is None:
        return two
    return two if sorted(two.next_offsets.items()) >= sorted(one.next_offsets.items()) else one

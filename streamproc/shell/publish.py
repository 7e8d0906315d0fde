"""Outputs to Kafka: one idempotent producer, every delivery awaited, every failure named.

`publish` returns when the broker has acknowledged every output (acks=all), or raises one of two errors,
because they call for opposite answers:

    OutputRefusedError      the broker does not take THIS record (too large, invalid). Trying again is of no
                            use: its input goes to the dead-letter topic and the rest goes on.
    BrokerUnreachableError  nothing could be delivered within `delivery_timeout_ms`, whatever the reason (no
                            broker, no leader, no right to write). Nothing is committed; the worker ends.

Within that time it tries again by itself, from the first output that is not acknowledged: a repeated output
has the same bytes, which readers drop. A refusal may be of a whole producer batch (`max.message.bytes` is a
limit of batches), so after one the outputs are sent one by one: only a record refused alone is refused.

After any failure the producer is replaced. An idempotent producer whose batch failed has a hole in its
sequence numbers and can fail for ever with OutOfOrderSequenceNumber (aiokafka #1017; also after a write right
was revoked for a while).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from streamproc.config import BrokerTable
from streamproc.errors import ShellError
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import BLOB_SIZE_MAX, TOPICS
from streamproc.values import DLQ_SUFFIX, Output

log = logging.getLogger(__name__)

LINGER_MS = 1  # outputs of one batch are handed over together; this bounds what a lone one waits
PRODUCER_BATCH_SIZE = 256 * 1024  # bytes; a topic's max.message.bytes is 1 MiB by default
RETRY_PAUSE_S = 0.2
STOP_TIMEOUT_S = 2.0

_REFUSALS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    CorruptRecordException,
    InvalidTimestampError,
)


class OutputRefusedError(ShellError):
    """The broker refuses one output for what it is; `output` is that record."""

    def __init__(self, output: Output, error: BaseException) -> None:
        self.output = output
        told = f"{type(error).__name__}: {error}"
        super().__init__(f"{output.topic} refuses a record of {len(output.value)} bytes ({told})"[:400])


class BrokerUnreachableError(ShellError):
    """Nothing could be delivered in time."""


class Publisher(Protocol):
    """Takes outputs and returns when they are safe."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Return when all are acknowledged; raise OutputRefusedError or BrokerUnreachableError."""


class KafkaPublisher:
    """The producer of a worker, shared by its stages."""

    def __init__(self, broker: BrokerTable, client_id: str = "streamproc") -> None:
        self._broker, self._client_id = broker, client_id
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self.rebuilt_count = 0

    async def start(self) -> None:
        """Connect; raise BrokerUnreachableError if that takes longer than a delivery may."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._broker.delivery_timeout_ms / 1000
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._open()
                return
            except (KafkaError, TimeoutError) as error:
                if loop.time() + RETRY_PAUSE_S > deadline_s:
                    raise self._unreachable(error) from error
                await asyncio.sleep(RETRY_PAUSE_S)

    async def stop(self) -> None:
        """Close; what is not acknowledged by now was never reported as delivered."""
        await self._replace(self._producer)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=STOP_TIMEOUT_S)

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Return when all are acknowledged; raise OutputRefusedError or BrokerUnreachableError."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._broker.delivery_timeout_ms / 1000
        done, together = 0, max(len(outputs), 1)
        while done < len(outputs):
            acknowledged, error = await self._attempt(outputs[done : done + together], deadline_s)
            done += acknowledged
            if error is None:
                continue
            if isinstance(error, _REFUSALS):
                if together == 1:
                    raise OutputRefusedError(outputs[done], error) from error
                together = 1
            elif loop.time() + RETRY_PAUSE_S > deadline_s:
                raise self._unreachable(error) from error
            else:
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _attempt(
        self, outputs: Sequence[Output], deadline_s: float
    ) -> tuple[int, BaseException | None]:
        """Send once; return how many of the first are acknowledged, and the first error."""
        futures: list[asyncio.Future[object]] = []
        producer: AIOKafkaProducer | None = None
        failed: BaseException | None = None
        try:
            async with asyncio.timeout_at(deadline_s):
                producer = await self._open()
                for output in outputs:
                    futures.append(await self._send(producer, output))  # noqa: PERF401  (kept when one fails)
                await asyncio.wait(futures)
        except (KafkaError, TimeoutError) as error:
            failed = error
        acknowledged = 0
        for future in futures:
            if not future.done():
                future.cancel()
                failed = failed or TimeoutError("not acknowledged in time")
                break
            problem = None if future.cancelled() else future.exception()
            if future.cancelled() or problem is not None:
                failed = problem or KafkaError("the delivery was cancelled")
                break
            acknowledged += 1
        if failed is not None:
            await self._give_up(producer, futures, failed)
        return acknowledged, failed

    async def _send(self, producer: AIOKafkaProducer, output: Output) -> asyncio.Future[object]:
        future: asyncio.Future[object] = await producer.send(
            self._broker.topic_prefix + output.topic,
            value=output.value,
            key=output.key,
            partition=partition_of(output.topic),
            timestamp_ms=output.ts_ms,
            headers=list(output.headers),
        )
        return future

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    max_batch_size=PRODUCER_BATCH_SIZE,
                    # The broker's limit per topic judges; the client's must not come before it.
                    max_request_size=2 * BLOB_SIZE_MAX,
                    **client_settings(self._broker),
                )
                try:
                    await producer.start()
                except BaseException:
                    await _close(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _give_up(
        self,
        producer: AIOKafkaProducer | None,
        futures: Sequence[asyncio.Future[object]],
        error: BaseException,
    ) -> None:
        """Leave the producer with all that it still holds; the next attempt makes a new one."""
        for future in futures:
            future.cancel()
            if future.done() and not future.cancelled():
                future.exception()  # looked at: asyncio need not complain that nobody did
        log.warning("delivery failed", extra={"error": repr(error)})
        await self._replace(producer)

    async def _replace(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None or producer is not self._producer:
            return  # another publish has replaced it already
        self._producer = None
        self.rebuilt_count += 1
        task = asyncio.create_task(_close(producer))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _unreachable(self, error: BaseException) -> BrokerUnreachableError:
        limit_s = self._broker.delivery_timeout_ms / 1000
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        return BrokerUnreachableError(
            f"Kafka at {self._broker.bootstrap} took nothing within {limit_s:g} s ({told})"[:400]
        )


def partition_of(topic: str) -> int | None:
    """Return 0 for topics that hold one operator position's whole picture, None to let the key decide."""
    split = TOPICS[topic][2] if topic in TOPICS else None
    return 0 if split == "one" or topic.endswith(DLQ_SUFFIX) else None


async def _close(producer: AIOKafkaProducer) -> None:
    # `stop` waits until everything held is delivered, for ever if it cannot be. So what is held is failed
    # first: other publishes that wait for it wake up and try again with the new producer.
    producer._message_accumulator.fail_all(KafkaError("the producer was replaced"))
    task = producer._sender.sender_task
    if task is not None:
        task.cancel()
    try:
        await producer.stop()
    except (KafkaError, asyncio.CancelledError) as error:
        log.debug("a producer ended badly", extra={"error": repr(error)})

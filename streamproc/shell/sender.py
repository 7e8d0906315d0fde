"""Sends input records to Kafka: what a gateway does, for `replay`, `simulate`, `ack` and the demo.

The key decides the partition (an area stays in one), CreateTime is the record's own time, and a record counts
as sent when all in-sync replicas have it. At most `WINDOW` records are under way, so memory stays bounded at
any speed.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wire_name
from streamproc.values import Record

WINDOW = 4096  # records sent and not yet acknowledged
LINGER_MS = 2


def with_bootstrap(config: SiteConfig, bootstrap: str | None) -> SiteConfig:
    """Return the site with another Kafka address; None and "kafka" keep that of the site file."""
    if bootstrap in {None, "kafka"}:
        return config
    broker = msgspec.structs.replace(config.broker, bootstrap=bootstrap)
    return msgspec.structs.replace(config, broker=broker)


class Sender:
    """An async context manager; every error of Kafka becomes one ShellError."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self._producer: AIOKafkaProducer | None = None
        self._under_way: set[asyncio.Future[object]] = set()
        self._failure: BaseException | None = None
        self.sent_count = 0

    async def __aenter__(self) -> Sender:
        """Connect."""
        self._producer = AIOKafkaProducer(
            **client_settings(self._config.broker),
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=1 << 18,
            max_request_size=8 << 20,
        )
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            bootstrap = self._config.broker.bootstrap
            raise ShellError(f"no Kafka answers at {bootstrap}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is under way, unless an error is on its way already."""
        if self._producer is None:
            return
        try:
            if kind is None:
                await self.flush()
        finally:
            await self._producer.stop()

    async def send(self, record: Record) -> None:
        """Hand one record over; waits only when too many are under way. Raises ShellError."""
        if self._producer is None:
            raise ShellError("a Sender is used as `async with Sender(...) as sender`")
        self._raise_failure()
        try:
            future = await self._producer.send(
                wire_name(self._config, record.topic),
                record.value,
                key=record.key,
                timestamp_ms=max(0, record.ts_ms),
                headers=list(record.headers),
            )
        except (KafkaError, OSError) as error:
            raise ShellError(f"{record.topic}: not sent: {type(error).__name__}: {error}") from error
        self._under_way.add(future)
        future.add_done_callback(self._done)
        while len(self._under_way) >= WINDOW:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    async def flush(self) -> None:
        """Return when everything is acknowledged; raises ShellError."""
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._raise_failure()

    def _done(self, future: asyncio.Future[object]) -> None:
        self._under_way.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._failure = self._failure or error
        else:
            self.sent_count += 1

    def _raise_failure(self) -> None:
        if self._failure is not None:
            error = self._failure
            raise ShellError(f"a record was not acknowledged: {type(error).__name__}: {error}") from error

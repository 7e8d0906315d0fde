"""Is there progress? Judged from outside the consumer: one that is stuck believes that all is well.

aiokafka can be alive, silent and stuck after a broker restart (aiokafka #1154), and Faust knows several ways
to hang. So the ends of the topics are asked for by a client of its own (`Outlook`), and a partition is stuck
when

    work is waiting    its end lies beyond the consumer's position, or a batch is delivered and not answered
    nothing moves      neither the position nor what the host has seen, for `stall_timeout_ms`

A hanging event loop cannot judge itself: `LoopGuard` is a thread that ends the process when the loop gives no
sign.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.config import BrokerTable
from streamproc.errors import ShellError
from streamproc.shell.ledger import Tp
from streamproc.shell.site_file import client_settings

ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands: the consumer's position, what the host has seen, the end of the log."""

    position: int | None
    seen: int
    end: int | None
    open_batches: int = 0

    @property
    def is_waiting(self) -> bool:
        """Return whether there is work that is not done; what is not known does not accuse."""
        behind = self.end is not None and self.position is not None and self.end > self.position
        return behind or self.open_batches > 0


class StallWatch:
    """Remembers when each partition last moved."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: dict[Tp, tuple[float, tuple[int | None, int]]] = {}

    def look(self, now_s: float, standings: Mapping[Tp, Standing]) -> list[Tp]:
        """Return the partitions that have work and have not moved for too long."""
        since: dict[Tp, tuple[float, tuple[int | None, int]]] = {}
        stuck = []
        for tp, standing in standings.items():
            moved = (standing.position, standing.seen)
            known = self._since.get(tp)
            if known is None or known[1] != moved or not standing.is_waiting:
                known = (now_s, moved)
            since[tp] = known
            if now_s - known[0] > self._timeout_s:
                stuck.append(tp)
        self._since = since
        return stuck


class Outlook:
    """A client without a group that knows where logs begin and end. Names are those on the wire."""

    def __init__(self, broker: BrokerTable, client_id: str = "streamproc") -> None:
        self._broker, self._client_id = broker, client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect."""
        consumer = AIOKafkaConsumer(
            client_id=f"{self._client_id}-watch", enable_auto_commit=False, **client_settings(self._broker)
        )
        try:
            await consumer.start()
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise ShellError(f"no Kafka answers at {self._broker.bootstrap}: {error}") from error
        self._consumer = consumer

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await consumer.stop()

    async def missing(self, topics: Iterable[str]) -> list[str]:
        """Return which of these topics do not exist."""
        consumer = self._consumer
        return [] if consumer is None else sorted(set(topics) - await consumer.topics())

    async def ends(self, tps: Iterable[Tp]) -> dict[Tp, int]:
        """Return the next offset of each partition; nothing if the broker does not answer."""
        return await self._ask("end_offsets", tps)

    async def start_of(self, tp: Tp) -> int:
        """Return the first offset that the broker still has; 0 if it does not answer."""
        return (await self._ask("beginning_offsets", (tp,))).get(tp, 0)

    async def _ask(self, question: str, tps: Iterable[Tp]) -> dict[Tp, int]:
        consumer = self._consumer
        places = [TopicPartition(*tp) for tp in tps]
        if consumer is None or not places:
            return {}
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await getattr(consumer, question)(places)
        except (KafkaError, TimeoutError):
            return {}
        return {Tp(place.topic, place.partition): int(offset) for place, offset in answer.items()}


class LoopGuard:
    """A thread that calls `end` when `alive` has not been called for `timeout_s`."""

    def __init__(self, timeout_s: float, end: Callable[[], None]) -> None:
        self._timeout_s, self._end = timeout_s, end
        self._alive = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-guard", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def alive(self) -> None:
        """Give a sign; called by the loop."""
        self._alive.set()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        self._alive.set()

    def _watch(self) -> None:
        while not self._over.is_set():
            if not self._alive.wait(self._timeout_s):
                self._end()
                return
            self._alive.clear()
            self._over.wait(self._timeout_s / 10)

"""What a stage holds for one partition number, and what its host needs from outside.

A shard is one state and, per input topic, two offsets:

    seen    the next record not yet looked at: what lies below has been stepped or warmed, and is dropped
    speak   the next record to answer: below it the last owner has spoken, records only refill windows

        read from        speak           end of the topic
           v               v                   v
    ───────┼── warm, silent ┼── step, publish ──┼
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streamproc.errors import StateError
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.ledger import Tp
from streamproc.shell.metrics import Metrics
from streamproc.shell.publish import Publisher
from streamproc.shell.state_store import Blob
from streamproc.values import Record

S = TypeVar("S")


class Store(Protocol):
    """Where blobs come from."""

    async def load(self, keys: Iterable[bytes]) -> Mapping[bytes, Blob | StateError]:
        """Return the blob in force of every key that has one."""


class Feed(Protocol):
    """Where broadcast records come from."""

    version: int

    async def catch_up(self) -> None:
        """Return when everything that is there now has been read."""

    def since(self, version: int) -> Sequence[Record]:
        """Return what changed after `version`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a host needs from outside; the same for all stages of a worker."""

    group: str
    publisher: Publisher
    store: Store
    feed: Feed
    metrics: Metrics
    allow: Callable[[Tp, int, int], object]
    """(topic and partition, generation, offset): a successor may start reading there."""
    log_start: Callable[[Tp], Awaitable[int]]
    """The first offset that the broker still has."""
    clock: Clock = SYSTEM
    now_s: Callable[[], float] = SYSTEM.monotonic_s


@dataclass(slots=True)
class Shard(Generic[S]):
    """What a stage holds for one partition number."""

    partition: int
    generation: int
    state: S
    sequence: int = 0
    seen: dict[str, int] = field(default_factory=dict)  # topic -> next offset not yet looked at
    speak: dict[str, int] = field(default_factory=dict)  # topic -> next offset to answer
    known: int = 0  # version of the feed that the state has learnt
    changed: bool = False  # since the last blob
    event_time_s: float = float("nan")

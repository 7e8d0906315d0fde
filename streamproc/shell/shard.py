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
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from streamproc.errors import StateError
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.ledger import Tp
from streamproc.shell.metrics import Metrics
from streamproc.shell.publish import Publisher
from streamproc.shell.state_store import Blob
from streamproc.values import Record, Step

S = TypeVar("S")
Quality: TypeAlias = Literal["GOOD", "SUSPECT", "BAD"]
# Counted by a stage (`streamproc.shell.metrics`): data that could not be used, and data that were out of time.
BAD_WORDS = frozenset({"rejected", "bad", "frozen", "missing"})
SUSPECT_WORDS = frozenset({"late", "duplicates", "wrong_clock", "unsynchronised"})


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
    allow: Callable[[str, Tp, int, int], object]
    """(stage, topic and partition, generation, offset): a successor of the stage may start reading there."""
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
    event_times_s: dict[str, float] = field(default_factory=dict)  # area -> newest, seconds UTC
    models: dict[str, str] = field(default_factory=dict)  # slot -> digest in force
    worst: Quality = "GOOD"  # of the input since the last heartbeat

    def note(self, step: Step[S]) -> None:
        """Keep what a heartbeat tells of an answered batch."""
        self.event_times_s.update(
            {a: value for (word, a), value in step.gauges.items() if word == "event_time_s"}
        )
        for slot, _, digest in (label.rpartition("|") for word, label in step.gauges if word == "model"):
            self.models[slot] = digest
        seen = {word for (word, _), amount in step.counts.items() if amount}
        if seen & BAD_WORDS:
            self.worst = "BAD"
        elif seen & SUSPECT_WORDS and self.worst == "GOOD":
            self.worst = "SUSPECT"

    def worst_since(self) -> Quality:
        """Return the worst quality since this was asked last."""
        worst, self.worst = self.worst, "GOOD"
        return worst

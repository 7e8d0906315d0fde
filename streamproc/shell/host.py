"""Runs a pure stage over partitions: retry, dead letters, state blobs, and when an input may be committed.

    batch ── learn, warm or step ── publish, await ── state is the new one ── snapshot ── commit allowed
                       |                |
                  retry, then record by record; the record that kills goes to its dead-letter topic

What is promised: an offset is allowed to be committed only after every output that its record caused, and then the state
blob behind them, are acknowledged. A state is a value, so trying again means starting from the old one.

This file knows nothing of Faust: batches come in through `handle`, and commits go out through `allow_commit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from streamproc.core.messages import dead_letter
from streamproc.errors import ShellError, StateError
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.metrics import Metrics, Stopwatch
from streamproc.shell.publish import PublishRefused, PublishUnreachable
from streamproc.shell.state_store import Blob, blob_key, blob_output
from streamproc.values import Output, Record, Stage, Step

log = logging.getLogger(__name__)

S = TypeVar("S")

ATTEMPTS = 3  # of a whole batch, before it is taken apart
RETRY_WAIT_S = 0.2


class Publishes(Protocol):
    """Sends outputs and waits until they are acknowledged (`streamproc.shell.publish.Publisher`)."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Return when all are acknowledged; raise PublishRefused or PublishUnreachable."""


class Stores(Protocol):
    """Finds state blobs (`streamproc.shell.state_store.StateStore`)."""

    async def load(self, key: str) -> Blob | None:
        """Return the newest blob of a key."""


class Feed(Protocol):
    """What every state must know (`streamproc.shell.config_feed.ConfigFeed`)."""

    def since(self, index: int) -> Sequence[Record]:
        """Return the broadcast records from a place on."""

    async def catch_up(self) -> None:
        """Read to the end of the broadcast topics."""


@dataclass(slots=True)
class Slot(Generic[S]):
    """One partition number of a stage: its state, and where it stands in each input topic."""

    state: S
    speak_from: dict[str, int]  # records before it were answered by an owner before us
    next_offsets: dict[str, int]
    learned: int = 0
    unsaved: int = 0  # records done since the last snapshot
    saved_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gone: bool = False


class StageHost(Generic[S]):
    """One stage with all its partitions in this process."""

    def __init__(
        self,
        stage: Stage[S],
        publisher: Publishes,
        store: Stores,
        metrics: Metrics,
        *,
        group: str,
        allow_commit: Callable[[str, int, int], None],
        feed: Feed | None = None,
        snapshot_interval_s: float = 1.0,
        clock: Clock = SYSTEM,
    ) -> None:
        self.stage = stage
        self._publisher, self._store, self._metrics = publisher, store, metrics
        self._group, self._allow_commit, self._feed = group, allow_commit, feed
        self._snapshot_interval_s = snapshot_interval_s
        self._clock = clock
        self._slots: dict[int, Slot[S]] = {}
        self._opening = asyncio.Lock()

    async def handle(
        self, topic: str, partition: int, records: Sequence[Record], *, committed: int | None = None
    ) -> None:
        """Answer a batch of one partition. Returns when its outputs are acknowledged; raises ShellError if they cannot be.

        `committed` is where this owner began to read, if that is known: a blob from before it means lost records.
        """
        slot = await self._open(partition, topic, committed)
        async with slot.lock:
            if slot.gone:
                return
            speak_from = max(slot.speak_from.get(topic, 0), slot.next_offsets.get(topic, 0))
            old = [r for r in records if r.offset < speak_from]
            new = [r for r in records if r.offset >= speak_from]
            if old:
                self._metrics.count("warmed", self.stage.name, len(old))
                if topic not in slot.next_offsets:  # else a re-delivery: already in the state
                    slot.state = self.stage.warm(slot.state, old)
            if new:
                self._note_gap(slot, topic, new[0].offset)
                await self._answer(slot, new)
                slot.next_offsets[topic] = new[-1].offset + 1
                slot.unsaved += len(new)
                if self._clock.monotonic_s() - slot.saved_s >= self._snapshot_interval_s:
                    await self._snapshot(partition, slot)

    async def snapshot_all(self) -> None:
        """Save every partition that has done something since its last snapshot."""
        for partition, slot in list(self._slots.items()):
            async with slot.lock:
                if slot.unsaved and not slot.gone:
                    await self._snapshot(partition, slot)

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are no longer ours; what is under way for them is not committed."""
        for partition in partitions:
            slot = self._slots.pop(partition, None)
            if slot is not None:
                slot.gone = True
        self._metrics.gauge("assigned_partitions", self.stage.name, len(self._slots))

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every (topic, partition) in work."""
        return {(t, p): o for p, slot in self._slots.items() for t, o in slot.next_offsets.items()}

    async def _open(self, partition: int, topic: str, committed: int | None) -> Slot[S]:
        async with self._opening:
            slot = self._slots.get(partition)
            if slot is None:
                slot = await self._restored(partition)
                self._slots[partition] = slot
                self._metrics.count("rebalances", self.stage.name)
                self._metrics.gauge("assigned_partitions", self.stage.name, len(self._slots))
                behind = (
                    committed is not None and topic in slot.speak_from and committed > slot.speak_from[topic]
                )
                if behind:
                    self._metrics.count("gaps", topic)
                    log.error(
                        "state blob is older than the committed offset",
                        extra={
                            "stage": self.stage.name,
                            "topic": topic,
                            "partition": partition,
                            "offset": committed,
                        },
                    )
            return slot

    async def _restored(self, partition: int) -> Slot[S]:
        key = blob_key(self._group, self.stage.name, partition)
        blob = await self._load(key)
        state, speak_from = self.stage.fresh(), {}
        if blob is not None:
            try:
                state, speak_from = self.stage.unpack(blob.value), dict(blob.next_offsets)
            except StateError as error:
                self._metrics.count("foreign_states", self.stage.name)
                log.error(
                    "state blob cannot be used, starting without it", extra={"key": key, "detail": str(error)}
                )
        if self._feed is not None:
            await self._feed.catch_up()
        return Slot(state, speak_from, {}, saved_s=self._clock.monotonic_s())

    async def _load(self, key: str) -> Blob | None:
        found: Blob | None = await self._retried(
            lambda: self._store.load(key), f"the state of {key} cannot be read"
        )
        return found

    async def _retried(self, call: Callable[[], Awaitable[Any]], failure: str) -> Any:  # noqa: ANN401
        for attempt in range(ATTEMPTS):
            try:
                return await call()
            except (OSError, TimeoutError, PublishUnreachable) as error:
                if attempt == ATTEMPTS - 1:
                    raise ShellError(f"{failure}: {error}") from error
                await asyncio.sleep(RETRY_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")

    def _note_gap(self, slot: Slot[S], topic: str, first: int) -> None:
        expected = slot.next_offsets.get(topic) or slot.speak_from.get(topic)
        if expected is not None and first > expected and topic not in slot.next_offsets:
            self._metrics.count("gaps", topic, first - expected)
            log.error(
                "input records are gone before they were read",
                extra={"topic": topic, "from_offset": expected, "to_offset": first},
            )

    async def _answer(self, slot: Slot[S], records: Sequence[Record]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                slot.state = await self._once(slot, records)
            except PublishUnreachable as error:
                failure: Exception = error
            except Exception as error:  # noqa: BLE001 - whatever kills a batch is looked into record by record
                failure = error
                if isinstance(error, PublishRefused) or len(records) == 1:
                    break
            else:
                return
            self._metrics.count("batch_retries", self.stage.name)
            log.warning(
                "batch failed",
                extra={"stage": self.stage.name, "attempt": attempt + 1, "detail": repr(failure)},
            )
            await asyncio.sleep(RETRY_WAIT_S * 2**attempt)
        else:
            if isinstance(failure, PublishUnreachable):
                raise ShellError(f"stage {self.stage.name}: nothing can be written: {failure}")
        await self._one_by_one(slot, records)

    async def _one_by_one(self, slot: Slot[S], records: Sequence[Record]) -> None:
        """Answer each record alone; the one that cannot be answered goes to its dead-letter topic."""
        for record in records:
            try:
                slot.state = await self._once(slot, [record])
            except PublishUnreachable as error:
                raise ShellError(f"stage {self.stage.name}: nothing can be written: {error}") from error
            except Exception as error:  # noqa: BLE001 - the record is kept, with what it did
                reason = "output_refused" if isinstance(error, PublishRefused) else "poison"
                await self._bury(record, reason, f"{type(error).__name__}: {error}")

    async def _bury(self, record: Record, reason: str, detail: str) -> None:
        log.error(
            "record goes to the dead-letter topic",
            extra={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "reason": reason,
            },
        )
        try:
            await self._publisher.publish([dead_letter(record, reason, detail)])
        except (PublishRefused, PublishUnreachable) as error:
            where = f"{record.topic}/{record.partition} offset {record.offset}"
            raise ShellError(
                f"{where}: neither its outputs nor its dead letter can be written: {error}"
            ) from error
        self._metrics.count("rejected", reason)
        self._metrics.count("dead_letters", reason)

    async def _once(self, slot: Slot[S], records: Sequence[Record]) -> S:
        """Return the state after these records, all outputs acknowledged."""
        watch = Stopwatch(self._metrics, self._clock.monotonic_s)
        now_ms = self._clock.wall_ns() / 1e6
        self._metrics.observe_stage("broker_to_worker", [max(0.0, now_ms - r.ts_ms) / 1e3 for r in records])
        state = self._learned(slot)
        step = self.stage.step(state, records, watch)
        if self._feed is not None and step.counts.get(("rejected", "unknown_configuration")):
            # The configuration may have been sent just before the data, on another topic.
            await self._feed.catch_up()
            if self._feed.since(slot.learned):
                step = self.stage.step(self._learned(slot), records, watch)
        watch.start()
        await self._publisher.publish(step.outputs)
        watch.lap("publish")
        self._account(step, records)
        return step.state

    def _learned(self, slot: Slot[S]) -> S:
        if self._feed is None:
            return slot.state
        news = self._feed.since(slot.learned)
        if news:
            slot.learned += len(news)
            slot.state = self.stage.learn(slot.state, news)
        return slot.state

    def _account(self, step: Step[S], records: Sequence[Record]) -> None:
        self._metrics.apply(step)
        self._metrics.count("batches", self.stage.name)
        done_ms = self._clock.wall_ns() / 1e6
        # What a record caused carries the event time of its cause.
        self._metrics.observe_stage("end_to_end", [max(0.0, done_ms - r.ts_ms) / 1e3 for r in records])
        for output in step.outputs:
            self._metrics.count("outputs", output.topic)

    async def _snapshot(self, partition: int, slot: Slot[S]) -> None:
        watch = Stopwatch(self._metrics, self._clock.monotonic_s)
        next_offsets = {**slot.speak_from, **slot.next_offsets}
        blob = Blob(self.stage.pack(slot.state), next_offsets)
        key = blob_key(self._group, self.stage.name, partition)
        output = blob_output(key, blob, self._clock.wall_ns() // 1_000_000)
        await self._retried(
            lambda: self._publisher.publish([output]), f"the state of {key} cannot be written"
        )
        watch.lap("snapshot")
        self._metrics.gauge("state_bytes", self.stage.name, len(blob.value))
        slot.unsaved, slot.saved_s = 0, self._clock.monotonic_s()
        if slot.gone:
            return  # a successor speaks now: our blob has lower offsets than its own and loses
        for topic, next_offset in slot.next_offsets.items():
            resume = self.stage.resume_offset(slot.state, topic, next_offset)
            self._allow_commit(topic, partition, min(resume, next_offset))
        self._metrics.count("commits", self.stage.name)

"""The host of one stage: turns batches of records into acknowledged outputs, whatever fails in between.

It knows nothing of Faust or of sockets: batches come in through `take`, outputs go out through a `Publisher`,
and what may be committed is said through `allow`. So all of its rules are tested without a broker.

    take_over ── load the blobs, warm up ──┐
                                           v
    batch ── below `speak`? ── warm (silent)
              │ no
              step ── publish ── acknowledged? ── the state becomes the new one
               │                     │
               └─ fails: again, then record by record; the record that fails alone ── dead letter
    tick ── pack ── state blob acknowledged ── allow(read offset)

**A state is a value.** Until every output is acknowledged the shard keeps the state before the batch; a
failed batch is tried again from it, whole or record by record, and gives the same bytes.

**One batch at a time per stage.** Within a stage the order of batches is the order of their effects. Stages
run side by side.

**Several inputs.** The order in which two topics are merged is in no topic, so a stage with more than one
input writes its outputs into its state blob before it publishes them (`state_store`: pending outputs). After
a kill the successor publishes the same bytes instead of deciding anew.

**If nothing can be written**, `take` raises ShellError: the batch is not acknowledged, the worker ends.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Generic, TypeVar

from streamproc.core.wire import dead_letter
from streamproc.errors import ShellError, StateError
from streamproc.shell.ledger import Tp
from streamproc.shell.metrics import Stopwatch
from streamproc.shell.publish import BrokerUnreachableError, OutputRefusedError
from streamproc.shell.shard import Shard, Surroundings
from streamproc.shell.state_store import Blob, blob_key, encode_blob
from streamproc.values import Counts, Output, Record, Stage, Step

log = logging.getLogger(__name__)

S = TypeVar("S")

ATTEMPTS = 3  # of a batch as a whole, before it is taken apart
RETRY_PAUSE_S = 0.05
ASK_INTERVAL_S = 1.0  # between two readings of the broadcast topics because of unknown streams
UNKNOWN_CONFIGURATION = ("rejected", "unknown_configuration")
_OFFSET = attrgetter("offset")


class StageHost(Generic[S]):
    """Runs one stage over the partitions that this worker holds."""

    def __init__(self, stage: Stage[S], around: Surroundings) -> None:
        self.stage = stage
        self.shards: dict[int, Shard[S]] = {}
        self._around = around
        self._metrics = around.metrics
        self._probe = Stopwatch(around.metrics, around.now_s)
        self._lock = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._closing = False
        self._asked_s: float | None = None  # when configurations were last asked for
        # More than one input: outputs are written down before they are published.
        self._outbox = len(stage.inputs) > 1

    async def take_over(self, committed: Mapping[Tp, int | None], generation: int) -> dict[Tp, int]:
        """Build the states of these partitions of our inputs; return where to start reading."""
        ours = {tp: at for tp, at in committed.items() if tp.topic in self.stage.inputs}
        async with self._lock:
            self._closing = False
            self.shards.clear()
            partitions = sorted({tp.partition for tp in ours})
            blobs = await self._around.store.load([self._key(p) for p in partitions]) if partitions else {}
            starts: dict[Tp, int] = {}
            for partition in partitions:
                topics = {tp.topic: at for tp, at in ours.items() if tp.partition == partition}
                blob = blobs.get(self._key(partition))
                shard, read = self._revived(partition, generation, topics, blob)
                if isinstance(blob, Blob):
                    await self._send_pending(shard, blob)
                starts |= {Tp(topic, partition): at for topic, at in read.items()}
                self.shards[partition] = shard
            self._metrics.gauge("assigned_partitions", self.stage.name, len(partitions))
            self._metrics.count("rebalances", self.stage.name)
            return starts

    async def take(self, tp: Tp, generation: int, records: Sequence[Record]) -> bool:
        """Answer a batch; True when all it caused is acknowledged, False when it is not ours (any more)."""
        async with self._lock:
            shard = self.shards.get(tp.partition)
            if self._closing or shard is None or shard.generation != generation:
                return False
            next_offset = records[-1].offset + 1
            fresh = records[bisect_left(records, shard.seen[tp.topic], key=_OFFSET) :]
            if not fresh:
                return True
            await self._note_gap(shard, tp, fresh[0].offset)
            self._learn(shard)
            cut = bisect_left(fresh, shard.speak[tp.topic], key=_OFFSET)
            if cut:
                self._warm(shard, tp.topic, fresh[:cut])
            if cut < len(fresh):
                await self._answer(shard, tp.topic, fresh[cut:])
            shard.seen[tp.topic] = next_offset
            self._metrics.count("batches", self.stage.name)
            return True

    async def tick(self) -> None:
        """Write the blobs of all shards that have changed; call it every snapshot interval."""
        for shard in list(self.shards.values()):
            if not shard.changed:
                continue
            if self._outbox:
                # A blob in the middle of a batch would put the old state above its pending outputs.
                async with self._lock:
                    await self._save(shard)
            else:
                await self._save(shard)

    async def surrender(self, revoked: frozenset[Tp]) -> None:
        """Finish the batch under way, save the states, and let go of the shards that lose a partition."""
        gone = {tp.partition for tp in revoked if tp.topic in self.stage.inputs} & self.shards.keys()
        if not gone:
            return
        self._closing = True
        async with self._lock:
            for partition in gone:
                await self._save(self.shards[partition])
        self.drop(gone)

    def drop(self, partitions: Iterable[int] | None = None) -> None:
        """Forget shards at once (all without an argument); what they did not save, a successor repeats."""
        for partition in list(self.shards if partitions is None else partitions):
            self.shards.pop(partition, None)

    def _key(self, partition: int) -> bytes:
        return blob_key(self._around.group, self.stage.name, partition)

    def _revived(
        self,
        partition: int,
        generation: int,
        topics: Mapping[str, int | None],
        blob: Blob | StateError | None,
    ) -> tuple[Shard[S], dict[str, int]]:
        """Return the shard as its last owner left it, and where to read each topic from."""
        state = self.stage.fresh()
        where = {"stage": self.stage.name, "partition": partition}
        if isinstance(blob, Blob):
            try:
                state = self.stage.unpack(blob.state)
            except StateError as error:
                blob = error
        if isinstance(blob, StateError):
            self._metrics.count("foreign_states", self.stage.name)
            log.warning("state blob not used, starting from the input", extra={**where, "error": str(blob)})
        if not isinstance(blob, Blob):
            blob = Blob(0, {}, {}, b"")
        shard = Shard(partition, generation, state, blob.sequence)
        standing = self.stage.step(
            state, ()
        )  # no records: what the state measures by itself, for metrics and beat
        shard.note(standing)
        self._metrics.apply(standing)
        read: dict[str, int] = {}
        for topic, at in topics.items():
            speak = blob.next_offsets.get(topic, at or 0)
            known = [o for o in (at, blob.read_offsets.get(topic)) if o is not None]
            shard.speak[topic] = speak
            shard.seen[topic] = min([*known, speak])
            if known:
                read[topic] = shard.seen[topic]
        self._learn(shard)
        return shard, read

    async def _send_pending(self, shard: Shard[S], blob: Blob) -> None:
        """Publish what the last owner had written down, and perhaps sent."""
        for output in blob.pending:
            try:
                await self._around.publisher.publish((output,))
            except OutputRefusedError as error:
                # Its input is answered and gone; what is left to keep is the output itself.
                origin = Record(
                    self.stage.inputs[0], shard.partition, -1, output.ts_ms, output.key, output.value
                )
                await self._bury(origin, "output_refused", str(error), Counter())

    def _learn(self, shard: Shard[S]) -> None:
        feed = self._around.feed
        if self.stage.broadcast and feed.version > shard.known:
            news = [r for r in feed.since(shard.known) if r.topic in self.stage.broadcast]
            shard.known = feed.version
            if news:
                shard.state = self.stage.learn(shard.state, news)

    def _warm(self, shard: Shard[S], topic: str, records: Sequence[Record]) -> None:
        try:
            shard.state = self.stage.warm(shard.state, records)
        except Exception:  # a fault of ours in old records must not keep the new ones from being answered
            log.exception("warm-up failed", extra={"stage": self.stage.name, "topic": topic})
        shard.seen[topic] = records[-1].offset + 1
        self._metrics.count("warmed", self.stage.name, len(records))

    async def _note_gap(self, shard: Shard[S], tp: Tp, first: int) -> None:
        """Say so if records that should have been read are gone from the broker."""
        expected = shard.seen[tp.topic]
        if first <= expected or (expected == 0 and not shard.changed and shard.sequence == 0):
            return
        # Compaction and transactions leave holes that are nobody's loss: only what lies before the start of
        # the log is lost.
        missing = min(first, await self._around.log_start(tp)) - expected
        if missing > 0:
            self._metrics.count("gaps", tp.topic, missing)
            log.error(
                "input records were deleted before they were read",
                extra={"topic": tp.topic, "partition": tp.partition, "offset": expected, "records": missing},
            )

    async def _answer(self, shard: Shard[S], topic: str, records: Sequence[Record]) -> None:
        """Step and publish; retry; then record by record."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._advance(shard, topic, records)
                return
            except BrokerUnreachableError:
                raise  # the publisher has tried for as long as a delivery may take
            except Exception as error:  # noqa: BLE001  (whatever a stage raises is a failed batch)
                log.warning(
                    "batch failed",
                    extra={
                        "stage": self.stage.name,
                        "topic": topic,
                        "partition": shard.partition,
                        "offset": records[0].offset,
                        "records": len(records),
                        "attempt": attempt,
                        "error": repr(error),
                    },
                )
                if isinstance(error, OutputRefusedError):
                    break  # the same bytes would be refused again
                self._metrics.count("batch_retries", self.stage.name)
                await asyncio.sleep(RETRY_PAUSE_S * attempt)
        await self._take_apart(shard, topic, records)

    async def _take_apart(self, shard: Shard[S], topic: str, records: Sequence[Record]) -> None:
        """Answer each record alone; the one that fails goes to the dead-letter topic, the rest is done."""
        for record in records:
            try:
                await self._advance(shard, topic, (record,))
                continue
            except BrokerUnreachableError:
                raise
            except OutputRefusedError as error:
                reason, detail = "output_refused", str(error)
            except Exception as error:  # noqa: BLE001  (whatever it is, it goes into the dead letter)
                reason, detail = "poison", f"{type(error).__name__}: {error}"
            counts: Counts = Counter({("records", topic): 1})  # the stage counts those that it answers
            await self._bury(record, reason, detail, counts)
            shard.speak[topic] = record.offset + 1
            shard.changed = True
            self._metrics.apply(Step(shard.state, counts=counts))

    async def _bury(self, record: Record, reason: str, detail: str, counts: Counts) -> None:
        try:
            await self._around.publisher.publish((dead_letter(record, reason, detail),))
        except OutputRefusedError as error:
            raise ShellError(f"not even the dead letter of a record can be written: {error}") from error
        counts["dead_letters", reason] += 1
        log.error(
            "record set aside",
            extra={
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "reason": reason,
                "detail": detail,
            },
        )

    async def _advance(self, shard: Shard[S], topic: str, records: Sequence[Record]) -> None:
        """Step from the present state and publish; only then is the new state the present one."""
        step = await self._step(shard, records)
        next_offset = records[-1].offset + 1
        if step.outputs:
            if self._outbox:
                await self._write(shard, step.state, {**shard.speak, topic: next_offset}, step.outputs)
            started_s = self._around.now_s()
            await self._around.publisher.publish(step.outputs)
            self._metrics.observe_stage("publish", self._around.now_s() - started_s)
            self._count_outputs(step.outputs)
        shard.state = step.state
        shard.speak[topic] = next_offset
        shard.changed = True
        shard.note(step)
        self._metrics.apply(step)

    async def _step(self, shard: Shard[S], records: Sequence[Record]) -> Step[S]:
        self._probe.start()
        step = self.stage.step(shard.state, records, self._probe)
        if UNKNOWN_CONFIGURATION in step.counts and self.stage.broadcast and self._may_ask():
            # The configuration may have been sent just ahead of the frame, on the other topic.
            await self._around.feed.catch_up()
            if self._around.feed.version > shard.known:
                self._learn(shard)
                self._probe.start()
                step = self.stage.step(shard.state, records, self._probe)
        return step

    def _may_ask(self) -> bool:
        """Return whether it is time to ask for configurations again: one unknown stream must not slow the others."""
        now_s = self._around.now_s()
        if self._asked_s is not None and now_s - self._asked_s < ASK_INTERVAL_S:
            return False
        self._asked_s = now_s
        return True

    async def _save(self, shard: Shard[S]) -> None:
        # Whoever comes second waits: a blob under way is no saved state until it is acknowledged.
        async with self._saving:
            if shard.changed:
                await self._snapshot(shard)

    async def _snapshot(self, shard: Shard[S]) -> None:
        """Write the blob of the present state; when it is acknowledged, allow the commit up to it."""
        shard.changed = False
        speak, state = dict(shard.speak), shard.state
        try:
            read = await self._write(shard, state, speak, ())
        except OutputRefusedError as error:
            raise ShellError(
                f"the state of {self.stage.name}/{shard.partition} cannot be written: {error}"
            ) from error
        except BaseException:
            shard.changed = True
            raise
        for topic, offset in read.items():
            self._around.allow(self.stage.name, Tp(topic, shard.partition), shard.generation, offset)
        self._metrics.count("commits", self.stage.name)

    async def _write(
        self, shard: Shard[S], state: S, speak: Mapping[str, int], pending: tuple[Output, ...]
    ) -> dict[str, int]:
        started_s = self._around.now_s()
        read = {topic: self.stage.resume_offset(state, topic, at) for topic, at in speak.items()}
        read = {topic: min(at, speak[topic]) for topic, at in read.items()}
        shard.sequence += 1
        blob = Blob(shard.sequence, speak, read, self.stage.pack(state), pending)
        ts_ms = self._around.clock.wall_ns() // 1_000_000
        made = encode_blob(self._key(shard.partition), blob, ts_ms)
        await self._around.publisher.publish((made,))
        self._metrics.observe_stage("snapshot", self._around.now_s() - started_s)
        self._metrics.gauge("state_bytes", self.stage.name, len(made.value))
        return read

    def _count_outputs(self, outputs: Sequence[Output]) -> None:
        for topic, amount in Counter(o.topic for o in outputs).items():
            self._metrics.count("outputs", topic, amount)
        now_ms = self._around.clock.wall_ns() / 1e6
        self._metrics.observe_stage("end_to_end", [(now_ms - o.ts_ms) / 1000 for o in outputs])

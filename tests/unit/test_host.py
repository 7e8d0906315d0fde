"""Protects the host: outputs are acknowledged before the state moves; the bytes are the same after any failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sum_stage import MergeStage, SumStage

from streamproc.errors import ShellError, StateError
from streamproc.shell.host import ATTEMPTS, StageHost
from streamproc.shell.ledger import Tp
from streamproc.shell.metrics import Metrics
from streamproc.shell.publish import BrokerUnreachableError, OutputRefusedError
from streamproc.shell.shard import Surroundings
from streamproc.shell.state_store import Blob, decode_blob, encode_blob
from streamproc.values import TOPIC_CONFIG, TOPIC_STATE, Output, Record

IN = Tp("in", 0)
GROUP = "g"


class Wire:
    """A broker in memory: keeps what was published; refuses or fails on demand."""

    def __init__(self) -> None:
        self.sent: list[Output] = []
        self.refuses: Callable[[Output], bool] = lambda _: False
        self.fails: list[BaseException] = []
        self.lives = 1 << 30  # records that still get through; then nothing does
        self.before: Callable[[Sequence[Output]], None] = lambda _: None

    async def publish(self, outputs: Sequence[Output]) -> None:
        await asyncio.sleep(0)
        self.before(outputs)
        for output in outputs:
            if self.fails:
                raise self.fails.pop(0)
            if self.lives == 0:
                raise BrokerUnreachableError("killed")
            self.lives -= 1
            if self.refuses(output):
                raise OutputRefusedError(output, ValueError("too large"))
            self.sent.append(output)

    async def load(self, keys: Iterable[bytes]) -> Mapping[bytes, Blob | StateError]:
        found: dict[bytes, Blob | StateError] = {}
        wanted = set(keys)
        for output in self.sent:
            if output.topic == TOPIC_STATE and output.key in wanted:
                try:
                    found[output.key] = decode_blob(output.value, output.headers)
                except StateError as error:
                    found[output.key] = error
        return found

    def on(self, topic: str) -> list[Output]:
        return [o for o in self.sent if o.topic == topic]


class Feed:
    """Broadcast records: `hidden` ones appear at `catch_up`."""

    def __init__(self) -> None:
        self.version = 0
        self.records: list[Record] = []
        self.hidden: list[Record] = []

    async def catch_up(self) -> None:
        self.records += self.hidden
        self.version += len(self.hidden)
        self.hidden = []

    def since(self, version: int) -> Sequence[Record]:
        return self.records[version:]


class Rig:
    """A host with everything around it."""

    def __init__(self, stage: Any = None, wire: Wire | None = None, feed: Feed | None = None) -> None:
        self.stage = stage or SumStage()
        self.wire = wire or Wire()
        self.feed = feed or Feed()
        self.metrics = Metrics()
        self.allowed: dict[Tp, int] = {}
        self.log_start = 0

        async def log_start(_tp: Tp) -> int:
            return self.log_start

        self.host: StageHost[Any] = StageHost(
            self.stage,
            Surroundings(
                group=GROUP,
                publisher=self.wire,
                store=self.wire,
                feed=self.feed,
                metrics=self.metrics,
                allow=lambda _stage, tp, _generation, offset: self.allowed.__setitem__(tp, offset),
                log_start=log_start,
            ),
        )

    async def run(self, given: Sequence[Record], *, size: int = 10, snapshots: bool = True) -> None:
        """Feed all records in batches of `size`, with a snapshot after each."""
        for start in range(0, len(given), size):
            chunk = given[start : start + size]
            assert await self.host.take(Tp(chunk[0].topic, 0), 1, chunk)
            if snapshots:
                await self.host.tick()


def record(offset: int, word: str = "", topic: str = "in") -> Record:
    return Record(topic, 0, offset, 1000 + offset, b"k", f"{word or 'id'}{offset}:{offset}".encode())


def lines(outputs: Iterable[Output]) -> list[str]:
    return [f"{o.key!r} {o.value!r}" for o in outputs]


def play(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def undisturbed(given: Sequence[Record]) -> list[str]:
    rig = Rig()
    await rig.host.take_over({IN: None}, 1)
    await rig.run(given)
    return lines(rig.wire.on("out"))


def test_outputs_come_before_the_blob_and_the_blob_before_the_commit() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, [record(n) for n in range(100)])
        assert len(rig.wire.on("out")) == 100
        assert rig.allowed == {}
        seen_at_blob: list[int] = []
        rig.wire.before = lambda _: seen_at_blob.append(len(rig.allowed))
        await rig.host.tick()
        assert seen_at_blob == [0]
        assert rig.allowed == {IN: 50}, "the commit trails by the window of 50 values"
        blob = (await rig.wire.load([b"g/sum/0"]))[b"g/sum/0"]
        assert isinstance(blob, Blob)
        assert (blob.next_offsets, blob.read_offsets) == ({"in": 100}, {"in": 50})

    play(body)


def test_an_idle_shard_writes_no_second_blob() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, [record(0)])
        await rig.host.tick()
        await rig.host.tick()
        assert len(rig.wire.on(TOPIC_STATE)) == 1

    play(body)


def test_a_stage_that_raises_and_then_works_loses_and_changes_nothing() -> None:
    async def body() -> None:
        given = [record(n) for n in range(30)]
        given[17] = record(17, "flaky")
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.run(given)
        calm = Rig()
        calm.stage.flaky_left = 0
        await calm.host.take_over({IN: None}, 1)
        await calm.run(given)
        assert lines(rig.wire.on("out")) == lines(calm.wire.on("out"))
        assert rig.wire.on("in.dlq") == []
        assert rig.metrics.total("batch_retries") == 2

    play(body)


def test_a_record_that_kills_its_batch_goes_to_the_dead_letters_and_the_rest_is_answered() -> None:
    async def body() -> None:
        given = [record(n) for n in range(30)]
        given[17] = record(17, "boom")
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.run(given)
        assert lines(rig.wire.on("out")) == await undisturbed([r for r in given if r.offset != 17])
        (letter,) = rig.wire.on("in.dlq")
        assert letter.value == given[17].value
        headers = dict(letter.headers)
        assert headers["reason"] == b"poison"
        assert headers["detail"] == b"RuntimeError: cannot take boom17"
        assert (headers["topic"], headers["partition"], headers["offset"]) == (b"in", b"0", b"17")
        assert rig.metrics.total("dead_letters") == 1
        assert rig.metrics.total("batch_retries") == ATTEMPTS

    play(body)


def test_a_record_whose_output_is_refused_goes_to_the_dead_letters_and_the_rest_is_answered() -> None:
    async def body() -> None:
        given = [record(n) for n in range(30)]
        given[17] = record(17, "big")
        rig = Rig()
        rig.wire.refuses = lambda o: o.topic == "out" and len(o.value) > 1000
        await rig.host.take_over({IN: None}, 1)
        await rig.run(given)
        expected = await undisturbed([r for r in given if r.offset != 17])
        assert set(lines(rig.wire.on("out"))) == set(expected)
        (letter,) = rig.wire.on("in.dlq")
        assert dict(letter.headers)["reason"] == b"output_refused"
        assert rig.metrics.total("batch_retries") == 0, "the same bytes would be refused again"

    play(body)


def test_if_nothing_can_be_written_the_state_stays_and_nothing_is_allowed() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        rig.wire.fails = [BrokerUnreachableError("no broker")]
        with pytest.raises(ShellError, match="no broker"):
            await rig.host.take(IN, 1, [record(n) for n in range(5)])
        await rig.host.tick()
        assert rig.host.shards[0].state == SumStage().fresh()
        assert rig.wire.sent == []
        assert rig.allowed == {}

    play(body)


def test_if_not_even_the_dead_letter_can_be_written_the_host_says_so() -> None:
    async def body() -> None:
        rig = Rig()
        rig.wire.refuses = lambda o: o.topic == "in.dlq"
        await rig.host.take_over({IN: None}, 1)
        with pytest.raises(ShellError, match="not even the dead letter"):
            await rig.host.take(IN, 1, [record(0), record(1, "boom")])

    play(body)


def test_a_batch_of_another_generation_or_partition_is_not_answered() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 2)
        assert not await rig.host.take(IN, 1, [record(0)])
        assert not await rig.host.take(Tp("in", 3), 2, [record(0)])
        await rig.host.surrender(frozenset({IN}))
        assert not await rig.host.take(IN, 2, [record(0)])
        assert rig.wire.sent == []

    play(body)


def test_records_that_come_twice_are_answered_once() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        given = [record(n) for n in range(20)]
        await rig.host.take(IN, 1, given[:15])
        await rig.host.take(IN, 1, given[10:])
        assert lines(rig.wire.on("out")) == await undisturbed(given)

    play(body)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.lists(st.none() | st.integers(0, 60), min_size=12, max_size=12),
)
def test_whenever_the_worker_is_killed_the_successor_says_the_same_bytes(
    sizes: list[int], snapshots: list[bool], kills: list[int | None]
) -> None:
    """A kill comes after any number of written records; all in memory is gone and a new host takes over."""

    async def body() -> None:
        given = [record(n) for n in range(sum(sizes))]
        expected = await undisturbed(given)
        rig, at, committed = Rig(), 0, None
        await rig.host.take_over({IN: committed}, 1)
        for size, snapshot, lives in zip(sizes, snapshots, kills, strict=False):
            chunk = given[at : at + size]
            rig.wire.lives = 1 << 30 if lives is None else lives
            with contextlib.suppress(ShellError):
                assert not chunk or await rig.host.take(IN, 1, chunk)
                if snapshot:
                    await rig.host.tick()
            committed = rig.allowed.get(IN, committed)
            at += len(chunk)
            rig.wire.lives = 1 << 30
            if lives is not None:
                rig = Rig(wire=rig.wire)
                starts = await rig.host.take_over({IN: committed}, 1)
                at = starts.get(IN, 0)
        assert await rig.host.take(IN, 1, given[at:]) if at < len(given) else True
        said = lines(rig.wire.on("out"))
        assert set(said) == set(expected), "every id, and nothing else: duplicates carry equal bytes"

    play(body)


def test_a_surrendered_shard_is_saved_and_the_successor_repeats_nothing() -> None:
    async def body() -> None:
        given = [record(n) for n in range(200)]
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, given[:120])
        await rig.host.surrender(frozenset({IN}))
        heir = Rig(wire=rig.wire)
        starts = await heir.host.take_over({IN: rig.allowed[IN]}, 2)
        assert starts == {IN: 70}
        await heir.host.take(IN, 2, given[70:])
        assert lines(heir.wire.on("out")) == await undisturbed(given)
        assert heir.metrics.total("warmed") == 50

    play(body)


def test_a_shard_is_not_let_go_while_its_state_is_still_on_its_way() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, [record(n) for n in range(120)])
        for cut in (False, True):
            tick = asyncio.create_task(rig.host.tick())
            await asyncio.sleep(0)
            if cut:
                tick.cancel()
            await rig.host.surrender(frozenset({IN}))
            assert rig.allowed == {IN: 70 + cut}
            await asyncio.gather(tick, return_exceptions=True)
            rig.allowed.clear()
            await rig.host.take_over({IN: 0}, 2)
            await rig.host.take(IN, 2, [record(n) for n in range(121)])

    play(body)


def test_a_commit_that_ran_ahead_of_the_blob_is_not_believed() -> None:
    async def body() -> None:
        given = [record(n) for n in range(200)]
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, given[:100])
        await rig.host.tick()
        heir = Rig(wire=rig.wire)
        assert await heir.host.take_over({IN: 180}, 2) == {IN: 50}

    play(body)


def test_records_deleted_before_they_were_read_are_counted() -> None:
    async def body() -> None:
        rig = Rig()
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, [record(n) for n in range(10)])
        rig.log_start = 500
        await rig.host.take(IN, 1, [record(n) for n in range(500, 510)])
        assert rig.metrics.total("gaps") == 490
        rig.log_start = 0
        await rig.host.take(IN, 1, [record(n) for n in range(600, 610)])
        assert rig.metrics.total("gaps") == 490, "a hole inside the log is compaction, not loss"

    play(body)


def test_a_foreign_blob_is_counted_and_the_stage_starts_from_the_input() -> None:
    async def body() -> None:
        wire = Wire()
        wire.sent.append(encode_blob(b"g/sum/0", Blob(1, {"in": 5}, {"in": 5}, b"[9,0,0,[],[]]"), 0))
        rig = Rig(wire=wire)
        assert await rig.host.take_over({IN: 3}, 1) == {IN: 3}
        assert rig.metrics.total("foreign_states") == 1
        wire.sent.append(Output(TOPIC_STATE, b"g/sum/0", b"", 0, (("format", b"7"),)))
        again = Rig(wire=wire)
        await again.host.take_over({IN: 3}, 1)
        assert again.metrics.total("foreign_states") == 1

    play(body)


def test_a_configuration_sent_just_ahead_of_its_frame_is_waited_for() -> None:
    async def body() -> None:
        feed = Feed()
        rig = Rig(SumStage((TOPIC_CONFIG,)), feed=feed)
        await rig.host.take_over({IN: None}, 1)
        feed.hidden = [Record(TOPIC_CONFIG, 0, 0, 0, b"c", b"needs-0")]
        await rig.host.take(IN, 1, [record(0, "needs-")])
        assert [json.loads(o.value)["id"] for o in rig.wire.on("out")] == ["needs-0"]
        assert rig.metrics.total("rejected") == 0

    play(body)


def test_a_frame_that_stays_unknown_is_counted_once() -> None:
    async def body() -> None:
        rig = Rig(SumStage((TOPIC_CONFIG,)))
        await rig.host.take_over({IN: None}, 1)
        await rig.host.take(IN, 1, [record(0, "needs-"), record(1)])
        assert rig.metrics.total("rejected") == 1
        assert len(rig.wire.on("out")) == 1

    play(body)


LEFT, RIGHT = Tp("left", 0), Tp("right", 0)


def merged(wire: Wire) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {}
    for output in wire.on("out"):
        found.setdefault(output.key, set()).add(output.value)
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.none() | st.integers(0, 6)), max_size=14))
def test_a_stage_with_two_inputs_never_says_two_things_about_one_record(
    plan: list[tuple[bool, int, int | None]],
) -> None:
    """The order of merging is in no topic; a kill comes after any number of records written, blobs included."""

    async def body() -> None:
        left = [Record("left", 0, n, n, b"", b"l%d" % n) for n in range(60)]
        right = [Record("right", 0, n, n, b"", b"r%d" % n) for n in range(60)]
        wire = Wire()
        rig = Rig(MergeStage(), wire=wire)
        await rig.host.take_over({LEFT: None, RIGHT: None}, 1)
        at = {"left": 0, "right": 0}
        for is_left, size, lives in [*plan, (True, 1, None), (False, 1, None)]:
            topic, source = ("left", left) if is_left else ("right", right)
            chunk = source[at[topic] : at[topic] + size]
            wire.lives = 1 << 30 if lives is None else lives
            with contextlib.suppress(ShellError):
                await rig.host.take(Tp(topic, 0), 1, chunk)
                await rig.host.tick()
            at[topic] += len(chunk)
            wire.lives = 1 << 30
            if lives is not None:
                rig = Rig(MergeStage(), wire=wire)
                starts = await rig.host.take_over({LEFT: None, RIGHT: None}, 1)
                at = {"left": starts.get(LEFT, 0), "right": starts.get(RIGHT, 0)}
        assert all(len(values) == 1 for values in merged(wire).values())
        numbers = sorted(json.loads(next(iter(v)))["number"] for v in merged(wire).values())
        assert numbers == list(range(1, len(numbers) + 1))

    play(body)


def test_a_blob_is_never_taken_in_the_middle_of_a_batch_with_pending_outputs() -> None:
    async def body() -> None:
        rig = Rig(MergeStage())
        await rig.host.take_over({LEFT: None, RIGHT: None}, 1)
        await rig.host.take(LEFT, 1, [Record("left", 0, 0, 0, b"", b"l0")])
        ticks: list[asyncio.Task[None]] = []
        rig.wire.before = lambda outputs: ticks.append(asyncio.create_task(rig.host.tick()))
        await rig.host.take(RIGHT, 1, [Record("right", 0, 0, 0, b"", b"r0")])
        rig.wire.before = lambda _: None
        await asyncio.gather(*ticks)
        newest = rig.wire.on(TOPIC_STATE)[-1]
        blob = decode_blob(newest.value, newest.headers)
        assert blob.pending == ()
        assert json.loads(blob.state)[0] == "2"

    play(body)


def test_a_pending_output_that_is_refused_at_the_take_over_is_kept_as_a_dead_letter() -> None:
    async def body() -> None:
        wire = Wire()
        pending = (Output("out", b"a", b"A", 5), Output("out", b"b", b"B" * 5000, 6))
        blob = Blob(3, {"left": 1, "right": 1}, {"left": 1, "right": 1}, b'["2"]', pending)
        wire.sent.append(encode_blob(b"g/merge/0", blob, 0))
        wire.refuses = lambda o: o.topic == "out" and len(o.value) > 1000
        rig = Rig(MergeStage(), wire=wire)
        await rig.host.take_over({LEFT: 1, RIGHT: 1}, 1)
        assert lines(wire.on("out")) == ["b'a' b'A'"]
        (letter,) = wire.on("left.dlq")
        assert (letter.key, letter.value) == (b"b", b"B" * 5000)

    play(body)


def test_a_damaged_blob_is_a_state_error() -> None:
    made = encode_blob(b"k", Blob(1, {"in": 1}, {"in": 0}, b"state"), 0)
    assert decode_blob(made.value, made.headers) == Blob(1, {"in": 1}, {"in": 0}, b"state")
    for headers in ((), (("format", b"1"),), (("format", b"1"), ("pending", b"x"), ("sequence", b"1"))):
        with pytest.raises(StateError):
            decode_blob(b"state", headers)
    with pytest.raises(StateError):
        decode_blob(None, made.headers)

"""Protects the commit: never past an unacknowledged batch, never past what the host allows, never after a revoke."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamproc.shell.ledger import Ledger, Place, Tp
from streamproc.shell.seam import BatchConsumer, BatchScheduler, scheduler_of
from streamproc.shell.watch import LoopGuard, StallWatch, Standing

TP = Tp("in", 0)
G = 7


def test_nothing_is_committable_before_the_host_allows_it() -> None:
    ledger = Ledger()
    ledger.deliver(TP, G, 0, 9)
    ledger.acknowledge(TP, G, 9)
    assert ledger.committable() == {}
    ledger.allow(TP, G, 4)
    assert ledger.committable() == {TP: (G, 4)}


def test_an_open_batch_stops_the_commit_whatever_the_host_allows() -> None:
    ledger = Ledger()
    for first in (0, 10, 20):
        ledger.deliver(TP, G, first, first + 9)
    ledger.allow(TP, G, 30)
    ledger.acknowledge(TP, G, 9)
    ledger.acknowledge(TP, G, 29)
    assert ledger.committable() == {TP: (G, 10)}
    assert ledger.open_batches() == {TP: 1}
    ledger.acknowledge(TP, G, 19)
    assert ledger.committable() == {TP: (G, 30)}


def test_holes_between_batches_do_not_matter() -> None:
    ledger = Ledger()
    ledger.deliver(TP, G, 5, 9)
    ledger.deliver(TP, G, 1000, 1003)
    ledger.acknowledge(TP, G, 9)
    ledger.acknowledge(TP, G, 1003)
    ledger.allow(TP, G, 5000)
    assert ledger.committable() == {TP: (G, 1004)}


def test_an_older_generation_changes_nothing() -> None:
    ledger = Ledger()
    ledger.deliver(TP, G, 0, 9)
    ledger.deliver(TP, G + 1, 0, 4)
    assert not ledger.acknowledge(TP, G, 9)
    assert not ledger.allow(TP, G, 10)
    ledger.committed(TP, G, 10)
    assert ledger.committable() == {}


def test_what_was_revoked_is_never_committed() -> None:
    ledger = Ledger()
    ledger.deliver(TP, G, 0, 9)
    ledger.allow(TP, G, 10)
    ledger.drop(frozenset({TP}))
    assert not ledger.acknowledge(TP, G, 9)
    assert ledger.committable() == {}


def test_a_commit_is_not_repeated_and_never_moves_back() -> None:
    ledger = Ledger()
    ledger.deliver(TP, G, 0, 9)
    ledger.acknowledge(TP, G, 9)
    ledger.allow(TP, G, 8)
    ledger.committed(TP, G, 8)
    ledger.allow(TP, G, 3)
    assert ledger.committable() == {}


@given(st.permutations(range(8)), st.integers(0, 80), st.integers(0, 8))
def test_for_every_order_of_acknowledgements_the_commit_stays_below_the_first_open_batch(
    order: list[int], allowed: int, done: int
) -> None:
    ledger = Ledger()
    for n in range(8):
        ledger.deliver(TP, G, 10 * n, 10 * n + 9)
    ledger.allow(TP, G, allowed)
    for n in order[:done]:
        ledger.acknowledge(TP, G, 10 * n + 9)
    first_open = min(set(range(8)) - set(order[:done]), default=8) * 10
    offset = ledger.committable().get(TP, (G, 0))[1]
    assert offset <= min(first_open, allowed)
    if first_open > 0 and allowed > 0:
        assert offset == min(first_open, allowed)


def records(first: int, count: int) -> list[Any]:
    return [SimpleNamespace(offset=first + n, timestamp=0) for n in range(count)]


def test_a_fetch_becomes_one_batch_per_partition_in_order() -> None:
    left, right = TopicPartition("in", 0), TopicPartition("in", 1)
    made = list(scheduler_of(10)().iterate({left: records(0, 25), right: records(7, 3)}))
    assert [(tp, r.value[0].offset, r.offset) for tp, r in made] == [
        (left, 0, 9),
        (right, 7, 9),
        (left, 10, 19),
        (left, 20, 24),
    ]
    assert BatchScheduler().records_max == 2048


def test_a_partition_is_stuck_only_when_work_waits_and_nothing_moves() -> None:
    watch = StallWatch(timeout_s=30)
    waiting, idle, gone = Tp("in", 0), Tp("in", 1), Tp("in", 2)
    first = {waiting: Standing(5, 5, 9), idle: Standing(9, 9, 9), gone: Standing(0, 0, 5)}
    assert watch.look(0, first) == []
    later = {waiting: Standing(5, 5, 12), idle: Standing(9, 9, 9)}
    assert watch.look(31, later) == [waiting]
    assert watch.look(32, {waiting: Standing(6, 5, 12)}) == []


def test_a_batch_that_is_never_answered_is_stuck_although_the_position_is_at_the_end() -> None:
    watch = StallWatch(timeout_s=30)
    stuck = {TP: Standing(9, 5, 9, open_batches=1)}
    assert watch.look(0, stuck) == []
    assert watch.look(31, stuck) == [TP]


def test_a_control_marker_at_the_end_is_no_waiting_work() -> None:
    watch = StallWatch(timeout_s=30)
    proven_idle = {TP: Standing(10, 9, 10)}
    assert watch.look(0, proven_idle) == []
    assert watch.look(1000, proven_idle) == []


def test_an_unknown_end_accuses_nobody() -> None:
    watch = StallWatch(timeout_s=30)
    assert watch.look(0, {TP: Standing(5, 5, None)}) == []
    assert watch.look(1000, {TP: Standing(5, 5, None)}) == []


def test_a_loop_that_gives_no_sign_is_ended() -> None:
    ended: list[bool] = []
    guard = LoopGuard(0.05, lambda: ended.append(True))
    guard.start()
    guard._thread.join(5)
    assert ended == [True]


def test_a_guard_that_is_stopped_ends_nobody() -> None:
    ended: list[bool] = []
    guard = LoopGuard(30, lambda: ended.append(True))
    guard.start()
    guard.stop()
    guard._thread.join(5)
    assert not guard._thread.is_alive()
    assert ended == []


def test_the_last_commit_is_made_although_an_older_one_was_under_way() -> None:
    class Consumer:
        def __init__(self) -> None:
            self.ledger, self.tries = Ledger(), 0

        async def commit(self) -> bool:  # the first only waits for the one that is under way
            self.tries += 1
            if self.tries == 2:
                self.ledger.committed(TP, G, 10)
            return self.tries == 2

    consumer = Consumer()
    consumer.ledger.deliver(TP, G, 0, 9)
    consumer.ledger.acknowledge(TP, G, 9)
    consumer.ledger.allow(TP, G, 10)
    asyncio.run(BatchConsumer.commit_all(consumer))  # type: ignore[arg-type]
    assert consumer.tries == 2
    assert consumer.ledger.committable() == {}


def test_of_two_stages_that_read_a_topic_the_slower_one_holds_the_commit() -> None:
    ledger, both = Ledger(), ("cards", "advice")
    ledger.deliver(TP, G, 0, 9, both)
    ledger.deliver(TP, G, 10, 19, both)
    for last in (9, 19):
        assert ledger.place(TP, G, last, "cards") is Place.NEXT
        assert ledger.acknowledge(TP, G, last, "cards")
    ledger.allow(TP, G, 20, "cards")
    assert ledger.committable() == {}
    assert ledger.open_batches() == {TP: 2}
    assert ledger.place(TP, G, 9, "advice") is Place.NEXT  # not taken for one that is done
    ledger.acknowledge(TP, G, 9, "advice")
    ledger.allow(TP, G, 20, "advice")
    assert ledger.committable() == {TP: (G, 10)}
    ledger.committed(TP, G, 10)
    assert ledger.committable() == {}
    ledger.acknowledge(TP, G, 19, "advice")
    assert ledger.committable() == {TP: (G, 20)}

"""Which offset may be committed: pure bookkeeping of batches, without Faust, without a clock.

Two rules, and the stricter one counts:

    acknowledged   only the unbroken run of batches from the oldest one on whose outputs the broker has all
                   acknowledged. A batch that is still being worked on, or was dropped, stops the run.
    allowed        only up to what the host has allowed: the offset from which a successor must read to have
                   its windows back. It trails the first.

          offset  100        200        300        400
                   |-- done --|-- done --|-- open --|-- done --|
    acknowledged                         ^300
    allowed                   ^212                               -> 212 may be committed

Several stages may read one topic: each has its own account, and what may be committed is what all of them permit.

All is kept per generation of the consumer group. What comes late from an older one (an acknowledgement after
a rebalance) changes nothing: commit-after-revoke cannot happen here, and the broker refuses it once more.
Control markers and compacted records leave holes between batches; a batch carries its own range, so holes
do not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Tp(NamedTuple):
    """One partition of one topic; equal to the tuples that Faust and aiokafka use."""

    topic: str
    partition: int


class Place(Enum):
    """What is to be done with a batch that reaches the host."""

    NEXT = "next"  # answer it
    STALE = "stale"  # positions have changed since it was fetched: it will come again
    AFTER_A_LOST_ONE = "after a lost one"  # an earlier batch never came: read again from there


@dataclass(slots=True)
class _Range:
    """The offsets of one batch, first to last."""

    first: int
    last: int
    acknowledged: bool = False


@dataclass(slots=True)
class _Account:
    """What is known of one partition in one generation."""

    generation: int
    ranges: deque[_Range] = field(default_factory=deque)
    acknowledged: int | None = None  # next offset after the unbroken run
    allowed: int | None = None
    committed: int | None = None


ONLY = ("",)  # the reader of a topic that one stage reads


class Ledger:
    """Batches delivered, acknowledged and allowed, by partition and by the stage that reads it."""

    def __init__(self) -> None:
        self._accounts: dict[Tp, dict[str, _Account]] = {}

    def deliver(self, tp: Tp, generation: int, first: int, last: int, readers: Sequence[str] = ONLY) -> None:
        """Note a batch that was fetched and is on its way to the hosts of all `readers`."""
        accounts = self._accounts.setdefault(tp, {})
        for reader in readers:
            account = accounts.get(reader)
            if account is None or account.generation != generation:
                account = accounts[reader] = _Account(generation)
            account.ranges.append(_Range(first, last))

    def acknowledge(self, tp: Tp, generation: int, last: int, reader: str = "") -> bool:
        """Note that everything the batch ending at `last` has caused is acknowledged; False: not ours."""
        account = self._current(tp, generation, reader)
        batch = None if account is None else next((r for r in account.ranges if r.last == last), None)
        if account is None or batch is None:
            return False
        batch.acknowledged = True
        while account.ranges and account.ranges[0].acknowledged:
            account.acknowledged = account.ranges.popleft().last + 1
        return True

    def place(self, tp: Tp, generation: int, last: int, reader: str = "") -> Place:
        """Return how the batch ending at `last` stands among those that are not acknowledged yet."""
        account = self._current(tp, generation, reader)
        if account is None or all(r.last != last for r in account.ranges):
            return Place.STALE
        return Place.NEXT if account.ranges[0].last == last else Place.AFTER_A_LOST_ONE

    def allow(self, tp: Tp, generation: int, offset: int, reader: str = "") -> bool:
        """Note that a successor may start reading at `offset`; never moves back. False: not ours."""
        account = self._current(tp, generation, reader)
        if account is None:
            return False
        account.allowed = offset if account.allowed is None else max(account.allowed, offset)
        return True

    def committable(self) -> dict[Tp, tuple[int, int]]:
        """Return (generation, offset) of every partition whose committed offset may move on."""
        found = {}
        for tp, accounts in self._accounts.items():
            offsets = [
                min(a.acknowledged, a.allowed)
                for a in accounts.values()
                if a.acknowledged is not None and a.allowed is not None
            ]
            generations = {a.generation for a in accounts.values()}
            if len(offsets) < len(accounts) or len(generations) != 1:
                continue
            offset, committed = min(offsets), [a.committed for a in accounts.values()]
            if any(known is None or offset > known for known in committed):
                found[tp] = (generations.pop(), offset)
        return found

    def committed(self, tp: Tp, generation: int, offset: int) -> None:
        """Note that the broker has stored the offset."""
        for account in self._accounts.get(tp, {}).values():
            if account.generation == generation:
                account.committed = offset

    def drop(self, tps: frozenset[Tp]) -> None:
        """Forget partitions that are no longer ours."""
        for tp in tps:
            self._accounts.pop(tp, None)

    def clear(self) -> None:
        """Forget everything: positions have changed, what is under way will come again."""
        self._accounts.clear()

    def open_batches(self) -> dict[Tp, int]:
        """Return how many batches of each partition are delivered and not yet acknowledged."""
        return {
            tp: max((sum(not r.acknowledged for r in a.ranges) for a in accounts.values()), default=0)
            for tp, accounts in self._accounts.items()
        }

    def _current(self, tp: Tp, generation: int, reader: str) -> _Account | None:
        account = self._accounts.get(tp, {}).get(reader)
        return account if account is not None and account.generation == generation else None

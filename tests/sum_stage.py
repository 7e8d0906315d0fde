"""Two small stages for the tests of the host and the worker; their outputs tell whether a state survived.

`SumStage` answers a record "ID:X" with its count (packed), its running total (packed) and the sum of the last
values (a window, refilled by `warm`). If any of the three is rebuilt wrongly, its bytes differ.
`MergeStage` numbers the records of two topics as they come: its bytes depend on an order that is in no topic.

Words in a record make trouble: "boom" raises always, "flaky" raises twice in this process, "big" gives an output
of 5000 bytes, "slow" takes 50 ms of the event loop, "hang" never returns; both say so.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from streamproc.errors import StateError
from streamproc.values import SILENT, Output, Probe, Record, Step

WINDOW = 50  # values


@dataclass(frozen=True)
class SumState:
    """`rows` is the window; `marks` are the offsets of its rows, which are packed."""

    count: int = 0
    total: int = 0
    known: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    marks: tuple[int, ...] = ()


class SumStage:
    """values.Stage over the topic "in", answers on "out"."""

    name = "sum"
    inputs: tuple[str, ...] = ("in",)
    broadcast: tuple[str, ...] = ()

    def __init__(self, broadcast: tuple[str, ...] = ()) -> None:
        self.broadcast = broadcast
        self.flaky_left = 2
        self.stepped: list[int] = []

    def fresh(self) -> SumState:
        return SumState()

    def learn(self, state: SumState, records: Sequence[Record]) -> SumState:
        known = (*state.known, *((r.value or b"").decode() for r in records))
        return SumState(state.count, state.total, tuple(sorted(set(known))), state.rows, state.marks)

    def step(self, state: SumState, records: Sequence[Record], probe: Probe = SILENT) -> Step[SumState]:
        outputs = []
        counts: Counter[tuple[str, str]] = Counter()
        for record in records:
            word, _, number = (record.value or b"").decode().partition(":")
            self._trouble(word)
            if word.startswith("needs-") and word not in state.known:
                counts["rejected", "unknown_configuration"] += 1
                continue
            state = self._taken(state, record, int(number))
            body = {"id": word, "count": state.count, "total": state.total, "window": sum(state.rows)}
            pad = "x" * 5000 if word.startswith("big") else ""
            value = json.dumps({**body, "pad": pad}, sort_keys=True).encode()
            outputs.append(Output("out", f"{record.partition}/{word}".encode(), value, record.ts_ms))
        probe.lap("decide")
        self.stepped.append(len(records))
        return Step(state, tuple(outputs), counts)

    def warm(self, state: SumState, records: Sequence[Record]) -> SumState:
        for record in records:
            number = int((record.value or b"").decode().partition(":")[2])
            rows = (*state.rows, number)[-WINDOW:]
            state = SumState(state.count, state.total, state.known, rows, state.marks)
        return state

    def pack(self, state: SumState) -> bytes:
        return json.dumps([1, state.count, state.total, state.known, state.marks]).encode()

    def unpack(self, blob: bytes) -> SumState:
        version, count, total, known, marks = json.loads(blob)
        if version != 1:
            raise StateError(f"version {version}")
        return SumState(count, total, tuple(known), (), tuple(marks))

    def resume_offset(self, state: SumState, topic: str, next_offset: int) -> int:
        return state.marks[0] if state.marks else next_offset

    def _taken(self, state: SumState, record: Record, number: int) -> SumState:
        rows = (*state.rows, number)[-WINDOW:]
        marks = (*state.marks, record.offset)[-WINDOW:]
        return SumState(state.count + 1, state.total + number, state.known, rows, marks)

    def _trouble(self, word: str) -> None:
        if word.startswith("boom"):
            raise RuntimeError(f"cannot take {word}")
        if word.startswith("flaky") and self.flaky_left > 0:
            self.flaky_left -= 1
            raise RuntimeError(f"not yet: {word}")
        if word.startswith(("slow", "hang")):
            logging.getLogger(__name__).info("slow work")
        if word.startswith("slow"):
            time.sleep(0.05)
        while word.startswith("hang"):
            time.sleep(1)


class MergeStage:
    """values.Stage over "left" and "right": numbers what comes, keeps the last few ids."""

    name = "merge"
    inputs: tuple[str, ...] = ("left", "right")
    broadcast: tuple[str, ...] = ()

    def fresh(self) -> tuple[str, ...]:
        return ("0",)

    def learn(self, state: tuple[str, ...], records: Sequence[Record]) -> tuple[str, ...]:
        return state

    def step(
        self, state: tuple[str, ...], records: Sequence[Record], probe: Probe = SILENT
    ) -> Step[tuple[str, ...]]:
        outputs = []
        recent = deque(state[1:], maxlen=20)
        number = int(state[0])
        for record in records:
            number += 1
            recent.append((record.value or b"").decode())
            value = json.dumps({"number": number, "recent": list(recent)}).encode()
            outputs.append(Output("out", record.value or b"", value, record.ts_ms))
        return Step((str(number), *recent), tuple(outputs))

    def warm(self, state: tuple[str, ...], records: Sequence[Record]) -> tuple[str, ...]:
        return state

    def pack(self, state: tuple[str, ...]) -> bytes:
        return json.dumps(state).encode()

    def unpack(self, blob: bytes) -> tuple[str, ...]:
        return tuple(json.loads(blob))

    def resume_offset(self, state: tuple[str, ...], topic: str, next_offset: int) -> int:
        return next_offset

"""Requests into calls of one model: what waits at the same time is one call.

A request does not wait for company unless `wait_us` says so: requests that were read from their sockets in the same turn of
the event loop go together, and so do those that come while a call is running on its thread. So one client pays nothing,
and sixty-four clients share calls.

The queue is bounded in rows (503 when full). A request whose client has gone or whose time is over is left out of the call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamproc.errors import RequestError
from streamproc.shell.serve.catalogue import Served

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`rows_max` per call, `queue_rows_max` waiting, `wait_us` for company."""

    rows_max: int = 256
    queue_rows_max: int = 4096
    wait_us: int = 0


@dataclass(slots=True)
class _Waiting:
    arrays: Mapping[str, NDArray[Any]]
    rows: int
    until_s: float  # of time.monotonic
    future: asyncio.Future[Arrays]


def _unseen(rows: int, seconds: float) -> None:
    """Tell nobody what a call cost."""
    del rows, seconds


class Batcher:
    """The queue of one model. Everything but the call itself happens in the event loop."""

    def __init__(
        self,
        model: Served,
        limits: BatchLimits,
        executor: Executor,
        seen: Callable[[int, float], None] = _unseen,
    ) -> None:
        self._model = model
        self._limits = limits
        self._executor = executor
        self._seen = seen
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._busy = False
        self._scheduled = False

    @property
    def waiting_rows(self) -> int:
        """Return how many rows wait."""
        return self._rows

    def ask(self, arrays: Mapping[str, NDArray[Any]], timeout_s: float) -> asyncio.Future[Arrays]:
        """Return the future of the outputs; raises RequestError when too much waits already."""
        rows = next(iter(arrays.values())).shape[0] if self._model.batched else 1
        if self._model.batched and rows == 0:
            raise RequestError(400, "inputs: the first axis is empty, there is nothing to answer")
        if self._rows + rows > self._limits.queue_rows_max:
            self._forget_gone()
        if self._rows + rows > self._limits.queue_rows_max:
            raise RequestError(
                503,
                f"model {self._model.name}: {self._rows} rows wait, at most {self._limits.queue_rows_max}; try again later",
            )
        loop = asyncio.get_running_loop()
        waiting = _Waiting(arrays, rows, time.monotonic() + timeout_s, loop.create_future())
        self._queue.append(waiting)
        self._rows += rows
        self._schedule(loop)
        return waiting.future

    def _forget_gone(self) -> None:
        """Take those out whose client has gone: they must keep nobody else out."""
        self._queue = deque(waiting for waiting in self._queue if not waiting.future.done())
        self._rows = sum(waiting.rows for waiting in self._queue)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._scheduled or self._busy or not self._queue:
            return
        self._scheduled = True
        if self._limits.wait_us and self._model.batched:
            loop.call_later(self._limits.wait_us / 1e6, self._flush, loop)
        else:
            loop.call_soon(self._flush, loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        batch = self._taken()
        if batch and self._model.quick:
            self._settle(batch, *_called(self._model, batch))
        elif batch:
            self._busy = True
            loop.create_task(self._on_thread(loop, batch))
        self._schedule(loop)

    async def _on_thread(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        made = await loop.run_in_executor(self._executor, _called, self._model, batch)
        self._busy = False
        self._settle(batch, *made)
        self._schedule(loop)

    def _taken(self) -> list[_Waiting]:
        """Return the requests of the next call: the oldest that are still wanted, at most `rows_max` rows."""
        batch: list[_Waiting] = []
        rows, now_s = 0, time.monotonic()
        while self._queue:
            head = self._queue[0]
            gone = head.future.done()
            if not gone and head.until_s <= now_s:
                head.future.set_exception(
                    RequestError(
                        504, f"model {self._model.name}: the deadline passed while the request waited"
                    )
                )
                gone = True
            full = batch and (not self._model.batched or rows + head.rows > self._limits.rows_max)
            if not gone and full:
                break
            self._queue.popleft()
            self._rows -= head.rows
            if not gone:
                batch.append(head)
                rows += head.rows
        return batch

    def _settle(self, batch: list[_Waiting], answer: Arrays | RequestError, seconds: float) -> None:
        self._seen(sum(waiting.rows for waiting in batch), seconds)
        begin = 0
        for waiting in batch:
            end = begin + waiting.rows
            if not waiting.future.done():
                if isinstance(answer, RequestError):
                    waiting.future.set_exception(answer)
                else:
                    alone = len(batch) == 1
                    waiting.future.set_result(answer if alone else [array[begin:end] for array in answer])
            begin = end


def _called(model: Served, batch: list[_Waiting]) -> tuple[Arrays | RequestError, float]:
    """Return the outputs of one call for all of a batch, or why there are none, and the seconds it took."""
    begun_s = time.perf_counter()
    feed = batch[0].arrays
    if len(batch) > 1:
        feed = {name: np.concatenate([waiting.arrays[name] for waiting in batch]) for name in feed}
    answer: Arrays | RequestError
    try:
        answer = model.call(feed)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises is an answer to the client
        answer = RequestError(500, f"model {model.name} failed: {str(error).splitlines()[0][:200]}")
    return answer, time.perf_counter() - begun_s

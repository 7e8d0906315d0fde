"""The process around a worker: models loaded, signals heard, and an end in any case."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streamproc.config import SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.app import Worker
from streamproc.shell.heap import calm_collector, keep_heap
from streamproc.shell.watch import LoopGuard
from streamproc.values import Stage


def build_stages(config: SiteConfig) -> tuple[Stage[Any], ...]:
    """Return the stages of the service with their models loaded; raise ModelError."""
    # Models take a second to load: only when they are asked for.
    from streamproc.pipeline import make_stages  # noqa: PLC0415
    from streamproc.shell.engines import engines_of  # noqa: PLC0415
    from streamproc.shell.models import ModelSet  # noqa: PLC0415

    models = ModelSet.load(config.worker.bundle, config.detector)
    return make_stages(config, engines_of(config, models))


def build_worker(config: SiteConfig) -> Worker:
    """Return the worker of a site; call it inside a running event loop."""
    return Worker(config, build_stages(config))


async def run_worker(config: SiteConfig, stages: Sequence[Stage[Any]], say: Callable[[str], None]) -> int:
    """Work until SIGTERM or SIGINT (0), or until a failure that must not be hidden (1)."""
    keep_heap()
    calm_collector()
    asked = _listen_to_signals()
    worker = Worker(config, stages)
    guard = LoopGuard(config.worker.stall_timeout_ms / 1000, lambda: _end_hanging(say))
    guard.start()
    worker.beat.alive = guard.alive
    try:
        await worker.start()
        say(f"streamproc: working, metrics at {worker.http.url}/metrics")
        ended = asyncio.create_task(asked.wait())
        waited: Iterable[asyncio.Future[Any]] = (ended, worker.failure)
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    except ShellError as error:
        worker.fail(error)
    code = 0
    if worker.failure.done():
        say(f"streamproc: {worker.failure.result()}")
        code = 1
    # Stopping Faust's consumer thread blocks this loop (mode waits for the thread), for as long as a broker
    # that is gone does not answer: only another thread can keep the time.
    limit = threading.Timer(worker.drain_limit_s(), os._exit, (1,))
    limit.daemon = True
    limit.start()
    if not await worker.drain() or code:
        os._exit(1)  # Faust's consumer thread may still be at its last words, for a loop that ends here
    limit.cancel()
    guard.stop()
    return code


def _listen_to_signals() -> asyncio.Event:
    """Return what the first SIGTERM or SIGINT sets; the second ends the process at once."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    count = 0

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            os._exit(1)  # what is not committed is read again
        loop.call_soon_threadsafe(asked.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        # Not `loop.add_signal_handler`: that would wait for a long batch to end before it hears the second.
        signal.signal(number, on_signal)
    return asked


def _end_hanging(say: Callable[[str], None]) -> None:
    say("streamproc: the event loop hangs; what is not committed will be read again")
    os._exit(1)

"""The worker's pulse, each second: how far it is, whether it moves, whether Faust still lives.

It also says when an area has fallen silent (`silence`): the stages, whose time is the data's, cannot.

One health record per stage and partition goes to `grid.health.v1` (key: worker/stage/partition), so that a
watcher elsewhere can say when silence falls. A health record that cannot be sent is no failure by itself:
what matters is whether outputs can be, and that is the hosts' judgement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from faust.types import TP

from streamproc.core.messages import Health, encode
from streamproc.errors import ShellError
from streamproc.shell.ledger import Tp
from streamproc.shell.notify import ServiceManager
from streamproc.shell.silence import SilenceWatch
from streamproc.shell.watch import StallWatch, Standing
from streamproc.values import TOPIC_HEALTH, Output

if TYPE_CHECKING:
    from streamproc.shell.app import Worker

log = logging.getLogger(__name__)

POSITION_TIMEOUT_S = 1.0
UNHEARD_S = 5.0  # without a heartbeat that the broker acknowledged, a worker is not ready


class Beat:
    """Looks after one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._timeout_s = worker.config.worker.stall_timeout_ms / 1000
        self._watch = StallWatch(self._timeout_s)
        self._silence = SilenceWatch(worker.config)
        self._sent_s = worker.clock.monotonic_s()
        self._count = 0
        self._apart_since_s = worker.clock.monotonic_s()
        self._sending: asyncio.Task[None] | None = None
        self._shown: set[Tp] = set()
        self._manager = ServiceManager()
        self.alive: Callable[[], None] = lambda: None
        """Told at each beat that the event loop runs."""

    async def once(self) -> None:
        """Look once; fail the worker if it cannot go on."""
        self.alive()
        self._manager.beat(self.why_not_ready())
        self._count += 1
        worker = self._worker
        crash = worker.crash_reason
        if crash is not None:
            worker.fail(f"the consumer crashed: {crash!r}")
            return
        standings = await self._standings()
        self._show_lag(standings)
        now_s = worker.clock.monotonic_s()
        stuck = self._watch.look(now_s, standings)
        if stuck:
            names = ", ".join(f"{tp.topic}/{tp.partition}" for tp in stuck)
            worker.fail(f"no progress for {self._timeout_s:g} s although records are waiting: {names}")
        self._check_joined(now_s)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(standings))

    def stopping(self) -> bool:
        """Tell the service manager that the worker drains; return that it does."""
        self._manager.stopping()
        return True

    def why_not_live(self) -> Sequence[str]:
        """Return why this worker is worth more dead."""
        failure = self._worker.failure
        return [failure.result()] if failure.done() else []

    def why_not_ready(self) -> Sequence[str]:
        """Return why it does not do its work now."""
        reasons = list(self.why_not_live())
        if self._worker.draining:
            reasons.append("draining")
        if self._worker.joined_s is None:
            reasons.append("waiting for partitions")
        unheard_s = self._worker.clock.monotonic_s() - self._sent_s
        if unheard_s > UNHEARD_S:
            reasons.append(f"the broker has acknowledged no heartbeat for {unheard_s:.0f} s")
        return reasons

    def _check_joined(self, now_s: float) -> None:
        """A worker that never comes back from a rebalance is stuck, though it has nothing to be behind in."""
        if self._worker.joined_s is not None:
            self._apart_since_s = now_s
        elif now_s - self._apart_since_s > 2 * self._timeout_s:
            self._worker.fail(f"not in the group for {now_s - self._apart_since_s:.0f} s")

    async def _standings(self) -> dict[Tp, Standing]:
        worker = self._worker
        seen: dict[Tp, int] = {}
        for host in worker.hosts:
            for shard in host.shards.values():
                for topic, offset in shard.seen.items():
                    tp = worker.wire(Tp(topic, shard.partition))
                    seen[tp] = min(offset, seen.get(tp, offset))  # of several readers the slowest
        if not seen:
            return {}
        ends = await worker.outlook.ends(seen)
        waiting = worker.consumer.ledger.open_batches()
        positions = {tp: await self._position(tp) for tp in seen}
        return {
            tp: Standing(positions[tp], offset, ends.get(tp), waiting.get(tp, 0))
            for tp, offset in seen.items()
        }

    async def _position(self, tp: Tp) -> int | None:
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                at: int | None = await self._worker.consumer.position(TP(*tp))
        except Exception:  # noqa: BLE001  (not assigned any more, or no answer: not known)
            return None
        return at

    def _show_lag(self, standings: Mapping[Tp, Standing]) -> None:
        metrics, prefix = self._worker.metrics, self._worker.config.broker.topic_prefix
        for tp in self._shown - standings.keys():
            metrics.drop_lag(tp.topic.removeprefix(prefix), tp.partition)
        self._shown = set(standings)
        for tp, standing in standings.items():
            if standing.end is not None:
                records = max(standing.end - standing.seen, 0)
                metrics.set_lag(tp.topic.removeprefix(prefix), tp.partition, records)

    async def _send(self, standings: Mapping[Tp, Standing]) -> None:
        worker = self._worker
        now_us = worker.clock.wall_ns() // 1000
        times_s = {
            (host.stage.name, area): time_s
            for host in worker.hosts
            for shard in host.shards.values()
            for area, time_s in shard.event_times_s.items()
        }
        outputs = self._silence.look(worker.clock.monotonic_s(), times_s)
        for host in worker.hosts:
            for shard in host.shards.values():
                ends = [standings.get(worker.wire(Tp(topic, shard.partition))) for topic in shard.seen]
                lags = [s.end - s.seen for s in ends if s is not None and s.end is not None]
                newest_s = max(shard.event_times_s.values(), default=None)
                beat = Health(
                    worker=worker.name,
                    stage=host.stage.name,
                    partition=shard.partition,
                    seq=self._count,
                    ts_us=now_us,
                    next_offsets=dict(shard.speak),
                    lag_records=max(sum(lags), 0) if lags else None,
                    last_event_ts_us=None if newest_s is None else int(newest_s * 1e6),
                    models=dict(shard.models),
                    worst_quality=shard.worst_since(),
                )
                key = f"{worker.name}/{host.stage.name}/{shard.partition}".encode()
                outputs.append(Output(TOPIC_HEALTH, key, encode(beat), now_us // 1000))
        try:
            await worker.publisher.publish(outputs)
            self._sent_s = worker.clock.monotonic_s()
            self._silence.told()
        except ShellError as error:
            log.warning("health record not sent", extra={"error": str(error)})

"""The load generator of `bench latency` and `bench scale`: makes all frames first, then sends them in real time.

It says "ready" when everything is made, begins at SIGUSR1, tells every second how far it is, and in the end
when each instant was appended (topics with LogAppendTime: the broker's own clock). Each instant of a partition
is one batch, sent when it is due and not when the one before is acknowledged.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from typing import Any

import msgspec
import uvloop

from streamproc.config import SiteConfig
from streamproc.shell.bench.load import Load, Stream, area_name, by_partition, producer_of, send_configs
from streamproc.shell.bench.peer.meter import cpu_s, spec, tell
from streamproc.shell.clock import SYSTEM
from streamproc.values import TOPIC_FRAMES

Instant = tuple[int, list[tuple[int, list[tuple[bytes, bytes]]]]]  # t_ns, per partition its (key, value)


def main() -> None:
    """Make, wait, send, tell."""
    uvloop.run(_main(spec()))


async def _main(asked: dict[str, Any]) -> None:
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    config, load = msgspec.convert(asked["site"], SiteConfig), Load(**asked["load"])
    stream = Stream(load)
    instants: list[Instant] = [
        (t_ns, [(p, _pairs(group)) for p, group in by_partition(areas, config.broker)])
        for t_ns, areas in stream.instants()
    ]
    gc.freeze()  # nothing of it will go: the collector must not walk it while frames are due
    producer = producer_of(config.broker)
    await producer.start()
    try:
        await send_configs(producer, config.broker, stream)
        tell({"ready": True})
        await go.wait()
        tell(await _send(producer, config, instants, load.rate_hz))
    finally:
        await producer.stop()


def _pairs(group: list[tuple[int, list[bytes]]]) -> list[tuple[bytes, bytes]]:
    return [(area_name(area).encode(), frame) for area, frames in group for frame in frames]


async def _send(producer: Any, config: SiteConfig, instants: list[Instant], rate_hz: int) -> dict[str, Any]:  # noqa: ANN401
    topic = config.broker.topic_prefix + TOPIC_FRAMES
    begin_s, begin_cpu_s = SYSTEM.monotonic_s() + 0.1, cpu_s()
    late_s, sent = 0.0, 0
    futures: list[list[tuple[int, asyncio.Future[Any]]]] = []
    for number, (t_ns, parts) in enumerate(instants):
        due_s = begin_s + number / rate_hz
        wait_s = due_s - SYSTEM.monotonic_s()
        await asyncio.sleep(max(0.0, wait_s))
        late_s = max(late_s, -wait_s)
        row = []
        for partition, pairs in parts:
            batch = producer.create_batch()
            for key, value in pairs:
                batch.append(key=key, value=value, timestamp=t_ns // 1_000_000)
            batch.close()
            row.append((partition, await producer.send_batch(batch, topic, partition=partition)))
            sent += len(pairs)
        futures.append(row)
        if number % rate_hz == 0:
            tell({"sent": sent, "late_s": late_s})
    appended = [{str(p): (await future).timestamp for p, future in row} for row in futures]
    span_s = SYSTEM.monotonic_s() - begin_s
    return {
        "done": True,
        "sent": sent,
        "late_s": late_s,
        "span_s": span_s,
        "cpu_s": cpu_s() - begin_cpu_s,
        "appended_ms": appended,
    }


if __name__ == "__main__":
    main()

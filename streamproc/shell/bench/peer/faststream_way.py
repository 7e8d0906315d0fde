# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
"""FastStream in its batch mode, the job of `bench peers` over arrays. Runs in an environment of its own."""

from __future__ import annotations

import asyncio
import uuid
from importlib import metadata

from faststream import FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from streamproc.shell.bench.peer.job import BatchJob
from streamproc.shell.bench.peer.meter import Meter, spec, tell_and_end


def main():
    """Measure and say so."""
    asked = spec()
    meter, job = Meter(asked["records"], asked["seconds"]), BatchJob()
    broker = KafkaBroker(asked["bootstrap"], logger=None)
    names = ("faststream", "aiokafka", "numpy")

    async def no_decoding(message):
        return message.body

    subscriber = broker.subscriber(
        asked["topic"],
        group_id="b" + uuid.uuid4().hex[:8],
        auto_offset_reset="earliest",
        batch=True,
        max_records=2000,
        batch_timeout_ms=100,
        decoder=no_decoding,
    )

    async def take(_body, message: KafkaMessage):
        meter.start()
        records = message.raw_message
        job([record.key for record in records], [record.value for record in records])
        if meter.take(len(records)):
            versions = {name: metadata.version(name) for name in names}
            tell_and_end(meter.seen() | {"alerts": job.alerts, "versions": versions})

    take.__annotations__["message"] = KafkaMessage  # FastStream looks for the type, not for its name
    subscriber(take)
    asyncio.run(FastStream(broker, logger=None).run())


if __name__ == "__main__":
    main()

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
"""Stock Faust: an agent that takes one record after the other. Runs in an environment of its own, or in ours.

score        the job of `bench path` in numpy
score_onnx   the same with the ONNX models (our own environment only)
ewma         the job of `bench peers`
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from importlib import metadata
from pathlib import Path

import faust

from streamproc.shell.bench.peer.job import RecordJob
from streamproc.shell.bench.peer.meter import Meter, spec, tell_and_end

FOREVER_S = 3600.0


def make_app(asked):
    """Return a stock app; only its group and where it begins are ours."""
    return faust.App(
        "b" + uuid.uuid4().hex[:8],
        broker=f"kafka://{asked['bootstrap']}",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=30,
        stream_wait_empty=False,
        datadir=asked["scratch"],
    )


def main():
    """Measure and say so."""
    logging.basicConfig(level=logging.ERROR)
    asked = spec()
    meter = Meter(asked["records"], asked["seconds"])
    app = make_app(asked)
    topic = app.topic(asked["topic"], value_type=bytes, key_type=bytes, partitions=asked["partitions"])
    agent = _ewma(meter) if asked["way"] == "ewma" else _score(app, asked, meter)
    app.agent(topic)(agent)
    asyncio.run(_run(app))


async def _run(app):
    await app.start()
    await asyncio.sleep(FOREVER_S)


def _versions():
    return {"versions": {name: metadata.version(name) for name in ("faust-streaming", "aiokafka", "numpy")}}


def _ewma(meter):
    job = RecordJob()

    async def agent(stream):
        async for key, value in stream.items():
            meter.start()
            job(key, value)
            if meter.take(1):
                tell_and_end(meter.seen() | {"alerts": job.alerts} | _versions())

    return agent


def _score(app, asked, meter):
    from streamproc.shell.bench.peer.per_record import PerRecord  # noqa: PLC0415  (not in every environment)

    models = None
    if asked["way"] == "score_onnx":
        from streamproc.shell.models import ModelSet  # noqa: PLC0415

        models = ModelSet.load()
    job = PerRecord(Path(asked["configs"]), models)
    findings = app.topic(asked["findings"], value_type=bytes, key_type=bytes)

    async def agent(stream):
        async for event in stream.events():
            meter.start()
            message = event.message
            outputs = job(
                message.partition, message.offset, int(message.timestamp * 1000), message.key, message.value
            )
            for output in outputs:
                await findings.send(key=output.key, value=output.value)
            if meter.take(1):
                tell_and_end(meter.seen() | _versions())

    return agent


if __name__ == "__main__":
    main()

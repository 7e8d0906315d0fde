# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
"""Quix Streams: a dataframe whose function takes one record after the other. Runs in an environment of its own.

score   the job of `bench path` in numpy
ewma    the job of `bench peers`
"""

from __future__ import annotations

import uuid
from importlib import metadata
from pathlib import Path

from quixstreams import Application, message_context

from streamproc.shell.bench.peer.job import RecordJob
from streamproc.shell.bench.peer.meter import Meter, spec, tell_and_end


def main():
    """Measure and say so."""
    asked = spec()
    meter = Meter(asked["records"], asked["seconds"])
    app = Application(
        broker_address=asked["bootstrap"],
        consumer_group="b" + uuid.uuid4().hex[:8],
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=asked["scratch"],
        loglevel="ERROR",
    )
    topic = app.topic(asked["topic"], value_deserializer="bytes", key_deserializer="bytes")
    frame = app.dataframe(topic)
    if asked["way"] == "ewma":
        frame.apply(_ewma(meter), metadata=True)
    else:
        findings = app.topic(asked["findings"], value_serializer="bytes", key_serializer="bytes")
        outputs = frame.apply(_score(asked, meter), metadata=True, expand=True)
        outputs.to_topic(findings)
    app.run()


def _versions():
    names = ("quixstreams", "confluent-kafka", "numpy")
    return {"versions": {name: metadata.version(name) for name in names}}


def _ewma(meter):
    job = RecordJob()

    def take(value, key, _timestamp, _headers):
        meter.start()
        job(key, value)
        if meter.take(1):
            tell_and_end(meter.seen() | {"alerts": job.alerts} | _versions())

    return take


def _score(asked, meter):
    from streamproc.shell.bench.peer.per_record import PerRecord  # noqa: PLC0415

    job = PerRecord(Path(asked["configs"]))

    def take(value, key, timestamp, _headers):
        meter.start()
        context = message_context()
        outputs = job(context.partition, context.offset, timestamp, key, value)
        if meter.take(1):
            tell_and_end(meter.seen() | _versions())
        return [output.value for output in outputs]

    return take


if __name__ == "__main__":
    main()

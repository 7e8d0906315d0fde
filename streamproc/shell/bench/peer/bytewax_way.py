# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202
"""Bytewax, batch by batch, the job of `bench peers` over arrays. Runs in an environment of its own."""

from __future__ import annotations

from importlib import metadata

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from streamproc.shell.bench.peer.job import BatchJob
from streamproc.shell.bench.peer.meter import Meter, spec, tell_and_end


def main():
    """Measure and say so."""
    asked = spec()
    meter, job = Meter(asked["records"], asked["seconds"]), BatchJob()
    names = ("bytewax", "confluent-kafka", "numpy")

    def take(messages):
        meter.start()
        job([message.key for message in messages], [message.value for message in messages])
        if meter.take(len(messages)):
            versions = {name: metadata.version(name) for name in names}
            tell_and_end(meter.seen() | {"alerts": job.alerts, "versions": versions})
        return []

    flow = Dataflow("bench")
    source = KafkaSource([asked["bootstrap"]], [asked["topic"]], batch_size=1000, tail=True)
    stream = op.input("in", flow, source)
    op.output("out", op.flat_map_batch("job", stream, take), StdOutSink())
    run_main(flow)


if __name__ == "__main__":
    main()

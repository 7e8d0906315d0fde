# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, D103, DTZ003
"""csp with its C++ Kafka adapter in bursts, the job of `bench peers`. Runs in an environment of its own.

csp hands over the value without its key; the key is written into the first bytes of the value for it
(`bench_peers`: the time of a record is its device's number), as its user would have to do.
"""

from datetime import datetime, timedelta
from importlib import metadata

import csp
from csp import PushMode
from csp.adapters.kafka import KafkaAdapterManager, KafkaStartOffset
from csp.adapters.utils import RawBytesMessageMapper

from streamproc.shell.bench.peer.job import RecordJob
from streamproc.shell.bench.peer.meter import Meter, spec, tell_and_end

ASKED = spec()
METER = Meter(ASKED["records"], ASKED["seconds"])
JOB = RecordJob()


def take(values):
    """Do the job for one burst."""
    METER.start()
    for value in values:
        JOB(value[:8], value)
    if METER.take(len(values)):
        versions = {name: metadata.version(name) for name in ("csp", "numpy")}
        tell_and_end(METER.seen() | {"alerts": JOB.alerts, "versions": versions})


@csp.node
def sink(x: csp.ts[[bytes]]):
    if csp.ticked(x):
        take(x)


@csp.graph
def graph():
    manager = KafkaAdapterManager(ASKED["bootstrap"], start_offset=KafkaStartOffset.EARLIEST)
    values = manager.subscribe(
        bytes, RawBytesMessageMapper(), ASKED["topic"], field_map="", push_mode=PushMode.BURST
    )
    sink(values)


if __name__ == "__main__":
    csp.run(graph, starttime=datetime.utcnow(), endtime=timedelta(hours=1), realtime=True)

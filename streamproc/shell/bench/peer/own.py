"""Our own ways in a process of their own: the bare client, and the worker with different stages.

bare    aiokafka getmany, b"".join of the values, np.frombuffer
sink    the worker (group, Faust, batch seam, host, blobs, commits) with a stage that does just that
plain   the worker with the real score stage, whose model has no rules
full    the worker as `streamproc run` has it: all stages, all base models
ewma    the worker with the job of `job.py`, for `bench peers`
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.config import SiteConfig
from streamproc.core.describe import Describer
from streamproc.core.detector import Rule, Windows
from streamproc.shell.app import Worker
from streamproc.shell.bench.peer.job import BatchJob
from streamproc.shell.bench.peer.meter import Meter, fail, spec, tell_and_end
from streamproc.shell.heap import calm_collector, keep_heap
from streamproc.shell.process import build_stages
from streamproc.shell.site_file import client_settings
from streamproc.stages.score import ScoreStage
from streamproc.values import F32, F64, SILENT, Probe, Record, Stage, Step


def frame_dtype(n_pmu: int) -> np.dtype[np.void]:
    """Return the layout of a data frame of the benchmark's PDCs (`simulate.fleet`: two phasors, all float)."""
    pmu = [("stat", ">u2"), ("phasor", ">f4", (2, 2)), ("freq", ">f4"), ("dfreq", ">f4")]
    head = [("sync", ">u2"), ("size", ">u2"), ("idcode", ">u2"), ("soc", ">u4"), ("fracsec", ">u4")]
    return np.dtype([*head, ("pmu", pmu, n_pmu), ("crc", ">u2")])


class Look:
    """The least that can be done with frames: an array, and one look at it."""

    def __init__(self, n_pmu: int) -> None:
        self._dtype = frame_dtype(n_pmu)
        self.sum = 0.0

    def __call__(self, values: Sequence[bytes]) -> None:
        """Turn one batch into an array and look at it."""
        rows = np.frombuffer(b"".join(values), self._dtype)
        self.sum += float(rows["pmu"]["freq"][:, 0].sum())


class SimpleStage:
    """values.Stage that only hands its records to a callable and remembers how many."""

    broadcast: tuple[str, ...] = ()

    def __init__(self, topic: str) -> None:
        self.name = "bench"
        self.inputs = (topic,)

    def take(self, records: Sequence[Record]) -> None:
        """Do the work."""

    def fresh(self) -> int:
        """Return how many records came: none."""
        return 0

    def learn(self, state: int, _records: Sequence[Record]) -> int:
        """Return the state: there is nothing to learn."""
        return state

    def step(self, state: int, records: Sequence[Record], _probe: Probe = SILENT) -> Step[int]:
        """Do the work."""
        if records:
            self.take(records)
        return Step(state + len(records))

    def warm(self, state: int, _records: Sequence[Record]) -> int:
        """Return the state: there are no windows."""
        return state

    def pack(self, state: int) -> bytes:
        """Return the count."""
        return b"%d" % state

    def unpack(self, blob: bytes) -> int:
        """Return the count."""
        return int(blob)

    def resume_offset(self, _state: int, _topic: str, next_offset: int) -> int:
        """Return the next offset."""
        return next_offset


class SinkStage(SimpleStage):
    """Looks at frames."""

    def __init__(self, topic: str, n_pmu: int) -> None:
        super().__init__(topic)
        self._look = Look(n_pmu)

    def take(self, records: Sequence[Record]) -> None:
        """Look."""
        self._look([record.value or b"" for record in records])


class EwmaStage(SimpleStage):
    """Does the job of `bench peers`."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.job = BatchJob()

    def take(self, records: Sequence[Record]) -> None:
        """Do the job."""
        self.job([record.key or b"" for record in records], [record.value or b"" for record in records])


class NoModels:
    """stages.score.Models without any rule: decode, align and features are all that is left."""

    describer: Describer | None = None
    fast_rows, slow_rows = 1, 1
    rules: tuple[Rule, ...] = ()
    digest, reason, fallback_count = "none", "", 0

    def __init__(self, n_pmu: int = 0) -> None:
        self.base_v: F64 = np.full(n_pmu, np.nan)

    def for_area(self, _area: str, stations: tuple[str, ...], _rate: float, _nominal: float) -> NoModels:
        """Return the model of an area."""
        return NoModels(len(stations))

    def score(self, windows: Windows[F32], _instant: int) -> F32:
        """Return no scores."""
        return np.zeros((0, windows.now.shape[1]), np.float32)


class Counted:
    """A stage under the watch: everything as it is, and each step counted."""

    def __init__(self, stage: Stage[Any], meter: Meter, done: asyncio.Event) -> None:
        self._stage, self._meter, self._done = stage, meter, done

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return what the stage has."""
        return getattr(self._stage, name)

    def step(self, state: Any, records: Sequence[Record], probe: Probe = SILENT) -> Step[Any]:  # noqa: ANN401
        """Step and count; the host also steps without records, to see how things stand."""
        if not records:
            return self._stage.step(state, records, probe)
        self._meter.start()
        step = self._stage.step(state, records, probe)
        if self._meter.take(len(records)):
            self._done.set()
        return step


def main() -> None:
    """Measure one way and say so."""
    uvloop.run(_main(spec()))


async def _main(asked: dict[str, Any]) -> None:
    config = msgspec.convert(asked["site"], SiteConfig)
    meter = Meter(asked["records"], asked["seconds"])
    if asked["way"] == "bare":
        await _bare(config, asked, meter)
        tell_and_end(meter.seen())
    keep_heap()
    calm_collector()
    done = asyncio.Event()
    stages = _stages(config, asked)
    worker = Worker(config, [Counted(stages[0], meter, done), *stages[1:]])
    await worker.start()
    waiting = asyncio.create_task(done.wait())
    waited: set[asyncio.Future[Any]] = {waiting, worker.failure}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if worker.failure.done():
        fail(f"the worker fails: {worker.failure.result()}")
    alerts = stages[0].job.alerts if isinstance(stages[0], EwmaStage) else None
    tell_and_end(meter.seen() | ({} if alerts is None else {"alerts": alerts}))


def _stages(config: SiteConfig, asked: dict[str, Any]) -> Sequence[Any]:
    way = asked["way"]
    if way == "full":
        return build_stages(config)
    if way == "plain":
        return (ScoreStage(config, NoModels()),)
    return (EwmaStage(asked["topic"]),) if way == "ewma" else (SinkStage(asked["topic"], asked["pdc_pmus"]),)


async def _bare(config: SiteConfig, asked: dict[str, Any], meter: Meter) -> None:
    broker, look = config.broker, Look(asked["pdc_pmus"])
    consumer = AIOKafkaConsumer(
        auto_offset_reset="earliest", enable_auto_commit=False, **client_settings(broker)
    )
    await consumer.start()
    name = broker.topic_prefix + asked["topic"]
    consumer.assign([TopicPartition(name, number) for number in range(broker.partitions)])
    while True:
        for fetched in (await consumer.getmany(timeout_ms=1000)).values():
            meter.start()
            look([record.value for record in fetched])
            if meter.take(len(fetched)):
                return


if __name__ == "__main__":
    main()

"""The whole path as plain calls. Read this first.

    frames ──────── score ── findings ── decide ── alerts ─────────┼── annunciate ── cards
    measurements ── scada ── findings ──┘                          │
                     ├────── forecasts of the next hour ───────────┴── advise ── setpoints
                     └────── intervals ── ahead ── forecasts of the next 48 hours
    operator ──────────────────────────── (decide)      exogenous ── (ahead)

Six stages, each a pure machine over records (`streamproc.values.Stage`): what one puts out is what the next
takes in. Live, a topic lies between them, so that scoring scales out by area while deciding sees the whole
picture; here they are called in turn, on records in memory, with nothing in between. `streamproc score` is
this file over a recording, and the bytes it prints are those that would stand in `grid.alerts.v1`.

Where to look next, in the order of the path: `core/c37118` (bytes to arrays), `core/align` (a PDC's time
alignment), `core/features` and `core/window` (what models see), `detectors/` (what they look for),
`core/condition` (delays and deadbands), `core/decide` (one disturbance, one alert), `core/alarm` (ISA-18.2
states), `core/annunciate` (one event, one card), `core/forecast`, `core/advise`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import msgspec
import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.ahead.days import N_LEAD, N_ROW
from streamproc.core.rationale import ruled_point
from streamproc.core.rules_message import Rules
from streamproc.core.topology import Topology
from streamproc.stages.advise import AdviseStage
from streamproc.stages.ahead import AheadStage
from streamproc.stages.annunciate import AnnunciateStage
from streamproc.stages.decide import DecideStage
from streamproc.stages.scada import ScadaStage
from streamproc.stages.score import ScoreStage
from streamproc.values import I64, TOPIC_FRAMES, Counts, Output, Record, Stage


def utc(number: int) -> I64:
    """Return what local time is ahead of UTC where it is UTC: nothing."""
    del number
    return np.zeros(N_ROW + N_LEAD, dtype=np.int64)


BATCH_RECORDS = 512  # records per round; any number gives the same outputs


@dataclass(frozen=True, slots=True)
class Engines:
    """What the stages ask: models and a solver, loaded by the shell."""

    models: Any  # of detection
    forecaster: Any  # of the next hour
    solve: Any
    ahead: Any = None  # of the next 48 hours; None: their fallback speaks
    offsets: Any = utc  # number of a quarter hour -> what local time is ahead of UTC around it
    topology: Topology | None = None  # of the network; None: not known
    rules: Rules | None = None  # rationalised, from the site; those of the topic replace them


def ruled_site(config: SiteConfig, rules: Rules | None) -> SiteConfig:
    """Return the site with the limits that its rationalisation file gives its points."""
    points = tuple(ruled_point(point, point.id, rules) for point in config.point)
    return msgspec.structs.replace(config, point=points)


def make_stages(config: SiteConfig, engines: Engines) -> tuple[Stage[Any], ...]:
    """Return the stages of the service, in the order of the path."""
    return (
        ScoreStage(config, engines.models),
        ScadaStage(config, engines.forecaster, engines.rules),
        AheadStage(config, engines.ahead, engines.offsets),
        DecideStage(config, engines.rules),
        AnnunciateStage(config, engines.topology),
        AdviseStage(ruled_site(config, engines.rules), engines.solve),
    )


@dataclass(slots=True)
class Place:
    """A stage with its memory on this path: one partition holds everything."""

    stage: Stage[Any]
    state: Any
    inbox: list[Record] = field(default_factory=list)

    def run(self, counts: Counts) -> Sequence[Output]:
        """Return what the stage makes of its inbox, which is empty then."""
        records, self.inbox = self.inbox, []
        if not records:
            return ()
        step = self.stage.step(self.state, records)
        self.state = step.state
        counts.update(step.counts)
        return step.outputs


class Path:
    """The stages in a row, with what they remember. Feed it records; take the outputs of all stages, in
    order.
    """

    def __init__(self, config: SiteConfig, engines: Engines) -> None:
        self.counts: Counts = Counter()
        self._places = [Place(stage, stage.fresh()) for stage in make_stages(config, engines)]
        self._offsets: Counter[str] = Counter()

    def state(self, stage: str) -> Any:  # noqa: ANN401 - each stage has its own
        """Return what a stage remembers by now."""
        return next(place.state for place in self._places if place.stage.name == stage)

    def feed(self, records: Iterable[Record]) -> Iterator[Output]:
        """Yield all that follows from these records: findings, dead letters, alerts, forecasts, setpoints.

        Frames go through together; every other record goes the whole path alone, so that what meets in a
        later stage meets in the same order, however the records were split into batches.
        """
        for is_frames, group in groupby(records, lambda record: record.topic == TOPIC_FRAMES):
            for records_together in [list(group)] if is_frames else ([record] for record in group):
                for record in records_together:
                    self._deliver(record)
                yield from self._round()

    def _round(self) -> Iterator[Output]:
        for place in self._places:
            for output in place.run(self.counts):
                yield output
                self._deliver(self._as_record(output))

    def _deliver(self, record: Record) -> None:
        for place in self._places:
            if record.topic in place.stage.inputs:
                place.inbox.append(record)
            elif record.topic in place.stage.broadcast:
                place.state = place.stage.learn(place.state, [record])

    def _as_record(self, output: Output) -> Record:
        """Return an output as the next stage reads it from the broker."""
        offset = self._offsets[output.topic]
        self._offsets[output.topic] += 1
        return Record(output.topic, 0, offset, output.ts_ms, output.key, output.value, output.headers)


def run(path: Path, records: Iterable[Record], batch_records: int = BATCH_RECORDS) -> Iterator[Output]:
    """Yield all outputs of a recording, in order."""
    source = iter(records)
    while batch := list(islice(source, batch_records)):
        yield from path.feed(batch)

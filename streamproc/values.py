"""The frozen values that cross stages, and the contract of a stage.

Everything between two stages is one of these. A stage is a pure function over them: it reads no clock, opens no file,
writes no log. The shell (`streamproc.shell`) owns the broker and calls the stages; `streamproc score` calls the very
same stages from a recording, without a broker.

Times inside are UTC nanoseconds (`*_ns`, int64); in JSON they are integer microseconds (`*_us`); Kafka's own record time
stamps are milliseconds (`*_ms`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]
F32: TypeAlias = NDArray[np.float32]
I64: TypeAlias = NDArray[np.int64]
U8: TypeAlias = NDArray[np.uint8]
U16: TypeAlias = NDArray[np.uint16]
U32: TypeAlias = NDArray[np.uint32]
Bool: TypeAlias = NDArray[np.bool_]
C128: TypeAlias = NDArray[np.complex128]

# The topics. `<input>.dlq` holds what could not be evaluated.
TOPIC_FRAMES = "grid.pmu.frames.v1"
TOPIC_CONFIG = "grid.pmu.config.v1"
TOPIC_SCADA = "grid.scada.measurements.v1"
TOPIC_INTERVALS = "grid.intervals.v1"
TOPIC_EXOGENOUS = "grid.exogenous.v1"
TOPIC_FINDINGS = "grid.findings.v1"
TOPIC_ALERTS = "grid.alerts.v1"
TOPIC_CARDS = "grid.cards.v1"
TOPIC_FORECASTS = "grid.forecasts.v1"
TOPIC_SETPOINTS = "grid.setpoints.v1"
TOPIC_OPERATOR = "grid.operator.v1"
TOPIC_RULES = "grid.rules.v1"
TOPIC_HEALTH = "grid.health.v1"
TOPIC_STATE = "grid.state.v1"
DLQ_SUFFIX = ".dlq"


class Record(NamedTuple):
    """One Kafka record as the core sees it. `ts_ms` is the record's CreateTime, milliseconds UTC.

    A named tuple, not a dataclass: one is made for every record that comes in, in a fifth of the time.
    """

    topic: str
    partition: int
    offset: int
    ts_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """One record to send. Same input, same bytes: nothing here may come from a clock or a random number."""

    topic: str
    key: bytes
    value: bytes
    ts_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


# (metric, label), for example ("rejected", "bad_crc") or ("frames", "north"). Labels come from closed lists or from the
# configuration, never from the wire. The shell turns them into Prometheus counters; tests read them directly.
Counts: TypeAlias = Counter[tuple[str, str]]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What one call of a stage returns: the state after, what to send, what to count.

    `delays_s` holds event-time delays in seconds by name (for example "align_wait"), for the histograms.
    `gauges` holds values by (name, label), for example ("measurement_event_time_s", "north").
    """

    state: S
    outputs: tuple[Output, ...] = ()
    counts: Counts = field(default_factory=Counter)
    delays_s: Mapping[str, F64] = field(default_factory=dict)
    gauges: Mapping[tuple[str, str], float] = field(default_factory=dict)


class Probe(Protocol):
    """A stopwatch that the shell hands to a stage; the core never reads a clock itself."""

    def lap(self, stage: str) -> None:
        """Attribute the wall time since the last call to `stage`."""


class SilentProbe:
    """The probe of tests and of offline runs: measures nothing."""

    def lap(self, stage: str) -> None:
        """Do nothing."""


SILENT = SilentProbe()


class Stage(Protocol[S]):
    """One stage of the path as a pure machine over records.

    The host calls `step` with the new records of one partition; with none, it gives the gauges as they stand. A state is
    a value: `step` never changes the one it was given, so a failed batch is simply tried again from the old state, whole
    or record by record.

    After a restart the host gives back the last packed state with the offsets at which it was packed. Records before
    that offset (the committed offset trails it by one window: `resume_offset`) go to `warm`, which refills windows and
    says nothing; records from there on go to `step` and give the same bytes as they did, or would have done, before.
    """

    @property
    def name(self) -> str:
        """Return the name of the stage, as metrics and state blobs know it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the topics whose partitions carry the work; there is one state per partition number."""

    @property
    def broadcast(self) -> tuple[str, ...]:
        """Return compacted topics that every state must know (read from the beginning, without a group)."""

    def fresh(self) -> S:
        """Return the state before any record."""

    def learn(self, state: S, records: Sequence[Record]) -> S:
        """Return the state that also knows these broadcast records."""

    def step(self, state: S, records: Sequence[Record], probe: Probe = SILENT) -> Step[S]:
        """Return the new state and what follows from these records; never raises for bad data."""

    def warm(self, state: S, records: Sequence[Record]) -> S:
        """Return the state with its windows refilled from records that were already answered."""

    def pack(self, state: S) -> bytes:
        """Return the part of the state that outlives a window, small and deterministic."""

    def unpack(self, blob: bytes) -> S:
        """Return the state of `pack`; windows are empty until `warm`. Raises StateError on a foreign blob."""

    def resume_offset(self, state: S, topic: str, next_offset: int) -> int:
        """Return the offset from which a successor must re-read `topic` to refill the windows (<= next_offset)."""

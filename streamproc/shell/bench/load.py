"""The records of the benchmarks: fleets of PDCs in areas, as C37.118 frames, stored or sent in real time.

    area 0: PDC 0, PDC 1, ...   one record = one frame of one PDC: up to 40 PMUs, one instant
    area 1: ...                 key = area; an area stays in one partition, areas go round the partitions

Instants go in order, and within an instant the areas and their PDCs: what arrives last in an area closes the
instant. Times start at a fixed second: the stages read no clock, so nothing depends on when this is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from aiokafka import AIOKafkaProducer

from streamproc.config import BrokerTable
from streamproc.shell.site_file import client_settings
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES

START_S = 1_700_000_000
PMUS_PER_PDC = 40
PMUS_PER_AREA = 200
BATCH_BYTES = 256 * 1024
EVENT_EVERY_S = 20.0  # in each area, in turns; longer than the alerts of one family are grouped


@dataclass(frozen=True, slots=True)
class Load:
    """So many PMUs at one rate, for so long; `events` puts two into every area every 20 s."""

    pmus: int
    rate_hz: int
    seconds: int
    area_pmus: int = PMUS_PER_AREA
    pdc_pmus: int = PMUS_PER_PDC
    events: bool = False

    @property
    def areas(self) -> int:
        """Return how many areas there are."""
        return -(-self.pmus // self.area_pmus)

    def pdcs(self, area: int) -> list[int]:
        """Return how many PMUs each PDC of an area has; the last one may be smaller."""
        left = min(self.area_pmus, self.pmus - area * self.area_pmus)
        full, rest = divmod(left, self.pdc_pmus)
        return [self.pdc_pmus] * full + ([rest] if rest else [])

    @property
    def records_per_s(self) -> int:
        """Return how many records a second has."""
        return self.rate_hz * sum(len(self.pdcs(area)) for area in range(self.areas))


def area_name(area: int) -> str:
    """Return the key of an area."""
    return f"area{area:02d}"


def events_of(area: int, load: Load) -> tuple[GridEvent, ...]:
    """Return what happens in an area: areas take turns, so that events come through the whole run."""
    if not load.events:
        return ()
    first_s = 3.0 + EVENT_EVERY_S * area / load.areas
    count = max(0, int((load.seconds - first_s) // EVENT_EVERY_S) + 1)
    made = []
    for number in range(count):
        start_s = first_s + number * EVENT_EVERY_S
        kind = number % 3
        if kind == 0:
            made.append(GridEvent("line_trip", start_s, at=0.5, size=0.35))
        elif kind == 1:
            made.append(GridEvent("generator_trip", start_s, at=0.3, size=0.25))
        else:
            made.append(GridEvent("oscillation", start_s, at=0.5, size=0.06, duration_s=8.0, mode_hz=0.6))
        # Of another family: an alert of its own.
        made.append(
            GridEvent("drop_out", start_s + EVENT_EVERY_S / 2, duration_s=3.0, pmu=number % load.pdc_pmus)
        )
    return tuple(made)


class Stream:
    """The fleets of a load; yields instants as (t_ns, area -> frames)."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._fleets = {area: _fleets(area, load) for area in range(load.areas)}
        self.configs = [
            (layout.idcode, frame)
            for fleets in self._fleets.values()
            for fleet in fleets
            for layout, frame in zip(fleet.layouts, fleet.configs, strict=True)
        ]

    def instants(self) -> Iterator[tuple[int, dict[int, list[bytes]]]]:
        """Yield every instant of the load, in order."""
        for _ in range(self.load.seconds):
            t_ns: list[int] = []
            frames: dict[int, list[list[bytes]]] = {}  # area -> per PDC the frames of this second
            for area, fleets in self._fleets.items():
                frames[area] = []
                for fleet in fleets:
                    (second,) = fleet.seconds(1)
                    t_ns = second.t_ns.tolist()
                    frames[area] += fleet.encode(second)
            for tick, at_ns in enumerate(t_ns):
                yield at_ns, {area: [stream[tick] for stream in streams] for area, streams in frames.items()}


def _fleets(area: int, load: Load) -> list[Fleet]:
    return [
        Fleet(
            FleetSettings(
                n_pmu=pmus,
                rate_hz=load.rate_hz,
                seed=1 + area,
                start_ns=START_S * 1_000_000_000,
                idcode=1 + (area * load.area_pmus + number * load.pdc_pmus) * 2,
                name=f"A{area}P{number}",
                events=events_of(area, load),
            )
        )
        for number, pmus in enumerate(load.pdcs(area))
    ]


def partition_of(area: int, broker: BrokerTable) -> int:
    """Return the partition of an area: round, so that the load is even."""
    return area % broker.partitions


async def send_configs(producer: Any, broker: BrokerTable, stream: Stream) -> None:  # noqa: ANN401
    """Send the configuration of every PDC and wait until all are there."""
    for idcode, frame in stream.configs:
        await producer.send_and_wait(
            broker.topic_prefix + TOPIC_CONFIG, frame, key=b"%d" % idcode, timestamp_ms=START_S * 1000
        )


def producer_of(broker: BrokerTable) -> Any:  # noqa: ANN401  (aiokafka has no types)
    """Return the producer of a load."""
    return AIOKafkaProducer(max_batch_size=BATCH_BYTES, acks="all", **client_settings(broker))


async def fill(broker: BrokerTable, load: Load, records: int) -> int:
    """Store configurations and at most so many frames, in full batches; return how many frames there are."""
    stream, producer = Stream(load), producer_of(broker)
    await producer.start()
    try:
        await send_configs(producer, broker, stream)
        writer, count = _Writer(producer, broker), 0
        for t_ns, areas in stream.instants():
            for area, frames in areas.items():
                for frame in frames:
                    if count < records:
                        await writer.put(area, frame, t_ns // 1_000_000)
                        count += 1
            if count >= records:
                break
        await writer.flush()
        return count
    finally:
        await producer.stop()


class _Writer:
    """Batches per partition, sent when full."""

    def __init__(self, producer: Any, broker: BrokerTable) -> None:  # noqa: ANN401
        self._producer, self._broker = producer, broker
        self._open: dict[int, Any] = {}
        self._pending: list[asyncio.Future[Any]] = []

    async def put(self, area: int, value: bytes, ts_ms: int) -> None:
        partition = partition_of(area, self._broker)
        key = area_name(area).encode()
        if partition not in self._open:
            self._open[partition] = self._producer.create_batch()
        if self._open[partition].append(key=key, value=value, timestamp=ts_ms) is None:
            await self._send(partition)
            batch = self._open[partition] = self._producer.create_batch()
            batch.append(key=key, value=value, timestamp=ts_ms)

    async def flush(self) -> None:
        for partition in list(self._open):
            await self._send(partition)
        await asyncio.gather(*self._pending)

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        batch.close()
        topic = self._broker.topic_prefix + TOPIC_FRAMES
        self._pending.append(await self._producer.send_batch(batch, topic, partition=partition))


def by_partition(
    areas: dict[int, list[bytes]], broker: BrokerTable
) -> Iterator[tuple[int, list[tuple[int, list[bytes]]]]]:
    """Yield (partition, its areas with their frames) of one instant."""

    def place(item: tuple[int, list[bytes]]) -> int:
        return partition_of(item[0], broker)

    for partition, group in groupby(sorted(areas.items(), key=place), key=place):
        yield partition, list(group)

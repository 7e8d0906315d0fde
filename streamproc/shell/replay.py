"""A recording played into Kafka: at its own pace or as fast as the broker takes it, once or again and again.

`restamp` moves a recording in time by whole seconds, so that its fractions of a second, and with them its
place on the reporting grid, stay what they are: SOC of each data frame is changed and its CHK computed anew,
`ts_us` of each SCADA point is moved. Configurations stay byte for byte: a changed one would be a new one.
Records that are no good frames or no JSON are passed on as they are; to refuse them is the service's
business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable

import orjson

from streamproc.core.c37118 import DATA, split
from streamproc.core.c37118.frame import with_crc
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.sender import Sender
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, TOPIC_SCADA, Record

SLICE_S = 0.02  # s; shorter waits are not worth a sleep


def restamp(record: Record, shift_s: int) -> Record:
    """Return the record moved by whole seconds."""
    if record.topic == TOPIC_FRAMES and record.value:
        value = restamp_frames(record.value, shift_s)
    elif record.topic == TOPIC_SCADA and record.value:
        value = _restamp_points(record.value, shift_s)
    else:
        return record
    return record._replace(value=value, ts_ms=record.ts_ms + shift_s * 1000)


def restamp_frames(value: bytes, shift_s: int) -> bytes:
    """Return the frames with SOC moved in each data frame; everything else as it was."""
    pieces, at = [], 0
    for start, size in split(value).frames.tolist():
        frame = value[start : start + size]
        pieces.append(value[at:start])
        pieces.append(_moved(frame, shift_s) if frame[1] >> 4 & 7 == DATA else frame)
        at = start + size
    pieces.append(value[at:])
    return b"".join(pieces)


def _moved(frame: bytes, shift_s: int) -> bytes:
    soc = (int.from_bytes(frame[6:10], "big") + shift_s) & 0xFFFFFFFF
    return with_crc(frame[:6] + soc.to_bytes(4, "big") + frame[10:-2])


def _restamp_points(value: bytes, shift_s: int) -> bytes:
    try:
        tree = orjson.loads(value)
        for point in tree["points"]:
            point["ts_us"] += shift_s * 1_000_000
        return orjson.dumps(tree, option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return value


async def paced(
    records: Iterable[Record],
    *,
    speed: float | None,
    lead_s: Callable[[Record], float] = lambda _: 0.0,
    clock: Clock = SYSTEM,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Record]:
    """Yield the records as they are due: `speed` times real time from the first one on; None: at once.

    `lead_s` is asked once, with the first record that has a time: so long it waits before it begins.
    """
    first_ms: int | None = None
    begin_s = 0.0
    for record in records:
        if record.topic != TOPIC_CONFIG:
            if first_ms is None:
                first_ms = record.ts_ms
                begin_s = clock.monotonic_s() + lead_s(record)
            if speed is not None:
                wait_s = begin_s + (record.ts_ms - first_ms) / 1000 / speed - clock.monotonic_s()
                if wait_s > SLICE_S:
                    await asyncio.sleep(wait_s)
        if stop is not None and stop.is_set():
            return
        yield record


class Shift:
    """How far a recording is moved in time, in whole seconds; found when its first record comes."""

    def __init__(self, *, now: bool, clock: Clock) -> None:
        self._now, self._clock = now, clock
        self.shift_s: int | None = None

    def lead_s(self, record: Record) -> float:
        """Return how long to wait until the moved recording may begin: it must not come from the future."""
        late_s = self._clock.wall_ns() / 1e9 - record.ts_ms / 1e3
        if self.shift_s is None:
            self.shift_s = math.ceil(late_s) if self._now else 0
        return max(0.0, self.shift_s - late_s) if self._now else 0.0


async def replay(
    read: Callable[[], Iterable[Record]],
    sender: Sender,
    *,
    speed: float | None = None,
    loop: bool = False,
    now: bool = False,
    on_sent: Callable[[Record], None] = lambda _: None,
    clock: Clock = SYSTEM,
    stop: asyncio.Event | None = None,
) -> int:
    """Send a recording; return how many records. `now`: it begins now, and each further loop follows on."""
    count = 0
    shift = Shift(now=now, clock=clock)
    while True:
        first_ms = last_ms = None
        lead = shift.lead_s if speed is not None else _at_once(shift)
        async for record in paced(read(), speed=speed, lead_s=lead, clock=clock, stop=stop):
            if record.topic != TOPIC_CONFIG:
                first_ms = record.ts_ms if first_ms is None else first_ms
                last_ms = record.ts_ms
            moved = restamp(record, shift.shift_s) if shift.shift_s else record
            await sender.send(moved)
            on_sent(moved)
            count += 1
        if not loop or first_ms is None or last_ms is None or (stop is not None and stop.is_set()):
            break
        # The next round begins a second after this one ended, in its own time.
        shift.shift_s = (shift.shift_s or 0) + (last_ms - first_ms) // 1000 + 1
    await sender.flush()
    return count


def _at_once(shift: Shift) -> Callable[[Record], float]:
    def lead_s(record: Record) -> float:
        shift.lead_s(record)
        return 0.0

    return lead_s

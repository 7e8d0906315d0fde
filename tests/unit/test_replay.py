"""Protects replayed recordings: moved in time without a changed bit beside it, at the pace that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import orjson
import pytest
import typer

from streamproc.cli.replay import parse_speed
from streamproc.core.c37118 import Book, decode
from streamproc.core.messages import encode
from streamproc.shell.clock import ManualClock
from streamproc.shell.replay import replay, restamp
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import ScadaPoints
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, TOPIC_SCADA, Record

NOW_NS = 1_700_000_000_000_000_000


class Memory:
    """Stands in for a Sender."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, record: Record) -> None:
        self.records.append(record)

    async def flush(self) -> None:
        """Nothing waits."""


def recording() -> Iterator[Record]:
    return fleet_records(Fleet(FleetSettings(n_pmu=2, start_ns=NOW_NS)), "north", 1)


def played(clock: ManualClock, records: Iterable[Record] | None = None, **options: object) -> list[Record]:
    memory = Memory()
    given = list(recording() if records is None else records)
    asyncio.run(replay(lambda: given, memory, clock=clock, **options))  # type: ignore[arg-type]
    return memory.records


def test_a_moved_frame_differs_only_in_its_second_and_its_check() -> None:
    frame = next(r for r in list(recording())[2:] if r.topic == TOPIC_FRAMES)
    moved = restamp(frame, 1000)
    assert moved.ts_ms == frame.ts_ms + 1_000_000
    assert moved.value is not None
    assert frame.value is not None
    assert moved.value[:6] + moved.value[10:-2] == frame.value[:6] + frame.value[10:-2]
    config = next(r.value for r in recording() if r.topic == TOPIC_CONFIG)
    result = decode(Book(), [config or b"", moved.value])
    assert not result.rejections
    assert result.batches[0].t_ns[0] == NOW_NS + 1_000_000_000_000


def test_configurations_and_bytes_that_are_no_frames_are_not_touched() -> None:
    config, in_band = list(recording())[:2]
    assert restamp(config, 5) == config
    assert restamp(in_band, 5).value == in_band.value
    garbage = Record(TOPIC_FRAMES, 0, 0, 0, b"north", b"garbage \xaa\x01\x00")
    assert restamp(garbage, 5).value == garbage.value
    broken = Record(TOPIC_SCADA, 0, 0, 0, b"north", b"{")
    assert restamp(broken, 5).value == b"{"


def test_every_point_of_a_batch_is_moved() -> None:
    batch = encode(ScadaPoints("north", 1, NOW_NS).batch(NOW_NS))
    moved = restamp(Record(TOPIC_SCADA, 0, 0, NOW_NS // 1_000_000, b"north", batch), 60)
    times = {point["ts_us"] for point in orjson.loads(moved.value or b"")["points"]}
    assert times == {NOW_NS // 1000 + 60_000_000}


def test_restamped_to_now_the_first_frame_is_never_from_the_future() -> None:
    clock = ManualClock(NOW_NS + 86_400_250_000_000)
    frames = [r for r in played(clock, now=True) if r.topic == TOPIC_FRAMES]
    assert frames[0].ts_ms - clock.wall_ns() // 1_000_000 in range(751)
    steps = {b.ts_ms - a.ts_ms for a, b in zip(frames[1:], frames[2:], strict=False)}
    assert steps == {33, 34}


def test_without_restamp_nothing_is_changed() -> None:
    assert played(ManualClock()) == list(recording())


def test_a_second_round_follows_the_first_in_time() -> None:
    memory, rounds, stop = Memory(), 0, asyncio.Event()

    def read() -> Iterator[Record]:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            stop.set()
        return recording()

    asyncio.run(replay(read, memory, loop=True, clock=ManualClock(), stop=stop))  # type: ignore[arg-type]
    frames = [r for r in memory.records if r.topic == TOPIC_FRAMES]
    n_frame = len(frames) // 2
    gap_ms = frames[n_frame].ts_ms - frames[n_frame - 1].ts_ms
    assert 0 < gap_ms <= 1100
    assert frames[n_frame]._replace(ts_ms=frames[0].ts_ms) == frames[0]  # its configuration


def test_the_pace_is_that_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOW_NS)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    played(clock, speed=2.0)
    assert sum(slept) == pytest.approx(29 / 30 / 2, abs=0.03)


def test_a_speed_is_max_or_a_positive_multiple() -> None:
    assert parse_speed("max") is None
    assert parse_speed("1x") == 1.0
    assert parse_speed("10") == 10.0
    for word in ("0x", "-1", "fast", "nan"):
        with pytest.raises(typer.BadParameter):
            parse_speed(word)

"""Time alignment, as a phasor data concentrator does it (terms as in IEEE C37.247), in the time of the data.

Frames of one reporting instant arrive in any order, some late, some twice, some never. An instant closes when everyone
who is alive has reported, or when the stream clock is `wait_ms` past it; instants close in order. A frame that comes
later is counted and dropped: changing an instant that was already scored would make a replay differ from the live run.

        wait_ms
      |<------->|
  A ──●─────────┐            t0 leaves with A, B; C is NaN
  B ──────●─────┤
  C ────────────┼──x         late: counted, dropped

The stream clock is the largest time of the accepted frames; no other clock is read. A frame further ahead than `lead_ms`
(or more than a minute behind) is held apart: one wrong clock moves time for nobody else. Only `reanchor_count` such
frames in a row that agree among themselves, with none in time between them, move the clock there; they are then taken in.

A PMU is expected while it has sent any of the instants of the last `ABSENT_S`, in time or late: one that comes back, and
comes last, is waited for again after its first late frame.

Everything is per frame and vectorised over frames and PMUs; the loop over instants is over ticks, and a frame that is
out of time takes a slower way. Any split of the same frames into batches gives the same instants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from streamproc.core.quality import DISCARDED
from streamproc.values import F64, I64, U32, Bool

ABSENT_S = 2.0  # a PMU that was in none of the instants of this time is not waited for
BACK_S = 60.0  # a frame further behind the stream clock than this has a wrong clock, not a long way
GAP_ROWS_MAX = 4096  # empty instants put out when the clock jumps; longer gaps restart the area
N_VALUE = 4
FREQ, ROCOF, VOLT, ANGLE = range(N_VALUE)  # last axis of the values: Hz, Hz/s, V, rad
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """The PDC settings, in instants of the reporting grid."""

    rate_hz: float
    wait: int
    lead: int
    back: int
    absent: int
    reanchor_count: int

    @classmethod
    def of(cls, rate_hz: float, wait_ms: float, lead_ms: float, reanchor_count: int) -> AlignSettings:
        """Return the settings for a reporting rate."""

        def instants(time_s: float) -> int:
            return max(1, int(np.ceil(time_s * rate_hz - 1e-9)))

        return cls(
            rate_hz,
            instants(wait_ms / 1e3),
            instants(lead_ms / 1e3),
            instants(BACK_S),
            instants(ABSENT_S),
            reanchor_count,
        )


@dataclass(frozen=True, slots=True)
class Samples:
    """What arrived, one row per PMU and frame, in arrival order. `frame` is non-decreasing from 0."""

    frame: I64  # (n_sample,)
    column: I64  # (n_sample,) PMU
    instant: I64  # (n_frame,) grid instant of each frame
    value: F64  # (n_sample, N_VALUE)
    quality: U32  # (n_sample,)
    record: I64  # (n_frame,) index of the record that brought each frame, -1: of an earlier batch

    def of_frames(self, frames: I64) -> Samples:
        """Return only these frames, renumbered; `frames` is increasing."""
        renumber = np.full(self.instant.size, -1, dtype=np.int64)
        renumber[frames] = np.arange(frames.size)
        kept = renumber[self.frame] >= 0
        return Samples(
            renumber[self.frame[kept]],
            self.column[kept],
            self.instant[frames],
            self.value[kept],
            self.quality[kept],
            self.record[frames],
        )

    def then(self, later: Samples) -> Samples:
        """Return both, one after the other."""
        return Samples(
            np.concatenate([self.frame, later.frame + self.instant.size]),
            np.concatenate([self.column, later.column]),
            np.concatenate([self.instant, later.instant]),
            np.concatenate([self.value, later.value]),
            np.concatenate([self.quality, later.quality]),
            np.concatenate([self.record, later.record]),
        )


def no_samples() -> Samples:
    """Return nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Samples(none, none, none, np.zeros((0, N_VALUE)), np.zeros(0, dtype=np.uint32), none)


@dataclass(frozen=True, slots=True)
class AlignState:
    """Memory between batches. Instant numbers are of the grid; -1 = none yet."""

    clock: int  # largest accepted instant
    next_open: int  # every instant before it is closed
    seen: I64  # (n_pmu,) newest closed instant that a PMU has sent, in time or late, when the last one closed
    arrived: I64  # (n_pmu,) the same by now
    waiting: Samples  # accepted, their instants are still open; first of each (instant, PMU) only
    held: Samples  # out of time, in a row
    wrong_column: I64  # (n,) PMU of each frame given up as wrong clock within the last second,
    wrong_instant: I64  # and the stream clock when it was given up
    lag_count: I64  # (n_pmu,) arrival statistics: frames,
    lag_sum_s: F64  # their lag behind the stream clock at arrival,
    lag_max_s: F64  # and its largest

    @classmethod
    def fresh(cls, n_pmu: int) -> AlignState:
        """Return the state before any frame."""
        ints = np.zeros(n_pmu, dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        zeros = np.zeros(n_pmu)
        return cls(-1, -1, ints - 1, ints - 1, no_samples(), no_samples(), none, none, ints, zeros, zeros)


@dataclass(frozen=True, slots=True)
class Aligned:
    """Closed instants, oldest first. `restart`: time jumped before the first of them, windows must begin anew."""

    instant: I64  # (n,)
    value: F64  # (n, n_pmu, N_VALUE), NaN where no frame came
    quality: U32  # (n, n_pmu), DISCARDED where no frame came
    wait: I64  # (n,) how many instants the stream clock was ahead when it closed
    record: I64  # (n,) index of the record that closed it
    missing: int  # expected PMUs that were not there, over all instants
    late: int = 0
    duplicate: int = 0
    wrong_clock: Bool = field(
        default_factory=lambda: np.zeros((0, 0), dtype=np.bool_)
    )  # (n, n_pmu) in the second before
    wrong_clock_count: int = 0
    restart: bool = False


def align(state: AlignState, samples: Samples, settings: AlignSettings) -> tuple[AlignState, list[Aligned]]:
    """Return the state after these frames, and what they closed: one piece for each stretch of unbroken time."""
    pieces: list[Aligned] = []
    for part in _in_time(state, samples, settings):
        if part.jump is not None:
            state, closed = _close(state, no_samples(), settings, flush=True)
            pieces.append(replace(closed, record=np.full_like(closed.instant, part.accepted.record[0])))
            state = replace(state, clock=part.jump, next_open=part.jump, waiting=no_samples())
            state = replace(state, seen=np.full_like(state.seen, -1), arrived=np.full_like(state.seen, -1))
        state = replace(
            state,
            held=replace(part.held, record=np.full_like(part.held.record, -1)),
            wrong_column=np.concatenate([state.wrong_column, part.wrong_column]),
            wrong_instant=np.concatenate([state.wrong_instant, part.wrong_instant]),
        )
        state, closed = _close(state, part.accepted, settings, flush=False)
        restart = part.jump is not None
        pieces.append(replace(closed, wrong_clock_count=part.wrong_frames, restart=restart))
    return state, pieces


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of frames without a jump of time."""

    accepted: Samples
    held: Samples
    jump: int | None  # where the clock jumps to before it
    wrong_column: I64  # given up as wrong clock: PMU of each sample,
    wrong_instant: I64  # and the stream clock at that moment
    wrong_frames: int


def _in_time(state: AlignState, samples: Samples, settings: AlignSettings) -> Iterator[_Part]:
    if samples.instant.size == 0:
        return
    first_ever = state.clock < 0
    start = int(samples.instant[0]) if first_ever else state.clock
    ahead_of = np.maximum.accumulate(np.concatenate([[start], samples.instant]))[:-1]
    in_time = (samples.instant <= ahead_of + settings.lead) & (samples.instant >= ahead_of - settings.back)
    jump = start if first_ever else None
    if in_time.all() and state.held.instant.size == 0:
        none = np.zeros(0, dtype=np.int64)
        yield _Part(samples, state.held, jump, none, none, 0)
        return
    yield from _one_by_one(start, jump, state.held.then(samples), state.held.instant.size, settings)


def _one_by_one(
    clock: int, jump: int | None, samples: Samples, n_held: int, settings: AlignSettings
) -> Iterator[_Part]:
    """The slower way, frame by frame: at least one of them is out of time. The first `n_held` are held already."""
    instants = samples.instant.tolist()
    accepted: list[int] = []
    wrong: list[tuple[int, int]] = []  # frame, stream clock
    held = list(range(n_held))
    for index in range(n_held, len(instants)):
        instant = instants[index]
        if clock - settings.back <= instant <= clock + settings.lead:
            wrong += [(frame, clock) for frame in held]
            held = []
            accepted.append(index)
            clock = max(clock, instant)
            continue
        held.append(index)
        if len(held) > settings.reanchor_count:
            wrong.append((held.pop(0), clock))
        recent = [instants[frame] for frame in held]
        if len(recent) < settings.reanchor_count or max(recent) - min(recent) > settings.lead:
            continue
        yield _part(samples, accepted, [], wrong, jump)
        jump, clock = min(recent), max(recent)
        accepted, wrong, held = held, [], []
        samples.record[accepted] = samples.record[index]  # all of them are taken in because of this one
    yield _part(samples, accepted, held, wrong, jump)


def _part(
    samples: Samples, accepted: list[int], held: list[int], wrong: list[tuple[int, int]], jump: int | None
) -> _Part:
    given_up = samples.of_frames(np.array([frame for frame, _ in wrong], dtype=np.int64))
    clocks = np.array([clock for _, clock in wrong], dtype=np.int64)
    return _Part(
        samples.of_frames(np.array(accepted, dtype=np.int64)),
        samples.of_frames(np.array(held, dtype=np.int64)),
        jump,
        given_up.column,
        clocks[given_up.frame],
        len(wrong),
    )


def _close(
    state: AlignState, samples: Samples, settings: AlignSettings, *, flush: bool
) -> tuple[AlignState, Aligned]:
    """Take in frames that are in time, and close what they close; with `flush`, everything that is open."""
    n_pmu, n_frame = state.seen.size, samples.instant.size
    clock = np.maximum.accumulate(
        np.concatenate([[state.clock], samples.instant])
    )  # clock[f + 1]: after frame f
    state = _with_lag(state, samples, clock[1:], settings.rate_hz)
    every = _with_waiting(state.waiting, samples)
    first_ever = state.clock < 0
    n_open = 0 if first_ever else max(0, int(clock[-1]) + 1 - state.next_open)
    arrival = _arrivals(every, state.next_open - settings.absent, settings.absent + n_open, n_pmu)
    deadline = np.searchsorted(clock[1:], state.next_open + np.arange(n_open) + settings.wait)
    closed_at, seen, missing = _closings(arrival, deadline, state, settings, n_frame, flush=flush)

    n_closed = closed_at.size
    row = every.instant - state.next_open
    on_time, first = _on_time_and_first(every, row, closed_at, n_pmu)
    taken = first & (row < n_closed)
    value = np.full((n_closed, n_pmu, N_VALUE), np.nan)
    quality = np.full((n_closed, n_pmu), DISCARDED, dtype=np.uint32)
    value[row[taken], every.column[taken]] = every.value[taken]
    quality[row[taken], every.column[taken]] = every.quality[taken]
    numbers = np.arange(n_closed) + state.next_open
    wrong_clock, recent = _wrong_in_rows(state, numbers, n_pmu, settings.rate_hz)
    ahead = clock[np.minimum(closed_at + 1, n_frame)] - numbers if n_closed else numbers
    arrived = state.arrived.copy()
    past = row < n_closed
    np.maximum.at(arrived, every.column[past], every.instant[past])
    after = replace(
        state,
        clock=int(clock[-1]),
        next_open=state.next_open + n_closed,
        seen=seen,
        arrived=arrived,
        wrong_column=state.wrong_column[recent],
        wrong_instant=state.wrong_instant[recent],
        waiting=_only(every, np.flatnonzero(first & ~taken)),
    )
    late, duplicate = int((~on_time).sum()), int((on_time & ~first).sum())
    cause = samples.record[closed_at] if n_frame else np.full(n_closed, -1, dtype=np.int64)
    return after, Aligned(numbers, value, quality, ahead, cause, missing, late, duplicate, wrong_clock)


def _with_waiting(waiting: Samples, samples: Samples) -> Samples:
    """Return all samples with the instant of each sample; those that wait arrived before the first frame: frame -1."""
    return Samples(
        np.concatenate([np.full(waiting.frame.size, -1, dtype=np.int64), samples.frame]),
        np.concatenate([waiting.column, samples.column]),
        np.concatenate([waiting.instant[waiting.frame], samples.instant[samples.frame]]),
        np.concatenate([waiting.value, samples.value]),
        np.concatenate([waiting.quality, samples.quality]),
        samples.record,
    )


def _only(every: Samples, kept: I64) -> Samples:
    """Return these samples as what waits, each a frame of its own."""
    frame = np.arange(kept.size, dtype=np.int64)
    earlier = np.full(kept.size, -1, dtype=np.int64)
    return Samples(
        frame, every.column[kept], every.instant[kept], every.value[kept], every.quality[kept], earlier
    )


def _on_time_and_first(every: Samples, row: I64, closed_at: I64, n_pmu: int) -> tuple[Bool, Bool]:
    """Return which samples came before their instant closed, and which of those are the first of their PMU."""
    on_time = row >= 0
    of_closed = np.flatnonzero(on_time & (row < closed_at.size))
    on_time[of_closed] = every.frame[of_closed] <= closed_at[row[of_closed]]
    first = np.zeros(row.size, dtype=np.bool_)
    index = np.flatnonzero(on_time)
    # First of each (instant, PMU) in arrival order: np.unique returns the first place of each value.
    _, place = np.unique(row[index] * n_pmu + every.column[index], return_index=True)
    first[index[place]] = True
    return on_time, first


def _arrivals(every: Samples, base: int, n_row: int, n_pmu: int) -> I64:
    """Return at which frame each (instant from `base` on, PMU) arrived first; `_NEVER` where it did not."""
    arrival = np.full((n_row, n_pmu), _NEVER, dtype=np.int64)
    row = every.instant - base
    inside = (row >= 0) & (row < n_row)
    np.minimum.at(arrival, (row[inside], every.column[inside]), every.frame[inside])
    return arrival


def _wrong_in_rows(state: AlignState, numbers: I64, n_pmu: int, rate_hz: float) -> tuple[Bool, Bool]:
    """Return which PMU had a wrong clock in the second before each row, and which of these marks are still of use.

    Only marks set before the clock reached the row count: all of those are known when the row closes, in any batch.
    """
    second = max(1, round(rate_hz))
    marked = np.zeros((numbers.size, n_pmu), dtype=np.bool_)
    age = numbers[:, None] - state.wrong_instant[None, :]  # (n_row, n_mark)
    row, mark = np.nonzero((age > 0) & (age <= second))
    marked[row, state.wrong_column[mark]] = True
    next_row = (int(numbers[-1]) + 1) if numbers.size else state.next_open
    return marked, np.asarray(next_row - state.wrong_instant <= second)


def _closings(
    arrival: I64, deadline: I64, state: AlignState, settings: AlignSettings, n_frame: int, *, flush: bool
) -> tuple[I64, I64, int]:
    """Return at which frame each instant closes (as many as do), who is alive after the last, and how many were missing.

    The first `absent` rows of `arrival` are instants that are closed already: their late frames tell who is alive.
    """
    seen, previous, missing = state.seen, -1, 0
    closed_at: list[int] = []
    base = state.next_open - settings.absent
    number = base + np.arange(arrival.shape[0])[:, None]  # (n_row, 1)
    for row in range(settings.absent, arrival.shape[0]):
        expected = (seen >= base + row - settings.absent) & (seen >= 0)
        complete = int(arrival[row][expected].max()) if expected.any() else _NEVER
        at = max(previous, min(int(deadline[row - settings.absent]), complete))
        if flush:
            at = min(at, n_frame)
        elif at >= n_frame:
            break
        recent = slice(row - settings.absent, row + 1)
        sent = np.where(arrival[recent] <= at, number[recent], -1).max(axis=0)
        seen = np.maximum(np.maximum(seen, state.arrived), sent)
        missing += int((expected & (arrival[row] > at)).sum())
        closed_at.append(at)
        previous = at
    return np.array(closed_at, dtype=np.int64), seen, missing


def _with_lag(state: AlignState, samples: Samples, clock: I64, rate_hz: float) -> AlignState:
    if samples.frame.size == 0:
        return state
    lag_s = ((clock - samples.instant) / rate_hz)[samples.frame]
    count, total, largest = state.lag_count.copy(), state.lag_sum_s.copy(), state.lag_max_s.copy()
    np.add.at(count, samples.column, 1)
    np.add.at(total, samples.column, lag_s)
    np.maximum.at(largest, samples.column, lag_s)
    return replace(state, lag_count=count, lag_sum_s=total, lag_max_s=largest)

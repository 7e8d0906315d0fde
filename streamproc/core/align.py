"""Time alignment, as a phasor data concentrator does it (terms as in IEEE C37.247), in the time of the data.

Frames of one reporting instant arrive in any order, some late, some twice, some never. An instant closes when everyone
who is alive has reported, or when the stream clock is `wait_ms` past it; instants close in order. A frame that comes
later is counted and dropped: changing an instant that was already scored would make a replay differ from the live run.

        wait_ms
      |<------->|
  A ──●─────────┐            t0 leaves with A, B; C is NaN
  B ──────●─────┤
  C ────────────┼──x         late: counted, dropped

What time it is, and whose frames are believed, is `stream_clock`'s business: one wrong clock moves time for nobody else.

A PMU is expected while it has sent any of the instants of the last `ABSENT_S`, in time or late: one that comes back, and
comes last, is waited for again after its first late frame.

Everything is per frame and vectorised over frames and PMUs; the loop over instants is over ticks. Any split of the same
frames into batches gives the same instants.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from streamproc.core.quality import DISCARDED
from streamproc.core.samples import N_VALUE, Samples, no_samples, taken
from streamproc.core.stream_clock import AlignSettings, ClockState, read_clock
from streamproc.values import F64, I64, U32, Bool

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class AlignState:
    """Memory between batches. Instant numbers are of the grid; -1 = none yet."""

    clock: int  # largest accepted instant
    next_open: int  # every instant before it is closed
    seen: I64  # (n_pmu,) newest closed instant that a PMU has sent, in time or late, when the last one closed
    arrived: I64  # (n_pmu,) the same by now
    waiting: Samples  # accepted, their instants are still open; first of each (instant, PMU) only
    time: ClockState
    wrong_column: I64  # (n,) PMU of each frame given up as wrong clock within the last second,
    wrong_instant: I64  # and the stream clock when it was given up
    lag_count: I64  # (n_pmu,) arrival statistics: frames,
    lag_sum_s: F64  # their lag behind the stream clock at arrival,
    lag_max_s: F64  # and its largest
    leapt: bool = False  # time leapt, and nothing has closed since

    @classmethod
    def fresh(cls, n_pmu: int) -> AlignState:
        """Return the state before any frame."""
        ints = np.zeros(n_pmu, dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        zeros = np.zeros(n_pmu)
        return cls(
            -1, -1, ints - 1, ints - 1, no_samples(), ClockState.fresh(n_pmu), none, none, ints, zeros, zeros
        )

    def take(self, index: I64, moved: I64) -> AlignState:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones, `moved` the inverse."""
        fresh = AlignState.fresh(index.size)
        kept = {name: taken(getattr(self, name), getattr(fresh, name), index) for name in PER_PMU}
        waiting = replace(self.waiting, column=moved[self.waiting.column])
        time = self.time.take(index, moved)
        return replace(self, waiting=waiting, time=time, wrong_column=moved[self.wrong_column], **kept)


PER_PMU = ("seen", "arrived", "lag_count", "lag_sum_s", "lag_max_s")


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
    for part in read_clock(state.time, samples, settings):
        if part.jump is not None:
            cause = int(part.accepted.record[0])
            leapt = state.leapt
            state, closed = _leave(state, part.jump, settings)
            restart = leapt and closed.instant.size > 0
            pieces.append(replace(closed, record=np.full_like(closed.instant, cause), restart=restart))
        state = replace(
            state,
            wrong_column=np.concatenate([state.wrong_column, part.wrong_column]),
            wrong_instant=np.concatenate([state.wrong_instant, part.wrong_instant]),
        )
        state, closed = _close(state, part.accepted, settings, flush=False)
        # What closes first after a leap of time says so, whenever that is.
        restart = state.leapt and closed.instant.size > 0
        state = replace(state, time=part.state, leapt=state.leapt and not restart)
        pieces.append(replace(closed, wrong_clock_count=part.wrong_frames, restart=restart))
    return state, pieces


def _leave(state: AlignState, jump: int, settings: AlignSettings) -> tuple[AlignState, Aligned]:
    """Close everything that is open, and, when time leaps ahead, the first empty instants of the gap; begin anew."""
    if state.clock >= 0 and jump > state.clock:
        state = replace(state, clock=state.clock + settings.gap)
    state, closed = _close(state, no_samples(), settings, flush=True)
    nobody = np.full_like(state.seen, -1)
    after = replace(
        state, clock=jump, next_open=jump, waiting=no_samples(), seen=nobody, arrived=nobody, leapt=True
    )
    return after, closed


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

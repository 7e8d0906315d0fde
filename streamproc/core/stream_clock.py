"""What time is it in the stream? The clock of an area follows the majority of its sources, never a single one.

No other clock is read, so the time of the stream must come from the frames themselves, and any of them may be wrong: a
receiver that is a second off after a leap second, one bit in SOC. A frame is

    in time      from `wait` behind the clock to `lead` ahead of it: it may move the clock
    behind       further behind, up to `BACK_S`: late. It moves nothing; who it came from is noted
    apart        further ahead, or further behind: held, not believed

    clock ─────────┬───────┬─────────────> time
      apart │ behind│ in time │ apart

**Held frames are believed** when those who hold them, at about the same time, are more than those who are in time and alive
(`reanchor_count` frames at least): after an outage of everyone the first few frames wait for each other, a hundredth of a
second in an area, and nothing is lost. Whoever has not been heard while the held time advanced by `ABSENT_S` has no vote. A
source that is in time again takes back what it said: its held frames had a wrong clock. Held frames that are not believed
within `ABSENT_S` of their source's time had a wrong clock, too.

**The clock goes back** when more sources are behind, for `ABSENT_S`, than are in time: it was anchored by a wrong one.

Time that jumps by more than `GAP_S`, or goes back, begins anew (`jump`): windows of before say nothing about after. Within
`GAP_S` the missing instants are put out empty.

A source is a stream: the first PMU of its frames stands for it. Everything here is a function of the order of frames, so any
split into batches gives the same. While all frames are in time the work is vectorised; else frames are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.samples import Samples, no_samples, taken
from streamproc.values import I64

ABSENT_S = 2.0  # a PMU that was in none of the instants of this time is not waited for, and has no vote
BACK_S = 60.0  # a frame further behind the stream clock than this has a wrong clock, not a long way
GAP_S = 10.0  # empty instants put out when the clock jumps ahead; after a longer gap the area begins anew
LEAD_FRAMES = 3  # so many frames ahead is always in time: at low rates the next but one is a long time away


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """The PDC settings, in instants of the reporting grid."""

    rate_hz: float
    wait: int
    lead: int
    back: int
    absent: int
    gap: int
    reanchor_count: int

    @classmethod
    def of(cls, rate_hz: float, wait_ms: float, lead_ms: float, reanchor_count: int) -> AlignSettings:
        """Return the settings for a reporting rate."""

        def instants(time_s: float) -> int:
            return max(1, int(np.ceil(time_s * rate_hz - 1e-9)))

        return cls(
            rate_hz,
            instants(wait_ms / 1e3),
            max(LEAD_FRAMES, instants(lead_ms / 1e3)),
            instants(BACK_S),
            instants(ABSENT_S),
            instants(GAP_S),
            reanchor_count,
        )


@dataclass(frozen=True, slots=True)
class ClockState:
    """Memory of the clock. Instants are of the grid, -1 = none; arrays of sources are (n_pmu,)."""

    now: int  # largest instant that was believed
    held: Samples  # frames apart, not believed yet
    held_now: I64  # (n_frame,) the clock when each of them came
    in_time: I64  # newest instant in time of each source
    behind_from: I64  # first and newest instant of each source that is behind and has not been in time since
    behind_to: I64
    behind_count: I64

    @classmethod
    def fresh(cls, n_pmu: int) -> ClockState:
        """Return the state before any frame."""
        none = np.full(n_pmu, -1, dtype=np.int64)
        return cls(-1, no_samples(), none[:0], none, none, none, np.zeros(n_pmu, dtype=np.int64))

    def take(self, index: I64, moved: I64) -> ClockState:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones, `moved` the inverse."""
        fresh = ClockState.fresh(index.size)
        kept = {name: taken(getattr(self, name), getattr(fresh, name), index) for name in PER_SOURCE}
        return replace(self, held=replace(self.held, column=moved[self.held.column]), **kept)


PER_SOURCE = ("in_time", "behind_from", "behind_to", "behind_count")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of frames that were believed, in order."""

    state: ClockState  # after it
    accepted: Samples
    jump: int | None  # where the clock jumps to before it
    wrong_column: I64  # given up as wrong clock: PMU of each sample,
    wrong_instant: I64  # and the stream clock at that moment
    wrong_frames: int


def sources_of(samples: Samples) -> I64:
    """Return (n_frame,) the first PMU of each frame."""
    found = np.full(samples.instant.size, -1, dtype=np.int64)
    found[samples.frame[::-1]] = samples.column[::-1]
    return found


def read_clock(state: ClockState, samples: Samples, settings: AlignSettings) -> Iterator[Part]:
    """Yield the frames that are believed, one part for each stretch of time without a leap."""
    if samples.instant.size == 0:
        return
    jump = int(samples.instant[0]) if state.now < 0 else None
    start = state.now if jump is None else jump
    before = np.maximum.accumulate(np.concatenate([[start], samples.instant]))[:-1]
    in_time = (samples.instant <= before + settings.lead) & (samples.instant >= before - settings.wait)
    if not in_time.all() or state.held.instant.size:
        yield from _OneByOne(state, start, jump, samples, settings).run()
        return
    source = sources_of(samples)
    arrays = [
        state.in_time.copy(),
        state.behind_from.copy(),
        state.behind_to.copy(),
        state.behind_count.copy(),
    ]
    arrays[0][source] = samples.instant  # of several frames of a source the last one stays
    for array, blank in zip(arrays[1:], (-1, -1, 0), strict=True):
        array[source] = blank
    now = max(start, int(samples.instant.max()))
    none = np.zeros(0, dtype=np.int64)
    yield Part(ClockState(now, state.held, state.held_now, *arrays), samples, jump, none, none, 0)


class _OneByOne:
    """The slower way: frame by frame, as soon as one of them is out of time."""

    def __init__(
        self, state: ClockState, now: int, jump: int | None, samples: Samples, settings: AlignSettings
    ) -> None:
        self._settings = settings
        self._first = state.held.instant.size
        self._samples = state.held.then(samples)
        self._instant: list[int] = self._samples.instant.tolist()
        self._source: list[int] = sources_of(self._samples).tolist()
        self._now, self._jump = now, jump
        self._held: dict[int, list[int]] = {}  # source -> its held frames
        self._held_now = dict(enumerate(state.held_now.tolist()))
        for frame in range(self._first):
            self._held.setdefault(self._source[frame], []).append(frame)
        self._in_time: list[int] = state.in_time.tolist()
        self._behind_from: list[int] = state.behind_from.tolist()
        self._behind_to: list[int] = state.behind_to.tolist()
        self._behind_count: list[int] = state.behind_count.tolist()
        self._accepted: list[int] = []
        self._wrong: list[tuple[int, int]] = []  # frame, stream clock

    def run(self) -> Iterator[Part]:
        """Yield the parts."""
        for frame in range(self._first, len(self._instant)):
            ahead = self._instant[frame] - self._now
            if -self._settings.back <= ahead < -self._settings.wait:
                yield from self._take_behind(frame)
            elif -self._settings.wait <= ahead <= self._settings.lead:
                self._take_in_time(frame)
            else:
                yield from self._hold(frame)
        yield self._part()

    def _take_in_time(self, frame: int) -> None:
        source, instant = self._source[frame], self._instant[frame]
        self._give_up(self._held.pop(source, []))
        self._forget_behind(source)
        self._in_time[source] = instant
        self._accepted.append(frame)
        self._now = max(self._now, instant)

    def _take_behind(self, frame: int) -> Iterator[Part]:
        """Take in a late frame; it counts against the clock."""
        source, instant = self._source[frame], self._instant[frame]
        self._give_up(self._held.pop(source, []))
        self._accepted.append(frame)
        if self._behind_count[source] == 0:
            self._behind_from[source] = instant
        self._behind_to[source] = instant
        self._behind_count[source] += 1
        settings = self._settings
        behind = [s for s, to in enumerate(self._behind_to) if to >= 0 and abs(to - instant) <= settings.lead]
        from_ = min(self._behind_from[s] for s in behind)
        lasting = instant - from_ >= settings.absent
        enough = sum(self._behind_count[s] for s in behind) >= settings.reanchor_count
        if not (lasting and enough and len(behind) > len(self._voters(behind))):
            return
        self._accepted.pop()
        yield self._part()
        self._accepted = [frame]
        self._jump = self._now = instant
        for s in range(len(self._in_time)):
            ahead = self._in_time[s] > instant + settings.lead
            self._in_time[s] = self._behind_to[s] if s in behind else -1 if ahead else self._in_time[s]
            self._forget_behind(s)

    def _hold(self, frame: int) -> Iterator[Part]:
        """Hold a frame; believe it, and those beside it, when they are the majority."""
        settings, source, instant = self._settings, self._source[frame], self._instant[frame]
        own = self._held.setdefault(source, [])
        own.append(frame)
        self._held_now[frame] = self._now
        if len(own) > max(settings.absent + 1, settings.reanchor_count):
            self._give_up([own.pop(0)])
        beside = [s for s, f in self._held.items() if abs(self._instant[f[-1]] - instant) <= settings.lead]
        frames = sorted(f for s in beside for f in self._held[s])
        if len(frames) < settings.reanchor_count or len(beside) <= len(self._against(beside, frames)):
            return
        for s in beside:
            del self._held[s]
        near = settings.absent + settings.lead + 1
        believed = [f for f in frames if abs(self._instant[f] - instant) <= near]
        self._give_up([f for f in frames if f not in set(believed)])
        yield self._part()
        self._believe(believed, frame)

    def _believe(self, frames: list[int], cause: int) -> None:
        """Go on from these frames; all of them are taken in because of the last one."""
        first = min(self._instant[f] for f in frames)
        leap = first - self._now
        self._jump = None if 0 < leap <= self._settings.gap + 1 else first
        self._now = max(self._instant[f] for f in frames)
        self._accepted = frames
        self._samples.record[frames] = self._samples.record[cause]
        for f in frames:
            self._in_time[self._source[f]] = self._instant[f]
            self._forget_behind(self._source[f])

    def _against(self, beside: list[int], frames: list[int]) -> list[int]:
        """Return the sources whose time speaks against these: none, if the clock stood still for all of theirs."""
        first = min(frames, key=lambda f: self._instant[f])
        span = self._instant[frames[-1]] - self._instant[first]
        if span >= self._settings.absent and self._held_now[first] == self._now:
            return []
        return self._voters(beside)

    def _voters(self, others: list[int]) -> list[int]:
        """Return the sources that were in time lately, without these."""
        since = self._now - self._settings.absent
        return [s for s, at in enumerate(self._in_time) if at >= max(since, 0) and s not in others]

    def _give_up(self, frames: list[int]) -> None:
        self._wrong += [(frame, self._now) for frame in frames]

    def _forget_behind(self, source: int) -> None:
        self._behind_from[source] = self._behind_to[source] = -1
        self._behind_count[source] = 0

    def _part(self) -> Part:
        """Return what was believed since the last part, and begin the next."""
        held = sorted(frame for frames in self._held.values() for frame in frames)
        given_up = self._samples.of_frames(np.array([frame for frame, _ in self._wrong], dtype=np.int64))
        clocks = np.array([clock for _, clock in self._wrong], dtype=np.int64)
        still = self._samples.of_frames(np.array(held, dtype=np.int64))
        still.record[:] = -1
        state = ClockState(
            self._now,
            still,
            np.array([self._held_now[frame] for frame in held], dtype=np.int64),
            np.array(self._in_time, dtype=np.int64),
            np.array(self._behind_from, dtype=np.int64),
            np.array(self._behind_to, dtype=np.int64),
            np.array(self._behind_count, dtype=np.int64),
        )
        accepted = self._samples.of_frames(np.array(self._accepted, dtype=np.int64))
        wrong = (given_up.column, clocks[given_up.frame], len(self._wrong))
        part = Part(state, accepted, self._jump, *wrong)
        self._jump, self._accepted, self._wrong = None, [], []
        return part

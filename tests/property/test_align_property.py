"""Protects determinism: however frames are batched, the same instants come out; and no frame is lost without a count."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.align import Aligned, AlignState, align
from streamproc.core.samples import N_VALUE, Samples
from streamproc.core.stream_clock import AlignSettings

N_PMU = 4
SETTINGS = AlignSettings.of(rate_hz=10.0, wait_ms=300, lead_ms=300, reanchor_count=5)
START = 100_000

# One frame of one PMU: (PMU, how far its time is from where the stream is)
frames = st.lists(
    st.tuples(
        st.integers(0, N_PMU - 1),
        st.one_of(st.integers(-6, 2), st.sampled_from([0, 0, 0, 864_000, -50_000, 5, 15, 25, -9, 130])),
    ),
    min_size=1,
    max_size=120,
)


def samples_of(chosen: list[tuple[int, int]]) -> Samples:
    column = np.array([pmu for pmu, _ in chosen], dtype=np.int64)
    instant = np.array([START + i // N_PMU + offset for i, (_, offset) in enumerate(chosen)], dtype=np.int64)
    value = np.repeat(np.arange(len(chosen), dtype=np.float64)[:, None], N_VALUE, axis=1)
    number = np.arange(len(chosen))
    return Samples(number, column, instant, value, np.zeros(len(chosen), dtype=np.uint32), number)


def run(samples: Samples, cuts: list[int]) -> tuple[AlignState, list[Aligned]]:
    state = AlignState.fresh(N_PMU)
    pieces: list[Aligned] = []
    bounds = [0, *sorted(cuts), samples.instant.size]
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        state, more = align(state, samples.of_frames(np.arange(start, stop)), SETTINGS)
        pieces += more
    return state, pieces


def told(pieces: list[Aligned]) -> tuple[bytes, ...]:
    rows = [
        (
            int(p.instant[i]),
            p.value[i].tobytes(),
            p.quality[i].tobytes(),
            int(p.wait[i]),
            p.wrong_clock[i].tobytes(),
            p.restart and i == 0,
        )
        for p in pieces
        for i in range(p.instant.size)
    ]
    sums = [sum(getattr(p, n) for p in pieces) for n in ("missing", "late", "duplicate", "wrong_clock_count")]
    return (*(repr(row).encode() for row in rows), repr(sums).encode())


@given(frames, st.lists(st.integers(0, 120), max_size=8))
@settings(max_examples=300, deadline=None)
def test_any_split_into_batches_gives_the_same_instants(
    chosen: list[tuple[int, int]], cuts: list[int]
) -> None:
    samples = samples_of(chosen)
    cuts = [min(cut, len(chosen)) for cut in cuts]
    whole_state, whole = run(samples, [])
    split_state, split = run(samples, cuts)
    assert told(split) == told(whole)
    assert split_state.clock == whole_state.clock
    assert split_state.next_open == whole_state.next_open
    np.testing.assert_array_equal(split_state.lag_count, whole_state.lag_count)


@given(frames)
@settings(max_examples=200, deadline=None)
def test_every_frame_is_taken_in_counted_or_waiting(chosen: list[tuple[int, int]]) -> None:
    samples = samples_of(chosen)
    state, pieces = run(samples, [])
    scored = sum(int(np.isfinite(p.value[:, :, 0]).sum()) for p in pieces)
    counted = sum(p.late + p.duplicate + p.wrong_clock_count for p in pieces)
    still = state.waiting.column.size + state.time.held.column.size
    assert scored + counted + still == len(chosen)


@given(frames)
@settings(max_examples=200, deadline=None)
def test_instants_close_in_order_and_once(chosen: list[tuple[int, int]]) -> None:
    _, pieces = run(samples_of(chosen), [])
    run_of_time: list[int] = []
    for piece in pieces:
        if piece.restart:
            run_of_time = []
        run_of_time += piece.instant.tolist()
        assert (
            run_of_time == list(range(run_of_time[0], run_of_time[0] + len(run_of_time)))
            if run_of_time
            else True
        )

"""Protects time alignment: who waits for whom, what is late, and what a wrong clock may do to others (nothing)."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.align import Aligned, AlignState, align
from streamproc.core.grid import from_grid, to_grid
from streamproc.core.samples import N_VALUE, Samples
from streamproc.core.stream_clock import AlignSettings

SETTINGS = AlignSettings.of(rate_hz=10.0, wait_ms=300, lead_ms=300, reanchor_count=5)


def feed(
    frames: list[tuple[int, int]], n_pmu: int, state: AlignState | None = None
) -> tuple[AlignState, list[Aligned]]:
    column = np.array([pmu for pmu, _ in frames], dtype=np.int64)
    instant = np.array([at for _, at in frames], dtype=np.int64)
    value = np.ones((len(frames), N_VALUE)) * column[:, None]
    samples = Samples(
        np.arange(len(frames)),
        column,
        instant,
        value,
        np.zeros(len(frames), dtype=np.uint32),
        np.arange(len(frames)),
    )
    return align(state or AlignState.fresh(n_pmu), samples, SETTINGS)


def closed(pieces: list[Aligned]) -> dict[int, list[bool]]:
    return {
        int(p.instant[i]): np.isfinite(p.value[i, :, 0]).tolist()
        for p in pieces
        for i in range(p.instant.size)
    }


def test_an_instant_closes_as_soon_as_everyone_alive_is_in() -> None:
    frames = [(pmu, t) for t in range(100, 110) for pmu in (0, 1)]
    _, pieces = feed(frames, 2)
    rows = closed(pieces)
    assert rows[109] == [True, True]  # without waiting for a later frame
    assert all(row == [True, True] for row in rows.values())


def test_a_missing_pmu_delays_its_instant_by_the_wait_only() -> None:
    frames = [(pmu, t) for t in range(100, 110) for pmu in (0, 1)]
    state, _ = feed(frames, 2)
    state, pieces = feed([(0, 110), (0, 111), (0, 112)], 2, state)
    assert closed(pieces) == {}
    state, pieces = feed([(0, 113)], 2, state)
    assert closed(pieces) == {110: [True, False]}
    assert sum(p.missing for p in pieces) == 1


def test_a_late_frame_is_counted_not_scored() -> None:
    state, _ = feed([(pmu, t) for t in range(100, 110) for pmu in (0, 1)], 2)
    state, _ = feed([(0, t) for t in range(110, 116)], 2, state)
    state, pieces = feed([(1, 110)], 2, state)
    assert closed(pieces) == {}
    assert sum(p.late for p in pieces) == 1


def test_a_duplicate_is_counted_and_the_first_wins() -> None:
    _state, pieces = feed([(0, 100), (0, 100), (0, 101), (0, 104)], 1)
    assert sum(p.duplicate for p in pieces) == 1


def test_reordering_within_the_wait_changes_nothing() -> None:
    ordered = [(pmu, t) for t in range(100, 130) for pmu in range(3)]
    shuffled = sorted(ordered, key=lambda frame: frame[1] + (2 if frame[0] == 1 else 0))
    same = {t: row for t, row in closed(feed(ordered, 3)[1]).items() if t < 127}
    assert {t: row for t, row in closed(feed(shuffled, 3)[1]).items() if t < 127} == same


def test_a_pmu_that_disappears_changes_nothing_for_the_others() -> None:
    frames = [(pmu, t) for t in range(100, 400) for pmu in range(3) if not (pmu == 2 and 150 <= t < 250)]
    _, pieces = feed(frames, 3)
    rows = closed(pieces)
    assert all(row[:2] == [True, True] for row in rows.values())
    # It comes last of the three: its first frames are late, and from then on it is waited for again.
    assert [t for t, row in rows.items() if not row[2]] == list(range(150, 252))
    assert sum(p.late for p in pieces) == 2


def test_a_clock_a_day_ahead_moves_time_for_nobody() -> None:
    frames = [(pmu, t + (864_000 if pmu == 2 else 0)) for t in range(100, 200) for pmu in range(3)]
    state, pieces = feed(frames, 3)
    rows = closed(pieces)
    assert max(rows) < 300
    assert all(row[:2] == [True, True] for t, row in rows.items() if t > 105)
    assert sum(p.wrong_clock_count for p in pieces) + state.time.held.instant.size == 100
    assert any(p.wrong_clock[:, 2].any() for p in pieces if p.wrong_clock.size)
    assert not any(p.wrong_clock[:, :2].any() for p in pieces if p.wrong_clock.size)


def test_a_first_frame_with_a_wrong_clock_does_not_hold_everyone_back() -> None:
    frames = [(0, 864_000), *[(0, t) for t in range(100, 140)]]
    _, pieces = feed(frames, 1)
    assert next(t for t, row in closed(pieces).items() if row[0] and t < 1000) == 100


def test_time_moves_on_after_an_outage_of_everyone() -> None:
    frames = [(0, t) for t in range(100, 120)] + [(0, t) for t in range(5000, 5030)]
    _, pieces = feed(frames, 1)
    rows = closed(pieces)
    assert [t for t, row in rows.items() if t >= 5000 and row[0]] == list(range(5000, 5030))
    assert [p.restart for p in pieces if p.instant.size and p.instant[0] == 5000] == [True]


def test_the_grid_is_exact_for_every_rate() -> None:
    for rate in (1.0, 10.0, 25.0, 30.0, 50.0, 60.0, 120.0):
        number = to_grid(np.array([1_700_000_000_000_000_000]), rate) + np.arange(500)
        t_ns = from_grid(number, rate)
        np.testing.assert_array_equal(to_grid(t_ns, rate), number)
        np.testing.assert_array_equal(to_grid(t_ns + int(0.4e9 / rate), rate), number)


def test_one_frame_in_ten_seconds_has_a_grid_too() -> None:
    number = to_grid(np.array([1_700_000_004_000_000_000]), 0.1)
    assert from_grid(number, 0.1)[0] == 1_700_000_000_000_000_000


def test_arrival_statistics_tell_who_lags() -> None:
    frames = [(0, t) for t in range(100, 103)] + [(1, 100), (0, 103), (1, 101)]
    state, _ = feed(frames, 2)
    assert state.lag_count.tolist() == [4, 2]
    assert state.lag_max_s.tolist() == [0.0, 0.2]


@pytest.mark.parametrize("ahead", [5, 10, 20, 40, 60, 36_000])
@pytest.mark.parametrize("n_pmu", [1, 4])
def test_one_frame_with_a_wrong_time_hides_nothing(ahead: int, n_pmu: int) -> None:
    frames = [(pmu, t) for t in range(100, 160) for pmu in range(n_pmu)]
    frames.insert(30 * n_pmu, (0, 130 + ahead))
    _, pieces = feed(frames, n_pmu)
    rows = closed(pieces)
    assert all(row == [True] * n_pmu for t, row in rows.items() if t < 157)
    assert max(rows) <= 159
    assert sum(p.wrong_clock_count for p in pieces) == 1
    assert sum(p.late + p.duplicate for p in pieces) == 0


@pytest.mark.parametrize("ahead", [5, 10, 20, 40, 36_000])
def test_a_clock_that_is_ahead_for_good_takes_nothing_from_the_others(ahead: int) -> None:
    frames = [(pmu, t + (ahead if pmu == 3 and t >= 120 else 0)) for t in range(100, 200) for pmu in range(4)]
    _, pieces = feed(frames, 4)
    rows = closed(pieces)
    assert all(row[:3] == [True, True, True] for t, row in rows.items() if t < 197)
    assert not any(row[3] for t, row in rows.items() if t >= 124)
    assert sum(p.late for p in pieces) == 0
    flagged = np.concatenate([p.wrong_clock for p in pieces if p.wrong_clock.size])
    assert flagged.any(axis=0).tolist() == [False, False, False, True]


@pytest.mark.parametrize("ahead", [20, 36_000])
def test_a_clock_that_came_first_and_is_wrong_is_outvoted(ahead: int) -> None:
    frames = [(pmu, t + (ahead if pmu == 0 else 0)) for t in range(100, 300) for pmu in range(4)]
    _, pieces = feed(frames, 4)
    last: dict[int, list[bool]] = {}
    for piece in pieces:
        last = {} if piece.restart else last
        last |= closed([piece])
    assert list(last.values())[-100:] == [[False, True, True, True]] * 100
    assert max(last) <= 299


@pytest.mark.parametrize("gap", [4, 15, 30, 49, 53, 80, 100])
@pytest.mark.parametrize("n_pmu", [1, 3])
def test_a_silence_of_everyone_is_told_as_empty_instants(gap: int, n_pmu: int) -> None:
    times = [*range(100, 150), *range(150 + gap, 300)]
    _, pieces = feed([(pmu, t) for t in times for pmu in range(n_pmu)], n_pmu)
    rows = closed(pieces)
    empty = [t for t, row in rows.items() if not any(row)]
    assert empty == list(range(150, 150 + gap))
    assert sorted(rows) == list(range(100, max(rows) + 1))
    assert not any(p.restart and p.instant[0] > 110 for p in pieces)
    assert sum(p.late + p.wrong_clock_count for p in pieces) == 0


def test_a_longer_silence_gives_its_first_ten_seconds_and_then_time_begins_anew() -> None:
    times = [*range(100, 150), *range(1000, 1050)]
    _, pieces = feed([(0, t) for t in times], 1)
    rows = closed(pieces)
    assert [t for t, row in rows.items() if not any(row)] == list(range(150, 250))
    assert [int(p.instant[0]) for p in pieces if p.restart] == [100, 1000]


def test_a_minority_that_returns_after_an_outage_is_believed_when_nobody_else_speaks() -> None:
    before = [(pmu, t) for t in range(100, 150) for pmu in range(8)]
    after = [(pmu, t) for t in range(180, 240) for pmu in range(2)]
    _, pieces = feed(before + after, 8)
    rows = closed(pieces)
    assert all(rows[t] == [True, True] + [False] * 6 for t in range(180, 230))


def test_a_pmu_that_is_late_for_good_does_not_turn_the_clock_back() -> None:
    frames = [(pmu, t - (6 if pmu == 2 else 0)) for t in range(110, 300) for pmu in range(3)]
    _, pieces = feed(frames, 3)
    assert all(row[:2] == [True, True] for t, row in closed(pieces).items() if 112 < t < 297)
    assert sum(p.restart for p in pieces if p.instant.size) == 1
    assert sum(p.late for p in pieces) > 180

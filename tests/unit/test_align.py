"""Protects time alignment: who waits for whom, what is late, and what a wrong clock may do to others (nothing)."""

from __future__ import annotations

import numpy as np

from streamproc.core.align import N_VALUE, Aligned, AlignSettings, AlignState, Samples, align
from streamproc.core.grid import from_grid, to_grid

SETTINGS = AlignSettings.of(rate_hz=10.0, wait_ms=300, lead_ms=2000, reanchor_count=5)


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
    _, pieces = feed(frames, 3)
    rows = closed(pieces)
    assert max(rows) < 300
    assert all(row[:2] == [True, True] for t, row in rows.items() if t > 105)
    assert sum(p.wrong_clock_count for p in pieces) > 90
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

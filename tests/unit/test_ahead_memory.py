"""Protects what the 48-hour forecasts remember: what was told is judged against its own interval, also around gaps, and a
model that is worse than its fallback for a day is put on the bench until it is better again."""

from __future__ import annotations

import numpy as np
import pytest
from ahead_cases import MONDAY, loads, remembered

from streamproc.core.ahead.bands import JUDGED, N_JUDGED
from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY
from streamproc.core.ahead.memory import BENCH_ROWS, FIGURES, WEIGHT_MIN, Memory, note, take_in
from streamproc.values import F64

WEIGHT, ERROR, MODEL, PERSISTENCE, SEASONAL, FALLBACK, INSIDE = range(7)


def numbered(memory: Memory, away: float = 0.0, model: float = 0.0, fallback: float = 0.0) -> Memory:
    """The memory after an issue that tells each interval its own number since MONDAY."""
    n = len(memory.ids)
    own: F64 = np.broadcast_to(memory.start - MONDAY + np.arange(N_LEAD, dtype=np.float64), (n, N_LEAD))
    told = own[:, None] + away + 0.001 * np.arange(-3, 4)[:, None]
    return note(memory, told, own + model, own + fallback)


def walked(rows: list[int], n: int = 1) -> Memory:
    """The memory of series whose value is the number of its interval, with forecasts that know it."""
    memory = Memory.fresh(tuple(f"F{i}" for i in range(n)))
    for row in rows:
        memory = take_in(memory, MONDAY + row, np.full(n, float(row)))
        memory = numbered(memory, model=0.25, fallback=0.5)
    return memory


@pytest.mark.parametrize(
    "rows",
    [
        list(range(1, 700)),
        [r for r in range(1, 700) if not 300 <= r < 305],
        [r for r in range(1, 700) if r % 3],
        [r for r in range(1, 700) if not 200 <= r < 400],
        [r for r in range(1, 700) if r % 7 != 2 and not 450 <= r < 647],
    ],
    ids=["whole", "a gap", "every third is missing", "two days are missing", "both"],
)
def test_what_was_told_is_judged_against_its_own_interval(rows: list[int]) -> None:
    memory = walked(rows)
    figures = memory.figures[0]
    assert (figures[:, WEIGHT] > 0.0).all()
    # Whatever the stream left out: an error other than zero is a forecast held against another interval.
    np.testing.assert_allclose(figures[:, ERROR], 0.0, atol=1e-3)
    assert memory.bands.count.any()
    np.testing.assert_allclose(memory.bands.scale, 0.0, atol=1e-3)
    np.testing.assert_allclose(figures[:, MODEL] / figures[:, WEIGHT], 0.25, atol=1e-3)
    np.testing.assert_allclose(figures[:, FALLBACK] / figures[:, WEIGHT], 0.5, atol=1e-3)
    np.testing.assert_allclose(figures[:, INSIDE], figures[:, WEIGHT], rtol=1e-6)
    np.testing.assert_allclose(figures[:, PERSISTENCE] / figures[:, WEIGHT], JUDGED, rtol=1e-4)
    day = np.where(np.array(JUDGED) <= PER_DAY, PER_DAY, 2 * PER_DAY)
    np.testing.assert_allclose(figures[:, SEASONAL] / figures[:, WEIGHT], day, rtol=1e-4)


@pytest.mark.parametrize("skipped", [0, 1, 5, 96, N_ROW - 2, N_ROW - 1, N_ROW, N_ROW + 1, 10 * N_ROW])
def test_a_gap_of_any_length_keeps_the_places_of_the_history(skipped: int) -> None:
    memory = walked(list(range(1, 60)))
    memory = take_in(memory, memory.start + skipped, np.array([777.0]))
    assert memory.history.shape == (1, N_ROW)
    assert memory.history[0, -1] == 777.0
    before = memory.history[0, :-1]
    kept = max(min(59, N_ROW - 1 - skipped), 0)
    assert np.isfinite(before).sum() == kept
    if kept:
        assert before[N_ROW - 2 - skipped] == 59.0
    memory = take_in(memory, memory.start, np.array([778.0]))
    assert memory.history.shape == (1, N_ROW)


def test_new_series_begin_and_old_ones_keep_theirs() -> None:
    memory = walked(list(range(1, 300)), n=2)
    wider = memory.with_series(("new", "F1", "F0"))
    assert wider.ids == ("new", "F1", "F0")
    assert wider.start == memory.start
    for name in ("history", "told", "figures", "verdict", "worse", "benched"):
        ours, theirs = getattr(wider, name), getattr(memory, name)
        assert ours[1].tobytes() == theirs[1].tobytes()
        assert ours[2].tobytes() == theirs[0].tobytes()
    assert wider.bands.level[1].tobytes() == memory.bands.level[1].tobytes()
    assert wider.usual.raw[2] == memory.usual.raw[0]
    assert np.isnan(wider.history[0]).all()
    assert wider.told_at.tobytes() == memory.told_at.tobytes()
    after = take_in(wider, wider.start, np.array([1.0, 300.0, 300.0]))
    assert (after.figures[1:, :, WEIGHT] > memory.figures[:, :, WEIGHT] * 0.9).all()
    assert after.figures[0, :, WEIGHT].tolist() == [0.0] * N_JUDGED


def told_wrong(memory: Memory, rows: int, model: float, fallback: float, known: bool = True) -> Memory:
    for _ in range(rows):
        value = float(memory.start - MONDAY) if known else np.nan
        memory = take_in(memory, memory.start, np.array([value]))
        memory = numbered(memory, model=model, fallback=fallback)
    return memory


def test_a_day_worse_than_the_fallback_benches_and_a_day_better_brings_back() -> None:
    memory = walked(list(range(1, 250)))
    assert not memory.benched[0]
    memory = told_wrong(memory, BENCH_ROWS - 10, 3.0, 0.5)
    assert not memory.benched[0]
    memory = told_wrong(memory, 20 + 2 * PER_DAY, 3.0, 0.5)
    assert memory.benched[0]
    memory = told_wrong(memory, 20, 0.01, 0.5)
    assert memory.benched[0]  # not for a moment's luck
    memory = told_wrong(memory, 8 * PER_DAY, 0.01, 0.5)
    assert not memory.benched[0]


def test_a_silent_meter_benches_nobody() -> None:
    """What is worse for an hour and then cannot be judged for two days has not been worse for a day."""
    memory = walked(list(range(1, 250)))
    memory = told_wrong(memory, 30, 9.0, 0.5)
    assert memory.worse[0] > 0
    memory = told_wrong(memory, 2 * PER_DAY, 9.0, 0.5, known=False)
    assert not memory.benched[0]


def test_figures_need_some_judgements_and_all_that_they_compare() -> None:
    memory = walked(list(range(1, 60)))
    assert (
        memory.figures[0, :, WEIGHT].tolist() == [0.0] * N_JUDGED
    )  # seasonal naive is not known before a day
    memory = walked(list(range(1, PER_DAY + 8)))
    assert 0.0 < memory.figures[0, 0, WEIGHT] < WEIGHT_MIN
    assert len(FIGURES) == memory.figures.shape[2]


def test_a_value_too_large_for_a_float32_is_unknown() -> None:
    memory = take_in(remembered(loads(1, 50), MONDAY), MONDAY + 50, np.array([1e200]))
    assert np.isnan(memory.history[0, -1])

"""Protects the bands of the 48-hour forecasts: they hold what they promise, also after the errors have changed their size,
never cross, and learn from nothing that is unknown."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.ahead.bands import (
    BLOCK_ROWS,
    COUNT_TRUSTED,
    JUDGED,
    N_BLOCK,
    N_JUDGED,
    N_SHAPE,
    Bands,
    Shape,
    block_of,
    learn,
    offsets,
    quantiles,
    rows_per_day,
    scales,
    shape_of,
)
from streamproc.core.ahead.days import N_LEAD, PER_DAY
from streamproc.core.ahead.issue import NO_SHAPE
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.quantiles import LEVELS, MEDIAN

RNG = np.random.default_rng(3)
SHAPE = shape_of(
    RNG.normal(size=(3000, N_JUDGED)), np.tile(np.arange(3000)[:, None] % N_BLOCK, (1, N_JUDGED))
)


def simulated(
    judged: int, keep: float, days: int, sizes: tuple[float, float], shape: Shape = SHAPE
) -> np.ndarray:
    """Coverage of P05..P95 by day; errors of a hundred series, whose size changes in the middle."""
    n, rows = 100, rows_per_day(judged)
    rng = np.random.default_rng(judged)
    bands, error, inside = Bands.fresh(n), rng.normal(size=n), []
    for row in range(days * rows):
        number = row * (PER_DAY // rows)
        error = keep * error + np.sqrt(1.0 - keep * keep) * rng.normal(size=n)
        truth = 50.0 + error * sizes[row >= days * rows // 2]
        told = 50.0 + offsets(bands, shape, np.ones(n))[:, :, judged, int(block_of(number))]
        inside.append(((truth >= told[:, 0]) & (truth <= told[:, -1])).mean())
        bands = learn(bands, judged, truth, told.astype(np.float32), number)
    return np.array(inside).reshape(days, -1).mean(axis=1)


@pytest.mark.parametrize("sizes", [(1.0, 3.0), (3.0, 1.0)])
@pytest.mark.parametrize(("judged", "keep"), [(1, 0.0), (1, 0.9), (5, 0.5)])
def test_coverage_comes_back_to_ninety_percent_after_errors_have_changed_threefold(
    judged: int, keep: float, sizes: tuple[float, float]
) -> None:
    days = 40 if judged == 1 else 60
    coverage = simulated(judged, keep, days, sizes)
    assert 0.88 <= coverage[days // 2 - 8 : days // 2].mean() <= 0.92
    assert 0.88 <= coverage[-8:].mean() <= 0.93
    assert abs(coverage[days // 2] - 0.9) > 0.06  # the change was felt
    assert 0.84 <= coverage[days // 2 + 10] <= 0.96


def test_a_wrong_shape_is_put_right() -> None:
    """Training errors were far too small, and without tails."""
    quantile = np.tile(np.linspace(-1.6, 1.6, N_SHAPE), (N_JUDGED, 1))
    wrong = Shape(quantile, np.full((N_JUDGED, N_BLOCK), 0.2))
    coverage = simulated(0, 0.5, 50, (1.0, 1.0), wrong)
    assert coverage[0] < 0.8
    assert 0.82 <= coverage[-8:].mean() <= 0.93


def test_quantiles_never_cross_and_stay_on_their_side_of_the_middle() -> None:
    rng = np.random.default_rng(1)
    n = 20
    bands = Bands.fresh(n)
    for row in range(300):
        truth = rng.standard_t(2, n) * 10.0 ** rng.uniform(-3, 3)
        told = offsets(bands, SHAPE, np.ones(n))[:, :, row % N_JUDGED, row % N_BLOCK]
        bands = learn(bands, row % N_JUDGED, truth, told.astype(np.float32), row * BLOCK_ROWS)
    for shape in (SHAPE, NO_SHAPE):
        offset = offsets(bands, shape, np.ones(n))
        assert (np.diff(offset, axis=1) >= 0.0).all()
        assert (offset[:, MEDIAN] == 0.0).all()
        assert (offset[:, :MEDIAN] <= 0.0).all()
        for number in (0, 37, 95):
            made = quantiles(rng.normal(size=(n, N_LEAD)) * 1e4, offset, number)
            assert (np.diff(made, axis=1) >= 0.0).all()


def test_leads_between_two_judged_ones_lie_between_their_bands() -> None:
    offset = np.zeros((1, 7, N_JUDGED, N_BLOCK))
    offset[0, -1] = np.arange(1.0, N_JUDGED + 1.0)[:, None]
    made = quantiles(np.zeros((1, N_LEAD)), offset, 0)[0, -1]
    for judged, lead in enumerate(JUDGED):
        assert made[lead - 1] == pytest.approx(judged + 1.0)
    assert (np.diff(made) >= 0.0).all()
    block = np.zeros((1, 7, N_JUDGED, N_BLOCK))
    block[0, -1] = np.arange(N_BLOCK)
    made = quantiles(np.zeros((1, N_LEAD)), block, 3 * BLOCK_ROWS - 1)[
        0, -1
    ]  # the block of each lead's own time
    np.testing.assert_allclose(made[: BLOCK_ROWS + 2], [2.0, *([3.0] * BLOCK_ROWS), 4.0])


def test_the_unknown_teaches_nothing() -> None:
    bands = Bands.fresh(3)
    told = np.zeros((3, 7), np.float32)
    told[2] = np.nan
    after = learn(bands, 0, np.array([5.0, np.nan, 5.0]), told, 0)
    assert after.count[:, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert after.scale[:, 0, 0].tolist() == [5.0, 0.0, 0.0]
    assert (after.level[1:] == bands.level[1:]).all()
    assert (after.level[0, 0] > np.array(LEVELS, np.float32))[[0, 5]].all()  # missed above: they go up
    assert learn(bands, 0, np.full(3, np.nan), told, 0) is bands
    assert not after.count[:, 1:].any()


def test_few_errors_are_mixed_with_what_training_knows() -> None:
    bands = Bands.fresh(1)
    told = np.zeros((1, 7), np.float32)
    prior = scales(bands, SHAPE, np.array([2.0]))
    np.testing.assert_allclose(prior[0], 2.0 * SHAPE.scale)
    for count in range(1, COUNT_TRUSTED + 1):
        bands = learn(bands, 0, np.array([10.0]), told, 0)
        wanted = (count * 10.0 + (COUNT_TRUSTED - count) * prior[0, 0, 0]) / COUNT_TRUSTED
        assert scales(bands, SHAPE, np.array([2.0]))[0, 0, 0] == pytest.approx(wanted, rel=1e-6)
    for _ in range(200):
        bands = learn(bands, 0, np.array([1.0]), told, 0)
    assert scales(bands, SHAPE, np.array([2.0]))[0, 0, 0] == pytest.approx(1.0, rel=1e-3)


def test_the_state_survives_its_blob_to_the_byte() -> None:
    bands = Bands.fresh(4)
    for row in range(50):
        bands = learn(bands, row % N_JUDGED, RNG.normal(size=4), np.zeros((4, 7), np.float32), row * 7)
    back = Bands(**unpack_tree("x", pack_tree("x", {"bands": bands}))["bands"])
    for name in ("level", "scale", "count"):
        assert getattr(back, name).tobytes() == getattr(bands, name).tobytes()
        assert getattr(back, name).dtype == getattr(bands, name).dtype
    truth, told = RNG.normal(size=4), np.zeros((4, 7), np.float32)
    assert learn(back, 1, truth, told, 9).level.tobytes() == learn(bands, 1, truth, told, 9).level.tobytes()


def test_a_shape_of_too_few_errors_is_the_wide_normal_one() -> None:
    few = shape_of(np.ones((20, N_JUDGED)), np.zeros((20, N_JUDGED), np.int64))
    assert few.quantile.tobytes() == NO_SHAPE.quantile.tobytes()
    assert (np.diff(few.quantile, axis=1) >= 0.0).all()
    assert few.quantile[0, 0] < -1.5

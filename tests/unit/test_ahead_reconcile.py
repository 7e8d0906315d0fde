"""Protects forecasts that add up: exactly, moving most who errs most, and leaving alone whose family is not complete."""

from __future__ import annotations

import numpy as np
import pytest

from streamproc.core.ahead.bands import N_JUDGED
from streamproc.core.ahead.days import N_LEAD
from streamproc.core.ahead.reconcile import reconcile, sums_of

IDS = ("AREA", "S1", "S2", "F1", "F2", "F3", "F4", "F5", "alone")
PARENT = {"S1": "AREA", "S2": "AREA", "F1": "S1", "F2": "S1", "F3": "S1", "F4": "S2", "F5": "S2"}
N = len(IDS)


def made(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(100.0, 40.0, (N, N_LEAD)), rng.uniform(0.5, 20.0, (N, N_JUDGED))


@pytest.mark.parametrize("seed", range(5))
def test_medians_of_three_levels_add_up(seed: int) -> None:
    median, scale = made(seed)
    out, shrink, taking = reconcile(sums_of(IDS, PARENT), median, scale, np.ones(N, np.bool_))
    for parent in ("AREA", "S1", "S2"):
        parts = sum(out[IDS.index(child)] for child, above in PARENT.items() if above == parent)
        np.testing.assert_allclose(parts, out[IDS.index(parent)], rtol=1e-9)
    assert taking.tolist() == [True] * (N - 1) + [False]
    assert out[-1].tobytes() == median[-1].tobytes()
    assert (shrink[-1] == 1.0).all()
    assert (shrink <= 1.0).all()
    assert (shrink > 0.0).all()
    assert (shrink[:-1] < 1.0).all()


def test_who_errs_less_moves_less_and_what_adds_up_stays() -> None:
    median, scale = made()
    scale[:] = 1.0
    scale[IDS.index("F1")], scale[IDS.index("F2")] = 0.01, 10.0
    out, shrink, _ = reconcile(sums_of(IDS, PARENT), median, scale, np.ones(N, np.bool_))
    moved = np.abs(out - median).mean(axis=1)
    assert moved[IDS.index("F1")] < 0.01 * moved[IDS.index("F3")]
    assert moved[IDS.index("F3")] < 0.1 * moved[IDS.index("F2")]
    assert shrink[IDS.index("F2")].max() < 0.5 < shrink[IDS.index("F1")].min()
    again, _, _ = reconcile(sums_of(IDS, PARENT), out, scale, np.ones(N, np.bool_))
    np.testing.assert_allclose(again, out, rtol=1e-9)


def test_reconciled_medians_err_less() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(50.0, 10.0, (N, N_LEAD))
    for parent in ("S1", "S2", "AREA"):
        parts = [IDS.index(child) for child, above in PARENT.items() if above == parent]
        truth[IDS.index(parent)] = truth[parts].sum(axis=0)
    scale = np.tile(np.array([3.0, 2.0, 2.0, 1.0, 0.5, 1.0, 4.0, 1.0, 1.0])[:, None], (1, N_JUDGED))
    said = truth + scale[:, [0]] * rng.normal(size=truth.shape)
    out, shrink, _ = reconcile(sums_of(IDS, PARENT), said, scale, np.ones(N, np.bool_))
    before, after = (np.sqrt(((x - truth) ** 2).mean(axis=1)) for x in (said, out))
    assert (after[:-1] < before[:-1]).all()
    np.testing.assert_allclose(after / before, shrink[:, 0], atol=0.15)  # the band shrinks by what was learnt


@pytest.mark.parametrize("unknown", ["F4", "S2"])
def test_a_family_with_an_unknown_member_is_left_alone(unknown: str) -> None:
    median, scale = made()
    known = np.array([name != unknown for name in IDS])
    median[~known] = np.nan
    out, shrink, taking = reconcile(sums_of(IDS, PARENT), median, scale, known)
    left = ("F4", "F5") if unknown == "F4" else ("AREA", "F4", "F5", "S2")
    for name in left:
        row = IDS.index(name)
        assert not taking[row]
        assert out[row].tobytes() == median[row].tobytes()
        assert (shrink[row] == 1.0).all()
    feeders = out[[IDS.index(n) for n in ("F1", "F2", "F3")]].sum(axis=0)
    np.testing.assert_allclose(feeders, out[IDS.index("S1")], rtol=1e-9)
    assert np.isfinite(out[known]).all()


def test_a_part_that_is_no_series_leaves_the_family_alone() -> None:
    """Its share is missing: the sum of the others is not the parent."""
    ids = tuple(name for name in IDS if name != "F2")
    assert sums_of(ids, PARENT).rows.shape == (2, N - 1)
    without = tuple(name for name in IDS if name != "AREA")
    assert sums_of(without, PARENT).rows.shape == (2, N - 1)
    assert not sums_of(("F1", "F2"), PARENT).any
    assert not sums_of((), {}).any
    assert sums_of(IDS, PARENT).any


def test_series_without_any_error_yet_are_no_dogma() -> None:
    median, scale = made()
    for size in (0.0, 1e-300):
        out, shrink, _ = reconcile(sums_of(IDS, PARENT), median, scale * size, np.ones(N, np.bool_))
        assert np.isfinite(out).all()
        assert np.isfinite(shrink).all()
    scale[3] = 0.0
    out, _, _ = reconcile(sums_of(IDS, PARENT), median, scale, np.ones(N, np.bool_))
    np.testing.assert_allclose(out[3:6].sum(axis=0), out[1], rtol=1e-9)

"""Measurements that do not fit together as usual: a low-rank model of the whole area (SPE and T2).

The last second of every channel of the area (frequency, voltage, angle step of all PMUs) is compared with
the mean of its first third, averaged into bins that get longer towards the past, and divided by its usual
size:

    rows  |--- first third: reference ---|--- 4 ---|----- 8 -----|- 4 -|2|1|1| now  (30 rows)

Ambient movement is mostly common to the whole area, so few directions hold most of it (90 % of the
variance, at most 60 directions and a sixth of all, found by principal components on event-free data). Two
statistics, both as square roots so that they are linear in the size of a disturbance (Jackson and Mudholkar
1979 for the pair):

    spe   what is left outside these directions: a change unusual for the area (local, electrical)
    t2    how far along them: a usual change of unusual size (loss of generation)

Both belong to the area. They are given to PMUs by contribution: the PMU that contributes most gets the
area's score, the others their share of it. So the first source of an alert is where the change was largest.

Limits: the score is (level - usual) / (margin * (largest - usual)) with the median as usual level. A factor
on the level itself goes deaf with many PMUs (models.md section 7).

Masked channels (unknown rows after bridging two, or never fitted) take the mean of the known channels of
their quantity, so that a common swing does not turn into a residual; they contribute 0, and the level is
scaled to the number of known channels. Below a third of the fitted channels both scores are NaN. Only in
site bundles: it needs training.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from streamproc.core.detector import N_QUANTITY, History, Params, Rule, Windows, learnt_limit
from streamproc.core.graph import Ops, T, recent, unknown_if
from streamproc.values import F64

WINDOWS_MAX = 6000  # calibration windows used for the directions: more make no difference


@dataclass(frozen=True, slots=True)
class LowRank:
    """Two rows: spe, t2."""

    name: str = "low_rank"
    every_s: float = 0.0
    window_s: float = 1.0
    variance_ratio: float = 0.9
    rank_max: int = 60
    rank_ratio_max: float = 1 / 6  # of all directions: a small area must keep an outside
    margin_ratio: float = 2.0
    excess_min: float = 1.0  # in usual sizes of one channel: guards a calibration that hardly moved
    known_ratio_min: float = 0.5  # of the calibration: below, a channel is not fitted
    floor_hz: float = 3e-4
    floor_pu: float = 5e-5
    floor_rad: float = 2e-4
    off_delay_ms: int = 1000
    deadband_ratio: float = 0.2

    def _samples(self, rate_hz: float) -> int:
        return max(6, round(self.window_s * rate_hz))

    def _rank(self, n: int) -> int:
        return max(1, min(self.rank_max, int(n * self.rank_ratio_max)))

    def rows(self, rate_hz: float) -> tuple[int, int]:
        """Return the fast and slow rows needed."""
        return self._samples(rate_hz), 0

    def generic(self, _rate_hz: float) -> Params | None:
        """Return None: what is usual can only be learnt at the site."""
        return None

    def fit(self, history: History) -> Params:
        """Return bins, sizes and directions; limits are still 1."""
        bins = bin_matrix(self._samples(history.rate_hz))  # (n_bin, n_sample)
        binned = _binned(history.fast, bins)  # (n_window, n_bin, 3, n_pmu)
        known = np.isfinite(binned[:, 0]).mean(axis=0) >= self.known_ratio_min  # (3, n_pmu)
        floor = np.array([self.floor_hz, self.floor_pu, self.floor_rad])[:, None]
        with np.errstate(all="ignore"):
            mean_square = np.nanmean(np.where(known, binned, 0.0) ** 2, axis=0)  # (n_bin, 3, n_pmu)
        size = np.where(known, np.maximum(np.sqrt(mean_square), floor), np.nan)
        with np.errstate(all="ignore"):
            table = np.nan_to_num(binned / size).reshape(binned.shape[0], -1)  # (n_window, n_bin * 3 * n_pmu)
        directions, spread = _principal(table, self.variance_ratio, self._rank(int(np.isfinite(size).sum())))
        zeros, ones = np.zeros(2), np.ones(2)
        return {
            "bins": bins,
            "size": size,
            "directions": directions,
            "spread": spread,
            "usual": zeros,
            "excess": ones,
        }

    def calibrated(self, params: Params, levels: F64) -> Params:
        """Return the parameters with usual levels and limits learnt from `levels` (n_tick, 2, n_pmu)."""
        usual, excess = np.zeros(2), np.ones(2)
        for row in range(2):
            area = levels[
                np.isfinite(levels[:, row]).any(axis=1), row
            ]  # the largest share is the area's level
            if area.size:
                usual[row] = np.median(np.nanmax(area, axis=1))
                limit = learnt_limit(area, self.margin_ratio, 0.0)
                excess[row] = max(self.excess_min, limit - usual[row])
        return {**params, "usual": usual, "excess": excess}

    def build(self, ops: Ops[T], windows: Windows[T], params: Params) -> T:
        """Return (2, n_pmu)."""
        bins, size = params["bins"], params["size"]
        n_bin, n_pmu = bins.shape[0], size.shape[2]
        zero, one = ops.const(0.0), ops.const(1.0)
        window = ops.reshape(recent(ops, windows.fast, bins.shape[1]), (bins.shape[1], N_QUANTITY * n_pmu))
        sized = ops.mul(ops.matmul(ops.const(bins), window), ops.const(1.0 / size.reshape(n_bin, -1)))
        sized = ops.reshape(sized, (n_bin, N_QUANTITY, n_pmu))
        masked = ops.isnan(ops.sum(sized, 0))  # (3, n_pmu)
        known = ops.sub(one, ops.number(masked))
        per_quantity = ops.maximum(ops.sum(known, 1, keep=True), one)  # (3, 1)
        common = ops.div(ops.sum(ops.where(masked, zero, sized), 2, keep=True), per_quantity)  # (n_bin, 3, 1)
        vector = ops.reshape(ops.where(masked, common, sized), (1, -1))
        along = ops.matmul(vector, ops.const(params["directions"]))  # (1, rank)
        inside = ops.matmul(along, ops.const(np.ascontiguousarray(params["directions"].T)))
        outside = ops.sub(vector, inside)
        both = ops.reshape(ops.concat([outside, inside], 0), (2, n_bin, N_QUANTITY, n_pmu))
        energy = ops.sum(ops.mul(ops.sum_square(both, 1), known), 1)  # (2, n_pmu): contributions
        share = ops.sqrt(ops.div(energy, ops.add(ops.max(energy, 1, keep=True), ops.const(1e-30))))
        count = ops.sum(ops.reshape(known, (1, -1)), 1, keep=True)  # (1, 1)
        fitted = float(np.isfinite(size[0]).sum())
        spe = ops.mul(ops.sum(ops.part(energy, 0, 0, 1), 1, keep=True), ops.div(ops.const(fitted), count))
        scaled = ops.mul(along, ops.const(1.0 / params["spread"][None, :]))
        t2 = ops.sum_square(scaled, 1, keep=True)
        level = ops.sqrt(ops.concat([spe, t2], 0))  # (2, 1)
        above = ops.mul(
            ops.sub(level, ops.const(params["usual"][:, None])), ops.const(1.0 / params["excess"][:, None])
        )
        score = ops.mul(ops.maximum(above, zero), share)
        enough = ops.ge(count, ops.const(fitted / 3.0))
        score = ops.where(enough, score, ops.const(np.nan))
        # A PMU is judged only if its present sample came.
        now = ops.where(ops.isnan(windows.now), zero, known)  # (3, n_pmu)
        absent = ops.ge(zero, ops.sum(now, 0, keep=True))  # (1, n_pmu)
        return unknown_if(ops, absent, score)

    def rules(self, params: Params, _rate_hz: float) -> tuple[Rule, ...]:
        """Return the two rules."""
        words = (
            ("spe", "unusual_pattern", "The area does not move together as usual"),
            ("t2", "unusual_size", "The area moves more than usual"),
        )
        return tuple(
            Rule(
                name=name,
                version=1,
                family="grid",
                kind=kind,
                priority=3,
                limit=float(excess),
                unit="x usual",
                window_s=self.window_s,
                on_delay_ms=0,
                off_delay_ms=self.off_delay_ms,
                deadband_ratio=self.deadband_ratio,
                whole_area=True,
                text=f"{sentence}, most at {{source}}: {{value}} above the usual level, limit {{limit}}",
            )
            for (name, kind, sentence), excess in zip(words, params["excess"], strict=True)
        )


def bin_matrix(n_sample: int) -> F64:
    """Return (n_bin, n_sample): mean of each bin minus mean of the first third."""
    reference = n_sample // 3
    edges, size = [n_sample, n_sample - 1], 1
    while edges[-1] > reference:
        edges.append(max(reference, edges[-1] - size))
        size *= 2
    bins = np.zeros((len(edges) - 1, n_sample))
    for row, (stop, start) in enumerate(pairwise(edges)):
        bins[row, start:stop] = 1.0 / (stop - start)
    bins[:, :reference] -= 1.0 / reference
    return bins


def _binned(fast: F64, bins: F64) -> F64:
    """Return (n_window, n_bin, 3, n_pmu) over evenly spread windows; NaN where a row is unknown."""
    n_window = fast.shape[0] - bins.shape[1] + 1
    starts = np.unique(
        np.linspace(0, max(0, n_window - 1), min(max(n_window, 1), WINDOWS_MAX)).astype(np.int64)
    )
    out = np.full((starts.size, bins.shape[0], *fast.shape[1:]), np.nan)
    for block in np.array_split(np.arange(starts.size), max(1, starts.size // 500)):
        rows = fast[starts[block][:, None] + np.arange(bins.shape[1])]  # (n, n_sample, 3, n_pmu)
        out[block] = np.einsum("bs,wsqp->wbqp", bins, rows, optimize=True)
    return out


def _principal(table: F64, variance_ratio: float, rank_max: int) -> tuple[F64, F64]:
    """Return directions (n, rank) and the standard deviation along each; deterministic.

    Subspace iteration from a fixed start instead of a full decomposition: 60 of a thousand directions are
    wanted.
    """
    n_row, n = table.shape
    total = float((table**2).sum())
    rank = min(rank_max, n, n_row)
    guard = min(rank + 8, n)
    basis, _ = np.linalg.qr(np.cos(np.outer(np.arange(1, n + 1), np.arange(1, guard + 1)) * 0.7))
    for _ in range(8):
        basis, _ = np.linalg.qr(table.T @ (table @ basis))
    _, singular, rows = np.linalg.svd(table @ basis, full_matrices=False)
    directions = basis @ rows.T  # (n, guard)
    held_ratio = np.cumsum(singular**2) / max(total, 1e-30)
    rank = int(min(rank, np.searchsorted(held_ratio, variance_ratio) + 1))
    spread = np.maximum(singular[:rank] / np.sqrt(n_row), 1e-6)
    return np.ascontiguousarray(directions[:, :rank]), spread

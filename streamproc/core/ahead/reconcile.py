"""Forecasts that add up: feeders to their station, stations to their area.

    y~ = y - W A' (A W A')^-1 A y        A y = parent - sum of children = 0; W: variances of the forecasts, known from
                                         their own errors (`bands.scales`)

Who errs little moves little (least squares with known variances; Wickramasuriya et al. 2019, MinT with a diagonal W).
Medians then add up exactly. A quantile of a sum is not the sum of quantiles, unless all err together: the band of each
series stays around its own new middle and shrinks by what the others' forecasts taught about it, sqrt(var~ / var). Live
coverage, which is measured on what is published, keeps that honest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.ahead.bands import JUDGED
from streamproc.core.ahead.days import N_LEAD
from streamproc.values import F64, I64, Bool

VARIANCE_FLOOR_RATIO = 1e-6  # of the largest: a constant series is still no dogma


@dataclass(frozen=True, slots=True)
class Sums:
    """Who is the sum of whom, among the series of an area."""

    rows: F64  # (n_sum, n_series): 1 at the parent, -1 at each child

    @property
    def any(self) -> bool:
        """Return whether there is anything to add up."""
        return bool(self.rows.shape[0] > 0)


def sums_of(ids: tuple[str, ...], parent_of: dict[str, str]) -> Sums:
    """Return the sums of these series; a parent that is no series itself, or has a part that is none, is left out."""
    place = {name: at for at, name in enumerate(ids)}
    holed = {above for child, above in parent_of.items() if child not in place}
    parents = [n for n in dict.fromkeys(parent_of.values()) if n in place and n not in holed]
    rows = np.zeros((len(parents), len(ids)))
    for row, parent in enumerate(parents):
        rows[row, place[parent]] = 1.0
        for child, above in parent_of.items():
            if above == parent:
                rows[row, place[child]] = -1.0
    return Sums(rows)


def reconcile(sums: Sums, median: F64, scale: F64, known: Bool) -> tuple[F64, F64, Bool]:
    """Return medians (n, N_LEAD) that add up, what bands shrink by (n, N_LEAD), and who takes part (n,).

    `scale` (n, len(JUDGED)): mean size of the errors. Families with a member that is not `known` (n,) are left alone.
    """
    rows = sums.rows
    whole = ~((rows != 0.0) & ~known).any(axis=1)
    rows = rows[whole & (np.count_nonzero(rows, axis=1) > 1)]
    part = np.flatnonzero((rows != 0.0).any(axis=0))
    out, shrink = median.copy(), np.ones_like(median)
    taking: Bool = np.zeros(median.shape[0], np.bool_)
    if not rows.shape[0]:
        return out, shrink, taking
    taking[part] = True
    a = rows[:, part]
    for judged, leads in enumerate(_leads()):
        variance = np.maximum(scale[part, judged] ** 2, 0.0)
        variance = np.maximum(variance, VARIANCE_FLOOR_RATIO * max(float(variance.max()), 1e-12))
        right = variance[:, None] * a.T  # W A'
        gain = np.linalg.solve((a @ right).T, right.T).T  # W A' (A W A')^-1
        block = median[np.ix_(part, leads)]
        out[np.ix_(part, leads)] = block - gain @ (a @ block)
        left = 1.0 - (gain * right).sum(axis=1) / variance
        shrink[np.ix_(part, leads)] = np.sqrt(np.clip(left, 0.0, 1.0))[:, None]
    return out, shrink, taking


def _leads() -> list[I64]:
    """Return the leads (from 0) of each judged horizon: those nearer to it than to the one before."""
    edges = [0, *JUDGED[:-1], N_LEAD]
    return [np.arange(edges[j], edges[j + 1]) for j in range(len(JUDGED))]

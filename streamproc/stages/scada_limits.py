"""The limits of SCADA points at each instant: of the catalogue, or of the rationalised rules in force by event time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from streamproc.config import PointTable
from streamproc.core.point_limits import Limits
from streamproc.core.rationale import in_force, ruled_point
from streamproc.core.rules_message import Rules
from streamproc.stages.scada_area import AreaPlan
from streamproc.values import F64, I64, U32

KEPT_MAX = 64  # sets of limits kept: areas times sets of rules


class LimitsOverTime:
    """Remembers the columns of limits of every area and set of rules: they are the same for each instant of an era."""

    def __init__(self, points: Sequence[PointTable]) -> None:
        self._points = points
        self._kept: dict[tuple[str, str, int], Limits] = {}

    def parted(
        self, plan: AreaPlan, eras: tuple[Rules, ...], blocks: Iterable[tuple[I64, F64, U32]]
    ) -> Iterator[tuple[I64, F64, U32, Limits]]:
        """Yield the blocks (t_ns (n_tick,), values and flags (n_tick, n_point)), parted where rules change."""
        edges_ns = np.array([rules.valid_from_us * 1000 for rules in eras], dtype=np.int64)
        for t_ns, value, flags in blocks:
            era = np.searchsorted(edges_ns, t_ns, side="right")
            cuts = [0, *(np.flatnonzero(np.diff(era)) + 1).tolist(), t_ns.size]
            for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
                part = slice(start, stop)
                limits = self._at(plan, in_force(eras, int(t_ns[start]) // 1000))
                if limits is not None:
                    yield t_ns[part], value[part], flags[part], limits

    def _at(self, plan: AreaPlan, rules: Rules | None) -> Limits | None:
        if rules is None:
            return plan.limits
        key = (plan.names.area, rules.digest, rules.valid_from_us)
        if key not in self._kept:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            points = [ruled_point(p, p.id, rules) for p in self._points if p.area == plan.names.area]
            self._kept[key] = Limits.of(points)
        return self._kept[key]

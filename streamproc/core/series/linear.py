"""The day-ahead model of one origin slot: standardised groups, a matrix product, and perhaps a curved part.

    phi = clip((raw - mean) / size, -6, 6) * weight         (n, n_column)
    z   = phi W + bias  [+ exp(-|phi r - centre|^2) A]      (n, n_place)
    y   = back(z + level)

`graph` writes it once over `Ops`: numpy is the reference, ONNX the very same expression. Clipping at 6: a heat wave
beyond everything seen bends the forecast but does not blow it up. The curved part is what remains of a kernel ridge
of the kernel `phi phi' + c exp(-d^2)`: its linear half is folded into W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamproc.core.graph import NumpyOps, Ops, T
from streamproc.core.series.history import History
from streamproc.core.series.local_axis import places
from streamproc.core.series.rows import LAG_DAYS, DayPlan, DayRows, day_rows
from streamproc.values import F64, I64

CLIP = 6.0
BLIND_MAX = 0.1  # share of known-ahead values that may be missing before the model without them speaks
GAPS_MAX = 0.5  # share of lags that may be filled


@dataclass(frozen=True, slots=True)
class Standard:
    """How the columns of some groups become comparable; (n_column,) each."""

    names: tuple[str, ...]  # of the groups, in the order of the columns
    mean: F64
    size: F64  # standard deviation, > 0
    weight: F64  # of the group, shared by its columns

    def raw(self, rows: DayRows) -> F64:
        """Return the joined columns (n, n_column)."""
        return np.concatenate([rows.groups[name] for name in self.names], axis=1)


@dataclass(frozen=True, slots=True)
class Curve:
    """The curved part of a kernel ridge."""

    ratio: F64  # (n_column,), what phi is multiplied by: how far apart two days are in which column
    centre: F64  # (n_centre, n_column), phi times ratio of the training rows
    weight: F64  # (n_centre, n_place)


@dataclass(frozen=True, slots=True)
class DayPart:
    """A fitted model of origins at one slot of the day."""

    plan: DayPlan
    standard: Standard
    weight: F64  # (n_column, n_place)
    bias: F64  # (n_place,)
    curve: Curve | None = None


def graph(ops: Ops[T], raw: T, level: T, part: DayPart) -> T:
    """Return z + level (n, n_place) of joined columns (n, n_column) and levels (n, 1)."""
    phi = standardised(ops, raw, part.standard)
    z = ops.add(ops.matmul(phi, ops.const(part.weight)), ops.const(part.bias))
    if part.curve is not None:
        # |p - c|^2 = |p|^2 - 2 p c' + |c|^2: a product instead of n x n_centre x n_column differences
        bent, centre = ops.mul(phi, ops.const(part.curve.ratio)), part.curve.centre
        square = ops.add(ops.sum_square(bent, 1, keep=True), ops.const((centre**2).sum(axis=1)))
        near = ops.exp(ops.sub(ops.matmul(bent, ops.const(2.0 * centre.T)), square))
        z = ops.add(z, ops.matmul(near, ops.const(part.curve.weight)))
    return ops.add(z, level)


def standardised(ops: Ops[T], raw: T, standard: Standard) -> T:
    """Return phi (n, n_column)."""
    ratio = ops.mul(ops.sub(raw, ops.const(standard.mean)), ops.const(1.0 / standard.size))
    low = ops.maximum(ratio, ops.const(-CLIP))
    held = ops.sub(ops.const(0.0), ops.maximum(ops.sub(ops.const(0.0), low), ops.const(-CLIP)))
    return ops.mul(held, ops.const(standard.weight))


def part_at(part: DayPart, history: History, places_from: I64) -> F64:
    """Return forecasts (n, n_place) on the model's scale for origins at these places; NaN where blind or holed."""
    rows = day_rows(history, places_from, part.plan)
    raw = part.standard.raw(rows)
    raw = np.where(np.isnan(raw), part.standard.mean, raw)  # a few hours without weather: as usual
    z = graph(NumpyOps(), raw, rows.level[:, None], part)
    unsure = ~np.isfinite(rows.level) | (rows.gaps > GAPS_MAX)
    if any(name.startswith(("ahead", "before")) for name in part.standard.names):
        unsure |= rows.blind > BLIND_MAX
    return np.where(unsure[:, None], np.nan, z)


@dataclass(frozen=True, slots=True)
class DayModel:
    """Day-ahead models at some slots of the day; any origin is answered by the newest of them at or before it."""

    name: str
    parts: tuple[DayPart, ...]  # by slot, ascending

    def predict(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead); NaN = cannot be said (holes, no weather, too early in the history)."""
        scale = self.parts[0].plan.scale
        return scale.back(self.scaled(history, origins, n_lead))

    def scaled(self, history: History, origins: I64, n_lead: int) -> F64:
        """Return medians (n_origin, n_lead) on the scale of the plan."""
        slots = np.array([part.plan.slot for part in self.parts])
        return read_out(
            history, origins, n_lead, slots, lambda at, place: part_at(self.parts[at], history, place)
        )


def read_out(
    history: History, origins: I64, n_lead: int, slots: I64, issue: Callable[[int, I64], F64]
) -> F64:
    """Return (n_origin, n_lead): each origin reads the newest forecast issued at one of the slots.

    `issue(which, places)` gives the forecasts (n, n_place) of a slot's model at places of that slot.
    """
    place = places(history)
    out = np.full((len(origins), n_lead), np.nan)
    leads = np.minimum(origins[:, None] + np.arange(n_lead), len(place) - 1)
    beyond = origins[:, None] + np.arange(n_lead) >= len(place)
    which, issued = newest(place[origins], slots, history.steps_per_day)
    for at in range(len(slots)):
        mine = (which == at) & (issued >= LAG_DAYS * history.steps_per_day)
        if not mine.any():
            continue
        first, row = np.unique(issued[mine], return_inverse=True)
        z = issue(at, first)
        # Within the hour that comes twice a later interval may lie at an earlier place.
        ahead = np.maximum(place[leads[mine]] - issued[mine][:, None], 0)
        chosen = z[row[:, None], np.minimum(ahead, z.shape[1] - 1)]
        out[mine] = np.where(beyond[mine] | (ahead >= z.shape[1]), np.nan, chosen)
    return out


def newest(place: I64, slots: I64, steps_per_day: int) -> tuple[I64, I64]:
    """Return which slot (n,) was last at or before each place (n,), and the place (n,) at which that was."""
    back = (place[:, None] - slots) % steps_per_day  # (n, n_slot), places since each slot
    which = np.argmin(back, axis=1)
    return which, place - np.take_along_axis(back, which[:, None], axis=1)[:, 0]

"""What to move, and how far: limits that will be crossed become a small linear program, and its answer is checked.

A group is a set of resources with all the limited points that they move (a connected part of the site's
`effect` tables): one program, so that no resource is promised twice.

    x[r] >= 0 up, y[r] >= 0 down      move d = x - y of each resource from its base, within bounds and ramp *
    time minimise   cost * (x + y) + PENALTY * slack subject to worst[p] + sum_r effect[r, p] * d[r] <=
    limit_high[p] + slack      for every limited point, both sides

`worst` is the largest value of the chosen quantile within the horizon (the smallest of its mirror for lower
limits), or the present value if that is over. A resource is only used when its present value is fresh and
when every limited point that it moves has a fresh forecast of good quality: what cannot be foreseen must not
be touched.

The base of a resource is its present value without what it has already done of an advice in force. So an
advice that is followed goes on being the same advice, instead of withdrawing itself because it works.

`guard` does not believe the solver: it re-computes bounds, ramps and effects from the group alone and refuses
anything that is not finite, outside, too fast, or that does not help. The solver is given (`Solve`); the core
has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from streamproc.core.advice_group import HIGH, LOW, MINUTE_US, Group, Outlook, Resource, beyond, path
from streamproc.values import F64

MARGIN_RATIO = 0.01  # of the limit: a crossing is relieved to this much inside, not to the edge
PENALTY_FACTOR = 1000.0  # relief is worth more than any move costs
TIE = 1e-6  # of the cost, per place in the list: equal resources are used in the order of the site file
DIGITS = 3  # of advised values
OUTSIDE_RATIO = 0.02  # of its range: a resource further outside its bounds is not understood, and left alone
ALTERNATIVES_MAX = 3
TOLERANCE = 1e-6  # of a bound, in the unit: what a solver may be off


@dataclass(frozen=True, slots=True)
class Reason:
    """A limit that will be, or is, crossed. `worst` is at `worst_us`."""

    point: str
    side: str
    limit: float
    unit: str
    crossing_us: int
    worst: float
    worst_us: int
    onset_us: int
    confidence: float
    alert_id: str  # "" when only the forecast says so


@dataclass(frozen=True, slots=True)
class Move:
    """One resource: where it would stand without advice, and where it should go."""

    resource: str
    base: float
    target: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked answer."""

    moves: tuple[Move, ...]
    relieved: bool
    change: tuple[tuple[str, float], ...]  # limited point -> expected change
    excess: float  # of the first reason after the moves, in its unit; 0 when relieved


@dataclass(frozen=True, slots=True)
class Problem:
    """minimise cost @ x subject to matrix @ x <= bound, lower <= x <= upper."""

    cost: F64
    matrix: F64
    bound: F64
    lower: F64
    upper: F64


Solve: TypeAlias = Callable[[Problem], F64 | None]
"""Return a solution, or None when there is none (or no time was left)."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about a group now. `moved`: resource -> what it has done of an advice in force."""

    group: Group
    outlooks: Mapping[str, Outlook]
    moved: Mapping[str, float]
    now_us: int
    quantile: int
    horizon_min: int
    left_out: frozenset[str] = frozenset()  # resources that an alternative must not use

    def offset(self, point: str) -> float:
        """Return what the moves so far have changed at a point; taking it off gives the view without advice."""
        return sum(r.effect.get(point, 0.0) * self.moved.get(r.id, 0.0) for r in self.group.resources)

    def without_advice(self, point: str, side: str) -> tuple[F64, list[int]]:
        """Return the path of a point as it would be without advice, and its times."""
        values, times = path(self.outlooks[point], side, self.quantile, self.now_us, self.horizon_min)
        return values - self.offset(point), times

    def worst(self, point: str, side: str, reasons: Sequence[Reason]) -> float:
        """Return the value that the program must bring inside."""
        values, _ = self.without_advice(point, side)
        if not values.size:  # a horizon shorter than the interval: only the present is known
            values = np.array([self.outlooks[point].last_value - self.offset(point)])
        told = [r.worst for r in reasons if r.point == point and r.side == side]
        every = np.concatenate([values, np.array(told)])
        return float(every.max() if side == HIGH else every.min())

    def usable(self) -> list[Resource]:
        """Return the resources whose value and whose effects are known."""
        limited = {p.id for p in self.group.points}

        def known(resource: Resource) -> bool:
            own = self.outlooks.get(resource.point)
            seen = [self.outlooks.get(p) for p in resource.effect if p in limited]
            return (
                own is not None
                and own.value_known(self.now_us)
                and all(o is not None and o.fresh(self.now_us) for o in seen)
            )

        return [r for r in self.group.resources if r.id not in self.left_out and known(r)]

    def present(self, resource: Resource) -> float:
        """Return the last value of a resource."""
        return self.outlooks[resource.point].last_value

    def base(self, resource: Resource) -> float:
        """Return where a resource would stand without advice, within its bounds."""
        base = self.present(resource) - self.moved.get(resource.id, 0.0)
        return min(max(base, resource.value_min), resource.value_max)

    def room(self, resource: Resource, minutes: float) -> tuple[float, float]:
        """Return the lowest and highest target that bounds and ramp allow in this time."""
        present, reach = self.present(resource), resource.ramp_per_min * minutes
        return max(resource.value_min, present - reach), min(resource.value_max, present + reach)


def minutes_left(reasons: Sequence[Reason], now_us: int, valid_min: int) -> float:
    """Return the time for the moves: until the worst moment; at least as long as the advice is valid."""
    return min(max(float(valid_min), (r.worst_us - now_us) / MINUTE_US) for r in reasons)


def plan_moves(
    situation: Situation, reasons: Sequence[Reason], minutes: float, solve: Solve
) -> tuple[Plan | None, bool]:
    """Return a checked plan or None, and whether an answer of the solver was refused."""
    resources = [r for r in situation.usable() if _has_room(situation, r, minutes)]
    if not resources or not reasons:
        return None, False
    problem, rooms = _problem(situation, reasons, resources, minutes)
    answer = solve(problem)
    if answer is None:
        return None, False
    n = len(resources)
    base = np.array([situation.base(r) for r in resources])
    raw = np.asarray(answer, dtype=np.float64)
    if raw.shape != problem.cost.shape or not np.isfinite(raw).all():
        return None, True
    if (raw < problem.lower - TOLERANCE).any() or (raw > problem.upper + TOLERANCE).any():
        return None, True
    targets = base + raw[:n] - raw[n : 2 * n]
    if any(
        not low - TOLERANCE <= t <= high + TOLERANCE for t, (low, high) in zip(targets, rooms, strict=True)
    ):
        return None, True
    moves = tuple(
        Move(r.id, _tidy(float(b)), _settled(r, float(b), float(t), room))
        for r, b, t, room in zip(resources, base, targets, rooms, strict=True)
        if abs(t - b) > 10.0**-DIGITS
    )
    if not moves:
        return None, False
    if not guard(situation, reasons, moves, minutes):
        return None, True
    return checked(situation, reasons, moves), False


def alternatives(
    situation: Situation, reasons: Sequence[Reason], minutes: float, plan: Plan, solve: Solve
) -> list[Plan]:
    """Return other plans, each without one of the resources of the first; what relieves first, then what is cheap."""
    found: dict[tuple[Move, ...], Plan] = {}
    for move in plan.moves[:ALTERNATIVES_MAX]:
        without = replace(situation, left_out=frozenset({move.resource}))
        other, _ = plan_moves(without, reasons, minutes, solve)
        if other is not None and other.moves != plan.moves:
            found[other.moves] = other
    return sorted(found.values(), key=lambda p: (not p.relieved, cost_of(situation.group, p.moves)))


def cost_of(group: Group, moves: Sequence[Move]) -> float:
    """Return what the moves cost, in the currency of the site file."""
    costs = {r.id: r.cost for r in group.resources}
    return _tidy(sum(costs[m.resource] * abs(m.target - m.base) for m in moves))


def guard(situation: Situation, reasons: Sequence[Reason], moves: Sequence[Move], minutes: float) -> bool:
    """Return whether these moves may be recommended, from the group and the present values alone."""
    by_id = {r.id: r for r in situation.group.resources}
    rounding = 10.0**-DIGITS
    for move in moves:
        resource = by_id.get(move.resource)
        if resource is None or not (np.isfinite(move.base) and np.isfinite(move.target)):
            return False
        present = situation.present(resource)
        if not resource.value_min <= move.target <= resource.value_max:
            return False
        if not abs(move.target - present) <= resource.ramp_per_min * minutes + rounding:
            return False
        if resource.unit == "step" and move.target != round(move.target):
            return False
    return _helps(situation, reasons, moves)


def _helps(situation: Situation, reasons: Sequence[Reason], moves: Sequence[Move]) -> bool:
    """Return whether every reason gets better and no other limit is crossed by the advice itself."""
    change = _change(situation.group, moves)
    wanted = {(r.point, r.side) for r in reasons}
    for point in situation.group.points:
        for side in (HIGH, LOW):
            limit = point.limit(side)
            if limit is None or point.id not in change:
                continue
            before = float(beyond(situation.worst(point.id, side, reasons), limit, side))
            after = before + (change[point.id] if side == HIGH else -change[point.id])
            better = after < before if (point.id, side) in wanted else after <= max(before, 10.0**-DIGITS)
            if not better:  # NaN, too: what cannot be told is not advised
                return False
    return any(r.point in change for r in reasons)


def checked(situation: Situation, reasons: Sequence[Reason], moves: tuple[Move, ...]) -> Plan:
    """Return the plan with what it is expected to do, ramps included."""
    left = max(_left_over(situation, reason, moves) for reason in reasons)
    change = _change(situation.group, moves)
    return Plan(
        moves,
        left <= TOLERANCE,
        tuple((p, _tidy(c)) for p, c in sorted(change.items())),
        _tidy(max(0.0, left)),
    )


def _left_over(situation: Situation, reason: Reason, moves: Sequence[Move]) -> float:
    """Return by how much a reason stays beyond its limit while its resources ramp; at most 0 when it does not."""
    values, times = situation.without_advice(reason.point, reason.side)
    by_id = {r.id: r for r in situation.group.resources}
    left = -np.inf
    # The present value of an alert is judged at the end of the moves: it cannot be undone at once.
    for value, t_us in [*zip(values.tolist(), times, strict=True), (reason.worst, reason.worst_us)]:
        done = 0.0
        for move in moves:
            resource = by_id[move.resource]
            moved = situation.moved.get(move.resource, 0.0)
            reach = resource.ramp_per_min * max(0.0, (t_us - situation.now_us) / MINUTE_US)
            wanted = move.target - move.base
            if not reason.alert_id or t_us > situation.now_us:
                wanted = min(max(wanted, moved - reach), moved + reach)
            done += resource.effect.get(reason.point, 0.0) * wanted
        left = max(left, float(beyond(value + done, reason.limit, reason.side)))
    return left


def _has_room(situation: Situation, resource: Resource, minutes: float) -> bool:
    """Return whether a resource can be moved: it is where it may be, as far as can be measured."""
    slack = OUTSIDE_RATIO * (resource.value_max - resource.value_min)
    present = situation.present(resource)
    low, high = situation.room(resource, minutes)
    return resource.value_min - slack <= present <= resource.value_max + slack and low <= high


def _problem(
    situation: Situation, reasons: Sequence[Reason], resources: Sequence[Resource], minutes: float
) -> tuple[Problem, list[tuple[float, float]]]:
    rows, bounds, rooms = [], [], [situation.room(r, minutes) for r in resources]
    wanted = {(r.point, r.side) for r in reasons}
    for point in situation.group.points:
        effect = np.array([r.effect.get(point.id, 0.0) for r in resources])
        for side in (HIGH, LOW):
            limit = point.limit(side)
            if limit is None or not effect.any():
                continue
            margin = MARGIN_RATIO * abs(limit) if (point.id, side) in wanted else 0.0
            sign = 1.0 if side == HIGH else -1.0
            rows.append(sign * effect)
            bounds.append(-float(beyond(situation.worst(point.id, side, reasons), limit, side)) - margin)
    n, m = len(resources), len(rows)
    effects = np.array(rows).reshape(m, n)
    base = np.array([situation.base(r) for r in resources])
    low, high = np.array([room[0] for room in rooms]) - base, np.array([room[1] for room in rooms]) - base
    cost = np.array([r.cost * (1.0 + TIE * i) + TIE for i, r in enumerate(resources)])
    smallest = np.where(effects == 0.0, np.inf, np.abs(effects)).min(axis=0, initial=np.inf)
    penalty = PENALTY_FACTOR * max(1.0, float((cost / smallest).max(initial=0.0)))
    problem = Problem(
        cost=np.concatenate([cost, cost, np.full(m, penalty)]),
        matrix=np.concatenate([effects, -effects, -np.eye(m)], axis=1),
        bound=np.array(bounds),
        # A target that must lie on one side of the base (the room has moved past it) is a lower bound on that move.
        lower=np.concatenate([np.maximum(low, 0.0), np.maximum(-high, 0.0), np.zeros(m)]),
        upper=np.concatenate([np.maximum(high, 0.0), np.maximum(-low, 0.0), np.full(m, np.inf)]),
    )
    return problem, rooms


def _settled(resource: Resource, base: float, target: float, room: tuple[float, float]) -> float:
    """Return the target rounded away from the base (relief rather more than less), but within its room."""
    scale = 1.0 if resource.unit == "step" else 10.0**DIGITS
    outward = np.ceil if target > base else np.floor
    inward = np.floor if target > base else np.ceil
    rounded = float(outward(round(target * scale, 6)) / scale)
    if room[0] <= rounded <= room[1]:
        return _tidy(rounded)
    return _tidy(float(inward(round(target * scale, 6)) / scale))


def _change(group: Group, moves: Sequence[Move]) -> dict[str, float]:
    """Return the expected change of every limited point that the moves touch."""
    by_id = {r.id: r for r in group.resources}
    change: dict[str, float] = {}
    for point in group.points:
        parts = [
            by_id[m.resource].effect[point.id] * (m.target - m.base)
            for m in moves
            if point.id in by_id[m.resource].effect
        ]
        if parts:
            change[point.id] = sum(parts)
    return change


def _tidy(value: float) -> float:
    return round(value, DIGITS) + 0.0  # no negative zero

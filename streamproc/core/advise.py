"""When to recommend, when to say it again, when to take it back. Advice only: nothing here can move anything.

    reason      a limit crossed within the horizon by the chosen quantile of a good, fresh forecast,
                or an alert of a point at its limit now (and nothing newer that says otherwise)
    ISSUE       a reason, and a plan that passed the guard
    UPDATE      the amounts changed materially, or half of the validity is over and the reason stands
    WITHDRAW    the reason is gone; or an input is old or bad; or the plan is refused; or it has expired

Anti-hunting in event time: within `hold_min` after a change the amounts may grow but not shrink or turn, a
reason that goes is waited for, and after a withdrawal only an alert brings new advice. Bad input does not
wait: advice that rests on it is withdrawn at once.

The id is a hash of point, side and onset; `seq` counts from 1. Everything follows from the records alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

import numpy as np

from streamproc.core.advice_group import (
    HIGH,
    LOW,
    MINUTE_US,
    Group,
    Outlook,
    Resource,
    beyond,
    probability_beyond,
)
from streamproc.core.advice_plan import (
    DIGITS,
    Move,
    Plan,
    Reason,
    Situation,
    Solve,
    alternatives,
    checked,
    guard,
    minutes_left,
    plan_moves,
)
from streamproc.core.advice_text import AdviseSettings, OpenAdvice, leading, recommendation, withdrawal
from streamproc.core.setpoint import Setpoint

MATERIAL_RATIO = 0.25  # of the advised move: a smaller change is not worth an operator's eye
MATERIAL_RANGE_RATIO = 0.02  # of the range of the resource: nor is this
FOLLOWED_RATIO = 0.1  # of the advised move: less is the noise of a measurement, not somebody acting
ALERT_CONFIDENCE = 0.95  # the limit is crossed now: measured, not foreseen
REFUSED = "REFUSED"  # label of the counter: the guard did not let an answer through


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert about points at their limits, while it is active. `limits`: "point_high:ID" or "point_low:ID"."""

    alert_id: str
    seq: int
    onset_us: int
    ts_us: int
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupState:
    """Memory of one group. `withdrawn_us` 0: never."""

    advice: OpenAdvice | None = None
    withdrawn_us: int = 0
    quiet_until_us: int = 0  # an operator has rejected it, or said not now


@dataclass(frozen=True, slots=True)
class View:
    """All that is known about the whole site at one time."""

    outlooks: Mapping[str, Outlook]
    alerts: Mapping[str, ActiveAlert]
    now_us: int


def situation_of(group: Group, state: GroupState, view: View, settings: AdviseSettings) -> Situation:
    """Return what is known about a group, with what its resources have done of an advice in force."""
    moved = {m.resource: _moved(group, m, view) for m in (state.advice.moves if state.advice else ())}
    return Situation(group, view.outlooks, moved, view.now_us, settings.quantile, settings.horizon_min)


def _moved(group: Group, move: Move, view: View) -> float:
    """Return how far a resource has gone from its base towards its target, between nothing and all of it."""
    resource = next((r for r in group.resources if r.id == move.resource), None)
    outlook = view.outlooks.get(resource.point) if resource is not None else None
    if outlook is None or not np.isfinite(outlook.last_value):
        return 0.0
    wanted = move.target - move.base
    share = float(np.clip((outlook.last_value - move.base) / wanted, 0.0, 1.0))
    return wanted * share if share >= FOLLOWED_RATIO else 0.0


def reasons_of(situation: Situation, view: View) -> list[Reason]:
    """Return the limits that are crossed, the most urgent first."""
    found: list[Reason] = []
    for point in situation.group.points:
        for side in (HIGH, LOW):
            outlook, limit = view.outlooks.get(point.id), point.limit(side)
            if limit is None or outlook is None or not outlook.fresh(view.now_us):
                continue
            alert = _alert_of(view, outlook, side, limit)
            values, times = situation.without_advice(point.id, side)
            over = beyond(values, limit, side)
            if alert is not None:
                now = outlook.last_value - situation.offset(point.id)
                worst = max(now, limit) if side == HIGH else min(now, limit)
                onset_us, crossing_us, worst_us = alert.onset_us, view.now_us, view.now_us
            elif (over >= 0.0).any():
                first, most = int(np.argmax(over >= 0.0)), int(np.argmax(over))
                worst, worst_us, crossing_us = float(values[most]), times[most], times[first]
                onset_us = outlook.issued_us
            else:
                continue
            confidence = ALERT_CONFIDENCE
            if alert is None:
                shifted = limit + situation.offset(point.id)
                confidence = probability_beyond(outlook, worst_us, shifted, side)
            found.append(
                Reason(
                    point.id,
                    side,
                    limit,
                    point.unit,
                    crossing_us,
                    float(worst),
                    worst_us,
                    onset_us,
                    confidence,
                    alert.alert_id if alert is not None else "",
                )
            )
    return sorted(found, key=lambda r: (r.crossing_us, r.point, r.side))


def _alert_of(view: View, outlook: Outlook, side: str, limit: float) -> ActiveAlert | None:
    """Return the alert of a point, unless a newer value is back inside."""
    wanted = f"point_{side}:{outlook.series}"
    for alert in view.alerts.values():
        if wanted not in alert.limits:
            continue
        newer = outlook.last_us > alert.ts_us
        if not newer or float(beyond(outlook.last_value, limit, side)) >= 0.0:
            return alert
    return None


def expired(state: GroupState, now_us: int) -> bool:
    """Return whether advice is in force beyond its time."""
    return state.advice is not None and now_us >= state.advice.valid_until_us


def unfounded(group: Group, state: GroupState, view: View) -> str:
    """Return why the input of an advice in force cannot be trusted any more; "" if it can."""
    if state.advice is None:
        return ""
    used = {m.resource for m in state.advice.moves}
    resources = [r for r in group.resources if r.id in used]
    for point in dict.fromkeys([state.advice.point, *(p for r in resources for p in r.effect)]):
        if point not in {p.id for p in group.points}:
            continue
        outlook = view.outlooks.get(point)
        if outlook is None or not outlook.fresh(view.now_us):
            return f"the forecast of {point} is old or of bad quality"
    for resource in resources:
        outlook = view.outlooks.get(resource.point)
        if outlook is None or not outlook.value_known(view.now_us):
            return f"the present value of {resource.id} is not known"
    return "" if len(resources) == len(used) else "a resource is no longer in the site file"


def advise(
    group: Group, state: GroupState, view: View, settings: AdviseSettings, solve: Solve
) -> tuple[GroupState, list[Setpoint], int]:
    """Return the group after this moment, what to tell, and how many answers of the solver were refused."""
    advice, hold_us = state.advice, settings.hold_min * MINUTE_US
    why = unfounded(group, state, view)
    if advice is not None and (why or expired(state, view.now_us)):
        return *_withdrawn(group, advice, view, why or "it has expired"), 0
    situation = situation_of(group, state, view, settings)
    reasons = reasons_of(situation, view)
    if advice is not None and not any((r.point, r.side) == (advice.point, advice.side) for r in reasons):
        if view.now_us - advice.changed_us < hold_us:
            return state, [], 0
        return *_withdrawn(group, advice, view, "its reason is gone"), 0
    if advice is None and view.now_us < state.quiet_until_us:
        return state, [], 0
    held = state.withdrawn_us > 0 and view.now_us - state.withdrawn_us < hold_us
    if advice is None and (not reasons or (held and not any(r.alert_id for r in reasons))):
        return state, [], 0
    minutes = minutes_left(reasons, view.now_us, settings.valid_min)
    plan, refused = plan_moves(situation, reasons, minutes, solve)
    if advice is None:
        return (
            (state, [], int(refused))
            if plan is None
            else (*_issued(situation, state, reasons, plan, settings, solve), 0)
        )
    if refused:
        return *_withdrawn(group, advice, view, "no plan passed the check of bounds and ramps"), 1
    after, told = _updated(situation, state, advice, reasons, plan, minutes, settings)
    return after, told, 0


def _issued(
    situation: Situation,
    state: GroupState,
    reasons: Sequence[Reason],
    plan: Plan,
    settings: AdviseSettings,
    solve: Solve,
) -> tuple[GroupState, list[Setpoint]]:
    first = reasons[0]
    minutes = minutes_left(reasons, situation.now_us, settings.valid_min)
    others = alternatives(situation, reasons, minutes, plan, solve)
    # A reason that outlives a withdrawal begins anew with it: an id has one ISSUE.
    onset_us = max(first.onset_us, state.withdrawn_us)
    name = sha256(f"{first.point}|{first.side}|{onset_us}".encode()).hexdigest()[:32]
    advice = OpenAdvice(name, 0, first.point, first.side, (), 0, 0, "")
    return _told(situation, "ISSUE", advice, reasons, plan, settings, others, changed=True)


def _updated(
    situation: Situation,
    state: GroupState,
    advice: OpenAdvice,
    reasons: Sequence[Reason],
    plan: Plan | None,
    minutes: float,
    settings: AdviseSettings,
) -> tuple[GroupState, list[Setpoint]]:
    """Say it again if the amounts changed materially (and may), or if it would run out while its reason stands."""
    now_us = situation.now_us
    held = now_us - advice.changed_us < settings.hold_min * MINUTE_US
    group, new = situation.group, plan.moves if plan is not None else ()
    material = plan is not None and _material(group, advice.moves, new)
    if plan is not None and material and not (held and _shrinks(group, advice.moves, new)):
        return _told(situation, "UPDATE", advice, reasons, plan, settings, changed=True)
    if advice.valid_until_us - now_us > settings.valid_min * MINUTE_US // 2:
        return state, []
    # Renewed as it is, if it still passes: the base is where the resource would be, which may have drifted.
    moves = tuple(_rebased(situation, m) for m in advice.moves)
    if any(m.base == m.target for m in moves) or not guard(situation, reasons, moves, minutes):
        return state, []
    return _told(
        situation, "UPDATE", advice, reasons, checked(situation, reasons, moves), settings, changed=False
    )


def _rebased(situation: Situation, move: Move) -> Move:
    resource = next(r for r in situation.group.resources if r.id == move.resource)
    return replace(move, base=round(situation.base(resource), DIGITS) + 0.0)


def _steps(group: Group, old: Sequence[Move], new: Sequence[Move]) -> list[tuple[Resource, float, float]]:
    """Return (resource, move before, move after) for every resource of either."""
    before = {m.resource: m.target - m.base for m in old}
    after = {m.resource: m.target - m.base for m in new}
    both = before.keys() | after.keys()
    return [(r, before.get(r.id, 0.0), after.get(r.id, 0.0)) for r in group.resources if r.id in both]


def _least(resource: Resource, move: float) -> float:
    """Return the smallest change of a move that is material."""
    return max(MATERIAL_RATIO * abs(move), MATERIAL_RANGE_RATIO * (resource.value_max - resource.value_min))


def _material(group: Group, old: Sequence[Move], new: Sequence[Move]) -> bool:
    return any(abs(after - before) > _least(r, before) for r, before, after in _steps(group, old, new))


def _shrinks(group: Group, old: Sequence[Move], new: Sequence[Move]) -> bool:
    return any(
        before * after < 0.0 or abs(before) - abs(after) > _least(r, before)
        for r, before, after in _steps(group, old, new)
    )


def _withdrawn(group: Group, advice: OpenAdvice, view: View, why: str) -> tuple[GroupState, list[Setpoint]]:
    return GroupState(None, view.now_us), [withdrawal(group, advice, view.now_us, why)]


def _told(
    situation: Situation,
    action: Literal["ISSUE", "UPDATE"],
    advice: OpenAdvice,
    reasons: Sequence[Reason],
    plan: Plan,
    settings: AdviseSettings,
    others: Sequence[Plan] = (),
    *,
    changed: bool,
) -> tuple[GroupState, list[Setpoint]]:
    now_us = situation.now_us
    advice = replace(
        advice,
        seq=advice.seq + 1,
        moves=plan.moves,
        changed_us=now_us if changed else advice.changed_us,
        valid_until_us=now_us + settings.valid_min * MINUTE_US,
        digest=situation.outlooks[leading(advice, reasons).point].digest,
    )
    told = recommendation(situation, action, advice, reasons, plan, settings, others)
    return GroupState(advice, 0), [told]

"""Advice in words: the record that leaves, with what to move, how to undo it, why, and what it should do.

Every message begins with "Advice only", because that is what it is. Times in sentences are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamproc.core.advice_group import HIGH, Group
from streamproc.core.advice_plan import DIGITS, Move, Plan, Reason, Situation, cost_of
from streamproc.core.iso_time import iso_time
from streamproc.core.quantiles import NAMES
from streamproc.core.setpoint import Alternative, Difference, Effect, Precondition, Setpoint

EFFECT_ERROR_RATIO = 0.2  # the effect tables of a site are believed to within this


@dataclass(frozen=True, slots=True)
class AdviseSettings:
    """The site file's `[advise]`."""

    horizon_min: int
    quantile: int  # place in core.quantiles.LEVELS
    valid_min: int
    hold_min: int
    reject_hold_min: int = 60


@dataclass(frozen=True, slots=True)
class OpenAdvice:
    """The recommendation in force of a group."""

    recommendation_id: str
    seq: int
    point: str
    side: str
    moves: tuple[Move, ...]
    changed_us: int  # last time the amounts were said
    valid_until_us: int
    digest: str


def recommendation(
    situation: Situation,
    action: Literal["ISSUE", "UPDATE"],
    advice: OpenAdvice,
    reasons: Sequence[Reason],
    plan: Plan,
    settings: AdviseSettings,
    others: Sequence[Plan] = (),
) -> Setpoint:
    """Return the record for advice that is in force from now on; `others` are its alternatives, ranked."""
    units = {r.id: r.unit for r in situation.group.resources}
    lead = leading(advice, reasons)
    reason = _reason(lead, situation, settings)
    area = next(p.area for p in situation.group.points if p.id == lead.point)
    return Setpoint(
        recommendation_id=advice.recommendation_id,
        seq=advice.seq,
        action=action,
        area=area,
        reason=reason,
        evidence=tuple(_evidence(r, situation, settings) for r in reasons),
        forward=_differences([(m, m.target) for m in plan.moves], units),
        reverse=_differences([(m, m.base) for m in plan.moves], units),
        preconditions=_preconditions(situation, plan),
        expected_effect=_effects(situation, plan),
        cost=cost_of(situation.group, plan.moves),
        alternatives=tuple(
            Alternative(
                forward=_differences([(m, m.target) for m in other.moves], units),
                cost=cost_of(situation.group, other.moves),
                relieved=other.relieved,
            )
            for other in others
        ),
        relieved=plan.relieved,
        confidence=lead.confidence,
        ts_us=situation.now_us,
        valid_from_us=situation.now_us,
        valid_until_us=advice.valid_until_us,
        message=_sentence(plan, units, reason, lead, area, advice.valid_until_us),
        model_digest=advice.digest,
    )


def leading(advice: OpenAdvice, reasons: Sequence[Reason]) -> Reason:
    """Return the reason that the advice was issued for, as long as it stands, else the most urgent one."""
    return next((r for r in reasons if (r.point, r.side) == (advice.point, advice.side)), reasons[0])


def withdrawal(group: Group, advice: OpenAdvice, now_us: int, why: str) -> Setpoint:
    """Return the record that takes advice back."""
    area = next((p.area for p in group.points if p.id == advice.point), group.points[0].area)
    return Setpoint(
        recommendation_id=advice.recommendation_id,
        seq=advice.seq + 1,
        action="WITHDRAW",
        area=area,
        reason=f"{advice.point}: {why}",
        ts_us=now_us,
        valid_from_us=now_us,
        valid_until_us=now_us,
        message=f"Advice only: the recommendation for {advice.point} is withdrawn, because {why} (area {area})",
        model_digest=advice.digest,
    )


def _differences(pairs: Sequence[tuple[Move, float]], units: Mapping[str, str]) -> tuple[Difference, ...]:
    return tuple(
        Difference(resource=m.resource, attribute="setpoint", value=value, unit=units[m.resource])
        for m, value in pairs
    )


def _reason(reason: Reason, situation: Situation, settings: AdviseSettings) -> str:
    side = "upper" if reason.side == HIGH else "lower"
    limit = f"{side} limit of {reason.limit:g} {reason.unit}"
    # While advice is followed, the measurement is not what would be there without it.
    followed = situation.offset(reason.point) != 0.0
    without = " without this advice" if followed else ""
    worst = f"{reason.worst:.5g} {reason.unit}"
    if reason.alert_id:
        return f"{reason.point} {'would be' if followed else 'is'} at {worst}{without}, beyond its {limit}"
    name = NAMES[settings.quantile if reason.side == HIGH else len(NAMES) - 1 - settings.quantile]
    worst_at, crossing = iso_time(reason.worst_us * 1000), iso_time(reason.crossing_us * 1000)
    told = f"is forecast ({name}) to reach {worst} at {worst_at}{without}"
    return f"{reason.point} {told}; {limit}, crossed from {crossing}"


def _evidence(reason: Reason, situation: Situation, settings: AdviseSettings) -> str:
    outlook = situation.outlooks[reason.point]
    source = f"forecast issued {iso_time(outlook.issued_us * 1000)} by {outlook.method}"
    if reason.alert_id:
        source = f"alert {reason.alert_id}"
    return f"{_reason(reason, situation, settings)} ({source})"


def _preconditions(situation: Situation, plan: Plan) -> tuple[Precondition, ...]:
    """Return the facts that held; with any of them false there would be no advice."""
    by_id = {r.id: r for r in situation.group.resources}
    facts = []
    for move in plan.moves:
        resource = by_id[move.resource]
        outlook = situation.outlooks[resource.point]
        at = iso_time(outlook.last_us * 1000)
        facts += [
            (f"{resource.id} value known", f"{outlook.last_value:.5g} {resource.unit} at {at}"),
            (
                f"{resource.id} within bounds",
                f"{resource.value_min:g} to {resource.value_max:g} {resource.unit}",
            ),
            (f"{resource.id} within ramp", f"{resource.ramp_per_min:g} {resource.unit} per minute"),
        ]
    for point, _ in plan.change:
        issued = iso_time(situation.outlooks[point].issued_us * 1000)
        facts.append((f"forecast of {point} fresh and good", f"issued {issued}"))
    return tuple(Precondition(name=name, holds=True, detail=detail) for name, detail in facts)


def _effects(situation: Situation, plan: Plan) -> tuple[Effect, ...]:
    """Return what changes, and each point at its worst moment with and without it (P50, P05, P95 of its forecast)."""
    units = {p.id: p.unit for p in situation.group.points}
    told = []
    for point, change in plan.change:
        margin = EFFECT_ERROR_RATIO * abs(change)
        outlook = situation.outlooks[point]
        # The worst moment for an effect that lowers is the highest, and the other way round.
        middle = outlook.quantiles[NAMES.index("P50")]
        at = int(np.argmax(middle) if change < 0.0 else np.argmin(middle))
        low, mid, high = (float(outlook.quantiles[row, at]) for row in (0, NAMES.index("P50"), -1))
        offset = situation.offset(point)
        told.append(
            Effect(
                point=point,
                change=change,
                low=round(change - margin, DIGITS),
                high=round(change + margin, DIGITS),
                unit=units[point],
                at_ts_us=outlook.valid_us[at],
                without=round(mid - offset, DIGITS),
                without_low=round(low - offset, DIGITS),
                without_high=round(high - offset, DIGITS),
                with_advice=round(mid - offset + change, DIGITS),
                with_low=round(low - offset + change - margin, DIGITS),
                with_high=round(high - offset + change + margin, DIGITS),
            )
        )
    return tuple(told)


def _sentence(
    plan: Plan, units: Mapping[str, str], reason: str, lead: Reason, area: str, until_us: int
) -> str:
    moves = " and ".join(
        f"{m.resource} from {m.base:g} to {m.target:g} {units[m.resource]}" for m in plan.moves
    )
    rest = (
        ""
        if plan.relieved
        else (f" Not fully relieved: up to {plan.excess:g} {lead.unit} beyond the limit remain.")
    )
    return (
        f"Advice only: move {moves}. {reason} (area {area}). Valid until {iso_time(until_us * 1000)}.{rest}"
    )

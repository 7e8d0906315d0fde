"""What operators answer to advice, and what comes of advice that was accepted.

    accept     noted on the record; from then on promised and realised effect are followed
    reject     needs a reason; withdrawn, and quiet for `reject_hold_min`
    not_now    withdrawn, and quiet for `hold_min`

The realised effect is the measurement at the time when the moves should be done, less what the forecast of before the
acceptance said without them: it holds that forecast's error, which is told as the promise's own interval beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from streamproc.core.advice_group import MINUTE_US, Group, Outlook
from streamproc.core.advice_plan import Move
from streamproc.core.messages import Operator
from streamproc.core.quantiles import NAMES
from streamproc.core.setpoint import Answer, Outcome, Setpoint

MEDIAN, LOWEST, HIGHEST = NAMES.index("P50"), 0, len(NAMES) - 1
FOLLOWED_MAX = 100  # accepted recommendations whose outcome is waited for
PATIENCE_INTERVALS = 3  # of its forecast that a point may stay away when its outcome is due


@dataclass(frozen=True, slots=True)
class Promise:
    """What advice should do at one point. `without`: the forecast of before, at the time when it is due."""

    point: str
    unit: str
    change: float
    low: float
    high: float
    without: float
    without_low: float
    without_high: float


@dataclass(frozen=True, slots=True)
class Followed:
    """An accepted recommendation whose outcome is not known yet. `seq`: of the last record about it."""

    record: Setpoint
    group: str
    seq: int
    due_us: int
    until_us: int  # then it is told with what is known
    promises: tuple[Promise, ...]


def judged(told: Setpoint, said: Operator, users: Mapping[str, frozenset[str]], position: str) -> Answer:
    """Return the answer with its result; `told` is the last record of the recommendation that is in force."""
    listed = users.get(position)
    before = told.answer
    result, detail = "done", ""
    if listed is not None and said.user not in listed:
        result, detail = "refused", f"{said.user!r:.80} is not listed for position {position}"
    elif said.action == "reject" and not said.reason.strip():
        result, detail = "refused", "reject needs a reason"
    elif said.ts_us > told.valid_until_us:
        result, detail = "refused", "the recommendation had expired"
    elif before is not None and before.result == "done":
        result, detail = "repeated", f"{before.by} has said {before.action}"
    return Answer(
        action=said.action,  # type: ignore[arg-type]  # one of ANSWERS
        by=said.user,
        ts_us=said.ts_us,
        reason=said.reason.strip(),
        result=result,  # type: ignore[arg-type]
        detail=detail,
    )


def answered(told: Setpoint, answer: Answer) -> Setpoint:
    """Return the record that tells an answer; what was answered before stays, unless this one was done."""
    return msgspec.structs.replace(
        told,
        seq=told.seq + 1,
        action="ANSWER",
        ts_us=max(told.ts_us, answer.ts_us),
        answer=answer,
        message=f"Advice only: {answer.by} said {answer.action}: {answer.result}"
        + (f", {answer.detail or answer.reason}" if answer.detail or answer.reason else "")
        + f". {told.reason}",
    )


def followed(
    name: str,
    group: Group,
    told: Setpoint,
    moves: tuple[Move, ...],
    outlooks: Mapping[str, Outlook],
    now_us: int,
) -> Followed:
    """Return what is to be looked for, and when: as soon as the slowest move can be done."""
    ramps = {r.id: r.ramp_per_min for r in group.resources}
    minutes = max((abs(m.target - m.base) / ramps[m.resource] for m in moves), default=0.0)
    wanted_us = now_us + int(minutes * MINUTE_US)
    promises, due_us, longest_us = [], wanted_us, 0
    for effect in told.expected_effect:
        outlook = outlooks.get(effect.point)
        if outlook is None:
            continue
        at = min(int(np.searchsorted(outlook.valid_us, wanted_us)), len(outlook.valid_us) - 1)
        bands = outlook.quantiles[:, at]
        due_us = max(due_us, outlook.valid_us[at])
        longest_us = max(longest_us, outlook.interval_min * MINUTE_US)
        promises.append(
            Promise(
                effect.point,
                effect.unit,
                effect.change,
                effect.low,
                effect.high,
                *(float(bands[row]) for row in (MEDIAN, LOWEST, HIGHEST)),
            )
        )
    until_us = due_us + PATIENCE_INTERVALS * longest_us
    return Followed(told, name, told.seq, due_us, until_us, tuple(promises))


def outcome(entry: Followed, outlooks: Mapping[str, Outlook], now_us: int) -> tuple[Outcome, ...] | None:
    """Return what happened, or None while it cannot be told and may still come."""
    if now_us < entry.due_us:
        return None
    told = []
    for promise in entry.promises:
        outlook = outlooks.get(promise.point)
        if outlook is None or outlook.last_us < entry.due_us or not np.isfinite(outlook.last_value):
            if now_us < entry.until_us:
                return None
            continue
        realised = outlook.last_value - promise.without
        # What the forecast of before did not know is no failure of the advice.
        slack = (promise.without_high - promise.without_low) / 2.0
        below, above = promise.low - slack, promise.high + slack
        short = realised > above if promise.change < 0 else realised < below
        inside = below <= realised <= above
        told.append(
            Outcome(
                point=promise.point,
                unit=promise.unit,
                ts_us=outlook.last_us,
                promised=promise.change,
                promised_low=promise.low,
                promised_high=promise.high,
                without=round(promise.without, 3),
                measured=round(outlook.last_value, 3),
                realised=round(realised, 3),
                verdict="within" if inside else "less" if short else "more",
            )
        )
    return tuple(told)


def outcome_record(entry: Followed, found: tuple[Outcome, ...], now_us: int) -> Setpoint:
    """Return the record that tells what came of accepted advice."""
    words = "; ".join(
        f"{o.point} changed by {o.realised:g} {o.unit}, promised {o.promised:g} ({o.verdict})" for o in found
    )
    return msgspec.structs.replace(
        entry.record,
        seq=entry.seq + 1,
        action="OUTCOME",
        ts_us=now_us,
        outcome=found,
        message=f"Advice only: what came of it: {words or 'the points could not be measured'}",
    )

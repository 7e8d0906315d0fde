"""What the advising stage remembers; what operators answer to advice, and what came of it.

The rules are in `core.advice_follow`; here they meet the groups of the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.advice_follow import (
    FOLLOWED_MAX,
    Followed,
    answered,
    followed,
    judged,
    outcome,
    outcome_record,
)
from streamproc.core.advice_group import MINUTE_US, Group, Outlook
from streamproc.core.advice_guard import Declared, Seen
from streamproc.core.advice_text import AdviseSettings, withdrawal
from streamproc.core.advise import ActiveAlert, GroupState, View
from streamproc.core.command import ANSWERS
from streamproc.core.messages import Operator, decode, encode
from streamproc.core.setpoint import Answer, Setpoint
from streamproc.core.wire import Reason, Refusal
from streamproc.values import TOPIC_SETPOINTS, Counts, Output, Record


@dataclass(frozen=True, slots=True)
class AdviseState:
    """Memory of the position. `dirty_us`: since when a group has news that nobody looked at; 0 = none."""

    outlooks: Mapping[str, Outlook] = field(default_factory=dict)
    alerts: Mapping[str, ActiveAlert] = field(default_factory=dict)
    now_us: Mapping[str, int] = field(default_factory=dict)  # by area
    groups: Mapping[str, GroupState] = field(default_factory=dict)  # by the resources in it
    dirty_us: Mapping[str, int] = field(default_factory=dict)
    told: Mapping[str, Setpoint] = field(default_factory=dict)  # group -> the last record of advice in force
    followed: tuple[Followed, ...] = ()  # accepted, outcome not known yet


class Answers:
    """The answers of operators to the advice of a site."""

    def __init__(self, config: SiteConfig, groups: Mapping[str, Group], settings: AdviseSettings) -> None:
        self._groups, self._settings = groups, settings
        self._users = {p.name: frozenset(p.users) for p in config.position}
        self._positions = {area.name: area.position for area in config.area}

    def take(
        self, state: AdviseState, record: Record, counts: Counts, outputs: list[Output]
    ) -> AdviseState | Refusal:
        """Return the state after an operator's answer, or why it is refused; words to alerts are not for here."""
        said = decode(Operator, record.value)
        if isinstance(said, Refusal) or said.action not in ANSWERS:
            return state  # the deciding stage judges and counts it
        name = next((k for k, t in state.told.items() if t.recommendation_id == said.recommendation_id), None)
        if name is None:
            counts["recommendation_answers", f"{said.action}/unknown"] += 1
            detail = f"recommendation_id: {said.recommendation_id!r:.80} is not in force"
            return Refusal(Reason.UNKNOWN_RECOMMENDATION, detail)
        told, memory = state.told[name], state.groups[name]
        answer = judged(told, said, self._users, self._positions.get(told.area, "main"))
        counts["recommendation_answers", f"{said.action}/{answer.result}"] += 1
        message = answered(told, answer)
        if answer.result != "done" and told.answer is not None and told.answer.result == "done":
            kept = msgspec.structs.replace(message, answer=told.answer)
        else:
            kept = message
        state = send(state, name, message, counts, outputs)
        state = replace(state, told={**state.told, name: kept})
        if memory.advice is not None:
            memory = replace(memory, advice=replace(memory.advice, seq=message.seq))
            state = replace(state, groups={**state.groups, name: memory})
        return state if answer.result != "done" else self._heeded(state, name, answer, counts, outputs)

    def _heeded(
        self, state: AdviseState, name: str, answer: Answer, counts: Counts, outputs: list[Output]
    ) -> AdviseState:
        """Follow accepted advice; take back what was rejected or put off, and be quiet for a while."""
        group, memory = self._groups[name], state.groups[name]
        now_us = now_of(state, group)
        if answer.action == "accept":
            moves = memory.advice.moves if memory.advice is not None else ()
            entry = followed(name, group, state.told[name], moves, state.outlooks, now_us)
            return replace(state, followed=(*state.followed, entry)[-FOLLOWED_MAX:])
        rest_min = self._settings.reject_hold_min if answer.action == "reject" else self._settings.hold_min
        if memory.advice is not None:
            why = f"{answer.by} said {answer.action}" + (f": {answer.reason}" if answer.reason else "")
            message = withdrawal(group, memory.advice, now_us, why)
            state = send(state, name, message, counts, outputs)
        quiet = GroupState(None, now_us, now_us + rest_min * MINUTE_US)
        return replace(state, groups={**state.groups, name: quiet})

    def follow(self, state: AdviseState, counts: Counts, outputs: list[Output]) -> AdviseState:
        """Tell what came of accepted advice whose time has come."""
        for entry in state.followed:
            group = self._groups.get(entry.group)
            now_us = 0 if group is None else now_of(state, group)
            found = outcome(entry, state.outlooks, now_us)
            if found is None:
                continue
            entry = next(f for f in state.followed if f.record is entry.record)  # noqa: PLW2901 - its seq may have moved
            message = outcome_record(entry, found, now_us)
            for one in found:
                counts["recommendation_outcomes", one.verdict] += 1
            if not found:
                counts["recommendation_outcomes", "unknown"] += 1
            state = send(state, entry.group, message, counts, outputs)
            rest = tuple(f for f in state.followed if f.record is not entry.record)
            memory = state.groups.get(entry.group, GroupState())
            if memory.advice is not None and memory.advice.recommendation_id == message.recommendation_id:
                memory = replace(memory, advice=replace(memory.advice, seq=message.seq))
            state = replace(state, followed=rest, groups={**state.groups, entry.group: memory})
        return state


def send(
    state: AdviseState, name: str, message: Setpoint, counts: Counts, outputs: list[Output]
) -> AdviseState:
    """Tell a record; advice in force keeps the answer that an operator has given to it."""
    before = state.told.get(name)
    same = before is not None and before.recommendation_id == message.recommendation_id
    if same and before is not None and message.action in {"UPDATE", "WITHDRAW"}:
        message = msgspec.structs.replace(message, answer=before.answer)
    key = message.recommendation_id.encode()
    outputs.append(Output(TOPIC_SETPOINTS, key, encode(message), message.ts_us // 1000))
    counts["recommendations", message.action] += 1
    entries = tuple(
        replace(f, seq=max(f.seq, message.seq))
        if f.record.recommendation_id == message.recommendation_id
        else f
        for f in state.followed
    )
    told = {k: v for k, v in state.told.items() if k != name}
    if message.action in {"ISSUE", "UPDATE", "ANSWER"}:
        told[name] = message
    elif message.action == "OUTCOME" and before is not None:
        told[name] = before
    return replace(state, told=told, followed=entries)


def now_of(state: AdviseState, group: Group) -> int:
    """Return the event time of a group: the newest of its areas and series."""
    areas = {point.area for point in group.points}
    areas |= {o.area for name, o in state.outlooks.items() if name in group.series}
    return max((state.now_us.get(area, 0) for area in areas), default=0)


def look_at(
    group: Group, view: View, settings: AdviseSettings
) -> tuple[dict[str, Declared], dict[str, Seen], float]:
    """Return what the guard is given: what is declared and measured, limits and forecasts, and the time for moves, min."""
    resources = {}
    for r in group.resources:
        own = view.outlooks.get(r.point)
        resources[r.id] = Declared(
            r.value_min,
            r.value_max,
            r.ramp_per_min,
            r.unit == "step",
            r.effect,
            np.nan if own is None else own.last_value,
            view.now_us - (0 if own is None else own.last_us),
            0 if own is None else (2 * own.interval_min + 2) * MINUTE_US,
        )
    points = {}
    for point in group.points:
        outlook = view.outlooks.get(point.id)
        if outlook is None:
            continue
        bands, row = outlook.quantiles, settings.quantile
        points[point.id] = Seen(
            point.limit_high,
            point.limit_low,
            float(bands[row].max()),
            float(bands[bands.shape[0] - 1 - row].min()),
            view.now_us - outlook.issued_us,
            (2 * outlook.interval_min + 2) * MINUTE_US,
        )
    return resources, points, float(max(settings.horizon_min, settings.valid_min))

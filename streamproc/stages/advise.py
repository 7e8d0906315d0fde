"""The advising stage: alerts and forecasts in, recommendations out. It recommends; nothing it sends moves anything.

Records are taken one at a time. A group of resources and points is looked at

    at once          when an alert about one of its points comes or goes when complete    when every series of
    the group has its forecast of this interval (half a picture makes half a plan) after PATIENCE   when some
    series stays away every record     whether advice in force has expired or rests on input that is old by
    now

Time is event time, per area: the newest of its forecasts, and of its alerts about SCADA points. All inputs
have one partition (`shell.topics`), so that the whole picture meets here. The whole state is in the blob.

Operators answer on `grid.operator.v1`; what came of accepted advice is told when its time has come (`core.advice_follow`).
Nothing leaves that `core.advice_guard` objects to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.advice_follow import Followed
from streamproc.core.advice_group import MINUTE_US, Group, Outlook, Resource, Watched, groups_of
from streamproc.core.advice_guard import first_words, objections
from streamproc.core.advice_plan import Move, Solve
from streamproc.core.advice_text import AdviseSettings, OpenAdvice, withdrawal
from streamproc.core.advise import REFUSED, ActiveAlert, GroupState, View, advise, expired, unfounded
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.messages import Alert, Forecast, decode
from streamproc.core.quantiles import NAMES
from streamproc.core.setpoint import Setpoint
from streamproc.core.wire import Reason, Refusal, dead_letter
from streamproc.errors import StateError
from streamproc.stages.advise_answers import AdviseState, Answers, look_at, now_of, send
from streamproc.values import (
    SILENT,
    TOPIC_ALERTS,
    TOPIC_FORECASTS,
    TOPIC_OPERATOR,
    Counts,
    Output,
    Probe,
    Record,
    Step,
)

BLOB_KIND = "advise/2"
PATIENCE_US = 30_000_000  # event time that a group waits for its missing series


class AdviseStage:
    """values.Stage over `grid.alerts.v1`, `grid.forecasts.v1` and `grid.operator.v1`."""

    name = "advise"
    inputs = (TOPIC_ALERTS, TOPIC_FORECASTS, TOPIC_OPERATOR)
    broadcast: tuple[str, ...] = ()

    def __init__(self, config: SiteConfig, solve: Solve) -> None:
        table = config.advise
        self._settings = AdviseSettings(
            table.horizon_min,
            NAMES.index(table.quantile),
            table.valid_min,
            table.hold_min,
            table.reject_hold_min,
        )
        self._solve = solve
        resources = [
            Resource(
                r.id,
                r.point,
                r.unit,
                r.value_min,
                r.value_max,
                r.ramp_per_min,
                r.cost,
                dict(sorted(r.effect.items())),
            )
            for r in config.resource
        ]
        points = [Watched(p.id, p.area, p.unit, p.limit_high, p.limit_low) for p in config.point]
        self._groups = {",".join(r.id for r in g.resources): g for g in groups_of(resources, points)}
        self._answers = Answers(config, self._groups, self._settings)
        self._wanted = frozenset(name for g in self._groups.values() for name in g.series)
        self._limits = {f"point_{side}:{p.id}" for p in points for side in ("high", "low")}

    def fresh(self) -> AdviseState:
        """Return the state before any record."""
        return AdviseState()

    def learn(self, state: AdviseState, records: Sequence[Record]) -> AdviseState:
        """Return the same state: there is nothing to learn."""
        del records
        return state

    def step(self, state: AdviseState, records: Sequence[Record], probe: Probe = SILENT) -> Step[AdviseState]:
        """Return the recommendations that these records cause."""
        counts: Counts = Counter()
        outputs: list[Output] = []
        for record in records:
            if (
                record.topic == TOPIC_FORECASTS
            ):  # the others are counted, and kept if strange, by their own stage
                counts["records", record.topic] += 1
            read = (
                self._answers.take(state, record, counts, outputs)
                if record.topic == TOPIC_OPERATOR
                else _read(record)
            )
            if isinstance(read, AdviseState):
                state = read
                continue
            if isinstance(read, Refusal) and record.topic == TOPIC_ALERTS:
                continue
            if isinstance(read, Refusal):
                counts["rejected", str(read.reason)] += 1
                counts["dead_letters", str(read.reason)] += 1
                outputs.append(dead_letter(record, read.reason, read.detail))
                continue
            if isinstance(read, Alert):
                state, at_once = self._alert(state, read)
            else:
                state, at_once = self._forecast(state, read), frozenset()
            state = self._look(state, at_once, counts, outputs)
            state = self._answers.follow(state, counts, outputs)
        probe.lap("advise")
        return Step(state, tuple(outputs), counts)

    def _forecast(self, state: AdviseState, told: Forecast) -> AdviseState:
        """Return the state that knows a forecast; an old or repeated one changes nothing."""
        if told.horizon != "PT1H":
            return state  # advice looks an hour ahead
        now_us = max(state.now_us.get(told.area, 0), told.available_at_us)
        state = replace(state, now_us={**state.now_us, told.area: now_us})
        known = state.outlooks.get(told.series)
        if told.series not in self._wanted or (known is not None and told.issued_at_us <= known.issued_us):
            return state
        outlook = Outlook(
            told.series,
            told.area,
            told.issued_at_us,
            told.interval_min,
            told.valid_ts_us,
            np.array([getattr(told.quantiles, name) for name in NAMES]),
            np.nan if told.last_value is None else told.last_value,
            told.last_ts_us or 0,
            told.quality == "GOOD",
            told.method,
            told.model_digest,
        )
        dirty = {
            k: state.dirty_us.get(k) or now_us for k, g in self._groups.items() if told.series in g.series
        }
        return replace(
            state,
            outlooks={**state.outlooks, told.series: outlook},
            dirty_us={**state.dirty_us, **dirty},
        )

    def _alert(self, state: AdviseState, told: Alert) -> tuple[AdviseState, frozenset[str]]:
        """Return the state that knows an alert, and the groups that it is about."""
        limits = tuple(name for name in told.rules if name in self._limits)
        known = state.alerts.get(told.alert_id)
        if not limits or (known is not None and told.seq <= known.seq):
            return state, frozenset()
        now_us = max(state.now_us.get(told.area, 0), told.ts_us)
        alerts = {k: a for k, a in state.alerts.items() if k != told.alert_id}
        if told.state in {"UNACK", "ACKED"}:
            alerts[told.alert_id] = ActiveAlert(told.alert_id, told.seq, told.onset_ts_us, told.ts_us, limits)
        points = {name.partition(":")[2] for name in limits}
        about = frozenset(k for k, g in self._groups.items() if points & g.series)
        return replace(state, alerts=alerts, now_us={**state.now_us, told.area: now_us}), about

    def _look(
        self, state: AdviseState, at_once: frozenset[str], counts: Counts, outputs: list[Output]
    ) -> AdviseState:
        """Return the state after looking at every group that must be looked at now."""
        for name, group in self._groups.items():
            view = View(state.outlooks, state.alerts, now_of(state, group))
            memory = state.groups.get(name, GroupState())
            dirty_us = state.dirty_us.get(name, 0)
            news = dirty_us > 0 and (_complete(group, view) or view.now_us - dirty_us >= PATIENCE_US)
            if not (
                name in at_once or news or expired(memory, view.now_us) or unfounded(group, memory, view)
            ):
                continue
            memory, told, refused = self._guarded(group, memory, view)
            left = {k: v for k, v in state.dirty_us.items() if k != name}
            state = replace(state, groups={**state.groups, name: memory}, dirty_us=left)
            if refused:
                counts["recommendations", REFUSED] += refused
            for message in told:
                state = send(state, name, message, counts, outputs)
        return state

    def _guarded(
        self, group: Group, memory: GroupState, view: View
    ) -> tuple[GroupState, list[Setpoint], int]:
        """Advise, and let nothing leave that the guard objects to: then there is no advice, and what was in force ends."""
        after, told, refused = advise(group, memory, view, self._settings, self._solve)
        if not told or told[-1].action == "WITHDRAW":
            return after, told, refused
        why = objections(told[-1], *look_at(group, view, self._settings), view.now_us)
        if not why:
            return after, told, refused
        ended: list[Setpoint] = []
        if memory.advice is not None:
            ended = [withdrawal(group, memory.advice, view.now_us, f"the guard objects: {first_words(why)}")]
        return GroupState(None, view.now_us), ended, refused + 1

    def warm(self, state: AdviseState, records: Sequence[Record]) -> AdviseState:
        """Return the same state: it is whole in its blob."""
        del records
        return state

    def pack(self, state: AdviseState) -> bytes:
        """Return the whole state."""
        return pack_tree(
            BLOB_KIND,
            {
                "outlooks": list(state.outlooks.values()),
                "alerts": list(state.alerts.values()),
                "now_us": dict(state.now_us),
                "groups": dict(state.groups),
                "dirty_us": dict(state.dirty_us),
                "told": msgspec.msgpack.encode(state.told),
                "followed": msgspec.msgpack.encode(state.followed),
            },
        )

    def unpack(self, blob: bytes) -> AdviseState:
        """Return the state of `pack`; advice of groups that the site file has changed stays until it expires."""
        tree = unpack_tree(BLOB_KIND, blob)
        try:
            outlooks = [Outlook(**{**item, "valid_us": tuple(item["valid_us"])}) for item in tree["outlooks"]]
            alerts = [ActiveAlert(**{**item, "limits": tuple(item["limits"])}) for item in tree["alerts"]]
            groups = {name: _group_state(item) for name, item in tree["groups"].items()}
            told = msgspec.msgpack.decode(tree["told"], type=dict[str, Setpoint])
            entries = msgspec.msgpack.decode(tree["followed"], type=tuple[Followed, ...])
        except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            raise StateError(f"the state blob of {self.name} does not fit: {error}") from error
        return AdviseState(
            {o.series: o for o in outlooks},
            {a.alert_id: a for a in alerts},
            dict(tree["now_us"]),
            groups,
            dict(tree["dirty_us"]),
            told,
            entries,
        )

    def resume_offset(self, state: AdviseState, topic: str, next_offset: int) -> int:
        """Return `next_offset`: nothing is re-read."""
        del state, topic
        return next_offset


def _group_state(item: Mapping[str, Any]) -> GroupState:
    advice = item["advice"]
    if advice is not None:
        advice = OpenAdvice(**{**advice, "moves": tuple(Move(**move) for move in advice["moves"])})
    return GroupState(advice, item["withdrawn_us"], item["quiet_until_us"])


def _read(record: Record) -> Alert | Forecast | Refusal:
    """Return the message of a record, or why it is refused."""
    if record.topic == TOPIC_ALERTS:
        return decode(Alert, record.value)
    told = decode(Forecast, record.value)
    if isinstance(told, Refusal):
        return told
    n_step = len(told.valid_ts_us)
    if n_step == 0 or any(len(getattr(told.quantiles, name)) != n_step for name in NAMES):
        return Refusal(Reason.WRONG_TYPE, "quantiles and valid_ts_us must be of one length, not empty")
    return told


def _complete(group: Group, view: View) -> bool:
    """Return whether every series of the group that is alive has its forecast of this interval."""
    for name in group.series:
        outlook = view.outlooks.get(name)
        if outlook is None:
            return False
        due_us = outlook.issued_us + outlook.interval_min * MINUTE_US
        if outlook.fresh(view.now_us) and due_us <= view.now_us:
            return False
    return True

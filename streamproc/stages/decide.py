"""The deciding stage: findings and operators' words in, alert transitions out. One partition per operator position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import msgspec

from streamproc.config import SiteConfig
from streamproc.core.alarm import State
from streamproc.core.alarm_logic import Suppress
from streamproc.core.blob import pack_tree, unpack_tree
from streamproc.core.command import ACTIONS, ANSWERS, CommandRules
from streamproc.core.decide import DecideSettings, DecideState, command, take_finding
from streamproc.core.disturbance import Disturbance
from streamproc.core.messages import Alert, Finding, Operator, decode, encode
from streamproc.core.open_alert import OpenAlert, Told
from streamproc.core.rationale import announced, guided, in_force, latched_rules, prioritised
from streamproc.core.rules_message import Rules
from streamproc.core.wire import Reason, Refusal, dead_letter
from streamproc.errors import StateError
from streamproc.values import (
    SILENT,
    TOPIC_ALERTS,
    TOPIC_FINDINGS,
    TOPIC_OPERATOR,
    TOPIC_RULES,
    Counts,
    Output,
    Probe,
    Record,
    Step,
)

BLOB_KIND = "decide/3"
OLDER_KIND = "decide/2"  # what it does not hold has defaults: no alert is lost by an upgrade
STATES = get_args(State)
UNSOURCED = {"watermark", "describe"}  # findings that name no sources


class DecideStage:
    """values.Stage over `grid.findings.v1` and `grid.operator.v1`."""

    name = "decide"
    inputs = (TOPIC_FINDINGS, TOPIC_OPERATOR)
    broadcast: tuple[str, ...] = (TOPIC_RULES,)

    def __init__(self, config: SiteConfig, rules: Rules | None = None) -> None:
        self._eras = () if rules is None else (rules,)
        table = config.decide
        self._positions = sorted({"main", *(area.position for area in config.area)})  # labels of the gauge
        self._settings = DecideSettings(
            group_window_us=table.group_window_ms * 1000,
            quiet_us=table.quiet_ms * 1000,
            sources_max=table.sources_max,
            hold_max_us=table.hold_max_s * 1_000_000,
            latch=table.latch,
            suppress=tuple(Suppress(s.rule, s.source, s.while_rule, s.while_source) for s in config.suppress),
            commands=CommandRules(
                table.shelve_max_min * 60_000_000, {p.name: frozenset(p.users) for p in config.position}
            ),
        )

    def fresh(self) -> DecideState:
        """Return the state without alerts."""
        return DecideState(eras=self._eras)

    def learn(self, state: DecideState, records: Sequence[Record]) -> DecideState:
        """Return the state that knows the rules in these records; each set holds from its own event time on."""
        for record in records:
            rules = decode(Rules, record.value)
            if isinstance(rules, Refusal):
                state = replace(state, strange=state.strange + 1)
            else:
                state = replace(state, eras=announced(state.eras, rules))
        return state

    def step(self, state: DecideState, records: Sequence[Record], probe: Probe = SILENT) -> Step[DecideState]:
        """Return the transitions that these records cause."""
        counts: Counts = Counter()
        outputs: list[Output] = []
        if records and state.strange:
            counts["rejected", "rules"] += state.strange
            state = replace(state, strange=0)
        for record in records:
            counts["records", record.topic] += 1
            if record.topic == TOPIC_OPERATOR:
                state, told = self._operator(state, record, counts, outputs)
            else:
                state, told = self._finding(state, record, counts, outputs)
            for plain in told:
                alert = guided(plain, in_force(state.eras, plain.onset_ts_us))
                outputs.append(
                    Output(TOPIC_ALERTS, alert.alert_id.encode(), encode(alert), alert.ts_us // 1000)
                )
                counts["alert_transitions", alert.state] += 1
                if alert.seq == 1:
                    counts["alerts", f"{alert.kind}/{alert.priority}"] += 1
        probe.lap("decide")
        active = Counter(a.position for a in state.alerts.values() if a.state != "NORM")
        gauges: dict[tuple[str, str], float] = {
            ("active_alerts", position): float(active[position]) for position in self._positions
        }
        states = Counter(a.state for a in state.alerts.values())
        gauges |= {("alerts_in_state", name): float(states[name]) for name in STATES}
        return Step(state, tuple(outputs), counts, gauges=gauges)

    def _finding(
        self, state: DecideState, record: Record, counts: Counts, outputs: list[Output]
    ) -> tuple[DecideState, list[Alert]]:
        finding = decode(Finding, record.value)
        if isinstance(finding, Finding) and finding.type not in UNSOURCED and not _in_step(finding):
            finding = Refusal(
                Reason.WRONG_TYPE, "sources, scores and onsets_us must be of one length, not empty"
            )
        if isinstance(finding, Refusal):
            _refuse(record, finding, counts, outputs)
            return state, []
        rules = in_force(state.eras, finding.ts_us)
        latch = latched_rules(rules)
        settings = replace(self._settings, latch=(*self._settings.latch, *latch)) if latch else self._settings
        return take_finding(state, prioritised(finding, rules), settings)

    def _operator(
        self, state: DecideState, record: Record, counts: Counts, outputs: list[Output]
    ) -> tuple[DecideState, list[Alert]]:
        said = decode(Operator, record.value)
        if isinstance(said, Operator) and said.action in ANSWERS:
            counts["operator_commands", f"{said.action}/other"] += 1  # to a recommendation
            return state, []
        if isinstance(said, Operator) and said.action not in ACTIONS:
            known = ", ".join(sorted(ACTIONS))
            said = Refusal(Reason.UNSUPPORTED_ACTION, f"action: {said.action!r:.80}, known are {known}")
        if isinstance(said, Operator) and said.alert_id not in state.alerts:
            said = Refusal(Reason.UNKNOWN_ALERT, f"alert_id: {said.alert_id!r:.80} is no open alert")
        if isinstance(said, Refusal):
            _refuse(record, said, counts, outputs)
            return state, []
        state, told, result = command(state, said, self._settings)
        counts["operator_commands", f"{said.action}/{result}"] += 1
        return state, told

    def warm(self, state: DecideState, records: Sequence[Record]) -> DecideState:
        """Return the same state: it is whole in its blob."""
        del records
        return state

    def pack(self, state: DecideState) -> bytes:
        """Return the whole state."""
        # MessagePack has no keys of two parts, so the members stand beside their alert. The rows are encoded here and
        # not as a tree: in C it takes a tenth of the time, and this is done every second.
        rows = [
            (replace(alert, members={}), [(*key, cleared) for key, cleared in alert.members.items()])
            for alert in state.alerts.values()
        ]
        return pack_tree(BLOB_KIND, {"alerts": msgspec.msgpack.encode(rows), "seen": state.seen})

    def unpack(self, blob: bytes) -> DecideState:
        """Return the state of `pack`."""
        tree = unpack_tree(BLOB_KIND, blob, OLDER_KIND)
        alerts = {}
        try:
            for fields, rows in msgspec.msgpack.decode(tree["alerts"]):
                members = {(rule, source): cleared for rule, source, cleared in rows}
                known = fields["disturbance"]
                told = None if known is None else msgspec.convert(known, Disturbance)
                last = fields.get("command")
                fields["command"] = None if last is None else msgspec.convert(last, Told)
                fields["commands"] = tuple(fields.get("commands", ()))
                alert = OpenAlert(**{**fields, "members": members, "disturbance": told})
                alerts[alert.alert_id] = alert
            return DecideState(alerts, {a: tuple(ids) for a, ids in tree["seen"].items()}, self._eras)
        except (AttributeError, KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            raise StateError(f"the state blob has another shape: {error!r}") from error

    def resume_offset(self, state: DecideState, topic: str, next_offset: int) -> int:
        """Return `next_offset`: nothing is re-read."""
        del state, topic
        return next_offset


def _in_step(finding: Finding) -> bool:
    count = len(finding.sources)
    values_fit = len(finding.values) in {0, count}
    return 0 < count == len(finding.scores) == len(finding.onsets_us) and values_fit


def _refuse(record: Record, refusal: Refusal, counts: Counts, outputs: list[Output]) -> None:
    counts["rejected", str(refusal.reason)] += 1
    counts["dead_letters", str(refusal.reason)] += 1
    outputs.append(dead_letter(record, refusal.reason, refusal.detail))

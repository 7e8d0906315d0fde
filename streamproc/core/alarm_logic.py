"""What alerts mean for each other: one suppressed while its cause is active, one that nobody can evaluate any more.

Suppression by design is declared (`[[suppress]]`), told on the record and counted. It never hides priority 1, and only
an alert that operators see (UNACK, ACKED) hides another: what is shelved or suppressed itself hides nothing.

Unknown is a third value. When every source of an active grid alert is blind (its data missing, bad, frozen or silent, as
the quality findings say), the alert keeps its state and says since when. Past `hold_max` that is an alert of its own:
whoever acknowledges "no data" has not acknowledged what is behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256

from streamproc.core.alarm import after
from streamproc.core.messages import Finding
from streamproc.core.open_alert import ACTIVE, OpenAlert, opened, unheld
from streamproc.core.quality import DISCARDED

CANNOT_EVALUATE = "cannot_evaluate"
BLIND_RULES = frozenset({"data_missing", "data_bad", "data_frozen", "point_stale"})
SILENT_RULES: Mapping[str, bool] = {"area_silent": True, "scada_silent": False}  # rule -> about frames
URGENT = 1  # the priority that nothing hides


@dataclass(frozen=True, slots=True)
class Suppress:
    """`rule` at `source` is hidden while `while_rule` at `while_source` is active in its area; patterns with `*`, `?`."""

    rule: str
    source: str
    while_rule: str
    while_source: str


def suppressed(alerts: Iterable[OpenAlert], ts_us: int, rules: Iterable[Suppress]) -> list[OpenAlert]:
    """Return those alerts of one area whose suppression begins or ends now."""
    alerts = list(alerts)
    seen = {a.alert_id: a for a in alerts if a.state in {"UNACK", "ACKED"} and not a.latched}
    changed = []
    for alert in alerts:
        if alert.state not in {"UNACK", "ACKED", "DSUPR"} or alert.latched:
            continue
        if alert.state == "DSUPR" and not alert.active:  # its off-delay runs, or it has returned
            above = seen.get(alert.suppressed_by or "")
            stays = alert.open or (above is not None and above.active)
            cause = alert.suppressed_by if stays else None
        else:
            cause = None if alert.priority == URGENT else _above(alert, seen.values(), rules)
        if cause is None and alert.state == "DSUPR":
            changed.append(unheld(alert, "unsuppress", ts_us))
        elif cause is not None and alert.state != "DSUPR":
            state = after(alert.state, "suppress")
            changed.append(replace(alert, state=state, suppressed_by=cause, ack_by=None, ack_comment=None))
            del seen[alert.alert_id]  # two never hide each other
    return changed


def _above(alert: OpenAlert, seen: Iterable[OpenAlert], rules: Iterable[Suppress]) -> str | None:
    """Return the id of the alert that hides this one: all that is active in it must be hidden by one rule."""
    own = _active(alert)
    for rule in rules:
        if not own or not all(_fits(key, rule.rule, rule.source) for key in own):
            continue
        for other in seen:
            hides = other.alert_id != alert.alert_id and not _hidden(other, rule)
            if hides and any(_fits(key, rule.while_rule, rule.while_source) for key in _active(other)):
                return other.alert_id
    return None


def _hidden(alert: OpenAlert, rule: Suppress) -> bool:
    """Two that fit the same rule do not hide each other."""
    return all(_fits(key, rule.rule, rule.source) for key in _active(alert))


def _fits(key: tuple[str, str], rule: str, source: str) -> bool:
    return fnmatchcase(key[0], rule) and fnmatchcase(key[1], source)


def _active(alert: OpenAlert) -> list[tuple[str, str]]:
    return [key for key, cleared in alert.members.items() if cleared == ACTIVE]


def doubted(alerts: Iterable[OpenAlert], ts_us: int, hold_max_us: int) -> list[OpenAlert]:
    """Return those alerts of one area that change because their sources can or cannot be evaluated now."""
    alerts = list(alerts)
    blind, silent = _blind(alerts)
    changed: dict[str, OpenAlert] = {}
    doubts = {a.alert_id: a for a in alerts if a.rule == CANNOT_EVALUATE}
    needed: dict[str, set[tuple[str, str]]] = {}
    for alert in alerts:
        if alert.family != "grid":
            continue
        own = {source for _, source in _active(alert)} if alert.open else set()
        unknown = bool(own) and (bool(alert.digest) in silent or own <= blind)
        held = alert
        if unknown != (alert.unknown_us is not None):
            held = replace(alert, unknown_us=ts_us if unknown else None, doubt_id=None)
        if held.unknown_us is not None and ts_us - held.unknown_us >= hold_max_us and held.doubt_id is None:
            doubt = _doubt(held, sorted(own), ts_us, hold_max_us)
            held = replace(held, doubt_id=doubt.alert_id)
            changed[doubt.alert_id] = doubts[doubt.alert_id] = _joined(doubts.get(doubt.alert_id), doubt)
        if held.doubt_id is not None:
            needed.setdefault(held.doubt_id, set()).update((CANNOT_EVALUATE, source) for source in own)
        if held is not alert:
            changed[held.alert_id] = held
    for doubt in doubts.values():
        over = {key: ts_us for key in set(_active(doubt)) - needed.get(doubt.alert_id, set())}
        if over:
            less = replace(doubt, members={**doubt.members, **dict(sorted(over.items()))})
            changed[doubt.alert_id] = less if less.active else replace(less, cleared_us=ts_us)
    return list(changed.values())


def _blind(alerts: Iterable[OpenAlert]) -> tuple[set[str], set[bool]]:
    """Return the sources without usable data; and whether frames (True) or SCADA records (False) do not come at all."""
    active = [key for a in alerts if a.open and a.family in {"quality", "service"} for key in _active(a)]
    silent = {SILENT_RULES[rule] for rule, _ in active if rule in SILENT_RULES}
    return {source for rule, source in active if rule in BLIND_RULES}, silent


def _doubt(alert: OpenAlert, sources: list[str], ts_us: int, hold_max_us: int) -> OpenAlert:
    """Return the alert that says so: one for all alerts of an area that are in doubt since the same instant."""
    since_us = alert.unknown_us or ts_us
    unknown_s = (ts_us - since_us) / 1e6
    finding = Finding(
        type="raise",
        finding_id="",
        area=alert.area,
        position=alert.position,
        ts_us=ts_us,
        family="quality",
        kind=CANNOT_EVALUATE,
        rule=CANNOT_EVALUATE,
        priority=max(2, alert.priority),
        sources=tuple(sources),
        scores=(unknown_s / (hold_max_us / 1e6),) * len(sources),
        values=(unknown_s,) * len(sources),
        onsets_us=(since_us,) * len(sources),
        limit=hold_max_us / 1e6,
        unit="s",
        text="An active alert cannot be evaluated for {value} s, limit {limit} s: no usable data of {source}",
        quality=DISCARDED,
    )
    members = dict.fromkeys(((CANNOT_EVALUATE, source) for source in sources), ACTIVE)
    identity = sha256(f"{CANNOT_EVALUATE}|{alert.area}|{since_us}".encode()).hexdigest()[:32]
    return replace(opened(finding, (since_us, sources[0]), members), alert_id=identity)


def _joined(known: OpenAlert | None, doubt: OpenAlert) -> OpenAlert:
    if known is None:
        return doubt
    priority = min(known.priority, doubt.priority)
    return replace(known, members={**known.members, **doubt.members}, priority=priority)

"""What a site has rationalised about its alarms: why each is one, how urgent, what to do, and its limits and delays.

One set of rules is in force from its `valid_from_us` on, by event time, as a whole; a replay switches at the same records.
The priority follows from the consequence and the time to respond (ISA-18.2, EEMUA 191: the method; the classes are the
site's):

    time to respond    < 5 min   < 15 min   < 60 min   longer
    severe                1          1          2         4
    major                 2          2          3         4
    minor                 3          3          4         4
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from streamproc.core.messages import Alert, Finding, Guidance
from streamproc.core.rules_message import AlarmRule, Rules, Severity

MATRIX: dict[Severity, tuple[int, int, int, int]] = {
    "severe": (1, 1, 2, 4),
    "major": (2, 2, 3, 4),
    "minor": (3, 3, 4, 4),
}
EDGES_MIN = (5.0, 15.0, 60.0)
ERAS_MAX = 8  # sets of rules remembered: the one in force and what is announced
P = TypeVar("P", bound=msgspec.Struct)  # a point of the catalogue


def priority_of(rule: AlarmRule) -> int:
    """Return the priority by consequence and time to respond."""
    return MATRIX[rule.severity][sum(rule.response_time_min >= edge for edge in EDGES_MIN)]


def announced(eras: tuple[Rules, ...], news: Rules) -> tuple[Rules, ...]:
    """Return the sets with a new one, in order of their beginning; one with the same beginning replaces the other."""
    kept = [rules for rules in eras if rules.valid_from_us != news.valid_from_us]
    return tuple(sorted([*kept, news], key=lambda rules: rules.valid_from_us)[-ERAS_MAX:])


def in_force(eras: Iterable[Rules], ts_us: int) -> Rules | None:
    """Return the set in force at an event time; `eras` in order of their beginning."""
    return next((rules for rules in reversed(tuple(eras)) if rules.valid_from_us <= ts_us), None)


def rule_for(rules: Rules | None, rule: str, source: str, area: str) -> AlarmRule | None:
    """Return what is rationalised about a rule at a source; the first that fits."""
    if rules is None:
        return None
    return next(
        (
            known
            for known in rules.alarms
            if fnmatchcase(rule, known.rule)
            and fnmatchcase(source, known.source)
            and fnmatchcase(area, known.area)
        ),
        None,
    )


def prioritised(finding: Finding, rules: Rules | None) -> Finding:
    """Return the finding with the priority that the site gives it."""
    if rules is None or not finding.sources:
        return finding
    known = rule_for(rules, finding.rule, finding.sources[0], finding.area)
    return finding if known is None else msgspec.structs.replace(finding, priority=priority_of(known))


def guided(alert: Alert, rules: Rules | None) -> Alert:
    """Return the alert with what the site says about it."""
    known = rule_for(rules, alert.rule, alert.source, alert.area)
    if known is None:
        return alert
    told = Guidance(
        cause=known.cause,
        consequence=known.consequence,
        corrective_action=known.corrective_action,
        response_time_min=known.response_time_min,
        who=known.who,
    )
    return msgspec.structs.replace(alert, guidance=told)


def latched_rules(rules: Rules | None) -> tuple[str, ...]:
    """Return the patterns of rules whose alerts stay until they are reset."""
    return () if rules is None else tuple(rule.rule for rule in rules.alarms if rule.latch)


def ruled_point(point: P, identity: str, rules: Rules | None) -> P:
    """Return a point of the catalogue with the limits, delays and deadband that the site has rationalised."""
    if rules is None:
        return point
    for side in ("high", "low"):
        name = f"point_{side}:{identity}"
        known = next((rule for rule in rules.alarms if rule.rule == name), None)
        if known is None:
            continue
        given = {f"limit_{side}": known.limit, "deadband": known.deadband}
        given |= {"on_delay_ms": known.on_delay_ms, "off_delay_ms": known.off_delay_ms}
        changes = {key: value for key, value in given.items() if value is not None}
        point = msgspec.structs.replace(point, **changes)
    return point


def difference(old: Rules | None, new: Rules) -> list[str]:
    """Return what a new set changes, one line each, for the log and for whoever applies it."""
    before = {} if old is None else {(r.rule, r.source, r.area): r for r in old.alarms}
    after = {(r.rule, r.source, r.area): r for r in new.alarms}
    lines = [f"+ {_words(key)}: priority {priority_of(after[key])}" for key in after if key not in before]
    lines += [f"- {_words(key)}" for key in before if key not in after]
    for key, now in after.items():
        was = before.get(key, now)
        names = [n for n in AlarmRule.__struct_fields__ if getattr(was, n) != getattr(now, n)]
        changes = [f"{name} {getattr(was, name)} -> {getattr(now, name)}" for name in names]
        if changes:
            lines.append(f"~ {_words(key)}: {', '.join(changes)}")
    return lines


def _words(key: tuple[str, str, str]) -> str:
    rule, source, area = key
    return rule + (f" at {source}" if source != "*" else "") + (f" in {area}" if area != "*" else "")

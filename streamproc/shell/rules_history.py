"""Rationalised rules against history: what they would have said, and what history itself proposes.

A replay goes through the very stages of the service, without forecasts. What is compared are raises of limits of SCADA
points: matched by rule within MATCH_S of each other, each once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamproc.config import PointTable, SiteConfig
from streamproc.core.kpi import chattering, flood_spans
from streamproc.core.messages import Alert, Finding, ScadaBatch, decode
from streamproc.core.rules_message import AlarmRule, Rules
from streamproc.errors import DataError
from streamproc.shell.export import read_values
from streamproc.shell.moments import moment_us
from streamproc.shell.recording import read_recording
from streamproc.stages.decide import DecideStage
from streamproc.stages.scada import ScadaStage
from streamproc.values import F64, I64, TOPIC_ALERTS, TOPIC_FINDINGS, TOPIC_SCADA, Record

MATCH_S = 600.0
BATCH = 256
SHORT_SHARE = 0.5  # of the crossings a proposed on-delay leaves away at most this share, the shortest
DELAY_MAX_S = 60.0
NOISE_FACTOR = 3.0  # of the noise's deviation: what a deadband must hold
SAMPLES_MIN = 50  # values of a point without which nothing is proposed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was said of a history: raises (us, rule, priority) in order of time, and alerts."""

    from_us: int
    to_us: int
    raises: tuple[tuple[int, str], ...]
    alerts: int


def scada_of(site: SiteConfig, path: Path, begin: str | None = None, end: str | None = None) -> list[Record]:
    """Return the SCADA records of a recording between two times; raises RecordingError, DataError."""
    low = -(1 << 62) if begin is None else moment_us(begin, "--from") // 1000
    high = 1 << 62 if end is None else moment_us(end, "--to") // 1000
    points = [point.id for point in site.point]
    areas = sorted({point.area for point in site.point})
    area = areas[0] if len(areas) == 1 else None  # a table does not say of which area it is
    found = read_recording(path, area=area, points=points)
    records = [r for r in found if r.topic == TOPIC_SCADA and low <= r.ts_ms < high]
    if not records:
        raise DataError(f"{path}: holds no SCADA values between these times")
    return records


def history(site: SiteConfig, begin: str, end: str) -> list[Record]:
    """Return the SCADA records of the topic between two times; raises ShellError, DataError."""
    low, high = moment_us(begin, "--from"), moment_us(end, "--to")
    found: list[Record] = []
    for value in read_values(site, TOPIC_SCADA, lambda _: True, low // 1000):
        batch = decode(ScadaBatch, value)
        if not isinstance(batch, ScadaBatch) or not batch.points:
            continue
        ts_us = max(point.ts_us for point in batch.points)
        if low <= ts_us < high:
            found.append(Record(TOPIC_SCADA, 0, len(found), ts_us // 1000, batch.area.encode(), value))
    if not found:
        raise DataError(f"{TOPIC_SCADA} holds nothing between {begin} and {end}")
    return sorted(found, key=lambda record: record.ts_ms)


def replayed(site: SiteConfig, records: Sequence[Record], rules: Rules | None) -> Outcome:
    """Return what the SCADA and the deciding stage say of these records under these rules."""
    scada, decide = ScadaStage(site, None, rules), DecideStage(site, rules)
    state, alarms = scada.fresh(), decide.fresh()
    raises: list[tuple[int, str]] = []
    alerts = 0
    for start in range(0, len(records), BATCH):
        step = scada.step(state, records[start : start + BATCH])
        state = step.state
        values = [o.value for o in step.outputs if o.topic == TOPIC_FINDINGS]
        found = [f for f in (decode(Finding, value) for value in values) if isinstance(f, Finding)]
        raises += [(f.onsets_us[0], f.rule) for f in found if f.type == "raise" and f.family == "grid"]
        told = decide.step(alarms, [Record(TOPIC_FINDINGS, 0, i, 0, b"", v) for i, v in enumerate(values)])
        alarms = told.state
        known = (decode(Alert, o.value) for o in told.outputs if o.topic == TOPIC_ALERTS)
        alerts += sum(isinstance(alert, Alert) and alert.seq == 1 for alert in known)
    times = [r.ts_ms * 1000 for r in records]
    return Outcome(min(times), max(times), tuple(sorted(raises)), alerts)


def compared(before: Outcome, after: Outcome) -> dict[str, Any]:
    """Return both side by side: rate, floods, chattering; missed and new raises; earlier or later by how much."""
    missed, fresh, shifts = _matched(before.raises, after.raises)
    return {
        "before": _figures(before),
        "after": _figures(after),
        "missed": missed,
        "new": fresh,
        "shift_s": {
            rule: {"count": len(found), "median_s": float(np.median(found)), "max_s": max(found, key=abs)}
            for rule, found in sorted(shifts.items())
        },
    }


def _figures(outcome: Outcome) -> dict[str, Any]:
    times = [t for t, _ in outcome.raises]
    span_us = max(outcome.to_us - outcome.from_us, 1)
    return {
        "raises": len(times),
        "alerts": outcome.alerts,
        "raises_per_10_min": len(times) / (span_us / 600e6),
        "floods": len(flood_spans(times, outcome.to_us)),
        "chattering": chattering(outcome.raises),
    }


def _matched(
    before: Sequence[tuple[int, str]], after: Sequence[tuple[int, str]]
) -> tuple[dict[str, int], dict[str, int], dict[str, list[float]]]:
    """Match raises of one rule in order of time; what has no partner within MATCH_S is missed, or new."""
    missed, fresh, shifts = Counter[str](), Counter[str](), dict[str, list[float]]()
    for rule in sorted({name for _, name in (*before, *after)}):
        old, new = ([t for t, name in found if name == rule] for found in (before, after))
        i = j = 0
        while i < len(old) or j < len(new):
            if j >= len(new) or (i < len(old) and old[i] < new[j] - MATCH_S * 1e6):
                missed[rule] += 1
                i += 1
            elif i >= len(old) or new[j] < old[i] - MATCH_S * 1e6:
                fresh[rule] += 1
                j += 1
            else:
                shifts.setdefault(rule, []).append((new[j] - old[i]) / 1e6)
                i, j = i + 1, j + 1
    return dict(missed), dict(fresh), shifts


def whatif_lines(before: Outcome, after: Outcome) -> list[str]:
    """Return the comparison for a person."""
    told = compared(before, after)
    lines = [f"{'':<20} {'old rules':>12} {'new rules':>12}"]
    for key in ("raises", "alerts", "raises_per_10_min", "floods"):
        old, new = told["before"][key], told["after"][key]
        lines.append(f"{key:<20} {old:>12.4g} {new:>12.4g}")
    old, new = (len(told[side]["chattering"]) for side in ("before", "after"))
    lines.append(f"{'chattering':<20} {old:>12} {new:>12}")
    for word in ("missed", "new"):
        total = sum(told[word].values())
        names = ", ".join(f"{rule} {count}" for rule, count in sorted(told[word].items())[:8])
        lines.append(f"{word:<20} {total:>12}  {names}")
    for rule, shift in told["shift_s"].items():
        if shift["max_s"]:
            way = "later" if shift["max_s"] > 0 else "earlier"
            lines.append(
                f"  {rule}: {way} by {abs(shift['max_s']):.1f} s at most, {shift['median_s']:+.1f} s median"
            )
    return lines


def proposed(site: SiteConfig, records: Sequence[Record]) -> tuple[tuple[AlarmRule, ...], dict[str, str]]:
    """Return a rule for every limit that history has something to say about, and why. Causes are for people to write."""
    series = _series(records)
    alarms: list[AlarmRule] = []
    why: dict[str, str] = {}
    for point in site.point:
        t_ns, value = series.get(point.id, (np.zeros(0, np.int64), np.zeros(0)))
        if value.size < SAMPLES_MIN:
            continue
        for side, limit in (("high", point.limit_high), ("low", point.limit_low)):
            if limit is not None:
                rule, reason = _proposal(point, side, limit, t_ns, value)
                alarms.append(rule)
                why[rule.rule] = reason
    if not alarms:
        raise DataError("no point with a limit has enough history: nothing to propose")
    return tuple(alarms), why


def _series(records: Sequence[Record]) -> Mapping[str, tuple[I64, F64]]:
    times: dict[str, list[int]] = {}
    values: dict[str, list[float]] = {}
    for record in records:
        batch = decode(ScadaBatch, record.value)
        if not isinstance(batch, ScadaBatch):
            continue
        for point in batch.points:
            if point.quality == "good":
                times.setdefault(point.id, []).append(point.ts_us * 1000)
                values.setdefault(point.id, []).append(point.value)
    return {name: (np.array(times[name]), np.array(values[name])) for name in times}


def _proposal(point: PointTable, side: str, limit: float, t_ns: I64, value: F64) -> tuple[AlarmRule, str]:
    """Deadband from the noise between neighbouring values; delays from how long crossings and gaps last."""
    steps = np.diff(value)
    noise = float(np.median(np.abs(steps - np.median(steps)))) / 0.6745 / np.sqrt(2.0)
    other = point.limit_low if side == "high" else point.limit_high
    room = np.inf if other is None else 0.45 * abs(limit - other)
    deadband = min(max(point.deadband, NOISE_FACTOR * noise), room)
    over = value >= limit if side == "high" else value <= limit
    crossings_s, gaps_s = _durations(t_ns, over)
    on_ms = _delay_ms(crossings_s, point.on_delay_ms)
    off_ms = _delay_ms(gaps_s, point.off_delay_ms)
    reason = (
        f"{value.size} values, noise {noise:.3g} {point.unit}; {crossings_s.size} crossings,"
        f" median {np.median(crossings_s) if crossings_s.size else 0:.3g} s"
    )
    rule = AlarmRule(
        rule=f"point_{side}:{point.id}",
        cause="to be written",
        consequence="to be written",
        corrective_action="to be written",
        severity="major",
        response_time_min=10.0,
        unit=point.unit,
        limit=limit,
        deadband=float(f"{deadband:.3g}"),
        on_delay_ms=on_ms,
        off_delay_ms=off_ms,
    )
    return rule, reason


def _durations(t_ns: I64, over: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[F64, F64]:
    """Return how long the value was beyond the limit, and how long back between two crossings, s."""
    edges = np.flatnonzero(np.diff(over.astype(np.int8)))
    spans_s = np.diff(t_ns[edges + 1]) / 1e9
    first_is_over = bool(over[edges[0] + 1]) if edges.size else False
    beyond, back = (spans_s[0::2], spans_s[1::2]) if first_is_over else (spans_s[1::2], spans_s[0::2])
    return np.asarray(beyond), np.asarray(back)


def _delay_ms(spans_s: F64, present_ms: int) -> int:
    """Return a delay that leaves away the short ones: at most half of them, at most a minute, never less than now."""
    if spans_s.size < 3:
        return present_ms
    short_s = float(np.quantile(spans_s, SHORT_SHARE))
    return max(present_ms, round(min(short_s, DELAY_MAX_S)) * 1000)

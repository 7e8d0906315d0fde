"""The last look at a recommendation before it leaves. It believes nobody: neither the solver nor the planner.

On purpose it imports nothing of `advice_plan`, `advice_text`, `advise` or any programme, and shares no helper with them:
it reads the record that would be sent, the declared limits and the newest measurements, and says what is wrong. A test
holds the imports.

    every number finite; every resource declared; forward within [value_min, value_max]; whole steps where they are steps
    the way from the measured value within ramp times validity; reverse within the bounds, too
    measurements and forecasts not older than allowed; valid_until after now and not beyond the horizon
    every effect has the sign and size that the declared effects give; nothing that was inside is pushed outside
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamproc.core.setpoint import Setpoint

SLACK_RATIO = 1e-3  # of a range: what rounding to three digits may be off
HORIZON_MAX_US = 48 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Declared:
    """One resource as the site declares it, and what was measured of it last. NaN: not known."""

    value_min: float
    value_max: float
    ramp_per_min: float
    is_step: bool
    effect: Mapping[str, float]
    measured: float
    measured_age_us: int
    measured_age_max_us: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One watched point: its limits and the age of its forecast. None: no limit."""

    limit_high: float | None
    limit_low: float | None
    worst_high: float  # the largest value expected without advice, at the chosen quantile
    worst_low: float
    forecast_age_us: int
    forecast_age_max_us: int


def objections(
    record: Setpoint,
    resources: Mapping[str, Declared],
    points: Mapping[str, Seen],
    minutes: float,
    now_us: int,
) -> list[str]:
    """Return everything that speaks against sending a recommendation; [] lets it pass. `minutes`: time for the moves."""
    found: list[str] = []
    if not now_us < record.valid_until_us <= now_us + HORIZON_MAX_US:
        found.append(f"valid_until {record.valid_until_us} is not within the horizon after {now_us}")
    if len(record.forward) != len(record.reverse) or not record.forward:
        found.append("forward and reverse must be of one length, not empty")
    names = [d.resource for d in record.forward]
    if len(set(names)) != len(names):
        found.append("a resource is moved twice")
    changes: dict[str, float] = {}
    ahead: dict[str, float] = {}  # what is still to come: a resource may have moved already
    for to, back in zip(record.forward, record.reverse, strict=False):
        known = resources.get(to.resource)
        if known is None or back.resource != to.resource:
            found.append(f"{to.resource!r:.80} is not declared, or its undo is another's")
            continue
        found += _of_resource(to.resource, to.value, back.value, known, minutes)
        for point, effect in known.effect.items():
            changes[point] = changes.get(point, 0.0) + effect * (to.value - back.value)
            ahead[point] = ahead.get(point, 0.0) + effect * (to.value - known.measured)
    found += _of_effects(record, changes, ahead, points)
    if not (math.isfinite(record.confidence) and 0.0 <= record.confidence <= 1.0):
        found.append(f"confidence {record.confidence} is not within 0 to 1")
    return found


def _of_resource(name: str, value: float, undo: float, known: Declared, minutes: float) -> list[str]:
    if not (math.isfinite(value) and math.isfinite(undo) and math.isfinite(known.measured)):
        return [f"{name}: {value}, undo {undo}, measured {known.measured}: not all are finite"]
    slack = SLACK_RATIO * (known.value_max - known.value_min)
    found = []
    for word, number in (("value", value), ("undo", undo)):
        if not known.value_min - slack <= number <= known.value_max + slack:
            found.append(f"{name}: {word} {number:g} is outside {known.value_min:g} to {known.value_max:g}")
    if not abs(value - known.measured) <= known.ramp_per_min * minutes + slack:
        found.append(f"{name}: {value:g} from {known.measured:g} is beyond its ramp in {minutes:g} min")
    if known.is_step and value != math.floor(value):
        found.append(f"{name}: {value:g} is no whole step")
    if known.measured_age_us > known.measured_age_max_us:
        found.append(f"{name}: its measurement is {known.measured_age_us / 1e6:g} s old")
    return found


def _of_effects(
    record: Setpoint, changes: Mapping[str, float], ahead: Mapping[str, float], points: Mapping[str, Seen]
) -> list[str]:
    found = []
    told = {effect.point: effect for effect in record.expected_effect}
    for point, change in changes.items():
        seen = points.get(point)
        if seen is None:
            continue
        if not math.isfinite(change):
            found.append(f"{point}: its change {change} is not finite")
            continue
        if seen.forecast_age_us > seen.forecast_age_max_us:
            found.append(f"{point}: its forecast is {seen.forecast_age_us / 1e6:g} s old")
        effect = told.get(point)
        size = max(abs(change), 1e-2)
        if effect is None or not abs(effect.change - change) <= 0.01 * size + 1e-2:
            found.append(
                f"{point}: told {None if effect is None else effect.change}, the moves give {change:g}"
            )
        elif not effect.low <= effect.change <= effect.high:
            found.append(f"{point}: {effect.change:g} is outside its own interval")
        high, low, rest = seen.limit_high, seen.limit_low, ahead[point]
        if high is not None and rest > 0.0 and seen.worst_high <= high < seen.worst_high + rest - 1e-2:
            found.append(f"{point}: would be pushed over its upper limit {high:g}")
        if low is not None and rest < 0.0 and seen.worst_low >= low > seen.worst_low + rest + 1e-2:
            found.append(f"{point}: would be pushed under its lower limit {low:g}")
    return found


def first_words(found: Sequence[str]) -> str:
    """Return the objections as one sentence for a log or a withdrawal."""
    return "; ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")

"""What `streamproc evaluate regulation` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamproc.core.quantiles import NAMES
from streamproc.evaluation.regulation import SIDES, Finding, Method, Part, Side
from streamproc.evaluation.table import aligned, figure

HEAD = ("", "", "P05..P95 holds", "95 % interval", "pinball mHz", "width mHz")
FEW_WINDOWS = 30.0


def regulation_lines(findings: Sequence[Finding], notes: Sequence[str]) -> Iterator[str]:
    """Yield all of it as lines."""
    for finding in findings:
        areas = "" if finding.areas == 1 else f"{finding.areas} areas of "
        yield (
            f"{finding.name}: {areas}{finding.minutes} minutes, {finding.missing:.1%} of the frames missing; minimum and "
            f"maximum of the next {finding.horizon_min} minutes, asked each minute"
        )
        for part in finding.parts:
            yield from part_lines(part, finding)
        yield from last_lines(finding)
        yield ""
    yield from (f"note: {note}" for note in notes)


def part_lines(part: Part, finding: Finding) -> Iterator[str]:
    """Yield one part of the origins: how many, then a row for each method and extreme."""
    yield f"  {part.name}: {part.origins} origins, {part.windows:.1f} windows that do not overlap"
    if part.windows < FEW_WINDOWS:
        yield (
            "    so few prove little, the intervals included: with every window inside, a true coverage of "
            f"{part.excused:.0%} could still not be excluded"
        )
    rows = [_row(method, side) for method in part.methods for side in SIDES]
    yield from ("    " + line for line in aligned(HEAD, rows))
    if finding.areas > 1:
        yield f"    area by area the forecast holds {part.area_low:.1%} to {part.area_high:.1%}"


def last_lines(finding: Finding) -> Iterator[str]:
    """Yield the forecast after the last minute."""
    known = f"{finding.last_share:.0%} of the frames before it known"
    for side, values in zip(SIDES, finding.last_mhz, strict=True):
        yield f"  after the last minute, {side}, mHz ({known}): {_quantiles(values, 1)}"
    for side, values in zip(SIDES, finding.last_mw or (), strict=False):
        yield f"  after the last minute, {side} of the power lacking, MW: {_quantiles(values, 0)}"


def _row(method: Method, name: str) -> tuple[str, ...]:
    side: Side = method.minimum if name == SIDES[0] else method.maximum
    interval = f"{figure(100.0 * side.coverage_low, 1)} .. {figure(100.0 * side.coverage_high, 1)} %"
    return (
        method.name,
        name,
        f"{figure(100.0 * side.coverage, 1)} %",
        interval,
        figure(side.pinball_mhz, 2),
        figure(side.width_mhz, 1),
    )


def _quantiles(values: Sequence[float], digits: int) -> str:
    return ", ".join(f"{name} {figure(value, digits)}" for name, value in zip(NAMES, values, strict=True))

"""Rows of a file as one series on a grid that is regular in UTC, and all that was found wrong on the way.

The time of a row is the beginning of its interval. Rows may come in any order, twice, not at all, by a clock that
changes twice a year. What is not certain is NaN: two rows of one time that differ say nothing. Every such thing is a
`Finding` of the result, so that nobody has to guess what the figures stand on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from streamproc.core.ahead.vintages import Vintages
from streamproc.core.series import clean
from streamproc.core.series.calendar import DAY_S, local_calendar
from streamproc.errors import DataError
from streamproc.evaluation.series.durations import words_of
from streamproc.evaluation.series.read import Rows, Wanted
from streamproc.evaluation.series.zone import holidays_of, local_words, offsets, to_utc
from streamproc.values import F64, I64, Bool

ROOM = 20  # intervals per row: a grid with more is the work of a wrong time, not of gaps


class Finding(msgspec.Struct, frozen=True):
    """Something about the input that a reader of the figures must know."""

    kind: str
    count: int
    words: str
    first: str = ""  # local time at which it begins


@dataclass(frozen=True, slots=True)
class Series:
    """A series on its grid; one row per interval."""

    name: str
    digest: str
    zone: ZoneInfo
    step_s: int
    t_s: I64  # (n,), UTC
    offset_s: I64  # (n,)
    slot: I64  # (n,)
    day: I64  # (n,)
    truth: F64  # (n,), as in the file but in one unit; NaN = missing or contradicted. This is what is scored
    raw: F64  # (n,), as in the file
    cleaned: clean.Cleaned  # what models see
    known: F64  # (n, n_known)
    known_names: tuple[str, ...]
    holiday: Bool  # (n,)
    findings: tuple[Finding, ...]
    vintages: Vintages | None = None  # known ahead, each value with the time since which it was known

    @property
    def steps_per_day(self) -> int:
        """Return how many intervals a day without a clock change has."""
        return DAY_S // self.step_s

    def when(self, row: int) -> str:
        """Return the local time at which an interval begins."""
        return local_words(int(self.t_s[0]) + row * self.step_s, self.zone)


def series_of(rows: Rows, wanted: Wanted, zone: ZoneInfo, holidays: str | None, step_s: int | None) -> Series:
    """Return the series of the rows; raises DataError when they make none, with what to do."""
    found: list[Finding] = []
    t_s, keep = _utc(rows, zone, found)
    target, known = rows.target[keep], rows.known[keep]
    t_s, line = t_s[keep], rows.line[keep]
    if not np.isfinite(target).any():
        raise DataError(
            f"{rows.path}: column {wanted.target!r} holds no number in a row with a time; is it the right one?"
        )
    if np.any(np.diff(t_s) < 0):
        back = int(np.flatnonzero(np.diff(t_s) < 0)[0]) + 1
        words = f"rows are not in the order of time, first at row {line[back]}; they were sorted"
        found.append(Finding("unsorted", int((np.diff(t_s) < 0).sum()), words))
    order = np.argsort(t_s, kind="stable")
    step = step_s or _step(rows, t_s[order], wanted.time)
    place, start_s = _places(rows, t_s[order], step, exact=step_s is None, line=line[order], found=found)
    n = int(place[-1]) + 1
    grid_t = start_s + np.arange(n, dtype=np.int64) * step
    raw = _placed(target[order], place, n, t_s[order], found, grid_t, zone)
    columns = [_mean(known[order][:, column], place, n) for column in range(known.shape[1])]
    offset = offsets(grid_t, zone)
    slot, day = local_calendar(grid_t, offset, step)
    cleaned = clean.clean(raw, day, DAY_S // step)
    free = _holidays(rows, keep, order, place, n, holidays, day)
    found += _value_findings(raw, cleaned, grid_t, zone, step)
    found += _clock_findings(offset, grid_t, zone)
    known_grid = np.stack(columns, axis=1) if columns else np.zeros((n, 0))
    found += _known_findings(known_grid, wanted.known)
    return Series(
        wanted.target,
        rows.digest,
        zone,
        step,
        grid_t,
        offset,
        slot,
        day,
        cleaned.value,
        raw,
        cleaned,
        known_grid,
        wanted.known,
        free,
        tuple(found),
    )


def _utc(rows: Rows, zone: ZoneInfo, found: list[Finding]) -> tuple[I64, Bool]:
    """Return UTC seconds (n_row,) and which rows have one."""
    if rows.no_time:
        found.append(Finding("no_time", rows.no_time, f"rows without a time, left out: {rows.no_time}"))
    if not rows.is_local:
        return rows.time_s, np.ones(rows.time_s.size, np.bool_)
    t_s, never, twofold = to_utc(rows.time_s, zone)
    if never.any():
        words = (
            f"rows left out because {zone.key} skipped their local time when the clocks went forward: "
            f"{int(never.sum())}, first row {rows.line[never][0]}. If the file keeps standard time all year, give --zone "
            "Etc/GMT-10 or the like"
        )
        found.append(Finding("time_never_was", int(never.sum()), words))
    if twofold:
        words = f"rows with a local time that exists twice, the first in the file taken for the earlier: {twofold}"
        found.append(Finding("time_twice", twofold, words))
    return t_s, ~never


def _step(rows: Rows, t_s: I64, column: str) -> int:
    gaps = np.diff(t_s)
    gaps = gaps[gaps > 0]
    if gaps.size == 0:
        raise DataError(
            f"{rows.path}: column {column!r}: all rows have one time; a series needs at least two"
        )
    sizes, counts = np.unique(gaps, return_counts=True)
    step = int(sizes[np.argmax(counts)])
    if DAY_S % step:
        raise DataError(
            f"{rows.path}: column {column!r}: rows are mostly {step} s apart, which does not divide a day; "
            "give --step (such as PT15M) to take means over intervals that do"
        )
    return step


def _places(
    rows: Rows, t_s: I64, step: int, *, exact: bool, line: I64, found: list[Finding]
) -> tuple[I64, int]:
    """Return the interval (n_row,) of each row and the UTC second at which the first interval begins."""
    phase, counts = np.unique(t_s % step, return_counts=True)
    main = int(phase[np.argmax(counts)]) if exact else 0
    off = int((t_s % step != main).sum()) if exact else 0
    if off:
        words = f"rows beside the grid of {words_of(step)}, each counted for the nearest interval: {off}"
        found.append(Finding("beside_grid", off, words))
    number = (t_s - main + (step // 2 if exact else 0)) // step
    place = number - number[0]
    if place[-1] > ROOM * t_s.size + 1000:
        gap = int(np.argmax(np.diff(t_s)))
        raise DataError(
            f"{rows.path}: rows {line[gap]} and {line[gap + 1]} are {np.diff(t_s)[gap] / DAY_S:.0f} days apart, far more "
            f"than the rows can fill at one per {words_of(step)}; correct the time of one of them"
        )
    return place, int(number[0]) * step + main


def _placed(
    target: F64, place: I64, n: int, t_s: I64, found: list[Finding], grid_t: I64, zone: ZoneInfo
) -> F64:
    """Return the values on the grid: twins that agree count once, twins that do not are unknown."""
    twin = np.zeros(t_s.size, np.bool_)
    twin[1:] = (t_s[1:] == t_s[:-1]) & (place[1:] == place[:-1])
    mean = _mean(target, place, n)
    if twin.any():
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.fmin.at(low, place, target)
        np.fmax.at(high, place, target)
        differs = np.zeros(n, np.bool_)
        differs[place[twin]] = True
        differs &= high > low
        words = f"rows with the time of another row: {int(twin.sum())}"
        if differs.any():
            mean[differs] = np.nan
            words += f", of which with another value, unknown for that: {int(differs.sum())}"
        found.append(
            Finding("duplicate", int(twin.sum()), words, local_words(int(grid_t[place[twin][0]]), zone))
        )
    return mean


def _mean(values: F64, place: I64, n: int) -> F64:
    known = np.isfinite(values)
    count = np.bincount(place[known], minlength=n)
    total = np.bincount(place[known], values[known], n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _holidays(rows: Rows, keep: Bool, order: I64, place: I64, n: int, code: str | None, day: I64) -> Bool:
    """Return whether each interval is a holiday, by the column, the country's law, or not at all."""
    if rows.holiday is not None:
        told = _mean(rows.holiday[keep][order], place, n)
        return np.asarray(np.nan_to_num(told) > 0.5, np.bool_)
    if code is None:
        return np.zeros(n, np.bool_)
    days = np.unique(day)
    return np.isin(day, np.array(sorted(holidays_of(code, days.tolist())), np.int64))


def _value_findings(
    raw: F64, cleaned: clean.Cleaned, t_s: I64, zone: ZoneInfo, step: int
) -> Iterator[Finding]:
    def of(kind: str, rows: Bool, words: str) -> Iterator[Finding]:
        if rows.any():
            first = local_words(int(t_s[np.argmax(rows)]), zone)
            yield Finding(kind, int(rows.sum()), f"{words}: {int(rows.sum())}", first)

    missing = ~np.isfinite(raw)
    holes = int((np.diff(missing.astype(np.int8), prepend=0) == 1).sum())
    yield from of(
        "gap", missing, f"intervals of {words_of(step)} without a value (in gaps: {holes}), not scored"
    )
    verdict = cleaned.verdict
    yield from of(
        "unit",
        cleaned.rescaled,
        "values a thousand times too large or small, taken for another unit, which was undone",
    )
    yield from of(
        "spike", verdict == clean.SPIKE, "values far outside of all before, scored but not learnt from"
    )
    yield from of("zero", verdict == clean.ZERO, "zeros that look like an outage, scored but not learnt from")
    yield from of(
        "stuck", verdict == clean.STUCK, "values of a meter that stood still, scored but not learnt from"
    )
    yield from of("negative", raw < 0.0, "negative values, kept")
    known = raw[~missing]
    if known.size and known.min() == known.max():
        yield Finding("constant", known.size, f"the series is constant: {known[0]:g}")


def _clock_findings(offset: I64, t_s: I64, zone: ZoneInfo) -> Iterator[Finding]:
    turned = np.flatnonzero(np.diff(offset))
    if turned.size:
        words = f"clock changes in {zone.key}, where the grid keeps UTC and days and hours are local: {turned.size}"
        yield Finding("clock_change", turned.size, words, local_words(int(t_s[turned[0] + 1]), zone))


def _known_findings(known: F64, names: tuple[str, ...]) -> Iterator[Finding]:
    for column, name in enumerate(names):
        count = int((~np.isfinite(known[:, column])).sum())
        if count:
            yield Finding("known_gap", count, f"intervals without {name!r}: {count}")

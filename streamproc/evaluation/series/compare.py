"""Two results beside each other: is one model better than the other, or were the days kind to it?

Compared are the sums per local day of days that both have, in draws of whole days (`measures.bootstrap_ratio`). Different
series, horizons or rhythms are no comparison and are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from streamproc.core.series.measures import bootstrap_ratio
from streamproc.errors import DataError
from streamproc.evaluation.series.result import Daily, Result
from streamproc.evaluation.series.score import plain
from streamproc.evaluation.series.text import number
from streamproc.evaluation.table import aligned
from streamproc.values import F64

SAME = ("target", "step", "horizon", "every", "at", "zone", "unit")
HEAD = ("first", "second", "days", "MAE", "MAE", "difference", "95 %", "pinball difference", "95 %", "says")


class Difference(msgspec.Struct, frozen=True):
    """The first minus the second, per row: negative means that the first is better."""

    first: str
    second: str
    days: int
    mae_first: float
    mae_second: float
    mae: float
    mae_low: float | None
    mae_high: float | None
    pinball: float
    pinball_low: float | None
    pinball_high: float | None

    @property
    def words(self) -> str:
        """Return what the interval allows to say."""
        if self.mae_low is None or self.mae_high is None:
            return "too few days"
        if self.mae_high < 0.0:
            return f"{self.first} is better"
        return f"{self.second} is better" if self.mae_low > 0.0 else "cannot be told apart"


class Comparison(msgspec.Struct, frozen=True):
    """All pairs of models of two results."""

    notes: list[str]
    differences: list[Difference]


def compare(first: Result, second: Result) -> Comparison:
    """Return every model of the first result against every other one of the second; raises DataError."""
    for field in SAME:
        one, other = getattr(first.asked, field), getattr(second.asked, field)
        if one != other:
            words = "only results of the same question can be compared"
            raise DataError(
                f"compare: {field} is {one!r} in the first result and {other!r} in the second; {words}"
            )
    notes = []
    if first.asked.sha256 != second.asked.sha256:
        notes.append("the two results come from different files: the truth may differ too")
    if first.asked.train_until != second.asked.train_until:
        notes.append("the tests begin at different times: only days that both have are compared")
    twins = {method.name for method in first.models} & {method.name for method in second.models}
    twins = set() if first is second else twins
    pairs = [
        _difference(
            _named("A", a.name, twins), a.daily, _named("B", b.name, twins), b.daily, first.asked.seed
        )
        for a in first.models
        for b in second.models
        if first is not second or a.name < b.name
    ]
    return Comparison(notes, pairs)


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison as lines."""
    yield from (f"note: {note}" for note in comparison.notes)
    rows = [
        (
            d.first,
            d.second,
            str(d.days),
            number(d.mae_first),
            number(d.mae_second),
            number(d.mae),
            f"{number(d.mae_low)} to {number(d.mae_high)}",
            number(d.pinball),
            f"{number(d.pinball_low)} to {number(d.pinball_high)}",
            d.words,
        )
        for d in comparison.differences
    ]
    yield from aligned(HEAD, rows)


def _named(side: str, name: str, twins: set[str]) -> str:
    return f"{name} ({side})" if name in twins else name


def _difference(name_a: str, a: Daily, name_b: str, b: Daily, seed: int) -> Difference:
    days = sorted(set(a.day) & set(b.day))
    if not days:
        raise DataError(f"compare: {name_a} and {name_b} have no day in common")
    at_a, at_b = ([daily.day.index(day) for day in days] for daily in (a, b))
    rows_a, rows_b = (np.array(d.rows, np.float64)[at] for d, at in ((a, at_a), (b, at_b)))
    same = rows_a == rows_b  # a day with other rows is another day
    if not same.any():
        raise DataError(f"compare: {name_a} and {name_b} have no day with the same rows")
    pairs: list[tuple[F64, F64]] = []
    for field in ("abs_error", "pinball"):
        ours, theirs = (np.array(getattr(d, field))[at][same] for d, at in ((a, at_a), (b, at_b)))
        pairs.append((ours, theirs))
    count = rows_a[same]
    total = float(count.sum())
    (mae_a, mae_b), (loss_a, loss_b) = pairs
    bounds = [plain(x) for one, other in pairs for x in bootstrap_ratio(one - other, count, seed)]
    return Difference(
        name_a,
        name_b,
        int(same.sum()),
        float(mae_a.sum()) / total,
        float(mae_b.sum()) / total,
        float((mae_a - mae_b).sum()) / total,
        bounds[0],
        bounds[1],
        float((loss_a - loss_b).sum()) / total,
        bounds[2],
        bounds[3],
    )

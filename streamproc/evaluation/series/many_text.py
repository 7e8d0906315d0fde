"""What is said about many series at the end: medians, the worst ones, and how fast it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from streamproc.evaluation.series.many import Task
from streamproc.evaluation.series.result import Method, Result
from streamproc.evaluation.series.text import fixed, percent
from streamproc.evaluation.table import aligned

FORMAT = "streamproc.backtest-many.v1"
WORST = 5  # series that are named
HEAD = ("model", "series", "MAPE %", "rMAE", "P05-P95 %", "skill over best naive %")
FIGURES = ("mape", "rmae", "coverage", "skill")


class Row(msgspec.Struct, frozen=True):
    """One model of one series; figures without a meaning are null."""

    series: str  # name of the result file, without its ending
    file: str
    target: str
    model: str
    mae: float | None  # in the unit of the series
    mape: float | None  # %
    rmae: float | None
    coverage: float | None  # share within P05 .. P95; .90 is wanted
    skill: float | None  # 1 - MAE / the MAE of the best of the naive methods


class Medians(msgspec.Struct, frozen=True):
    """One model over all series that have it: the median of each figure, where it has a meaning."""

    model: str
    series: int
    mape: float | None
    rmae: float | None
    coverage: float | None
    skill: float | None


class Failure(msgspec.Struct, frozen=True):
    """A series that could not be evaluated."""

    series: str
    file: str
    target: str
    error: str


class Summary(msgspec.Struct, frozen=True):
    """A whole run."""

    format: str
    out: str
    scheduler: str
    workers: int  # that the scheduler had when the work began
    series: int
    kept: int  # results of an earlier run
    computed: int
    failed: int
    seconds: float  # of computing, without the start of the workers
    series_per_s: float | None  # computed or failed in these seconds
    medians: list[Medians]
    worst: list[Row]  # least skill first
    rows: list[Row]
    errors: list[Failure]


@dataclass(frozen=True, slots=True)
class Pace:
    """Who computed how many series, and for how long."""

    scheduler: str
    workers: int
    series: int
    seconds: float


class Tally:
    """What has come of a list of tasks so far."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self._kept = 0
        self._rows: dict[str, list[Row]] = {}
        self._failures: dict[str, Failure] = {}

    def keep(self, task: Task, result: Result) -> None:
        """Count a result of an earlier run."""
        self._rows[task.name] = rows_of(task, result)
        self._kept += 1

    def take(self, task: Task, result: Result | None, error: str) -> None:
        """Count a result of this run, or why there is none."""
        if result is not None:
            self._rows[task.name] = rows_of(task, result)
            return
        asked = task.question
        self._failures[task.name] = Failure(task.name, str(asked.path), asked.wanted.target, error)

    def summary(self, out: str, pace: Pace) -> Summary:
        """Return the summary, series in the order of the tasks."""
        names = [task.name for task in self.tasks]
        rows = [row for name in names for row in self._rows.get(name, [])]
        return Summary(
            FORMAT,
            out,
            pace.scheduler,
            pace.workers,
            len(names),
            self._kept,
            len(self._rows) - self._kept,
            len(self._failures),
            pace.seconds,
            pace.series / pace.seconds if pace.series else None,
            medians_of(rows),
            worst_of(rows),
            rows,
            [self._failures[name] for name in names if name in self._failures],
        )


def rows_of(task: Task, result: Result) -> list[Row]:
    """Return a row for each model of a series."""
    file, target = str(task.question.path), task.question.wanted.target
    return [_row(task.name, file, target, method) for method in result.models]


def _row(name: str, file: str, target: str, method: Method) -> Row:
    f = method.figures
    skills = [edge.skill for edge in method.edges.values() if edge.skill is not None]
    skill = min(skills, default=None)  # over the best of them it is smallest
    return Row(name, file, target, method.name, f.mae, f.mape, f.rmae, f.coverage, skill)


def medians_of(rows: Sequence[Row]) -> list[Medians]:
    """Return the medians of each model, in the order in which the models come."""
    out = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        out.append(Medians(model, len(own), *(_median(own, figure) for figure in FIGURES)))
    return out


def _median(rows: Sequence[Row], figure: str) -> float | None:
    known = [value for row in rows if (value := getattr(row, figure)) is not None]
    return median(known) if known else None


def worst_of(rows: Sequence[Row]) -> list[Row]:
    """Return the series with the least skill, each by its best model: there no model helps."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.skill is not None and (row.series not in best or row.skill > _skill(best[row.series])):
            best[row.series] = row
    return sorted(best.values(), key=lambda row: (_skill(row), row.series))[:WORST]


def _skill(row: Row) -> float:
    return row.skill or 0.0


def summary_lines(summary: Summary) -> Iterator[str]:
    """Yield the summary as a table, the worst series and the failures."""
    yield (
        f"{summary.out}: {summary.series} series: {summary.kept} kept, {summary.computed} computed, "
        f"{summary.failed} could not be evaluated"
    )
    if summary.series_per_s is not None:
        pace = f"{summary.series_per_s:.2f} series/s with {summary.workers} worker(s)"
        yield f"{summary.seconds:.1f} s of computing, {pace}, scheduler {summary.scheduler}"
    if summary.medians:
        yield ""
        medians = [(one.model, f"median of {one.series}", *_figures(one)) for one in summary.medians]
        worst = [(one.model, f"worst: {one.series}", *_figures(one)) for one in summary.worst]
        yield from aligned(HEAD, [*medians, *worst])
    for failure in summary.errors[:WORST]:
        yield f"error: {failure.error}"
    if len(summary.errors) > WORST:
        yield f"and {len(summary.errors) - WORST} more errors"


def _figures(one: Row | Medians) -> tuple[str, ...]:
    return fixed(one.mape, 2), fixed(one.rmae, 4), percent(one.coverage), percent(one.skill)

"""`streamproc backtest-many`: the backtest of one series, for thousands, in this process or on Dask."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.evaluate_forecast import (
    At,
    Every,
    HolidayColumn,
    Holidays,
    Horizon,
    Json,
    Known,
    Refit,
    Seed,
    Step,
    Time,
    TimeFormat,
    TrainUntil,
    Unit,
    Zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamproc.evaluation.series.many import Answer, Runner, Task
    from streamproc.evaluation.series.many_text import Summary
    from streamproc.evaluation.series.store import Store

NONE, LOCAL, REMOTE = "none", "local", "tcp://"
Files = Annotated[list[Path], typer.Argument(help="CSV, CSV.GZ or Parquet files, or directories of them.")]
Out = Annotated[Path, typer.Option(help="Directory of the results, one JSON file per series.")]
Targets = Annotated[
    list[str] | None, typer.Option(help="Column to forecast; may be repeated: each is a series.")
]
AllTargets = Annotated[
    bool, typer.Option("--all-targets", help="Every column that no other option names is a series.")
]
Models = Annotated[list[str] | None, typer.Option(help="Kind of model; may be repeated. Without: all.")]
Scheduler = Annotated[
    str, typer.Option(help="none: this process. local: processes here. tcp://host:port: a Dask scheduler.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of --scheduler local. Number of cores.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backtest-many", help="Judge models of many series; what is there already is kept.")(
        backtest_many
    )


def backtest_many(
    series: Files,
    time: Time,
    out: Out,
    target: Targets = None,
    all_targets: AllTargets = False,
    model: Models = None,
    known: Known = None,
    horizon: Horizon = "PT24H",
    every: Every = "PT24H",
    at: At = "00:00",
    train_until: TrainUntil = None,
    zone: Zone = "UTC",
    holidays: Holidays = None,
    holiday_column: HolidayColumn = None,
    refit: Refit = "P7D",
    unit: Unit = "",
    step: Step = None,
    time_format: TimeFormat = None,
    seed: Seed = 1,
    scheduler: Scheduler = NONE,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Judge several models on many series."""
    from streamproc.evaluation.series.many import checked, files_of, tasks_of
    from streamproc.evaluation.series.models import RECIPES
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.run import Question
    from streamproc.evaluation.series.store import Store

    check_options(target or [], scheduler, workers, all_targets=all_targets)
    wanted = Wanted(time, "", tuple(known or ()), holiday_column, time_format)
    question = Question(
        Path(), wanted, zone, horizon, every, at, train_until, refit, unit, holidays, step, seed
    )
    models = model or list(RECIPES)
    checked(question, models)
    tasks, bad = tasks_of(files_of(series), target or [], question, models)
    with Store(out) as store:
        summary = run(tasks, bad, store, scheduler, workers)
    put_out(summary, json=json)


def check_options(targets: Sequence[str], scheduler: str, workers: int | None, *, all_targets: bool) -> None:
    """Raise a usage error for options that do not fit each other."""
    if bool(targets) == all_targets:
        raise typer.BadParameter("give --target COLUMN once or more, or --all-targets, and not both")
    if scheduler not in {NONE, LOCAL} and not scheduler.startswith(REMOTE):
        raise typer.BadParameter(f"--scheduler {scheduler!r} is none of none, local, tcp://host:port")
    if workers is not None and scheduler != LOCAL:
        raise typer.BadParameter("--workers is for --scheduler local")


def run(
    tasks: Sequence[Task],
    bad: Sequence[tuple[Task, Answer]],
    store: Store,
    scheduler: str,
    workers: int | None,
) -> Summary:
    """Work out what is missing, write each answer as it comes, and return the summary; raises DataError."""
    from time import perf_counter

    from streamproc.cli.evaluate import watching
    from streamproc.evaluation.series.many import answer_of
    from streamproc.evaluation.series.many_text import Pace, Tally

    by_name = {task.name: task for task in [*tasks, *(task for task, _ in bad)]}
    tally = Tally(list(by_name.values()))
    missing = store.missing(tasks)
    absent = {task.name for task in missing}
    for task in tasks:
        if task.name not in absent:
            tally.keep(task, store.result(task))
    for task, answer in bad:
        tally.take(task, store.put(task, answer), answer.error)
    with runner(scheduler if missing else NONE, workers) as (answers, count), watching() as watch:
        begun = perf_counter()
        watch.begin("series", len(missing))
        for answer in answers(missing, answer_of):
            task = by_name[answer.name]
            tally.take(task, store.put(task, answer), answer.error)
            watch.step(None)
        seconds = perf_counter() - begun
    return tally.summary(str(store.room), Pace(scheduler, count, len(missing), seconds))


@contextmanager
def runner(scheduler: str, workers: int | None) -> Iterator[tuple[Runner, int]]:
    """Yield who works tasks out, and with how many workers; raises DataError."""
    from streamproc.cli.evaluate import cores
    from streamproc.evaluation.series.many import one_by_one

    if scheduler == NONE:
        yield one_by_one, 1
        return
    from streamproc.shell.dask_runner import dask_runner

    with dask_runner(scheduler, workers or cores()) as found:
        yield found


def put_out(summary: Summary, *, json: bool) -> None:
    """Print the summary; raises DataError if a series could not be evaluated."""
    from streamproc.errors import DataError
    from streamproc.evaluation.series.many_text import summary_lines
    from streamproc.evaluation.series.result import json_of

    print(json_of(summary).decode() if json else "\n".join(summary_lines(summary)))
    if summary.failed:
        words = f"the reason of each is in {summary.out}, in a file *.error.json"
        raise DataError(f"{summary.failed} of {summary.series} series could not be evaluated; {words}")

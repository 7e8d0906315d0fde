"""Many series, one backtest each: the tasks, one task's answer, and what is still missing.

A task is one target of one file and runs the very function that the single backtest runs (`run.evaluate`, one process), so
its result has the same bytes. Tasks know nothing of each other: who hands them out (this process, or Dask in
`shell.dask_runner`) changes how long it takes and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from traceback import format_exception

from streamproc import __version__
from streamproc.errors import DataError
from streamproc.evaluation.series.durations import clock_of, seconds_of
from streamproc.evaluation.series.models import recipe_of
from streamproc.evaluation.series.read import names_of
from streamproc.evaluation.series.result import json_of
from streamproc.evaluation.series.run import Listener, Question, evaluate
from streamproc.evaluation.series.zone import holidays_of, moment_of, zone_of

ENDINGS = (".csv", ".csv.gz", ".parquet", ".pq")
NAME_CHARS = 100  # of a result file, before its digest: file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class Task:
    """One series to be judged."""

    name: str  # of its result, without the ending
    question: Question
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a task: a result as JSON, or why there is none."""

    name: str
    result: bytes = b""
    error: str = ""
    trace: str = ""  # where it broke, if that is a mistake in the code


Work = Callable[[Task], Answer]
Runner = Callable[[Sequence[Task], Work], Iterator[Answer]]  # answers in any order


def answer_of(task: Task) -> Answer:
    """Return the answer of one task; a series that cannot be evaluated is an answer too."""
    try:
        recipes = [recipe_of(name) for name in task.models]
        result = evaluate(task.question, recipes, Listener())
    except DataError as error:
        return Answer(task.name, error=str(error))
    return Answer(task.name, json_of(result) + b"\n")


def broken(task: Task, error: BaseException) -> Answer:
    """Return the answer of a task that raised what it should not have: the others go on, the place is kept."""
    where = f"{task.question.path}: target {task.question.wanted.target!r}"
    words = f"{where}: a mistake in streamproc, please report it ({type(error).__name__}: {error})"
    return Answer(task.name, error=words, trace="".join(format_exception(error)))


def one_by_one(tasks: Sequence[Task], work: Work) -> Iterator[Answer]:
    """Yield the answers of all tasks, worked out in this process."""
    for task in tasks:
        try:
            answer = work(task)
        except Exception as error:  # noqa: BLE001 - one series must not stop the others
            answer = broken(task, error)
        yield answer


def version() -> str:
    """Return which streamproc works here; a worker is asked before it is trusted."""
    return __version__


def checked(question: Question, models: Sequence[str]) -> None:
    """Raise DataError for an option that is wrong for every series: once, not a thousand times."""
    zone = zone_of(question.zone)
    for text, option in (
        (question.horizon, "--horizon"),
        (question.every, "--every"),
        (question.refit, "--refit"),
        *([(question.step, "--step")] if question.step else []),
    ):
        seconds_of(text, option)
    clock_of(question.at)
    if question.train_until is not None:
        moment_of(question.train_until, zone, "--train-until")
    if question.holidays is not None:
        holidays_of(question.holidays, [0])
    for model in models:
        recipe_of(model)


def files_of(places: Iterable[Path]) -> list[Path]:
    """Return the files, and for a directory the CSV and Parquet files in it, each once; raises DataError.

    Paths are absolute: a worker may stand in another directory.
    """
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        try:
            inside = sorted(file for file in place.iterdir() if file.name.lower().endswith(ENDINGS))
        except OSError as error:
            raise DataError(f"{place}: cannot be read: {error.strerror}") from error
        if not inside:
            raise DataError(f"{place}: there is no file {', '.join(ENDINGS)} in this directory")
        found += inside
    return list(dict.fromkeys(path.resolve() for path in found))


def tasks_of(
    files: Iterable[Path], targets: Sequence[str], question: Question, models: Sequence[str]
) -> tuple[list[Task], list[tuple[Task, Answer]]]:
    """Return one task per file and target, and the files that cannot even be opened, with the answer that this is.

    Without targets: every column that the question does not name. `question` is asked of each with its path and target.
    """
    tasks: list[Task] = []
    bad: list[tuple[Task, Answer]] = []
    for path in files:
        try:
            names = list(dict.fromkeys(targets)) or _free_columns(path, question)
        except DataError as error:
            task = _task(path, "", question, models)
            bad.append((task, Answer(task.name, error=str(error))))
            continue
        tasks += [_task(path, name, question, models) for name in names]
    return tasks, bad


def _free_columns(path: Path, question: Question) -> list[str]:
    wanted = question.wanted
    names = list(dict.fromkeys(names_of(path)))
    free = [name for name in names if name not in (wanted.time, wanted.holiday, *wanted.known)]
    if not free:
        raise DataError(f"{path}: no column is left to forecast; the columns are {', '.join(names)}")
    return free


def _task(path: Path, target: str, question: Question, models: Sequence[str]) -> Task:
    asked = replace(question, path=path, wanted=replace(question.wanted, target=target))
    return Task(safe_name(path, target), asked, tuple(dict.fromkeys(models)))


def safe_name(path: Path, target: str) -> str:
    """Return a name for the result that any file system takes, and no other file or target has.

    It does not depend on what else is asked, so that a later run finds it again.
    """
    stem = path.name.split(".")[0]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{stem}-{target}")[:NAME_CHARS].strip("._-") or "series"
    # Two sites may both have a load.csv, and two columns names that look alike once they are plain.
    digest = sha256("\0".join((str(path), target)).encode()).hexdigest()
    return f"{plain}-{digest[:8]}"

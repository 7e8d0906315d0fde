"""`streamproc evaluate forecast` and `streamproc backtest`: how good forecasts of a series would have been.

Both run the same rolling backtest on any CSV or Parquet file; `evaluate forecast` judges one model
beside what everybody can do, `backtest` several models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamproc.evaluation.series.result import Result
    from streamproc.evaluation.series.run import Question
    from streamproc.training.ahead.recipe import Frozen

Series = Annotated[Path, typer.Argument(help="CSV, CSV.GZ or Parquet file with one row per interval.")]
Time = Annotated[str, typer.Option(help="Column of times: the beginning of each interval.")]
Target = Annotated[str, typer.Option(help="Column to forecast.")]
Known = Annotated[
    list[str] | None,
    typer.Option(help="Column that is known ahead, such as a temperature forecast; may be repeated."),
]
KnownFile = Annotated[
    Path | None,
    typer.Option(
        help="CSV or Parquet of name, valid, known_at, value: each origin sees what was known then."
    ),
]
Horizon = Annotated[str, typer.Option(help="How far each forecast reaches, ISO 8601.")]
Every = Annotated[str, typer.Option(help="From one forecast to the next, ISO 8601.")]
At = Annotated[str, typer.Option(help="Local time of day of a forecast's first interval.")]
TrainUntil = Annotated[
    str | None, typer.Option(help="Local date or time: the test begins. Without: three quarters of the file.")
]
Zone = Annotated[str, typer.Option(help="Time zone of days and hours, and of times without an offset.")]
Holidays = Annotated[str | None, typer.Option(help="Public holidays of a country or a part: DE, AU-VIC.")]
HolidayColumn = Annotated[str | None, typer.Option(help="Column that is true on holidays.")]
Refit = Annotated[str, typer.Option(help="From one fit to the next, ISO 8601.")]
Unit = Annotated[str, typer.Option(help="Unit of the target, for the report.")]
Step = Annotated[
    str | None, typer.Option(help="Take means over such intervals, ISO 8601. Without: as the rows are.")
]
TimeFormat = Annotated[str | None, typer.Option(help="How times are written, as strptime: %d/%m/%Y %H:%M.")]
Seed = Annotated[int, typer.Option(help="Of the days drawn for the intervals.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes. Number of cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Forecasts = Annotated[Path | None, typer.Option(help="Write every forecast, with what came, as CSV.")]
Report = Annotated[Path | None, typer.Option(help="Write an HTML page.")]


def forecast(
    series: Series,
    time: Time,
    target: Target,
    known: Known = None,
    known_file: KnownFile = None,
    horizon: Horizon = "PT24H",
    every: Every = "PT24H",
    at: At = "00:00",
    train_until: TrainUntil = None,
    zone: Zone = "UTC",
    holidays: Holidays = None,
    holiday_column: HolidayColumn = None,
    model: Annotated[
        str | None, typer.Option(help="Kind of model. Without: the one that fits the series.")
    ] = None,
    refit: Refit = "P7D",
    unit: Unit = "",
    step: Step = None,
    time_format: TimeFormat = None,
    seed: Seed = 1,
    jobs: Jobs = None,
    json: Json = False,
    report: Report = None,
    forecasts: Forecasts = None,
) -> None:
    """Judge forecasts of a series beside persistence and seasonal naive."""
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.run import Question

    wanted = Wanted(time, target, tuple(known or ()), holiday_column, time_format)
    question = Question(
        series, wanted, zone, horizon, every, at, train_until, refit, unit, holidays, step, seed,
        known_file,
    )  # fmt: skip
    put_out(answer(question, [model], jobs, forecasts), json=json, report=report)


def backtest(
    series: Series,
    time: Time,
    target: Target,
    model: Annotated[
        list[str] | None, typer.Option(help="Kind of model; may be repeated. Without: all.")
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle of `train forecast`, not fitted again; may be repeated.")
    ] = None,
    known: Known = None,
    known_file: KnownFile = None,
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
    jobs: Jobs = None,
    json: Json = False,
    report: Report = None,
    forecasts: Forecasts = None,
) -> None:
    """Judge several models on one series."""
    from streamproc.evaluation.series.models import RECIPES
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.run import Question

    wanted = Wanted(time, target, tuple(known or ()), holiday_column, time_format)
    question = Question(
        series, wanted, zone, horizon, every, at, train_until, refit, unit, holidays, step, seed,
        known_file,
    )  # fmt: skip
    named: list[str | None] = [*(model or ([] if bundle else list(RECIPES)))]
    result = answer(question, named, jobs, forecasts, [frozen(one, target) for one in bundle or ()])
    put_out(result, json=json, report=report)


def frozen(directory: Path, target: str) -> Frozen:
    """Return a bundle as a model for a backtest; one that is loaded is named by its digest."""
    from streamproc.shell.ahead_model import OnnxAhead
    from streamproc.training.ahead.recipe import Frozen, StreamModel

    loaded = OnnxAhead.load(directory)
    rows = loaded.rows_of((target,))

    def ask(given: Any, with_known: bool) -> Any:  # noqa: ANN401 - arrays, imported late
        return loaded.predict(given, rows, with_known=with_known)

    name = f"{loaded.manifest.bundle.name} {loaded.digest[:8]}"
    return Frozen(name, StreamModel(name, ask, loaded.scaled))


def answer(
    question: Question,
    models: Sequence[str | None],
    jobs: int | None,
    forecasts: Path | None,
    more: Sequence[Frozen] = (),
) -> Result:
    """Run the backtest, with a bar on a terminal."""
    from streamproc.cli.evaluate import cores, watching
    from streamproc.evaluation.series.forecasts import forecast_rows
    from streamproc.evaluation.series.models import recipe_of
    from streamproc.evaluation.series.run import Listener, evaluate

    def keeps(series: Any, plan: Any, told: Any) -> None:  # noqa: ANN401 - of the evaluation, imported late
        if forecasts is not None:
            write_text(forecasts, (line + "\n" for line in forecast_rows(series, plan, told)))

    recipes = [*more, *(recipe_of(name) for name in dict.fromkeys(models))]
    if more:
        jobs = 1  # a session cannot be handed to another process
    with watching() as watch:
        return evaluate(
            question, recipes, Listener(watch.begin, lambda: watch.step(None), keeps), jobs or cores()
        )


def put_out(result: Result, *, json: bool, report: Path | None) -> None:
    """Print the result, and write the page if one is asked for."""
    from streamproc.evaluation.series.result import json_of
    from streamproc.evaluation.series.text import result_lines

    if report is not None:
        write_page(result, report)
    if json:
        print(json_of(result).decode())
        return
    print("\n".join(result_lines(result)))


def write_page(result: Result, out: Path) -> None:
    """Write the page of a result; raises DataError."""
    from streamproc.evaluation.series.page import page

    write_text(out, [page(result)])


def write_text(out: Path, parts: Iterable[str]) -> None:
    """Write a file; raises DataError."""
    from streamproc.errors import DataError

    try:
        with out.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}") from error

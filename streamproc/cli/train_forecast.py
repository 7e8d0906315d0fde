"""`streamproc train forecast`: a 48-hour model from a file of measurements to a bundle that a worker loads.

    streamproc train forecast load.csv --time time --target load_mw --known temperature_degc --out bundles/load
    streamproc train forecast --from-topics -c site.toml --area north --from 2025-01-01 --to 2026-01-01 --out bundles/load

One bundle for all targets: they share what they have in common and keep a part of their own. The bundle is loaded once
more before the command says that it is there; `[worker] forecast_bundle` uses it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.evaluate_forecast import (
    HolidayColumn,
    Holidays,
    Json,
    Known,
    KnownFile,
    Seed,
    Step,
    TimeFormat,
    TrainUntil,
    Unit,
    Zone,
)
from streamproc.cli.topics import Bootstrap, Config

if TYPE_CHECKING:
    from streamproc.evaluation.series.grid import Series
    from streamproc.evaluation.series.train_input import Ask

TREES_TARGETS_MAX = 8  # trees cost a millisecond per series and issue
FromTopics = Annotated[
    bool, typer.Option("--from-topics", help="Read grid.intervals.v1, and of grid.exogenous.v1 each --known.")
]
Generic = Annotated[bool, typer.Option("--generic", help="Write the bundle that the package ships.")]
TreesToo = Annotated[
    bool | None,
    typer.Option("--trees/--no-trees", help="Boosted trees, too. Without: with up to 8 targets."),
]
Onnx = Annotated[
    Path | None, typer.Option(help="Your own model (`streamproc.shell.own_model` declares its inputs).")
]
RUN_ID_HINT = "the name of the series in the stream, where it is another than the column's; one per --target"


def forecast(
    series: Annotated[
        Path | None, typer.Argument(help="CSV, CSV.GZ or Parquet file with one row per interval.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the bundle; made if missing.")] = Path("bundle"),
    time: Annotated[str, typer.Option(help="Column of times: the beginning of each interval.")] = "time",
    target: Annotated[list[str] | None, typer.Option(help="Column to forecast; may be repeated.")] = None,
    series_id: Annotated[list[str] | None, typer.Option("--id", help=RUN_ID_HINT)] = None,
    known: Known = None,
    known_file: KnownFile = None,
    train_until: TrainUntil = None,
    zone: Zone = "UTC",
    holidays: Holidays = None,
    holiday_column: HolidayColumn = None,
    unit: Unit = "",
    step: Step = None,
    time_format: TimeFormat = None,
    seed: Seed = 1,
    name: Annotated[str | None, typer.Option(help="Of the bundle. Without: that of the file.")] = None,
    trees: TreesToo = None,
    onnx: Onnx = None,
    generic: Generic = False,
    from_topics: FromTopics = False,
    area: Annotated[str, typer.Option(help="With --from-topics: whose series.")] = "",
    from_time: Annotated[str | None, typer.Option("--from", help="With --from-topics: beginning.")] = None,
    to_time: Annotated[str | None, typer.Option("--to", help="With --from-topics: end, not in it.")] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
    json: Json = False,
) -> None:
    """Fit the 48-hour model of some series and write a bundle."""
    if generic:
        from streamproc.training.ahead.generic import generic_files

        _put_out((generic_files(), {}, []), out, json=json)
        return
    task = Task(series or Path(), time, target or [], series_id, known, known_file, train_until, zone, holidays,
        holiday_column, unit, step, time_format, seed, name, trees, onnx)  # fmt: skip
    if from_topics:
        if series is not None or known_file is not None:
            raise typer.BadParameter("--from-topics reads the broker: leave FILE and --known-file out")
        span = topic_span(area, from_time, to_time, zone)
        _put_out(trained_from_topics(task, config, bootstrap, area, span), out, json=json)
        return
    if series is None or not target:
        from streamproc.errors import DataError

        raise DataError(
            "train forecast: give a file and at least one --target (or --from-topics, or --generic)"
        )
    _put_out(trained(task, series.name), out, json=json)


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained on what."""

    path: Path
    time: str
    targets: list[str]
    ids: list[str] | None
    known: list[str] | None
    known_file: Path | None
    until: str | None
    zone: str
    holidays: str | None
    holiday_column: str | None
    unit: str
    step: str | None
    time_format: str | None
    seed: int
    name: str | None
    trees: bool | None = None
    onnx: Path | None = None


def trained(task: Task, file: str) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
    """Return the files of the bundle, its figures, and what was wrong with the data; raises DataError."""
    from streamproc.cli.evaluate import watching
    from streamproc.errors import DataError
    from streamproc.evaluation.series.known_file import read_known
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.train_input import Ask, Source, bundle_files, read_source
    from streamproc.evaluation.series.zone import zone_of

    if task.ids and len(task.ids) != len(task.targets):
        raise DataError(
            f"--id: {len(task.ids)} names for {len(task.targets)} targets; give one for each, in their order"
        )
    known = tuple(task.known or ())
    asked = [Wanted(task.time, one, known, task.holiday_column, task.time_format) for one in task.targets]
    with watching() as watch:
        watch.begin("read", len(asked))
        parts: list[Series] = []
        for wanted in asked:
            parts.append(read_source(Source(task.path, wanted, task.zone, task.holidays, task.step)))
            watch.step(None)
        sheet = read_known(task.known_file, zone_of(task.zone)) if task.known_file is not None else None
        watch.begin("train", 3)
        ask = Ask(
            task.ids or task.targets,
            task.until,
            task.seed,
            task.name or file.split(".", maxsplit=1)[0],
            task.unit,
            command(),
            file,
            with_trees(task.trees, len(asked)),
            sheet,
        )
        if task.onnx is not None:
            if sheet is not None:
                raise DataError("--onnx goes with --known COLUMN, not with --known-file")
            return _own(task.onnx, parts, ask)
        return bundle_files(parts, ask, lambda _: watch.step(None))


def _own(onnx: Path, parts: list[Series], ask: Ask) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
    """Return the files of a bundle around a model that was made elsewhere."""
    from dataclasses import replace

    from streamproc.errors import DataError
    from streamproc.evaluation.series.train_input import input_of
    from streamproc.shell.own_model import judged, scales_of
    from streamproc.training.ahead.bundle import packed
    from streamproc.training.ahead.fleets import known_scale

    try:
        model = onnx.read_bytes()
    except OSError as error:
        raise DataError(f"--onnx: cannot read {onnx}: {error.strerror}") from error
    given = input_of(parts, ask)
    mean, size = known_scale(given.fleet.known, given.fleet.value.shape[1])
    fleet = replace(given.fleet, known=(given.fleet.known - mean[:, None]) / size[:, None])
    vectors, shape, metrics = judged(model, fleet, str(onnx))
    card = f"# {ask.name}\n\nA model made elsewhere ({onnx.name}), judged on {given.about['data']}.\n"
    files = packed(model, vectors, fleet, scales_of(shape, mean, size), given.about, metrics, card)
    return files, metrics, given.notes


def with_trees(wanted: bool | None, n_target: int) -> bool:
    """Return whether to fit trees; raises DataError when they are wanted and LightGBM is not there."""
    from importlib.util import find_spec

    from streamproc.errors import DataError

    there = find_spec("lightgbm") is not None and find_spec("onnxmltools") is not None
    if wanted and not there:
        raise DataError('--trees needs LightGBM: pip install "streamproc[train]"')
    return there and (n_target <= TREES_TARGETS_MAX if wanted is None else wanted)


def topic_span(area: str, from_time: str | None, to_time: str | None, zone: str) -> tuple[int, int]:
    """Return the span in us; raises a usage error when it is not given."""
    from streamproc.cli.topics import span_us
    from streamproc.evaluation.series.zone import zone_of

    if not area or from_time is None or to_time is None:
        raise typer.BadParameter("--from-topics needs --area NAME, --from TIME and --to TIME")
    return span_us(from_time, to_time, zone_of(zone))


def trained_from_topics(
    task: Task, config: Path | None, bootstrap: str | None, area: str, span: tuple[int, int]
) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
    """Return as `trained`, of an export of the topics into files that are gone afterwards; raises StreamprocError."""
    from tempfile import TemporaryDirectory

    from streamproc.cli.topics import site
    from streamproc.evaluation.series.read import names_of
    from streamproc.shell.export import Asked, export_exogenous, export_intervals
    from streamproc.values import TOPIC_EXOGENOUS, TOPIC_INTERVALS

    where = site(config, bootstrap)
    with TemporaryDirectory(prefix="streamproc-") as room:
        path, known = Path(room, f"{TOPIC_INTERVALS}.csv"), Path(room, f"{TOPIC_EXOGENOUS}.csv")
        skipped = export_intervals(where, Asked(area, *span, tuple(task.targets)), path)[1]
        if task.known:
            skipped += export_exogenous(where, Asked(area, *span, tuple(task.known)), known)[1]
        task = replace(
            task,
            path=path,
            time="time",
            targets=task.targets or [one for one in names_of(path) if one != "time"],
            known=None,
            known_file=known if task.known else None,
            time_format=None,
            name=task.name or area,
        )
        files, metrics, notes = trained(task, f"{TOPIC_INTERVALS} of {area}")
    more = [f"records of the topics that cannot be read, left out: {skipped}"] if skipped else []
    return files, metrics, [*notes, *more]


def _put_out(made: tuple[dict[str, bytes], dict[str, Any], list[str]], out: Path, *, json: bool) -> None:
    from streamproc.cli.train import write_files

    files, metrics, notes = made
    write_files(files, out)
    _load_again(out, metrics, notes, json=json)


def command() -> str:
    """Return the command as it was given, without the directories of this machine."""
    return " ".join(["streamproc", *(Path(part).name if "/" in part else part for part in sys.argv[1:])])


def _load_again(out: Path, metrics: dict[str, Any], notes: list[str], *, json: bool) -> None:
    import orjson

    from streamproc.shell.ahead_model import OnnxAhead

    loaded = OnnxAhead.load(out)  # what cannot be loaded again must not be called a success
    if json:
        told = {"bundle": str(out), "digest": loaded.digest, "metrics": metrics, "notes": notes}
        typer.echo(orjson.dumps(told).decode())
        return
    for note in notes:
        typer.echo(f"quality: {note}")
    for words, of in metrics.items():
        told_of = ", ".join(
            f"{key.removeprefix('skill_')} {value:.1%}" for key, value in of.items() if key[:5] == "skill"
        )
        typer.echo(f"{words:>6} ahead, held out: skill over {told_of}")
    typer.echo(f"wrote {out} ({loaded.digest[:12]}); use it with [worker] forecast_bundle = {str(out)!r}")

"""`streamproc train forecast`: a 48-hour model from a file of measurements to a bundle that a worker loads.

    streamproc train forecast load.csv --time time --target load_mw --known temperature_degc --out bundles/load

One bundle for all targets: they share what they have in common and keep a part of their own. The bundle is loaded once
more before the command says that it is there; `[worker] forecast_bundle` uses it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.evaluate_forecast import (
    HolidayColumn,
    Holidays,
    Json,
    Known,
    Seed,
    Step,
    TimeFormat,
    TrainUntil,
    Unit,
    Zone,
)

if TYPE_CHECKING:
    from streamproc.evaluation.series.grid import Series
    from streamproc.evaluation.series.train_input import Ask

TREES_TARGETS_MAX = 8  # trees cost a millisecond per series and issue
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
    train_until: TrainUntil = None,
    zone: Zone = "UTC",
    holidays: Holidays = None,
    holiday_column: HolidayColumn = None,
    unit: Unit = "",
    step: Step = None,
    time_format: TimeFormat = None,
    seed: Seed = 1,
    name: Annotated[str | None, typer.Option(help="Of the bundle. Without: that of the file.")] = None,
    trees: Annotated[
        bool | None,
        typer.Option("--trees/--no-trees", help="Boosted trees, too. Without: with up to 8 targets."),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="Your own model (`streamproc.shell.own_model` declares its inputs).")
    ] = None,
    generic: Annotated[
        bool, typer.Option("--generic", help="Write the bundle that the package ships.")
    ] = False,
    json: Json = False,
) -> None:
    """Fit the 48-hour model of some series and write a bundle."""
    from streamproc.cli.train import write_files

    if generic:
        from streamproc.training.ahead.generic import generic_files

        write_files(generic_files(), out)
        _load_again(out, {}, [], json=json)
        return
    files, metrics, notes = _trained(
        series, time, target, series_id, known, train_until, zone, holidays, holiday_column, unit, step,
        time_format, seed, name, trees, onnx,
    )  # fmt: skip
    write_files(files, out)
    _load_again(out, metrics, notes, json=json)


def _trained(
    path: Path | None,
    time: str,
    targets: list[str] | None,
    ids: list[str] | None,
    known: list[str] | None,
    until: str | None,
    zone: str,
    holidays: str | None,
    holiday_column: str | None,
    unit: str,
    step: str | None,
    time_format: str | None,
    seed: int,
    name: str | None,
    trees: bool | None,
    onnx: Path | None,
) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
    from streamproc.cli.evaluate import watching
    from streamproc.errors import DataError
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.train_input import Ask, Source, bundle_files, read_source

    if path is None or not targets:
        raise DataError("train forecast: give a file and at least one --target (or --generic)")
    if ids and len(ids) != len(targets):
        raise DataError(
            f"--id: {len(ids)} names for {len(targets)} targets; give one for each, in their order"
        )
    asked = [Wanted(time, target, tuple(known or ()), holiday_column, time_format) for target in targets]
    with watching() as watch:
        watch.begin("read", len(asked))
        parts: list[Series] = []
        for wanted in asked:
            parts.append(read_source(Source(path, wanted, zone, holidays, step)))
            watch.step(None)
        watch.begin("train", 3)
        named = name or path.name.split(".")[0]
        ask = Ask(
            ids or targets, until, seed, named, unit, command(), path.name, with_trees(trees, len(asked))
        )
        if onnx is not None:
            return _own(onnx, parts, ask)
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

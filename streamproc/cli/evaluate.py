"""`streamproc evaluate`: how well the whole path finds and names what happens, on corpora with known truth.

`evaluate events CORPUS.npz ...` sends every event through the path of the service as C37.118 frames and compares what
would stand in `grid.alerts.v1` with the truth; `evaluate stream CORPUS.npz` does it with one stream of 90 minutes.
`evaluate forecast SERIES.csv` judges forecasts of any series (`cli.evaluate_forecast`), `evaluate regulation RECORDING`
those of the next minimum and maximum of the frequency (`cli.evaluate_regulation`), `evaluate floods` what an operator
sees of a day (`cli.evaluate_floods`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamproc.cli.evaluate_floods import floods
from streamproc.cli.evaluate_forecast import forecast
from streamproc.cli.evaluate_regulation import regulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamproc.evaluation.ambient import Ambient
    from streamproc.evaluation.evaluate import Watch
    from streamproc.evaluation.site import Tools
    from streamproc.evaluation.table import Table

RATE_HZ = 30.0  # of the ambient that is made


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="How well events are found and named, and series forecast.", no_args_is_help=True
    )
    group.command("events", help="Each event of a corpus on its own, through the whole path.")(events)
    group.command("stream", help="One long stream with many events, drop-outs and bad data.")(stream)
    group.command("forecast", help="Forecasts of any series, beside persistence and seasonal naive.")(
        forecast
    )
    group.command("regulation", help="The next minimum and maximum of an area's frequency.")(regulation)
    group.command("floods", help="Cards that an operator sees, of a made day and of events.")(floods)
    app.add_typer(group, name="evaluate")


def events(
    corpus: Annotated[list[Path], typer.Argument(help="Event corpora (.npz), or directories of them.")],
    noise: Annotated[list[str] | None, typer.Option(help="T1, T2 or T3; may be repeated. All three.")] = None,
    impair: Annotated[
        list[str] | None,
        typer.Option(help="missing5, missing20, missing50, stuck, drift, spikes, all or none. All, with T2."),
    ] = None,
    ambient: Annotated[Path | None, typer.Option(help="Recording of real frequency. Without: made.")] = None,
    ambient_except: Annotated[
        list[float] | None, typer.Option(help="Seconds into it of a known disturbance; may be repeated.")
    ] = None,
    ambient_minutes: Annotated[float, typer.Option(help="Event-free data to test on, at most.")] = 60.0,
    config: Annotated[Path | None, typer.Option(help="Site file. Without: as shipped.")] = None,
    generic: Annotated[bool, typer.Option("--generic", help="No calibration: the generic bundle.")] = False,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events of each corpus.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Number of cores.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page.")] = None,
) -> None:
    """Evaluate event by event."""
    from tempfile import TemporaryDirectory

    from streamproc.evaluation.corpus import find_corpora, read_corpus
    from streamproc.evaluation.evaluate import Wish, evaluate_events

    files, left_out = find_corpora(corpus)
    corpora = [read_corpus(path) for path in files]
    tiers = chosen_tiers(noise)
    wish = Wish(
        tiers=tiers,
        impairments=chosen_impairments(impair),
        impaired_tiers=tiers if noise else ("T2",),
        seed=seed,
        jobs=jobs or cores(),
        limit=limit,
        ambient_s=ambient_minutes * 60.0,
        generic=generic,
    )
    under = the_ambient(ambient, ambient_except or [], seed)
    with TemporaryDirectory(prefix="streamproc-evaluate-") as room, watching() as watch:
        tables = evaluate_events(corpora, under, wish, the_tools(), the_site(config), Path(room), watch)
    notes = [
        *left_out,
        *in_sample(files),
        *notes_of(under, site_told=config is not None, generic=generic, seed=seed),
    ]
    put_out(tables, notes, json=json, report=report)


def in_sample(files: Sequence[Path]) -> list[str]:
    """Return a warning if what describes disturbances has seen some of the corpora."""
    from streamproc.shell.evaluated import fitted_on

    seen = [file.name for file in files if file.name in fitted_on()]
    if not seen:
        return []
    return [f"kinds, places and sizes flatter on {', '.join(seen)}: the describing models were fitted on it"]


def notes_of(ambient: Ambient, *, site_told: bool, generic: bool, seed: int) -> list[str]:
    """Return what a reader of the figures must know."""
    minutes = ambient.test_s / 60.0
    return [
        f"ambient {ambient.name}: {minutes:.1f} min to test on, {ambient.calibrate_hz.size / ambient.rate_hz / 60:.0f} "
        "min of its first half to calibrate",
        *ambient.notes,
        "configuration: "
        + ("the site file" if site_told else "as shipped")
        + (", generic bundle" if generic else ", calibrated for each corpus and noise"),
        f"seed {seed}; delay counts from the first frame at or after the onset: transport and PMU filter come on top",
    ]


def put_out(tables: Sequence[Table], notes: Sequence[str], *, json: bool, report: Path | None) -> None:
    """Print the tables, and write the page if one is asked for."""
    import orjson
    from msgspec import to_builtins

    from streamproc.errors import StreamprocError
    from streamproc.evaluation.page import page
    from streamproc.evaluation.table import pooled
    from streamproc.evaluation.text import report_lines

    if report is not None:
        try:
            report.write_text(page(tables, notes), encoding="utf-8")
        except OSError as error:
            raise StreamprocError(f"evaluate: cannot write {report}: {error.strerror}") from error
    if json:
        tree = {"notes": list(notes), "tables": to_builtins(tables), "pooled": to_builtins(pooled(tables))}
        print(orjson.dumps(tree).decode())
        return
    print("\n".join(report_lines(tables, notes)))


def stream(
    corpus: Annotated[list[Path], typer.Argument(help="Event corpora (.npz), or directories of them.")],
    noise: Annotated[list[str] | None, typer.Option(help="T1, T2 or T3; may be repeated. T2.")] = None,
    ambient: Annotated[Path | None, typer.Option(help="Recording of real frequency. Without: made.")] = None,
    ambient_except: Annotated[
        list[float] | None, typer.Option(help="Seconds into it of a known disturbance; may be repeated.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Length of the stream.")] = 90.0,
    events: Annotated[int, typer.Option(min=1, help="Events in it, at least 45 s apart.")] = 60,
    config: Annotated[Path | None, typer.Option(help="Site file. Without: as shipped.")] = None,
    generic: Annotated[bool, typer.Option("--generic", help="No calibration: the generic bundle.")] = False,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Number of cores.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Evaluate a stream."""
    from tempfile import TemporaryDirectory

    import orjson
    from msgspec import to_builtins

    from streamproc.evaluation.corpus import find_corpora, read_corpus
    from streamproc.evaluation.evaluate import Wish
    from streamproc.evaluation.stream_run import evaluate_stream
    from streamproc.evaluation.stream_text import stream_lines

    files, left_out = find_corpora(corpus)
    corpora = [read_corpus(path) for path in files]
    wish = Wish(chosen_tiers(noise or ["T2"]), (), (), seed=seed, jobs=jobs or cores(), generic=generic)
    under = the_ambient(ambient, ambient_except or [], seed)
    with TemporaryDirectory(prefix="streamproc-evaluate-") as room, watching() as watch:
        tables = evaluate_stream(
            corpora, under, wish, minutes, events, the_tools(), the_site(config), Path(room), watch
        )
    notes = [
        *left_out,
        *in_sample(files),
        *notes_of(under, site_told=config is not None, generic=generic, seed=seed),
    ]
    notes.append("the stream is our own simulation: its figures are not those of a competition's data")
    if json:
        print(orjson.dumps({"notes": notes, "streams": to_builtins(tables)}).decode())
    else:
        print("\n".join(stream_lines(tables, notes)))


def chosen_tiers(noise: list[str] | None) -> tuple[str, ...]:
    """Return the tiers of noise that were asked for."""
    from streamproc.evaluation.noise import TIERS

    wrong = [name for name in noise or [] if name not in TIERS]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(TIERS)}")
    return tuple(dict.fromkeys(noise or TIERS))


def chosen_impairments(impair: list[str] | None) -> tuple[str, ...]:
    """Return the impairments that were asked for."""
    from streamproc.evaluation.impair import IMPAIRMENTS

    names = impair or ["all"]
    wrong = [name for name in names if name not in {*IMPAIRMENTS, "all", "none"}]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(IMPAIRMENTS)}, all, none")
    if "all" in names:
        return tuple(IMPAIRMENTS)
    return tuple(dict.fromkeys(name for name in names if name != "none"))


def the_ambient(path: Path | None, except_s: list[float], seed: int) -> Ambient:
    """Return the ambient of a recording, or one that is made."""
    from streamproc.evaluation.ambient import made_ambient
    from streamproc.shell.evaluated import read_ambient

    return made_ambient(RATE_HZ, seed) if path is None else read_ambient(path, except_s)


def the_tools() -> Tools:
    """Return what the evaluation needs of the shell."""
    from streamproc.cli.train import write_files
    from streamproc.evaluation.site import Tools
    from streamproc.shell.evaluated import parameters_of, warm_path
    from streamproc.shell.models import SessionScorer

    return Tools(SessionScorer, write_files, warm_path, parameters_of)


def the_site(config: Path | None) -> Any:  # noqa: ANN401 - SiteConfig, which is imported late
    """Return the site file, or the configuration as shipped."""
    from streamproc.config import SiteConfig
    from streamproc.shell.site_file import load_site

    return load_site(config) if config is not None else SiteConfig()


def cores() -> int:
    """Return how many processes can run at once."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def watching() -> Iterator[Watch]:
    """Yield who is told how it goes: a bar on standard error if that is a terminal, else nobody."""
    from streamproc.evaluation.evaluate import Watch

    if not sys.stderr.isatty():
        yield Watch()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        ids: list[Any] = []
        yield Watch(
            lambda words, total: ids.append(bar.add_task(words, total=total)),
            lambda _: bar.advance(ids[-1]),
        )

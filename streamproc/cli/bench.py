"""`streamproc bench`: measure this machine. Every command prints what it found beside what was wanted.

`decode`: bytes to arrays. `seam`: the worker's way in against the bare Kafka client. `path`: the whole path beside
stock Faust and Quix Streams. `latency`: record to alert under full load. `scale`: what a site costs. `peers`: one job on
other stream processors. `profile`: where the time goes. `detect`: a site's model and deciding. `ahead`: 48-hour
forecasts of many series. `report`: BENCHMARKS.md from their JSON.

Exit code 1: a target was not met (it is printed which).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.shell.bench.table import Result

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Bootstrap = Annotated[
    str | None, typer.Option(help="Kafka to use; without it one is started for the time of the run.")
]
Rounds = Annotated[int, typer.Option(help="The median of so many rounds counts.", min=1, max=20)]
RunSeconds = Annotated[
    float, typer.Option(help="At most so long for each run of each way.", min=0.5, max=120)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Measure this machine: decoder, path, latency, peers.", no_args_is_help=True)
    group.command("decode", help="Bytes to arrays, beside a plain np.frombuffer.")(decode)
    group.command("seam", help="The worker's way in, beside aiokafka getmany + np.frombuffer.")(seam)
    group.command("path", help="The same PMU frames through ours, stock Faust and Quix Streams.")(path)
    group.command("latency", help="Record to alert with producer, broker and worker at full load.")(latency)
    group.command("scale", help="What sites of 10 to 3,000 PMUs cost; fits the model of `size`.")(scale)
    group.command("peers", help="The same job on the field's stream processors.")(peers)
    group.command("profile", help="Where the score stage's microseconds go; no broker.")(profile)
    group.command("detect", help="A site's own model per instant, and deciding; no broker.")(detect)
    group.command("ahead", help="One issue of 48-hour forecasts for many series; no broker.")(ahead)
    group.command("report", help="BENCHMARKS.md from the JSON of the other commands.")(report)
    app.add_typer(group, name="bench")


def decode(
    json: Json = False,
    seconds: Annotated[float, typer.Option(help="For all cases together.", min=0.5)] = 6.0,
) -> None:
    """Measure the decoder."""
    from streamproc.shell.bench.decode import main

    raise typer.Exit(main(json=json, seconds=seconds))


def seam(
    json: Json = False,
    bootstrap: Bootstrap = None,
    records: Annotated[int, typer.Option(help="Records of one round.", min=1000)] = 400_000,
) -> None:
    """Measure the batch seam."""
    from streamproc.shell.bench.seam import main

    raise typer.Exit(main(json=json, bootstrap=bootstrap, records=records))


def path(
    json: Json = False,
    bootstrap: Bootstrap = None,
    records: Annotated[
        int, typer.Option(help="Records stored; one is a frame of 40 PMUs.", min=100)
    ] = 200_000,
    seconds: RunSeconds = 8.0,
    rounds: Rounds = 3,
    sizes: Annotated[
        str, typer.Option(help="PMUs of the sites for the cost per PMU-frame, with commas; empty for none.")
    ] = "10,40,100,300,1000,3000",
) -> None:
    """Measure the path."""
    from streamproc.shell.bench.path import measure

    show(
        measure(bootstrap=bootstrap, records=records, seconds=seconds, rounds=rounds, sizes=_numbers(sizes)),
        json=json,
    )


def latency(
    json: Json = False,
    bootstrap: Bootstrap = None,
    pmus: Annotated[int, typer.Option(help="PMUs in all.", min=1, max=12000)] = 3000,
    rate: Annotated[int, typer.Option(help="Frames per second.", min=1, max=120)] = 60,
    seconds: Annotated[int, typer.Option(help="How long.", min=5, max=3600)] = 60,
    area_pmus: Annotated[int, typer.Option(help="PMUs of one area.", min=1, max=4000)] = 200,
) -> None:
    """Measure from record to alert."""
    from streamproc.shell.bench.latency import measure

    show(
        measure(bootstrap=bootstrap, pmus=pmus, rate_hz=rate, seconds=seconds, area_pmus=area_pmus), json=json
    )


def scale(
    json: Json = False,
    bootstrap: Bootstrap = None,
    pmus: Annotated[str, typer.Option(help="PMUs of the sites, with commas.")] = "10,100,1000,3000",
    rates: Annotated[str, typer.Option(help="Frames per second, with commas.")] = "25,60",
    seconds: Annotated[int, typer.Option(help="How long each site runs.", min=3, max=600)] = 15,
    save_model: Annotated[
        Path | None, typer.Option(help="Also write the fitted cost model to this file.")
    ] = None,
) -> None:
    """Measure sites of several sizes."""
    from streamproc.shell.bench.scale import measure, save

    result, model = measure(
        bootstrap=bootstrap, pmus=_numbers(pmus), rates_hz=_numbers(rates), seconds=seconds
    )
    if save_model is not None:
        save(model, save_model)
    show(result, json=json)


def peers(
    json: Json = False,
    bootstrap: Bootstrap = None,
    records: Annotated[int, typer.Option(help="Records stored.", min=1000)] = 400_000,
    seconds: RunSeconds = 6.0,
    rounds: Rounds = 3,
    only: Annotated[
        str, typer.Option(help="These peers alone: faststream, bytewax, csp, quix, faust; with commas.")
    ] = "",
) -> None:
    """Measure other stream processors."""
    from streamproc.shell.bench.peers import measure

    names = [name for name in only.split(",") if name]
    show(measure(bootstrap=bootstrap, records=records, seconds=seconds, rounds=rounds, only=names), json=json)


def profile(
    json: Json = False,
    seconds: Annotated[int, typer.Option(help="Seconds of stream time to score.", min=1, max=120)] = 20,
) -> None:
    """Profile the score stage."""
    from streamproc.shell.bench.profile import measure

    show(measure(seconds=seconds), json=json)


def detect(
    json: Json = False,
    rounds: Rounds = 5,
) -> None:
    """Measure detection."""
    from streamproc.shell.bench.detect import measure

    show(measure(rounds=rounds), json=json)


def ahead(
    json: Json = False,
    series: Annotated[int, typer.Option(help="Series of one area.", min=10, max=10_000)] = 10_000,
    rounds: Rounds = 5,
) -> None:
    """Measure an issue of 48-hour forecasts."""
    from streamproc.shell.bench.ahead import measure

    show(measure(series=series, rounds=rounds), json=json)


def report(
    results: Annotated[list[Path], typer.Argument(help="Files with what the commands printed with --json.")],
    notes: Annotated[
        Path | None,
        typer.Option(help="Markdown put at the end: what was tried. Without it the package's."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output without it.")] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="Files with what `evaluate` printed; put in as they are.")
    ] = None,
) -> None:
    """Make BENCHMARKS.md."""
    from streamproc.shell.bench.table import read_notes, read_result, report, verbatim

    parts = [report([read_result(path) for path in results])]
    parts += [verbatim(path.stem, read_notes(path)) for path in evaluation or []]
    told = "\n".join([*parts, read_notes(notes)])
    if out is None:
        print(told, end="")
    else:
        out.write_text(told, encoding="utf-8")


def show(result: Result, *, json: bool) -> None:
    """Print a result and leave with 1 if a target was missed."""
    from streamproc.shell.bench.table import encode, text

    print(encode(result) if json else text(result), end="\n" if json else "", flush=True)
    raise typer.Exit(0 if all(target.met for target in result.targets) else 1)


def _numbers(words: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in words.split(",") if word.strip())
    except ValueError:
        raise typer.BadParameter(f"{words!r}: whole numbers with commas between them") from None
    if any(number <= 0 for number in found):
        raise typer.BadParameter(f"{words!r}: numbers above zero")
    return found

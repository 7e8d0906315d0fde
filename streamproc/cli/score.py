"""`streamproc score`: the alerts of a recording, without a broker.

Standard output is NDJSON and nothing else: exactly the values that would stand in `grid.alerts.v1`, in their
order. What there is to say beside it (progress on a terminal, columns left out, a count at the end) goes to
standard error.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamproc.config import SiteConfig
    from streamproc.values import Counts, Record


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score", help="Print the alerts of a recording as NDJSON, without a broker.")(score)


def score(
    recording: Annotated[
        Path, typer.Argument(help=".pcap, .PmuCapture, .c37, CSV(.gz), Parquet or .ndjson.")
    ],
    bundle: Annotated[Path | None, typer.Option(help="Site bundle of `streamproc train`.")] = None,
    config: Annotated[Path | None, typer.Option(help="Site file.")] = None,
    area: Annotated[
        str | None, typer.Option(help="Area of the records; the only [[area]], or 'recording'.")
    ] = None,
    rate_hz: Annotated[float | None, typer.Option(help="Rows per second, if the file cannot tell.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
) -> None:
    """Score a recording."""
    from streamproc.pipeline import Path as StagePath
    from streamproc.pipeline import run
    from streamproc.shell.logs import set_up_logs
    from streamproc.shell.offline import make_path
    from streamproc.shell.recording import read_recording
    from streamproc.shell.site_file import load_site
    from streamproc.values import TOPIC_ALERTS

    site = load_site(config)
    set_up_logs("ERROR" if quiet else "WARNING", form="console")

    def note(line: str) -> None:
        if not quiet:
            print(f"{recording.name}: {line}", file=sys.stderr)

    records = read_recording(
        recording,
        area=area or only_area(site),
        rate_hz=rate_hz,
        points={point.id for point in site.point},
        nominal_hz=site.site.nominal_hz,
        note=note,
    )
    path: StagePath = make_path(site, bundle)
    out = sys.stdout.buffer
    count = 0
    with progress(quiet) as bar:
        for output in run(path, watched(records, bar)):
            if output.topic == TOPIC_ALERTS:
                out.write(output.value + b"\n")
                count += 1
    out.flush()
    note(summary(path.counts, count))


def summary(counts: Counts, transitions: int) -> str:
    """Return what came in and what went out, in one line."""
    told = {label: n for (metric, label), n in sorted(counts.items()) if metric == "rejected"}
    frames = sum(n for (metric, _), n in counts.items() if metric == "frames")
    untimely = {
        word.replace("_", " "): sum(n for (metric, _), n in counts.items() if metric == word)
        for word in ("late", "duplicates", "wrong_clock")
    }
    parts = [f"{frames} frames", f"{transitions} alert transitions"]
    parts += [f"refused {told}"] if told else []
    parts += [f"{n} PMU frames not used: {word}" for word, n in untimely.items() if n]
    return ", ".join(parts)


def only_area(site: SiteConfig) -> str | None:
    """Return the area of a site that has one, else None."""
    return site.area[0].name if len(site.area) == 1 else None


def progress(quiet: bool) -> AbstractContextManager[Any]:
    """Return a progress display on standard error if that is a terminal, else one that shows nothing."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} records"),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def watched(records: Iterable[Record], bar: Any, every: int = 512) -> Iterator[Record]:  # noqa: ANN401
    """Yield the records and move the bar, if there is one."""
    if bar is None:
        yield from records
        return
    from streamproc.core.iso_time import iso_time

    task = bar.add_task("records", total=None, at="")
    for count, record in enumerate(records):
        if count % every == 0:
            bar.update(task, completed=count, at=iso_time(record.ts_ms * 1_000_000))
        yield record

"""`streamproc explain ALERT_ID`: one page that says what an alert saw, from a recording or from the broker.

The page is one HTML file without anything from elsewhere. Its path goes to standard output; with `--json`, the facts
go there instead, and the page is written only where `--out` says. Beside it, on standard error, what a reader must
know: frames that retention has taken, another bundle.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig
    from streamproc.shell.explain.sources import Explained
    from streamproc.values import Record


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain", help="Draw an alert: traces, scores, order of response.")(explain)


def explain(
    alert_id: Annotated[str, typer.Argument(help="Its id, the beginning of it, or 'latest'.")],
    recording: Annotated[
        list[Path] | None, typer.Option(help="As of `score`; may be repeated. Without: from the broker.")
    ] = None,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="Site file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Site bundle of `streamproc train`.")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Broker address instead of that of the site file.")
    ] = None,
    area: Annotated[
        str | None, typer.Option(help="Area of the recording; the only [[area]], or 'recording'.")
    ] = None,
    rate_hz: Annotated[float | None, typer.Option(help="Rows per second, if the file cannot tell.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page; default: explain-ID.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as one JSON object.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Also write the broker's records as a recording (.c37, .ndjson).")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
) -> None:
    """Explain an alert."""
    from streamproc.cli.topics import site
    from streamproc.shell.explain.tree import as_json as tree
    from streamproc.shell.logs import set_up_logs

    if save is not None and recording:
        raise typer.BadParameter("with --recording there is nothing to save", param_hint="--save")
    set_up_logs("ERROR", form="console")
    explained = _explained(site(config, bootstrap), alert_id, recording, bundle, area, rate_hz, quiet)
    if save is not None:
        _save(explained, save)
    page = out
    if page is None and not as_json:
        page = Path(f"explain-{explained.alert.alert_id[:12]}.html")
    if page is not None:
        _write(explained, page)
    if not quiet:
        for note in explained.notes:
            print(f"note: {note}", file=sys.stderr)
    print(tree(explained, str(page) if page else None).decode() if as_json else page)


def _explained(
    site: SiteConfig,
    alert_id: str,
    recording: list[Path] | None,
    bundle: Path | None,
    area: str | None,
    rate_hz: float | None,
    quiet: bool,
) -> Explained:
    from streamproc.cli.score import only_area, progress, watched
    from streamproc.shell.explain.sources import from_broker, from_recordings

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    with progress(quiet) as bar:

        def watch(records: Iterable[Record]) -> Iterable[Record]:
            return watched(records, bar)

        if not recording:
            return asyncio.run(from_broker(site, bundle, alert_id, watch=watch))
        area = area or only_area(site)
        return from_recordings(
            site, bundle, alert_id, recording, area=area, rate_hz=rate_hz, note=say, watch=watch
        )


def _write(explained: Explained, path: Path) -> None:
    from streamproc.errors import ShellError
    from streamproc.shell.explain.page import page

    story = explained.story
    html = page(story.told, story.evidence, story.points, explained.commands, explained.notes)
    try:
        path.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ShellError(f"{path}: cannot be written: {error.strerror}") from error


def _save(explained: Explained, path: Path) -> None:
    from streamproc.errors import ShellError
    from streamproc.shell.explain.sources import save

    try:
        save(explained.records, path)
    except OSError as error:
        raise ShellError(f"{path}: cannot be written: {error.strerror}") from error

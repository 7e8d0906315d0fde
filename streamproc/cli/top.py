"""`streamproc top`: a running service on one screen, from its topics and its workers' /metrics.

Exit code 0; with --once 1 if the broker or a worker did not answer. Ctrl-C ends it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamproc.shell.top_state import Picture


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("top", help="Show a running service: rates, latencies, alerts, forecasts, advice.")(top)


def top(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Broker address instead of that of the site file.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Address of a worker (host:port or URL), repeatable; else that of the site file."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object a look.")] = False,
    seconds: Annotated[float | None, typer.Option(help="End after this time.", min=1.0)] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the last screen into this file as SVG.")] = None,
) -> None:
    """Show it."""
    from streamproc.cli.topics import site
    from streamproc.shell.top import SHOW_S, TopOptions, metrics_urls, run_top

    where = site(config, bootstrap)
    # Without a terminal there is nothing to draw on again and again: one look, unless a time was given.
    is_live = sys.stdout.isatty() and not once and not as_json
    once = once or (not is_live and not as_json and seconds is None)
    urls = metrics_urls(where, tuple(metrics or ()))
    options = TopOptions(urls, once, seconds, show_s=1.0 if as_json else SHOW_S)
    screen = _Json() if as_json else _Screen(live=is_live)

    def end(picture: Picture) -> int:
        screen.end(picture, told=not (as_json and not once))
        if svg is not None:
            from streamproc.shell.top_view import svg as drawn

            svg.write_text(drawn(picture), encoding="utf-8")
        return int(once and any(sentence.startswith("no answer") for sentence in picture["problems"]))

    show: Callable[[Picture], None] = screen.show
    raise typer.Exit(run_top(where, options, show, end))


class _Json:
    """One object a line."""

    def show(self, picture: Picture) -> None:
        """Print it."""
        import orjson

        sys.stdout.write(orjson.dumps(picture).decode() + "\n")
        sys.stdout.flush()

    def end(self, picture: Picture, *, told: bool) -> None:
        """Print the last one if it was not yet."""
        if told:
            self.show(picture)


class _Screen:
    """A terminal that is drawn again and again; the last picture stays when it ends."""

    def __init__(self, *, live: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live: Any = Live(console=self._console, auto_refresh=False, screen=True) if live else None

    def show(self, picture: Picture) -> None:
        """Draw it."""
        from streamproc.shell.top_view import render

        if self._live is not None:
            self._live.start()
            width, height = self._console.size
            self._live.update(render(picture, width, height), refresh=True)

    def end(self, picture: Picture, *, told: bool) -> None:
        """Give the terminal back, with the last picture on it."""
        from streamproc.shell.top_view import render

        if self._live is not None:
            self._live.stop()
        if told:
            width, height = self._console.size
            self._console.print(render(picture, width, height - 1, note=""), soft_wrap=True)
        sys.stdout.flush()

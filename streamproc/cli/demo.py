"""`streamproc demo`: the whole path on this machine, live in the terminal; plain lines without one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamproc.shell.demo_view import Board

STATUS_S = 5.0  # between two status lines without a terminal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", help="Show the whole path, with real captures and a simulated grid.")(demo)


def demo(
    broker: Annotated[
        str, typer.Option(help='"memory" (in this process) or "kafka" (a real one, Java 17).')
    ] = "memory",
    seconds: Annotated[
        float | None,
        typer.Option(envvar="DEMO_SECONDS", help="End after this time, with a summary.", min=5.0),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where Kafka's jars are kept.")] = Path(".cache"),
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of a picture, on a terminal too.")
    ] = False,
) -> None:
    """Run the demo."""
    from streamproc.shell.demo import DemoOptions, run_demo

    if broker not in {"memory", "kafka"}:
        raise typer.BadParameter(f'{broker!r}: "memory" or "kafka"', param_hint="--broker")
    options = DemoOptions(broker, seconds, cache)  # type: ignore[arg-type]
    if plain or not sys.stdout.isatty():
        code = run_demo(options, Lines())
    else:
        with Picture(seconds) as screen:
            code = run_demo(options, screen)
    raise typer.Exit(code)


class Lines:
    """Every line as it comes, with the time since the worker's start; a status line now and then."""

    def __init__(self) -> None:
        self._status_s = 0.0

    def say(self, line: str, elapsed_s: float = 0.0) -> None:
        """Print a line."""
        print(f"[{elapsed_s:6.1f}s] {line}", flush=True)

    def refresh(self, board: Board, elapsed_s: float) -> None:
        """Print a status line every few seconds."""
        from streamproc.shell.demo_view import stages_line, status_line

        if elapsed_s - self._status_s >= STATUS_S:
            self._status_s = elapsed_s
            self.say(status_line(board), elapsed_s)
            self.say(stages_line(board), elapsed_s)


class Picture:
    """A picture that is drawn again and again; lines show until the first one, and after the last."""

    def __init__(self, seconds: float | None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._seconds = seconds
        self._console = Console()
        self._live: Any = Live(console=self._console, auto_refresh=False, screen=False)
        self._drawn = False
        self._ended = False

    def __enter__(self) -> Picture:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str, _elapsed_s: float = 0.0) -> None:
        """Print a line while there is no picture; what comes later is in it. The summary stays below."""
        if line.startswith("summary:"):
            self._live.stop()
            self._ended = True
        if not self._drawn or self._ended:
            self._console.print(line, markup=False, highlight=False)

    def refresh(self, board: Board, elapsed_s: float) -> None:
        """Draw the picture."""
        from streamproc.shell.demo_view import render

        if not self._drawn:
            self._live.start()
            self._drawn = True
        self._live.update(render(board, elapsed_s, self._seconds, self._console.height), refresh=True)

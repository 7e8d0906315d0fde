"""`streamproc report`: the result of a backtest as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", help="Write the result of a backtest as one HTML page.")(report)


def report(
    result: Annotated[
        Path, typer.Argument(help="Result of `backtest --json` or `evaluate forecast --json`.")
    ],
    out: Annotated[Path, typer.Option(help="The page.")],
) -> None:
    """Write the page."""
    from streamproc.cli.evaluate_forecast import write_page
    from streamproc.evaluation.series.result import read_result

    write_page(read_result(result), out)
    print(f"wrote {out}")

"""`streamproc compare`: whether one model forecasts better than another, with the interval of the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", help="Compare the models of two results of `backtest --json`.")(compare_results)


def compare_results(
    first: Annotated[Path, typer.Argument(help="Result of a backtest (JSON).")],
    second: Annotated[
        Path | None, typer.Argument(help="Another one. Without: the models of the first.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare two results."""
    from streamproc.evaluation.series.compare import compare, comparison_lines
    from streamproc.evaluation.series.result import json_of, read_result

    one = read_result(first)
    comparison = compare(one, one if second is None else read_result(second))
    if json:
        print(json_of(comparison).decode())
        return
    print("\n".join(comparison_lines(comparison)))

"""`streamproc backtest`: several models of one series, beside each other and beside what everybody can do."""

from __future__ import annotations

import typer

from streamproc.cli.evaluate_forecast import backtest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backtest", help="Judge models of a series by a rolling backtest.")(backtest)

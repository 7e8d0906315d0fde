"""`streamproc size`: how many workers and partitions a site needs, from what `bench scale` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("size", help="Tell how many workers and partitions a site needs.")(size)


def size(
    pmus: Annotated[int, typer.Option(help="PMUs in all.", min=1)],
    rate: Annotated[int, typer.Option(help="Frames per second of each.", min=1, max=240)],
    areas: Annotated[int | None, typer.Option(help="Areas; without it 200 PMUs in each.", min=1)] = None,
    pdc_pmus: Annotated[int, typer.Option(help="PMUs in one record (frame of a PDC).", min=1)] = 40,
    model: Annotated[
        Path | None, typer.Option(help="Cost model of `bench scale --save-model`; without it the package's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what a site needs."""
    import msgspec

    from streamproc.shell.bench.cost import load_model, size, size_text

    cost = load_model(model)
    found = size(cost, pmus, rate, areas, pdc_pmus)
    print(msgspec.json.encode(found).decode() if json else size_text(found, cost), end="\n" if json else "")

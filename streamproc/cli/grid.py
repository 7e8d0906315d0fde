"""`streamproc grid`: the network file, by which alerts are grouped and sensitivities are found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Check a network file, or make one.", no_args_is_help=True)
    group.command("import", help="Make one from pandapower JSON, MATPOWER .m or CIM/CGMES XML.")(import_file)
    group.command("check", help="Check one.")(check)
    app.add_typer(group, name="grid")


def import_file(
    source: Annotated[Path, typer.Argument(help="The network of another program.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("grid.toml"),
) -> None:
    """Write the network file."""
    from streamproc.shell.grid_file import grid_text, parse_grid
    from streamproc.shell.grid_import import import_grid

    grid = import_grid(source)
    text = grid_text(grid, source.name)
    parse_grid(text, str(out))
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {len(grid.bus)} buses, {len(grid.line)} lines; add [[pmu]] and [[point]]")


def check(path: Annotated[Path, typer.Argument(help="Network file.")]) -> None:
    """Say what is in it."""
    from streamproc.shell.grid_file import load_grid

    grid = load_grid(path)
    print(
        f"{path}: {len(grid.bus)} buses, {len(grid.line)} lines, {len(grid.pmu)} PMUs, {len(grid.point)} points"
    )

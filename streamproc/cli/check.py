"""`streamproc check`: would a worker with this site file work here, and if not, what is to be done.

Each line is OK, WARN or FAIL with what was found; below it, after an arrow, what to do. Exit code 0 when no
line is FAIL (warnings alone are 0), 1 when one is, 2 for a wrong call. Nothing is changed, here or on the
broker; every wait is bounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.shell.checks.line import Line


def register(app: typer.Typer) -> None:
    """Add the command."""
    text = (
        "Check a site file, this machine, the broker and the topics; change nothing. "
        "Exit code 0: no FAIL (WARN alone is 0); 1: at least one FAIL."
    )
    app.command("check", help=text)(check)


def check(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")
    ] = None,
    offline: Annotated[bool, typer.Option(help="Check the file only.")] = False,
    settings: Annotated[
        bool, typer.Option(help="Print the table of every setting (Markdown) and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Run the checks and print what each found."""
    if settings:
        from streamproc.shell.settings_doc import markdown

        print(markdown(), end="")
        return
    lines = _lines(config, offline=offline)
    failed = any(line.level == "FAIL" for line in lines)
    if as_json:
        rows = [
            {"check": x.check, "level": x.level, "ok": x.level != "FAIL", "detail": x.detail, "todo": x.todo}
            for x in lines
        ]
        print(json.dumps({"ok": not failed, "checks": rows}))
    else:
        _print(lines)
    if failed:
        raise typer.Exit(1)


def _lines(path: Path | None, *, offline: bool) -> list[Line]:
    import asyncio
    import logging

    from streamproc.shell.checks.site import check_all, read_config

    # What aiokafka tries and fails ends in a line of ours.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    config, first = read_config(path)
    if config is None or offline:
        return [first]
    return [first, *asyncio.run(check_all(config))]


def _print(lines: list[Line]) -> None:
    for line in lines:
        for row in line.detail.splitlines():
            print(f"{line.level:<4}  {line.check:<7} {row}")
        if line.todo and line.level != "OK":
            print(f"{'':<14}-> {line.todo}")

"""`streamproc check`: is this site file right, does the broker answer, are the topics as wanted.

Every line is PASS or FAIL with what was found; any FAIL is exit code 1. Nothing is changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", help="Check a site file, the broker and the topics; change nothing.")(check)


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
    found = _checks(config, offline=offline)
    if as_json:
        rows = [{"check": name, "ok": not failed, "detail": detail} for name, failed, detail in found]
        print(json.dumps({"ok": not any(failed for _, failed, _ in found), "checks": rows}))
    else:
        for name, failed, detail in found:
            for line in detail.splitlines():
                print(f"{'FAIL' if failed else 'PASS'}  {name:<7} {line}")
    if any(failed for _, failed, _ in found):
        raise typer.Exit(1)


def _checks(path: Path | None, *, offline: bool) -> list[tuple[str, bool, str]]:
    """Return (what, failed, what was found), in order; a check that needs a failed one is left out."""
    from streamproc.errors import ConfigError, ShellError
    from streamproc.shell.site_file import client_settings, load_site
    from streamproc.shell.topics import plan_topics

    try:
        config = load_site(path)
        client_settings(config.broker)
    except ConfigError as error:
        return [("config", True, str(error))]
    found = [("config", False, str(path) if path else "no file given: the defaults")]
    if offline:
        return found
    try:
        plan = plan_topics(config)
    except ShellError as error:
        return [*found, ("broker", True, str(error))]
    found.append(("broker", False, f"{config.broker.bootstrap} answers"))
    if plan.is_empty:
        return [*found, ("topics", False, f"{plan.wanted_count} topics are as wanted")]
    return [*found, ("topics", True, "\n".join([*plan.lines(), "see `streamproc topics apply`"]))]

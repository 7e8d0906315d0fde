"""`streamproc run`: the worker of a site, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def run(
        config: Annotated[Path | None, typer.Option("--config", "-c", help="The site file (TOML).")] = None,
        log_format: Annotated[str, typer.Option(help="json or console.")] = "json",
    ) -> None:
        """Run the worker until it is told to stop (SIGTERM, Ctrl-C)."""
        import sys

        import uvloop

        from streamproc.shell.logs import set_up_logs
        from streamproc.shell.process import build_stages, run_worker
        from streamproc.shell.site_file import load_site

        site = load_site(config)
        set_up_logs(form="console" if log_format == "console" else "json")
        stages = build_stages(site)

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        raise typer.Exit(uvloop.run(run_worker(site, stages, say)))

"""`streamproc serve`: the models for other applications, over HTTP and gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def serve(
        config: Annotated[Path | None, typer.Option("--config", "-c", help="The site file (TOML).")] = None,
        live: Annotated[
            bool, typer.Option("--live", help="Read grid.forecasts.v1, for POST /v1/forecast by name.")
        ] = False,
        log_format: Annotated[str, typer.Option(help="json or console.")] = "json",
    ) -> None:
        """Answer the Open Inference Protocol v2 until told to stop (SIGTERM, Ctrl-C)."""
        import sys

        import uvloop

        from streamproc.errors import ConfigError
        from streamproc.shell.logs import set_up_logs
        from streamproc.shell.site_file import load_site

        try:
            from streamproc.shell.serve.service import serve as run_service
        except ModuleNotFoundError as error:
            raise ConfigError(f"{error.name} is missing: pip install 'streamproc[serve]'") from error

        site = load_site(config)
        set_up_logs(form="console" if log_format == "console" else "json")

        def say(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        uvloop.run(run_service(site, say, live=live))

"""`streamproc alerts`: the alerts of a broker, each transition once, for a person or as NDJSON."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig
    from streamproc.reader import Transition


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("alerts", help="Print the alerts of a broker, each transition once.")(alerts)


def alerts(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Broker address instead of that of the site file.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on with what comes, until Ctrl-C.")] = False,
    new: Annotated[bool, typer.Option(help="Leave away what is there already.")] = False,
    group: Annotated[str | None, typer.Option(help="Remember under this name how far was read.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The records as they are, one a line.")] = False,
) -> None:
    """Print transitions, oldest first of each partition."""
    from streamproc.cli.topics import site

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_print(site(config, bootstrap), follow=follow, new=new, group=group, as_json=as_json))


async def _print(config: SiteConfig, *, follow: bool, new: bool, group: str | None, as_json: bool) -> None:
    from streamproc.reader import Reader
    from streamproc.shell.site_file import client_settings
    from streamproc.shell.topics import wire_name
    from streamproc.values import TOPIC_ALERTS

    settings = client_settings(config.broker)
    bootstrap = settings.pop("bootstrap_servers")
    topic = wire_name(config, TOPIC_ALERTS)
    reader = Reader(bootstrap, topic=topic, group=group, from_start=not new, follow=follow, **settings)
    async with reader:
        async for transition in reader:
            line = transition.raw.decode("utf-8", "replace") if as_json else _line(transition)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _line(transition: Transition) -> str:
    value = transition.value
    ts_us = value.get("ts_us")
    at = (
        datetime.fromtimestamp(ts_us / 1e6, UTC).isoformat(timespec="milliseconds")
        if isinstance(ts_us, int)
        else "?"
    )
    words = (str(value.get(name, "")) for name in ("priority", "state", "family", "message"))
    priority, state, family, message = (_plain(word) for word in words)
    return f"{at.replace('+00:00', 'Z')}  P{priority} {state:<6} {family:<8} {message}"


def _plain(text: str) -> str:
    # A station name comes from the wire: no control code of it may reach a terminal.
    return "".join(c if c.isprintable() else "?" for c in text)

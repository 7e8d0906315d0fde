"""`streamproc ack ALERT_ID`: tell the service that an operator has seen an alert.

It sends one record to `grid.operator.v1`; the decide stage answers with the next transition of the alert
(ACKED, or NORM when the alert had already returned to normal).
"""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ack", help="Acknowledge an alert.")(ack)


def ack(
    alert_id: Annotated[str, typer.Argument(help="As in the alert record.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Site file.")] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Kafka address; default: that of the site file.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Who acknowledges; default: the login name.")] = None,
    comment: Annotated[str, typer.Option(help="A word for the record.")] = "",
) -> None:
    """Send the acknowledgement and say so."""
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    site = with_bootstrap(load_site(config), bootstrap)
    who = user or getpass.getuser()
    asyncio.run(send(site, alert_id, who, comment))
    print(f"acknowledged {alert_id} as {who}")


async def send(site: SiteConfig, alert_id: str, user: str, comment: str) -> None:
    """Send one acknowledgement to the topic of operators; raises ShellError."""
    from streamproc.core.messages import Operator, encode
    from streamproc.shell.clock import SYSTEM
    from streamproc.shell.sender import Sender
    from streamproc.values import TOPIC_OPERATOR, Record

    now_us = SYSTEM.wall_ns() // 1000
    message = Operator(action="acknowledge", alert_id=alert_id, user=user, comment=comment, ts_us=now_us)
    record = Record(TOPIC_OPERATOR, 0, 0, now_us // 1000, alert_id.encode(), encode(message))
    async with Sender(site) as sender:
        await sender.send(record)

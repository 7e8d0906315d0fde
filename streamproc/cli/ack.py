"""`streamproc ack ALERT_ID`: tell the service that an operator has seen an alert.

It sends one record to `grid.operator.v1`; the decide stage answers with the next transition of the alert
(ACKED, or NORM when the alert had already returned to normal). The command waits for that answer: an operator
must not believe that an alert is acknowledged when it is not.
"""

from __future__ import annotations

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig
    from streamproc.reader import Reader


WAITING = ("UNACK", "RTNUN")
ANSWER_TIMEOUT_S = 10.0


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
    asyncio.run(acknowledge(site, alert_id, who, comment))
    print(f"acknowledged {alert_id} as {who}")


async def acknowledge(site: SiteConfig, alert_id: str, user: str, comment: str) -> None:
    """Send an acknowledgement and wait for the alert's answer; raises ShellError if it has none to give."""
    from streamproc.errors import ShellError

    before = await last_state(site, alert_id)
    if before is None:
        raise ShellError(
            f"no alert {alert_id!r:.80} in the topic: `streamproc alerts --json` prints their ids"
        )
    if before not in WAITING:
        raise ShellError(
            f"alert {alert_id} is {before}: only an alert that is {' or '.join(WAITING)} waits for this"
        )
    async with _reader(site, from_start=False, follow=True) as reader:
        await send(site, alert_id, user, comment)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                async for transition in reader:
                    if transition.id == alert_id and transition.value.get("ack_by") == user:
                        return
        except TimeoutError:
            told = (
                f"sent, but alert {alert_id} did not answer within {ANSWER_TIMEOUT_S:g} s: does a worker run?"
            )
            raise ShellError(told) from None


async def last_state(site: SiteConfig, alert_id: str) -> str | None:
    """Return the state in the newest record of an alert, None without any."""
    state: str | None = None
    async with _reader(site, from_start=True, follow=False) as reader:
        async for transition in reader:
            if transition.id == alert_id:
                state = str(transition.value.get("state"))
    return state


def _reader(site: SiteConfig, *, from_start: bool, follow: bool) -> Reader:
    from streamproc.reader import Reader
    from streamproc.shell.site_file import client_settings
    from streamproc.shell.topics import wire_name
    from streamproc.values import TOPIC_ALERTS

    settings = client_settings(site.broker)
    bootstrap = settings.pop("bootstrap_servers")
    topic = wire_name(site, TOPIC_ALERTS)
    return Reader(bootstrap, topic=topic, from_start=from_start, follow=follow, **settings)


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

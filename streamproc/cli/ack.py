"""`streamproc ack ALERT_ID`: tell the service that an operator has seen an alert.

It sends one record to `grid.operator.v1`; the decide stage answers with the next transition of the alert
(ACKED, or NORM when the alert had already returned to normal). The command waits for that answer.
"""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.cli.alarms import AlertId, User, say
from streamproc.cli.alarms_rules import Bootstrap, Config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ack", help="Acknowledge an alert.")(ack)


def ack(
    alert_id: AlertId,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user: User = None,
    comment: Annotated[str, typer.Option(help="A word for the record.")] = "",
) -> None:
    """Send the acknowledgement and say so."""
    print(say("acknowledge", alert_id, config, bootstrap, user, comment=comment))

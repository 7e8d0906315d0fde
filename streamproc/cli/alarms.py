"""`streamproc alarms`: the alarm life from the command line: list, shelve, return, reset; and its table.

Every command waits for the alert's own answer and prints it: an operator must not believe that something is shelved
when it is not. Exit code 1: it was not done, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from streamproc.cli import alarms_rules
from streamproc.cli.alarms_rules import Bootstrap, Config

User = Annotated[str | None, typer.Option(help="Who says it; default: the login name.")]
AlertId = Annotated[str, typer.Argument(help="As in the alert's record.")]
Why = Annotated[str, typer.Option("--reason", help="Why; it stands on the record.")]

HELD = ("SHLVD", "DSUPR", "OOSRV")


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The alarm life: list, shelve, return, reset.", no_args_is_help=True)
    group.command("list", help="The alerts that are not normal, with their states.")(list_alerts)
    group.command("table", help="Print the states and transitions as Markdown.")(table)
    group.command("shelve", help="Take an alert off the desk for a time; it comes back by itself.")(shelve)
    group.command("unshelve", help="Bring a shelved alert back.")(unshelve)
    group.command("unack", help="Take a wrong acknowledgement back.")(unack)
    group.command("out-of-service", help="Take an alert out for maintenance.")(out_of_service)
    group.command("return", help="Return an alert to service.")(return_to_service)
    group.command("reset", help="Let a latched alert go.")(reset)
    alarms_rules.register(group)
    app.add_typer(group, name="alarms")


def say(
    action: str,
    alert_id: str,
    config: Path | None,
    bootstrap: str | None,
    user: str | None,
    **more: Any,  # noqa: ANN401 - fields of Operator
) -> str:
    """Send one command and return what became of it in one line; raises ShellError if it was not done."""
    import asyncio
    import getpass
    from uuid import uuid4

    from streamproc.core.messages import Operator
    from streamproc.shell.clock import SYSTEM
    from streamproc.shell.operator import tell
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    site = with_bootstrap(load_site(config), bootstrap)
    now_us = SYSTEM.wall_ns() // 1000
    minutes = more.pop("minutes", None)
    said = Operator(
        action=action,
        alert_id=alert_id,
        user=user or getpass.getuser(),
        ts_us=now_us,
        until_ts_us=0 if minutes is None else now_us + round(minutes * 60e6),
        command_id=uuid4().hex,
        **more,
    )
    answer = asyncio.run(tell(site, said))
    return f"{action} {alert_id} by {said.user}: {answer['state']}"


def table() -> None:
    """Print the table that the code runs on."""
    from streamproc.core.alarm import markdown

    print(markdown(), end="")


def list_alerts(
    config: Config = None,
    bootstrap: Bootstrap = None,
    shelved: Annotated[
        bool, typer.Option("--shelved", help="Only what is shelved, suppressed or out of service.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The records as they are, one a line.")] = False,
) -> None:
    """Print one line per alert: the most urgent first."""
    import asyncio

    import orjson

    from streamproc.shell.operator import alerts
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    newest = asyncio.run(alerts(with_bootstrap(load_site(config), bootstrap))).values()
    wanted = [a for a in newest if (a["state"] in HELD if shelved else a["state"] != "NORM")]
    for alert in sorted(wanted, key=lambda a: (a["priority"], a["ts_us"], a["alert_id"])):
        print(orjson.dumps(alert).decode() if as_json else _line(alert))


def _line(alert: Mapping[str, Any]) -> str:
    from streamproc.core.iso_time import iso_time

    words = [alert["alert_id"], f"P{alert['priority']}", f"{alert['state']:<5}", alert["message"]]
    held = alert.get("held")
    if held:
        until_us = held.get("until_ts_us")
        until = "" if until_us is None else f" until {iso_time(until_us * 1000)}"
        once = ", or until it returns to normal" if held.get("one_shot") else ""
        words.append(f"[{held['by']}{until}{once}: {held['reason']}]")
    if alert.get("suppressed_by"):
        words.append(f"[while {alert['suppressed_by']} is active]")
    if alert.get("latched"):
        words.append("[latched: `streamproc alarms reset`]")
    # A station name comes from the wire: no control code of it may reach a terminal.
    return "".join(c if c.isprintable() else "?" for c in "  ".join(words))


def shelve(
    alert_id: AlertId,
    reason: Why,
    minutes: Annotated[float, typer.Option(help="For so long, at most decide.shelve_max_min.", min=0.1)],
    config: Config = None,
    bootstrap: Bootstrap = None,
    user: User = None,
    one_shot: Annotated[
        bool, typer.Option(help="It is over as soon as the condition returns to normal.")
    ] = False,
) -> None:
    """Shelve an alert."""
    held = {"reason": reason, "minutes": minutes, "one_shot": one_shot}
    print(say("shelve", alert_id, config, bootstrap, user, **held))


def unshelve(
    alert_id: AlertId, config: Config = None, bootstrap: Bootstrap = None, user: User = None
) -> None:
    """Unshelve an alert: acknowledged if it is active, for somebody is looking at it."""
    print(say("unshelve", alert_id, config, bootstrap, user))


def unack(alert_id: AlertId, config: Config = None, bootstrap: Bootstrap = None, user: User = None) -> None:
    """Take an acknowledgement back."""
    print(say("unacknowledge", alert_id, config, bootstrap, user))


def out_of_service(
    alert_id: AlertId, reason: Why, config: Config = None, bootstrap: Bootstrap = None, user: User = None
) -> None:
    """Take an alert out of service until somebody returns it."""
    print(say("out_of_service", alert_id, config, bootstrap, user, reason=reason))


def return_to_service(
    alert_id: AlertId, config: Config = None, bootstrap: Bootstrap = None, user: User = None
) -> None:
    """Return an alert to service."""
    print(say("return_to_service", alert_id, config, bootstrap, user))


def reset(alert_id: AlertId, config: Config = None, bootstrap: Bootstrap = None, user: User = None) -> None:
    """Let a latched alert go."""
    print(say("reset", alert_id, config, bootstrap, user))

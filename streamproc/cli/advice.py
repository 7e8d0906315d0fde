"""`streamproc advice`: recommendations: what is in force, an operator's answer, and what came of those accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")]
Bootstrap = Annotated[str | None, typer.Option(help="Broker address instead of the one in the site file.")]
User = Annotated[str | None, typer.Option(help="Who says it; default: the login name.")]
Identity = Annotated[str, typer.Argument(help="As in the recommendation's record.")]
AsJson = Annotated[bool, typer.Option("--json", help="The records as they are, one a line.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Recommendations, answers and outcomes. Advice only.", no_args_is_help=True)
    group.command("list", help="What is in force.")(list_advice)
    group.command("accept", help="Accept one: its effect is followed from then on.")(accept)
    group.command("reject", help="Reject one, with the reason.")(reject)
    group.command("not-now", help="Put one off.")(not_now)
    group.command("report", help="What was recommended, accepted, promised and realised.")(report)
    app.add_typer(group, name="advice")


def list_advice(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Print one line per recommendation."""
    import asyncio

    import orjson

    from streamproc.cli.topics import site
    from streamproc.shell.advice_told import in_force, records

    for record in in_force(asyncio.run(records(site(config, bootstrap)))):
        said = record.get("answer") or {}
        word = f"  [{said['action']} by {said['by']}: {said['result']}]" if said else ""
        line = f"{record['recommendation_id']}  {record['message']}{word}"
        print(
            orjson.dumps(record).decode() if as_json else "".join(c if c.isprintable() else "?" for c in line)
        )


def accept(identity: Identity, config: Config = None, bootstrap: Bootstrap = None, user: User = None) -> None:
    """Accept a recommendation. Nothing is carried out by it: an operator does what he accepts."""
    _say("accept", identity, config, bootstrap, user, "")


def reject(
    identity: Identity,
    reason: Annotated[str, typer.Option(help="Why; it stands on the record.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
    user: User = None,
) -> None:
    """Reject a recommendation."""
    _say("reject", identity, config, bootstrap, user, reason)


def not_now(
    identity: Identity, config: Config = None, bootstrap: Bootstrap = None, user: User = None
) -> None:
    """Put a recommendation off."""
    _say("not_now", identity, config, bootstrap, user, "")


def _say(
    action: str, identity: str, config: Path | None, bootstrap: str | None, user: str | None, reason: str
) -> None:
    import asyncio
    import getpass

    from streamproc.cli.topics import site
    from streamproc.core.messages import Operator
    from streamproc.shell.advice_told import answer
    from streamproc.shell.clock import SYSTEM

    who = user or getpass.getuser()
    now_us = SYSTEM.wall_ns() // 1000
    said = Operator(action=action, recommendation_id=identity, user=who, ts_us=now_us, reason=reason)
    record = asyncio.run(answer(site(config, bootstrap), said))
    print(f"{action} {identity} by {who}: {record['message']}")


def report(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Print the figures."""
    import asyncio

    import orjson

    from streamproc.cli.topics import site
    from streamproc.shell.advice_told import records
    from streamproc.shell.advice_told import report as figures

    told = figures(asyncio.run(records(site(config, bootstrap))))
    if as_json:
        print(orjson.dumps(told).decode())
        return
    for key, value in told.items():
        print(f"{key.replace('_', ' '):<20} {value if value is not None else '-'}")

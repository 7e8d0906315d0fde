"""`streamproc topics plan|apply`: the topics that the service needs against those that are there.

`plan` changes nothing and leaves with 0 when nothing differs, else 1, as `diff` does. `apply` creates and
alters; what it must not touch (partition counts, replication) it names, and leaves with 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig
    from streamproc.shell.topics import Plan

Config = Annotated[Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")]
Bootstrap = Annotated[str | None, typer.Option(help="Broker address instead of the one in the site file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Plan and apply the topics that the service needs.", no_args_is_help=True)
    group.command("plan", help="Show what differs from the wanted topics; change nothing.")(plan)
    group.command("apply", help="Create missing topics and alter settings that differ.")(apply)
    app.add_typer(group, name="topics")


def plan(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Print the difference."""
    from streamproc.shell.topics import plan_topics

    todo = plan_topics(site(config, bootstrap))
    _tell(todo, as_json=as_json, done=False)
    if not todo.is_empty:
        raise typer.Exit(1)


def apply(config: Config = None, bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Remove the difference."""
    from streamproc.shell.topics import apply_topics

    done = apply_topics(site(config, bootstrap))
    _tell(done, as_json=as_json, done=True)
    if done.conflicts:
        raise typer.Exit(1)


def site(path: Path | None, bootstrap: str | None) -> SiteConfig:
    """Return the site file, with another broker address if one was given."""
    import logging

    import msgspec

    from streamproc.shell.site_file import load_site

    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # what it tries and fails ends in one sentence of ours
    config = load_site(path)
    if bootstrap is None:
        return config
    return msgspec.structs.replace(config, broker=msgspec.structs.replace(config.broker, bootstrap=bootstrap))


def _tell(todo: Plan, *, as_json: bool, done: bool) -> None:
    if as_json:
        print(json.dumps(_object(todo, done=done)))
        return
    for line in todo.lines():
        print(line)
    if todo.is_empty:
        print(f"{todo.wanted_count} topics are as wanted")
    elif done:
        print(f"created {len(todo.missing)}, altered {len(todo.changes)}, conflicts {len(todo.conflicts)}")
    else:
        print(f"to create {len(todo.missing)}, to alter {len(todo.changes)}, conflicts {len(todo.conflicts)}")


def _object(todo: Plan, *, done: bool) -> Mapping[str, object]:
    return {
        "applied": done,
        "wanted": todo.wanted_count,
        "missing": [{**asdict(topic), "settings": dict(topic.settings)} for topic in todo.missing],
        "changes": [asdict(change) for change in todo.changes],
        "conflicts": [asdict(change) for change in todo.conflicts],
    }

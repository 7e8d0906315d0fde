"""`streamproc topics plan|apply|export`: the topics that the service needs against those that are there.

`plan` changes nothing and leaves with 0 when nothing differs, else 1, as `diff` does. `apply` creates and
alters; what it must not touch (partition counts, replication) it names, and leaves with 1. `export` writes what forecasts
are trained on into a file that every other command reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from streamproc.config import SiteConfig
    from streamproc.shell.topics import Plan

Config = Annotated[Path | None, typer.Option("-c", "--config", help="Site file; without it, the defaults.")]
Bootstrap = Annotated[str | None, typer.Option(help="Broker address instead of the one in the site file.")]
FromTime = Annotated[str, typer.Option("--from", help="Beginning, ISO 8601.")]
ToTime = Annotated[str, typer.Option("--to", help="End, not in it, ISO 8601.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Plan and apply the topics that the service needs.", no_args_is_help=True)
    group.command("plan", help="Show what differs from the wanted topics; change nothing.")(plan)
    group.command("apply", help="Create missing topics and alter settings that differ.")(apply)
    group.command("export", help="Write quarter-hour means, or what was known ahead, into a file.")(export)
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


def export(
    out: Annotated[Path, typer.Argument(help="CSV or Parquet file to write.")],
    area: Annotated[str, typer.Option(help="Area whose records are read.")],
    from_time: FromTime,
    to_time: ToTime,
    topic: Annotated[
        str, typer.Option(help="intervals: one column per series. exogenous: one row per value.")
    ] = "intervals",
    only: Annotated[
        list[str] | None, typer.Option(help="This series or name only; may be repeated. Without: all.")
    ] = None,
    zone: Annotated[str, typer.Option(help="Time zone of --from and --to without an offset.")] = "UTC",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Write a part of a topic into a file."""
    import sys

    from streamproc.evaluation.series.zone import zone_of
    from streamproc.shell.export import EXPORTS, Asked

    if topic not in EXPORTS:
        raise typer.BadParameter(f"{topic!r} is none of {', '.join(EXPORTS)}", param_hint="--topic")
    place = zone_of(zone)
    asked = Asked(area, *span_us(from_time, to_time, place), tuple(dict.fromkeys(only or ())))
    count, skipped = EXPORTS[topic](site(config, bootstrap), asked, out)
    more = f"; left out, as they cannot be read: {skipped} records" if skipped else ""
    print(f"{out}: {count} rows{more}", file=sys.stderr)


def span_us(from_time: str, to_time: str, zone: ZoneInfo) -> tuple[int, int]:
    """Return the span in us, UTC; raises DataError."""
    from streamproc.errors import DataError
    from streamproc.evaluation.series.zone import moment_of

    begin, end = moment_of(from_time, zone, "--from"), moment_of(to_time, zone, "--to")
    if end <= begin:
        raise DataError(f"--to {to_time!r}: must be after --from {from_time!r}")
    return begin * 1_000_000, end * 1_000_000


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

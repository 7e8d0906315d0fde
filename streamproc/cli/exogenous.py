"""`streamproc exogenous`: publish what is known ahead, from a file or from the law of public holidays.

    streamproc exogenous weather.csv --area north
    streamproc exogenous --holidays DE-BY --from 2026-01-01 --to 2027-01-01 --zone Europe/Berlin --area north

One record of `grid.exogenous.v1` per name and time at which its values were known, in the order of these times.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.topics import Bootstrap, Config, site

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamproc.config import SiteConfig
    from streamproc.core.ahead.known import Told
    from streamproc.values import Record

FileArg = Annotated[
    Path | None,
    typer.Argument(help="CSV, CSV.GZ or Parquet file: one row per name, valid time and known_at."),
]
Area = Annotated[str, typer.Option(help="Area whose forecasts may use it.")]
ValidColumn = Annotated[str, typer.Option(help="Column of the times for which values hold.")]
KnownAtColumn = Annotated[str, typer.Option(help="Column of the times since which values are known.")]
UnitOf = Annotated[list[str] | None, typer.Option("--unit", help="NAME=UNIT, for readers; may be repeated.")]
FromDay = Annotated[str | None, typer.Option("--from", help="First local day of the holidays.")]
ToDay = Annotated[str | None, typer.Option("--to", help="The local day after the last.")]
KnownAt = Annotated[
    str | None, typer.Option(help="Since when the holidays are known, ISO 8601. Without: now.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("exogenous", help="Publish what is known ahead: weather, prices, holidays.")(exogenous)


def exogenous(
    file: FileArg = None,
    area: Area = "",
    name_column: Annotated[str, typer.Option(help="Column of names, as the models know them.")] = "name",
    valid_column: ValidColumn = "valid",
    known_at_column: KnownAtColumn = "known_at",
    value_column: Annotated[str, typer.Option(help="Column of values.")] = "value",
    zone: Annotated[str, typer.Option(help="Time zone of times without an offset, and of days.")] = "UTC",
    time_format: Annotated[str | None, typer.Option(help="How times are written, as strptime.")] = None,
    unit: UnitOf = None,
    holidays: Annotated[str | None, typer.Option(help="Public holidays of: DE, DE-BY, AU-VIC.")] = None,
    from_day: FromDay = None,
    to_day: ToDay = None,
    known_at: KnownAt = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the records, send nothing.")] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Publish values with the time since which they are known."""
    from streamproc.evaluation.series.known_file import Columns, in_units, read_known
    from streamproc.evaluation.series.zone import zone_of

    if (file is None) == (holidays is None):
        raise typer.BadParameter("give a FILE or --holidays, and not both")
    where = site(config, bootstrap)
    check_area(where, area)
    if file is not None:
        columns = Columns(name_column, valid_column, known_at_column, value_column)
        told: Sequence[Told] = read_known(file, zone_of(zone), columns, time_format).told
    else:
        told = [_holidays(holidays or "", from_day, to_day, zone, known_at)]
    units = dict(_unit(word) for word in unit or ())
    in_units(told, units)
    records = list(records_of(told, area, units))
    if dry_run:
        for record in records:
            print((record.value or b"").decode())
        return
    asyncio.run(_send(where, records))
    _tell(where, records)


def check_area(where: SiteConfig, area: str) -> None:
    """Raise a usage error for an area that the site does not have."""
    names = [table.name for table in where.area]
    if not area:
        raise typer.BadParameter("say whose values these are, such as --area north", param_hint="--area")
    if names and area not in names:
        raise typer.BadParameter(f"{area!r}: the site has {', '.join(names)}", param_hint="--area")


def records_of(told: Sequence[Told], area: str, units: Mapping[str, str]) -> Iterator[Record]:
    """Yield one record per course; raises DataError for one that is too long."""
    import numpy as np

    from streamproc.core.iso_time import iso_time
    from streamproc.core.messages import Exogenous, encode
    from streamproc.core.wire import JSON_SIZE_MAX
    from streamproc.errors import DataError
    from streamproc.values import TOPIC_EXOGENOUS, Record

    for one in told:
        there = np.isfinite(one.value).tolist()
        message = Exogenous(
            area=area,
            name=one.name,
            unit=units.get(one.name, ""),
            known_at_us=one.known_ns // 1000,
            valid_ts_us=tuple((one.t_ns // 1000).tolist()),
            values=tuple(v if known else None for v, known in zip(one.value.tolist(), there, strict=True)),
        )
        value = encode(message)
        if len(value) > JSON_SIZE_MAX:
            raise DataError(
                f"{one.name!r}, known at {iso_time(one.known_ns)}: {one.t_ns.size} values are {len(value)} bytes, a record "
                f"holds {JSON_SIZE_MAX}; send a shorter time"
            )
        yield Record(TOPIC_EXOGENOUS, 0, 0, one.known_ns // 1_000_000, f"{area}/{one.name}".encode(), value)


def _holidays(code: str, first: str | None, last: str | None, zone: str, known_at: str | None) -> Told:
    from streamproc.evaluation.series.holiday_course import holiday_course
    from streamproc.evaluation.series.zone import moment_of, zone_of
    from streamproc.shell.clock import SYSTEM

    if first is None or last is None:
        raise typer.BadParameter("--holidays needs --from DAY and --to DAY")
    place = zone_of(zone)
    known_s = (
        SYSTEM.wall_ns() // 1_000_000_000 if known_at is None else moment_of(known_at, place, "--known-at")
    )
    return holiday_course(code, first, last, place, known_s * 1_000_000_000)


def _unit(word: str) -> tuple[str, str]:
    name, there, unit = word.partition("=")
    if not there or not name:
        raise typer.BadParameter(
            f"{word!r}: NAME=UNIT is expected, such as temperature_degc=degC", param_hint="--unit"
        )
    return name, unit


async def _send(where: SiteConfig, records: Sequence[Record]) -> None:
    from streamproc.shell.sender import Sender

    async with Sender(where) as sender:
        for record in records:
            await sender.send(record)


def _tell(where: SiteConfig, records: Sequence[Record]) -> None:
    from streamproc.shell.clock import SYSTEM
    from streamproc.shell.topics import DAY_MS, TOPICS, wire_name
    from streamproc.values import TOPIC_EXOGENOUS

    topic, keep_ms = wire_name(where, TOPIC_EXOGENOUS), TOPICS[TOPIC_EXOGENOUS][1]
    print(f"{len(records)} records sent to {topic} at {where.broker.bootstrap}", file=sys.stderr)
    old = sum(record.ts_ms < SYSTEM.wall_ns() // 1_000_000 - keep_ms for record in records)
    if old:
        words = f"were known more than {keep_ms // DAY_MS} days ago: the topic does not keep them"
        print(f"note: {old} of them {words}", file=sys.stderr)

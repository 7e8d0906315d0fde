"""`streamproc backfill`: give the 48-hour forecasts the history of their series, so that they mean something at once.

Quarter-hour means of a file go to `grid.intervals.v1`, marked as history: the stage takes them in, forecasts in silence
and learns its bands from them, but publishes nothing about the past. Send them before the first live values of an area.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.evaluate_forecast import Step, TimeFormat, Unit, Zone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamproc.config import SiteConfig
    from streamproc.values import Record


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backfill", help="Send the history of series to the 48-hour forecasts.")(backfill)


def backfill(
    file: Annotated[Path, typer.Argument(help="CSV, CSV.GZ or Parquet file with one row per interval.")],
    area: Annotated[str, typer.Option(help="Key of the records: the area of the series.")],
    time: Annotated[str, typer.Option(help="Column of times: the beginning of each interval.")],
    target: Annotated[list[str], typer.Option(help="Column to send; may be repeated.")],
    series_id: Annotated[
        list[str] | None,
        typer.Option("--id", help="Name in the stream, one per --target; the column's without."),
    ] = None,
    days: Annotated[int, typer.Option(help="The newest days of the file.", min=1, max=800)] = 30,
    to: Annotated[str, typer.Option(help='"kafka" (the address of the site file) or HOST:PORT.')] = "kafka",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Site file.")] = None,
    unit: Unit = "",
    zone: Zone = "UTC",
    step: Step = None,
    time_format: TimeFormat = None,
) -> None:
    """Send the history of some series."""
    from streamproc.errors import DataError
    from streamproc.evaluation.series.backfill import history_records
    from streamproc.evaluation.series.read import Wanted
    from streamproc.evaluation.series.train_input import Source, read_source
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    ids = series_id or target
    if len(ids) != len(target):
        raise DataError(
            f"--id: {len(ids)} names for {len(target)} targets; give one for each, in their order"
        )
    site = with_bootstrap(load_site(config), to)
    parts = [
        read_source(Source(file, Wanted(time, one, (), None, time_format), zone, None, step))
        for one in target
    ]
    units = {point.id: str(point.unit) for point in site.point}
    records = history_records(parts, area, ids, [units.get(name, unit) for name in ids], days)
    count = asyncio.run(_send(site, records))
    typer.echo(f"sent {count} quarter hours of {len(ids)} series of area {area} to {site.broker.bootstrap}")


async def _send(site: SiteConfig, records: Sequence[Record]) -> int:
    from streamproc.shell.sender import Sender

    async with Sender(site) as sender:
        for record in records:
            await sender.send(record)
    return len(records)

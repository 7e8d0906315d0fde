"""`streamproc replay RECORDING --to kafka`: play a recording into a broker, as the gateways would send it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.score import only_area, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamproc.config import SiteConfig
    from streamproc.values import Record


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay", help="Send a recording to Kafka.")(replay)


def replay(
    recording: Annotated[
        Path, typer.Argument(help=".pcap, .PmuCapture, .c37, CSV(.gz), Parquet or .ndjson.")
    ],
    to: Annotated[str, typer.Option(help='"kafka" (the address of the site file) or HOST:PORT.')] = "kafka",
    speed: Annotated[str, typer.Option(help='"max", or a multiple of real time such as 1x or 10x.')] = "1x",
    loop: Annotated[bool, typer.Option("--loop", help="Again and again, until Ctrl-C.")] = False,
    restamp: Annotated[
        str | None, typer.Option(help='"now": moved in time by whole seconds, to begin now.')
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Site file.")] = None,
    area: Annotated[
        str | None, typer.Option(help="Key of the records; the only [[area]], or 'recording'.")
    ] = None,
    rate_hz: Annotated[float | None, typer.Option(help="Rows per second, if the file cannot tell.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
) -> None:
    """Play a recording."""
    from streamproc.shell.recording import read_recording
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    site = with_bootstrap(load_site(config), to)
    factor = parse_speed(speed)
    if restamp not in {None, "now"}:
        raise typer.BadParameter(f"{restamp!r}: only 'now'", param_hint="--restamp")
    names = [table.name for table in site.area]
    if names and area not in names and not (area is None and len(names) == 1):
        raise typer.BadParameter(f"the site has the areas {', '.join(names)}: say which", param_hint="--area")
    told: set[str] = set()

    def note(line: str) -> None:
        if not quiet and line not in told:
            told.add(line)
            print(f"{recording.name}: {line}", file=sys.stderr)

    def read() -> Iterator[Record]:
        key = area or only_area(site)
        points = {point.id for point in site.point}
        return read_recording(
            recording, area=key, rate_hz=rate_hz, points=points, nominal_hz=site.site.nominal_hz, note=note
        )

    count = asyncio.run(_play(site, read, factor, loop=loop, now=restamp == "now", quiet=quiet))
    note(f"{count} records sent to {site.broker.bootstrap}")


async def _play(
    site: SiteConfig,
    read: Callable[[], Iterator[Record]],
    factor: float | None,
    *,
    loop: bool,
    now: bool,
    quiet: bool,
) -> int:
    from streamproc.core.iso_time import iso_time
    from streamproc.shell.replay import replay as play
    from streamproc.shell.sender import Sender

    sent = 0
    with progress(quiet) as bar:
        task = bar.add_task("records", total=None, at="") if bar is not None else None

        def on_sent(record: Record) -> None:
            nonlocal sent
            sent += 1
            if bar is not None and sent % 64 == 0:
                bar.update(task, completed=sent, at=iso_time(record.ts_ms * 1_000_000))

        async with Sender(site) as sender:
            return await play(read, sender, speed=factor, loop=loop, now=now, on_sent=on_sent)


def parse_speed(word: str) -> float | None:
    """Return the multiple of real time, None for "max"; raises typer.BadParameter."""
    if word == "max":
        return None
    try:
        factor = float(word.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise typer.BadParameter(f'{word!r}: "max", or a number such as 1x', param_hint="--speed")
    return factor

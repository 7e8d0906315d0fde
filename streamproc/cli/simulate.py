"""`streamproc simulate`: a seeded PMU fleet or SCADA points, into a file or to Kafka.

    streamproc simulate pmu --seconds 120 --event generator_trip@30 --out fleet.c37
    streamproc simulate pmu --to 127.0.0.1:9092 --area north
    streamproc simulate scada --hours 4 --out points.ndjson

A file begins at `--start` (a fixed time by default: the same options give the same bytes); what goes to Kafka
begins now and goes on in real time. The truth about the events is printed as NDJSON, to standard error when
the data go to standard output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamproc.config import SiteConfig
    from streamproc.simulate.events import GridEvent
    from streamproc.simulate.fleet import Fleet
    from streamproc.values import Record

START_S = 1_700_000_000  # 2023-11-14T22:13:20Z
SCADA_STEP_S = 60

Out = Annotated[Path | None, typer.Option(help="File to write; - is standard output.")]
To = Annotated[str | None, typer.Option(help='"kafka" (the address of the site file) or HOST:PORT.')]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="Site file.")]
Seed = Annotated[int, typer.Option(help="Another seed, another day.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make a seeded PMU fleet or SCADA points.", no_args_is_help=True)
    group.command("pmu", help="A fleet of PMUs as C37.118 frames.")(pmu)
    group.command("scada", help="60 SCADA points, one of them on its way over its limit.")(scada)
    app.add_typer(group, name="simulate")


def pmu(
    out: Out = None,
    to: To = None,
    seconds: Annotated[int, typer.Option(help="How long.", min=1)] = 60,
    pmus: Annotated[int, typer.Option(help="How many.", min=1, max=900)] = 40,
    rate_hz: Annotated[int, typer.Option(help="Frames per second.", min=1, max=120)] = 30,
    nominal_hz: Annotated[int, typer.Option(help="50 or 60.")] = 60,
    event: Annotated[
        list[str] | None, typer.Option(help="KIND@SECONDS, for example generator_trip@30; may be repeated.")
    ] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="One stream per PMU instead of a PDC.")
    ] = False,
    integer_format: Annotated[
        bool, typer.Option("--integer", help="16-bit numbers instead of float.")
    ] = False,
    area: Annotated[str, typer.Option(help="Key of the records in Kafka.")] = "fleet",
    start_s: Annotated[int, typer.Option(help="UTC second of the first frame, for a file.")] = START_S,
    seed: Seed = 1,
    config: Config = None,
) -> None:
    """Make a fleet."""
    from streamproc.shell.clock import SYSTEM
    from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records

    _one_of(out, to)
    if nominal_hz not in {50, 60}:
        raise typer.BadParameter("50 or 60", param_hint="--nominal-hz")
    begin_s = start_s if out is not None else SYSTEM.wall_ns() // 1_000_000_000 + 1
    fleet = Fleet(
        FleetSettings(
            n_pmu=pmus,
            rate_hz=rate_hz,
            nominal_hz=float(nominal_hz),
            seed=seed,
            start_ns=begin_s * 1_000_000_000,
            integer_format=integer_format,
            separate=separate,
            events=tuple(parse_event(word) for word in event or ()),
        )
    )
    _tell_truth(fleet, to_stderr=str(out) == "-")
    if out is not None:
        _write(out, _pieces(fleet, seconds))
    else:
        records = fleet_records(fleet, area, seconds)
        asyncio.run(_send(_site(config, to), records))


def scada(
    out: Out = None,
    to: To = None,
    hours: Annotated[float, typer.Option(help="How long, one batch per minute.", min=0.1)] = 4.0,
    area: Annotated[str, typer.Option(help="Area of the points.")] = "fleet",
    start_s: Annotated[int, typer.Option(help="UTC second of the first batch, for a file.")] = START_S,
    seed: Seed = 1,
    config: Config = None,
) -> None:
    """Make points; the feeder that rises stands at 93 % of its limit at the end."""
    from streamproc.core.messages import encode
    from streamproc.shell.clock import SYSTEM
    from streamproc.simulate.scada import ScadaPoints
    from streamproc.values import TOPIC_SCADA, Record

    _one_of(out, to)
    count = round(hours * 3600 / SCADA_STEP_S)
    begin_s = start_s if out is not None else SYSTEM.wall_ns() // 1_000_000_000 - count * SCADA_STEP_S
    points = ScadaPoints(area, seed, pivot_ns=(begin_s + count * SCADA_STEP_S) * 1_000_000_000)
    times_ns = [(begin_s + n * SCADA_STEP_S) * 1_000_000_000 for n in range(count)]
    values = ((t_ns, encode(points.batch(t_ns))) for t_ns in times_ns)
    if out is not None:
        _write(out, (value + b"\n" for _, value in values))
        return
    records = (Record(TOPIC_SCADA, 0, 0, t // 1_000_000, area.encode(), value) for t, value in values)
    asyncio.run(_send(_site(config, to), records, speed=None))


def parse_event(word: str) -> GridEvent:
    """Return the event of "KIND@SECONDS"; raises typer.BadParameter."""
    from typing import get_args

    from streamproc.simulate.events import EventKind, GridEvent

    kind, _, at = word.partition("@")
    try:
        start_s = float(at)
    except ValueError:
        start_s = -1.0
    if kind not in get_args(EventKind) or start_s < 0:
        kinds = ", ".join(get_args(EventKind))
        raise typer.BadParameter(f"{word!r}: KIND@SECONDS, KIND one of {kinds}", param_hint="--event")
    return GridEvent(kind, start_s)  # type: ignore[arg-type]


def _pieces(fleet: Fleet, seconds: int) -> Iterator[bytes]:
    yield b"".join(fleet.configs)
    for _, frames in fleet.instants(seconds):
        yield b"".join(frames)


def _one_of(out: Path | None, to: str | None) -> None:
    if (out is None) == (to is None):
        raise typer.BadParameter("one of --out FILE and --to kafka is needed")


def _site(config: Path | None, to: str | None) -> SiteConfig:
    from streamproc.shell.sender import with_bootstrap
    from streamproc.shell.site_file import load_site

    return with_bootstrap(load_site(config), to)


def _write(out: Path, pieces: Iterator[bytes]) -> None:
    from streamproc.errors import RecordingError

    if str(out) == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    try:
        with out.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise RecordingError(f"{out}: cannot be written: {error.strerror}") from error


async def _send(site: SiteConfig, records: Iterator[Record], speed: float | None = 1.0) -> None:
    from streamproc.shell.replay import paced
    from streamproc.shell.sender import Sender

    async with Sender(site) as sender:
        async for record in paced(records, speed=speed):
            await sender.send(record)
    print(f"{sender.sent_count} records sent to {site.broker.bootstrap}", file=sys.stderr)


def _tell_truth(fleet: Fleet, *, to_stderr: bool) -> None:
    import orjson

    for truth in fleet.truths():
        line = orjson.dumps(
            {
                "kind": truth.kind,
                "family": truth.family,
                "start_ts_us": truth.start_ns // 1000,
                "until_ts_us": None if truth.until_ns is None else truth.until_ns // 1000,
                "source": truth.source,
            }
        )
        print(line.decode(), file=sys.stderr if to_stderr else sys.stdout)

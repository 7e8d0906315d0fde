"""`streamproc bench`: measure this machine.

`decode`: bytes to arrays. `seam`: the worker against the bare Kafka client.
"""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Measure the decoder and the batch seam on this machine.", no_args_is_help=True)
    group.command("decode", help="Bytes to arrays, beside a plain np.frombuffer.")(decode)
    group.command("seam", help="The worker's way in, beside aiokafka getmany + np.frombuffer.")(seam)
    app.add_typer(group, name="bench")


def decode(
    json: Json = False,
    seconds: Annotated[float, typer.Option(help="For all cases together.", min=0.5)] = 6.0,
) -> None:
    """Measure the decoder."""
    from streamproc.shell.bench_decode import main

    raise typer.Exit(main(json=json, seconds=seconds))


def seam(
    json: Json = False,
    bootstrap: Annotated[
        str | None, typer.Option(help="Kafka to use; without it one is started for the time of the run.")
    ] = None,
    records: Annotated[int, typer.Option(help="Records of one round.", min=1000)] = 400_000,
) -> None:
    """Measure the batch seam."""
    from streamproc.shell.bench_seam import main

    raise typer.Exit(main(json=json, bootstrap=bootstrap, records=records))

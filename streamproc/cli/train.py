"""`streamproc train`: models of a site from its own recordings.

`train anomaly RECORDING --out DIR` sends the recording through the real score stage with a stand-in for the
model (`training.anomaly.Tap`), fits every detector on what came out, and writes a bundle. Give it event-free
data: ten minutes are good, one minute is the least. `train generic` writes the bundle that the package ships.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamproc.cli.train_events import events
from streamproc.cli.train_forecast import forecast


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Fit the models of a site.", no_args_is_help=True)
    group.command("anomaly", help="Fit the detectors on event-free data and write a bundle.")(anomaly)
    group.command("forecast", help="Fit the 48-hour model of some series and write a bundle.")(forecast)
    group.command("events", help="Fit what says of a disturbance what it is, on event corpora.")(events)
    group.command(
        "beta", help="Learn what a loss of power does to an area's frequency, from events of known size."
    )(beta)
    group.command("generic", help="Write the generic bundle (no data needed).")(generic)
    app.add_typer(group, name="train")


def beta(
    corpora: Annotated[list[Path], typer.Argument(help="Event corpora (.npz) with `mw`, or directories.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn the stiffness of an area."""
    import orjson

    from streamproc.evaluation.beta import fit_beta
    from streamproc.evaluation.corpus import find_corpora, read_corpus

    found = fit_beta(read_corpus(path) for path in find_corpora(corpora)[0])
    if json:
        typer.echo(orjson.dumps(found).decode())
        return
    typer.echo(
        f"beta_mw_per_hz = {found.value:.0f}  # put it under [[area]]: median of {found.events} events, "
        f"nine of ten between {found.low:.0f} and {found.high:.0f}"
    )


def anomaly(
    recording: Annotated[Path, typer.Argument(help=".pcap, .PmuCapture, .c37, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="Directory for the bundle; made if missing.")],
    config: Annotated[Path | None, typer.Option(help="Site file, for areas and nominal voltages.")] = None,
    area: Annotated[str | None, typer.Option(help="Area of a recording that does not name one.")] = None,
    rate_hz: Annotated[float | None, typer.Option(help="Frames per second, if it cannot be told.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Use only the first N seconds.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit a bundle on a recording."""
    import orjson

    from streamproc.config import SiteConfig
    from streamproc.shell.models import ModelSet, SessionScorer
    from streamproc.shell.recording import read_recording
    from streamproc.shell.site_file import load_site
    from streamproc.training.anomaly import fit_bundle, tap

    site = load_site(config) if config is not None else SiteConfig()
    recorded = tap(
        site, read_recording(recording, area=area, rate_hz=rate_hz, nominal_hz=site.site.nominal_hz), seconds
    )
    files = fit_bundle(recorded, SessionScorer, f"streamproc train anomaly {recording.name}")
    write_files(files, out)
    models = ModelSet.load(out)  # what cannot be loaded again must not be called a success
    summary = []
    for part in recorded:
        model = models.for_area(part.area, part.stations, part.rate_hz, part.nominal_hz)
        limits = {rule.name: round(rule.limit, 6) for rule in model.rules}
        known = {"area": part.area, "rate_hz": part.rate_hz, "pmus": len(part.stations), "limits": limits}
        summary.append(
            known | {"seconds": round(part.fast.shape[0] / part.rate_hz, 1), "digest": model.digest}
        )
    if json:
        typer.echo(orjson.dumps({"bundle": str(out), "models": summary}).decode())
        return
    for line in summary:
        where = f"area {line['area']}: {line['pmus']} PMUs at {line['rate_hz']:g} frames/s"
        typer.echo(f"{where}, {line['seconds']} s of data")
    typer.echo(f"wrote {out}; use it with --bundle {out} or [worker] bundle = {str(out)!r}")


def generic(out: Annotated[Path, typer.Option(help="Directory for the bundle; made if missing.")]) -> None:
    """Write the generic bundle."""
    from streamproc.training.bundle import generic_bundle

    write_files(generic_bundle(), out)
    typer.echo(f"wrote {out}")


def write_files(files: dict[str, bytes], out: Path) -> None:
    """Write a bundle; the manifest last, so that a half-written bundle is not one. Raises ModelError."""
    from streamproc.errors import ModelError

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "manifest.toml"):
            (out / name).write_bytes(files[name])
    except OSError as error:
        raise ModelError(f"train: cannot write {out}: {error.strerror}") from error

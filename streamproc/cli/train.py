"""`streamproc train`: models of a site from its own recordings.

`train anomaly RECORDING --out DIR` sends the recording through the real score stage with a stand-in for the
model (`training.anomaly.Tap`), fits every detector on what came out, and writes a bundle. Give it event-free
data: ten minutes are good, one minute is the least. `train generic` writes the bundle that the package ships.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamproc.config import SiteConfig
    from streamproc.training.anomaly import Recorded
    from streamproc.values import Record

BATCH = 512  # records per step: large enough to be fast, small enough for a progress bar


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Fit the models of a site.", no_args_is_help=True)
    group.command("anomaly", help="Fit the detectors on event-free data and write a bundle.")(anomaly)
    group.command("generic", help="Write the generic bundle (no data needed).")(generic)
    app.add_typer(group, name="train")


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
    from streamproc.training.anomaly import fit_bundle

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


def tap(site: SiteConfig, records: Iterable[Record], seconds: float | None) -> list[Recorded]:
    """Return the features of a recording as the score stage makes them; `seconds` cuts it after that time."""
    from streamproc.stages.score import ScoreStage
    from streamproc.training.anomaly import Tap
    from streamproc.values import TOPIC_CONFIG

    memory = Tap()
    stage = ScoreStage(site, memory)
    state = stage.fresh()
    batch: list[Record] = []
    first_ms: int | None = None
    for record in records:
        if record.topic == TOPIC_CONFIG:
            state = stage.learn(state, [record])
            continue
        first_ms = record.ts_ms if first_ms is None else first_ms
        if seconds is not None and record.ts_ms - first_ms >= seconds * 1000:
            break
        batch.append(record)
        if len(batch) == BATCH:
            state, batch = stage.step(state, batch).state, []
    state = stage.step(state, batch).state
    # The level that was 1 pu here is 1 pu for ever: a worker that starts during a sag must not take the sag
    # as base.
    bases = {
        (key[0], tuple(column.label for column in track.columns), key[1]): track.features.base_v
        for key, track in state.tracks.items()
    }
    return [
        replace(part, base_v=bases.get((part.area, part.stations, part.rate_hz), part.base_v))
        for part in memory.recorded()
    ]


def write_files(files: dict[str, bytes], out: Path) -> None:
    """Write a bundle; the manifest last, so that a half-written bundle is not one. Raises ModelError."""
    from streamproc.errors import ModelError

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "manifest.toml"):
            (out / name).write_bytes(files[name])
    except OSError as error:
        raise ModelError(f"train: cannot write {out}: {error.strerror}") from error

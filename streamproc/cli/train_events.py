"""`streamproc train events CORPUS... --out DIR`: from simulated disturbances to the bundle that says what one is.

The corpora are read like those of `evaluate events`. Each network is left out once, and the figures that are printed are
those of networks that were not seen; then everything is fitted on all of them. `--ambient` is the frequency under the
events; only its first half is used, so that `evaluate events` has a second half that was never seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamproc.training.event_rows import Asked
    from streamproc.training.event_samples import Labelled
    from streamproc.values import F64


def events(
    corpora: Annotated[
        list[Path] | None,
        typer.Argument(help="Event corpora (.npz), or directories of them; none: made grids only."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Directory for the bundle; made if missing.")],
    ambient: Annotated[
        Path | None, typer.Option(help="Recording of event-free frequency; without it one is made.")
    ] = None,
    grids: Annotated[int, typer.Option(min=0, help="Grids that are made, each with up to 16 events.")] = 400,
    samples: Annotated[int, typer.Option(min=1, help="Variants of each event.")] = 12,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit the bundle that says what a disturbance is."""
    import orjson

    from streamproc.cli.train import write_files
    from streamproc.evaluation.corpus import find_corpora
    from streamproc.shell.event_model import load_describer
    from streamproc.shell.models import open_session
    from streamproc.training.event_bundle import write_bundle
    from streamproc.training.event_report import report_of, text_of
    from streamproc.training.events import SEEDS, calibrated, fit_nets, leave_out

    def told(line: str) -> None:
        if not json:
            typer.echo(line)

    files = find_corpora(corpora)[0] if corpora else []
    rows, under_name = _rows(files, ambient, grids, samples, seed, told)
    held = leave_out(rows, told)
    told("all of them")
    fitted = calibrated(fit_nets(rows, SEEDS, told), held)
    names = " ".join(sorted(path.name for path in files))
    command = f"streamproc train events --grids {grids} --samples {samples} --seed {seed}"
    write_files(
        write_bundle("events", fitted, {"command": command, "corpora": names, "ambient": under_name}), out
    )
    load_describer(open_session, out)  # what cannot be loaded again must not be called a success
    report = report_of(held, fitted)
    if json:
        typer.echo(orjson.dumps({"bundle": str(out), "left_out": report}).decode())
        return
    typer.echo(text_of(report))
    typer.echo(f"wrote {out}")


def _rows(
    corpora: list[Path],
    ambient: Path | None,
    grids: int,
    samples: int,
    seed: int,
    told: Callable[[str], None],
) -> tuple[list[Asked], str]:
    """Return everything that is learnt from, and the name of the ambient frequency under it."""
    from streamproc.training.event_rows import asked
    from streamproc.training.event_samples import quiet_samples, samples_of
    from streamproc.training.made_events import made_events

    under, under_rate_hz, under_name = _ambient(ambient, seed)
    rows = asked(quiet_samples(under, under_rate_hz, 25 * samples, seed), plain_first=False)
    for number, event in enumerate(made_events(grids, seed)):
        if number % 1000 == 0:
            told(f"{number} events of made grids")
        rows += asked(samples_of(event, under, under_rate_hz, 1, seed, plain_first=False), plain_first=False)
    for path in corpora:
        found = labelled(path)
        told(f"{path.name}: {len(found)} events that can be seen")
        for event in found:
            rows += asked(samples_of(event, under, under_rate_hz, samples, seed))
    return rows, under_name


def labelled(path: Path) -> list[Labelled]:
    """Return the events of a corpus that can be seen; raises RecordingError with file, event and field."""
    import numpy as np
    from msgspec import convert

    from streamproc.core.disturbance import Kind
    from streamproc.evaluation.corpus import read_corpus
    from streamproc.evaluation.truth import truths_of
    from streamproc.training.event_samples import Labelled

    corpus = read_corpus(path)
    finer, near = _more(path, list(corpus.stations))
    return [
        Labelled(
            corpus=corpus.name,
            number=number,
            network=corpus.case.split("_")[0],
            device=event.device,
            x=corpus.x[number].astype(np.float64),
            rate_hz=corpus.rate_hz,
            nominal_hz=corpus.nominal_hz,
            onset=corpus.onset_row(number),
            kind=convert(truth.kind, Kind),
            finer=finer[number],
            near=near[number],
            mw=event.mw,
        )
        for number, (event, truth) in enumerate(zip(corpus.events, truths_of(corpus), strict=True))
        if event.visible
    ]


def _more(path: Path, stations: list[str]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return what else the JSON tells of each event: the finer kind, and the PMUs, the nearest first (names or places)."""
    import json

    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        told = json.loads(str(arrays["meta"].reshape(-1)[0]))["events"]
    near = [event.get("near", []) for event in told]
    return [str(event.get("finer", "")) for event in told], [
        tuple(pmu if isinstance(pmu, int) else stations.index(pmu) for pmu in order) for order in near
    ]


def _ambient(path: Path | None, seed: int) -> tuple[list[F64], float, str]:
    """Return stretches of frequency deviation from the first half of a recording, their rate, and their name."""
    from streamproc.evaluation.ambient import made_ambient
    from streamproc.shell.evaluated import read_ambient

    if path is None:
        made = made_ambient(30.0, seed)
        return [made.calibrate_hz], made.rate_hz, made.name
    read = read_ambient(path)
    return [read.calibrate_hz], read.rate_hz, path.name

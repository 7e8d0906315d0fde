"""Files of measurements into what the 48-hour training takes: the readers and cleaners of the backtests, then a fleet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamproc.core.ahead.days import N_LEAD, STEP_S
from streamproc.core.series.history import History
from streamproc.errors import DataError
from streamproc.evaluation.series.durations import seconds_of
from streamproc.evaluation.series.grid import Series, series_of
from streamproc.evaluation.series.known_ahead import on_grid_of
from streamproc.evaluation.series.known_file import Sheet
from streamproc.evaluation.series.read import Wanted, read_rows
from streamproc.evaluation.series.zone import moment_of, zone_of
from streamproc.training.ahead.bundle import files_of
from streamproc.training.ahead.card import card_of
from streamproc.training.ahead.fleets import fleet_of
from streamproc.training.ahead.samples import Fleet
from streamproc.training.ahead.train import figures, train


@dataclass(frozen=True, slots=True)
class Source:
    """One column of a file."""

    path: Path
    wanted: Wanted
    zone: str
    holidays: str | None
    step: str | None


def read_source(source: Source) -> Series:
    """Return the series of a column; raises DataError."""
    step_s = seconds_of(source.step, "--step") if source.step else None
    rows = read_rows(source.path, source.wanted)
    return series_of(rows, source.wanted, zone_of(source.zone), source.holidays, step_s)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a bundle is to be called and made of."""

    ids: Sequence[str]
    until: str | None
    seed: int
    name: str
    unit: str
    command: str
    file: str
    trees: bool = False
    sheet: Sheet | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """The fleet of a file, what its bundle says about itself, and what was wrong with the data."""

    fleet: Fleet
    about: dict[str, Any]
    notes: list[str]


def input_of(parts: Sequence[Series], ask: Ask) -> Input:
    """Return what a bundle is made from; raises DataError."""
    first = parts[0]
    if any(part.t_s.size != first.t_s.size or part.t_s[0] != first.t_s[0] for part in parts):
        raise DataError(f"{ask.file}: the targets do not cover the same times; train one bundle for each")
    if len(set(ask.ids)) != len(ask.ids):
        raise DataError(f"--id: {', '.join(ask.ids)}: each series needs a name of its own")
    end = first.t_s.size
    if ask.until is not None:
        end = int(np.searchsorted(first.t_s, moment_of(ask.until, first.zone, "--train-until")))
    histories = [history_of(part, ident) for part, ident in zip(parts, ask.ids, strict=True)]
    fleet = fleet_of(histories, [part.cleaned.good for part in parts], end, int(first.t_s[0]))
    known, read = "", [part.digest for part in parts]
    if ask.sheet is not None:
        fleet = _with_known(fleet, first, ask.sheet)
        known = f"; {ask.sheet.path.name}: {', '.join(ask.sheet.names)}, as known at each issue"
        read.append(ask.sheet.digest)
    about = {
        "name": ask.name,
        "version": 1,
        "command": ask.command,
        "data": f"{ask.file}: {', '.join(part.name for part in parts)}{known}",
        "data_digest": hashlib.sha256("|".join(read).encode()).hexdigest(),
        "seed": ask.seed,
        "unit": ask.unit,
        "zone": first.zone.key,
        "trained_from": first.when(0),
        "trained_until": first.when(max(end - 1, 0)),
    }
    return Input(
        fleet, about, list(dict.fromkeys(finding.words for part in parts for finding in part.findings))
    )


def bundle_files(
    parts: Sequence[Series], ask: Ask, step: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, bytes], dict[str, Any], list[str]]:
    """Return the files of the bundle, its figures by horizon, and what was wrong with the data; raises DataError."""
    given = input_of(parts, ask)
    trained, made = train(given.fleet, ask.seed, step=step, trees=ask.trees)
    metrics: dict[str, Any] = dict(figures(trained, made))
    card = card_of(trained, given.about, metrics, given.notes)
    return files_of(trained, given.about, metrics, card), metrics, given.notes


def _with_known(fleet: Fleet, first: Series, sheet: Sheet) -> Fleet:
    """Return the fleet that also has what was known ahead, on its quarter hours."""
    n = fleet.value.shape[1] + N_LEAD
    vintages = on_grid_of(first, sheet, STEP_S, fleet.start * STEP_S, n)
    return replace(fleet, known_names=fleet.known_names + vintages.names, vintages=vintages)


def history_of(part: Series, name: str) -> History:
    """Return a series as models see it."""
    return History(
        name,
        part.step_s,
        part.cleaned.good,
        part.slot,
        part.day,
        part.holiday,
        part.known,
        part.known_names,
    )

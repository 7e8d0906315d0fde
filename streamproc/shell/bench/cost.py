"""What a site costs, fitted to `bench scale`: cores and memory as sums of what is counted.

    cores    = base + instant_s * areas * rate + record_s * records/s + frame_s * PMUs * rate
    memory   = base + mb_per_frame_rate * PMUs * rate           (the windows hold seconds of frames)

Coefficients are not negative (`scipy.optimize.nnls`), residuals are relative: a site of ten PMUs counts as much as
one of three thousand. The error is that of leaving one measurement out and predicting it from the others, so it is
honest about sizes between those that were measured; beyond the largest it is an extrapolation and says so.

A worker computes on one core, and an area is not split: those two bound what more workers can do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from scipy.optimize import nnls

from streamproc.errors import ShellError
from streamproc.shell.bench.load import PMUS_PER_AREA, PMUS_PER_PDC, Load
from streamproc.values import F64

FORMAT = "streamproc-cost/1"
FILL_RATIO = 0.6  # of a core that a worker is planned with: the rest is for bursts and for catching up
PARTITIONS_PER_WORKER = 2  # so that a worker can be added later without moving every key
CORE_TERMS = ("base", "instant_s", "record_s", "frame_s")
MEMORY_TERMS = ("base_mb", "mb_per_frame_rate")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: a site, the cores that its load needs, its memory."""

    pmus: int
    rate_hz: int
    areas: int
    records_per_s: float
    cores: float
    memory_mb: float


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted model with its error and where it was measured."""

    format: str = FORMAT
    date: str
    machine: Mapping[str, str | float | int | None]
    cores: Mapping[str, float]
    memory: Mapping[str, float]
    error_ratio: float  # root mean square of the relative leave-one-out errors of the cores
    error_ratio_max: float
    memory_error_ratio: float
    points: tuple[Point, ...]

    def cores_of(self, load: Load) -> float:
        """Return the cores that a load needs."""
        return float(_core_row(load.areas, load.rate_hz, load.records_per_s, load.pmus) @ _of(self.cores))

    def memory_mb_of(self, load: Load) -> float:
        """Return the memory of one worker that holds the whole load, MB."""
        return float(np.array([1.0, load.pmus * load.rate_hz]) @ _of(self.memory))


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a site needs."""

    pmus: int
    rate_hz: int
    areas: int
    cores: float
    cores_low: float
    cores_high: float
    error_ratio: float
    workers: int
    partitions: int
    memory_mb_per_worker: float
    warnings: tuple[str, ...]


def _of(terms: Mapping[str, float]) -> F64:
    return np.array(list(terms.values()))


def _core_row(areas: int, rate_hz: float, records_per_s: float, pmus: int) -> F64:
    return np.array([1.0, areas * rate_hz, records_per_s, pmus * rate_hz])


def fit(points: Sequence[Point], date: str, machine: Mapping[str, str | float | int | None]) -> CostModel:
    """Return the model of these measurements; raise ShellError if there are too few to tell anything."""
    if len(points) < 2:
        raise ShellError(f"{len(points)} measurements: a cost model needs at least two")
    table = np.array([_core_row(p.areas, p.rate_hz, p.records_per_s, p.pmus) for p in points])
    cores = np.array([p.cores for p in points])
    space = np.array([[1.0, p.pmus * p.rate_hz] for p in points])
    memory = np.array([p.memory_mb for p in points])
    errors, memory_errors = _left_out(table, cores), _left_out(space, memory)
    return CostModel(
        date=date,
        machine=machine,
        cores=dict(zip(CORE_TERMS, _solve(table, cores).tolist(), strict=True)),
        memory=dict(zip(MEMORY_TERMS, _solve(space, memory).tolist(), strict=True)),
        error_ratio=float(np.sqrt(np.mean(errors**2))),
        error_ratio_max=float(np.abs(errors).max()),
        memory_error_ratio=float(np.sqrt(np.mean(memory_errors**2))),
        points=tuple(points),
    )


def _solve(table: F64, wanted: F64) -> F64:
    """Return the coefficients with the least relative squares, none negative."""
    scale = np.where(np.abs(table).max(axis=0) > 0, np.abs(table).max(axis=0), 1.0)
    found: F64 = nnls(table / scale / wanted[:, None], np.ones(wanted.size))[0]
    return np.asarray(found / scale)


def _left_out(table: F64, wanted: F64) -> F64:
    """Return per measurement the relative error of its prediction from all the others."""
    errors = []
    for index in range(wanted.size):
        keep = np.arange(wanted.size) != index
        told = float(table[index] @ _solve(table[keep], wanted[keep]))
        errors.append(told / wanted[index] - 1.0)
    return np.array(errors)


def size(
    model: CostModel, pmus: int, rate_hz: int, areas: int | None = None, pdc_pmus: int = PMUS_PER_PDC
) -> Size:
    """Return how many workers and partitions a site needs, on the safe side of the error."""
    area_pmus = PMUS_PER_AREA if areas is None else -(-pmus // areas)
    load = Load(pmus, rate_hz, 1, area_pmus=area_pmus, pdc_pmus=pdc_pmus)
    cores = model.cores_of(load)
    high = cores * (1.0 + model.error_ratio)
    workers = max(1, math.ceil(high / FILL_RATIO))
    warnings = []
    largest = max(p.pmus * p.rate_hz for p in model.points)
    if pmus * rate_hz > largest:
        warnings.append(f"beyond what was measured ({largest:,} PMU-frames/s): an extrapolation")
    one = model.cores_of(Load(area_pmus, rate_hz, 1, area_pmus=area_pmus, pdc_pmus=pdc_pmus))
    if one * (1.0 + model.error_ratio) > FILL_RATIO:
        warnings.append(
            f"one area of {area_pmus} PMUs needs {one:.2f} cores; an area is not split: make areas smaller"
        )
    if workers > load.areas:
        warnings.append(f"{workers} workers but {load.areas} areas: at most {load.areas} of them get work")
    partitions = max(load.areas if load.areas < workers else workers * PARTITIONS_PER_WORKER, 1)
    return Size(
        pmus=pmus,
        rate_hz=rate_hz,
        areas=load.areas,
        cores=cores,
        cores_low=cores * max(0.0, 1.0 - model.error_ratio),
        cores_high=high,
        error_ratio=model.error_ratio,
        workers=workers,
        partitions=partitions,
        memory_mb_per_worker=model.memory_mb_of(Load(-(-pmus // workers), rate_hz, 1)),
        warnings=tuple(warnings),
    )


def size_text(found: Size, model: CostModel) -> str:
    """Return the answer for a person."""
    cpu = model.machine.get("cpu")
    lines = [
        f"{found.pmus:,} PMUs x {found.rate_hz} frames/s in {found.areas} areas",
        f"workers       {found.workers}, each planned to {FILL_RATIO:.0%} of one core",
        f"partitions    {found.partitions} of the input topics (`[broker] partitions`)",
        f"CPU           {found.cores:.2f} cores, {found.cores_low:.2f} to {found.cores_high:.2f} "
        f"(error of the model {found.error_ratio:.0%})",
        f"memory        {found.memory_mb_per_worker:,.0f} MB per worker (error {model.memory_error_ratio:.0%})",
        f"measured      {model.date} on {cpu}; `streamproc bench scale --save-model FILE` measures yours",
    ]
    return "\n".join([*lines, *(f"mind          {warning}" for warning in found.warnings)]) + "\n"


def save(model: CostModel, path: Path) -> None:
    """Write a model as JSON; raise ShellError if that cannot be."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n")
    except OSError as error:
        raise ShellError(f"{path}: cannot be written: {error.strerror}") from error


def load_model(path: Path | None = None) -> CostModel:
    """Return the model in a file (None: the one of the package); raise ShellError if it is none."""
    source = resources.files("streamproc") / "shell" / "bench" / "cost_model.json" if path is None else path
    try:
        model = msgspec.json.decode(source.read_bytes(), type=CostModel)
    except OSError as error:
        raise ShellError(f"{source}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ShellError(f"{source}: not a cost model: {error}") from error
    if (
        model.format != FORMAT
        or list(model.cores) != list(CORE_TERMS)
        or list(model.memory) != list(MEMORY_TERMS)
    ):
        raise ShellError(f"{source}: not a cost model of the form {FORMAT}")
    return model

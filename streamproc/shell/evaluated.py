"""What `streamproc.evaluation` is given of the shell: sessions, bundles on disk, paths that share their models."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import resources
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
import onnx

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.core.c37118 import Book, decode
from streamproc.errors import RecordingError
from streamproc.evaluation.ambient import Ambient, recorded_ambient
from streamproc.shell.forecast_model import OnnxForecaster
from streamproc.shell.models import ModelSet
from streamproc.shell.recording import read_recording
from streamproc.shell.solver import solve
from streamproc.values import F64, I64, TOPIC_FRAMES, Record

# Seconds from the first frame of disturbances that the publisher of a recording documents, by the name of its file.
DOCUMENTED = {"freq_80min": (3198.5,)}
DESCRIBING = ("events",)  # bundles of the package that say what a disturbance is
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}


@lru_cache(maxsize=1)
def _forecaster() -> OnnxForecaster:
    return OnnxForecaster.load()


MODELS: dict[tuple[str, str], ModelSet] = {}  # of this process; a bundle's directory is written once


def warm_path(site: SiteConfig, bundle: Path | None) -> pipeline.Path:
    """Return a fresh path; its models are loaded once in a process."""
    key = (str(bundle), repr(site.detector))
    if key not in MODELS:
        MODELS[key] = ModelSet.load(bundle, site.detector)
    return pipeline.Path(site, pipeline.Engines(MODELS[key], _forecaster(), solve))


def read_ambient(path: Path, except_s: Sequence[float] = ()) -> Ambient:
    """Return the frequency of a recording as what moves under events; raises RecordingError with file and place."""
    t_ns, freq_hz, nominal_hz = read_frequency(path)
    return recorded_ambient(path.name, t_ns, freq_hz, nominal_hz, (*documented(path), *except_s))


def documented(path: Path) -> tuple[float, ...]:
    """Return the seconds, from the first frame, of the disturbances that the publisher of a recording documents."""
    return tuple(s for name, seconds in DOCUMENTED.items() if path.name.startswith(name) for s in seconds)


def read_frequency(path: Path) -> tuple[I64, F64, float]:
    """Return the times and the frequency (n_frame,) of a recording, NaN where unknown, and what is nominal, Hz.

    It is the median over the PMUs of the first stream. Raises RecordingError with file and place.
    """
    times: list[I64] = []
    values: list[F64] = []
    nominal_hz = idcode = 0.0
    book = Book()
    for chunk in _chunks(read_recording(path)):
        decoded = decode(book, chunk)
        book = decoded.book
        for batch in decoded.batches:
            layout = batch.layouts[0]
            nominal_hz, idcode = nominal_hz or float(layout.nominal_hz[0]), idcode or layout.idcode
            if layout.idcode == idcode:  # of several streams the first
                mine = batch.stream == 0
                times.append(batch.t_ns[mine])
                values.append(_middle(batch.freq_hz[mine]))
    if not times:
        raise RecordingError(f"{path}: there is no frequency of a PMU in it")
    return np.concatenate(times), np.concatenate(values), nominal_hz


def _chunks(records: Iterable[Record]) -> Iterator[list[bytes]]:
    source = (record.value for record in records if record.topic == TOPIC_FRAMES and record.value)
    while chunk := list(islice(source, 4096)):
        yield chunk


def _middle(freq_hz: F64) -> F64:
    """Return the median over the PMUs (n_frame,), NaN where none is known."""
    known = np.isfinite(freq_hz)
    ordered = np.sort(np.where(known, freq_hz, np.inf), axis=1)
    place = np.maximum(known.sum(axis=1) - 1, 0) // 2
    middle = np.take_along_axis(ordered, place[:, None], axis=1)[:, 0]
    return np.where(np.isfinite(middle), middle, np.nan)


def fitted_on() -> frozenset[str]:
    """Return the names of the corpora on which what describes disturbances was fitted: figures on them flatter."""
    package = resources.files("streamproc") / "bundles"
    names: set[str] = set()
    for name in DESCRIBING:
        file = package / name / "manifest.toml"
        if file.is_file():
            told = tomllib.loads(file.read_text(encoding="utf-8")).get("bundle", {}).get("created_from", {})
            names.update(str(told.get("corpora", "")).split())
    return frozenset(names)


def parameters_of(bundle: Path | None) -> int:
    """Return how many numbers the graphs hold that score a site: those of its bundle and of the one that describes.

    Counted are the elements of all floating-point initializers, fixed ones (a filter, a window) included.
    """
    package = resources.files("streamproc") / "bundles"
    rooms = [bundle or package / "generic", *(package / name for name in DESCRIBING)]
    files = [
        file for room in rooms if room.is_dir() for file in room.iterdir() if file.name.endswith(".onnx")
    ]
    count = 0
    for file in files:
        graph = onnx.load_model_from_string(file.read_bytes()).graph
        count += sum(prod(value.dims) for value in graph.initializer if value.data_type in FLOATS)
    return count

"""The 48-hour bundle into a model: checked like every bundle, then one session for all series.

    manifest.toml   strict; digests of model and arrays
    model.onnx      accepted operators only, announced shapes, golden vectors within 1e-5 of the training's numpy
    arrays.npz      shape of the bands, ranges of the training

Anything else is a ModelError that names the file and the rule. A call takes CHUNK series at a time: rows of a chunk fit
into the processor's cache, and the number of series of a site does not show in the memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from streamproc.core.ahead.bands import N_BLOCK, N_JUDGED, N_SHAPE, Shape
from streamproc.core.ahead.days import N_LEAD, N_ROW, STEP_MIN
from streamproc.core.ahead.rows import Inputs
from streamproc.errors import ModelError
from streamproc.shell.manifest import Table
from streamproc.shell.models import MODEL_SIZE_MAX, TOLERANCE, open_session
from streamproc.shell.onnx_file import check_model
from streamproc.values import F32, F64, I64

FORMAT = "streamproc-ahead/1"
UNREADABLE = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    BadZipFile,
    zlib.error,
    RuntimeError,  # zip: a method of compression, or a key, that is not there
)
CHUNK = 256  # series of one call
THREADS = min(2, os.cpu_count() or 1)  # calls side by side: an issue comes once in a quarter of an hour


class AheadBundleTable(Table, frozen=True):
    """`[bundle]`: what it is and where it came from."""

    format: str
    name: str
    version: int
    command: str
    data: str
    data_digest: str
    seed: int
    unit: str
    zone: str
    trained_from: str
    trained_until: str


class AheadModelTable(Table, frozen=True):
    """`[model]`."""

    file: str
    digest: str
    arrays_digest: str
    opset: int
    step_min: int
    history_rows: int
    leads: int


class KnownTable(Table, frozen=True):
    """`[[known]]`: a column that is known ahead; `mean` and `size` in its unit."""

    name: str
    mean: float
    size: float


class SeriesTable(Table, frozen=True):
    """`[series]`: whose own part the model has."""

    ids: tuple[str, ...]


class AheadManifest(Table, frozen=True):
    """The whole file."""

    bundle: AheadBundleTable
    model: AheadModelTable
    series: SeriesTable
    metrics: dict[str, Any]
    known: tuple[KnownTable, ...] = ()


class OnnxAhead:
    """The 48-hour model of a worker (`core.ahead.issue.Ahead`)."""

    def __init__(self, manifest: AheadManifest, session: Any, arrays: dict[str, F64]) -> None:  # noqa: ANN401
        self.manifest = manifest
        self.digest = manifest.model.digest
        self.shape = Shape(arrays["quantile"], arrays["scale"])
        self.known_names = tuple(known.name for known in manifest.known)
        self.session = session
        self._names = sorted(edge.name for edge in session.get_inputs())
        self._outputs = {edge.name for edge in session.get_outputs()}
        self._rows = {name: row for row, name in enumerate(manifest.series.ids)}
        self._low, self._high = arrays["low"], arrays["high"]
        self._pool = ThreadPoolExecutor(THREADS, "streamproc-ahead")
        self._mean = np.array([known.mean for known in manifest.known])[:, None]
        self._size = np.array([known.size for known in manifest.known])[:, None]

    @classmethod
    def load(cls, directory: Path | str | None = None) -> OnnxAhead:
        """Return the model of a directory (None: the one of the package); raises ModelError."""
        root = resources.files("streamproc") / "bundles" / "ahead" if directory is None else Path(directory)

        def read(name: str) -> bytes:
            try:
                return (root / name).read_bytes()
            except OSError as error:
                raise ModelError(f"bundle {root}: cannot read {name}: {error.strerror}") from error

        where = f"{root}/manifest.toml"
        try:
            manifest = msgspec.toml.decode(read("manifest.toml"), type=AheadManifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{where}: {error}") from error
        _check_manifest(manifest, where)
        model, packed = read("model.onnx"), read("arrays.npz")
        for name, content, digest in (
            ("model.onnx", model, manifest.model.digest),
            ("arrays.npz", packed, manifest.model.arrays_digest),
        ):
            found = hashlib.sha256(content).hexdigest()
            if len(content) > MODEL_SIZE_MAX or found != digest:
                rule = f"digest {found[:12]}..., the manifest says {digest[:12]}..."
                raise ModelError(f"{root}/{name}: {len(content)} bytes, {rule}")
        check_model(model, f"{root}/model.onnx")
        loaded = cls(
            manifest,
            open_session(model, f"{root}/model.onnx"),
            _arrays(packed, manifest, f"{root}/arrays.npz"),
        )
        loaded._check_golden(read("golden.npz"), f"{root}/golden.npz")
        return loaded

    def rows_of(self, ids: tuple[str, ...]) -> I64:
        """Return the row of each series among the model's own; the last row for those that it does not know."""
        return np.array([self._rows.get(name, len(self._rows)) for name in ids], dtype=np.int64)

    def ranges_of(self, ids: tuple[str, ...]) -> tuple[F64, F64]:
        """Return the lowest and highest mean of each series in training; NaN for those that it does not know."""
        rows = self.rows_of(ids)
        low, high = np.append(self._low, np.nan), np.append(self._high, np.nan)
        return low[rows], high[rows]

    def scaled(self, courses: F64) -> F64:
        """Return what is known ahead in spreads."""
        return np.asarray((courses - self._mean) / self._size)

    def predict(self, given: Inputs[F32], rows: I64, *, with_known: bool) -> F32:
        """Return the medians (n, N_LEAD); raises ModelError."""
        name = "median" if with_known or "plain" not in self._outputs else "plain"
        feed: dict[str, Any] = dict(given._asdict())
        out = np.empty((len(rows), N_LEAD), np.float32)

        def ask(start: int) -> None:
            part = slice(start, start + CHUNK)
            mine = feed | {"history": given.history[part], "series": rows[part]}
            out[part] = self.session.run([name], {key: mine[key] for key in self._names})[0]

        try:
            # ONNX Runtime lets go of the interpreter: chunks run side by side, each with the same answer as alone.
            list(self._pool.map(ask, range(0, len(rows), CHUNK)))
        except Exception as error:
            raise ModelError(f"48-hour model: {error}") from error
        return out

    def _check_golden(self, golden: bytes, where: str) -> None:
        try:
            with np.load(io.BytesIO(golden), allow_pickle=False) as vectors:
                given = Inputs(*(vectors[name] for name in Inputs._fields))
                rows, wanted = vectors["series"], {True: vectors["median"], False: vectors["plain"]}
        except UNREADABLE as error:
            raise ModelError(f"{where}: golden vectors cannot be read: {error}") from error
        for with_known, expected in wanted.items():
            made = self.predict(given, rows, with_known=with_known)
            # Of the size of the series: float32 holds seven digits of a level, not of a difference from it.
            size = np.abs(given.history).max(initial=0.0, axis=1, keepdims=True)
            if (
                made.shape != expected.shape
                or not (np.abs(made - expected) <= TOLERANCE * (1.0 + size)).all()
            ):
                raise ModelError(
                    f"{where}: the model does not reproduce its golden vectors within {TOLERANCE:g}"
                )


def _check_manifest(manifest: AheadManifest, where: str) -> None:
    rules = (
        ("format", manifest.bundle.format, FORMAT),
        ("model.file", manifest.model.file, "model.onnx"),
        ("model.step_min", manifest.model.step_min, STEP_MIN),
        ("model.history_rows", manifest.model.history_rows, N_ROW),
        ("model.leads", manifest.model.leads, N_LEAD),
    )
    for name, found, expected in rules:
        if found != expected:
            raise ModelError(f"{where}: {name} {found!r}, expected {expected!r}")


def _arrays(packed: bytes, manifest: AheadManifest, where: str) -> dict[str, F64]:
    n = len(manifest.series.ids)
    expected = {"quantile": (N_JUDGED, N_SHAPE), "scale": (N_JUDGED, N_BLOCK), "low": (n,), "high": (n,)}
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in expected}
    except UNREADABLE as error:
        raise ModelError(f"{where}: cannot be read: {error}") from error
    for name, shape in expected.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ModelError(f"{where}: {name} has shape {arrays[name].shape}, expected {shape}, all finite")
    return arrays

"""The forecast bundle into a forecaster: checked like every bundle, then one session per interval.

    manifest.toml       [bundle] ...; one [[model]] per interval with its digest, rows and steps
    interval_<n>.onnx   the graph of `core.quantiles.build`
    interval_<n>.npz    golden vectors: history, quantiles

The same rules as in `shell.models`, on the same bytes in memory: strict manifest, SHA-256, accepted operators
only, announced shapes, golden vectors within 1e-5. Anything else is a ModelError that names the file and the
rule.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import msgspec
import numpy as np

from streamproc.core.quantiles import HISTORY_ROWS, LEVELS, n_step
from streamproc.errors import ModelError
from streamproc.shell.manifest import Table
from streamproc.shell.models import MODEL_SIZE_MAX, TOLERANCE, open_session
from streamproc.shell.onnx_file import check_model
from streamproc.values import F32

FORMAT = "streamproc-forecast/1"


class ForecastTable(Table, frozen=True):
    """`[[model]]`: one graph, for one interval."""

    interval_min: Literal[1, 5, 15]
    file: str
    digest: str
    golden: str
    rows: int
    steps: int
    opset: int
    note: tuple[str, ...] = ()


class ForecastBundleTable(Table, frozen=True):
    """`[bundle]`: where it came from."""

    format: str
    name: str
    version: int
    created_from: dict[str, str]
    quantiles: tuple[str, ...]
    input: str


class ForecastManifest(Table, frozen=True):
    """The whole file."""

    bundle: ForecastBundleTable
    model: tuple[ForecastTable, ...]


class OnnxForecaster:
    """The forecast models of a worker (`core.forecast.Forecaster`)."""

    def __init__(self, sessions: Mapping[int, Any], digest: str) -> None:
        self._sessions = sessions
        self.digest = digest

    @classmethod
    def load(cls, directory: Path | str | None = None) -> OnnxForecaster:
        """Return the forecaster of a directory (None: the one of the package); raises ModelError."""
        root = (
            resources.files("streamproc") / "bundles" / "forecast" if directory is None else Path(directory)
        )

        def read(name: str) -> bytes:
            if "/" in name or "\\" in name or name.startswith("."):
                raise ModelError(f"{root}/manifest.toml: {name!r} is not a plain file name")
            try:
                return (root / name).read_bytes()
            except OSError as error:
                raise ModelError(f"bundle {root}: cannot read {name}: {error.strerror}") from error

        where = f"{root}/manifest.toml"
        try:
            manifest = msgspec.toml.decode(read("manifest.toml"), type=ForecastManifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{where}: {error}") from error
        if manifest.bundle.format != FORMAT:
            raise ModelError(f"{where}: format {manifest.bundle.format!r}, expected {FORMAT!r}")
        tables = {table.interval_min: table for table in manifest.model}
        if set(tables) != set(HISTORY_ROWS) or len(tables) != len(manifest.model):
            raise ModelError(
                f"{where}: a forecast bundle has one model each for {sorted(HISTORY_ROWS)} minutes"
            )
        sessions: dict[int, Any] = {
            minutes: _open(table, read(table.file), read(table.golden), str(root))
            for minutes, table in tables.items()
        }
        joined = "|".join(tables[minutes].digest for minutes in sorted(tables))
        return cls(sessions, hashlib.sha256(joined.encode()).hexdigest())

    @property
    def sessions(self) -> Mapping[int, Any]:
        """Return the session of each interval in minutes."""
        return self._sessions

    def predict(self, interval_min: int, history: F32) -> F32:
        """Return the quantiles (n_series, 7, n_step) of histories (n_series, n_row); raises ModelError."""
        try:
            quantiles: F32 = self._sessions[interval_min].run(None, {"history": history})[0]
        except Exception as error:
            raise ModelError(f"forecast model of {interval_min} min: {error}") from error
        return quantiles


def _open(table: ForecastTable, model: bytes, golden: bytes, root: str) -> Any:  # noqa: ANN401 - a session
    where = f"{root}/{table.file}"
    if len(model) > MODEL_SIZE_MAX:
        raise ModelError(f"{where}: {len(model)} bytes, at most {MODEL_SIZE_MAX}")
    digest = hashlib.sha256(model).hexdigest()
    if digest != table.digest:
        raise ModelError(f"{where}: digest {digest[:12]}..., the manifest says {table.digest[:12]}...")
    check_model(model, where)
    session = open_session(model, where)
    expected = {
        "history": (None, HISTORY_ROWS[table.interval_min]),
        "quantiles": (None, len(LEVELS), n_step(table.interval_min)),
    }
    found = {edge.name: edge for edge in (*session.get_inputs(), *session.get_outputs())}
    if set(found) != set(expected):
        raise ModelError(f"{where}: inputs and outputs {sorted(found)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        actual = tuple(size if isinstance(size, int) else None for size in found[name].shape)
        if actual != shape or found[name].type != "tensor(float)":
            raise ModelError(f"{where}: {name} is {found[name].type} {actual}, expected {shape}")
    _check_golden(session, golden, f"{root}/{table.golden}", where)
    return session


def _check_golden(session: Any, golden: bytes, where: str, model: str) -> None:  # noqa: ANN401
    try:
        with np.load(io.BytesIO(golden), allow_pickle=False) as vectors:
            history, wanted = vectors["history"].astype(np.float32), vectors["quantiles"]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
        raise ModelError(f"{where}: golden vectors cannot be read: {error}") from error
    given = session.run(None, {"history": history})[0] if history.ndim == 2 else np.zeros(0)
    close = (
        np.abs(given - wanted) <= TOLERANCE * (1 + np.abs(wanted)) if given.shape == wanted.shape else False
    )
    if not wanted.size or not np.all(close | (np.isnan(given) & np.isnan(wanted))):
        raise ModelError(f"{model}: does not reproduce its golden vectors within {TOLERANCE:g}")

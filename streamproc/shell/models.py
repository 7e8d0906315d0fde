"""Bundles into models that score: the only importer of ONNX Runtime.

Before a bundle is used, on the same bytes in memory: the manifest is read strictly, the SHA-256 of the
every graph must be the manifest's, the graph may hold only accepted operators (`onnx_file`), inputs and
outputs must have the announced shapes, and the golden vectors must come out within 1e-5 of the numpy
reference.
Anything else is a ModelError with the file and the rule; a worker that was told to use a bundle does not
start with another one.

One thread per session: up to about 1,000 channels a second thread costs more than it brings, and one thread
gives the same bits for the same window, however the records were batched. A model has one graph per stride
(`core.scoring`): between the instants at which a graph is judged, its rows of the scores are NaN.

Which model scores an area (`ModelSet.for_area`):

    the site bundle has area, rate, nominal frequency and every PMU   the site model
    some PMUs are unknown to it                                       the site model for those it knows,
                                                                      the generic one for the others
    area, rate, nominal or all PMUs unknown                           the generic model for the whole area

Every deviation is a sentence in `AreaModel.reason` and a number in `AreaModel.fallback_count`: a fallback
is never silent. PMUs of the bundle that do not send are NaN columns, which the model masks.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort

from streamproc.core.describe import Describer
from streamproc.core.detector import N_QUANTITY, AreaModel, Rule, Windows
from streamproc.core.scoring import model_digest
from streamproc.errors import ModelError
from streamproc.shell.event_model import load_describer
from streamproc.shell.manifest import FORMAT, GraphTable, Manifest, ModelTable, check_override, override_rule
from streamproc.shell.onnx_file import check_model
from streamproc.values import F32, F64, I64

log = logging.getLogger(__name__)

TOLERANCE = 1e-5  # of 1 + |score|: ONNX in float32 against numpy in float64
MODEL_SIZE_MAX = 64 * 1024 * 1024  # bytes


class SessionScorer:
    """One graph: bytes in, scores out. Checked for what it may hold, not against a manifest."""

    def __init__(self, model: bytes, where: str = "model") -> None:
        check_model(model, where)
        self.session = open_session(model, where)
        sizes = {edge.name: edge.shape for edge in self.session.get_inputs()}
        self._fast_rows, self._slow_rows = (
            sizes[name][0] if name in sizes else 0 for name in ("fast", "slow")
        )

    def __call__(self, windows: Windows[F32], columns: I64 | None = None) -> F32:
        """Return the scores (n_rule, n_pmu); `columns`: the PMU of each column of the graph, -1 for none."""
        feed = {"now": windows.now}
        if self._fast_rows:
            feed["fast"] = windows.fast[-self._fast_rows :]
        if self._slow_rows:
            feed["slow"] = windows.slow[-self._slow_rows :]
        if columns is not None:
            feed = {name: _columns(array, columns) for name, array in feed.items()}
        scores: F32 = self.session.run(None, feed)[0]
        return scores


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """One graph of a model: when it is judged, and which rows of the scores are its own."""

    stride: int
    rows: slice
    score: SessionScorer


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model of a bundle with its graphs."""

    table: ModelTable
    rules: tuple[Rule, ...]
    graphs: tuple[LoadedGraph, ...]

    def score(self, windows: Windows[F32], instant: int, columns: I64 | None = None) -> F32:
        """Return the scores (n_rule, n_column); the rows of a graph that is not judged now are NaN."""
        n_column = windows.now.shape[1] if columns is None else columns.size
        scores = np.full((len(self.rules), n_column), np.nan, dtype=np.float32)
        for graph in self.graphs:
            if instant % graph.stride == 0:
                scores[graph.rows] = graph.score(windows, columns)
        return scores


def open_session(model: bytes, where: str) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    """Return a session on one thread; raises ModelError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings about our own graph go nowhere useful
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{where}: ONNX Runtime refuses it: {error}") from error


class Bundle:
    """A checked bundle."""

    def __init__(self, name: str, models: tuple[LoadedModel, ...]) -> None:
        self.name = name
        self.models = models

    @classmethod
    def load(cls, directory: Path | None) -> Bundle:
        """Return the bundle of a directory (None: the generic one of the package); raises ModelError."""
        root = resources.files("streamproc") / "bundles" / "generic" if directory is None else directory

        def read(name: str) -> bytes:
            if "/" in name or "\\" in name or name.startswith("."):
                raise ModelError(f"{root}/manifest.toml: {name!r} is not a plain file name")
            try:
                return (root / name).read_bytes()
            except OSError as error:
                raise ModelError(f"bundle {root}: cannot read {name}: {error.strerror}") from error

        where = f"{root}/manifest.toml"
        try:
            manifest = msgspec.toml.decode(read("manifest.toml"), type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{where}: {error}") from error
        if manifest.bundle.format != FORMAT:
            raise ModelError(f"{where}: format {manifest.bundle.format!r}, expected {FORMAT!r}")
        loaded = tuple(_load_model(table, read, str(root)) for table in manifest.model)
        return cls(manifest.bundle.name, loaded)


def _load_model(table: ModelTable, read: Callable[[str], bytes], root: str) -> LoadedModel:
    graphs, row = [], 0
    for graph in table.graph:
        score = _load_graph(graph, table, read(graph.file), f"{root}/{graph.file}")
        graphs.append(LoadedGraph(graph.stride, slice(row, row + graph.rule_count), score))
        row += graph.rule_count
    where = f"{root}/manifest.toml: model {table.name}"
    if row != len(table.rule):
        raise ModelError(f"{where}: its graphs give {row} rows of scores for {len(table.rule)} rules")
    if model_digest([(graph.stride, graph.digest) for graph in table.graph]) != table.digest:
        raise ModelError(f"{where}: digest {table.digest[:12]}... is not that of its graphs")
    rules = tuple(Rule(**msgspec.structs.asdict(rule)) for rule in table.rule)
    loaded = LoadedModel(table, rules, tuple(graphs))
    _check_golden(loaded, read(table.golden), f"{root}/{table.golden}")
    return loaded


def _load_graph(graph: GraphTable, table: ModelTable, model: bytes, where: str) -> SessionScorer:
    if len(model) > MODEL_SIZE_MAX:
        raise ModelError(f"{where}: {len(model)} bytes, at most {MODEL_SIZE_MAX}")
    digest = hashlib.sha256(model).hexdigest()
    if digest != graph.digest:
        raise ModelError(f"{where}: digest {digest[:12]}..., the manifest says {graph.digest[:12]}...")
    rows = (graph.fast_rows, graph.slow_rows)
    if graph.stride < 1 or rows[0] > table.fast_rows or rows[1] > table.slow_rows:
        raise ModelError(f"{where}: stride {graph.stride}, rows {rows}: the manifest contradicts itself")
    score = SessionScorer(model, where)
    _check_shapes(graph, None if table.any_stations else len(table.stations), score.session, where)
    return score


def _check_shapes(graph: GraphTable, width: int | None, session: Any, where: str) -> None:  # noqa: ANN401
    expected: dict[str, tuple[int | None, ...]] = {
        "now": (N_QUANTITY, width),
        "score": (graph.rule_count, width),
    }
    for name, rows in (("fast", graph.fast_rows), ("slow", graph.slow_rows)):
        if rows:
            expected[name] = (rows, N_QUANTITY, width)
    found = {edge.name: edge for edge in (*session.get_inputs(), *session.get_outputs())}
    if set(found) != set(expected):
        raise ModelError(f"{where}: inputs and outputs {sorted(found)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        actual = tuple(size if isinstance(size, int) else None for size in found[name].shape)
        if actual != shape or found[name].type != "tensor(float)":
            raise ModelError(f"{where}: {name} is {found[name].type} {actual}, the manifest says {shape}")


def _check_golden(model: LoadedModel, golden: bytes, where: str) -> None:
    try:
        with np.load(io.BytesIO(golden), allow_pickle=False) as vectors:
            now, fast, slow = (vectors[name].astype(np.float32) for name in ("now", "fast", "slow"))
            expected = vectors["score"]
            pairs = [(Windows(now[i], fast[i], slow[i]), expected[i]) for i in range(expected.shape[0])]
    except (ValueError, KeyError, OSError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{where}: golden vectors cannot be read: {error}") from error
    if not pairs:
        raise ModelError(f"{where}: no golden vectors")
    for windows, wanted in pairs:
        score = model.score(windows, 0)  # every graph is judged at instant 0
        same_gaps = score.shape == wanted.shape and bool((np.isnan(score) == np.isnan(wanted)).all())
        known = np.isfinite(wanted)
        if not same_gaps or bool(
            (np.abs(score - wanted)[known] > TOLERANCE * (1 + np.abs(wanted[known]))).any()
        ):
            raise ModelError(f"{where}: the model does not reproduce its golden vectors within {TOLERANCE:g}")


class PlainModel:
    """A model whose columns are the area's columns, or a choice of them."""

    def __init__(self, model: LoadedModel, columns: I64 | None, n_pmu: int, base_v: F64, reason: str) -> None:
        self._score = model.score
        self._columns = columns  # for each column of the model its PMU in the area, -1: does not send
        self._n_pmu = n_pmu
        self.rules = model.rules
        self.digest = model.table.digest
        self.fast_rows = model.table.fast_rows
        self.slow_rows = model.table.slow_rows
        self.base_v = base_v
        self.reason = reason
        self.fallback_count = 0

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores (n_rule, n_pmu) of an instant."""
        scores = self._score(windows, instant, self._columns)
        if self._columns is None:
            return scores
        out = np.full((scores.shape[0], self._n_pmu), np.nan, dtype=np.float32)
        present = self._columns >= 0
        out[:, self._columns[present]] = scores[:, present]
        return out


class MixedModel:
    """The site model for the PMUs that it knows, the generic model for the others; NaN elsewhere."""

    def __init__(self, site: PlainModel, generic: PlainModel, reason: str, count: int) -> None:
        self._site, self._generic = site, generic
        self.rules = site.rules + generic.rules
        self.digest = hashlib.sha256((site.digest + generic.digest).encode()).hexdigest()
        self.fast_rows = max(site.fast_rows, generic.fast_rows)
        self.slow_rows = max(site.slow_rows, generic.slow_rows)
        self.base_v = site.base_v
        self.reason = reason
        self.fallback_count = count

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores (n_rule, n_pmu) of an instant."""
        return np.concatenate([model.score(windows, instant) for model in (self._site, self._generic)])


class AdjustedModel:
    """A model with limits of the site file: scores are linear, so another limit is one multiplication."""

    def __init__(self, model: AreaModel, rules: tuple[Rule, ...], rows: I64, factor: F32) -> None:
        self._model, self._rows, self._factor = model, rows, factor
        self.rules = rules
        text = repr([(rule.name, rule.limit) for rule in rules])
        self.digest = hashlib.sha256((model.digest + text).encode()).hexdigest()
        self.fast_rows, self.slow_rows = model.fast_rows, model.slow_rows
        self.base_v = model.base_v
        self.reason = model.reason
        self.fallback_count = model.fallback_count

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores (n_rule, n_pmu) of an instant."""
        scores: F32 = self._model.score(windows, instant)[self._rows] * self._factor
        return scores


def _columns(window: F32, columns: I64) -> F32:
    chosen = np.ascontiguousarray(window[..., np.maximum(columns, 0)])
    chosen[..., columns < 0] = np.nan
    return chosen


class ModelSet:
    """The models of a worker: the site bundle, if any, with the generic one behind it."""

    describer: Describer | None = None

    def __init__(
        self, site: Bundle | None, generic: Bundle, overrides: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._site, self._generic, self._overrides = site, generic, overrides
        self._known: dict[tuple[str, tuple[str, ...], float, float], AreaModel] = {}
        names = {
            rule.name
            for bundle in (site, generic)
            if bundle
            for model in bundle.models
            for rule in model.rules
        }
        for name, table in overrides.items():
            check_override(name, table, names)

    @classmethod
    def load(
        cls, directory: Path | str | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
    ) -> ModelSet:
        """Return the models of a bundle directory (None: generic only), with `[detector.RULE]` tables."""
        site = Bundle.load(Path(directory)) if directory is not None else None
        models = cls(site, Bundle.load(None), overrides or {})
        models.describer = load_describer(open_session)
        return models

    def for_area(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> AreaModel:
        """Return the model for these PMUs in this order; the same object for the same question."""
        key = (area, stations, rate_hz, nominal_hz)
        if key not in self._known:
            model = self._known[key] = self._adjusted(self._choose(*key))
            if model.reason:
                told = {
                    "area": area,
                    "rate_hz": rate_hz,
                    "pmus": model.fallback_count,
                    "reason": model.reason,
                }
                log.warning("not simply the model of the site", extra=told)
        return self._known[key]

    def _choose(self, area: str, stations: tuple[str, ...], rate_hz: float, nominal_hz: float) -> AreaModel:
        generic = self._generic_model(rate_hz)
        unfit = (
            ""
            if generic.table.rate_hz == rate_hz
            else (f"no generic model for {rate_hz:g} frames/s, the one for {generic.table.rate_hz:g} is used")
        )
        n_pmu = len(stations)
        unknown_v = np.full(n_pmu, np.nan)
        whole = PlainModel(generic, None, n_pmu, unknown_v, unfit)
        if self._site is None:
            return whole
        whole.fallback_count = n_pmu
        site = next(
            (m for m in self._site.models if m.table.area == area and m.table.rate_hz == rate_hz), None
        )
        if site is None or site.table.nominal_hz not in (0.0, nominal_hz):
            at = f"{rate_hz:g} frames/s and {nominal_hz:g} Hz"
            whole.reason = f"area {area} at {at} is not in bundle {self._site.name}"
            return whole
        place = {station: pmu for pmu, station in enumerate(stations)}
        unknown = [station for station in stations if station not in site.table.stations]
        if len(unknown) == n_pmu:
            whole.reason = f"area {area}: bundle {self._site.name} knows none of its PMUs"
            return whole
        columns = np.array([place.get(station, -1) for station in site.table.stations], dtype=np.int64)
        base_v = unknown_v.copy()
        for column, volts in zip(columns, site.table.base_v, strict=True):
            if column >= 0:
                base_v[column] = volts
        exact = site.table.stations == stations
        model = PlainModel(site, None if exact else columns, n_pmu, base_v, "")
        if not unknown:
            return model
        others = np.array([place[station] for station in unknown], dtype=np.int64)
        reason = (
            f"area {area}: {len(unknown)} PMUs are not in bundle {self._site.name}: {', '.join(unknown[:5])}"
        )
        return MixedModel(model, PlainModel(generic, others, n_pmu, unknown_v, unfit), reason, len(unknown))

    def _generic_model(self, rate_hz: float) -> LoadedModel:
        """Return the model of the nearest rate: a wrong time scale by a few percent beats none at all."""
        return min(self._generic.models, key=lambda model: abs(np.log(model.table.rate_hz / rate_hz)))

    def _adjusted(self, model: AreaModel) -> AreaModel:
        tables = [self._overrides.get(rule.name, {}) for rule in model.rules]
        if not any(tables):
            return model
        rows = [row for row, table in enumerate(tables) if table.get("enabled", True)]
        rules = tuple(override_rule(model.rules[row], tables[row]) for row in rows)
        factor = [model.rules[row].limit / rule.limit for row, rule in zip(rows, rules, strict=True)]
        return AdjustedModel(model, rules, np.array(rows, np.int64), np.array(factor, np.float32)[:, None])

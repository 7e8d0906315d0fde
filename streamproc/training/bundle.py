"""A model bundle: what is shipped to a worker, as files in memory.

    manifest.toml         [bundle] name, version, created_from ...; one [[model]] per area and reporting rate
                          with its digest, stations in column order, rows of the windows, rules of its scores,
                          and one [[model.graph]] per stride
    <name>.onnx           the graph that is judged at every instant, and
    <name>_each_<n>.onnx  the one that is judged at every n-th; `digest` of a graph in the manifest is the
                          SHA-256 of exactly these bytes, that of the model covers all its graphs
    <name>.npz            golden vectors: now, fast, slow, and the score that the numpy reference gives for
                          them, all graphs together

The generic bundle has one model per usual reporting rate, any number of PMUs, and no learnt limits. A
worker re-checks everything before it uses a bundle (`streamproc.shell.models`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import tomli_w

from streamproc.core.detector import N_QUANTITY, Rule, Windows
from streamproc.core.scoring import Plan, model_digest, score_numpy
from streamproc.core.window import BRIDGED_ROWS, bridged
from streamproc.detectors import DETECTORS
from streamproc.training.onnx_graph import OPSET, emit
from streamproc.values import F32, F64

FORMAT = "streamproc-bundle/3"
# Reporting rates of IEEE C37.118.1 for 50 and 60 Hz, and the ones in use around them.
GOLDEN_PMUS = 5  # of a bundle for any number of PMUs: enough for rules that compare them
GENERIC_RATES_HZ = (1.0, 2.0, 4.0, 5.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 50.0, 60.0, 100.0, 120.0)
INPUTS = (
    {"name": "now", "order": "quantity, pmu", "row": "the reporting instant to be judged, as it came"},
    {
        "name": "fast",
        "order": "row, quantity, pmu",
        "row": "reporting instant, oldest first, short gaps bridged",
    },
    {
        "name": "slow",
        "order": "row, quantity, pmu",
        "row": "mean of one UTC second, oldest first, short gaps bridged",
    },
)
QUANTITIES = ("frequency minus nominal, Hz", "voltage magnitude / base - 1, pu", "angle step, rad")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of a bundle before it is written."""

    name: str
    plan: Plan
    area: str = "*"
    stations: tuple[str, ...] | None = None  # None: any PMUs
    nominal_hz: float = 0.0  # 0: any
    base_v: F64 = field(default_factory=lambda: np.zeros(0))
    notes: tuple[str, ...] = ()
    company: tuple[float, ...] = ()  # per rule; (): the default of `Rule`

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the rule of every row of scores."""
        rules = self.plan.rules
        return (
            tuple(replace(r, company=c) for r, c in zip(rules, self.company, strict=True))
            if self.company
            else rules
        )


def generic_plan(rate_hz: float) -> Plan:
    """Return every detector that works without training."""
    known = [(detector, detector.generic(rate_hz)) for detector in DETECTORS]
    return Plan(rate_hz, tuple((detector, params) for detector, params in known if params is not None))


def generic_bundle() -> dict[str, bytes]:
    """Return the files of the generic bundle that the package ships."""
    specs = [ModelSpec(f"generic_{rate_hz:g}", generic_plan(rate_hz)) for rate_hz in GENERIC_RATES_HZ]
    return write_bundle(
        "generic", specs, {"command": "streamproc train generic", "data": "none: limits of standards"}
    )


def write_bundle(name: str, specs: Sequence[ModelSpec], created_from: Mapping[str, str]) -> dict[str, bytes]:
    """Return file name -> bytes; the same specs give the same bytes."""
    files: dict[str, bytes] = {}
    models = []
    for spec in specs:
        n_pmu = None if spec.stations is None else len(spec.stations)
        graphs = []
        for graph in spec.plan.graphs:
            file = f"{spec.name}.onnx" if graph.stride == 1 else f"{spec.name}_each_{graph.stride}.onnx"
            files[file] = emit(graph, n_pmu, {"bundle": name, "model": spec.name, "area": spec.area})
            graphs.append(_graph_table(graph, file, files[file]))
        files[f"{spec.name}.npz"] = _golden(spec.plan, n_pmu or GOLDEN_PMUS)
        models.append(_model_table(spec, graphs))
    manifest = {
        "bundle": {
            "format": FORMAT,
            "name": name,
            "version": 1,
            "created_from": dict(created_from),
            "quantities": list(QUANTITIES),
            "input": [dict(table) for table in INPUTS],
        },
        "model": models,
    }
    files["manifest.toml"] = tomli_w.dumps(manifest).encode()
    return files


def _graph_table(graph: Plan, file: str, model: bytes) -> dict[str, Any]:
    return {
        "file": file,
        "digest": hashlib.sha256(model).hexdigest(),
        "stride": graph.stride,
        "fast_rows": graph.fast_rows,
        "slow_rows": graph.slow_rows,
        "rule_count": len(graph.rules),
    }


def _model_table(spec: ModelSpec, graphs: list[dict[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": spec.name,
        "digest": model_digest([(graph["stride"], graph["digest"]) for graph in graphs]),
        "golden": f"{spec.name}.npz",
        "area": spec.area,
        "any_stations": spec.stations is None,
        "stations": list(spec.stations or ()),
        "rate_hz": spec.plan.rate_hz,
        "nominal_hz": spec.nominal_hz,
        "base_v": [float(volts) for volts in spec.base_v],
        "fast_rows": max(1, spec.plan.fast_rows),
        "slow_rows": max(1, spec.plan.slow_rows),
        "opset": OPSET,
        "notes": list(spec.notes),
        "graph": graphs,
        "rule": [asdict(rule) for rule in spec.rules],
    }
    return table


def _golden(plan: Plan, n_pmu: int) -> bytes:
    """Return golden vectors: ambient noise with a step at the end, and the same with gaps."""
    pairs = golden_windows(plan, n_pmu)
    now, fast, slow = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    score = np.stack([score_numpy(plan, windows) for windows in pairs])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, now=now, fast=fast, slow=slow, score=score.astype(np.float64))
    return buffer.getvalue()


def golden_windows(plan: Plan, n_pmu: int) -> list[Windows[F32]]:
    """Return two instants, the same on every machine."""

    def wave(rows: int) -> F64:
        row = np.arange(rows)[:, None, None]
        channel = np.arange(N_QUANTITY * n_pmu).reshape(N_QUANTITY, n_pmu)
        size = np.array([2e-3, 1e-3, 2e-3])[:, None]
        # A product with the golden ratio, modulo 1, spreads evenly and never repeats.
        noise = np.modf((row * 97.0 + channel * 31.0 + 1.0) * 0.6180339887498949)[0] - 0.5
        return np.asarray(np.round(size * (noise + np.cos(0.05 * row + channel)), 5))

    n_fast, n_slow = max(1, plan.fast_rows), max(1, plan.slow_rows)
    fast, slow = wave(n_fast + BRIDGED_ROWS), wave(n_slow).astype(np.float32)
    fast[-2:, 0, 0] += 0.05
    fast[-2:, 1, 0] -= 0.03
    gaps = -fast  # the other sign, too
    gaps[-6:-4, :, 0] = np.nan  # bridged
    gaps[-1, 1, :] = np.nan  # the sample to be judged is missing
    gaps[-20:-10, 2, -1] = np.nan  # too long to bridge
    return [
        Windows(rows[-1], bridged(rows[:BRIDGED_ROWS], rows[BRIDGED_ROWS:]), slow)
        for rows in (fast.astype(np.float32), gaps.astype(np.float32))
    ]

"""`streamproc bench profile`: where the score stage's microseconds go, without a broker.

The records of `bench path` from memory through the score stage with the base models, under Python's own
profiler (which makes Python code dearer than it is, and leaves numpy and ONNX Runtime alone), and the same
without it for the total. Then the model by itself: ONNX Runtime's own profile, by operator.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort

from streamproc.config import SiteConfig
from streamproc.shell.bench.load import PMUS_PER_AREA, Load, Stream, area_name
from streamproc.shell.bench.peer.meter import cpu_s
from streamproc.shell.bench.peer.own import NoModels
from streamproc.shell.bench.rig import CACHE, Bar
from streamproc.shell.bench.table import Cell, Result, Table, result_of
from streamproc.shell.heap import calm_collector, keep_heap
from streamproc.shell.models import Bundle, ModelSet
from streamproc.stages.score import ScoreStage
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, Record

PMUS, RATE_HZ = 800, 50
BATCH_SIZES = (20, 200, 2000)  # records: one instant of all areas, ten, a hundred
TOP = 25
MODEL_CALLS = 200
PACKAGE = "streamproc/"

K = TypeVar("K")


def measure(*, seconds: int = 20) -> Result:
    """Return where the time goes; `seconds` of stream time are scored."""
    keep_heap()
    CACHE.mkdir(exist_ok=True)
    load = Load(PMUS, RATE_HZ, seconds, events=True)
    with Bar("bench profile", 3 + 2 * len(BATCH_SIZES)) as bar:
        bar.doing("making records")
        stream = Stream(load)
        records = _records(stream)
        calm_collector()
        bar.step()
        totals: list[tuple[Cell, ...]] = []
        for size in BATCH_SIZES:
            row: list[Cell] = [size]
            for models in (ModelSet.load(), NoModels()):
                bar.doing(f"batches of {size}")
                row.append(
                    _score(ScoreStage(SiteConfig(), models), stream, records, size) / len(records) * 1e6
                )
                bar.step()
            totals.append(tuple(row))
        bar.doing("profiling")
        profile = cProfile.Profile()
        stage = ScoreStage(SiteConfig(), ModelSet.load())
        profile.enable()
        _score(stage, stream, records, BATCH_SIZES[1])
        profile.disable()
        bar.step()
        by_node = node_times(PMUS_PER_AREA, RATE_HZ)
        bar.step()
    settings: dict[str, Cell] = {
        "pmus": PMUS,
        "areas": load.areas,
        "rate_hz": RATE_HZ,
        "records": len(records),
    }
    head = ("records in a batch", "us CPU/record", "the same without models")
    tables = [
        Table(title="The score stage by batch size", head=head, rows=tuple(totals)),
        functions_table(pstats.Stats(profile), len(records)),
        nodes_table(by_node),
    ]
    return result_of("profile", settings, tables)


def _records(stream: Stream) -> list[Record]:
    """Return the frames of a load in the order in which they would come."""
    found: list[Record] = []
    for t_ns, areas in stream.instants():
        for area, frames in areas.items():
            key = area_name(area).encode()
            found += [
                Record(TOPIC_FRAMES, 0, len(found) + n, t_ns // 1_000_000, key, frame)
                for n, frame in enumerate(frames)
            ]
    return found


def _score(stage: ScoreStage, stream: Stream, records: Sequence[Record], size: int) -> float:
    """Return the CPU seconds of scoring all records in batches."""
    known = [Record(TOPIC_CONFIG, 0, 0, 0, b"%d" % idcode, frame) for idcode, frame in stream.configs]
    state = stage.learn(stage.fresh(), known)
    begin_s = cpu_s()
    for start in range(0, len(records), size):
        state = stage.step(state, records[start : start + size]).state
    return cpu_s() - begin_s


def functions_table(stats: Any, records: int) -> Table:  # noqa: ANN401  (pstats is half typed)
    """Return the functions with the most time of their own; what is called from C counts with its caller."""
    total_s = sum(own_s for _, _, own_s, _, _ in stats.stats.values())
    dearest = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:TOP]
    rows: list[tuple[Cell, ...]] = [
        (place(*where), own_s / total_s * 100, own_s / records * 1e6, through_s / records * 1e6, calls)
        for where, (_, calls, own_s, through_s, _) in dearest
    ]
    head = ("function", "own %", "own us/record", "with callees us/record", "calls")
    note = f"Under cProfile, batches of {BATCH_SIZES[1]} records."
    return Table(title="Python's view of the score stage", head=head, rows=tuple(rows), note=note)


def place(path: str, line: int, name: str) -> str:
    """Return file:line and name, the file from the package on."""
    if path == "~":
        return name
    short = path[path.rfind(PACKAGE) :] if PACKAGE in path else "/".join(Path(path).parts[-2:])
    return f"{short}:{line} {name}"


def node_times(n_pmu: int, rate_hz: float) -> dict[tuple[str, str], float]:
    """Return the microseconds of one instant of the generic model by (operator, its inputs' shapes).

    A graph that is judged at every tenth instant counts a tenth.
    """
    model = next(m for m in Bundle.load(None).models if m.table.rate_hz == rate_hz)
    found: dict[tuple[str, str], float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="profile-", dir=CACHE) as home:
        for graph in model.table.graph:
            content = (Path(__file__).parents[2] / "bundles" / "generic" / graph.file).read_bytes()
            events = _run_graph(content, n_pmu, str(Path(home) / "ort"))
            for node, us in sum_nodes(events, MODEL_CALLS).items():
                found[node] += us / graph.stride
    return dict(found)


def _run_graph(content: bytes, n_pmu: int, prefix: str) -> list[dict[str, Any]]:
    """Return ONNX Runtime's events of some calls of a graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = prefix
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    inputs = {
        edge.name: (rng.standard_normal([*edge.shape[:-1], n_pmu]) * 1e-3).astype(np.float32)
        for edge in session.get_inputs()
    }
    for _ in range(MODEL_CALLS):
        session.run(None, inputs)
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def sum_nodes(events: Sequence[dict[str, Any]], calls: int) -> dict[tuple[str, str], float]:
    """Return the microseconds per call by (operator, first input shape) of ONNX Runtime's events."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            shapes = event["args"].get("input_type_shape") or [{}]
            largest = max((tuple(s) for one in shapes for s in one.values()), key=np.prod, default=())
            found[event["args"]["op_name"], "x".join(map(str, largest))] += event["dur"] / calls
    return found


def ranked(times: Mapping[K, float], count: int) -> list[tuple[K, float]]:
    """Return the dearest, dearest first."""
    return sorted(times.items(), key=lambda item: -item[1])[:count]


def nodes_table(times: Mapping[tuple[str, str], float]) -> Table:
    """Return the operators of the model, dearest first."""
    total = sum(times.values())
    by_operator: dict[str, float] = defaultdict(float)
    for (operator, _), us in times.items():
        by_operator[operator] += us
    rows: list[tuple[Cell, ...]] = [
        (operator, "all", us, us / total * 100) for operator, us in ranked(by_operator, 8)
    ]
    rows += [
        (operator, shape, us, us / total * 100) for (operator, shape), us in ranked(times, TOP - len(rows))
    ]
    head = ("operator", "largest input", "us/instant", "%")
    title = f"The generic model, {PMUS_PER_AREA} PMUs at {RATE_HZ} frames/s: one instant, {total:.0f} us with profiling"
    return Table(title=title, head=head, rows=tuple(rows))

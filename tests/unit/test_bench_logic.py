"""Protects the logic of the benchmarks: the same job everywhere, ratios of medians, honest rows, delays at one clock."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamproc.errors import ShellError
from streamproc.shell.bench import detect as bench_detect
from streamproc.shell.bench import latency as bench_latency
from streamproc.shell.bench import paced as bench_paced
from streamproc.shell.bench import path as bench_path
from streamproc.shell.bench import peers as bench_peers
from streamproc.shell.bench import profile as bench_profile
from streamproc.shell.bench import rig as bench_rig
from streamproc.shell.bench.load import START_S, Load, Stream, area_name, by_partition, partition_of
from streamproc.shell.bench.peer.job import CHANNELS, ROW, BatchJob, RecordJob, key_of
from streamproc.shell.bench.peer.meter import Meter
from streamproc.shell.bench.peer.own import Look, NoModels, frame_dtype
from streamproc.shell.bench.peer.per_record import PerRecord
from streamproc.shell.models import ModelSet
from streamproc.shell.scrape import Reading
from streamproc.stages.score import ScoreStage
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, Output, Record


def run(records: float, elapsed_s: float, cpu_s: float, **more: Any) -> dict[str, Any]:
    return {"records": records, "elapsed_s": elapsed_s, "cpu_s": cpu_s, **more}


# ---- the load


def test_a_load_is_split_into_areas_and_pdcs_without_losing_a_pmu() -> None:
    for pmus in (1, 10, 40, 41, 199, 200, 201, 3000):
        load = Load(pmus, 50, 1)
        split = [load.pdcs(area) for area in range(load.areas)]
        assert sum(map(sum, split)) == pmus
        assert all(0 < count <= 40 for counts in split for count in counts)
        assert all(sum(counts) <= 200 for counts in split)
        assert load.records_per_s == 50 * sum(map(len, split))


def test_the_stream_gives_each_pdc_one_frame_per_instant_and_its_own_idcode() -> None:
    stream = Stream(Load(250, 10, 1))
    instants = list(stream.instants())
    assert len(instants) == 10
    assert [t_ns for t_ns, _ in instants] == [START_S * 10**9 + n * 10**8 for n in range(10)]
    assert {area: len(frames) for area, frames in instants[0][1].items()} == {0: 5, 1: 2}
    idcodes = [idcode for idcode, _ in stream.configs]
    assert len(set(idcodes)) == len(idcodes) == 7
    frame = instants[0][1][0][0]
    assert len(frame) == frame_dtype(40).itemsize
    look = Look(40)
    look([frame, frame])
    assert look.sum == pytest.approx(120.0, abs=1.0)


def test_areas_go_round_the_partitions_and_stay_there() -> None:
    broker = bench_rig.bench_site("nowhere:1", 4).broker
    areas = {area: [b"%d" % area] for area in range(6)}
    split = {partition: [area for area, _ in group] for partition, group in by_partition(areas, broker)}
    assert split == {0: [0, 4], 1: [1, 5], 2: [2], 3: [3]}
    assert all(partition_of(area, broker) == p for p, group in split.items() for area in group)


# ---- the jobs


def test_the_job_over_arrays_raises_the_alerts_of_the_job_per_record() -> None:
    rng = np.random.default_rng(3)
    rows = np.zeros(4000, ROW)
    rows["x"] = rng.standard_normal((rows.size, CHANNELS))
    rows["x"][2500::97] += 40.0
    keys = [key_of(int(device)) for device in rng.integers(0, 20, rows.size)]
    values = [row.tobytes() for row in rows]
    alone, together = RecordJob(), BatchJob()
    for key, value in zip(keys, values, strict=True):
        alone(key, value)
    for start in range(0, rows.size, 700):
        together(keys[start : start + 700], values[start : start + 700])
    assert together.alerts == alone.alerts > 5


def findings(outputs: list[Output]) -> list[tuple[int, str]]:
    import json

    told = [json.loads(output.value) for output in outputs]
    return [(one["ts_us"], one["kind"]) for one in told if one["type"] == "raise"]


def test_stock_frameworks_do_the_job_of_our_score_stage(tmp_path: Path) -> None:
    """Same detectors, same raises: in numpy and one by one, as with the models and in batches."""
    load = Load(8, 30, 8, events=True)
    stream = Stream(load)
    configs = tmp_path / "configs.bin"
    configs.write_bytes(b"".join(frame for _, frame in stream.configs))
    records = [
        Record(TOPIC_FRAMES, 0, n, t_ns // 1_000_000, area_name(0).encode(), areas[0][0])
        for n, (t_ns, areas) in enumerate(stream.instants())
    ]
    job = PerRecord(configs)
    alone = [output for r in records for output in job(0, r.offset, r.ts_ms, r.key or b"", r.value or b"")]
    stage = ScoreStage(bench_rig.SiteConfig(), ModelSet.load())
    known = Record(TOPIC_CONFIG, 0, 0, 0, b"all", configs.read_bytes())
    together = stage.step(stage.learn(stage.fresh(), [known]), records)
    assert findings(alone) == findings(list(together.outputs))
    assert len(findings(alone)) >= 2


def test_the_way_without_models_decodes_and_aligns_but_judges_nothing() -> None:
    load = Load(40, 25, 2)
    stream = Stream(load)
    stage = ScoreStage(bench_rig.SiteConfig(), NoModels())
    state = stage.learn(
        stage.fresh(), [Record(TOPIC_CONFIG, 0, 0, 0, b"1", frame) for _, frame in stream.configs]
    )
    records = [
        Record(TOPIC_FRAMES, 0, n, 0, b"area00", areas[0][0])
        for n, (_, areas) in enumerate(stream.instants())
    ]
    step = stage.step(state, records)
    assert step.counts["frames", "area00"] == 50
    assert step.counts["instants", "area00"] > 30
    assert not step.counts["rejected", "unknown_configuration"]


# ---- the watch


def test_the_watch_stops_with_the_last_record_or_the_last_second_and_counts_nothing_after() -> None:
    meter = Meter(10, 1000.0)
    meter.start()
    assert not meter.take(9)
    assert meter.take(5)
    assert meter.take(5)
    assert meter.seen()["records"] == 14
    assert meter.seen()["elapsed_s"] > 0
    short = Meter(10**9, 0.0)
    short.start()
    assert short.take(1)


# ---- the tables


def test_ratios_are_those_of_medians_and_a_way_that_failed_says_why() -> None:
    runs = {way: [] for way in bench_path.WAYS}
    runs["bare"] = [run(100, 1, 1), run(1000, 1, 1), run(200, 1, 1)]
    runs["sink"] = [run(150, 1, 1)]
    runs["full"] = [run(100, 1, 1)]
    runs["faust"] = [run(5, 1, 1)]
    table = bench_path.ways_table(runs, {"quix": "not installed: no network"})
    rows = {str(row[0]): row for row in table.rows}
    assert len(rows) == len(bench_path.WAYS)
    assert any("not installed: no network" in name for name in rows)
    assert any("no run" in name for name in rows)
    targets = {target.name[:3] + target.name[-6:]: target for target in bench_path.targets(runs, {})}
    assert [target.measured for target in targets.values()] == [0.75, 20.0, None, None]
    assert [target.met for target in targets.values()] == [False, True, False, False]


def test_the_cost_per_pmu_frame_is_flat_within_a_quarter_or_it_is_not() -> None:
    def sizes(*us: float) -> dict[int, list[dict[str, Any]]]:
        return {10**n: [run(10, 1, cost * 1e-6, pmu_frames=1)] for n, cost in enumerate(us, 1)}

    for costs, met in (((4.0, 5.0), True), ((4.0, 5.1), False), ((4.0,), False)):
        assert bench_path.targets({}, sizes(*costs))[-1].met is met
    table = bench_path.sizes_table(sizes(4.0, 5.0))
    assert [row[5] for row in table.rows] == [pytest.approx(4.0), pytest.approx(5.0)]


def test_every_peer_has_a_row_measured_or_with_its_reason() -> None:
    seen = {
        bench_peers.OURS: [run(100, 1, 4e-4, alerts=7)],
        "stock Faust": [run(10, 1, 4e-3, versions={"faust-streaming": "0.15.3"}, alerts=1)],
    }
    table = bench_peers.table(seen, {"csp burst": "not installed: no wheel"})
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {bench_peers.OURS, *(known.name for known in bench_peers.PEERS)}
    assert rows["stock Faust"][5] == pytest.approx(100.0)
    assert rows["stock Faust"][-1] == "faust-streaming 0.15.3"
    assert rows["csp burst"][-1] == "not installed: no wheel"
    assert rows["Quix Streams"][-1] == "no run"
    assert bench_peers.targets(seen)[0].met
    assert not bench_peers.targets({})[0].met


def test_each_peer_is_pinned_and_its_module_is_there() -> None:
    for known in bench_peers.PEERS:
        assert (Path(bench_peers.__file__).parent / "peer" / f"{known.module}.py").is_file()
        assert "==" in known.requirements[0]
        assert bench_peers.peer(known.module) is known


# ---- latency


def test_a_delay_runs_from_the_last_record_of_the_instant_to_the_message_about_it() -> None:
    load = Load(400, 50, 1)  # two areas, two partitions
    config = bench_rig.bench_site("nowhere:1", 4)
    appended = [{"0": 1000 + 20 * n, "1": 1005 + 20 * n} for n in range(50)]

    def about(area: int, tick: int) -> dict[str, Any]:
        return {"area": area_name(area), "ts_us": START_S * 1_000_000 + tick * 20_000}

    messages = [
        (1030, about(0, 1)),
        (1036, about(1, 1)),
        (9999, {"area": "elsewhere", "ts_us": START_S * 1_000_000}),
        (9999, about(0, 50)),
    ]
    assert bench_latency.delays_ms(messages, appended, load, config) == [10.0, 11.0]
    assert bench_latency.quantile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert bench_latency.quantile([], 0.99) is None


def paced(lags: list[int], load: Load) -> bench_paced.Paced:
    looks = [bench_paced.Look(float(n), lag, Reading(float(n))) for n, lag in enumerate(lags)]
    return bench_paced.Paced(load, 1.0, looks, {"cpu_s": 1.0, "span_s": 10.0, "late_s": 0.0})


def test_keeping_up_is_a_lag_that_neither_grows_nor_stands_high() -> None:
    load = Load(400, 50, 60)  # 500 records/s
    assert bench_latency.kept_up(paced([0, 10, 0, 10, 0, 10, 0, 10, 0], load))
    assert not bench_latency.kept_up(paced([100 * n for n in range(9)], load))
    assert not bench_latency.kept_up(paced([600] * 9, load))
    assert not bench_latency.kept_up(paced([], load))
    assert bench_paced.growth_ratio([(0.0, 0), (1.0, 250), (2.0, 500)], 500) == pytest.approx(0.5)
    assert math.isnan(bench_paced.growth_ratio([(0.0, 0)], 500))


def test_without_alerts_the_latency_is_not_measured_and_not_met() -> None:
    told = bench_latency.targets(paced([0] * 6, Load(400, 50, 60)), [])
    assert [target.met for target in told] == [True, True, False]
    assert bench_latency.targets(paced([0] * 6, Load(400, 50, 60)), [99.0])[-1].met
    assert not bench_latency.targets(paced([0] * 6, Load(400, 50, 60)), [100.0])[-1].met


# ---- children


def test_a_child_that_fails_is_told_with_its_last_words_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_rig, "CACHE", tmp_path)

    async def call(code: str, timeout_s: float) -> dict[str, Any]:
        async with bench_rig.Child([sys.executable, "-c", code]) as child:
            return await asyncio.wait_for(child.line(), timeout_s)

    answer = asyncio.run(call("print('noise'); print('BENCH {\"records\": 3}')", 20))
    assert answer == {"records": 3}
    with pytest.raises(ShellError, match="exit code 3: the reason"):
        asyncio.run(call("import sys; print('the reason', file=sys.stderr); sys.exit(3)", 20))
    with pytest.raises(TimeoutError):
        asyncio.run(call("import time; time.sleep(60)", 0.5))


def test_the_last_line_that_says_something_is_told() -> None:
    assert bench_rig.last_line(b"a\nb\n\n  \n") == "b"
    assert bench_rig.last_line(b"") == "without a word"


# ---- the profile


def test_the_profile_names_functions_by_place_and_sums_operators_per_call() -> None:
    assert bench_profile.place("/x/site-packages/streamproc/core/area.py", 7, "score") == (
        "streamproc/core/area.py:7 score"
    )
    assert bench_profile.place("~", 0, "<built-in>") == "<built-in>"
    node = {"cat": "Node", "name": "a_kernel_time", "dur": 40}
    args = {"op_name": "Where", "input_type_shape": [{"bool": [2, 3]}, {"float": []}]}
    times = bench_profile.sum_nodes([{**node, "args": args}, {**node, "args": args}, {"cat": "Session"}], 10)
    assert times == {("Where", "2x3"): 8.0}
    table = bench_profile.nodes_table(times)
    assert table.rows[0] == ("Where", "all", 8.0, 100.0)


def test_the_profile_runs_and_has_its_three_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_profile, "BATCH_SIZES", (20, 200))
    monkeypatch.setattr(bench_profile, "MODEL_CALLS", 2)
    sizes, functions, nodes = bench_profile.measure(seconds=1).tables
    assert all(with_models > 0 for _, with_models, _ in sizes.rows)
    assert any("streamproc/" in str(row[0]) for row in functions.rows)
    assert nodes.rows


# ---- detection


def test_the_cost_of_detection_is_measured_on_the_model_that_a_site_would_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_detect, "FIT_S", 70)
    monkeypatch.setattr(bench_detect, "INSTANTS", 30)
    monkeypatch.setattr(bench_detect.os, "cpu_count", lambda: 1)
    result = bench_detect.measure(rounds=1)
    rules = {rule.name for rule in bench_detect._spec().rules}
    assert result.settings["rules"] == len(rules) >= 18
    rows = {str(row[0]): row[1] for row in result.tables[0].rows}
    us = next(value for name, value in rows.items() if "all rules" in name)
    assert isinstance(us, float)
    assert rows["on one core"] == pytest.approx(3 * 40 * (1e6 / 30) / us)
    assert all(target.measured is not None and target.measured > 0 for target in result.targets)

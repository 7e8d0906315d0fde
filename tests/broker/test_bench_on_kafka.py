"""Protects the benchmarks' commands: each runs end to end on a real Kafka and prints its table, and JSON that is a result.

Tiny loads: what comes out says nothing about speed, so neither does any assertion.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamproc.shell.bench.cost import load_model
from streamproc.shell.bench.path import WAYS
from streamproc.shell.bench.peers import OURS, PEERS
from streamproc.shell.bench.table import read_result

pytestmark = [pytest.mark.broker, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 280


def bench(kafka: str, *words: str, code: int | None = None) -> str:
    """Run a command in the working tree, as a user does; 1 is a target that was missed, which may be."""
    argv = [sys.executable, "-m", "streamproc", "bench", *words, "--bootstrap", kafka]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S, check=False)
    assert done.returncode in ((0, 1) if code is None else (code,)), done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stdout


def result(told: str, kind: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / f"{kind}.json"
    path.write_text(told)
    assert read_result(path).kind == kind
    tree: dict[str, Any] = json.loads(told)
    assert tree["versions"]["streamproc"]
    assert tree["machine"]["cores"] >= 1
    return tree


def test_path_measures_every_way_and_sizes(kafka: str, tmp_path: Path) -> None:
    tiny = ("path", "--records", "400", "--seconds", "1", "--rounds", "1", "--sizes", "10,50")
    tree = result(bench(kafka, *tiny, "--json"), "path", tmp_path)
    ways, sizes = tree["tables"]
    assert len(ways["rows"]) == len(WAYS)
    # Quix Streams may not be installable here; then its row says so. All others are ours or a dependency.
    measured = [row for row in ways["rows"] if row[1] is not None]
    assert len(measured) >= len(WAYS) - 1, ways["rows"]
    assert [row[0] for row in sizes["rows"]] == [10, 50]
    assert all(row[5] > 0 for row in sizes["rows"])
    assert len(tree["targets"]) == 4


def test_latency_sees_alerts_at_the_broker(kafka: str, tmp_path: Path) -> None:
    tiny = ("latency", "--pmus", "20", "--rate", "25", "--seconds", "8")
    tree = result(bench(kafka, *tiny, "--json"), "latency", tmp_path)
    delays, lag, stages = tree["tables"]
    raised = next(row for row in delays["rows"] if row[0] == "alerts raised")
    assert raised[1] >= 1
    assert raised[2] >= 0
    assert dict(lag["rows"])["kept up"] in {"yes", "no"}
    assert stages["rows"]


def test_scale_fits_a_model_that_size_can_use(kafka: str, tmp_path: Path) -> None:
    saved = tmp_path / "model.json"
    tiny = ("scale", "--pmus", "5,30", "--rates", "10", "--seconds", "4", "--save-model", str(saved))
    told = bench(kafka, *tiny, code=0)
    assert "Sites in real time" in told
    assert "Cost model" in told
    assert [point.pmus for point in load_model(saved).points] == [5, 30, 6]


@pytest.mark.timeout(900)
def test_peers_has_a_row_for_every_peer(kafka: str, tmp_path: Path) -> None:
    # Two of five: each makes an environment of its own, and Quix Streams has one already.
    tiny = ("peers", "--only", "faststream,quix", "--records", "4000", "--seconds", "1", "--rounds", "1")
    tree = result(bench(kafka, *tiny, "--json"), "peers", tmp_path)
    rows = {row[0]: row for row in tree["tables"][0]["rows"]}
    assert set(rows) == {OURS, *(known.name for known in PEERS)}
    assert rows[OURS][2] > 0
    for row in rows.values():
        assert row[2] is not None or len(row[-1]) > 5, row


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    argv = [sys.executable, "-m", "streamproc", "bench", "path", "--bootstrap", "127.0.0.1:1", "--sizes", ""]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("streamproc: no topics at 127.0.0.1:1")

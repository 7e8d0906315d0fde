"""Protects the dashboards: made from code, committed as made, and every name in them one that the service exports.

That no panel is empty is shown in tests/broker/test_monitoring.py, against a real Prometheus and the demo.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `tools` is no part of the package

from streamproc.shell.series import COUNTERS, GAUGES  # noqa: E402
from tools.dashboards.absence import families  # noqa: E402
from tools.dashboards.budgets import records  # noqa: E402
from tools.dashboards.outputs import files  # noqa: E402

GRAFANA = ROOT / "deploy" / "grafana"
UIDS = [f"streamproc-{n}" for n in ("pipeline", "alerts", "forecasts", "quality", "models")]
FOREIGN = {  # of Prometheus itself and of every process
    "up",
    "ALERTS",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}
OTHER_LABELS = {
    "le",
    "stage",
    "topic",
    "slot",
    "digest",
    "version",
    "python",
    "job",
    "instance",
    "alertname",
    "alertstate",
}
_STRING = re.compile(r'"[^"]*"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
_BRACES = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.])[a-zA-Z_][\w:]*(?!\w|\s*\()")
_WORDS = {"by", "on", "without", "and", "or", "unless", "bool"}


def metric_names(expr: str) -> set[str]:
    """Return the names of the series in an expression: what is no function, label, string or keyword."""
    bare = _BRACES.sub(" ", _GROUPING.sub(" ", _STRING.sub('""', expr)))
    return {m.group() for m in _NAME.finditer(bare)} - _WORDS


def labels(expr: str) -> set[str]:
    """Return the labels in selectors and aggregations."""
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {
        *re.findall(r"[{,]\s*(\w+)\s*[=!]", expr),
        *(x.strip() for g in grouped for x in g.split(",") if x.strip()),
    }


def known_names() -> set[str]:
    parts = {f.replace("_count", suffix) for f in families() for suffix in ("_bucket", "_sum", "_count")}
    return {*families(), *parts, *(r.name for r in records()), *FOREIGN}


def boards() -> list[dict[str, Any]]:
    return [json.loads((GRAFANA / "dashboards" / f"{uid}.json").read_text()) for uid in UIDS]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for board in boards():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield f"{board['uid']}: {panel['title']}", panel


def test_what_is_committed_is_what_the_code_makes() -> None:
    made = files()
    stale = [name for name, text in made.items() if (ROOT / name).read_text(encoding="utf-8") != text]
    assert not stale, "run: python -m tools.dashboards"
    left = {str(p.relative_to(ROOT)) for p in (GRAFANA / "dashboards").iterdir()} - set(made)
    assert not left


def test_the_command_says_so_too() -> None:
    command = [sys.executable, "-m", "tools.dashboards", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    other = [*command, "--runbook", "https://wiki.example/runbook"]
    told = subprocess.run(other, cwd=ROOT, check=False, capture_output=True, text=True)
    assert told.returncode == 1
    assert "deploy/prometheus/rules/alerts.yml" in told.stdout


def test_the_five_dashboards_have_their_uids_and_a_choice_of_data_source() -> None:
    for board, uid in zip(boards(), UIDS, strict=True):
        assert board["uid"] == uid
        assert board["description"]
        assert next(v["type"] for v in board["templating"]["list"]) == "datasource"
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)


def test_every_panel_says_how_to_read_it_and_asks_the_chosen_data_source() -> None:
    seen = 0
    for where, panel in panels():
        seen += 1
        assert len(panel.get("description", "")) > 20, where
        assert panel["datasource"] == {"type": "prometheus", "uid": "$ds"}, where
        assert panel["targets"], where
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "$ds", where
    assert seen >= 50


def test_panels_do_not_lie_on_each_other() -> None:
    for board in boards():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
                for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
            }
            assert max(x for x, _ in cells) < 24, panel["title"]
            assert not cells & taken, (board["uid"], panel["title"])
            taken |= cells


def test_every_name_in_a_query_is_a_series_of_the_service() -> None:
    known = known_names()
    wrong = {
        (where, name)
        for where, panel in panels()
        for target in panel["targets"]
        for name in metric_names(target["expr"]) - known
    }
    assert not wrong


def test_every_label_in_a_query_or_legend_is_one_of_the_service() -> None:
    known = {label for s in (*COUNTERS.values(), *GAUGES.values()) for label in s.labels} | OTHER_LABELS
    for where, panel in panels():
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert labels(target["expr"]) | legend <= known, where


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (area) (rate(streamproc_a_total{x=~"b|c"}[5m])) or vector(0)', {"streamproc_a_total"}),
        ("a:b:sum5m > 0.1 and a:b:sum1h unless on () c", {"a:b:sum5m", "a:b:sum1h", "c"}),
        ("1e3 * x / on (a) group_left () sum(y)", {"x", "y"}),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[$__rate_interval])))", {"h_bucket"}),
    ],
)
def test_names_are_found_in_expressions(expr: str, names: set[str]) -> None:
    assert metric_names(expr) == names


def test_grafana_finds_the_files_in_one_folder() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    assert [d["type"] for d in source["datasources"]] == ["prometheus"]
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/streamproc.yml").read_text())
    assert [(p["folder"], p["type"]) for p in provider["providers"]] == [("streamproc", "file")]

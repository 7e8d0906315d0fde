"""Protects what the operator sees: no panel is empty beside the running demo, and a fired alert reaches somebody.

One demo, one Prometheus, one Alertmanager for all tests of this file, all real. The tests go in the order of the
file: the last one ends the demo.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]  # `tools` is no part of the package

from monitoring_rig import (  # noqa: E402
    Demo,
    Prometheus,
    Webhook,
    alertmanager_home,
    free_port,
    get,
    running,
    wait_for,
)
from test_dashboards import metric_names, panels  # noqa: E402

from streamproc.shell.series import COUNTERS  # noqa: E402
from tools.dashboards.absence import ALWAYS, families  # noqa: E402

pytestmark = pytest.mark.slow
ZERO = " or vector(0)"
WINDOW = "15s"  # in place of $__rate_interval
# Exported only after a fault, or (a few) by nobody yet: a panel that asks for them must say 0.
ONLY_ON_FAULT = {
    f"streamproc_{COUNTERS[word].name}_total"
    for word in ("rejected", "dead_letters", "batch_retries", "gaps", "warmed", "foreign_states")
}


@dataclass
class Rig:
    demo: Demo
    prometheus: Prometheus
    webhook: Webhook
    alertmanager: str


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("monitoring")
    with contextlib.ExitStack() as stack:
        webhook = Webhook()
        stack.callback(webhook.end)
        demo = Demo(directory)
        stack.callback(demo.end)
        port = free_port()
        home = alertmanager_home(directory, webhook.port)
        arguments = ("--config.file=alertmanager.yml", "--cluster.listen-address=", "--storage.path=data")
        listen = f"--web.listen-address=127.0.0.1:{port}"
        stack.enter_context(running("alertmanager", *arguments, listen, cwd=home))
        prometheus = Prometheus(directory, demo.address(), port)
        stack.enter_context(running("prometheus", *prometheus.arguments, cwd=prometheus.home))
        wait_for("Prometheus", lambda: get(f"{prometheus.url}/-/ready") is not None, 30)
        wait_for("Alertmanager", lambda: get(f"http://127.0.0.1:{port}/-/ready") is not None, 30)
        yield Rig(demo, prometheus, webhook, f"http://127.0.0.1:{port}")


def held_back(rig: Rig) -> set[str]:
    """Return the names of the alerts that Alertmanager keeps to itself."""
    alerts = get(f"{rig.alertmanager}/api/v2/alerts")
    return {a["labels"]["alertname"] for a in alerts if a["status"]["inhibitedBy"]}


def as_grafana_sends(expr: str) -> str:
    return expr.replace("$__rate_interval", WINDOW).replace("$area", ".*")


def empty(prometheus: Prometheus) -> list[str]:
    """Return the panels' queries that show nothing now."""
    return [
        f"{where}: {target['expr']}"
        for where, panel in panels()
        for target in panel["targets"]
        if not prometheus.query(as_grafana_sends(target["expr"]))
    ]


def test_no_panel_is_empty_beside_the_running_demo(rig: Rig) -> None:
    # A grid alert and the forecasts of the first minute: after that everything has been counted once.
    wait_for("grid alert", lambda: rig.prometheus.query("streamproc_alerts_total"), 60)
    end_s = time.monotonic() + 40
    while (left := empty(rig.prometheus)) and time.monotonic() < end_s:
        time.sleep(1)
    assert not left, "\n".join(left)


def test_only_what_counts_faults_may_be_answered_by_zero(rig: Rig) -> None:
    """`or vector(0)` must not hide a name that nobody exports: without it, all other queries give something too."""
    names = {n for _, p in panels() for t in p["targets"] for n in metric_names(t["expr"])}
    unseen = {n for n in names if n != "ALERTS" and not rig.prometheus.query(n)}
    assert unseen <= ONLY_ON_FAULT


def test_a_zero_in_a_panel_hides_no_empty_query(rig: Rig) -> None:
    """Without its `or vector(0)` a query about what the demo does give something; a label set to nothing shows."""
    for where, panel in panels():
        for target in panel["targets"]:
            expr = target["expr"]
            if ZERO in expr and " > " not in expr and not metric_names(expr) & {*ONLY_ON_FAULT, "ALERTS"}:
                assert rig.prometheus.query(as_grafana_sends(expr.replace(ZERO, ""))), where
    assert rig.prometheus.query('streamproc_frames_total{area="nowhere"}') == []
    assert rig.prometheus.query("sum(streamproc_frames_total) * 0 / 0") == []


def test_a_legend_names_labels_that_the_answer_has(rig: Rig) -> None:
    for where, panel in panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            answer = rig.prometheus.query(as_grafana_sends(target["expr"]))
            assert all(wanted <= set(r["metric"]) for r in answer if r["metric"]), where


def test_every_family_has_its_rule_and_the_ones_that_are_always_there_are_there(rig: Rig) -> None:
    stored = set(get(f"{rig.prometheus.url}/api/v1/label/__name__/values")["data"])
    exported = {
        n for n in stored if n.startswith("streamproc_") and not n.endswith(("_created", "_bucket", "_sum"))
    }
    assert exported <= set(families())
    assert set(ALWAYS) <= exported
    assert "StreamprocSeriesAbsent" not in rig.prometheus.firing()


def test_every_rule_is_evaluated_without_an_error(rig: Rig) -> None:
    groups = get(f"{rig.prometheus.url}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    written = [yaml.safe_load(f.read_text()) for f in (ROOT / "deploy/prometheus/rules").iterdir()]
    assert len(rules) == sum(len(g["rules"]) for file in written for g in file["groups"])
    assert {(r["name"], r["health"], r.get("lastError", "")) for r in rules if r["health"] != "ok"} == set()
    recorded = {r["name"] for r in rules if r["type"] == "recording"}
    assert {name for name in recorded if not rig.prometheus.query(name)} == set()


def test_the_end_of_the_worker_reaches_the_one_on_call_and_its_consequences_nobody(rig: Rig) -> None:
    assert "StreamprocDown" not in rig.prometheus.firing()
    rig.demo.end()
    path, alert = wait_for("call", lambda: rig.webhook.alerts("StreamprocDown"), 30)[0]
    assert path == "/on-call"
    assert alert["status"] == "firing"
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["summary"].endswith("does not answer")
    assert alert["annotations"]["runbook_url"].endswith("RUNBOOK.md#streamprocdown")
    wait_for("absent series", lambda: "StreamprocSeriesAbsent" in rig.prometheus.firing(), 30)
    wait_for("absent series held back", lambda: "StreamprocSeriesAbsent" in held_back(rig), 15)
    time.sleep(3)  # longer than the group_wait
    assert rig.webhook.alerts("StreamprocSeriesAbsent") == []
    assert json.dumps(alert).count("{{") == 0

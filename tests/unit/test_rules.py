"""Protects the rules: valid, each shown to fire and to be silent, each with a runbook, none for a series that is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from streamproc.cli.root import COMMANDS
from streamproc.shell.series import COUNTERS, GAUGES

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]  # `tools` is no part of the package

from test_dashboards import OTHER_LABELS, known_names, labels, metric_names  # noqa: E402

from tools.dashboards.absence import ALWAYS, families  # noqa: E402
from tools.dashboards.outputs import rules  # noqa: E402

PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "RUNBOOK.md"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install --no-install-recommends prometheus"
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=False)


def loaded(name: str) -> list[dict[str, Any]]:
    text = (PROMETHEUS / "rules" / f"{name}.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def every_rule() -> list[dict[str, Any]]:
    return [*loaded("recording"), *loaded("alerts"), *loaded("absent")]


def test_promtool_accepts_configuration_and_rules() -> None:
    done = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rules found") == 3
    done = promtool("check", "rules", *sorted((PROMETHEUS / "rules").iterdir()))
    assert done.returncode == 0, done.stderr
    assert "duplicate" not in done.stdout


def test_amtool_accepts_the_route_example() -> None:
    found = shutil.which("amtool")
    assert found, "amtool is missing: apt-get install --no-install-recommends prometheus-alertmanager"
    config = str(ROOT / "deploy" / "alertmanager" / "alertmanager.yml")
    done = subprocess.run([found, "check-config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_and_is_silent_where_it_should() -> None:
    done = promtool("test", "rules", *sorted((PROMETHEUS / "tests").iterdir()))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_is_changed_fails_its_test(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path / "p")
    file = tmp_path / "p" / "rules" / "alerts.yml"
    for old, new in (("> 20000", "> 200000"), ('{job="streamproc"} == 0', '{job="streamproc"} == 1')):
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new))
    cases = tmp_path / "p" / "tests" / "alerts_test.yml"
    few = yaml.safe_load(cases.read_text())
    few["tests"] = [c for c in few["tests"] if c["name"].startswith(("StreamprocLagHigh", "StreamprocDown"))]
    cases.write_text(yaml.safe_dump(few))
    told = promtool("test", "rules", cases)
    assert told.returncode != 0
    for case in ("StreamprocLagHigh fires", "StreamprocDown fires", "StreamprocDown is silent"):
        assert case in told.stdout + told.stderr


def test_there_are_both_cases_for_every_rule() -> None:
    fires, silent = set(), set()
    for name in ("alerts", "absent"):
        for case in yaml.safe_load((PROMETHEUS / "tests" / f"{name}_test.yml").read_text())["tests"]:
            for check in case["alert_rule_test"]:
                for alert in check["exp_alerts"]:
                    fires.add((check["alertname"], alert["exp_labels"].get("family")))
                if not check["exp_alerts"]:
                    silent.add(case["name"].removesuffix(" is silent"))
    wanted = {(r["alert"], r["labels"].get("family")) for r in every_rule() if "alert" in r}
    assert fires == wanted
    assert silent == {" ".join(filter(None, names)) for names in wanted}


def test_every_series_of_the_tables_has_a_rule_for_its_absence() -> None:
    missed = {rule["labels"]["family"] for rule in loaded("absent")}
    assert missed == set(families())
    assert set(ALWAYS) <= missed
    for series in COUNTERS.values():
        assert f"streamproc_{series.name}_total" in missed
    for series in GAUGES.values():
        assert f"streamproc_{series.name}" in missed


def test_every_name_in_a_rule_is_a_series_of_the_service() -> None:
    wrong = {
        (r.get("alert", r.get("record")), n)
        for r in every_rule()
        for n in metric_names(r["expr"]) - known_names()
    }
    assert not wrong


def test_every_label_in_a_rule_is_one_of_the_service() -> None:
    known = {label for s in (*COUNTERS.values(), *GAUGES.values()) for label in s.labels} | OTHER_LABELS
    assert {(r["expr"], label) for r in every_rule() for label in labels(r["expr"]) - known} == set()


def test_every_alert_has_a_summary_a_description_and_a_section_of_the_runbook() -> None:
    anchors = {
        line.removeprefix("## ").lower()
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("## ")
    }
    used = set()
    for rule in (r for r in every_rule() if "alert" in r):
        told = rule["annotations"]
        assert told["summary"], rule["alert"]
        assert told["description"].endswith("."), rule["alert"]
        file, _, anchor = told["runbook_url"].partition("#")
        assert file == "docs/RUNBOOK.md"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        used.add(anchor)
    assert used == anchors


def test_both_objectives_have_a_fast_and_a_slow_burn_rate() -> None:
    named = {r["alert"]: r["expr"] for r in loaded("alerts")}
    for objective, fast, slow in (("Latency", "0.144", "0.06"), ("Loss", "0.0144", "0.006")):
        for speed, limit, windows in (("Fast", fast, ("1h", "5m")), ("Slow", slow, ("6h", "30m"))):
            expr = named[f"Streamproc{objective}Budget{speed}"]
            assert re.findall(r"rate(\w+) > ([\d.]+)", expr) == [(window, limit) for window in windows]


def test_every_command_that_the_runbook_names_is_there() -> None:
    named = set(re.findall(r"`streamproc (\w+) ?(\w*)", RUNBOOK.read_text()))
    assert len(named) >= 5
    for first, second in named:
        assert first in COMMANDS, first
        if second:
            asked = [sys.executable, "-m", "streamproc", first, second, "--help"]
            done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == 0, done.stderr


def test_each_group_has_its_rules_in_one_place() -> None:
    names = [rule.name for group in rules().values() for rule in group]
    assert len(set(names)) == len(names) >= 25

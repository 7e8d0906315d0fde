"""All files that are made: path below the repository -> text."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import (
    absence,
    alerts,
    budgets,
    forecasts,
    models,
    pipeline,
    quality,
    watch_data,
    watch_service,
)
from tools.dashboards.parts import Board, build
from tools.dashboards.rule_parts import RUNBOOK, Alert, rule_file, to_yaml

ROOT = Path(__file__).resolve().parents[2]
RULES, TESTS = "deploy/prometheus/rules", "deploy/prometheus/tests"
_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_VALUE = re.compile(r"\{\{ \$value \| \w+ \}\}")
_INTRO = """# Runbook

Written by `python -m tools.dashboards` from the same text as the rules in `deploy/prometheus/rules`; change it there. One
section per alert of Prometheus; `runbook_url` of the alert points to it. Dashboards are numbered as in Grafana's folder
`streamproc`. Alerts about the grid are not here: they stand in the topic `grid.alerts.v1` and on the operator's desk.

`critical` wakes somebody, `warning` waits for the working day, `info` is for the one who looks.
"""


def boards() -> list[Board]:
    """Return the dashboards, in the order of their numbers."""
    return [m.board() for m in (pipeline, alerts, forecasts, quality, models)]


def rules() -> Mapping[str, list[Alert]]:
    """Return the alerts by group."""
    return {
        "streamproc-service": list(watch_service.alerts()),
        "streamproc-budgets": list(budgets.alerts()),
        "streamproc-data": list(watch_data.alerts()),
    }


def files(runbook: str = RUNBOOK) -> dict[str, str]:
    """Return everything that is made."""
    made = {f"deploy/grafana/dashboards/{b.uid}.json": dashboard_json(b) for b in boards()}
    groups = rules()
    named = [rule for group in groups.values() for rule in group]
    absent = list(absence.alerts())
    made[f"{RULES}/recording.yml"] = rule_file(
        {"streamproc-record": [r.rendered() for r in budgets.records()]}
    )
    made[f"{RULES}/alerts.yml"] = rule_file(
        {g: [r.rendered(runbook) for r in rs] for g, rs in groups.items()}
    )
    made[f"{RULES}/absent.yml"] = rule_file({"streamproc-absent": [r.rendered(runbook) for r in absent]})
    made[f"{TESTS}/alerts_test.yml"] = rule_tests(named, runbook, ("recording", "alerts"))
    made[f"{TESTS}/absent_test.yml"] = rule_tests(absent, runbook, ("absent",))
    made[RUNBOOK] = runbook_text([*named, absent[0]])
    return made


def dashboard_json(board: Board) -> str:
    """Return the file that Grafana reads."""
    return json.dumps(build(board), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def rule_tests(alerts: Iterable[Alert], runbook: str, loads: Iterable[str]) -> str:
    """Return a test file of promtool: each rule once fires and once is silent."""
    cases: list[dict[str, Any]] = []
    for alert in alerts:
        cases.append(_case(alert, "fires", alert.speaks.series, alert.speaks.at, [_expected(alert, runbook)]))
        cases.append(_case(alert, "is silent", alert.silent.series, alert.silent.at, []))
    return to_yaml(
        {"rule_files": [f"../rules/{n}.yml" for n in loads], "evaluation_interval": "1m", "tests": cases}
    )


def _case(
    alert: Alert, what: str, series: Mapping[str, str], at: str, expected: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": " ".join((alert.name, alert.labels.get("family", ""), what)).replace("  ", " "),
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": alert.name, "exp_alerts": expected}],
    }


def _expected(alert: Alert, runbook: str) -> dict[str, Any]:
    labels = alert.speaks.labels

    def told(text: str) -> str:
        return _VALUE.sub(alert.speaks.value, _LABEL.sub(lambda match: labels[match.group(1)], text))

    return {
        "exp_labels": {"severity": alert.severity, **alert.labels, **labels},
        "exp_annotations": {key: told(text) for key, text in alert.annotations(runbook).items()},
    }


def runbook_text(alerts: Iterable[Alert]) -> str:
    """Return the runbook: one section per alert, its anchor is the name in small letters."""
    parts = [_INTRO]
    for alert in alerts:
        steps = "\n".join(_wrapped(f"{number}. {step}", "   ") for number, step in enumerate(alert.do, 1))
        wait = "at once" if alert.hold == "0m" else f"after {alert.hold}"
        head = f"## {alert.name}\n\n`{alert.severity}`, {wait}:\n\n```promql\n{alert.expr}\n```\n"
        parts.append(f"{head}\n{_wrapped(alert.meaning)}\n\n{steps}\n")
    return "\n".join(parts)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

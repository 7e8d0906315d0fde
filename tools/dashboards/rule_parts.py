"""What a rule is: an expression, what it tells, what to do about it, and one case each in which it speaks and is silent.

Rules, rule tests and runbook are written from the same value, so that none of them can be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

RUNBOOK = "docs/RUNBOOK.md"  # `--runbook URL` puts the address of the site in its place
HEAD = "# Written by `python -m tools.dashboards`; change it there.\n"

Severity = Literal["critical", "warning", "info"]
Series = Mapping[str, str]  # of promtool: series -> values, one a minute ("0+5x10": from 0 by 5, ten times)


@dataclass(frozen=True, slots=True)
class Speaks:
    """A case in which a rule fires: the series, when, with which labels and which value in its text."""

    series: Series
    at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    value: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """A case in which it does not, as near to the other as makes sense."""

    series: Series
    at: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert rule. `{{ $labels.x }}` and `{{ $value | f }}` may stand in summary and description."""

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str
    description: str
    meaning: str  # of the runbook: what it means to whom
    do: Sequence[str]  # what to look at and what to do, in this order
    speaks: Speaks
    silent: Silent
    labels: Mapping[str, str] = field(default_factory=dict)

    def rendered(self, runbook: str) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": self.hold} if self.hold != "0m" else {}),
            "labels": {"severity": self.severity, **self.labels},
            "annotations": self.annotations(runbook),
        }

    def annotations(self, runbook: str) -> dict[str, str]:
        """Return the annotations, templates as they are."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{runbook}#{self.name.lower()}",
        }


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    name: str
    expr: str
    text: str

    def rendered(self) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        return {"record": self.name, "expr": self.expr}


def rule_file(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return a rule file with these groups."""
    return to_yaml({"groups": [{"name": name, "rules": list(rules)} for name, rules in groups.items()]})


def to_yaml(tree: Any) -> str:  # noqa: ANN401
    """Return a generated YAML file, keys in the order in which they were written."""
    return HEAD + yaml.safe_dump(tree, sort_keys=False, width=110, allow_unicode=True)

"""Dashboard 2: what do the operators get to see, and is it an amount that a person can handle?"""

from __future__ import annotations

from tools.dashboards.parts import RED, THIRD, YELLOW, Board, Query, Row, lines, number, rows
from tools.dashboards.promql import or_zero, quantile, rate

RAISED = "streamproc:alerts_raised:sum"
FIRING = 'ALERTS{alertname=~"Streamproc.*", alertstate="firing"}'


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "streamproc-alerts",
        "streamproc / 2 Alerts",
        "Grid alerts by kind, priority and state, and the rate at which they reach a desk (ISA-18.2, EEMUA 191). The "
        "alerts themselves, with place and time, stand in the topic grid.alerts.v1.",
        (_glance(), _course(), _made_of()),
    )


def _glance() -> Row:
    return Row(
        "At a glance",
        (
            number(
                "Active alerts",
                "Alerts that are not back to normal and acknowledged.",
                or_zero("sum(streamproc_active_alerts)"),
                steps=((10, YELLOW), (50, RED)),
                width=6,
            ),
            number(
                "Raised in 10 min",
                "One person can handle about one alert in ten minutes; more than ten is a flood (ISA-18.2).",
                f"sum(increase({RAISED}[10m]))",
                steps=((2, YELLOW), (10, RED)),
                width=6,
            ),
            number(
                "Time to decide, p99",
                "Conditions and grouping of one batch of findings into alerts.",
                quantile(0.99, "decide"),
                "s",
                width=6,
            ),
            number(
                "Rules of the service that fire",
                "Prometheus rules about the service itself (not about the grid); the runbook is docs/RUNBOOK.md.",
                or_zero(f"count({FIRING})"),
                steps=((1, YELLOW),),
                width=6,
            ),
        ),
    )


def _course() -> Row:
    return Row(
        "Course",
        (
            lines(
                "Active, by position",
                "Alerts that are not normal at each operator position.",
                [Query("sum by (position) (streamproc_active_alerts)", "{{position}}")],
            ),
            lines(
                "Raised in 10 min",
                "Alerts raised in the ten minutes before. The red line is a flood.",
                [Query(f"sum(increase({RAISED}[10m]))", "raised")],
                limit=10,
            ),
            lines(
                "By kind, since the workers' start",
                "Alerts raised by kind. One kind that leads by far is a limit to look at, or a sick instrument.",
                [Query("sum by (kind) (streamproc_alerts_total)", "{{kind}}")],
                width=THIRD,
            ),
            lines(
                "Share by priority",
                "EEMUA 191 advises about 5 % at the highest, 15 % at the middle and 80 % at the lowest priority.",
                [
                    Query(
                        "sum by (priority) (streamproc_alerts_total) / on () group_left () "
                        "sum(streamproc_alerts_total)",
                        "priority {{priority}}",
                    )
                ],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Transitions, by state",
                "Copies of alerts by the state after: UNACK (active), ACKED, RTNUN (back to normal, not yet "
                "acknowledged), NORM. Many RTNUN and few ACKED: alerts that come and go unseen.",
                [Query("sum by (state) (streamproc_alert_transitions_total)", "{{state}}")],
                width=THIRD,
            ),
        ),
    )


def _made_of() -> Row:
    return Row(
        "What alerts are made of",
        (
            lines(
                "Findings per second, by area",
                "Edges of single rules before grouping. Findings without alerts are watermarks and updates.",
                [Query(rate("streamproc_findings_total", "area"), "{{area}}")],
                "cps",
            ),
            rows(
                "Kinds and priorities",
                "Alerts raised since the workers' start.",
                "sum by (kind, priority) (streamproc_alerts_total)",
            ),
        ),
    )

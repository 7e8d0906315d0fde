"""One rule for every family of series that the service exports, made from its own registry.

Four families are there as soon as a worker is: they must never be absent. All others come with what they count
(a worker without SCADA points has no forecasts): they are missed when they were there within six hours.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.shell.metrics import Metrics
from tools.dashboards.rule_parts import Alert, Silent, Speaks

NAME = "StreamprocSeriesAbsent"
ALWAYS = (
    "streamproc_build_info",
    "streamproc_stage_duration_seconds_count",
    "streamproc_assigned_partitions",
    "streamproc_consumer_lag_records",
)


def families() -> list[str]:
    """Return the sample name of every family of the service, as Prometheus stores it."""
    suffix = {"counter": "_total", "histogram": "_count"}
    found = (f.name + suffix.get(f.type, "") for f in Metrics().registry.collect())
    return sorted(name for name in found if name.startswith("streamproc_"))


def expression(family: str) -> str:
    """Return when a family is missed."""
    if family in ALWAYS:
        return f"absent({family})"
    return f"absent({family}) unless absent_over_time({family}[6h])"


def alerts() -> Iterator[Alert]:
    """Yield one rule per family; they share a name and a section of the runbook."""
    for family in families():
        others = {name: "1x60" for name in ALWAYS if name != family}
        gone = {} if family in ALWAYS else {family: "1x10 stale"}
        yield Alert(
            NAME,
            expression(family),
            "10m",
            "warning",
            f"The series {family} is gone",
            f"No worker exports {family} any more. Panels and rules that use it are blind.",
            "Workers were replaced by a version that names it otherwise, relabelling drops it, or what it counts (an "
            "area, a stage) no longer exists. With StreamprocDown or StreamprocNotScraped this one is only a "
            "consequence, and Alertmanager holds it back.",
            (
                "`curl http://HOST:9108/metrics | grep NAME`: there? Then look at the scrape configuration.",
                "Not there: was the configuration changed on purpose? Silence it; after six hours it ends by itself.",
                "After an upgrade: take the rules and dashboards of the same version.",
            ),
            Speaks({**others, **gone}, "40m", {"family": family}),
            Silent({**dict.fromkeys(ALWAYS, "1x60"), family: "1x60"}, "40m"),
            labels={"family": family},
        )

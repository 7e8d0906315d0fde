"""The expressions that come back in panels and rules, so that both say the same thing in the same way."""

from __future__ import annotations

STAGE = "streamproc_stage_duration_seconds"
JOB = 'job="streamproc"'
WINDOW = "$__rate_interval"  # of a panel; Grafana makes it at least four scrapes long


def rate(name: str, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """Return the increase per second of a counter, summed by a label (or in all)."""
    return f"{total(by)}(rate({name}{selector(where)}[{window}]))"


def quantile(q: float, stage: str = "", by: str = "", window: str = WINDOW) -> str:
    """Return a quantile of the durations of a stage (or by label)."""
    where = f'{{stage="{stage}"}}' if stage else ""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({q:g}, sum by ({labels}) (rate({STAGE}_bucket{where}[{window}])))"


def or_zero(expr: str) -> str:
    """Return 0 where an expression has nothing: for what exists only after a fault."""
    return f"{expr} or vector(0)"


def total(by: str) -> str:
    """Return the aggregation by labels ("" for all)."""
    return f"sum by ({by}) " if by else "sum"


def selector(where: str) -> str:
    """Return a label selector, or nothing."""
    return f"{{{where}}}" if where else ""

"""Recording rules, and the burn rates of the two objectives.

A counter with a label is born with its first increment, and Prometheus sees no increase in a birth: the first
dead letter would be invisible. The `:sum` rules give such counters a zero for every worker that is there.

Objectives over 30 days: 99 % of the results stand in Kafka within 0.1 s of their measurement; 99.9 % of the
records are evaluated (not dead-lettered, not deleted unread). An alert needs two windows: the long one says
that it matters, the short one that it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.dashboards.promql import STAGE
from tools.dashboards.rule_parts import Alert, Record, Severity, Silent, Speaks

WINDOWS = ("5m", "30m", "1h", "6h")
LATENCY_BUDGET, LOSS_BUDGET = 0.01, 0.001
LATENCY, LOST = "streamproc:latency_slow:ratio_rate", "streamproc:records_lost:ratio_rate"

# Counter -> recorded sum by worker that begins at zero.
ZERO_BASED: Mapping[str, str] = {
    "streamproc_alerts_total": "streamproc:alerts_raised:sum",
    "streamproc_dead_letters_total": "streamproc:dead_letters:sum",
    "streamproc_rejected_total": "streamproc:rejected:sum",
    "streamproc_batch_retries_total": "streamproc:batch_retries:sum",
    "streamproc_input_gaps_total": "streamproc:input_gaps:sum",
    "streamproc_foreign_states_total": "streamproc:foreign_states:sum",
}
# Counter of PMU frames -> share of the frames that were expected, by area.
SHARES: Mapping[str, str] = {
    "streamproc_missing_frames_total": "streamproc:missing_frames:ratio_rate5m",
    "streamproc_late_frames_total": "streamproc:late_frames:ratio_rate5m",
    "streamproc_duplicate_frames_total": "streamproc:duplicate_frames:ratio_rate5m",
    "streamproc_bad_frames_total": "streamproc:bad_frames:ratio_rate5m",
    "streamproc_frozen_frames_total": "streamproc:frozen_frames:ratio_rate5m",
}
EXPECTED = "streamproc:pmu_frames_expected:rate5m"


def records() -> Iterator[Record]:
    """Yield the recording rules in the order in which they build on each other."""
    for counter, name in ZERO_BASED.items():
        by = "sum by (job, instance)"
        yield Record(
            name,
            f"{by} ({counter}) or {by} (streamproc_build_info) * 0",
            f"`{counter}` by worker, 0 before the first.",
        )
    yield Record(
        EXPECTED,
        "sum by (area) (rate(streamproc_instants_total[5m])) * on (area) max by (area) (streamproc_pmus)",
        "PMU frames per second that an area should send: instants x PMUs.",
    )
    for counter, name in SHARES.items():
        yield Record(
            name,
            f"sum by (area) (rate({counter}[5m])) / on (area) {EXPECTED}",
            f"`{counter}` as a share of the PMU frames expected.",
        )
    for window in WINDOWS:
        yield Record(LATENCY + window, _slow(window), f"Share of results later than 0.1 s, in {window}.")
    for window in WINDOWS:
        yield Record(LOST + window, _lost(window), f"Share of records not evaluated, in {window}.")


def _slow(window: str) -> str:
    end = 'stage="end_to_end"'
    return f'1 - sum(rate({STAGE}_bucket{{{end},le="0.1"}}[{window}])) / sum(rate({STAGE}_count{{{end}}}[{window}]))'


def _lost(window: str) -> str:
    gaps = f"sum(rate({ZERO_BASED['streamproc_input_gaps_total']}[{window}]))"
    dead = f"sum(rate({ZERO_BASED['streamproc_dead_letters_total']}[{window}]))"
    return f"({dead} + {gaps}) / (sum(rate(streamproc_records_total[{window}])) + {gaps})"


def burning(ratio: str, budget: float, factor: float, long: str, short: str) -> str:
    """Return whether a budget burns at `factor` times what is allowed, in both windows."""
    limit = f"{factor * budget:g}"
    return f"{ratio}{long} > {limit} and {ratio}{short} > {limit}"


def alerts() -> Iterator[Alert]:
    """Yield the burn-rate alerts: a fast one that wakes somebody, a slow one for the working day."""
    yield _latency("Fast", 14.4, "1h", "5m", "critical", slow=(20, "20%"), steady=10)
    yield _latency("Slow", 6.0, "6h", "30m", "warning", slow=(10, "10%"), steady=5)
    yield _loss("Fast", 14.4, "1h", "5m", "critical", lost=(2, "2%"), steady=1)
    yield _loss("Slow", 6.0, "6h", "30m", "warning", lost=(1, "1%"), steady=0)


def _latency(
    name: str, factor: float, long: str, short: str, severity: Severity, *, slow: tuple[int, str], steady: int
) -> Alert:
    return Alert(
        f"StreamprocLatencyBudget{name}",
        burning(LATENCY, LATENCY_BUDGET, factor, long, short),
        "2m",
        severity,
        "Too many results are later than 0.1 s",
        f"{{{{ $value | humanizePercentage }}}} of the results of {long} stood in Kafka later than 0.1 s after "
        f"their measurement: {factor:g} times what the objective (99 %) allows, and it goes on.",
        "Alerts and advice reach the operators late. At this pace the month's budget is gone "
        f"{'in two days' if factor > 10 else 'in five days'}.",
        (
            "Dashboard 1, `p99 by stage`: the stage that grew is where to look.",
            "`broker_to_worker` or lag grew: the worker does not keep up, or was stopped. After a stop it catches "
            "up by itself; if lag grows on, add a worker (partitions permitting).",
            "`align_wait` grew: a PMU or PDC is slow. Dashboard 4, `Slowest PMU`.",
            "`publish` or `snapshot` grew: the broker is slow; look at its disks and at under-replicated partitions.",
            "`score` or `forecast` grew: a new model, or a processor that is shared.",
        ),
        Speaks(_results(slow[0]), "7h", value=slow[1]),
        Silent(_results(steady), "7h"),
    )


def _loss(
    name: str, factor: float, long: str, short: str, severity: Severity, *, lost: tuple[int, str], steady: int
) -> Alert:
    return Alert(
        f"StreamprocLossBudget{name}",
        burning(LOST, LOSS_BUDGET, factor, long, short),
        "2m",
        severity,
        "Too many records are not evaluated",
        f"{{{{ $value | humanizePercentage }}}} of the records of {long} went to a dead-letter topic or were "
        f"deleted unread: {factor:g} times what the objective (99.9 %) allows, and it goes on.",
        "Part of the grid is not watched. What was dead-lettered is kept with its reason; what was deleted is gone.",
        (
            "Dashboard 4, `Dead letters, by reason`; then `streamproc dlq ls` and `streamproc dlq show` give the records.",
            "`unknown_configuration`: the configuration frames of a stream are missing; ask the sender for one.",
            "`wrong_schema`, `missing_key`, `wrong_type`: a producer was changed; see `streamproc schema show`.",
            "`bad_crc`: a link damages frames.",
            "`input_gaps` instead: see StreamprocInputLost.",
        ),
        Speaks(_records(lost[0]), "7h", value=lost[1]),
        Silent(_records(steady), "7h"),
    )


def _results(slow_percent: int) -> dict[str, str]:
    end = 'stage="end_to_end"'
    return {
        f'{STAGE}_bucket{{{end},le="0.1"}}': f"0+{100 - slow_percent}x420",
        f"{STAGE}_count{{{end}}}": "0+100x420",
    }


def _records(lost_percent: int) -> dict[str, str]:
    return {
        'streamproc_build_info{job="streamproc",instance="a"}': "1x420",
        'streamproc_records_total{topic="t"}': "0+100x420",
        'streamproc_dead_letters_total{job="streamproc",instance="a",reason="bad_crc"}': f"0+{lost_percent}x420",
    }

"""Dashboard 1: does it keep up, and how long does a measurement take from end to end?"""

from __future__ import annotations

from tools.dashboards.parts import FULL, RED, THIRD, YELLOW, Board, Query, Row, lines, number
from tools.dashboards.promql import JOB, STAGE, WINDOW, or_zero, quantile, rate

SLOW = "streamproc:latency_slow:ratio_rate"
LOST = "streamproc:records_lost:ratio_rate"
END_TO_END = 'stage="end_to_end"'
WITHIN = f'{END_TO_END}, le="0.1"'


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "streamproc-pipeline",
        "streamproc / 1 Pipeline and latency",
        "Rates, latency of each stage, lag, budgets and resources of all workers.",
        (_glance(), _latency(), _throughput(), _broker(), _recovery(), _budgets(), _process()),
    )


def _glance() -> Row:
    return Row(
        "At a glance",
        (
            number("Workers up", "Workers that Prometheus can reach.", f"sum(up{{{JOB}}})"),
            number(
                "PMU frames in", "C37.118 data frames accepted per second.", rate("streamproc_frames_total")
            ),
            number("Records in", "Kafka records taken in per second.", rate("streamproc_records_total")),
            number(
                "End to end, p99",
                "99 of 100 results stood in Kafka within this time of their measurement. Target: below 0.1 s.",
                quantile(0.99, "end_to_end"),
                "s",
                steps=((0.1, YELLOW), (0.25, RED)),
            ),
            number(
                "Lag",
                "Records between the positions of all workers and the ends of their partitions.",
                "sum(streamproc_consumer_lag_records)",
                steps=((2_000, YELLOW), (20_000, RED)),
            ),
            number(
                "Dead letters",
                "Records that could not be evaluated and stand in a dead-letter topic, since the workers' start.",
                or_zero("sum(streamproc_dead_letters_total)"),
                steps=((1, YELLOW),),
            ),
        ),
    )


def _latency() -> Row:
    return Row(
        "Latency",
        (
            lines(
                "End to end",
                "From the time of a measurement to the acknowledgement of what it caused. The red line is the "
                "target for p99. A catch-up after a stop, or history that is replayed, shows here as what it is: late.",
                [Query(quantile(q, "end_to_end"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                "s",
                limit=0.1,
            ),
            lines(
                "p99 by stage",
                "Where the time goes. `align_wait` is event time (an instant waits for its last frame); "
                "`broker_to_worker` needs clocks that agree.",
                [Query(quantile(0.99, by="stage"), "{{stage}}")],
                "s",
            ),
            lines(
                "Share within 0.1 s",
                "Share of the results that were there within 0.1 s of their measurement; the objective is 99 %.",
                [
                    Query(
                        f"{rate(f'{STAGE}_bucket', where=WITHIN)} / {rate(f'{STAGE}_count', where=END_TO_END)}",
                        "within 0.1 s",
                    )
                ],
                "percentunit",
            ),
            lines(
                "Busy time by stage",
                "Seconds of work per second in each computing stage, all workers. One worker is one thread: a "
                "sum near the number of workers is saturation.",
                [
                    Query(
                        rate(
                            f"{STAGE}_sum",
                            "stage",
                            'stage=~"decode|window|score|decide|scada|forecast|advise"',
                        ),
                        "{{stage}}",
                    )
                ],
                "percentunit",
                stacked=True,
            ),
        ),
    )


def _throughput() -> Row:
    return Row(
        "Throughput",
        (
            lines(
                "Records in, by topic",
                "Records taken in per second.",
                [Query(rate("streamproc_records_total", "topic"), "{{topic}}")],
                "cps",
                width=THIRD,
            ),
            lines(
                "Records out, by topic",
                "Records sent and acknowledged per second.",
                [Query(rate("streamproc_outputs_total", "topic"), "{{topic}}")],
                "cps",
                width=THIRD,
            ),
            lines(
                "Records per batch, by stage",
                "Mean size of a batch. It grows with the load: that is how the service keeps up.",
                [
                    Query(
                        f"{rate('streamproc_records_total')} / {rate('streamproc_batches_total')}",
                        "all stages",
                    ),
                    Query(rate("streamproc_batches_total", "stage"), "{{stage}}, batches/s"),
                ],
                width=THIRD,
            ),
        ),
    )


def _broker() -> Row:
    return Row(
        "Broker",
        (
            lines(
                "Lag by topic",
                "Records that wait. It may jump during a rebalance; it must not grow.",
                [Query("sum by (topic) (streamproc_consumer_lag_records)", "{{topic}}")],
                width=THIRD,
            ),
            lines(
                "Partitions held, by stage",
                "The sum over all workers must be the number of partitions of the topic.",
                [Query("sum by (stage) (streamproc_assigned_partitions)", "{{stage}}")],
                width=THIRD,
            ),
            lines(
                "Commits and snapshots",
                "Offsets are committed only after what they caused and the state blob are acknowledged.",
                [
                    Query(rate("streamproc_commits_total", "stage"), "{{stage}}, commits/s"),
                    Query(quantile(0.99, "snapshot"), "snapshot p99, s"),
                ],
                width=THIRD,
            ),
        ),
    )


def _recovery() -> Row:
    return Row(
        "Recovery and state",
        (
            lines(
                "Rebalances and retries",
                "Assignments taken up and batches tried again, per minute. Both are zero on a quiet day.",
                [
                    Query(f"60 * {rate('streamproc_rebalances_total')}", "rebalances/min"),
                    Query(
                        or_zero(f"60 * {rate('streamproc_batch_retries_total', 'stage')}"),
                        "{{stage}} retries/min",
                    ),
                ],
                width=THIRD,
            ),
            lines(
                "Re-read and lost",
                "Records re-read to refill windows after a restart, state blobs that could not be read, and input "
                "that the broker had deleted before it was read. The last two mean loss.",
                [
                    Query(or_zero("sum(streamproc_warmed_records_total)"), "re-read"),
                    Query(or_zero("sum(streamproc_foreign_states_total)"), "unreadable states"),
                    Query(or_zero("sum(streamproc_input_gaps_total)"), "input lost"),
                ],
                width=THIRD,
            ),
            lines(
                "State blobs",
                "Size of the last state blob by stage; it must level off.",
                [Query("max by (stage) (streamproc_state_bytes)", "{{stage}}")],
                "bytes",
                width=THIRD,
            ),
        ),
    )


def _budgets() -> Row:
    return Row(
        "Error budgets",
        (
            lines(
                "Burn rate, latency",
                "How many times faster than allowed the budget is spent (1 % of the results later than 0.1 s, over "
                "30 days). The rules fire at 14.4 in 5 min and 1 h, and at 6 in 30 min and 6 h.",
                [Query(f"{SLOW}{window} / 0.01", window) for window in ("5m", "30m", "1h", "6h")],
                limit=14.4,
            ),
            lines(
                "Burn rate, lost records",
                "The same for records that went to a dead-letter topic or were deleted unread: 0.1 % are allowed.",
                [Query(f"{LOST}{window} / 0.001", window) for window in ("5m", "30m", "1h", "6h")],
                limit=14.4,
            ),
        ),
    )


def _process() -> Row:
    return Row(
        "Process",
        (
            lines(
                "Processor",
                "Cores used by each worker.",
                [Query(f"rate(process_cpu_seconds_total{{{JOB}}}[{WINDOW}])", "{{instance}}")],
                width=THIRD,
            ),
            lines(
                "Memory",
                "Resident memory of each worker.",
                [Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")],
                "bytes",
                width=THIRD,
            ),
            lines(
                "Versions",
                "Workers by version of the code; two lines at a time are a rollout.",
                [Query("count by (version, python) (streamproc_build_info)", "{{version}} on {{python}}")],
                width=FULL - 2 * THIRD,
            ),
        ),
    )

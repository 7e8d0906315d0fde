"""Alerts about the workers: are they there, do they move, do they keep what they were given?"""

from __future__ import annotations

from collections.abc import Iterator

from tools.dashboards.promql import JOB
from tools.dashboards.rule_parts import Alert, Silent, Speaks

WORKER = 'job="streamproc",instance="a"'
ON = "on {{ $labels.instance }}"


def alerts() -> Iterator[Alert]:
    """Yield them, most urgent first."""
    yield from (_down(), _not_scraped(), _restarts(), _file_descriptors())
    yield from (_stalled(), _lag_high(), _commits_stopped())
    yield from (_unassigned(), _rebalancing(), _retries())
    yield from _kept()


def _down() -> Alert:
    return Alert(
        "StreamprocDown",
        f"up{{{JOB}}} == 0",
        "1m",
        "critical",
        "Worker {{ $labels.instance }} does not answer",
        "Prometheus could not read /metrics of {{ $labels.instance }} for a minute. If it was the only worker, no "
        "measurement is evaluated.",
        "The worker is dead, hangs, or cannot be reached. Others take over its partitions within `session_timeout_ms` "
        "plus the rebalance; with none, evaluation stands still and resumes from the last commit.",
        (
            "`systemctl status streamproc` or `kubectl get pods`; the last lines of its log name the reason in words.",
            "`streamproc check -c site.toml` on the same machine: configuration, broker, models.",
            "It runs but does not answer: `curl http://HOST:9108/livez`. If that hangs too, restart it: nothing is lost.",
        ),
        Speaks({f"up{{{WORKER}}}": "1 1 0x10"}, "5m", {"job": "streamproc", "instance": "a"}),
        Silent({f"up{{{WORKER}}}": "1 0 1x10"}, "5m"),
    )


def _not_scraped() -> Alert:
    return Alert(
        "StreamprocNotScraped",
        f"absent(up{{{JOB}}})",
        "5m",
        "critical",
        "Prometheus knows no worker",
        "There is no target of the job streamproc. No other rule of this service can fire.",
        "The scrape configuration or the service discovery lost the workers; whether they run is unknown.",
        (
            "Prometheus, Status > Targets: is there a job `streamproc`?",
            "Compare with deploy/prometheus/prometheus.yml; the rules want exactly this job name.",
        ),
        Speaks({}, "10m", {"job": "streamproc"}),
        Silent({f"up{{{WORKER}}}": "0x20"}, "10m"),
    )


def _restarts() -> Alert:
    return Alert(
        "StreamprocRestarts",
        f"changes(process_start_time_seconds{{{JOB}}}[15m]) > 2",
        "0m",
        "warning",
        f"A worker restarts again and again {ON}",
        "{{ $labels.instance }} was started {{ $value | humanize }} times in 15 minutes.",
        "Each start costs a rebalance and a warm-up; alerts come late, none is lost.",
        (
            "The last lines of the log before each start: the exit reason is one line.",
            "Killed from outside (memory limit, liveness probe)? `dmesg`, `kubectl describe pod`.",
        ),
        Speaks(
            {f"process_start_time_seconds{{{WORKER}}}": "1x2 2x2 3x2 4x9"},
            "12m",
            {"job": "streamproc", "instance": "a"},
            "3",
        ),
        Silent({f"process_start_time_seconds{{{WORKER}}}": "1x5 2x9"}, "12m"),
    )


def _file_descriptors() -> Alert:
    return Alert(
        "StreamprocFileDescriptors",
        f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}} > 0.8",
        "5m",
        "warning",
        f"File descriptors run out {ON}",
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the file descriptors that it may open.",
        "At the limit it can no longer connect to the broker, and ends.",
        (
            "Raise `LimitNOFILE` (systemd) or the ulimit of the container, restart, and report what held them: `lsof -p`.",
        ),
        Speaks(
            {f"process_open_fds{{{WORKER}}}": "90x20", f"process_max_fds{{{WORKER}}}": "100x20"},
            "10m",
            {"job": "streamproc", "instance": "a"},
            "90%",
        ),
        Silent({f"process_open_fds{{{WORKER}}}": "70x20", f"process_max_fds{{{WORKER}}}": "100x20"}, "10m"),
    )


def _stalled() -> Alert:
    lag = 'streamproc_consumer_lag_records{instance="a",topic="t",partition="0"}'
    return Alert(
        "StreamprocStalled",
        "sum by (instance) (streamproc_consumer_lag_records) > 0 "
        "unless sum by (instance) (rate(streamproc_batches_total[2m])) > 0",
        "2m",
        "critical",
        f"There is input, but nothing is evaluated {ON}",
        "{{ $value | humanize }} records wait for {{ $labels.instance }}, which has finished no batch for minutes.",
        "It hangs, or tries the same batch again and again. Liveness (`/livez`) should end it after `stall_timeout_ms`.",
        (
            "Dashboard 1, `Rebalances and retries`: retries mean that a broker or an output topic refuses.",
            "Its log: `batch failed` names topic, partition, offset and reason.",
            "Nothing there: restart the worker; it resumes at the last commit.",
        ),
        Speaks(
            {lag: "0+50x20", 'streamproc_batches_total{instance="a",stage="score"}': "7x20"},
            "10m",
            {"instance": "a"},
            "500",
        ),
        Silent({lag: "500x20", 'streamproc_batches_total{instance="a",stage="score"}': "0+1x20"}, "10m"),
    )


def _lag_high() -> Alert:
    return Alert(
        "StreamprocLagHigh",
        "sum by (topic) (streamproc_consumer_lag_records) > 20000",
        "5m",
        "warning",
        "Records of {{ $labels.topic }} wait",
        "{{ $value | humanize }} records of {{ $labels.topic }} have been waiting for five minutes.",
        "Evaluation is behind by what waits divided by `PMU frames in`. After a stop this is normal while it falls.",
        (
            "Dashboard 1, `Lag by topic`: does it fall? Then wait.",
            "`Busy time by stage` near the number of workers: saturated; add a worker, at most one per partition.",
            "Not busy: the broker or the network is slow; look at `broker_to_worker` and `publish`.",
        ),
        Speaks(
            {'streamproc_consumer_lag_records{topic="t",partition="0"}': "30000x20"},
            "10m",
            {"topic": "t"},
            "30k",
        ),
        Silent({'streamproc_consumer_lag_records{topic="t",partition="0"}': "30000x3 100x20"}, "10m"),
    )


def _commits_stopped() -> Alert:
    return Alert(
        "StreamprocCommitsStopped",
        "sum by (stage) (rate(streamproc_batches_total[5m])) > 0 "
        "unless sum by (stage) (rate(streamproc_commits_total[5m])) > 0",
        "5m",
        "warning",
        "Stage {{ $labels.stage }} works but commits nothing",
        "Stage {{ $labels.stage }} finishes {{ $value | humanize }} batches per second, and no offset was committed for "
        "minutes.",
        "Nothing is lost, but a restart would evaluate all of it again.",
        (
            "The log of the workers: a refused snapshot (size, permission on the state topic) stops commits.",
            "`streamproc topics plan -c site.toml`: is the state topic there, compacted, and may it be written?",
        ),
        Speaks(
            {
                'streamproc_batches_total{stage="score"}': "0+60x20",
                'streamproc_commits_total{stage="score"}': "5x20",
            },
            "15m",
            {"stage": "score"},
            "1",
        ),
        Silent(
            {
                'streamproc_batches_total{stage="score"}': "0+60x20",
                'streamproc_commits_total{stage="score"}': "0+1x20",
            },
            "15m",
        ),
    )


def _unassigned() -> Alert:
    return Alert(
        "StreamprocUnassigned",
        "sum by (stage) (streamproc_assigned_partitions) == 0",
        "2m",
        "critical",
        "No worker holds a partition of stage {{ $labels.stage }}",
        "For two minutes no worker has held any partition of the input of stage {{ $labels.stage }}.",
        "This stage stands still. The worker is alive but not a member of its group.",
        (
            "`streamproc check -c site.toml`: topics and permissions (the group needs READ).",
            "Dashboard 1, `Rebalances and retries`: a member that comes and goes has too short a `session_timeout_ms`.",
        ),
        Speaks({'streamproc_assigned_partitions{stage="score"}': "4 0x20"}, "5m", {"stage": "score"}),
        Silent({'streamproc_assigned_partitions{stage="score"}': "4 0 4x20"}, "5m"),
    )


def _rebalancing() -> Alert:
    return Alert(
        "StreamprocRebalancing",
        "sum by (stage) (increase(streamproc_rebalances_total[15m])) > 6",
        "0m",
        "warning",
        "Stage {{ $labels.stage }} is redistributed again and again",
        "Partitions of stage {{ $labels.stage }} were taken up {{ $value | humanize }} times in 15 minutes.",
        "Each time windows are refilled, and results of that time come late.",
        (
            "A rollout or a scaler at work? Then wait for its end.",
            "Otherwise a worker misses its heartbeats: processor, network, or `session_timeout_ms`.",
        ),
        Speaks({'streamproc_rebalances_total{stage="score"}': "0+1x20"}, "15m", {"stage": "score"}, "15"),
        Silent({'streamproc_rebalances_total{stage="score"}': "0x5 2x20"}, "15m"),
    )


def _retries() -> Alert:
    return Alert(
        "StreamprocRetries",
        "increase(streamproc:batch_retries:sum[5m]) > 0",
        "5m",
        "warning",
        f"Batches are tried again {ON}",
        "{{ $labels.instance }} has been failing and repeating batches for minutes.",
        "Outputs are not acknowledged, or a stage fails on its input. Nothing is committed meanwhile.",
        (
            "The log, `batch failed`: the reason is in the line.",
            "The broker refuses: `min.insync.replicas`, disk full, permission on an output topic.",
        ),
        Speaks(
            {
                f"streamproc_build_info{{{WORKER}}}": "1x20",
                f'streamproc_batch_retries_total{{{WORKER},stage="score"}}': "0+1x20",
            },
            "15m",
            {"job": "streamproc", "instance": "a"},
        ),
        Silent({f"streamproc_build_info{{{WORKER}}}": "1x20"}, "15m"),
    )


def _kept() -> Iterator[Alert]:
    build = f"streamproc_build_info{{{WORKER}}}"
    labels = {"job": "streamproc", "instance": "a"}
    yield Alert(
        "StreamprocInputLost",
        "increase(streamproc:input_gaps:sum[15m]) > 0",
        "0m",
        "critical",
        f"Input was deleted before it was read {ON}",
        "The broker had deleted records before {{ $labels.instance }} could read them; the log says which.",
        "The one loss that the service cannot make good: retention was shorter than the time it was behind.",
        (
            "The log, `input records were deleted before they were read`: topic, partition, offset and number.",
            "`streamproc topics plan -c site.toml`: retention of the input topics against the longest stop you allow.",
        ),
        # Born at 40: the first loss is seen although its series has no past.
        Speaks(
            {build: "1x20", f'streamproc_input_gaps_total{{{WORKER},topic="t"}}': "_x5 40x15"}, "10m", labels
        ),
        Silent({build: "1x20", f'streamproc_input_gaps_total{{{WORKER},topic="t"}}': "40x20"}, "16m"),
    )
    yield Alert(
        "StreamprocStateUnreadable",
        "increase(streamproc:foreign_states:sum[1h]) > 0",
        "0m",
        "warning",
        f"A state could not be read {ON}",
        "{{ $labels.instance }} began a partition anew, because its state blob was of another version or damaged.",
        "Windows refill by re-reading; open alerts of that partition may be raised again under the same id.",
        (
            "After an upgrade or a downgrade: expected once per partition; see the release notes.",
            "Otherwise something else writes to the state topics: check their permissions.",
        ),
        Speaks(
            {build: "1x20", f'streamproc_foreign_states_total{{{WORKER},stage="score"}}': "_x5 1x15"},
            "10m",
            labels,
        ),
        Silent({build: "1x20", f'streamproc_foreign_states_total{{{WORKER},stage="score"}}': "1x20"}, "16m"),
    )

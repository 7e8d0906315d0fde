"""Every series of /metrics: its name, its labels and what it says. The dashboards and rules are made from this list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Stage label -> what is measured. The first and the last are differences of time stamps, `align_wait` is
# event time, all others are durations in this process.
STAGES: Mapping[str, str] = {
    "broker_to_worker": "record time stamp to its arrival in the worker",
    "decode": "bytes to arrays, one batch",
    "align_wait": "event time an instant waited for its frames",
    "window": "features and windows, one batch",
    "score": "model calls, one batch",
    "decide": "conditions, alerts, one batch",
    "scada": "SCADA records to points and limits, one batch",
    "forecast": "forecast model calls, one batch",
    "ahead": "48-hour forecasts, one batch",
    "annunciate": "cards for desks, one batch",
    "advise": "advice and its solver, one batch",
    "publish": "send to acknowledgement of all outputs of a batch",
    "snapshot": "state blob packed, sent and acknowledged",
    "end_to_end": "time of the measurement to acknowledgement of what it caused",
}


class Series(NamedTuple):
    """Name without prefix and suffix, label names ("a/b" of a word fills two), help text."""

    name: str
    labels: tuple[str, ...]
    text: str


COUNTERS: Mapping[str, Series] = {
    "frames": Series("frames", ("area",), "C37.118 data frames accepted."),
    "instants": Series("instants", ("area",), "Instants of the reporting grid that were closed and scored."),
    "records": Series("records", ("topic",), "Kafka records taken in."),
    "rejected": Series("rejected", ("reason",), "Frames, points and records that could not be evaluated."),
    "config_rejected": Series(
        "config_rejected", ("reason",), "Records of grid.pmu.config.v1 not learnt, once per partition held."
    ),
    "exogenous_rejected": Series(
        "exogenous_rejected", ("reason",), "Records of grid.exogenous.v1 not learnt, once per partition held."
    ),
    "late": Series("late_frames", ("area",), "Frames of an instant that was already closed."),
    "duplicates": Series("duplicate_frames", ("area",), "Frames of a PMU and time that were already there."),
    "wrong_clock": Series(
        "wrong_clock_frames", ("area",), "Frames far from the time of the area, not believed."
    ),
    "missing": Series("missing_frames", ("area",), "PMU frames absent when their instant was closed."),
    "bad": Series("bad_frames", ("area",), "PMU frames that came, but whose values may not be used."),
    "frozen": Series("frozen_frames", ("area",), "PMU frames whose values stand still."),
    "unsynchronised": Series(
        "unsynchronised_frames",
        ("area",),
        "PMU frames of a clock that is not locked, or too inexact for angles.",
    ),
    "pmu_unusable": Series(
        "pmu_unusable_frames", ("area", "pmu"), "Frames missing, bad or frozen, of the PMUs that had any."
    ),
    "findings": Series("findings", ("area",), "Findings published."),
    "alerts": Series("alerts", ("kind", "priority"), "Alerts raised."),
    "alert_transitions": Series(
        "alert_transitions", ("state",), "Transitions of alerts, by the state after."
    ),
    "operator_commands": Series(
        "operator_commands", ("action", "result"), "Commands of operators, by what became of them."
    ),
    "cards": Series("cards", ("position", "priority"), "Event cards made."),
    "annunciations": Series(
        "annunciations", ("position", "priority"), "Cards that asked for attention, anew or again."
    ),
    "acknowledgements": Series("acknowledgements", ("position",), "Alerts that somebody acknowledged."),
    "acknowledge_s": Series(
        "acknowledge_seconds", ("position",), "Time from raise to acknowledgement, summed."
    ),
    "forecasts": Series("forecasts", ("area",), "Forecasts published, one per series and issue time."),
    "regulation": Series("regulation_forecasts", ("area",), "Forecasts of the regulation need published."),
    "forecast_fallbacks": Series(
        "forecast_fallbacks", ("reason",), "Forecasts by persistence instead of the model."
    ),
    "recommendations": Series("recommendations", ("action",), "Setpoint recommendations published."),
    "recommendation_answers": Series(
        "recommendation_answers", ("action", "result"), "What operators answered to recommendations."
    ),
    "recommendation_outcomes": Series(
        "recommendation_outcomes",
        ("verdict",),
        "Effects of accepted recommendations against what was promised.",
    ),
    "dead_letters": Series("dead_letters", ("reason",), "Records written to a dead-letter topic."),
    "outputs": Series("outputs", ("topic",), "Records sent and acknowledged."),
    "batches": Series("batches", ("stage",), "Batches whose outputs are all acknowledged."),
    "batch_retries": Series("batch_retries", ("stage",), "Batches tried again after a failure."),
    "commits": Series("commits", ("stage",), "Offsets committed, by stage."),
    "rebalances": Series("rebalances", ("stage",), "Assignments of partitions taken up."),
    "gaps": Series("input_gaps", ("topic",), "Input records that were gone before they were read."),
    "warmed": Series("warmed_records", ("stage",), "Records re-read in silence to refill windows."),
    "foreign_states": Series("foreign_states", ("stage",), "State blobs that could not be read back."),
}

GAUGES: Mapping[str, Series] = {
    "active_alerts": Series("active_alerts", ("position",), "Alerts that are not NORM."),
    "annunciation_rate": Series(
        "annunciation_rate_10_min", ("position",), "Annunciations in the last ten minutes."
    ),
    "alarm_flood": Series(
        "alarm_flood", ("position",), "1 while more than 10, and until less than 5, come in ten minutes."
    ),
    "alarm_top_ten_ratio": Series(
        "alarm_top_ten_ratio", ("position",), "Share of a day's annunciations by the ten most frequent."
    ),
    "alerts_chattering": Series(
        "alerts_chattering", ("position",), "Conditions raised three times or more within a minute."
    ),
    "alerts_stale": Series("alerts_stale", ("position",), "Alerts active for more than 24 hours."),
    "alerts_in_state": Series("alerts_in_state", ("state",), "Alerts by their ISA-18.2 state."),
    "forecast_coverage_ratio": Series(
        "forecast_coverage_ratio", ("area",), "Share of measurements inside their P05..P95 band, recent."
    ),
    "ahead_coverage_ratio": Series(
        "forecast_ahead_coverage_ratio",
        ("area", "lead"),
        "Share of quarter-hour means inside the P05..P95 that was told this long before, recent.",
    ),
    "ahead_pinball": Series(
        "forecast_ahead_pinball", ("area", "lead"), "Mean pinball loss, in the units of the series, recent."
    ),
    "ahead_skill_persistence": Series(
        "forecast_ahead_skill_persistence",
        ("area", "lead"),
        "1 - error over that of the last value, recent; below 0 is worse.",
    ),
    "ahead_skill_seasonal": Series(
        "forecast_ahead_skill_seasonal",
        ("area", "lead"),
        "1 - error over that of the same time a day (over 24 hours: two) before, recent.",
    ),
    "forecast_benched_series": Series(
        "forecast_benched_series", ("area",), "Series whose 48-hour model errs more than its fallback."
    ),
    "regulation_coverage_ratio": Series(
        "regulation_coverage_ratio",
        ("area", "side"),
        "Share of the minima or maxima of 15 minutes' frequency inside the P05..P95 told before, recent.",
    ),
    "pmus": Series("pmus", ("area",), "PMUs seen in the configuration frames of an area."),
    "arrival_lag_max_s": Series(
        "arrival_lag_max_seconds", ("area",), "Worst mean lag of a PMU behind its area."
    ),
    "assigned_partitions": Series("assigned_partitions", ("stage",), "Partitions that this worker holds."),
    "state_bytes": Series("state_bytes", ("stage",), "Size of the last state blob."),
}

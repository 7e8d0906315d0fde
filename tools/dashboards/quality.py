"""Dashboard 4: can the measurements be believed? By area, and by PMU for those that had trouble."""

from __future__ import annotations

from tools.dashboards.parts import FULL, HALF, RED, THIRD, YELLOW, Board, Query, Row, lines, number, rows
from tools.dashboards.promql import WINDOW, or_zero, quantile, selector

AREA = 'area=~"$area"'
UNUSABLE = "streamproc_pmu_unusable_frames_total"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "streamproc-quality",
        "streamproc / 4 Data quality",
        "Availability, timeliness and correctness of the PMU and SCADA data of each area. A PMU has a series of its "
        "own only once it had trouble, so that three thousand good ones cost nothing.",
        (_glance(), _availability(), _pmus(), _timeliness(), _refused()),
        by_area=True,
    )


def per_s(name: str) -> str:
    """Return the rate of a counter by area."""
    return f"sum by (area) (rate({name}{selector(AREA)}[{WINDOW}]))"


def share(kind: str) -> str:
    """Return the recorded share of PMU frames that are missing, bad, late and so on, by area."""
    return f"streamproc:{kind}_frames:ratio_rate5m{selector(AREA)}"


def _glance() -> Row:
    return Row(
        "At a glance",
        (
            number(
                "PMUs",
                "PMUs in the configuration frames of the areas.",
                f"sum(streamproc_pmus{selector(AREA)})",
                width=6,
            ),
            number(
                "Oldest area",
                "Age of the newest measurement of the area that is furthest behind.",
                f"max(streamproc_event_time_age_seconds{selector(AREA)})",
                "s",
                steps=((5, YELLOW), (30, RED)),
                width=6,
            ),
            number(
                "Missing",
                "Share of the expected PMU frames that were not there in time, in the worst area (5 min).",
                f"max({share('missing')})",
                "percentunit",
                steps=((0.01, YELLOW), (0.05, RED)),
                width=6,
            ),
            number(
                "Refused",
                "Frames, points and records that could not be evaluated, since the workers' start.",
                or_zero("sum(streamproc_rejected_total)"),
                steps=((1, YELLOW),),
                width=6,
            ),
        ),
    )


def _availability() -> Row:
    return Row(
        "Availability",
        (
            lines(
                "Frames and instants",
                "C37.118 data frames accepted and instants of the reporting grid closed, per second.",
                [
                    Query(per_s("streamproc_frames_total"), "{{area}} frames"),
                    Query(per_s("streamproc_instants_total"), "{{area}} instants"),
                ],
                "cps",
                width=THIRD,
            ),
            lines(
                "Missing PMU frames",
                "Share of the expected frames (instants x PMUs) that were not there in time.",
                [Query(share("missing"), "{{area}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "PMUs",
                "A step down: a configuration frame with fewer PMUs.",
                [Query(f"max by (area) (streamproc_pmus{selector(AREA)})", "{{area}}")],
                width=THIRD,
            ),
        ),
    )


def _pmus() -> Row:
    worst = f"sum by (area, pmu) ({UNUSABLE}{selector(AREA)})"
    recent = f"sum by (area, pmu) (rate({UNUSABLE}{selector(AREA)}[{WINDOW}]))"
    return Row(
        "PMUs with trouble",
        (
            lines(
                "Unusable frames, by PMU",
                "Missing, bad or frozen frames per second of the ten worst PMUs. At the reporting rate nothing of it is "
                "used.",
                [Query(f"topk(10, {recent})", "{{area}} {{pmu}}")],
                "cps",
                width=THIRD,
            ),
            rows(
                "Worst PMUs",
                "Missing, bad or frozen frames since the workers' start, of the twenty worst PMUs.",
                f"sort_desc(topk(20, {worst}))",
                width=THIRD,
            ),
            lines(
                "Bad and frozen frames, by area",
                "Share of frames that came and could not be used: bad by their status word or values, frozen by "
                "standing still.",
                [Query(share("bad"), "{{area}} bad"), Query(share("frozen"), "{{area}} frozen")],
                "percentunit",
                width=THIRD,
            ),
        ),
    )


def _timeliness() -> Row:
    return Row(
        "Timeliness",
        (
            lines(
                "Age of the newest measurement",
                "It grows by a second per second while nothing comes.",
                [Query(f"max by (area) (streamproc_event_time_age_seconds{selector(AREA)})", "{{area}}")],
                "s",
                width=THIRD,
            ),
            lines(
                "Slowest PMU",
                "Worst mean lag of a PMU behind its area. At the `wait_ms` of the site file its frames are lost.",
                [Query(f"max by (area) (streamproc_arrival_lag_max_seconds{selector(AREA)})", "{{area}}")],
                "s",
                width=THIRD,
            ),
            lines(
                "Wait for the last frame, p99",
                "Event time that instants waited for their frames, all areas.",
                [Query(quantile(0.99, "align_wait"), "p99"), Query(quantile(0.5, "align_wait"), "p50")],
                "s",
                width=THIRD,
            ),
            lines(
                "Late frames",
                "Share of frames that came after their instant was closed; too late to be scored.",
                [Query(share("late"), "{{area}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Duplicate frames",
                "Share of frames that were there already. Half of all is a second path for the same stream.",
                [Query(share("duplicate"), "{{area}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Frames from the future",
                "Frames further ahead than `lead_ms`, held apart, per second: a clock without GPS.",
                [Query(per_s("streamproc_wrong_clock_frames_total"), "{{area}}")],
                "cps",
                width=THIRD,
            ),
        ),
    )


def _refused() -> Row:
    return Row(
        "Refused",
        (
            lines(
                "Refused, by reason",
                "Frames, points and records that could not be evaluated, since the workers' start.",
                [Query(or_zero("sum by (reason) (streamproc_rejected_total)"), "{{reason}}")],
            ),
            lines(
                "Dead letters, by reason",
                "Whole records in a dead-letter topic, since the workers' start: `streamproc dlq ls` lists them.",
                [Query(or_zero("sum by (reason) (streamproc_dead_letters_total)"), "{{reason}}")],
                width=FULL - HALF,
            ),
            rows(
                "Areas",
                "Age of the newest measurement, seconds, by area and worker.",
                f"streamproc_event_time_age_seconds{selector(AREA)}",
                unit="s",
                width=FULL,
            ),
        ),
    )

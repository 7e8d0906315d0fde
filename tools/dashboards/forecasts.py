"""Dashboard 3: are there forecasts, can they be believed, and what was advised?"""

from __future__ import annotations

from tools.dashboards.parts import RED, THIRD, YELLOW, Board, Query, Row, lines, number
from tools.dashboards.promql import or_zero, quantile, rate

MADE = "streamproc_forecasts_total"
FALLBACKS = "streamproc_forecast_fallbacks_total"
ADVICE = "streamproc_recommendations_total"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "streamproc-forecasts",
        "streamproc / 3 Forecasts and recommendations",
        "Forecasts per area, how often their band was right, and setpoint advice. The values stand in "
        "grid.forecasts.v1 and grid.setpoints.v1; no series here names a point.",
        (_glance(), _forecasts(), _ahead(), _intake(), _advice()),
    )


def _glance() -> Row:
    return Row(
        "At a glance",
        (
            number("Forecasts", "Forecasts published since the workers' start.", f"sum({MADE})", width=6),
            number(
                "Coverage",
                "Lowest share, over the areas, of measurements that fell into their P05..P95 band. It should be 0.9.",
                "min(streamproc_forecast_coverage_ratio)",
                "percentunit",
                width=6,
            ),
            number(
                "Made without the model",
                "Share of forecasts by persistence, because history was short, had a gap, or the model failed.",
                f"({or_zero(f'sum({FALLBACKS})')}) / sum({MADE})",
                "percentunit",
                steps=((0.25, YELLOW), (0.75, RED)),
                width=6,
            ),
            number(
                "Recommendations",
                "Setpoint advice published since the workers' start, withdrawals included.",
                or_zero(f"sum({ADVICE})"),
                width=6,
            ),
        ),
    )


def _forecasts() -> Row:
    return Row(
        "Forecasts",
        (
            lines(
                "Made, by area",
                "Forecasts per minute, one per series and issue time.",
                [Query(f"60 * {rate(MADE, 'area')}", "{{area}}")],
                width=THIRD,
            ),
            lines(
                "Coverage, by area",
                "Recent share of measurements inside their P05..P95 band. Far below 0.9 the band is too narrow to "
                "advise on; at 1.0 it is too wide to be of use.",
                [Query("min by (area) (streamproc_forecast_coverage_ratio)", "{{area}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Made without the model, by reason",
                "Forecasts by persistence since the workers' start. `short_history` is normal in the first hours of "
                "a point.",
                [Query(or_zero(f"sum by (reason) ({FALLBACKS})"), "{{reason}}")],
                width=THIRD,
            ),
        ),
    )


def _ahead() -> Row:
    skill = "1 - error / error of the {0}, recent, by how long before it was told. Below 0 the {0} is better."
    return Row(
        "48 hours ahead",
        (
            lines(
                "Coverage, by lead",
                "Lowest share, over the areas, of quarter hours inside the P05..P95 that was told this long before. "
                "It should be 0.9.",
                [Query("min by (lead) (streamproc_forecast_ahead_coverage_ratio)", "{{lead}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Skill over the last value",
                skill.format("last value"),
                [Query("min by (lead) (streamproc_forecast_ahead_skill_persistence)", "{{lead}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Skill over the same time a day before",
                skill.format("same time a day before"),
                [Query("min by (lead) (streamproc_forecast_ahead_skill_seasonal)", "{{lead}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Pinball loss, by lead",
                "Mean over the series of each area, in their units.",
                [Query("max by (lead) (streamproc_forecast_ahead_pinball)", "{{lead}}")],
                width=THIRD,
            ),
            number(
                "Benched series",
                "Series whose model has erred more than its fallback for a day; the fallback speaks for them.",
                "sum(streamproc_forecast_benched_series)",
                steps=((1, YELLOW),),
                width=THIRD,
            ),
        ),
    )


def _intake() -> Row:
    return Row(
        "Intake and time",
        (
            lines(
                "SCADA records in",
                "Records of measurements per second: without them no forecast is made.",
                [
                    Query(
                        rate("streamproc_records_total", where='topic="grid.scada.measurements.v1"'),
                        "records/s",
                    )
                ],
                "cps",
                width=THIRD,
            ),
            lines(
                "Time per batch, p99",
                "SCADA intake and the forecast model, per batch.",
                [
                    Query(quantile(0.99, "scada"), "intake"),
                    Query(quantile(0.99, "forecast"), "model"),
                ],
                "s",
                width=THIRD,
            ),
            lines(
                "Late and duplicate",
                "Late values of a point and copies of records, by area, since the workers' start.",
                [
                    Query("sum by (area) (streamproc_late_frames_total)", "{{area}} late"),
                    Query("sum by (area) (streamproc_duplicate_frames_total)", "{{area}} duplicate"),
                ],
                width=THIRD,
            ),
        ),
    )


def _advice() -> Row:
    return Row(
        "Recommendations",
        (
            lines(
                "By action, since the workers' start",
                "ISSUE, UPDATE, WITHDRAW, and what the solver refused. Advice only: nothing is sent to equipment.",
                [Query(or_zero(f"sum by (action) ({ADVICE})"), "{{action}}")],
            ),
            lines(
                "Time per batch",
                "Advice and its solver.",
                [Query(quantile(q, "advise"), f"p{q * 100:g}") for q in (0.5, 0.99)],
                "s",
            ),
        ),
    )

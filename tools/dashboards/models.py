"""Dashboard 5: which models are in force, what do they cost, and do they still fit?"""

from __future__ import annotations

from tools.dashboards.parts import RED, THIRD, YELLOW, Board, Query, Row, lines, number, rows
from tools.dashboards.promql import STAGE, or_zero, quantile, rate

INFO = "streamproc_model_info"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "streamproc-models",
        "streamproc / 5 Models",
        "Models in force by slot, their cost, and signs that they no longer fit.",
        (_in_force(), _cost(), _fit()),
    )


def _in_force() -> Row:
    return Row(
        "In force",
        (
            number(
                "Slots",
                "Slots (one per area, one for forecasts) that have a model.",
                f"count(count by (slot) ({INFO}))",
            ),
            number(
                "Slots that disagree",
                "Slots for which workers show different models: a rollout, or one that stopped half way.",
                or_zero(f"count(count by (slot) (count by (slot, digest) ({INFO})) > 1)"),
                steps=((1, RED),),
            ),
            number(
                "Changed in 1 h",
                "Slots in which a model was seen in the last hour that is not in force now.",
                f"count(count by (slot, digest) (last_over_time({INFO}[1h]))) - count(count by (slot, digest) ({INFO}))",
                steps=((1, YELLOW),),
            ),
            rows(
                "Models in force",
                "Slot and first half of the digest of the bundle; `streamproc` refuses a bundle whose files do not "
                "match it.",
                f"count by (slot, digest) ({INFO})",
            ),
        ),
    )


def _cost() -> Row:
    return Row(
        "Cost",
        (
            lines(
                "Score, per batch",
                "Model calls of one batch, all areas.",
                [Query(quantile(q, "score"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                "s",
                width=THIRD,
            ),
            lines(
                "Forecast, per batch",
                "Forecast model calls of one batch.",
                [Query(quantile(q, "forecast"), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                "s",
                width=THIRD,
            ),
            lines(
                "Time per instant",
                "Decoding, windows and models, divided by the instants closed.",
                [
                    Query(f"{_spent(stage)} / {rate('streamproc_instants_total')}", stage)
                    for stage in ("decode", "window", "score")
                ],
                "s",
                width=THIRD,
                stacked=True,
            ),
        ),
    )


def _spent(stage: str) -> str:
    return rate(f"{STAGE}_sum", where=f'stage="{stage}"')


def _fit() -> Row:
    return Row(
        "Fit",
        (
            lines(
                "Findings per 1,000 instants, by area",
                "How often the rules speak. A slow rise without events in the grid: calibrate again "
                "(`streamproc train anomaly`).",
                [
                    Query(
                        f"1000 * {rate('streamproc_findings_total', 'area')} / "
                        f"{rate('streamproc_instants_total', 'area')}",
                        "{{area}}",
                    )
                ],
                width=THIRD,
            ),
            lines(
                "Forecast coverage, by area",
                "Recent share of measurements in their P05..P95 band; 0.9 is right.",
                [Query("min by (area) (streamproc_forecast_coverage_ratio)", "{{area}}")],
                "percentunit",
                width=THIRD,
            ),
            lines(
                "Model not used, by reason",
                "Forecasts by persistence since the workers' start; `model_error` and `no_model` are faults.",
                [Query(or_zero("sum by (reason) (streamproc_forecast_fallbacks_total)"), "{{reason}}")],
                width=THIRD,
            ),
        ),
    )

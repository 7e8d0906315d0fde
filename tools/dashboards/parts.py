"""The few kinds of panel that the dashboards are made of, over the Grafana Foundation SDK.

A panel is a title, a sentence that says how to read it, and its queries. Everything else (data source, legend,
fill, number format) is the same everywhere and stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = common_model.DataSourceRef("prometheus", "$ds")
GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
NUMBER_HEIGHT, GRAPH_HEIGHT = 4, 8
HALF, THIRD, FULL = 12, 8, 24

Panel: TypeAlias = timeseries.Panel | stat.Panel | table.Panel
Steps: TypeAlias = Sequence[tuple[float, str]]  # (from this value on, colour); below the first: green


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. Its uid is part of every link to it: it never changes."""

    uid: str
    title: str
    text: str
    rows: Sequence[Row]
    by_area: bool = False  # offers the variable $area


def lines(
    title: str,
    text: str,
    queries: Sequence[Query],
    unit: str = "short",
    *,
    width: int = HALF,
    limit: float | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """Return lines over time; `limit` draws a red line."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(GRAPH_HEIGHT)
        .fill_opacity(40 if stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    if limit is not None:
        panel.thresholds(_thresholds([(limit, RED)]))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.LINE)
        )
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return panel


def number(
    title: str, text: str, expr: str, unit: str = "short", *, width: int = 4, steps: Steps = ()
) -> stat.Panel:
    """Return one number with its recent course behind it, coloured by `steps`."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(NUMBER_HEIGHT)
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
        .with_target(_target(Query(expr), 0))
    )


def rows(
    title: str, text: str, expr: str, hidden: Sequence[str] = (), unit: str = "short", *, width: int = HALF
) -> table.Panel:
    """Return the present values as a table, one row per label set, without the columns `hidden`."""
    columns = dict.fromkeys(("Time", "__name__", "job", *hidden), True)
    query = _target(Query(expr), 0).format(PromQueryFormat.TABLE).instant()
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(GRAPH_HEIGHT)
        .with_transformation(model.DataTransformerConfig("organize", options={"excludeByName": columns}))
        .with_target(query)
    )


def build(board: Board) -> model.Dashboard:
    """Return the dashboard with its variables and numbered panels."""
    made = (
        sdk.Dashboard(board.title)
        .uid(board.uid)
        .description(board.text)
        .tags(["streamproc"])
        .timezone("utc")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(sdk.DatasourceVariable("ds").label("Prometheus").type("prometheus"))
        .link(sdk.DashboardLink("streamproc").type(model.DashboardLinkType.DASHBOARDS).tags(["streamproc"]))
    )
    if board.by_area:
        made.with_variable(_area())
    count = 0
    for row in board.rows:
        count += 1
        made.with_row(sdk.Row(row.title).id(count))
        for panel in row.panels:
            count += 1
            made.with_panel(panel.id(count))
    return made.build()


def _area() -> sdk.QueryVariable:
    return (
        sdk.QueryVariable("area")
        .label("Area")
        .datasource(DATASOURCE)
        .query("label_values(streamproc_event_time_seconds, area)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all"))
    )


def _target(query: Query, number: int) -> Dataquery:
    target = Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(DATASOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _thresholds(steps: Steps) -> sdk.ThresholdsConfig:
    marks = [model.Threshold(None, GREEN), *(model.Threshold(value, colour) for value, colour in steps)]
    return sdk.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(marks)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_model.LegendDisplayMode.TABLE)
        .placement(common_model.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )

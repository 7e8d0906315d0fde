"""The result as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

First what a reader wants to know (how good, how sure, beside what), then the forecasts as they were issued, typical and
worst, then where the errors are, then what the figures stand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from streamproc.evaluation.page import STYLE, html_table
from streamproc.evaluation.series.baselines import NAIVE_7D
from streamproc.evaluation.series.draw import Band, Chart, Line, chart, legend
from streamproc.evaluation.series.result import Example, Method, Part, Result
from streamproc.evaluation.series.text import EDGE_HEAD, HEAD, edge_row, fixed, method_row, number, percent

MORE_STYLE = """
:root { --ink: #1b1f24; --soft: #59626d; --rule: #dfe3e8; --s0: #0077bb; --s1: #dd6600; --s2: #7a22dd; --s3: #6b3d12;
  --panel: #f5f6f8; --want: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #9aa4af; --rule: #31373f; --s0: #55bbee; --s1: #ff9a1f;
  --s2: #b58aff; --s3: #e8e0c8; --panel: #1d2127; --want: #ff7a6e } }
.soft, figcaption { color: var(--soft); font-size: .87rem } figure { margin: 0 0 1rem }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 }
.tile { background: var(--panel); padding: .6rem 1rem; min-width: 9rem; border-radius: .3rem }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2 } .tile span { color: var(--soft); font-size: .85rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: .6rem 1.4rem }
.chart { width: 100%; height: auto; display: block } .chart path { fill: none }
.chart text { font: 11px system-ui, sans-serif; fill: var(--soft) } .chart .end { text-anchor: end }
.chart .mid { text-anchor: middle } .chart .grid { stroke: var(--rule) } .chart .rule { stroke: var(--want);
  stroke-dasharray: 5 3 } .chart .line { stroke-width: 1.7; stroke-linejoin: round }
.chart .c0 { stroke: var(--s0) } .chart .c1 { stroke: var(--s1) } .chart .c2 { stroke: var(--s2) }
.chart .c3 { stroke: var(--s3) } .chart .c4 { stroke: var(--soft) } .chart .truth { stroke: var(--ink); stroke-width: 2 }
.chart .base { stroke: var(--s1); stroke-dasharray: 4 3; stroke-width: 1.2 } .chart .dot { fill: currentColor; stroke: none }
.chart .dot.c0 { fill: var(--s0) } .chart .dot.c1 { fill: var(--s1) } .chart .dot.c2 { fill: var(--s2) }
.chart .dot.c3 { fill: var(--s3) } .chart .dot.c4 { fill: var(--soft) }
.chart path.fan90 { fill: var(--s0); fill-opacity: .14 } .chart path.fan80 { fill: var(--s0); fill-opacity: .14 }
.chart path.fan50 { fill: var(--s0); fill-opacity: .22 }
.key { display: inline-block !important; width: 1.6rem !important; vertical-align: 0; margin-right: .3rem }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .87rem; color: var(--soft); margin: .3rem 0 }
"""
FANS = ((0, 6, "fan90"), (1, 5, "fan80"), (2, 4, "fan50"))
FAN_KEYS = (
    ("what came", "line truth"),
    ("forecast P50, bands P05-P95, P10-P90, P25-P75", "line c0"),
    ("a week ago", "line base"),
)
MARKS = 6  # words on a time axis, at most


def page(result: Result) -> str:
    """Return the page."""
    asked = result.asked
    title = f"Forecast of {asked.target}, {asked.horizon} ahead"
    unit = asked.unit or "unit of the series"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style><h1>{escape(title)}</h1>",
        f"<p class='soft'>{escape(asked.file)}, one value per {escape(asked.step)}, {escape(asked.first_value)} to "
        f"{escape(asked.last_value)}, {escape(asked.zone)}; {asked.origins} forecasts from {escape(asked.first_origin)} to "
        f"{escape(asked.last_origin)}</p>",
        _tiles(result),
        html_table(HEAD, [method_row(method) for method in result.methods]),
        "<h2>Forecasts as they were issued</h2>",
        legend(FAN_KEYS),
        "<div class='charts'>" + "".join(_fan(example, unit) for example in result.examples) + "</div>",
        "<h2>Where the errors are</h2>",
        legend([(method.name, f"line c{min(at, 4)}") for at, method in enumerate(result.methods)]),
        "<div class='charts'>",
        _by(result, "by_lead", "Mean absolute error by time ahead", unit),
        _by(result, "by_hour", "by hour of the interval, local", unit),
        _by(result, "by_season", "by season", unit),
        _daily(result, unit),
        _coverage(result),
        "</div>",
        "<h2>Better than what everybody can do?</h2>",
        html_table(EDGE_HEAD, [edge_row(method) for method in result.models]),
        "<p class='soft'>Skill is 1 − MAE / MAE of the baseline; in brackets 95 % of 1,000 draws of days.</p>",
        "<h2>What the figures stand on</h2>",
        _list(result.notes),
        _list([_leak_words(result)]) if result.leak else "",
        "<h2>Quality of the input</h2>",
        _list(
            [f"{f.words}{f' (from {f.first})' if f.first else ''}" for f in result.quality]
            or ["nothing found"]
        ),
        f"<p class='soft'>SHA-256 of the file {escape(asked.sha256)}; seed {asked.seed}</p>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


def _tiles(result: Result) -> str:
    best = result.models[0] if result.models else result.methods[0]
    edge = best.edges.get(NAIVE_7D)
    tiles = (
        (number(best.figures.mae), f"MAE {result.asked.unit}".strip()),
        (f"{fixed(best.figures.mape, 2)} %", "MAPE"),
        (f"{percent(best.figures.coverage)} %", "within P05 to P95 (90 % wanted)"),
        (f"{percent(best.worst_30_days)} %", "in the worst 30 days"),
        ("-" if edge is None or edge.skill is None else f"{edge.skill:.0%}", "less error than a week ago"),
    )
    told = "".join(
        f"<div class='tile'><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in tiles
    )
    return f"<p>Model: <b>{escape(best.name)}</b></p><div class='tiles'>{told}</div>"


def _fan(example: Example, unit: str) -> str:
    nothing: list[float | None] = [None] * len(example.before)
    rows = [[*nothing, *row] for row in example.quantiles]
    words = time_words(example)
    figure = chart(
        Chart(
            f"{example.method}, origin {example.origin}",
            unit,
            words,
            [
                Line("a week ago", [*nothing, *example.naive], "base"),
                Line("what came", [*example.before, *example.truth], "truth"),
                Line("P50", rows[3], "c0"),
            ],
            [Band(rows[low], rows[high], style) for low, high, style in FANS],
            marker=len(example.before),
        )
    )
    issued = example.origin[:16].replace("T", " ")
    caption = f"{example.words}: issued {issued}, MAE {number(example.mae)}"
    return f"<figure>{figure}<figcaption>{escape(caption)}</figcaption></figure>"


def time_words(example: Example) -> list[str]:
    """Return what stands under the time axis: hours from the origin, at round places."""
    n, start = len(example.before) + len(example.truth), len(example.before)
    hours = [1, 2, 3, 6, 12, 24, 48, 96, 168]
    span = n * example.step_s / 3600.0
    every = next((h for h in hours if span / h <= 2 * MARKS), hours[-1]) * 3600
    words = []
    for place in range(n):
        ahead = (place - start) * example.step_s
        words.append(
            "" if ahead % every else "origin" if ahead == 0 else f"{ahead // 3600:+d} h".replace("-", "−")
        )
    return words


def _by(result: Result, which: str, title: str, unit: str) -> str:
    groups: list[tuple[Method, Sequence[Part]]] = [(m, getattr(m, which)) for m in result.methods]
    words = [part.name for part in groups[0][1]]
    if len(words) < 2:
        return ""
    lines = [
        Line(m.name, [p.figures.mae for p in parts], f"c{min(at, 4)}") for at, (m, parts) in enumerate(groups)
    ]
    # The first method is drawn last: it lies on top.
    drawn = chart(
        Chart(title, unit, [w.removeprefix("to ") for w in words], lines[::-1], least=0.0, points=True)
    )
    return f"<figure>{drawn}<figcaption>{escape(title)}</figcaption></figure>"


def _daily(result: Result, unit: str) -> str:
    """Return the error of each local day: where a summer or a holiday stands out."""
    shown = [m for m in result.methods if not m.is_baseline or m.name == NAIVE_7D]
    if len(shown[0].daily.day) < 2:
        return ""
    lines = [
        Line(
            m.name,
            [total / rows for total, rows in zip(m.daily.abs_error, m.daily.rows, strict=True)],
            f"c{min(result.methods.index(m), 4)}",
        )
        for m in shown
    ]
    drawn = chart(Chart("Error by day", unit, _dates(shown[0].daily.day), lines[::-1], least=0.0))
    return f"<figure>{drawn}<figcaption>by day, beside a week ago</figcaption></figure>"


def _dates(days: Sequence[str]) -> list[str]:
    every = max(1, len(days) // MARKS)
    return [day[2:] if at % every == every // 2 else "" for at, day in enumerate(days)]


def _coverage(result: Result) -> str:
    models = [method for method in result.models if method.rolling.coverage]
    if not models:
        return ""
    words = _dates(models[0].rolling.last_day)
    lines = [
        Line(m.name, [100.0 * share for share in m.rolling.coverage], f"c{min(at, 4)}")
        for at, m in enumerate(models)
    ]
    drawn = chart(Chart("Coverage", "%", words, lines[::-1], rule=90.0, least=75.0, most=100.0))
    caption = "Share within P05 to P95 in the 30 days before each day; 90 % is wanted"
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _leak_words(result: Result) -> str:
    return "; ".join(
        f"leak check, {name}: {leak.origins} forecasts asked again without any later value, {leak.moved} moved"
        for name, leak in result.leak.items()
    )


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"

"""The report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from streamproc.core.disturbance import KINDS
from streamproc.evaluation.match import AGES_S
from streamproc.evaluation.table import (
    RELIABILITY_AGE,
    SUMMARY_HEAD,
    Table,
    figure,
    pooled,
    summary_row,
)
from streamproc.evaluation.text import MISS_HEAD, detail_lines, miss_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #d5dae0; text-align: right; white-space: nowrap }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
pre { background: #f4f6f8; padding: .8rem; overflow-x: auto; font-size: 13px }
.right { background: #d9efe0 } .wrong { background: #f8dcd8 } svg text { font: 12px system-ui, sans-serif; fill: #444 }
@media (prefers-color-scheme: dark) {
  body { color: #e4e7ea; background: #16191d } th, td { border-color: #3a4149 } pre { background: #20252b }
  .right { background: #1f4a30 } .wrong { background: #5c2a24 } svg text { fill: #bbb } }
"""
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 200, 44, 34  # of a chart, px
AXIS_S = (0.0, 0.033, 0.1, 0.3, 1.0, 3.0, 5.0)  # marks of the time axis
LINES = ("#2563a8", "#c2571a", "#2f8f4e", "#8a4fa3", "#8d8d13", "#b0305c", "#3d8f96", "#666")


def page(tables: Sequence[Table], notes: Sequence[str], title: str = "Evaluation") -> str:
    """Return the page."""
    both = [*tables, *pooled(tables)]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else "",
        html_table(SUMMARY_HEAD, [summary_row(table) for table in both]),
    ]
    for table in both:
        if not table.impair:
            parts += _section(table, [t for t in both if t.corpus == table.corpus and t.tier == table.tier])
    parts.append("<h2>Missed and mistaken, by name</h2>")
    parts += [_misses(table) for table in tables]
    return "\n".join(filter(None, parts)) + "\n"


def _section(table: Table, alike: Sequence[Table]) -> list[str]:
    lines = [line for line in detail_lines(table) if not line.startswith("    ")]
    return [
        f"<h2>{escape(table.title)}</h2>",
        f"<pre>{escape(chr(10).join(lines))}</pre>",
        "<h3>Delay: share of the events found by a time after the first frame that shows them</h3>",
        delay_chart([(t.impair or "as sent", [o.delay_s for o in t.outcomes if o.visible]) for t in alike]),
        f"<h3>Kinds at {AGES_S[RELIABILITY_AGE]:g} s: truth in rows, told in columns</h3>",
        confusion(table),
        "<h3>Confidence</h3>",
        html_table(
            ("told with", "events", "mean confidence", "right"),
            [
                (f"{b.low:g} to {b.high:g}", str(b.events), figure(b.confidence, 2), figure(b.right, 2))
                for b in table.reliability
            ],
        ),
    ]


def _misses(table: Table) -> str:
    rows = miss_rows(table)
    alarms = [
        (f"{alarm.at_s:.1f} s, stretch {alarm.stretch}", alarm.rule, alarm.source, figure(alarm.score, 2))
        for alarm in table.false
    ]
    parts = [f"<h3>{escape(table.title)}</h3>", html_table(MISS_HEAD, rows) if rows else ""]
    parts.append(html_table(("false alarm at", "rule", "source", "score"), alarms) if alarms else "")
    return "".join(parts) if rows or alarms else ""


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>"


def confusion(table: Table) -> str:
    """Return the confusion matrix; what is right stands out, and so does what is mistaken."""
    rows = table.kinds[RELIABILITY_AGE].confusion
    told = [
        kind for kind in KINDS if kind in rows or kind == "unknown" or any(kind in r for r in rows.values())
    ]
    top = "<th></th>" + "".join(f"<th>{escape(kind)}</th>" for kind in told)
    body = ""
    for truth, row in rows.items():
        cells = ""
        for kind in told:
            count = row.get(kind, 0)
            mark = "right" if kind == truth else "wrong" if kind != "unknown" else ""
            cells += f"<td class='{mark}'>{count}</td>" if count else "<td></td>"
        body += f"<tr><td>{escape(truth)}</td>{cells}</tr>"
    return f"<div class='scroll'><table><tr>{top}</tr>{body}</table></div>"


def delay_chart(series: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Return a chart of the share found by a time, one stair per series; None in a series: not found."""

    def x_of(seconds: float) -> float:
        return float(LEFT + (WIDTH - LEFT - 10) * (min(seconds, AXIS_S[-1]) / AXIS_S[-1]) ** 0.4)

    def y_of(share: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (1.0 - share)

    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = y_of(share)
        drawn.append(f"<line x1='{LEFT}' x2='{WIDTH - 10}' y1='{y:.1f}' y2='{y:.1f}' stroke='#8884'/>")
        drawn.append(f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{share:.0%}</text>")
    drawn += [
        f"<text x='{x_of(mark):.1f}' y='{HEIGHT - BOTTOM + 18}' text-anchor='middle'>{mark:g}</text>"
        for mark in AXIS_S
    ]
    drawn.append(f"<text x='{WIDTH - 10}' y='{HEIGHT - 2}' text-anchor='end'>s</text>")
    legend = []
    for number, (name, delays) in enumerate(series):
        color = LINES[number % len(LINES)]
        points, share = f"{x_of(0):.1f},{y_of(0):.1f}", 0.0
        for delay in sorted(d for d in delays if d is not None):
            points += f" {x_of(delay):.1f},{y_of(share):.1f}"
            share += 1.0 / len(delays)
            points += f" {x_of(delay):.1f},{y_of(share):.1f}"
        points += f" {x_of(AXIS_S[-1]):.1f},{y_of(share):.1f}"
        drawn.append(f"<polyline points='{points}' fill='none' stroke='{color}' stroke-width='1.8'/>")
        legend.append(f"<span style='color:{color}'>&#9632;</span> {escape(name)}")
    label = "share of the events found by a time after the first frame"
    return (
        f"<svg role='img' aria-label='{label}' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'>"
        + "".join(drawn)
        + "</svg><div>"
        + " &nbsp; ".join(legend)
        + "</div>"
    )

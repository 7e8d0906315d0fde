"""The figures of an alarm system (`core.kpi`) as one page that needs nothing else, and the alerts they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from streamproc.config import SiteConfig
from streamproc.core.iso_time import iso_time
from streamproc.core.kpi import FLOOD_ABOVE, TARGETS, WINDOW_US, Figures, figures
from streamproc.core.messages import Alert, decode
from streamproc.errors import DataError
from streamproc.evaluation.page import STYLE, html_table
from streamproc.shell.export import read_values
from streamproc.shell.moments import moment_us
from streamproc.values import TOPIC_ALERTS

WIDTH, HEIGHT = 900, 160  # of a chart, px
BARS_MAX = 900
NAMES = {1: "P1 (high)", 2: "P2 (medium)", 3: "P3 (low)", 4: "P4 (low)"}


def read_alerts(site: SiteConfig, path: Path | None, begin: str | None, end: str | None) -> list[Alert]:
    """Return the transitions of a file or of the topic between two times, in order of time; raises StreamprocError."""
    if path is not None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        values = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        values = list(enumerate(read_values(site, TOPIC_ALERTS, lambda _: True, None), 1))
    low = 0 if begin is None else moment_us(begin, "--from")
    high = 1 << 62 if end is None else moment_us(end, "--to")
    found: dict[tuple[str, int], Alert] = {}
    for number, value in values:
        alert = decode(Alert, value)
        if not isinstance(alert, Alert):
            if path is not None:
                raise DataError(f"{path}: line {number}: {alert.detail}")
            continue  # of another schema version
        if low <= alert.ts_us < high:
            found[alert.alert_id, alert.seq] = alert
    if not found:
        raise DataError("no alerts between these times: there is nothing to report")
    return sorted(found.values(), key=lambda alert: (alert.ts_us, alert.alert_id, alert.seq))


def figures_of(alerts: Sequence[Alert], begin: str | None, end: str | None) -> list[Figures]:
    """Return the figures of every position; the time is that of the options, else from first to last transition."""
    low = alerts[0].ts_us if begin is None else moment_us(begin, "--from")
    high = alerts[-1].ts_us + 1 if end is None else moment_us(end, "--to")
    return [figures(name, alerts, low, high) for name in sorted({a.position for a in alerts})]


def page_of(found: Sequence[Figures]) -> str:
    """Return the page."""
    body = "\n".join(part for figure in found for part in _section(figure))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/><title>Alarm system report</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>Alarm system report</h1>\n{body}\n</body></html>\n"
    )


def _section(figure: Figures) -> list[str]:
    span = f"{iso_time(figure.from_us * 1000)} to {iso_time(figure.to_us * 1000)}"
    mix = ", ".join(f"{word} {share:.2f}" for word, share in figure.mix.items())
    times = sorted(figure.acknowledge_s)
    median = f"{times[len(times) // 2]:.0f} s of {len(times)}" if times else "nobody acknowledged anything"
    rows = [
        ("annunciations", str(figure.annunciations), ""),
        ("per 10 minutes", f"{figure.rate_per_10_min:.2f}", TARGETS["rate_per_10_min"]),
        ("most in any 10 minutes", str(figure.rate_max), f"above {FLOOD_ABOVE} is a flood (EEMUA 191)"),
        ("time in flood", f"{figure.time_in_flood_ratio:.4f}", TARGETS["time_in_flood_ratio"]),
        ("floods", str(len(figure.floods)), ""),
        ("share of the top ten", f"{figure.top_ten_ratio:.2f}", TARGETS["top_ten_ratio"]),
        ("chattering", str(len(figure.chattering)), TARGETS["chattering"]),
        ("stale", str(len(figure.stale)), TARGETS["stale"]),
        ("priorities", mix, TARGETS["priority_mix"] + "; P1 is high, P2 medium, P3 and P4 low"),
        ("median time to acknowledge", median, ""),
    ]
    priorities = [(NAMES[p], str(count)) for p, count in sorted(figure.priorities.items())]
    return [
        f"<h2>Position {escape(figure.position)}</h2><p>{span}</p>",
        html_table(("figure", "found", "target and its source"), rows),
        "<h3>Annunciations in each ten minutes</h3>",
        _bars(figure.per_window),
        "<h3>Priorities</h3>",
        html_table(("priority", "annunciations"), priorities),
        "<h3>The ten most frequent</h3>",
        html_table(("condition", "annunciations"), [(n, str(c)) for n, c in figure.top_ten]),
        "<h3>Floods</h3>",
        html_table(("begin", "end", "annunciations"), [_flood(f) for f in figure.floods]),
        "<h3>Chattering conditions</h3>",
        html_table(("condition",), [(name,) for name in figure.chattering]),
        "<h3>Stale alerts</h3>",
        html_table(("alert",), [(name,) for name in figure.stale]),
    ]


def _flood(span: tuple[int, int, int]) -> tuple[str, str, str]:
    begin, end, count = span
    return iso_time(begin * 1000), iso_time(end * 1000), str(count)


def _bars(counts: Sequence[int]) -> str:
    """Return a bar per ten minutes, or per several of them where there are too many; the line is where a flood begins."""
    step = max(1, -(-len(counts) // BARS_MAX))
    bars = [max(counts[i : i + step]) for i in range(0, len(counts), step)]
    top = max(FLOOD_ABOVE + 1, *bars)
    width = WIDTH / max(len(bars), 1)
    drawn = "".join(
        f'<rect x="{i * width:.2f}" y="{HEIGHT - HEIGHT * n / top:.1f}" width="{max(width - 0.5, 0.5):.2f}" '
        f'height="{HEIGHT * n / top:.1f}" fill="{"#b0305c" if n > FLOOD_ABOVE else "#2563a8"}"/>'
        for i, n in enumerate(bars)
        if n
    )
    line = HEIGHT - HEIGHT * FLOOD_ABOVE / top
    minutes = step * WINDOW_US // 60_000_000
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 20}" width="100%" role="img" aria-label="annunciations over time">{drawn}'
        f'<line x1="0" x2="{WIDTH}" y1="{line:.1f}" y2="{line:.1f}" stroke="#666" stroke-dasharray="4 3"/>'
        f'<text x="4" y="{line - 4:.1f}">flood above {FLOOD_ABOVE}</text>'
        f'<text x="4" y="{HEIGHT + 15}">one bar: the most of any ten minutes within {minutes} min; top {top}</text></svg>'
    )

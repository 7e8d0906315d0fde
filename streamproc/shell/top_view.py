"""The picture of `streamproc top` on a terminal: fits into its width and height, and says all without colour."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from rich.console import Console
from rich.text import Text

from streamproc.shell.top_state import Picture
from streamproc.shell.view import SHOWN_STAGES, STATE_STYLES

WIDTH_MIN, HEIGHT_MIN = 80, 24
SVG_WIDTH, SVG_HEIGHT = 110, 32
PROBLEMS_MAX = 4
STATES = {
    "UNACK": "ALERT",
    "ACKED": "acknowledged",
    "RTNUN": "returned",
    "SHLVD": "shelved",
    "DSUPR": "suppressed",
    "OOSRV": "out of service",
}


def render(picture: Picture, width: int, height: int, note: str = "Ctrl-C ends") -> Text:
    """Return the whole screen, at most `height` lines of at most `width` characters."""
    width, height = max(width, WIDTH_MIN), max(height, HEIGHT_MIN)
    lines = [_head(picture, width, note), *_problems(picture), _numbers(picture), *_stages(picture)]
    left = height - len(lines) - 3  # three headings
    advice, forecasts = picture["recommendations"], picture["forecasts"]
    n_advice = min(max(len(advice), 1), max(2, left // 5))
    n_forecast = min(max(len(forecasts), 1), max(3, left // 3))
    lines += _alerts(picture, left - n_advice - n_forecast)
    lines += _forecasts(picture, n_forecast)
    lines += _advice(picture, n_advice)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True).join(lines[:height])


def svg(picture: Picture) -> str:
    """Return the picture as SVG; no fonts are fetched from anywhere."""
    console = Console(
        record=True,
        file=StringIO(),
        width=SVG_WIDTH,
        height=SVG_HEIGHT,
        force_terminal=True,
        legacy_windows=False,
    )
    console.print(render(picture, SVG_WIDTH, SVG_HEIGHT))
    return re.sub(r"@font-face\s*\{[^}]*\}\s*", "", console.export_svg(title="streamproc top"))


def _head(picture: Picture, width: int, note: str) -> Text:
    left = f"streamproc top  {picture['site']} at {picture['broker']}"
    right = f"{picture['at'][11:19]} UTC  {note}"
    return Text.assemble((left[: width - len(right) - 2].ljust(width - len(right)), "bold"), right)


def _problems(picture: Picture) -> list[Text]:
    told = picture["problems"]
    shown = [Text(f"! {sentence}", style="bold red") for sentence in told[:PROBLEMS_MAX]]
    if len(told) > PROBLEMS_MAX:
        shown.append(Text(f"! and {len(told) - PROBLEMS_MAX} more", style="bold red"))
    return shown


def _numbers(picture: Picture) -> Text:
    asked, answering = len(picture["workers"]), sum(one["answers"] for one in picture["workers"])
    newest = picture["newest_event_age_s"]
    parts = [
        f"{_count(picture['frames_per_s'])} frames/s",
        f"{_count(picture['records_per_s'])} records/s",
        f"lag {_count(picture['lag_records'])}",
        "newest measurement " + ("-" if newest is None else f"{newest:.1f} s ago"),
        f"{answering} of {asked} workers",
    ]
    dead = picture["dead_letters"]
    if dead:
        parts.append(f"{dead:,} dead letters")
    return Text("  ".join(parts))


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _stages(picture: Picture) -> list[Text]:
    """Two stages side by side: name, p50, p99."""
    cells = []
    for stage, words in SHOWN_STAGES.items():
        found = picture["stages"][stage]
        p50, p99 = (_ms(found[name]) for name in ("p50_ms", "p99_ms"))
        cells.append(f"{words:<17}{p50:>9}{p99:>9}")
    half = (len(cells) + 1) // 2
    head = f"{'stage':<17}{'p50 ms':>9}{'p99 ms':>9}"
    rows = [f"{a}    {b}" for a, b in zip(cells[:half], [*cells[half:], ""], strict=False)]
    return [Text(f"{head}    {head}", style="dim"), *(Text(row.rstrip()) for row in rows)]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _alerts(picture: Picture, count: int) -> list[Text]:
    alerts = picture["alerts"]
    title = f"alerts: {picture['alerts_active']} active, {picture['alerts_unacknowledged']} to acknowledge"
    title += _asof(picture)
    if picture["cut_topics"]:
        title += "; older records were not read"
    if not alerts:
        return [_title(title), _nothing(picture)]
    rows = [
        Text(
            f"  {STATES[a['state']]:<12} P{a['priority']} {age(a['age_s']):>6}  {a['message']}",
            STATE_STYLES[a["state"]],
        )
        for a in alerts
    ]
    return [_title(title), *_fitted(rows, count)]


def _asof(picture: Picture) -> str:
    age_s = picture["topics_age_s"]
    return f"; AS OF {age_s:.0f} s AGO" if age_s else ""


def _nothing(picture: Picture) -> Text:
    return Text("  not known" if picture["topics_age_s"] is None else "  none", style="dim")


def _forecasts(picture: Picture, count: int) -> list[Text]:
    forecasts = picture["forecasts"]
    crossing = sum(one["crosses"] for one in forecasts)
    title = f"forecasts: {len(forecasts)} series, {crossing} may cross a limit; P50 [P05..P95]"
    if forecasts:
        title += f"; newest {age(min(one['age_s'] for one in forecasts))} old"
    title += _asof(picture)
    if not forecasts:
        return [_title(title), _nothing(picture)]
    rows = [Text(_forecast(one), style="bold yellow" if one["crosses"] else "") for one in forecasts]
    return [_title(title), *_fitted(rows, count)]


def _forecast(one: dict[str, Any]) -> str:
    """Return one row; what matters most stands left, because a narrow terminal cuts the right."""
    last = one["last_value"]
    digits = 3 if one["unit"] == "Hz" else 1
    bands = " ".join(
        f"+{at['minutes']}m {at['p50']:.{digits}f} [{at['p05']:.{digits}f}..{at['p95']:.{digits}f}]"
        for at in one["ahead"]
    )
    limit = ""
    if one["crosses"]:
        at = one["limit_low"] if one["limit_high"] is None else one["limit_high"]
        limit = f" LIMIT {at:g}"
    by = "" if one["method"] == "model" else f" by {one['method']}"
    now = "-" if last is None else f"{last:.{digits}f}"
    return f"  {one['series']:<10.36} {now:>6} {one['unit']:<3} {bands}{limit}{by} {age(one['age_s'])} old"


def _advice(picture: Picture, count: int) -> list[Text]:
    advice = picture["recommendations"]
    title = _title(f"recommendations: {len(advice)} in force, advice only{_asof(picture)}")
    if not advice:
        return [title, _nothing(picture)]
    rows = []
    for one in advice:
        told = one["message"].removeprefix("Advice only: ")  # as the title says
        rows.append(Text(f"  {one['action']:<6} {age(one['valid_for_s']):>6} left  {told}"))
    return [title, *_fitted(rows, count)]


def _title(text: str) -> Text:
    return Text(text, style="bold underline")


def _fitted(rows: list[Text], count: int) -> list[Text]:
    """Return at most `count` rows; the last one says how many are not shown."""
    if len(rows) <= count:
        return rows
    kept = max(count - 1, 0)
    return [*rows[:kept], Text(f"  and {len(rows) - kept:,} more", style="dim")]


def age(seconds: float) -> str:
    """Return a duration in at most five characters; of a time in the future, with its sign."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{sign}{seconds / size:.0f} {unit}"
    return f"{sign}{seconds:.0f} s"

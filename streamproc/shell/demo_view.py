"""What the demo shows: a picture of the path at work, in plain words, live on a terminal or as lines without
one.

`Board` gathers what the demo has seen; `render` turns it into a picture. Neither reads a clock nor talks to
anybody. The words are those of the records themselves: what stands here an operator would read as well.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamproc.shell.scrape import Reading, quantile_s, rate_per_s
from streamproc.shell.view import (
    SHOWN_STAGES,
    STATE_STYLES,
    Message,
    advice_line,
    ahead_line,
    alert_line,
    clock_time,
    forecast_line,
    ms_text,
    sparkline,
)

SHOWN_ALERTS, SHOWN_ADVICE = 9, 3
ROWS_FULL, SMALL_ALERTS = (
    40,
    5,
)  # lines of a terminal that the whole picture needs; alerts shown in a smaller one
AHEAD_STRIDE = 4  # quarter hours of one character
LAG_RECORDS_LIVE = 50  # less than this waiting: the worker is not behind


@dataclass(slots=True)
class Board:
    """What has been seen so far."""

    broker: str = ""
    metrics_url: str = ""
    sources: str = ""
    watched_series: str = ""
    limit: float = math.nan
    counts: Counter[str] = field(default_factory=Counter)
    alerts: deque[Message] = field(default_factory=lambda: deque(maxlen=100))
    open_alerts: dict[str, Message] = field(default_factory=dict)
    advice: deque[Message] = field(default_factory=lambda: deque(maxlen=20))
    ahead_series: str = ""
    forecast: Message | None = None
    ahead: Message | None = None  # of 48 hours
    baseline: Reading | None = None  # latencies count from here; the history burst lies before it
    before: Reading | None = None
    now: Reading | None = None

    def take_alert(self, alert: Message) -> None:
        """Note a transition of an alert."""
        self.counts["alert transitions"] += 1
        if alert["seq"] == 1:
            self.counts["alerts"] += 1
        self.alerts.append(alert)
        if alert["state"] in {"UNACK", "ACKED"}:
            self.open_alerts[alert["alert_id"]] = alert
        else:
            self.open_alerts.pop(alert["alert_id"], None)

    def take_forecast(self, forecast: Message) -> bool:
        """Note a forecast; return whether it is the one on show."""
        self.counts["forecasts"] += 1
        if forecast["horizon"] == "PT48H":
            return self.take_ahead(forecast)
        if forecast["series"] != self.watched_series:
            return False
        if self.forecast is None or forecast["issued_at_us"] >= self.forecast["issued_at_us"]:
            self.forecast = forecast
        return True

    def take_ahead(self, forecast: Message) -> bool:
        """Note a forecast of 48 hours; return whether it is the one on show."""
        if forecast["series"] != self.ahead_series:
            return False
        self.ahead = forecast
        return True

    def take_advice(self, setpoint: Message, now_us: int) -> bool:
        """Note a recommendation; return whether it is still of use, or ends one that was."""
        self.counts["recommendations"] += 1
        known = {advice["recommendation_id"] for advice in self.advice}
        ends_known = setpoint["action"] in {"WITHDRAW", "OUTCOME"} and setpoint["recommendation_id"] in known
        if not ends_known and (setpoint["action"] == "WITHDRAW" or setpoint["valid_until_us"] < now_us):
            return False
        self.counts["recommendations in force"] += 1
        self.advice.append(setpoint)
        return True

    def take_reading(self, reading: Reading) -> None:
        """Note a reading of the worker's metrics."""
        self.before, self.now = self.now, reading
        if self.baseline is None and self.before is not None and _settled(self.before, reading):
            self.baseline = reading

    def frames_per_s(self) -> tuple[float, float]:
        """Return frames per second, and PMU measurements per second (a frame may hold many PMUs)."""
        if self.before is None or self.now is None:
            return 0.0, 0.0
        rates = rate_per_s(self.before, self.now, "streamproc_frames_total")
        pmus = self.now.by_label("streamproc_pmus")
        return sum(rates.values()), sum(rate * pmus.get(area, 1.0) for area, rate in rates.items())

    def latency_ms(self, stage: str) -> tuple[float, float]:
        """Return p50 and p99 of a stage since the baseline, ms; NaN before the first."""
        if self.now is None or self.baseline is None:
            return math.nan, math.nan
        since = self.baseline
        return quantile_s(since, self.now, stage, 0.5) * 1e3, quantile_s(since, self.now, stage, 0.99) * 1e3

    def total(self, name: str) -> int:
        """Return a counter of the worker, summed over its labels."""
        return 0 if self.now is None else int(self.now.total(name))


def _settled(before: Reading, now: Reading) -> bool:
    """Return whether the worker has worked off what lay waiting when it started: from here on it is live."""
    frames, forecasts = "streamproc_frames_total", "streamproc_forecasts_total"
    waiting = now.total("streamproc_consumer_lag_records")
    live = now.total(frames) > before.total(frames) > 0
    return live and waiting < LAG_RECORDS_LIVE and now.total(forecasts) == before.total(forecasts) > 0


def status_line(board: Board) -> str:
    """Return rates, latency and counts in one line."""
    frames, measurements = board.frames_per_s()
    p50, p99 = board.latency_ms("end_to_end")
    return (
        f"{frames:.0f} frames/s ({measurements:.0f} PMU measurements/s), "
        f"end to end p50 {ms_text(p50)} p99 {ms_text(p99)}, "
        f"open alerts {len(board.open_alerts)}, forecasts {board.counts['forecasts']}, "
        f"dead letters {board.total('streamproc_dead_letters_total')}"
    )


def stages_line(board: Board) -> str:
    """Return p50 / p99 of each stage in one line, ms."""
    parts = []
    for stage, words in SHOWN_STAGES.items():
        p50_ms, p99_ms = board.latency_ms(stage)
        if not math.isnan(p99_ms):
            parts.append(f"{words} {p50_ms:.1f}/{p99_ms:.1f}")
    return "stages p50/p99 ms: " + (", ".join(parts) or "none yet")


def render(board: Board, elapsed_s: float, seconds: float | None, height: int = 50) -> RenderableType:
    """Return the whole picture for a terminal of this many lines."""
    if height < ROWS_FULL:
        return _small(board, elapsed_s)
    head = Text.assemble(
        ("streamproc demo  ", "bold"),
        f"{elapsed_s:5.0f} s" + (f" of {seconds:.0f} s" if seconds else "  (Ctrl-C ends)"),
        f"   broker: {board.broker}\n",
        f"sources: {board.sources}\n",
        f"metrics: {board.metrics_url}",
    )
    return Group(
        head,
        Panel(_numbers(board), title="the worker", title_align="left"),
        Panel(_alerts(board), title="alerts (grid.alerts.v1)", title_align="left"),
        Panel(_forecast(board), title="forecast (grid.forecasts.v1)", title_align="left"),
        Panel(_advice(board), title="recommendations (grid.setpoints.v1), advice only", title_align="left"),
    )


def _small(board: Board, elapsed_s: float) -> RenderableType:
    """Return the picture for a small terminal: one line for each thing, cut at its edge, nothing left out."""
    alerts = [Text(alert_line(a), STATE_STYLES[a["state"]]) for a in list(board.alerts)[-SMALL_ALERTS:]]
    newest = list({advice["recommendation_id"]: advice for advice in board.advice}.values())[-1:]
    lines = [
        Text(f"streamproc demo {elapsed_s:.0f} s  {board.broker}", "bold"),
        Text(f"metrics: {board.metrics_url}"),
        Text(status_line(board)),
        *(Text(f"  {line}") for line in stages_line(board).split(", ")),
        Text("alerts", "bold"),
        *(alerts or [Text("none yet", "dim")]),
        Text("forecast", "bold"),
        Text(forecast_line(board.forecast, board.limit) if board.forecast else "none yet"),
        Text("recommendation, advice only", "bold"),
        *([Text(advice_line(advice)) for advice in newest] or [Text("none yet", "dim")]),
    ]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _numbers(board: Board) -> RenderableType:
    frames, measurements = board.frames_per_s()
    table = Table(box=None, pad_edge=False, expand=False)
    table.add_column("stage")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for stage, words in SHOWN_STAGES.items():
        p50, p99 = board.latency_ms(stage)
        table.add_row(words, ms_text(p50), ms_text(p99), style="bold" if stage == "end_to_end" else "")
    findings = board.total("streamproc_findings_total")
    counts = Text(
        f"{frames:.0f} frames/s, {measurements:.0f} PMU measurements/s\n"
        f"{board.total('streamproc_frames_total'):,} frames, {findings:,} findings\n"
        f"{board.counts['alerts']} alerts, {len(board.open_alerts)} open\n"
        f"{board.counts['forecasts']:,} forecasts, {board.counts['recommendations']} recommendations\n"
        f"{board.total('streamproc_rejected_total')} rejected, "
        f"{board.total('streamproc_dead_letters_total')} dead letters"
    )
    both = Table.grid(padding=(0, 6))
    both.add_row(table, counts)
    return both


def _alerts(board: Board) -> RenderableType:
    if not board.alerts:
        return Text(
            "none yet: the first scripted event comes about 12 s after the worker is ready", style="dim"
        )
    lines = [Text(alert_line(a), style=STATE_STYLES[a["state"]]) for a in list(board.alerts)[-SHOWN_ALERTS:]]
    return Group(*lines)


def _forecast(board: Board) -> RenderableType:
    if board.forecast is None:
        return Text("none yet", style="dim")
    bands = board.forecast["quantiles"]
    low = min(bands["P05"])
    high = max([*bands["P95"], board.limit] if not math.isnan(board.limit) else bands["P95"])
    rows = [forecast_line(board.forecast, board.limit)]
    rows += [f"{name} {sparkline(list(bands[name]), low, high)}" for name in ("P95", "P50", "P05")]
    by = f"by {board.forecast['method']}"
    rows.append(f"issued {clock_time(board.forecast['issued_at_us'])}, {by}")
    if board.ahead is not None:
        rows += ["", *_ahead_rows(board.ahead)]
    return Text("\n".join(rows))


def _ahead_rows(forecast: Message) -> list[str]:
    bands = {name: forecast["quantiles"][name][::AHEAD_STRIDE] for name in ("P95", "P50", "P05")}
    low, high = min(bands["P05"]), max(bands["P95"])
    return [ahead_line(forecast), *(f"{name} {sparkline(row, low, high)}" for name, row in bands.items())]


def _advice(board: Board) -> RenderableType:
    if not board.advice:
        return Text("none yet", style="dim")
    newest = {advice["recommendation_id"]: advice for advice in board.advice}
    return Text("\n".join(advice_line(advice) for advice in list(newest.values())[-SHOWN_ADVICE:]))

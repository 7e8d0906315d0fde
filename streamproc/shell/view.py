"""What the pictures of the demo and of `streamproc top` have in common: the words, the lines, the little bars.

No clock, no broker. A text from a topic is never trusted: `plain` takes out what could move a cursor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from streamproc.core.iso_time import iso_time

SHOWN_STAGES = {
    "broker_to_worker": "broker to worker",
    "decode": "decode",
    "window": "align, window",
    "score": "score (ONNX)",
    "decide": "decide",
    "publish": "publish",
    "end_to_end": "end to end",
}
STATE_WORDS = {
    "UNACK": "ALERT",
    "ACKED": "acknowledged",
    "RTNUN": "returned to normal",
    "NORM": "normal",
    "SHLVD": "shelved",
    "DSUPR": "suppressed by design",
    "OOSRV": "out of service",
}
STATE_STYLES = {
    "UNACK": "bold red",
    "ACKED": "yellow",
    "RTNUN": "cyan",
    "NORM": "green",
    "SHLVD": "dim",
    "DSUPR": "dim",
    "OOSRV": "dim",
}
BARS = " ▁▂▃▄▅▆▇█"

Message: TypeAlias = Mapping[str, Any]


def plain(text: object) -> str:
    """Return the text without control codes: a station name comes from the wire, this is a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def clock_time(ts_us: int) -> str:
    """Return UTC time of day to the millisecond."""
    return iso_time(ts_us * 1000)[11:23]


def alert_line(alert: Message) -> str:
    """Return one transition of an alert for a person."""
    word = STATE_WORDS[alert["state"]]
    if alert["state"] == "UNACK" and alert["seq"] > 1:
        word = "alert grows"
    return f"{word} P{alert['priority']}: {alert['message']}"


def forecast_line(forecast: Message, limit: float) -> str:
    """Return the watched forecast for a person: now, in 15 minutes, at the end, and the limit."""
    bands = forecast["quantiles"]
    steps = len(bands["P50"])
    quarter = min(steps, max(1, round(15 / forecast["interval_min"]))) - 1
    unit = forecast["unit"]

    def at(step: int) -> str:
        minutes = (step + 1) * forecast["interval_min"]
        low, middle, high = (bands[name][step] for name in ("P05", "P50", "P95"))
        return f"in {minutes} min {middle:.1f} ({low:.1f} to {high:.1f})"

    last = forecast.get("last_value")
    now = "" if last is None else f"now {last:.1f}, "
    beside = "" if math.isnan(limit) else f"; limit {limit:g} {unit}"
    return f"forecast {forecast['series']} in {unit}: {now}{at(quarter)}, {at(steps - 1)}{beside}"


def ahead_line(forecast: Message) -> str:
    """Return a forecast of 48 hours for a person: its highest moment, and how often its bands have held."""
    bands = forecast["quantiles"]
    peak = max(range(len(bands["P50"])), key=bands["P50"].__getitem__)
    low, middle, high = (bands[name][peak] for name in ("P05", "P50", "P95"))
    held = forecast.get("coverage_90")
    told = "" if held is None else f"; its bands have held {held:.0%} of the time"
    hours = len(bands["P50"]) * forecast["interval_min"] // 60
    return (
        f"next {hours} h of {forecast['series']} in {forecast['unit']}: highest {middle:.1f} ({low:.1f} to {high:.1f}) "
        f"at {clock_time(forecast['valid_ts_us'][peak])} UTC{told}"
    )


def card_line(card: Message) -> str:
    """Return a card for a person: what, and what to do."""
    guidance = card.get("guidance")
    action = "" if guidance is None else f". To do: {guidance['corrective_action']}"
    return f"P{card['priority']}, {card['members']} alert{'s' if card['members'] > 1 else ''}: {card['message']}{action}"


def advice_line(setpoint: Message) -> str:
    """Return a recommendation for a person."""
    return f"{setpoint['action']}: {setpoint['message']}"


def sparkline(values: list[float], low: float, high: float) -> str:
    """Return one character per value between the two bounds."""
    span = max(high - low, 1e-9)
    return "".join(BARS[min(8, max(0, round((value - low) / span * 8)))] for value in values)


def ms_text(value: float) -> str:
    """Return a duration in ms, or a dash where it is not known."""
    return "-" if math.isnan(value) else f"{value:.1f} ms"

"""What `streamproc top` has seen of a running service, and the picture of it at one moment.

Nothing here reads a clock or talks to anybody: every method is told the time. All memory is bounded by the
constants below; what is left out is counted. A number that is not known is None, never an old one: when a
worker does not answer, its last reading is no longer part of any sum.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamproc.config import PointTable
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert, Forecast, Health
from streamproc.core.setpoint import Setpoint
from streamproc.core.wire import Message
from streamproc.shell.scrape import Reading, quantile_s, rate_per_s
from streamproc.shell.view import SHOWN_STAGES, plain

ALERTS_MAX, SERIES_MAX, ADVICE_MAX, WORKERS_MAX = 2000, 2000, 200, 200
WINDOW_S = 10.0  # rates and quantiles are those of this long
SILENT_S = 3.0  # without an answer for this long: it is said
STALE_S = 10.0  # newest measurement older than this: it is said
BEHIND_MAX = 1000  # records not read yet: more are said, fewer are what has just come
BEAT_OLD_S = 5.0  # a worker says something each second
BEAT_KEPT_S = 60.0  # a worker that has said nothing for this long is no longer listed, but for the newest
ORDER = {"UNACK": 0, "ACKED": 1, "RTNUN": 2, "SHLVD": 3, "DSUPR": 4, "OOSRV": 5}

Picture = Mapping[str, Any]


@dataclass(slots=True)
class Source:
    """Somebody who should answer again and again: a worker's /metrics, or the broker."""

    name: str
    since_s: float
    heard_s: float | None = None
    error: str = ""
    readings: deque[Reading] = field(default_factory=deque)

    def heard(self, now_s: float) -> None:
        """Note an answer."""
        self.heard_s, self.error = now_s, ""

    def take(self, reading: Reading) -> None:
        """Note an answer with numbers; a worker that was restarted counts from zero again."""
        frames = "streamproc_records_total"
        if self.readings and reading.total(frames) < self.readings[-1].total(frames):
            self.readings.clear()
        self.readings.append(reading)
        while len(self.readings) > 2 and reading.at_s - self.readings[0].at_s > WINDOW_S:
            self.readings.popleft()
        self.heard(reading.at_s)

    def failed(self, error: str, now_s: float) -> None:
        """Note that there was none, and why; numbers of before are forgotten when it lasts."""
        self.error = plain(error)[:120]
        if self.is_silent(now_s):
            self.readings.clear()

    def silent_s(self, now_s: float) -> float:
        """Return for how long nothing was heard."""
        return now_s - (self.since_s if self.heard_s is None else self.heard_s)

    def is_silent(self, now_s: float) -> bool:
        """Return whether it must be said that nothing is heard; a first answer may be under way."""
        return self.silent_s(now_s) > SILENT_S or (self.heard_s is None and self.error != "")

    def words(self, now_s: float) -> str:
        """Return the sentence about its silence."""
        why = f" ({self.error})" if self.error else ""
        return f"no answer from {self.name} for {self.silent_s(now_s):.0f} s{why}"


class TopState:
    """All that was seen."""

    def __init__(
        self, site: str, broker: str, urls: Iterable[str], points: Iterable[PointTable] = (), *, now_s: float
    ) -> None:
        self.site = site
        self.broker = Source(broker, now_s)
        self.workers = {url: Source(url, now_s) for url in urls}
        self.behind: int | None = None  # records of the topics that are not read yet; None: not known
        self.caught_up = False  # what stood in the topics at the start is read
        self.missing: tuple[str, ...] = ()  # topics that are not there, or may not be read
        self.cut_topics: set[str] = set()  # read from somewhere in the middle: they were too long
        self._limits = {p.id: (p.limit_low, p.limit_high) for p in points}
        self._alerts: OrderedDict[str, Alert] = OrderedDict()
        self._forecasts: OrderedDict[str, Forecast] = OrderedDict()
        self._advice: OrderedDict[str, Setpoint] = OrderedDict()
        self._beats: OrderedDict[str, int] = OrderedDict()  # worker -> time of its newest heartbeat, us

    def take(self, message: Message) -> None:
        """Note a message, whichever of the four it is."""
        if isinstance(message, Alert):
            self._take_alert(message)
        elif isinstance(message, Forecast) and message.horizon != "PT48H":
            before = self._forecasts.get(message.series)
            if before is None or before.issued_at_us <= message.issued_at_us:
                _keep(self._forecasts, message.series, message, SERIES_MAX)
        elif isinstance(message, Setpoint):
            known = self._advice.get(message.recommendation_id)
            if known is None or known.seq <= message.seq:
                _keep(self._advice, message.recommendation_id, message, ADVICE_MAX)
        elif isinstance(message, Health):
            newest = max(message.ts_us, self._beats.get(message.worker, 0))
            _keep(self._beats, message.worker, newest, WORKERS_MAX)

    def _take_alert(self, alert: Alert) -> None:
        known = self._alerts.get(alert.alert_id)
        if known is not None and known.seq > alert.seq:
            return
        if alert.state == "NORM":
            self._alerts.pop(alert.alert_id, None)
        else:
            _keep(self._alerts, alert.alert_id, alert, ALERTS_MAX)

    def picture(self, now_us: int, now_s: float) -> Picture:
        """Return everything as it stands now, ready for JSON and for `top_view.render`."""
        numbers = self._numbers(now_s)
        alerts = sorted(self._alerts.values(), key=lambda a: (ORDER[a.state], a.priority, -a.onset_ts_us))
        beats = {worker: (now_us - ts_us) / 1e6 for worker, ts_us in self._beats.items()}
        nearest = min(beats.values(), default=math.inf)
        beats = {worker: age_s for worker, age_s in beats.items() if age_s < max(BEAT_KEPT_S, nearest + 1)}
        return {
            "at": iso_time(now_us * 1000),
            "site": self.site,
            "broker": self.broker.name,
            "problems": [*self._silences(now_s), *_stale(numbers["newest_event_age_s"], beats)],
            "workers": [
                {
                    "url": one.name,
                    "answers": not one.is_silent(now_s),
                    "silent_s": round(one.silent_s(now_s), 1),
                }
                for one in self.workers.values()
            ],
            "heartbeats_age_s": {plain(worker): round(age_s, 1) for worker, age_s in beats.items()},
            **numbers,
            # How old the rest is: 0 while the broker answers, None if it never has.
            "topics_age_s": self._topics_age_s(now_s),
            "alerts_active": len(alerts),
            "alerts_unacknowledged": sum(a.state in {"UNACK", "RTNUN"} for a in alerts),
            "alerts": [_alert(alert, now_us) for alert in alerts],
            "forecasts": self._forecast_rows(now_us),
            "recommendations": [
                _advice(one, now_us)
                for one in reversed(self._advice.values())
                if one.action != "WITHDRAW" and one.valid_until_us >= now_us
            ],
            "cut_topics": sorted(self.cut_topics),
        }

    def _topics_age_s(self, now_s: float) -> float | None:
        if self.broker.heard_s is None:
            return None
        return round(self.broker.silent_s(now_s), 1) if self.broker.is_silent(now_s) else 0.0

    def _silences(self, now_s: float) -> list[str]:
        told = [one.words(now_s) for one in (self.broker, *self.workers.values()) if one.is_silent(now_s)]
        if not self.workers:
            told.append("no worker address is known (--metrics URL): no rates, no latencies")
        if self.missing:
            told.append(f"no topic {', '.join(self.missing)}, or it may not be read")
        if self.behind and (not self.caught_up or self.behind > BEHIND_MAX):
            told.append(f"still reading: {self.behind:,} records of the topics are not in this picture yet")
        return told

    def _numbers(self, now_s: float) -> dict[str, Any]:
        """Return rates, lag, age and stages over all workers that answer."""
        live = [one.readings for one in self.workers.values() if one.readings and not one.is_silent(now_s)]
        pairs = [(readings[0], readings[-1]) for readings in live if len(readings) > 1]
        ages: dict[str, float] = {}
        for readings in live:  # an area that moved to another worker stands in both: the younger is right
            for area, age_s in readings[-1].by_label("streamproc_event_time_age_seconds").items():
                ages[area] = min(age_s + now_s - readings[-1].at_s, ages.get(area, math.inf))
        oldest = max(ages, key=lambda area: ages[area]) if ages else None

        def rate(name: str) -> float | None:
            return sum(sum(rate_per_s(*pair, name).values()) for pair in pairs) if pairs else None

        return {
            "frames_per_s": rate("streamproc_frames_total"),
            "records_per_s": rate("streamproc_records_total"),
            "lag_records": sum(int(r[-1].total("streamproc_consumer_lag_records")) for r in live)
            if live
            else None,
            "dead_letters": sum(int(r[-1].total("streamproc_dead_letters_total")) for r in live)
            if live
            else None,
            "newest_event_age_s": min(ages.values()) if ages else None,
            "oldest_area": None if oldest is None else {"area": plain(oldest), "age_s": ages[oldest]},
            "stages": {stage: _quantiles(pairs, stage) for stage in SHOWN_STAGES},
        }

    def _forecast_rows(self, now_us: int) -> list[dict[str, Any]]:
        rows = [
            _forecast(one, self._limits.get(one.series, (None, None)), now_us)
            for one in self._forecasts.values()
        ]
        return sorted(rows, key=lambda row: (not row["crosses"], row["age_s"], row["series"]))


def _keep(known: OrderedDict[str, Any], key: str, value: object, count_max: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > count_max:
        known.popitem(last=False)


def _stale(newest_s: float | None, beats: Mapping[str, float]) -> list[str]:
    told = []
    if newest_s is not None and newest_s > STALE_S:
        told.append(f"no new measurement: the newest is {newest_s:.0f} s old")
    youngest_s = min(beats.values(), default=None)
    if youngest_s is not None and youngest_s > BEAT_OLD_S:
        told.append(f"no heartbeat of any worker for {youngest_s:.0f} s")
    return told


def _quantiles(pairs: list[tuple[Reading, Reading]], stage: str) -> dict[str, float | None]:
    """Return p50 and p99 in ms of what all workers did in the window."""
    before, after = (_joined([pair[side] for pair in pairs], stage) for side in (0, 1))
    found = {
        "p50_ms": quantile_s(before, after, stage, 0.5),
        "p99_ms": quantile_s(before, after, stage, 0.99),
    }
    return {name: None if math.isnan(value) else round(value * 1e3, 3) for name, value in found.items()}


def _joined(readings: list[Reading], stage: str) -> Reading:
    counts: dict[float, float] = {}
    for reading in readings:
        for edge, count in reading.buckets.get(stage, {}).items():
            counts[edge] = counts.get(edge, 0.0) + count
    return Reading(buckets={stage: counts})


def _alert(alert: Alert, now_us: int) -> dict[str, Any]:
    return {
        "alert_id": plain(alert.alert_id),
        "state": alert.state,
        "priority": alert.priority,
        "family": alert.family,
        "area": plain(alert.area),
        "age_s": (now_us - alert.onset_ts_us) / 1e6,
        "message": plain(alert.message),
    }


def _forecast(one: Forecast, limits: tuple[float | None, float | None], now_us: int) -> dict[str, Any]:
    bands, low, high = one.quantiles, *limits
    steps = len(bands.P50)
    quarter = min(steps, max(1, round(15 / one.interval_min))) - 1
    crosses = (high is not None and max(bands.P95) >= high) or (low is not None and min(bands.P05) <= low)
    return {
        "series": plain(one.series),
        "area": plain(one.area),
        "unit": plain(one.unit),
        "age_s": (now_us - one.issued_at_us) / 1e6,
        "method": one.method,
        "last_value": one.last_value,
        "ahead": [
            {
                "minutes": (step + 1) * one.interval_min,
                "p05": bands.P05[step],
                "p50": bands.P50[step],
                "p95": bands.P95[step],
            }
            for step in dict.fromkeys((quarter, steps - 1))
        ],
        "limit_low": low,
        "limit_high": high,
        "crosses": crosses,
    }


def _advice(one: Setpoint, now_us: int) -> dict[str, Any]:
    return {
        "recommendation_id": plain(one.recommendation_id),
        "action": one.action,
        "area": plain(one.area),
        "valid_for_s": (one.valid_until_us - now_us) / 1e6,
        "message": plain(one.message),
    }

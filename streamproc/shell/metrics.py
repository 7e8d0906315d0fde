"""Every Prometheus series of the service, in one place.

Stages count in plain words (`Step.counts`, for example ("rejected", "bad_crc")); the tables below say under
which name, label and help text each word is published. A word that is not in the tables is not published: it
is kept in `unlisted` (a test of ours demands that it stays empty) and logged once.

Names as Prometheus wants them: prefix, base unit, `_total` for counters
(prometheus.io/docs/practices/naming). Durations are seconds in histograms from 1 ms. Label values are
bounded: beyond `LABEL_VALUES_MAX` of one series the rest is counted under "other". A PMU is a label in one
series only, and only once it had trouble; a point or an alert id never is.

The histogram is our own, because a batch of two thousand delays must cost one `searchsorted`, not two
thousand locks. NaN is "unknown" and is not observed; a negative delay (clocks of two machines) counts as
zero.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamproc import __version__
from streamproc.shell.clock import SYSTEM, Clock
from streamproc.shell.series import COUNTERS, GAUGES, STAGES, Series
from streamproc.values import F64, I64, Step

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL_VALUES_MAX = 200  # per series; a site with more areas than this has Prometheus trouble of its own
OTHER = "other"
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """The series of one process, in a registry of its own."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.registry = CollectorRegistry()
        self.unlisted: set[str] = set()
        self.stage_seconds = SecondsHistogram(
            "streamproc_stage_duration_seconds", "Time spent per stage of the path.", "stage", STAGES
        )
        self._counters = {
            word: Counter(f"streamproc_{s.name}", s.text, s.labels, registry=self.registry)
            for word, s in COUNTERS.items()
        }
        self._gauges = {
            word: Gauge(f"streamproc_{s.name}", s.text, s.labels, registry=self.registry)
            for word, s in GAUGES.items()
        }
        self._lag = Gauge(
            "streamproc_consumer_lag_records",
            "Records between the position and the end of a partition.",
            ("topic", "partition"),
            registry=self.registry,
        )
        self._model = Gauge(
            "streamproc_model_info", "Model in force, by slot.", ("slot", "digest"), registry=self.registry
        )
        build = Gauge(
            "streamproc_build_info",
            "Version of the running code.",
            ("version", "python"),
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._event_age = EventAge(clock)
        self._models: dict[str, str] = {}
        self._bound = _Bound()
        self.registry.register(self.stage_seconds)
        self.registry.register(self._event_age)
        ProcessCollector(registry=self.registry)

    def apply(self, step: Step[Any]) -> None:
        """Publish what one step of a stage counted and measured."""
        for (word, label), amount in step.counts.items():
            self.count(word, label, amount)
        for (word, label), value in step.gauges.items():
            self.gauge(word, label, value)
        for stage, delays_s in step.delays_s.items():
            self.observe_stage(stage, delays_s)

    def count(self, word: str, label: str, amount: float = 1) -> None:
        """Add to a counter of the table."""
        counter = self._counters.get(word)
        if counter is None:
            self._note_unlisted(word)
            return
        counter.labels(*self._labels(word, label, COUNTERS[word])).inc(amount)

    def gauge(self, word: str, label: str, value: float) -> None:
        """Set a gauge; "event_time_s" also gives the age of the last event, "model" says what is in force."""
        if word == "event_time_s":
            self._event_age.seen(self._bound(word, label), value)
            return
        if word == "model":  # "slot|digest"
            slot, _, digest = label.rpartition("|")
            self.set_model(self._bound(word, slot), digest)
            return
        gauge = self._gauges.get(word)
        if gauge is None:
            self._note_unlisted(word)
            return
        gauge.labels(*self._labels(word, label, GAUGES[word])).set(value)

    def observe_stage(self, stage: str, seconds: ArrayLike) -> None:
        """Observe one duration, or an array of them, in seconds."""
        if stage not in STAGES:
            self._note_unlisted(stage)
            return
        self.stage_seconds.observe(stage, seconds)

    def set_lag(self, topic: str, partition: int, records: int) -> None:
        """Say how far behind the end of a partition the position is."""
        self._lag.labels(self._bound("lag", topic), str(partition)).set(records)

    def drop_lag(self, topic: str, partition: int) -> None:
        """Forget a partition that this worker no longer holds."""
        # A series that is not there yet would make `remove` complain.
        self._lag.labels(self._bound("lag", topic), str(partition))
        self._lag.remove(self._bound("lag", topic), str(partition))

    def set_model(self, slot: str, digest: str) -> None:
        """Say which model is in force in a slot; the one before is no longer shown."""
        before = self._models.get(slot)
        if before == digest:
            return
        if before is not None:
            self._model.remove(slot, before)
        self._models[slot] = digest
        self._model.labels(slot, digest).set(1)

    def expose(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def total(self, word: str) -> float:
        """Return the sum of a counter over its labels (for summaries and tests)."""
        samples = (s for family in self._counters[word].collect() for s in family.samples)
        return sum(s.value for s in samples if s.name.endswith("_total"))

    def _labels(self, word: str, label: str, series: Series) -> list[str]:
        parts = self._bound(word, label).split("/", len(series.labels) - 1)
        return parts + [OTHER] * (len(series.labels) - len(parts))

    def _note_unlisted(self, word: str) -> None:
        if word not in self.unlisted:
            self.unlisted.add(word)
            log.warning("metric not in the tables", extra={"metric": word})


class SecondsHistogram(Collector):
    """A histogram with one label, fed with arrays."""

    def __init__(self, name: str, text: str, label: str, values: Iterable[str]) -> None:
        self._name, self._text, self._label = name, text, label
        self._edges_s: F64 = np.array(BUCKETS_S)
        self._counts: dict[str, I64] = {v: np.zeros(len(BUCKETS_S) + 1, np.int64) for v in values}
        self._sums_s: dict[str, float] = dict.fromkeys(self._counts, 0.0)

    def observe(self, value: str, seconds: ArrayLike) -> None:
        """Add one duration or an array of them; what is not finite is left out."""
        given: F64 = np.atleast_1d(np.asarray(seconds, dtype=np.float64)).ravel()
        known: F64 = np.maximum(given[np.isfinite(given)], 0.0)
        # "left": a value equal to an edge belongs to that bucket (`le` means less or equal).
        index = np.searchsorted(self._edges_s, known, side="left")
        self._counts[value] += np.bincount(index, minlength=len(BUCKETS_S) + 1)
        self._sums_s[value] += float(known.sum())

    def count(self, value: str) -> int:
        """Return how many were observed."""
        return int(self._counts[value].sum())

    def quantile_s(self, value: str, q: float) -> float:
        """Return the q-quantile, linear inside its bucket; NaN before the first observation."""
        counts = self._counts[value]
        total = counts.sum()
        if total == 0:
            return float("nan")
        reached: F64 = np.concatenate(([0.0], np.cumsum(counts[:-1]) / total))
        return float(np.interp(q, reached, np.concatenate(([0.0], self._edges_s))))

    def collect(self) -> Iterable[Metric]:
        """Return the family for Prometheus."""
        family = HistogramMetricFamily(self._name, self._text, labels=(self._label,))
        for value, counts in self._counts.items():
            edges = [*map(str, BUCKETS_S), "+Inf"]
            buckets = [(edge, float(n)) for edge, n in zip(edges, np.cumsum(counts), strict=True)]
            family.add_metric((value,), buckets, sum_value=self._sums_s[value])
        yield family


class EventAge(Collector):
    """The time of the last event per area and, when asked, its age: it grows while nothing comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event_time_s: dict[str, float] = {}

    def seen(self, area: str, event_time_s: float) -> None:
        """Note the newest event time of an area, seconds UTC."""
        self._event_time_s[area] = event_time_s

    def collect(self) -> Iterable[Metric]:
        """Return both families for Prometheus."""
        at = GaugeMetricFamily("streamproc_event_time_seconds", "Newest measurement time.", labels=("area",))
        age = GaugeMetricFamily(
            "streamproc_event_time_age_seconds", "Age of the newest measurement now.", labels=("area",)
        )
        now_s = self._clock.wall_ns() / 1e9
        for area, event_time_s in self._event_time_s.items():
            at.add_metric((area,), event_time_s)
            age.add_metric((area,), now_s - event_time_s)
        yield from (at, age)


class Stopwatch:
    """The probe of the running service (`values.Probe`): each lap is one observation of its stage."""

    def __init__(self, metrics: Metrics, now_s: Callable[[], float] = SYSTEM.monotonic_s) -> None:
        self._metrics, self._now_s = metrics, now_s
        self._last_s = now_s()

    def start(self) -> None:
        """Begin a batch: what lies before belongs to nobody."""
        self._last_s = self._now_s()

    def lap(self, stage: str) -> None:
        """Attribute the wall time since the last call to `stage`."""
        now_s = self._now_s()
        self._metrics.observe_stage(stage, now_s - self._last_s)
        self._last_s = now_s


class _Bound:
    """Lets the first `LABEL_VALUES_MAX` values of a series through; the rest become "other"."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def __call__(self, word: str, label: str) -> str:
        known = self._known.setdefault(word, set())
        if label in known:
            return label
        if len(known) >= LABEL_VALUES_MAX:
            return OTHER
        known.add(label)
        return label

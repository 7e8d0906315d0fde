"""Records through the path once more, to see an alert rise and to keep what it was made of.

Whatever the length of a recording, only the last minute of frames is held: as soon as the stream is far enough past
the onset of a wanted alert, its evidence is gathered, and everything older is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from streamproc.config import SiteConfig
from streamproc.core.messages import Alert, decode
from streamproc.core.wire import Refusal
from streamproc.shell.explain import points
from streamproc.shell.explain.ear import Ear
from streamproc.shell.explain.evidence import LEAD_S, POST_S, PRE_S, Evidence, gather
from streamproc.shell.explain.find import LATEST
from streamproc.shell.explain.points import Point, is_point, points_of
from streamproc.shell.offline import make_path
from streamproc.stages.score import Models
from streamproc.values import TOPIC_ALERTS, TOPIC_FRAMES, TOPIC_SCADA, Record

KEEP_S = 60.0  # an onset may lie so long before its alert
LATE_S = 2.0  # an instant closes so long after its time, at most
BATCH = 256  # records
SEEN_MAX = 5000  # alerts that are remembered, for the words about an id that is not there


@dataclass(slots=True)
class Story:
    """One alert: what was told of it, in order, and what was seen around its onset."""

    told: list[Alert] = field(default_factory=list)
    evidence: Evidence | None = None
    points: tuple[Point, ...] = ()

    @property
    def alert(self) -> Alert:
        """Return the alert as told last."""
        return self.told[-1]


class Kept:
    """The last records of one topic, by area."""

    def __init__(self) -> None:
        self._records: dict[str, deque[Record]] = {}

    def add(self, record: Record) -> None:
        """Keep a record."""
        area = (record.key or b"").decode("utf-8", "replace")
        self._records.setdefault(area, deque()).append(record)

    def of(self, area: str) -> list[Record]:
        """Return the records of an area."""
        return list(self._records.get(area, ()))

    def now_us(self, area: str) -> int:
        """Return the time of the newest record; 0 for none."""
        kept = self._records.get(area)
        return kept[-1].ts_ms * 1000 if kept else 0

    def forget(self, area: str, before_us: int) -> None:
        """Forget what is older."""
        kept = self._records.get(area)
        while kept and kept[0].ts_ms * 1000 < before_us:
            kept.popleft()

    @property
    def areas(self) -> list[str]:
        """Return the areas."""
        return list(self._records)


class Play:
    """One run of records through the path of a site. `wanted`: an id, the beginning of one, or "latest"."""

    def __init__(self, site: SiteConfig, bundle: Path | None, wanted: str) -> None:
        self.stories: dict[str, Story] = {}
        self.seen: dict[str, Alert] = {}  # the first transition of every alert
        self._expected: set[str] = set()
        self._site, self._wanted = site, wanted
        self._pending: set[str] = set()
        self._frames, self._points = Kept(), Kept()
        ears: list[Ear] = []

        def listen(models: Models) -> Models:
            ears.append(Ear(models))
            return ears[0]

        self._path = make_path(site, bundle, listen)
        self._ear = ears[0]

    def expect(self, told: Iterable[Alert]) -> None:
        """Gather what is around the onset of this alert, whether or not it rises again."""
        story = Story(list(told))
        self.stories[story.alert.alert_id] = story
        self._expected.add(story.alert.alert_id)
        self._pending.add(story.alert.alert_id)

    def run(self, records: Iterable[Record]) -> None:
        """Play all records."""
        source = iter(records)
        while batch := list(islice(source, BATCH)):
            for record in batch:
                if record.topic == TOPIC_FRAMES:
                    self._frames.add(record)
                elif record.topic == TOPIC_SCADA:
                    self._points.add(record)
            for output in self._path.feed(batch):
                if output.topic == TOPIC_ALERTS:
                    self._note(decode(Alert, output.value))
            self._finish(at_end=False)
            self._forget()
        self._finish(at_end=True)

    def _note(self, alert: Alert | Refusal) -> None:
        assert isinstance(alert, Alert), alert
        known = alert.alert_id
        if known not in self.seen and len(self.seen) < SEEN_MAX:
            self.seen[known] = alert
        if self._expected:
            return  # what there is to tell of it is known
        if self._wanted == LATEST:
            if alert.seq == 1:
                self.stories, self._pending = {}, set()
            elif known not in self.stories:
                return
        elif not known.startswith(self._wanted):
            return
        story = self.stories.setdefault(known, Story())
        if not story.told:
            self._pending.add(known)
        if (alert.seq, alert.state) not in {(a.seq, a.state) for a in story.told}:
            story.told.append(alert)

    def _finish(self, *, at_end: bool) -> None:
        """Gather the evidence of the alerts for which all has come."""
        for known in list(self._pending):
            alert, story = self.stories[known].alert, self.stories[known]
            if is_point(alert, self._site):
                if at_end or self._points.now_us(alert.area) >= alert.onset_ts_us + points.POST_S * 1e6:
                    story.points = points_of(alert, self._points.of(alert.area), self._site)
                    self._pending.discard(known)
            elif at_end or self._now_us(alert.area) >= alert.onset_ts_us + (POST_S + LATE_S) * 1e6:
                frames = self._frames.of(alert.area)
                story.evidence = gather(alert, self._site, self._path.state("score"), self._ear, frames)
                self._pending.discard(known)

    def _now_us(self, area: str) -> int:
        return self._ear.newest_us(area) or self._frames.now_us(area)

    def _forget(self) -> None:
        for area in self._frames.areas:
            onsets = [a.onset_ts_us for a in self._waiting() if a.area == area]
            first_us = min([self._now_us(area) - round(KEEP_S * 1e6), *onsets])
            first_us -= round((PRE_S + LEAD_S) * 1e6)
            self._ear.forget(area, first_us)
            self._frames.forget(area, first_us - round(LATE_S * 1e6))
        for area in self._points.areas:
            onsets = [a.onset_ts_us for a in self._waiting() if a.area == area]
            first_us = min([self._points.now_us(area), *onsets])
            self._points.forget(area, first_us - round(points.PRE_S * 1e6))

    def _waiting(self) -> list[Alert]:
        return [self.stories[known].alert for known in self._pending]

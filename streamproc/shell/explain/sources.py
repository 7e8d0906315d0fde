"""Where an explanation comes from: recordings played offline, or Kafka. Both give the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np

from streamproc.config import SiteConfig
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert
from streamproc.core.quality import DISCARDED
from streamproc.shell.explain.evidence import POST_S, PRE_S, Evidence
from streamproc.shell.explain.find import chosen
from streamproc.shell.explain.hint import replay_hint
from streamproc.shell.explain.kafka import Found, read_around, read_told
from streamproc.shell.explain.play import Play, Story
from streamproc.shell.recording import read_recording
from streamproc.values import TOPIC_CONFIG, TOPIC_FRAMES, Record

AT_ONSET = "The frames begin with the onset: what was before is not known."
Watch = Callable[[Iterable[Record]], Iterable[Record]]  # to show progress


@dataclass(frozen=True, slots=True)
class Explained:
    """An alert with all that there is to tell of it."""

    story: Story
    commands: tuple[str, ...]  # that show it again
    notes: tuple[str, ...]  # what a reader must know about this page
    records: tuple[Record, ...] = ()  # that were read from Kafka

    @property
    def alert(self) -> Alert:
        """Return the alert as told last."""
        return self.story.alert

    @property
    def evidence(self) -> Evidence | None:
        """Return what was seen around its onset."""
        return self.story.evidence


def from_recordings(
    site: SiteConfig,
    bundle: Path | None,
    wanted: str,
    files: Sequence[Path],
    *,
    area: str | None = None,
    rate_hz: float | None = None,
    note: Callable[[str], None] = lambda _: None,
    watch: Watch = lambda records: records,
) -> Explained:
    """Return the explanation of an alert of recordings, one after the other; raises StreamprocError."""
    points = {point.id for point in site.point}

    def records() -> Iterator[Record]:
        for file in files:
            yield from read_recording(
                file,
                area=area,
                rate_hz=rate_hz,
                points=points,
                nominal_hz=site.site.nominal_hz,
                note=note,
            )

    play = Play(site, bundle, wanted)
    play.run(watch(records()))
    names = ", ".join(file.name for file in files)
    story = play.stories[chosen(wanted, list(play.stories), play.seen, names)]
    alert = story.alert
    given = " ".join(f"--recording {quote(str(file))}" for file in files)
    commands = (
        f"{replay_hint(alert).command} {given}" + (f" --area {quote(area)}" if area else ""),
        *(
            f"streamproc replay {quote(str(file))} --area {quote(alert.area)} --to HOST:PORT"
            for file in files
        ),
    )
    return Explained(story, commands, _notes(alert, story, None))


async def from_broker(
    site: SiteConfig, bundle: Path | None, wanted: str, *, watch: Watch = lambda records: records
) -> Explained:
    """Return the explanation of an alert of the broker of a site; raises StreamprocError."""
    told = await read_told(site, wanted)
    alert = told[-1]
    found = await read_around(site, alert)
    play = Play(site, bundle, alert.alert_id)
    play.expect(told)
    play.run(watch(found.records))
    story = play.stories[alert.alert_id]
    hint = replay_hint(alert)
    file = f"{alert.alert_id[:12]}" + (".c37" if hint.topic == TOPIC_FRAMES else ".ndjson")
    commands = (
        hint.command,
        f"{hint.command} --save {file}",
        f"streamproc replay {file} --area {quote(alert.area)} --to HOST:PORT",
    )
    notes = _notes(alert, story, found)
    if alert.alert_id not in play.seen and story.evidence is not None:
        notes += (
            "Played again, these frames do not raise the alert of this id: the worker had other windows, "
            "another bundle or another site file. The traces are those of the alert, the scores may differ.",
        )
    return Explained(story, commands, notes, found.records)


def _notes(alert: Alert, story: Story, found: Found | None) -> tuple[str, ...]:
    """Return what is not as a reader would expect."""
    notes = []
    if found is not None and found.since is not None:
        partition, offset, ts_us = found.since
        age_s = (alert.onset_ts_us - ts_us) / 1e6
        if age_s > 0:
            notes.append(
                f"Older records are gone: partition {partition} begins with offset {offset}, {age_s:.0f} s before "
                "the onset. Rules that look further back are not judged as they were."
            )
    evidence = story.evidence
    if evidence is None:
        if not story.points:
            notes.append("No records of this area were seen around the onset: there is nothing to draw.")
        return tuple(notes)
    there = np.flatnonzero((evidence.flags & DISCARDED == 0).any(axis=1))
    if not there.size:
        notes.append("No frames of this area were seen around the onset.")
        return tuple(notes)
    first_s, last_s = float(evidence.t_s[there[0]]), float(evidence.t_s[there[-1]])
    if first_s > -PRE_S + 1.0:
        side = "before" if first_s < 0.0 else "after"
        notes.append(
            f"The frames begin {abs(first_s):.1f} s {side} the onset." if abs(first_s) >= 0.05 else AT_ONSET
        )
    if last_s < POST_S - 1.0:
        at = iso_time((alert.onset_ts_us + round(last_s * 1e6)) * 1000)
        notes.append(f"The frames end {last_s:.1f} s after the onset, at {at}.")
    return tuple(notes)


def save(records: Sequence[Record], path: Path) -> int:
    """Write records as a recording, configurations first; return how many bytes."""
    points = path.suffix in {".ndjson", ".jsonl"}
    ordered = sorted(records, key=lambda record: record.topic != TOPIC_CONFIG)  # stable
    end = b"\n" if points else b""
    content = b"".join(record.value + end for record in ordered if record.value)
    path.write_bytes(content)
    return len(content)

"""One event or one piece of ambient through the whole path, as a task of its own; many tasks on several processes.

A task draws its own random numbers from the seed, the corpus, the tier, what is spoilt and its own number: any order
and any number of processes give the same result.

    event     14 s of the event's own steady state, then the event until 11 s after its onset
    ambient   five minutes of event-free data (less with very many PMUs), after 14 s that are not judged
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamproc import pipeline
from streamproc.config import AreaTable, SiteConfig
from streamproc.core.messages import Alert, decode
from streamproc.evaluation.ambient import Ambient
from streamproc.evaluation.corpus import ANGLE, FREQUENCY, VOLTAGE, Corpus
from streamproc.evaluation.frames import AREA, START_NS, Stream
from streamproc.evaluation.impair import IMPAIRMENTS
from streamproc.evaluation.noise import Signals, moved, noisy
from streamproc.evaluation.site import Tools, at_rest, digits
from streamproc.values import F64, TOPIC_ALERTS

LEAD_S = 14.0  # of steady state before an event, so that every window is full
AFTER_S = 11.0  # after the onset; what is counted ends a second before
PIECE_S, PIECE_PMUS = 300.0, 150  # of ambient in one task; less with more PMUs
PIECE_MIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What a table is about: a corpus with noise of a tier, spoilt in one way ("" for not at all)."""

    corpus: int
    tier: str
    impair: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One run. `number` of the event; -1 for ambient, which is `stretch[start:stop]` of the test half."""

    setting: Setting
    number: int
    stretch: int = 0
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What stood in the alerts topic. Rows count from the first frame of the run, of which `lead` are not judged."""

    task: Task
    alerts: tuple[Alert, ...]
    rows: tuple[int, ...]  # of each alert record: the frame of its event time
    lead: int
    n_row: int
    ambient_hz: F64  # (n_row,) as added
    rejected: int  # records that could not be evaluated


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process must know."""

    corpora: tuple[Corpus, ...]
    ambients: tuple[Ambient, ...]  # of each corpus, at its rate
    bundles: Mapping[tuple[int, str], Path | None]  # (corpus, tier) -> bundle; None: the generic one
    tools: Tools
    site: SiteConfig
    seed: int
    betas: Mapping[
        tuple[int, int], float
    ]  # (corpus, rest of the event's number by 2) -> MW per Hz, not from the event


def lead_rows(rate_hz: float) -> int:
    """Return how many frames of steady state stand before an event."""
    return round(LEAD_S * rate_hz)


def tasks_of(job: Job, setting: Setting, events: Sequence[int], ambient_s: float) -> Iterator[Task]:
    """Yield the tasks of a table; `ambient_s` bounds the event-free data."""
    for number in events:
        yield Task(setting, number)
    corpus = job.corpora[setting.corpus]
    rate_hz = corpus.rate_hz
    piece_s = max(PIECE_MIN_S, PIECE_S * min(1.0, PIECE_PMUS / corpus.n_pmu))
    left, piece = round(ambient_s * rate_hz), round(piece_s * rate_hz)
    for index, stretch in enumerate(job.ambients[setting.corpus].stretches):
        start = lead_rows(rate_hz)
        while start < stretch.size and left > 0:
            stop = min(start + min(piece, left), stretch.size)
            yield Task(setting, -1, index, start, stop)
            left -= stop - start
            start = stop


def perform(job: Job, task: Task) -> Run:
    """Return what the path says. An error in it is not hidden; it says where it happened."""
    try:
        return _perform_task(job, task)
    except Exception as error:
        setting, corpus = task.setting, job.corpora[task.setting.corpus]
        what = "event-free data" if task.number < 0 else f"event {task.number}"
        error.add_note(f"in {corpus.path}: {what}, {setting.tier} {setting.impair}")
        raise


def _perform_task(job: Job, task: Task) -> Run:
    setting = task.setting
    corpus, ambient = job.corpora[setting.corpus], job.ambients[setting.corpus]
    name = f"{task.number} {task.stretch} {task.start}"
    # What is spoilt draws its own numbers: the noise below it is the same for each.
    noise, spoil = (
        np.random.default_rng([job.seed, *digits(corpus.digest, setting.tier, name, what)])
        for what in ("noise", setting.impair)
    )
    lead = lead_rows(corpus.rate_hz)
    if task.number < 0:
        under = ambient.stretches[task.stretch][task.start - lead : task.stop]
        signals = at_rest(corpus, under, setting.tier, noise)
    else:
        clean = event_signals(corpus, task.number)
        under = ambient.stretch(clean.freq_hz.shape[0], noise)
        signals = noisy(moved(clean, under, corpus.rate_hz), setting.tier, corpus.rate_hz, noise)
    if setting.impair:
        signals = IMPAIRMENTS[setting.impair](signals, corpus.rate_hz, spoil)
    site = with_beta(job.site, job.betas.get((setting.corpus, task.number % 2)))
    path = job.tools.make_path(site, job.bundles[setting.corpus, setting.tier])
    alerts = tuple(alerts_of(path, corpus, signals))
    rows = tuple(row_of(alert.ts_us, corpus.rate_hz) for alert in alerts)
    rejected = sum(n for (metric, _), n in path.counts.items() if metric == "rejected")
    return Run(task, alerts, rows, lead, under.size, under, rejected)


def with_beta(site: SiteConfig, beta_mw_per_hz: float | None) -> SiteConfig:
    """Return the site with the stiffness of its area; unchanged if the site file knows it, or nobody does."""
    if beta_mw_per_hz is None or any(area.name == AREA for area in site.area):
        return site
    known = AreaTable(name=AREA, beta_mw_per_hz=beta_mw_per_hz)
    return msgspec.structs.replace(site, area=(*site.area, known))


def event_signals(corpus: Corpus, number: int) -> Signals:
    """Return an event without noise behind its lead, (n_row, n_pmu)."""
    rate_hz, lead = corpus.rate_hz, lead_rows(corpus.rate_hz)
    stop = corpus.onset_row(number) + round(AFTER_S * rate_hz)
    x = corpus.x[number, :stop].astype(np.float64)
    before = np.arange(-lead, 0)[:, None]
    turn = 2.0 * np.pi * (x[0, :, FREQUENCY] - corpus.nominal_hz) / rate_hz
    ones = np.ones((lead, 1))
    return Signals.of(
        np.concatenate([x[0, :, VOLTAGE] * ones, x[:, :, VOLTAGE]]),
        np.concatenate([x[0, :, ANGLE] + turn * before, x[:, :, ANGLE]]),
        np.concatenate([x[0, :, FREQUENCY] * ones, x[:, :, FREQUENCY]]),
    )


def alerts_of(path: pipeline.Path, corpus: Corpus, signals: Signals) -> Iterator[Alert]:
    """Yield what would stand in the alerts topic."""
    stream = Stream.of(corpus.stations, corpus.rate_hz, corpus.nominal_hz)
    for output in pipeline.run(path, stream.records(signals)):
        if output.topic == TOPIC_ALERTS:
            alert = decode(Alert, output.value)
            assert isinstance(alert, Alert), f"the service wrote what nobody can read: {alert}"
            yield alert


def row_of(ts_us: int, rate_hz: float) -> int:
    """Return the frame of a run that a time belongs to."""
    return round((ts_us - START_NS // 1000) * rate_hz / 1e6)


_JOB: list[Job] = []  # of this process


def _begin(job: Job) -> None:
    _JOB[:] = [job]


def _perform(task: Task) -> Run:
    return perform(_JOB[0], task)


def perform_all(
    job: Job, tasks: Sequence[Task], jobs: int, done: Callable[[Run], Any] = lambda _: None
) -> list[Run]:
    """Return the runs in the order of the tasks, made by `jobs` processes."""
    runs: list[Run] = []
    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            runs.append(perform(job, task))
            done(runs[-1])
        return runs
    context = mp.get_context("spawn")
    with context.Pool(min(jobs, len(tasks)), _begin, (job,)) as pool:
        for run in pool.imap(_perform, tasks, chunksize=4):
            runs.append(run)
            done(run)
    return runs

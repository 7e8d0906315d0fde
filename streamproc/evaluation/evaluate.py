"""The whole evaluation of corpora: calibrate each, run all, put the figures into tables."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamproc.config import SiteConfig
from streamproc.errors import RecordingError
from streamproc.evaluation.ambient import CALIBRATE_S, Ambient
from streamproc.evaluation.beta import beta_of_others
from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.run import Job, Run, Setting, Task, perform_all, tasks_of
from streamproc.evaluation.site import Tools, calibrated
from streamproc.evaluation.table import Table, table_of
from streamproc.evaluation.truth import truths_of

CALIBRATE_BYTES_MAX = 4e9
BYTES_PER_ROW = 3 * 8 * 5  # of one PMU, with the copies that the fit makes
AMBIENT_S = 3600.0  # of event-free data at most
AMBIENT_IMPAIRED_S = 600.0  # the same where the data are spoilt


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    tiers: tuple[str, ...]
    impairments: tuple[str, ...]  # names of IMPAIRMENTS, each with every one of `impaired_tiers`
    impaired_tiers: tuple[str, ...]
    seed: int = 1
    jobs: int = 1
    limit: int | None = None  # events of each corpus, spread over it
    ambient_s: float = AMBIENT_S  # of event-free data at most
    generic: bool = False  # the bundle of the package instead of a calibration


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how it goes: what begins with how many steps, and each step."""

    begin: Callable[[str, int], Any] = lambda *_: None
    step: Callable[[Any], Any] = lambda _: None


def evaluate_events(
    corpora: Sequence[Corpus],
    ambient: Ambient,
    wish: Wish,
    tools: Tools,
    site: SiteConfig,
    room: Path,
    watch: Watch,
) -> list[Table]:
    """Return one table per corpus, tier and impairment; `room` is an empty directory for bundles."""
    ambients = tuple(ambient.at_rate(corpus.rate_hz) for corpus in corpora)
    settings = [
        Setting(number, tier, impair)
        for number in range(len(corpora))
        for impair in ("", *wish.impairments)
        for tier in (wish.impaired_tiers if impair else wish.tiers)
    ]
    bundles = bundles_of(corpora, ambients, settings, wish, tools, site, room, watch)
    betas = {
        (number, rest): beta for number, c in enumerate(corpora) for rest, beta in beta_of_others(c).items()
    }
    job = Job(tuple(corpora), ambients, bundles, tools, site, wish.seed, betas)
    tasks = [task for setting in settings for task in tasks_for(job, setting, wish)]
    watch.begin("runs", len(tasks))
    runs: dict[Setting, list[Run]] = {setting: [] for setting in settings}
    for run in perform_all(job, tasks, wish.jobs, watch.step):
        runs[run.task.setting].append(run)
    truths = [truths_of(corpus) for corpus in corpora]
    return [table_of(corpora[s.corpus], truths[s.corpus], s, runs[s]) for s in settings]


def tasks_for(job: Job, setting: Setting, wish: Wish) -> list[Task]:
    """Return the tasks of one table."""
    events = chosen(len(job.corpora[setting.corpus].events), wish)
    ambient_s = min(wish.ambient_s, AMBIENT_IMPAIRED_S) if setting.impair else wish.ambient_s
    return list(tasks_of(job, setting, events, ambient_s))


def chosen(count: int, wish: Wish) -> list[int]:
    """Return the numbers of the events to run: all, or so many as the limit allows, drawn at random."""
    if wish.limit is None or wish.limit >= count:
        return list(range(count))
    drawn = np.random.default_rng([wish.seed, count]).permutation(count)[: wish.limit]
    return sorted(drawn.tolist())


def bundles_of(
    corpora: Sequence[Corpus],
    ambients: Sequence[Ambient],
    settings: Sequence[Setting],
    wish: Wish,
    tools: Tools,
    site: SiteConfig,
    room: Path,
    watch: Watch,
) -> Mapping[tuple[int, str], Path | None]:
    """Return the site bundle of each corpus and tier, written into `room`."""
    wanted = list(dict.fromkeys((setting.corpus, setting.tier) for setting in settings))
    if wish.generic:
        return dict.fromkeys(wanted)
    for number in dict.fromkeys(number for number, _ in wanted):
        check_size(corpora[number])
    watch.begin("sites", len(wanted))
    asked = [(corpora[n], ambients[n], tier, wish.seed, tools, site) for n, tier in wanted]
    bundles: dict[tuple[int, str], Path | None] = {}

    def keep(place: int, files: dict[str, bytes]) -> None:
        number, tier = wanted[place]
        bundles[number, tier] = room / f"{number}_{tier}"
        tools.write(files, room / f"{number}_{tier}")
        watch.step(None)

    if wish.jobs <= 1 or len(asked) <= 1:
        for place, parts in enumerate(asked):
            keep(place, calibrated(*parts))
    else:
        with mp.get_context("spawn").Pool(min(wish.jobs, len(asked))) as pool:
            for place, files in enumerate(pool.imap(_calibrated, asked)):
                keep(place, files)
    return bundles


def check_size(corpus: Corpus) -> None:
    """Raise RecordingError if ten minutes of so many PMUs do not fit into memory."""
    per_pmu = CALIBRATE_S * corpus.rate_hz * BYTES_PER_ROW
    if corpus.n_pmu * per_pmu > CALIBRATE_BYTES_MAX:
        raise RecordingError(
            f"{corpus.path}: pmu_bus: {corpus.n_pmu} PMUs at {corpus.rate_hz:g} frames/s are too many to calibrate "
            f"as one area, {int(CALIBRATE_BYTES_MAX // per_pmu)} are not; split them, or use --generic"
        )


def _calibrated(parts: tuple[Any, ...]) -> dict[str, bytes]:
    return calibrated(*parts)

"""Tables: the figures of one corpus with one noise, spoilt in one way or not, and the summary over all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.match import (
    AGES_S,
    Outcome,
    alarmed_rows,
    false_in_ambient,
    outcome_of,
    quality_of,
)
from streamproc.evaluation.metrics import (
    DAY_S,
    Bin,
    Detection,
    FalseAlarms,
    Kinds,
    Numbers,
    Where,
    detection,
    false_alarms,
    kinds,
    nadir,
    reliability,
    size,
    where,
)
from streamproc.evaluation.run import Run, Setting
from streamproc.evaluation.truth import Truth


class FalseAlarm(msgspec.Struct, frozen=True):
    """One false alarm in event-free data."""

    at_s: float  # in its stretch of the test half
    stretch: int
    rule: str
    kind: str
    source: str
    score: float
    message: str


class Table(msgspec.Struct, frozen=True):
    """All that is known of a setting."""

    corpus: str
    case: str
    tier: str
    impair: str
    pmus: int
    rate_hz: float
    nominal_hz: float
    detection: Detection
    false_alarms: FalseAlarms
    kinds: tuple[Kinds, ...]  # at each of AGES_S
    where: Where
    reliability: tuple[Bin, ...]  # at 1 s
    nadir: Numbers  # mHz
    size: Numbers  # share of the true power
    quality: dict[str, int]  # alerts about the data, in events and ambient, by kind
    rejected: int
    outcomes: tuple[Outcome, ...]
    false: tuple[FalseAlarm, ...]

    @property
    def title(self) -> str:
        """Return what the table is about, in a few words."""
        return " ".join(filter(None, (self.corpus, self.tier, self.impair)))


RELIABILITY_AGE = AGES_S.index(1.0)


def table_of(corpus: Corpus, truths: Sequence[Truth], setting: Setting, runs: Sequence[Run]) -> Table:
    """Return the table of one setting from its runs."""
    events = [run for run in runs if run.task.number >= 0]
    ambient = [run for run in runs if run.task.number < 0]
    outcomes = tuple(outcome_of(corpus, truths[run.task.number], run) for run in events)
    false = tuple(_false(run, row, corpus.rate_hz) for run in ambient for row, _ in false_in_ambient(run))
    seconds = sum(run.n_row - run.lead for run in ambient) / corpus.rate_hz
    open_s = sum(alarmed_rows(run) for run in ambient) / corpus.rate_hz
    quality: Counter[str] = Counter()
    for run in runs:
        quality.update(quality_of(run))
    return Table(
        corpus=corpus.name,
        case=corpus.case,
        tier=setting.tier,
        impair=setting.impair,
        pmus=corpus.n_pmu,
        rate_hz=corpus.rate_hz,
        nominal_hz=corpus.nominal_hz,
        detection=detection(outcomes, len(false)),
        false_alarms=false_alarms(len(false), seconds, seconds * corpus.n_pmu, open_s),
        quality=dict(sorted(quality.items())),
        rejected=sum(run.rejected for run in runs),
        outcomes=outcomes,
        false=false,
        **_judged(outcomes),
    )


def pooled(tables: Sequence[Table]) -> list[Table]:
    """Return one table per noise and impairment over all corpora; none where there is one corpus only."""
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in tables:
        groups.setdefault((table.tier, table.impair), []).append(table)
    return [_joined(group) for group in groups.values() if len(group) > 1]


def _joined(tables: Sequence[Table]) -> Table:
    outcomes = tuple(outcome for table in tables for outcome in table.outcomes)
    false = tuple(alarm for table in tables for alarm in table.false)
    minutes = sum(table.false_alarms.minutes for table in tables)
    pmu_days = sum(table.false_alarms.pmu_days for table in tables)
    open_s = sum(table.false_alarms.open_share * table.false_alarms.minutes * 60.0 for table in tables)
    quality: Counter[str] = Counter()
    for table in tables:
        quality.update(table.quality)
    return msgspec.structs.replace(
        tables[0],
        corpus=f"all {len(tables)} corpora",
        case="",
        pmus=sum(table.pmus for table in tables),
        rate_hz=math.nan,
        nominal_hz=math.nan,
        detection=detection(outcomes, len(false)),
        false_alarms=false_alarms(len(false), minutes * 60.0, pmu_days * DAY_S, open_s),
        quality=dict(sorted(quality.items())),
        rejected=sum(table.rejected for table in tables),
        outcomes=outcomes,
        false=false,
        **_judged(outcomes),
    )


def _judged(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the parts of a table that follow from the outcomes alone."""
    return {
        "kinds": tuple(kinds(outcomes, age) for age in range(len(AGES_S))),
        "where": where(outcomes),
        "reliability": reliability(outcomes, RELIABILITY_AGE),
        "nadir": nadir(outcomes),
        "size": size(outcomes),
    }


def _false(run: Run, row: int, rate_hz: float) -> FalseAlarm:
    alert = next(alert for at, alert in false_in_ambient(run) if at == row)
    at_s = (run.task.start - run.lead + row) / rate_hz
    return FalseAlarm(
        at_s, run.task.stretch, alert.rule, alert.kind, alert.source, alert.score, alert.message
    )


SUMMARY_HEAD = (
    "corpus",
    "noise",
    "events",
    "P",
    "R",
    "F1",
    "delay p50/p95/max s",
    "FA/min",
    "FA/day/100",
    "kind F1 .5/1/2 s",
    "top1/3",
)


def summary_row(table: Table) -> tuple[str, ...]:
    """Return one line of the summary, as SUMMARY_HEAD."""
    found, false = table.detection, table.false_alarms
    return (
        table.corpus,
        " ".join(filter(None, (table.tier, table.impair))),
        f"{found.found}/{found.events}",
        figure(found.precision),
        figure(found.recall),
        figure(found.f1),
        "/".join(figure(value, 2) for value in found.delay_s),
        f"{false.count}/{false.minutes:.0f}",
        f"{figure(false.per_day_100_pmus, 0)} <{figure(false.per_day_100_pmus_bound, 0)}",
        "/".join(figure(k.macro_f1) for k in table.kinds),
        f"{figure(table.where.top1, 2)}/{figure(table.where.top3, 2)}",
    )


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number as it stands in a table, "-" for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with columns of equal width: the first two to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]

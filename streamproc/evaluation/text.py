"""Tables as text for a terminal: a summary first, then what is behind it, then every miss by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamproc.core.disturbance import KINDS
from streamproc.evaluation.match import AGES_S, Outcome
from streamproc.evaluation.metrics import spread
from streamproc.evaluation.noise import TIERS
from streamproc.evaluation.table import (
    RELIABILITY_AGE,
    SUMMARY_HEAD,
    Table,
    aligned,
    figure,
    pooled,
    summary_row,
)

CLEAR_SD = 10.0
MISS_HEAD = ("event", "what went wrong", "truth", "told at 1 s", "dv pu", "df Hz", "MW", "delay s", "nearest")


def report_lines(tables: Sequence[Table], notes: Sequence[str]) -> Iterator[str]:
    """Yield the whole report."""
    both = [*tables, *pooled(tables)]
    yield from (f"note: {note}" for note in notes)
    yield from aligned(SUMMARY_HEAD, [summary_row(table) for table in both])
    for table in both:
        if not table.impair:
            yield ""
            yield from detail_lines(table)
    for table in tables:
        rows = miss_rows(table)
        if rows or table.false:
            yield ""
            yield from miss_lines(table, rows)


def detection_lines(table: Table) -> Iterator[str]:
    """Yield what was found of one table, how fast, and what was false."""
    found, false = table.detection, table.false_alarms
    yield f"{table.title}: {table.pmus} PMUs" + (
        f", {table.rate_hz:g} frames/s, {table.nominal_hz:g} Hz" if table.case else ""
    )
    yield (
        f"  found {found.found} of {found.events} (95 %: recall > {figure(found.recall_bound)}; {found.unseen} more "
        f"cannot be seen, {found.late} late); "
        f"delay p50 {figure(found.delay_frames[0], 0)}, p95 {figure(found.delay_frames[1], 0)}, "
        f"max {figure(found.delay_frames[2], 0)} frames"
    )
    clear = [o for o in table.outcomes if o.visible and o.dv >= CLEAR_SD * TIERS[table.tier][0]]
    if clear:
        delay_s = spread(o.delay_s for o in clear)
        yield (
            f"  with dv >= {CLEAR_SD:g} sd of the voltage noise: found {sum(o.found for o in clear)} of {len(clear)}, "
            f"delay p95 {figure(delay_s[1], 2)}, max {figure(delay_s[2], 2)} s"
        )
    yield (
        f"  false alarms: {found.false_before} before an onset, {found.false_second} second in an event, "
        f"{false.count} in {false.minutes:.1f} min of ambient: {figure(false.per_day, 1)} a day "
        f"(95 %: < {figure(false.per_day_bound, 0)}), {figure(false.per_day_100_pmus, 1)} a day per 100 PMUs "
        f"(< {figure(false.per_day_100_pmus_bound, 0)}); an alarm stood {figure(100.0 * false.open_share, 1)} % of the time"
    )


def detail_lines(table: Table) -> Iterator[str]:
    """Yield detection, false alarms, kinds, place, confidence and nadir of one table."""
    yield from detection_lines(table)
    if table.quality:
        yield "  about the data: " + ", ".join(f"{count} {kind}" for kind, count in table.quality.items())
    for told in table.kinds:
        yield (
            f"  kind at {told.age_s:g} s: macro-F1 {figure(told.macro_f1)}, accuracy {figure(told.accuracy)}, "
            f"committed {figure(told.committed, 2)} of which right {figure(told.accuracy_committed)}"
        )
    yield from ("    " + line for line in confusion_lines(table))
    yield (
        f"  where: top-1 {figure(table.where.top1, 2)}, top-3 {figure(table.where.top3, 2)} of {table.where.events} "
        f"({table.where.by_corpus} by electrical distance, the others by the size of the response)"
    )
    bins = [b for b in table.reliability if b.events]
    if bins:
        told_bins = (
            f"{b.low:g}-{b.high:g}: {b.events} told {figure(b.confidence, 2)} right {figure(b.right, 2)}"
            for b in bins
        )
        yield "  confidence: " + "; ".join(told_bins)
    for words, told_numbers, scale, unit in (
        ("nadir", table.nadir, 1.0, "mHz"),
        ("size", table.size, 100.0, "%"),
    ):
        if told_numbers.events:
            yield (
                f"  {words} at 1 s: error p50 {figure(scale * told_numbers.error_p50, 1)}, "
                f"p90 {figure(scale * told_numbers.error_p90, 1)} {unit}, within its band "
                f"{figure(told_numbers.covered, 2)} of {told_numbers.events}"
            )


def confusion_lines(table: Table) -> list[str]:
    """Return the confusion matrix at 1 s: truth in rows, what was told in columns."""
    confusion = table.kinds[RELIABILITY_AGE].confusion
    told = [kind for kind in KINDS if kind == "unknown" or any(kind in row for row in confusion.values())]
    rows = [(truth, "", *(str(row.get(kind, 0) or ".") for kind in told)) for truth, row in confusion.items()]
    return aligned((f"truth \\ told at {AGES_S[RELIABILITY_AGE]:g} s", "", *told), rows) if rows else []


def wrong_in(outcome: Outcome, *, speaks: bool) -> str:
    """Return what is wrong with an outcome, "" if nothing; `speaks`: kinds are told at all."""
    if not outcome.visible:
        return ""
    if not outcome.found:
        if outcome.late_s is not None:
            return f"late ({outcome.late_s:.2f} s)"
        return "missed" if outcome.open_s is None else f"missed (alert open for {outcome.open_s:.1f} s)"
    told = outcome.said[RELIABILITY_AGE].kind
    if not speaks or told == outcome.kind:
        return ""
    return "kind unknown" if told == "unknown" else "mistaken"


def miss_rows(table: Table) -> list[tuple[str, ...]]:
    """Return every event that was missed or mistaken: missed first, then by size."""
    speaks = any(o.said[RELIABILITY_AGE].kind != "unknown" for o in table.outcomes)
    wrong = [(wrong_in(o, speaks=speaks), o) for o in table.outcomes]
    wrong = sorted((pair for pair in wrong if pair[0]), key=lambda pair: (pair[1].found, pair[0], pair[1].dv))
    return [
        (
            o.name,
            words,
            o.kind,
            f"{o.said[RELIABILITY_AGE].kind} {o.said[RELIABILITY_AGE].confidence:.0%}" if o.found else "-",
            f"{o.dv:.4f}",
            f"{o.df:.4f}",
            figure(o.mw, 0),
            figure(o.delay_s, 2),
            o.near,
        )
        for words, o in wrong
    ]


def miss_lines(table: Table, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the misses and the false alarms of a table by name."""
    if rows:
        yield f"{table.title}: {len(rows)} missed or mistaken"
        yield from ("  " + line for line in aligned(MISS_HEAD, rows))
    for alarm in table.false:
        yield (
            f"  false alarm in {table.title}: {alarm.at_s:.1f} s into stretch {alarm.stretch}, {alarm.rule} at "
            f"{alarm.source}, score {alarm.score:.2f}"
        )
    for outcome in table.outcomes:
        if outcome.false_before or outcome.false_second:
            yield (
                f"  false alarm in {table.title}: {outcome.name}: {outcome.false_before} before its onset, "
                f"{outcome.false_second} second"
            )

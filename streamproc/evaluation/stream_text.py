"""The tables of long streams as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamproc.evaluation.seconds import NAMES
from streamproc.evaluation.stream_run import StreamOutcome, StreamTable
from streamproc.evaluation.table import aligned, figure

HEAD = (
    "corpus",
    "noise",
    "events",
    "P",
    "R",
    "F1",
    "mean delay s",
    "p95",
    "FP/min",
    "macro-F1 by second",
    "Score",
)
MISS_HEAD = ("event", "what went wrong", "truth", "told", "at s", "dv pu", "df Hz", "MW", "delay s")


def stream_lines(tables: Sequence[StreamTable], notes: Sequence[str]) -> Iterator[str]:
    """Yield the whole report."""
    yield from (f"note: {note}" for note in notes)
    yield from aligned(HEAD, [_row(table) for table in tables])
    for table in tables:
        yield ""
        yield from _detail(table)


def _row(table: StreamTable) -> tuple[str, ...]:
    return (
        table.corpus,
        table.tier,
        f"{table.found}/{table.events}",
        figure(table.precision),
        figure(table.recall),
        figure(table.f1),
        figure(table.delay_mean_s),
        figure(table.delay_p95_s, 2),
        f"{figure(table.false_per_min)} <{figure(table.false_per_min_bound)}",
        figure(table.seconds_macro_f1),
        figure(table.score),
    )


def _wrong(outcome: StreamOutcome) -> str:
    if outcome.delay_s is not None:
        return "kind unknown" if outcome.told == "unknown" else "mistaken"
    return "missed" if outcome.open_s is None else f"missed (alert open for {outcome.open_s:.1f} s)"


def _detail(table: StreamTable) -> Iterator[str]:
    yield (
        f"{table.corpus} {table.tier}: {table.minutes:g} min, {table.pmus} PMUs, {table.rate_hz:g} frames/s, "
        f"{table.parameters} parameters, {table.false} false alarms"
    )
    yield "  put in: " + ", ".join(f"{count} {kind}" for kind, count in sorted(table.episodes.items()))
    if table.quality:
        yield "  about the data: " + ", ".join(f"{n} {kind}" for kind, n in sorted(table.quality.items()))
    yield "  F1 by second: " + ", ".join(
        f"{name} {figure(value)}" for name, value in table.seconds_f1.items()
    )
    rows = [
        (NAMES[label], "", *(str(count or ".") for count in counts))
        for label, counts in enumerate(table.confusion)
        if any(counts)
    ]
    yield from ("    " + line for line in aligned(("seconds: truth \\ told", "", *NAMES), rows))
    misses = [
        (
            o.name,
            _wrong(o),
            o.kind,
            o.told,
            f"{o.at_s:.1f}",
            f"{o.dv:.4f}",
            f"{o.df:.4f}",
            figure(o.mw, 0),
            figure(o.delay_s, 2),
        )
        for o in table.outcomes
        if o.visible and (o.delay_s is None or o.told != o.kind)
    ]
    if misses:
        yield f"  {len(misses)} missed or mistaken"
        yield from ("  " + line for line in aligned(MISS_HEAD, misses))
    if table.false_alarms:
        head = ("false alarm at s", "rule", "source", "score", "s since an onset", "during")
        alarms = [
            (
                f"{a.at_s:.1f}",
                a.rule,
                a.source,
                figure(a.score, 2),
                figure(a.since_event_s, 1),
                a.during or "-",
            )
            for a in table.false_alarms
        ]
        yield from ("  " + line for line in aligned(head, alarms))

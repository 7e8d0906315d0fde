"""`streamproc evaluate floods`: how many cards an operator sees of a made day, and of every event of a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TARGET_PER_10_MIN = 1.0
TARGET_CARDS = 3


def floods(
    corpus: Annotated[
        list[Path] | None, typer.Argument(help="Event corpora (.npz), or directories of them.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Days to make.")] = 3,
    hours: Annotated[float, typer.Option(min=1.0, max=168.0, help="Length of a day.")] = 24.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events of each corpus.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count cards; exit code 1 when a target is missed."""
    import msgspec
    import orjson

    from streamproc.cli.evaluate import the_tools
    from streamproc.evaluation.corpus import find_corpora, read_corpus
    from streamproc.evaluation.floods import cards_per_event, made_day

    days = [made_day(seed, hours, max(1, round(20 * hours / 24))) for seed in range(1, seeds + 1)]
    files = find_corpora(corpus)[0] if corpus else []
    counts = {str(f): cards_per_event(read_corpus(f), the_tools(), "T2", 1, limit) for f in files}
    worst = max((max(c, default=0) for c in counts.values()), default=0)
    met = worst <= TARGET_CARDS and all(
        d.per_10_min_outside < TARGET_PER_10_MIN and d.unseen_events == 0 for d in days
    )
    if json:
        rows = [msgspec.to_builtins(d) | {"per_10_min_outside": d.per_10_min_outside} for d in days]
        print(orjson.dumps({"days": rows, "cards": counts, "met": met}).decode())
    else:
        print(
            "seed  hours  events  findings  raises  annunciated  outside events  per 10 min  events without card"
        )
        for d in days:
            print(
                f"{d.seed:>4}  {d.hours:>5g}  {len(d.events_s):>6}  {d.findings:>8}  {d.raised:>6}  "
                f"{len(d.annunciated_s):>11}  {d.outside:>14}  {d.per_10_min_outside:>10.2f}  {d.unseen_events:>19}"
            )
        for name, found in counts.items():
            print(
                f"{name}: cards per event at most {max(found, default=0)}, median {sorted(found)[len(found) // 2]}"
            )
        print(f"targets (below {TARGET_PER_10_MIN:g}, at most {TARGET_CARDS}): {'met' if met else 'MISSED'}")
    if not met:
        raise typer.Exit(1)

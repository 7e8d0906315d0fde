"""What a step of the score stage collects on its way, and how it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamproc.core.align import Aligned
from streamproc.core.area import Scored
from streamproc.core.c37118 import Decoded, Rejection
from streamproc.core.wire import dead_letter
from streamproc.stages.score_regulation import Ended
from streamproc.values import F64, Counts, Output, Record


@dataclass(slots=True)
class Work:
    """What a step collects: counts, and outputs with the place of the record that caused them."""

    counts: Counts
    outputs: list[tuple[int, Output]] = field(default_factory=list)
    gauges: dict[tuple[str, str], float] = field(default_factory=dict)
    waits_s: list[F64] = field(default_factory=list)
    minutes: list[Ended] = field(default_factory=list)  # of the area that is being advanced

    def refuse(self, place: int, record: Record, reason: str, detail: str) -> None:
        """Count a record that cannot be evaluated, and keep it."""
        self.counts["rejected", str(reason)] += 1
        self.counts["dead_letters", str(reason)] += 1
        self.outputs.append((place, dead_letter(record, reason, detail)))


def note_decoded(
    decoded: Decoded, area: str, places: Sequence[int], records: Sequence[Record], work: Work
) -> None:
    """Count frames and rejections; a record with a rejection is kept under the first of them."""
    work.counts["frames", area] += sum(batch.t_ns.size for batch in decoded.batches)
    first: dict[int, Rejection] = {}
    for index, rejection in decoded.rejections:
        if first.setdefault(index, rejection) is not rejection:
            work.counts["rejected", str(rejection.reason)] += 1
    for index, rejection in first.items():
        detail = f"{rejection.detail} (IDCODE {rejection.idcode}, byte {rejection.start})"
        work.refuse(places[index], records[index], rejection.reason, detail)


def count_quality(counts: Counts, area: str, labels: tuple[str, ...], scored: Scored) -> None:
    """Count frames that may not be used, those of each PMU as well."""
    counts["bad", area] += scored.bad
    counts["frozen", area] += scored.frozen
    counts["unsynchronised", area] += scored.unsynchronised
    for pmu in np.flatnonzero(scored.unusable).tolist():  # those with trouble only
        counts["pmu_unusable", f"{area}/{labels[pmu]}"] += int(scored.unusable[pmu])


def count(counts: Counts, area: str, piece: Aligned) -> None:
    """Count what the alignment closed and what it left out."""
    counts["instants", area] += int(piece.instant.size)
    for name in ("late", "missing"):
        counts[name, area] += getattr(piece, name)
    counts.update({("duplicates", area): piece.duplicate, ("wrong_clock", area): piece.wrong_clock_count})

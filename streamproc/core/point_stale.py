"""SCADA points that stopped reporting: good values of others come, but none of theirs.

A point of the catalogue is expected every `scan_ms`. After `SCANS_MISSED` scans without a good value it is stale: an
episode of quality, raised and cleared in the time of the area (that of its newest value). What it last said is held; it
raises and clears nothing meanwhile. When all points of an area fall silent the area's time stands still, and the worker
says so (`streamproc.shell.silence`). A point that never reported is not missed: there is nothing that could have stopped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from streamproc.core.findings import finding_id
from streamproc.core.messages import Finding, encode
from streamproc.core.point_limits import Names
from streamproc.core.quality import DISCARDED
from streamproc.values import I64, TOPIC_FINDINGS, Bool, Output

SCANS_MISSED = 6
RULE = "point_stale"


def stale_points(value_ns: I64, limit_ns: I64, now_ns: int) -> Bool:
    """Return (n_point,) which points had their last good value (0: none ever) longer ago than their limit."""
    return np.asarray((value_ns > 0) & (now_ns - value_ns > limit_ns))


def stale_findings(
    names: Names, before: Bool, after: Bool, value_ns: I64, limit_ns: I64, now_ns: int
) -> list[Output]:
    """Return a finding for the points that became stale, and one for those that report again."""
    changes: tuple[tuple[Literal["raise", "clear"], I64], ...] = (
        ("raise", np.flatnonzero(after & ~before)),
        ("clear", np.flatnonzero(before & ~after)),
    )
    return [
        _finding(names, kind, points, value_ns, limit_ns, now_ns) for kind, points in changes if points.size
    ]


def _finding(
    names: Names, kind: Literal["raise", "clear"], points: I64, value_ns: I64, limit_ns: I64, now_ns: int
) -> Output:
    ts_us, sources = now_ns // 1000, tuple(names.ids[i] for i in points)
    age = (now_ns - value_ns[points]) / limit_ns[points]
    longest_s = float(limit_ns[points].max()) / 1e9
    finding = Finding(
        type=kind,
        finding_id=finding_id(names.area, RULE, 1, f"{kind}|{sources[0]}", ts_us, ""),
        area=names.area,
        position=names.position,
        ts_us=ts_us,
        family="quality",
        kind=RULE,
        rule=RULE,
        priority=3,
        sources=sources,
        scores=tuple(round(float(score), 6) for score in age),
        onsets_us=tuple(int(t) // 1000 for t in value_ns[points]),
        limit=longest_s,
        unit="s",
        text="No good value of {source} for more than {limit} s",
        quality=DISCARDED,
    )
    return Output(TOPIC_FINDINGS, names.position.encode(), encode(finding), ts_us // 1000)

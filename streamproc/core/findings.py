"""From edges to finding records: all edges of one rule, kind and instant in one area are one record.

A watermark is put out with the first instant of every UTC second. It says: everything before this time is told; it lets
the deciding stage move its time on when nothing happens.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import numpy as np

from streamproc.core.area import Scored
from streamproc.core.condition import CLEAR, RAISE, UPDATE
from streamproc.core.detector import Rule
from streamproc.core.disturbance import Disturbance
from streamproc.core.messages import Finding, encode
from streamproc.values import I64, TOPIC_FINDINGS, Output

KINDS: dict[int, Literal["raise", "update", "clear"]] = {RAISE: "raise", UPDATE: "update", CLEAR: "clear"}


def finding_id(area: str, rule: str, version: int, kind: str, ts_us: int, digest: str) -> str:
    """Return the same id for the same finding, always."""
    return sha256(f"{area}|{rule}|{version}|{kind}|{ts_us}|{digest}".encode()).hexdigest()[:32]


def area_findings(
    area: str,
    position: str,
    labels: tuple[str, ...],
    rules: tuple[Rule, ...],
    digest: str,
    scored: Scored,
    last_second: int,
) -> list[tuple[int, Output]]:
    """Return (tick, finding) in order of time; `last_second` is that of the instant before these."""
    edges, t_ns = scored.edges, scored.t_ns
    group = np.stack([edges.tick, edges.rule, edges.kind.astype(np.int64)], axis=1)
    starts = np.flatnonzero(np.diff(group, axis=0, prepend=-1).any(axis=1))
    bounds = [*starts.tolist(), group.shape[0]]
    told: list[tuple[int, int, Output]] = []
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        tick, rule, kind = (int(v) for v in group[start])
        part = slice(start, stop)
        finding = _finding(
            area, position, labels, rules[rule], digest, KINDS[kind], int(t_ns[tick]), scored, part
        )
        told.append((tick, 1, _output(position, finding, int(t_ns[tick]))))
    second: I64 = t_ns // 1_000_000_000
    for tick in np.flatnonzero(np.diff(second, prepend=last_second)).tolist():
        ts_us = int(t_ns[tick]) // 1000
        mark = Finding(
            type="watermark",
            finding_id=finding_id(area, "", 0, "watermark", ts_us, digest),
            area=area,
            position=position,
            ts_us=ts_us,
        )
        told.append((tick, 0, _output(position, mark, int(t_ns[tick]))))
    for tick, known in scored.described:
        told.append(
            (tick, 2, _output(position, _description(area, position, digest, known), int(t_ns[tick])))
        )
    told.sort(key=lambda item: item[:2])
    return [(tick, output) for tick, _, output in told]


def _finding(
    area: str,
    position: str,
    labels: tuple[str, ...],
    rule: Rule,
    digest: str,
    kind: Literal["raise", "update", "clear"],
    t_ns: int,
    scored: Scored,
    part: slice,
) -> Finding:
    edges = scored.edges
    ts_us = t_ns // 1000
    sources = edges.source[part]
    flags = np.bitwise_or.reduce(scored.flags[edges.tick[part], sources])
    return Finding(
        type=kind,
        finding_id=finding_id(area, rule.name, rule.version, f"{kind}|{labels[sources[0]]}", ts_us, digest),
        area=area,
        position=position,
        ts_us=ts_us,
        family=rule.family,
        kind=rule.kind,
        rule=rule.name,
        rule_version=rule.version,
        priority=rule.priority,
        sources=tuple(labels[i] for i in sources),
        scores=tuple(round(float(s), 6) for s in edges.score[part]),
        onsets_us=tuple(int(t) // 1000 for t in edges.onset_ns[part]),
        limit=rule.limit,
        unit=rule.unit,
        window_s=rule.window_s,
        text=rule.text,
        quality=int(flags),
        model_digest=digest,
    )


def _description(area: str, position: str, digest: str, known: Disturbance) -> Finding:
    what = f"describe|{known.onset_ts_us}"
    return Finding(
        type="describe",
        finding_id=finding_id(area, "", 0, what, known.ts_us, digest),
        area=area,
        position=position,
        ts_us=known.ts_us,
        model_digest=digest,
        disturbance=known,
    )


def _output(position: str, finding: Finding, t_ns: int) -> Output:
    return Output(TOPIC_FINDINGS, position.encode(), encode(finding), t_ns // 1_000_000)

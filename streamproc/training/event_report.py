"""How well networks answer for events of networks that they have not seen, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamproc.core.event_model import LEARNT
from streamproc.core.event_net import run
from streamproc.core.frequency_response import LEVELS, TARGETS
from streamproc.training.event_fit import softmax
from streamproc.training.event_rows import Asked
from streamproc.training.events import UNKNOWN, Fitted, HeldOut, name_of
from streamproc.values import F64, I64

AGES_S = (0.5, 1.0, 2.0)


def report_of(held: Sequence[HeldOut], fitted: Fitted) -> list[dict[str, Any]]:
    """Return the figures of every part that was left out, of its plain samples: noise T2, all PMUs, own amplitude."""
    made = []
    for part in held:
        rows = [row for row in part.rows if row.plain]
        if rows:
            networks = "+".join(sorted({row.network for row in rows}))
            kinds = {f"{age_s:g}": _kinds(rows, part, fitted, age_s) for age_s in AGES_S}
            course = {f"{age_s:g}": _course(rows, part, fitted, age_s) for age_s in AGES_S}
            made.append({"network": networks, "kinds": kinds, "place": _place(rows, part), "course": course})
    return made


def _kinds(rows: Sequence[Asked], part: HeldOut, fitted: Fitted, age_s: float) -> dict[str, Any]:
    chosen = [row for row in rows if age_s in row.vectors and row.kind >= 0]
    if not chosen:
        return {"events": 0}
    logits = run(part.nets[name_of("kind", age_s)], np.stack([row.vectors[age_s] for row in chosen]))
    chances = softmax(logits / fitted.temperature[f"{age_s:g}"])
    truth = np.array([row.kind for row in chosen])
    sure = chances.max(axis=1) >= fitted.commit_min[f"{age_s:g}"]
    told = np.where(sure, chances.argmax(axis=1), UNKNOWN)
    committed = told != UNKNOWN
    names: tuple[str, ...] = LEARNT
    f1 = {names[kind]: round(_f1(truth, told, kind), 3) for kind in np.unique(truth).tolist()}
    return {
        "events": len(chosen),
        "macro_f1": round(float(np.mean(list(f1.values()))), 3),
        "f1": f1,
        "committed": round(float(committed.mean()), 3),
        "accuracy_committed": round(float((told == truth)[committed].mean()), 3) if committed.any() else None,
        "confusion": {
            names[a]: {names[b]: int(((truth == a) & (told == b)).sum()) for b in np.unique(told).tolist()}
            for a in np.unique(truth).tolist()
        },
    }


def _f1(truth: I64, told: I64, kind: int) -> float:
    right = int(((truth == kind) & (told == kind)).sum())
    return 2.0 * right / max(1, int((truth == kind).sum()) + int((told == kind).sum()))


def _place(rows: Sequence[Asked], part: HeldOut) -> dict[str, Any]:
    ranks = []
    for row in rows:
        if row.nearest >= 0:
            score = run(part.nets["place"], row.place)[:, 0]
            ranks.append(int((score > score[row.nearest]).sum()))
    if not ranks:
        return {"events": 0}
    place = np.array(ranks)
    return {
        "events": place.size,
        "top1": round(float((place < 1).mean()), 3),
        "top3": round(float((place < 3).mean()), 3),
    }


def _course(rows: Sequence[Asked], part: HeldOut, fitted: Fitted, age_s: float) -> dict[str, Any]:
    chosen = [course for row in rows for course in row.courses if abs(course[0] - age_s) < 1e-6]
    if not chosen:
        return {"events": 0}
    told = run(part.nets["course"], np.stack([course[1] for course in chosen]))
    told = np.sort(told.reshape(-1, len(TARGETS), len(LEVELS)), axis=2)[:, 0]
    told = told[:, 1:2] + (told - told[:, 1:2]) * fitted.widen[0]
    truth = np.array([course[2][0] for course in chosen])
    scale: F64 = np.array([course[3] for course in chosen])
    error_mhz = np.abs(told[:, 1] - truth) * scale * 1e3
    return {
        "events": len(chosen),
        "error_median_mhz": round(float(np.median(error_mhz)), 2),
        "error_p90_mhz": round(float(np.percentile(error_mhz, 90)), 2),
        "covered": round(float(((told[:, 0] <= truth) & (truth <= told[:, 2])).mean()), 3),
    }


def text_of(report: Sequence[dict[str, Any]]) -> str:
    """Return the figures as lines."""
    lines = []
    for part in report:
        for age_s, kinds in part["kinds"].items():
            if kinds["events"]:
                lines.append(
                    f"without {part['network']}, kinds at {age_s} s: {kinds['events']} events, macro-F1 "
                    f"{kinds['macro_f1']:.3f}, told {kinds['committed']:.0%}, of these right "
                    f"{kinds['accuracy_committed'] or 0.0:.1%}, F1 {kinds['f1']}"
                )
        place = part["place"]
        if place["events"]:
            lines.append(
                f"without {part['network']}, place: {place['events']} events, top-1 {place['top1']:.3f}, "
                f"top-3 {place['top3']:.3f}"
            )
        for age_s, course in part["course"].items():
            if course["events"]:
                lines.append(
                    f"without {part['network']}, turning point at {age_s} s: {course['events']} events, median error "
                    f"{course['error_median_mhz']:.1f} mHz, p90 {course['error_p90_mhz']:.1f} mHz, "
                    f"covered {course['covered']:.0%}"
                )
    return "\n".join(lines)

"""The map of responses: one row per PMU in the order of their answers, time from left to right, colour by score. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamproc.shell.explain.facts import Answer
from streamproc.shell.explain.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Mark,
    delay_words,
    short,
    tick_words,
    ticks,
    words_of,
)
from streamproc.values import F64, I64

BINS = 240
STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # from here on the next colour: the third is the limit
ROW_PX, ROWS_PX = (3.0, 18.0), 560.0  # least and largest height of a row; of all together, if they fit
NAME_PX = 11.0  # a name needs so much
GAP = len(STEPS) + 1


def heat(
    t_s: F64, scores: F64, answers: Sequence[Answer], x: tuple[float, float], marks: Sequence[Mark]
) -> str:
    """Return the map for scores (n, n_pmu); a hatched place is one where nothing is known."""
    axis = Axis(*x, LEFT, WIDTH - RIGHT)
    edges, classes = _classes(t_s, scores, axis)
    row_px = float(np.clip(ROWS_PX / max(1, len(answers)), *ROW_PX))
    height = TOP + row_px * len(answers) + BOTTOM
    every = max(1, int(np.ceil(NAME_PX / row_px)))
    parts = [
        f'<svg class="plot map" viewBox="0 0 {WIDTH:g} {height:.1f}" role="img" data-name="map" '
        f'data-unit="" data-x="{axis.words}"><title>map of responses</title>'
        '<defs><pattern id="hatch" width="60" height="60" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="hatch" d="M0 30H60"/></pattern></defs>'
    ]
    for number, answer in enumerate(answers):
        top = TOP + number * row_px
        parts.append(_row(edges, classes[:, answer.column], answer, top, row_px, axis))
        if number % every == 0:
            parts.append(
                f'<text class="name" x="{axis.stop + 8:g}" y="{top + max(row_px, 8.0) / 2 + 4:.1f}">'
                f"{words_of(short(answer.source))}{_delay(answer)}</text>"
            )
    bottom = TOP + row_px * len(answers)
    times = ticks(axis.low, axis.high, 6)
    for tick, words in zip(times, tick_words(times, sign=True), strict=True):
        parts.append(f'<text class="tick mid" x="{axis.px(tick):.1f}" y="{bottom + 16:.1f}">{words} s</text>')
    for mark in marks:
        if x[0] <= mark.at_s <= x[1]:
            at = axis.px(mark.at_s)
            parts.append(f'<path class="mark {mark.style}" d="M{at:.2f} {bottom:.1f}V{TOP - 6:g}"/>')
    return "".join(parts) + "</svg>"


def _classes(t_s: F64, scores: F64, axis: Axis) -> tuple[I64, I64]:
    """Return the edges (n_bin + 1,) in tenths of a pixel, and the class (n_bin, n_pmu) of each place."""
    count = min(BINS, max(1, t_s.size))
    bounds = np.linspace(axis.low, axis.high, count + 1)
    place = np.clip(np.searchsorted(bounds, t_s + 1e-9, side="right") - 1, 0, count - 1)
    largest = np.full((count, scores.shape[1]), np.nan)
    np.fmax.at(largest, place, scores)
    found = np.searchsorted(np.array(STEPS), np.nan_to_num(largest), side="right")
    edges = np.rint(axis.at(bounds) * 10.0).astype(np.int64)
    return edges, np.where(np.isnan(largest), GAP, found)


def _row(edges: I64, classes: I64, answer: Answer, top: float, height: float, axis: Axis) -> str:
    starts = np.flatnonzero(np.diff(classes, prepend=-1))
    ends = np.append(starts[1:], classes.size)
    y, tall = round(top * 10), max(1, round(height * 10) - (5 if height >= 6 else 0))
    places: dict[int, str] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        left, wide = int(edges[start]), int(edges[end] - edges[start])
        kind = int(classes[start])
        places[kind] = places.get(kind, "") + f"M{left} {y}h{wide}v{tall}h-{wide}z"
    paths = "".join(f'<path class="h{kind}" d="{d}"/>' for kind, d in sorted(places.items()))
    peak = "never judged" if answer.score is None else f"at most {answer.score:.3g} times the limit"
    words = f"{words_of(answer.source)}{_delay(answer)}: {peak}"
    first = ""
    if answer.delay_ms is not None and axis.low <= answer.delay_ms / 1e3 <= axis.high:
        at = round(axis.px(answer.delay_ms / 1e3) * 10)
        first = f'<path class="first" d="M{at} {y}v{tall}"/>'
    return f'<g transform="scale(.1)"><title>{words}</title>{paths}{first}</g>'


def _delay(answer: Answer) -> str:
    return "" if answer.delay_ms is None else f", {delay_words(answer.delay_ms)}"

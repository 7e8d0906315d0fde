"""Lines over time as inline SVG: no library, no script needed, the same bytes for the same numbers. Pure.

Coordinates inside a path are whole tenths of a pixel, relative to the point before. What is unknown is a gap: a path
begins anew behind it. `data-x` and `data-y` of a figure say how pixels become seconds and values again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

import numpy as np

from streamproc.values import F64, I64

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1000.0, 64.0, 178.0, 20.0, 24.0  # px
LABEL_PX = 12.5  # from one direct label to the next
NAME_MAX = 24  # characters of a PMU's name beside its line
MERGED_PX = 60.0  # marks nearer than this say their words on both sides


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float  # px of `low`
    stop: float
    log: bool = False

    def at(self, values: F64) -> F64:
        """Return the pixels of values; those beyond the axis lie on its edge on a logarithmic axis."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log(np.clip(values, low, high)), np.log(low), np.log(high)
        return np.asarray(self.start + (values - low) / (high - low) * (self.stop - self.start))

    def px(self, value: float) -> float:
        """Return the pixel of one value."""
        return float(self.at(np.array([value]))[0])

    @property
    def words(self) -> str:
        """Return what a reader of the file needs to go back from pixels to values."""
        return f"{self.low:.9g} {self.high:.9g} {self.start:g} {self.stop:g}" + (" log" if self.log else "")


@dataclass(frozen=True, slots=True)
class Line:
    """One trace with its name; `style` is its class, `colour()` for those that tell PMUs apart."""

    name: str
    values: F64  # (n,)
    style: str
    label: bool = True
    step: int = 1  # rows from one judgement to the next: so many without a value are no gap


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a vertical line with words."""

    at_s: float
    words: str
    style: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What one panel shows."""

    name: str  # of the panel, in the file
    unit: str
    t_s: F64  # (n,)
    lines: Sequence[Line]
    y: tuple[float, float]
    x: tuple[float, float]
    band: tuple[F64, F64] | None = None  # lowest and highest of all others
    marks: Sequence[Mark] = ()
    limits: Sequence[float] = ()  # horizontal lines
    step: int = 1  # of the band
    log: bool = False
    height: float = 210.0
    width: float = WIDTH
    right: float = RIGHT
    x_unit: str = "s"


def words_of(text: str) -> str:
    """Return a text for HTML and XML: escaped, and without the control codes that a name from the wire may hold."""
    return escape("".join(c if c.isprintable() else "?" for c in text))


def delay_words(delay_ms: float) -> str:
    """Return a delay as a person says it: ms, from ten seconds on s."""
    sign = "+" if delay_ms > 0 else ""
    if abs(delay_ms) < 9999.5:
        return f"{sign}{delay_ms:.0f} ms".replace("-", "−")
    return f"{sign}{delay_ms / 1e3:.1f}".removesuffix(".0").replace("-", "−") + " s"


def colour(number: int) -> str:
    """Return the class of the n-th trace: four colours that nobody confuses, times three kinds of dashes."""
    return f"c{number % 4} d{number // 4 % 3}"


def draw(figure: Figure, extra: str = "") -> str:
    """Return the panel; `extra` is more SVG in pixels, under the lines (`axes_of` tells where)."""
    x, y = axes_of(figure)
    parts = [
        f'<svg class="plot" viewBox="0 0 {figure.width:g} {figure.height:g}" role="img" '
        f'data-name="{words_of(figure.name)}" data-unit="{words_of(figure.unit)}" data-x="{x.words}" data-y="{y.words}">',
        f"<title>{words_of(figure.name)}</title>",
        _grid(figure, x, y),
        f'<svg x="{x.start:g}" y="{y.stop:g}" width="{x.stop - x.start:g}" height="{y.start - y.stop:g}" '
        f'viewBox="{x.start:g} {y.stop:g} {x.stop - x.start:g} {y.start - y.stop:g}">',
        extra,
        '<g transform="scale(.1)">',
        *_traces(figure, x, y),
        "</g></svg>",
        *(_mark(mark, x, y, _side(figure.marks, number, x)) for number, mark in enumerate(figure.marks)),
        _labels(figure, x, y) if figure.right >= RIGHT else "",
        "</svg>",
    ]
    return "".join(parts)


def axes_of(figure: Figure) -> tuple[Axis, Axis]:
    """Return the axes of a panel."""
    x = Axis(*figure.x, LEFT, figure.width - figure.right)
    return x, Axis(*figure.y, figure.height - BOTTOM, TOP, figure.log)


def _traces(figure: Figure, x: Axis, y: Axis) -> list[str]:
    at = x.at(figure.t_s)
    parts = []
    if figure.band is not None:
        low, high = (y.at(edge) for edge in figure.band)
        parts.append(f'<path class="band" d="{area_path(at, low, high, figure.step)}"/>')
    for line in reversed(figure.lines):  # the first to answer lies on top
        d = line_path(at, y.at(line.values), line.step)
        parts.append(f'<path class="line {line.style}" data-name="{words_of(line.name)}" d="{d}"/>')
    return parts


def line_path(x_px: F64, y_px: F64, step: int = 1) -> str:
    """Return the path through the known points; a gap of more than `step` rows begins it anew."""
    x, y = _tenths(x_px), _tenths(np.nan_to_num(y_px))
    return "".join(
        f"M{x[run[0]]} {y[run[0]]}" + _relative(x[run], y[run]) for run in _runs(np.isfinite(y_px), step)
    )


def area_path(x_px: F64, low_px: F64, high_px: F64, step: int = 1) -> str:
    """Return the closed path between two edges, one piece for each stretch without a gap."""
    x, low, high = _tenths(x_px), _tenths(np.nan_to_num(low_px)), _tenths(np.nan_to_num(high_px))
    pieces = []
    for run in _runs(np.isfinite(low_px) & np.isfinite(high_px), step):
        there_and_back_x = np.concatenate([x[run], x[run][::-1]])
        there_and_back_y = np.concatenate([high[run], low[run][::-1]])
        pieces.append(f"M{x[run[0]]} {high[run[0]]}{_relative(there_and_back_x, there_and_back_y)}z")
    return "".join(pieces)


def _tenths(px: F64) -> I64:
    return np.rint(np.clip(px, -1e4, 1e4) * 10.0).astype(np.int64)


def _runs(known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], step: int) -> list[I64]:
    """Return the rows of each stretch of known points."""
    rows = np.flatnonzero(known)
    if rows.size == 0:
        return []
    return np.split(rows, np.flatnonzero(np.diff(rows) > step) + 1)


def _relative(x: I64, y: I64) -> str:
    """Return the way from point to point; a point alone becomes a dot, a straight level way one stroke."""
    if x.size == 1:
        return "h0"
    turns = np.ones(x.size, dtype=np.bool_)
    turns[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    steps = np.diff(x[turns]), np.diff(y[turns])
    return "l" + " ".join(f"{dx} {dy}" for dx, dy in zip(*(s.tolist() for s in steps), strict=True))


def _grid(figure: Figure, x: Axis, y: Axis) -> str:
    parts = []
    levels = ticks(y.low, y.high, log=y.log)
    for tick, words in zip(levels, tick_words(levels, log=y.log), strict=True):
        at = y.px(tick)
        parts.append(f'<path class="grid" d="M{x.start:g} {at:.1f}H{x.stop:g}"/>')
        parts.append(f'<text class="tick end" x="{x.start - 6:g}" y="{at + 4:.1f}">{words}</text>')
    times = ticks(x.low, x.high, 6)
    for tick, words in zip(times, tick_words(times, sign=True), strict=True):
        at = x.px(tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {y.start:g}V{y.stop:g}"/>')
        parts.append(
            f'<text class="tick mid" x="{at:.1f}" y="{y.start + 16:g}">{words} {figure.x_unit}</text>'
        )
    inside = [limit for limit in figure.limits if y.low <= limit <= y.high]
    parts += [f'<path class="limit" d="M{x.start:g} {y.px(limit):.1f}H{x.stop:g}"/>' for limit in inside]
    parts.append(f'<text class="unit end" x="{x.start - 6:g}" y="12">{words_of(figure.unit)}</text>')
    return "".join(parts)


def _side(marks: Sequence[Mark], number: int, x: Axis) -> str:
    """Return on which side of its line a mark has its words: the first of two neighbours on the left."""
    here = marks[number].at_s
    room = x.stop - x.px(here)
    later = [x.px(m.at_s) - x.px(here) for m in marks if m.at_s > here]
    return "end" if room < 90.0 or (later and min(later) < 3 * MERGED_PX) else "start"


def _mark(mark: Mark, x: Axis, y: Axis, side: str) -> str:
    if not x.low <= mark.at_s <= x.high:
        return ""
    at = x.px(mark.at_s)
    words = words_of(mark.words)
    text = f'<text class="word {mark.style} {side}" x="{at + (-4 if side == "end" else 4):.1f}" y="12">{words}</text>'
    line = (
        f'<path class="mark {mark.style}" data-s="{mark.at_s:.6f}" d="M{at:.2f} {y.start:g}V{TOP - 14:g}"/>'
    )
    return line + (text if words else "")


def _labels(figure: Figure, x: Axis, y: Axis) -> str:
    """Return the names beside the ends of their lines, moved apart where they would overlap."""
    named = [line for line in figure.lines if line.label and np.isfinite(line.values).any()]
    if not named:
        return ""
    ends = np.array([y.px(float(v[np.isfinite(v)][-1])) for v in (line.values for line in named)])
    ends = np.clip(ends, y.stop, y.start)
    places = spread(ends, LABEL_PX, y.stop - 4.0, y.start + 10.0)
    parts = []
    for line, end, place in zip(named, ends.tolist(), places.tolist(), strict=True):
        start = x.stop + 12.0
        parts.append(
            f'<path class="lead" d="M{x.stop:g} {end:.1f}L{start:g} {place:.1f}"/>'
            f'<path class="line {line.style}" d="M{start:g} {place:.1f}h20"/>'
            f'<text class="name" x="{start + 25:g}" y="{place + 4:.1f}">{words_of(short(line.name))}</text>'
        )
    return "".join(parts)


def spread(places: F64, gap: float, low: float, high: float) -> F64:
    """Return places at least `gap` apart, in the same order, as near to the old ones as may be."""
    order = np.argsort(places, kind="stable")
    gap = min(gap, (high - low) / max(1, places.size - 1))
    room = places[order] - gap * np.arange(places.size)
    # Neighbours that push each other share the mean of where they want to be.
    blocks: list[list[float]] = []
    for value in room.tolist():
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * count) / (before[1] + count)
            before[1] += count
    level = np.concatenate([np.full(int(count), mean) for mean, count in blocks])
    out = np.empty(places.size)
    span = gap * (places.size - 1)
    out[order] = np.clip(level, low, max(low, high - span)) + gap * np.arange(places.size)
    return out


def short(name: str) -> str:
    """Return a name that fits beside a line."""
    return name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…"


def ticks(low: float, high: float, count: int = 4, *, log: bool = False) -> list[float]:
    """Return round numbers within the bounds."""
    if log:
        tens = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
        return [value for power in tens if low <= (value := 10.0**power) <= high * 1.0001]
    raw = (high - low) / count
    size = 10.0 ** floor(log10(raw))
    step = next(size * nice for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if size * nice >= raw * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    return [n * step for n in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def tick_words(at: Sequence[float], *, log: bool = False, sign: bool = False) -> list[str]:
    """Return the numbers of an axis, with as many decimals as their steps need."""
    if log or len(at) < 2:
        return [f"{value:g}" for value in at]
    step = at[1] - at[0]
    decimals = next(d for d in range(10) if d == 9 or abs(step * 10**d - round(step * 10**d)) < 1e-6)
    plus = "+" if sign else ""
    return [
        (plus if value > step / 2 else "") + f"{value + 0.0:.{decimals}f}".replace("-", "−") for value in at
    ]


def range_of(values: F64, least: float, *more: float) -> tuple[float, float]:
    """Return the bounds of an axis for these values and `more`, at least `least` apart, with a little room."""
    known = np.concatenate([values[np.isfinite(values)].ravel(), np.array(more, dtype=np.float64)])
    if known.size == 0:
        return -least, least
    low, high = float(known.min()), float(known.max())
    room = max(0.06 * (high - low), (least - (high - low)) / 2.0)
    return low - room, high + room

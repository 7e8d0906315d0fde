"""Charts of a forecast report as inline SVG: lines, bands and bars over an axis of words. Pure.

Colours are classes of the page's style, so that a chart follows the reader's dark or light ground. What is unknown
is a gap in the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640.0, 230.0, 58.0, 12.0, 14.0, 30.0  # px
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its name for the legend and its class."""

    name: str
    values: Values
    style: str


@dataclass(frozen=True, slots=True)
class Band:
    """The area between two lines."""

    low: Values
    high: Values
    style: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What one picture shows; all sequences have one value per place on the x axis."""

    title: str
    unit: str
    words: Sequence[str]  # (n,), under the x axis where not ""
    lines: Sequence[Line]
    bands: Sequence[Band] = ()
    rule: float | None = None  # a horizontal line: what is wanted
    marker: int | None = None  # a vertical line at this place
    least: float | None = None  # the y axis reaches at least down to here
    most: float | None = None
    points: bool = False  # dots on the lines: few places, each on its own
    width: float = WIDTH
    height: float = HEIGHT


class _Scale:
    """From values and places to pixels."""

    def __init__(self, what: Chart) -> None:
        self.what, self.bottom = what, what.height - BOTTOM
        self.low, self.high = _range(what)

    def y(self, value: float) -> float:
        """Return the height of a value."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - TOP)

    def x(self, place: float) -> float:
        """Return where a place lies; places on their own lie in the middle of their share."""
        n, room = len(self.what.words), self.what.width - LEFT - RIGHT
        return LEFT + room * ((place + 0.5) / n if self.what.points else place / max(1, n - 1))


def chart(what: Chart) -> str:
    """Return the SVG."""
    at = _Scale(what)
    parts = [
        f'<svg class="chart" viewBox="0 0 {what.width:g} {what.height:g}" role="img">',
        f"<title>{escape(what.title)}</title>",
        *_axes(what, at),
        *(f'<path class="{band.style}" d="{_area(band, at)}"/>' for band in what.bands),
    ]
    if what.rule is not None:
        parts.append(f'<path class="rule" d="M{LEFT:g} {at.y(what.rule):.1f}H{what.width - RIGHT:g}"/>')
    if what.marker is not None:
        parts.append(f'<path class="rule" d="M{at.x(what.marker):.1f} {TOP:g}V{at.bottom:g}"/>')
    for line in what.lines:
        parts.append(f'<path class="line {line.style}" d="{_path(line.values, at)}"/>')
        parts += [
            f'<circle class="dot {line.style}" cx="{at.x(place):.1f}" cy="{at.y(value):.1f}" r="3"/>'
            for place, value in enumerate(line.values)
            if what.points and value is not None
        ]
    return "".join(parts) + "</svg>"


def _axes(what: Chart, at: _Scale) -> list[str]:
    parts = [f'<text x="2" y="10">{escape(what.unit)}</text>']
    for tick in ticks(at.low, at.high):
        y = at.y(tick)
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{what.width - RIGHT:g}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6:g}" y="{y + 4:.1f}">{tick_words(tick)}</text>')
    return parts + [
        f'<text class="mid" x="{at.x(place):.1f}" y="{at.bottom + 18:g}">{escape(words)}</text>'
        for place, words in enumerate(what.words)
        if words
    ]


def legend(lines: Sequence[tuple[str, str]]) -> str:
    """Return what the colours mean: (name, class) each."""
    keys = "".join(
        f'<span><svg class="chart key" viewBox="0 0 26 10"><path class="{style}" d="M1 5H25"/></svg>{escape(name)}</span>'
        for name, style in lines
    )
    return f'<p class="legend">{keys}</p>'


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers within the bounds."""
    raw = (high - low) / count
    size = 10.0 ** floor(log10(raw))
    step = next(size * nice for nice in (1.0, 2.0, 2.5, 5.0, 10.0) if size * nice >= raw * 0.999)
    first = int(-(-low // step))
    return [n * step for n in range(first, floor(high / step + 1e-9) + 1)]


def tick_words(value: float) -> str:
    """Return a number of an axis."""
    return f"{value + 0.0:.6g}".replace("-", "−")


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None and isfinite(value)]


def _range(what: Chart) -> tuple[float, float]:
    known = [value for line in what.lines for value in _known(line.values)]
    known += [value for band in what.bands for side in (band.low, band.high) for value in _known(side)]
    known += [bound for bound in (what.least, what.most, what.rule) if bound is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low if low == what.least else low - room), (high if high == what.most else high + room)


def _path(values: Values, at: _Scale) -> str:
    parts, begins = [], True
    for place, value in enumerate(values):
        if value is None or not isfinite(value):
            begins = True
            continue
        parts.append(f"{'M' if begins else 'L'}{at.x(place):.1f} {at.y(value):.1f}")
        begins = False
    return "".join(parts)


def _area(band: Band, at: _Scale) -> str:
    pieces: list[str] = []
    run: list[tuple[int, float, float]] = []
    for place, (low, high) in enumerate([*zip(band.low, band.high, strict=True), (None, None)]):
        if low is not None and high is not None:
            run.append((place, low, high))
            continue
        if run:
            there = [f"{at.x(place):.1f} {at.y(top):.1f}" for place, _, top in run]
            back = [f"{at.x(place):.1f} {at.y(down):.1f}" for place, down, _ in reversed(run)]
            pieces.append("M" + "L".join([*there, *back]) + "z")
        run = []
    return "".join(pieces)

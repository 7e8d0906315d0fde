"""The figures of the page, from evidence and facts: traces, the first second, scores, the map. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.messages import Alert
from streamproc.shell.explain.evidence import POST_S, PRE_S, Evidence
from streamproc.shell.explain.facts import Facts, Forecast, leading, own_scores
from streamproc.shell.explain.heat import heat
from streamproc.shell.explain.plot import (
    Axis,
    Figure,
    Line,
    Mark,
    axes_of,
    colour,
    delay_words,
    draw,
    range_of,
)
from streamproc.shell.explain.points import POST_S as POINTS_POST_S
from streamproc.shell.explain.points import PRE_S as POINTS_PRE_S
from streamproc.shell.explain.points import Point
from streamproc.values import F64

X = (-PRE_S, POST_S)
ZOOM_S = (-0.25, 1.0)  # "the first second"
ZOOM_RATE_HZ = 10.0  # at fewer frames per second there is nothing to see in it
SCORE_LOW = 0.1  # per unit: below, nobody cares
RULES_MAX = 8  # rules with a colour and a name
SMALL = 490.0  # px, width of a small figure


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure with its words. `svg` may hold several."""

    title: str
    svg: str
    words: str


def marks_of(alert: Alert, evidence_onset_us: int, told_us: int | None, *, words: bool = True) -> list[Mark]:
    """Return the onset, and the moment of the first alert."""
    onset_s = (alert.onset_ts_us - evidence_onset_us) / 1e6
    found = [Mark(onset_s, "onset" if words else "", "onset")]
    if told_us is not None:
        late = (told_us - alert.onset_ts_us) / 1e6
        found.append(
            Mark(onset_s + late, f"first alert, {delay_words(late * 1e3)}" if words and late else "", "told")
        )
        if late == 0.0 and words:
            found[0] = Mark(onset_s, "onset and first alert", "onset")
    return found


def trace_panels(
    alert: Alert, evidence: Evidence, facts: Facts, told_us: int | None, forecasts: Sequence[Forecast]
) -> list[Panel]:
    """Return frequency, voltage, angle."""
    marks = marks_of(alert, evidence.onset_us, told_us)
    figures = [figure for figure in _traces(evidence, facts) if figure is not None]
    panels = []
    for figure in figures:
        extra, words = "", ""
        if figure.name == "frequency" and forecasts:
            edges = [edge for f in forecasts for edge in (f.freq_hz.low, f.freq_hz.high)]
            figure = replace(figure, y=range_of(np.array(figure.y), 0.0, *edges))  # noqa: PLW2901
            extra, words = _forecast(axes_of(figure), forecasts)
        figure = replace(figure, marks=marks)  # noqa: PLW2901
        panels.append(Panel(TITLES[figure.name], draw(figure, extra), words))
    return panels


def zoom_panels(alert: Alert, evidence: Evidence, facts: Facts, told_us: int | None) -> list[Panel]:
    """Return the first second of the traces and of the leading rule; nothing where there is nothing to see in it."""
    figures = [*_traces(evidence, facts), _leading(alert, evidence, facts, ())]
    known = [figure for figure in figures if figure is not None]
    if evidence.rate_hz < ZOOM_RATE_HZ or not known:
        return []
    marks = marks_of(alert, evidence.onset_us, told_us, words=False)
    small = "".join(draw(_zoomed(figure, marks)) for figure in known)
    words = (
        "The same traces, and the score of the leading rule, from 0.25 s before the onset to 1 s after it."
    )
    return [Panel("The first second", f'<div class="small">{small}</div>', words)]


TITLES = {
    "frequency": "Frequency",
    "voltage": "Voltage",
    "angle": "Angle against the median of the area, less what it was before",
}


def _traces(evidence: Evidence, facts: Facts) -> list[Figure | None]:
    angle = evidence.angle_deg if evidence.has_angles else np.full_like(evidence.angle_deg, np.nan)
    return [
        _trace("frequency", "Hz", evidence.freq_hz, 0.01, evidence, facts),
        _trace("voltage", "pu", evidence.voltage_pu, 0.01, evidence, facts),
        _trace("angle", "°", angle, 1.0, evidence, facts),
    ]


def _trace(
    name: str, unit: str, values: F64, least: float, evidence: Evidence, facts: Facts
) -> Figure | None:
    if not np.isfinite(values).any():
        return None
    shown = list(facts.shown)
    others = np.delete(values, shown, axis=1)
    lines = [
        Line(evidence.labels[pmu], values[:, pmu], colour(place))
        for place, pmu in enumerate(shown)
        if np.isfinite(values[:, pmu]).any()
    ]
    y = range_of(values[:, shown], least, *_edges(others))
    return Figure(name, unit, evidence.t_s, lines, y, X, _band(others), height=210.0)


def _edges(others: F64) -> list[float]:
    """Return the bounds of most of the others: one PMU that is far out must not press all flat."""
    known = others[:, np.isfinite(others).any(axis=0)]
    if not known.size:
        return []
    low, high = np.fmin.reduce(known, axis=0), np.fmax.reduce(known, axis=0)
    return [float(np.quantile(low, 0.02)), float(np.quantile(high, 0.98))]


def _zoomed(figure: Figure, marks: Sequence[Mark]) -> Figure:
    inside = (figure.t_s >= ZOOM_S[0] - 0.1) & (figure.t_s <= ZOOM_S[1] + 0.1)
    lines = [replace(line, values=line.values[inside], label=False) for line in figure.lines]
    band = None if figure.band is None else (figure.band[0][inside], figure.band[1][inside])
    values = np.concatenate([line.values for line in lines]) if lines else np.zeros(0)
    return replace(
        figure,
        name=f"{figure.name}, first second",
        t_s=figure.t_s[inside],
        lines=lines,
        band=band,
        marks=marks,
        x=ZOOM_S,
        y=figure.y if figure.log else range_of(values, 0.1 * (figure.y[1] - figure.y[0])),
        width=SMALL,
        right=24.0,
        height=190.0,
    )


def _forecast(axes: tuple[Axis, Axis], forecasts: Sequence[Forecast]) -> tuple[str, str]:
    """Return the boxes in which the turning point should lie nine times of ten, and what they say."""
    x, y = axes
    parts, words = [], []
    for forecast in forecasts:
        is_last = forecast is forecasts[-1]
        freq, after = forecast.freq_hz, forecast.after_s
        low_s, high_s = (after.low, after.high) if after is not None else (forecast.told_s, x.high)
        left, right = (x.px(float(np.clip(s, x.low, x.high))) for s in (low_s, max(high_s, low_s + 0.05)))
        top, bottom = y.px(freq.high), y.px(freq.low)
        parts.append(
            f'<rect class="forecast{"" if is_last else " early"}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{max(1.0, right - left):.1f}" height="{max(1.0, bottom - top):.1f}"/>'
        )
        at = x.px(after.value) if after is not None else (left + right) / 2
        parts.append(f'<path class="center" d="M{at - 5:.1f} {y.px(freq.value):.1f}h10m-5 -5v10"/>')
        kind = "" if len(forecasts) == 1 else "solid, " if is_last else "dashed, "
        when = f" after {after.value:.1f} s" if after is not None else ""
        band = f"{freq.value:.3f} Hz ({freq.low:.3f} to {freq.high:.3f}){when}"
        words.append(f"{kind}told at {forecast.told_s:+.1f} s: {band}")
    head = "Boxes: where the frequency should turn, nine times of ten"
    return "".join(parts), f"{head}; {'; '.join(words)}."


def score_panels(alert: Alert, evidence: Evidence, facts: Facts, told_us: int | None) -> list[Panel]:
    """Return the score of every rule on one axis, the leading rule at each PMU, and the map."""
    marks = marks_of(alert, evidence.onset_us, told_us)
    panels = [Panel("Score of every detector", draw(_rules(evidence, facts, marks)), SCORE_WORDS)]
    if len(evidence.labels) < 2:
        return panels
    figure = _leading(alert, evidence, facts, marks)
    if figure is not None:
        title = f"{plain(alert.rule)} at each PMU"
        panels.append(Panel(title[:1].upper() + title[1:], draw(figure), ""))
    own = own_scores(alert, evidence)
    if np.isfinite(own).any():
        panels.append(Panel(MAP, heat(evidence.t_s, own, facts.answers, X, marks), ""))
    return panels


def _leading(alert: Alert, evidence: Evidence, facts: Facts, marks: Sequence[Mark]) -> Figure | None:
    """Return the score of the leading rule at each PMU; None if it was not judged."""
    row = leading(alert, evidence)
    if row is None or not np.isfinite(evidence.scores[:, row]).any():
        return None
    scores = evidence.scores[:, row].astype(np.float64)
    step = stride(scores)
    shown = list(facts.shown)
    lines = [Line(evidence.labels[pmu], scores[:, pmu], colour(n), step=step) for n, pmu in enumerate(shown)]
    figure = _scored(f"score of {plain(alert.rule)}", evidence, lines, scores, marks)
    return replace(figure, band=_band(np.delete(scores, shown, axis=1)), step=step, height=190.0)


def _band(others: F64) -> tuple[F64, F64] | None:
    if not others.shape[1]:
        return None
    return np.fmin.reduce(others, axis=1), np.fmax.reduce(others, axis=1)


MAP = "Map of responses"
SCORE_WORDS = "In per unit of each rule's own limit: 1 is the limit. The largest of all PMUs; thin: rules that stayed lower."


def _rules(evidence: Evidence, facts: Facts, marks: Sequence[Mark]) -> Figure:
    over = [j for j in facts.judged if j.peak is not None and j.peak >= 1.0]
    named = {j.rule.name for j in (over or facts.judged[:3])[:RULES_MAX]}
    names = [rule.name for rule in evidence.rules]
    largest = np.fmax.reduce(evidence.scores, axis=2).astype(np.float64)  # (n, n_rule)
    lines, place = [], 0
    for judged in facts.judged:
        scores = largest[:, names.index(judged.rule.name)]
        if not np.isfinite(scores).any():
            continue
        has_name = judged.rule.name in named
        style = colour(place) if has_name else "faint"
        place += has_name
        lines.append(Line(plain(judged.rule.name), scores, style, has_name, stride(scores[:, None])))
    return _scored("scores", evidence, lines, largest, marks)


def _scored(
    name: str, evidence: Evidence, lines: Sequence[Line], scores: F64, marks: Sequence[Mark]
) -> Figure:
    known = scores[np.isfinite(scores)]
    top = max(3.0, 1.5 * float(known.max(initial=0.0)))
    return Figure(
        name, "", evidence.t_s, lines, (SCORE_LOW, top), X, None, marks, (1.0,), log=True, height=230.0
    )


def stride(scores: F64) -> int:
    """Return from how many rows to the next a rule is judged."""
    rows = np.flatnonzero(np.isfinite(scores).any(axis=1))
    return max(1, int(np.median(np.diff(rows)))) if rows.size > 1 else 1


def plain(rule: str) -> str:
    """Return the name of a rule for people; a rule of a point without the point."""
    return rule.partition(":")[0].replace("_", " ")


def point_panels(alert: Alert, points: Sequence[Point], told_us: int | None) -> list[Panel]:
    """Return the values of each SCADA point with its limits, an hour before and twenty minutes after."""
    x = (-POINTS_PRE_S / 60.0, POINTS_POST_S / 60.0)
    marks = [replace(m, at_s=m.at_s / 60.0) for m in marks_of(alert, alert.onset_ts_us, told_us)]
    panels = []
    for point in points:
        line = Line(point.id, point.value, colour(0), step=1)
        y = range_of(point.value, 1e-3, *point.limits)
        figure = Figure(
            point.id, point.unit, point.t_s / 60.0, [line], y, x, None, marks, point.limits, x_unit="min"
        )
        panels.append(Panel(f"{point.id}, {point.unit}", draw(figure), "" if point.t_s.size else "No value."))
    return panels

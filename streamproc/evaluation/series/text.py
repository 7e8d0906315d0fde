"""The result as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamproc.evaluation.series.baselines import BASELINES
from streamproc.evaluation.series.result import Edge, Figures, Method, Part, Result
from streamproc.evaluation.table import aligned

HEAD = (
    "method",
    "",
    "MAE",
    "RMSE",
    "MAPE %",
    "rMAE",
    "MASE",
    "pinball",
    "rPinball",
    "P05-P95 %",
    "worst 30 d %",
    "Winkler",
)
EDGE_HEAD = ("skill over", "", *BASELINES)


def result_lines(result: Result) -> Iterator[str]:
    """Yield the whole result."""
    asked = result.asked
    unit = f" in {asked.unit}" if asked.unit else ""
    yield (
        f"{asked.file}: {asked.target}{unit}, one value per {asked.step}, {asked.first_value} to {asked.last_value}, "
        f"{asked.zone}"
    )
    yield from (f"note: {note}" for note in result.notes)
    for name, leak in result.leak.items():
        yield (
            f"leak check: {name}: {leak.origins} forecasts asked again without any later value, {leak.moved} moved"
        )
    yield from (f"quality: {finding.words}{_since(finding.first)}" for finding in result.quality)
    yield ""
    yield from aligned(HEAD, [method_row(method) for method in result.methods])
    yield from _left_out(result)
    if any(method.edges for method in result.models):
        yield ""
        yield from aligned(EDGE_HEAD, [edge_row(method) for method in result.models])
    for title, parts in (("time ahead", "by_lead"), ("hour of interval", "by_hour"), ("season", "by_season")):
        yield ""
        yield from part_lines(title, [(method.name, getattr(method, parts)) for method in result.methods])


def method_row(method: Method) -> tuple[str, ...]:
    """Return one line of the summary, as HEAD."""
    f = method.figures
    return (
        method.name,
        f"({method.fits} fits)" if method.fits else "",
        number(f.mae),
        number(f.rmse),
        fixed(f.mape, 2),
        fixed(f.rmae, 4),
        fixed(f.mase, 3),
        number(f.pinball),
        fixed(f.rpinball, 4),
        percent(f.coverage),
        percent(method.worst_30_days),
        number(f.winkler),
    )


def edge_row(method: Method) -> tuple[str, ...]:
    """Return a model's skill over each baseline with its interval, as EDGE_HEAD."""
    return (method.name, "", *(edge_words(method.edges.get(base)) for base in BASELINES))


def edge_words(edge: Edge | None) -> str:
    """Return a skill with its 95 % interval."""
    if edge is None or edge.skill is None:
        return "-"
    if edge.skill_low is None or edge.skill_high is None:
        return f"{edge.skill:.1%}"
    return f"{edge.skill:.1%} ({edge.skill_low:.1%} to {edge.skill_high:.1%})"


def part_lines(title: str, methods: Sequence[tuple[str, Sequence[Part]]]) -> list[str]:
    """Return a table of the mean errors of all methods by something, and the coverage of the first."""
    names = [part.name for part in methods[0][1]]
    head = (
        title,
        "",
        *(f"MAE {name}" for name, _ in methods),
        f"MAPE % {methods[0][0]}",
        f"P05-P95 % {methods[0][0]}",
    )
    rows = []
    for place, name in enumerate(names):
        figures: list[Figures] = [parts[place].figures for _, parts in methods]
        rows.append(
            (
                name,
                f"{figures[0].rows} rows",
                *(number(f.mae) for f in figures),
                fixed(figures[0].mape, 2),
                percent(figures[0].coverage),
            )
        )
    return aligned(head, rows)


def _left_out(result: Result) -> Iterator[str]:
    for method in result.models[:1]:
        share = method.figures.mape_left_out
        if share:
            yield f"MAPE leaves out {share:.2%} of the rows: they are near zero"
        if method.mae_not_suspect is not None and method.mae_not_suspect != method.figures.mae:
            yield f"{method.name}: MAE {number(method.mae_not_suspect)} on rows whose truth is not suspect"
    if result.span is None:
        yield "rMAE and rPinball have no meaning: what is scored does not move"


def _since(first: str) -> str:
    return f" (from {first})" if first else ""


def number(value: float | None) -> str:
    """Return a figure in the unit of the series, four digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"


def fixed(value: float | None, digits: int) -> str:
    """Return a figure with so many decimals."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """Return a share in per cent without the sign."""
    return "-" if share is None else f"{100.0 * share:.1f}"

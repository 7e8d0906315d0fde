"""The table of forecast targets: `python -m tools.forecast_table [--data DIR] [--quick] [--only WORD]`.

Each case is a backtest as anybody would run it (`streamproc backtest`), its figure beside the target. Data that may not be
shipped are made by `.ci/series`; a case without its data is told as such, never left out in silence.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamproc.cli.evaluate import cores
from streamproc.errors import DataError
from streamproc.evaluation.series.models import recipe_of
from streamproc.evaluation.series.read import Wanted, names_of
from streamproc.evaluation.series.run import Listener, Question, evaluate

BUILDINGS = Path(__file__).resolve().parents[1] / "tests" / "data" / "buildings" / "buildings.csv"
ALL = "*"  # every column but the time: the mean of their figures


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    file: str
    time: str
    target: str
    model: str
    figure: str  # of the result: mape or rmae
    goal: float  # in the unit of the figure; NaN: none
    train_until: str
    horizon: str = "PT24H"
    every: str = "PT24H"
    zone: str = "UTC"
    holidays: str | None = None
    holiday_column: str | None = None
    known: tuple[str, ...] = ()
    quick: bool = False


HOMES = {"file": "buildings.csv", "time": "time", "target": "load_kw", "figure": "mape", "zone": "Etc/GMT-10"}
HOMES |= {"train_until": "2013-10-28", "holidays": "AU-NSW"}
VIC = {
    "file": "vic_elec.csv",
    "time": "Time",
    "target": "Demand",
    "figure": "mape",
    "zone": "Australia/Melbourne",
}
VIC |= {"train_until": "2014-01-01", "holiday_column": "Holiday"}
RURAL = {
    "file": "simbench_rural.csv",
    "time": "time",
    "target": ALL,
    "figure": "rmae",
    "train_until": "2016-10-02",
}


def _case(name: str, base: dict[str, Any], model: str, goal: float, **more: Any) -> Case:  # noqa: ANN401
    return Case(**{"name": name, "model": model, "goal": goal, **base, **more})


CASES = (
    _case("400 buildings, closed form", HOMES, "ridge", 5.65, quick=True),
    _case("400 buildings, best", HOMES, "best", 5.45),
    _case("400 buildings, the stream's model", HOMES, "stream", math.nan, quick=True),
    _case("vic_elec 2014, linear", VIC, "ridge", 3.25),
    _case("vic_elec 2014, best", VIC, "best", 3.15),
    _case("vic_elec 2014, the stream's model", VIC, "stream", math.nan),
    _case("same, actual temperature (upper bound), linear", VIC, "ridge", 2.00, known=("Temperature",)),
    _case("same, actual temperature (upper bound), best", VIC, "best", 1.88, known=("Temperature",)),
    _case("vic_elec rolling, 30 min", VIC, "best", 0.40, horizon="PT30M", every="PT30M"),
    _case("vic_elec rolling, 1 h", VIC, "best", 0.73, horizon="PT1H", every="PT1H"),
    _case("vic_elec rolling, 2 h", VIC, "best", 1.25, horizon="PT2H", every="PT2H"),
    _case("simbench 1-MV-rural, 10 loads, last 90 days", RURAL, "best", 0.090),
    _case("same, the stream's model", RURAL, "stream", math.nan),
)


def run(case: Case, data: Path, jobs: int) -> dict[str, Any]:
    """Return the row of a case: figure, coverage, worst 30 days, Winkler, seconds; or why there is none."""
    path = BUILDINGS if case.file == BUILDINGS.name else data / case.file
    if not path.is_file():
        return {"case": case.name, "missing": f"{case.file} is not in {data}; .ci/series makes it"}
    begin_s = time.monotonic()
    targets = [one for one in names_of(path) if one != case.time] if case.target == ALL else [case.target]
    methods = []
    for target in targets:
        wanted = Wanted(case.time, target, case.known, case.holiday_column, None)
        question = Question(
            path,
            wanted,
            case.zone,
            case.horizon,
            case.every,
            "00:00",
            case.train_until,
            "P7D",
            "",
            case.holidays,
        )
        result = evaluate(question, [recipe_of(case.model)], Listener(), jobs)
        methods.append({one.name: one for one in result.methods})
    own = [next(one for one in each.values() if not one.is_baseline) for each in methods]
    bases = [[one for one in each.values() if one.is_baseline] for each in methods]
    row: dict[str, Any] = {"case": case.name, "model": case.model, "series": len(own), "figure": case.figure}
    row["measured"] = _mean([getattr(one.figures, case.figure) for one in own])
    for at, name in enumerate(one.name for one in bases[0]):
        row[name] = _mean([getattr(each[at].figures, case.figure) for each in bases])
    row["goal"] = None if math.isnan(case.goal) else case.goal
    row["met"] = None if math.isnan(case.goal) else bool(row["measured"] <= case.goal)
    row["coverage_90"] = _mean([one.figures.coverage for one in own])
    row["worst_30_days"] = min(
        (one.worst_30_days for one in own if one.worst_30_days is not None), default=None
    )
    row["winkler"] = _mean([one.figures.winkler for one in own])
    row["seconds"] = round(time.monotonic() - begin_s, 1)
    if len(own) > 1:
        row["each"] = {t: getattr(one.figures, case.figure) for t, one in zip(targets, own, strict=True)}
    return row


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def line(row: dict[str, Any]) -> str:
    """Return a row for a person."""
    if "missing" in row:
        return f"{row['case']:<52} not here: {row['missing']}"
    digits = 2 if row["figure"] == "mape" else 4
    unit = " %" if row["figure"] == "mape" else ""
    goal = "" if row["goal"] is None else f"<= {row['goal']:g}{unit}, {'met' if row['met'] else 'MISSED'}"
    naive = min(row[name] for name in row if name.startswith(("persistence", "seasonal")))
    worst = "" if row["worst_30_days"] is None else f"{row['worst_30_days']:.1%}"
    told = f"{row['measured']:.{digits}f}{unit}"
    return (
        f"{row['case']:<52} {row['model']:<8} {row['figure']:<5} {told:>8}  {goal:<18} best naive {naive:.{digits}f}{unit}  "
        f"P05-P95 {row['coverage_90']:.1%}  worst 30 d {worst:<6} Winkler {row['winkler']:.4g}  {row['seconds']:.0f} s"
    )


def main() -> int:
    """Print the table; 1 when a case could not be run, 0 when some miss their target: that is a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".cache/series"))
    parser.add_argument("--quick", action="store_true", help="only what is shipped and fitted in closed form")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    code = 0
    for case in CASES:
        if options.only not in case.name or (options.quick and not case.quick):
            continue
        try:
            row = run(case, options.data, options.jobs)
        except DataError as error:
            row = {"case": case.name, "missing": str(error)}
            code = 1
        sys.stdout.write((json.dumps(row) if options.json else line(row)) + "\n")
        sys.stdout.flush()
        for name, value in row.get("each", {}).items() if not options.json else ():
            sys.stdout.write(f"    {name}: {value:.4f}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""What was known ahead, of a file, beside a series: on its grid, and where it was missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamproc.core.ahead.issue import HOLIDAY
from streamproc.core.ahead.vintages import Vintages, vintages_of
from streamproc.errors import DataError
from streamproc.evaluation.series.grid import Finding, Series
from streamproc.evaluation.series.known_file import Sheet
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.refits import calls


def with_known(series: Series, sheet: Sheet) -> Series:
    """Return the series with what was known ahead; raises DataError when a name is taken or none is left."""
    vintages = on_grid_of(series, sheet, series.step_s, int(series.t_s[0]), series.t_s.size)
    findings = list(series.findings)
    if any(one.name == HOLIDAY for one in sheet.told):
        words = f"{HOLIDAY!r} of {sheet.path.name} is not used: give --holidays or --holiday-column"
        findings.append(Finding("holiday_not_used", 1, words))
    return replace(series, vintages=vintages, findings=tuple(findings))


def on_grid_of(series: Series, sheet: Sheet, step_s: int, start_s: int, n: int) -> Vintages:
    """Return what stands in the file on a grid; raises DataError when a name is taken or none is left."""
    for name in sheet.names:
        if name in series.known_names:
            raise DataError(f"{sheet.path}: {name!r} is given by --known too; leave one of them out")
    if not sheet.names:
        raise DataError(f"{sheet.path}: holds only {HOLIDAY!r}; give --holidays instead of the file")
    vintages = vintages_of(sheet.told, sheet.names, start_s, step_s, n)
    for column, name in enumerate(sheet.names):
        if not (vintages.column == column).any():
            first, last = series.when(0), series.when(series.t_s.size - 1)
            raise DataError(
                f"{sheet.path}: {name!r} has no value for any time of the series, {first} to {last}; take it out, or "
                "look at the times and their zone"
            )
    return vintages


def gaps_ahead(series: Series, plan: Plan) -> Iterator[Finding]:
    """Yield of each name how many intervals of the test's forecasts nothing was known of at their origin."""
    told = series.vintages
    if told is None:
        return
    missing = np.zeros(len(told.names), np.int64)
    for call in calls(series, plan.origins):
        origins = plan.origins[call]
        first = int(origins[0])
        seen = told.at(int(series.t_s[origins[-1]]), first, int(origins[-1]) + plan.n_lead)
        missing += np.isnan(seen[origins[:, None] - first + np.arange(plan.n_lead)]).sum(axis=(0, 1))
    every = plan.origins.size * plan.n_lead
    for name, count in zip(told.names, missing.tolist(), strict=True):
        if count:
            words = (
                f"intervals of forecasts of which {name!r} was not known at their origin: {count} of {every}"
            )
            yield Finding("not_known_then", count, words)

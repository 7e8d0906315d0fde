"""All forecasts of a backtest as rows: for anyone who wants to judge them by another rule, or to look for a leak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamproc.core.quantiles import NAMES
from streamproc.evaluation.series.grid import Series
from streamproc.evaluation.series.plan import Plan
from streamproc.evaluation.series.protocol import Told
from streamproc.evaluation.series.zone import local_words

HEAD = ",".join(("method", "issued_at", "valid_from", *NAMES, "value"))


def forecast_rows(series: Series, plan: Plan, told: Sequence[Told]) -> Iterator[str]:
    """Yield a CSV line by line: each method, origin and lead; nothing where a value is unknown."""
    yield HEAD
    start_s = int(series.t_s[0])
    words = [local_words(start_s + row * series.step_s, series.zone) for row in range(series.t_s.size)]
    for one in told:
        for number, origin in enumerate(plan.origins.tolist()):
            columns = one.quantiles[number].T.tolist()  # (n_lead, 7)
            for lead, quantiles in enumerate(columns):
                row = origin + lead
                cells = [cell(value) for value in (*quantiles, float(series.truth[row]))]
                yield ",".join((one.name, words[origin], words[row], *cells))


def cell(value: float) -> str:
    """Return a number with all its digits, "" for NaN."""
    return "" if value != value else repr(value)  # noqa: PLR0124 - NaN is the one value that differs from itself

"""One series on a regular grid, with the calendar and what is known ahead: what every forecast model sees.

    index      0 ............ until | until + 1 .......... n_all - 1
    value      known or NaN         | what came later (a backtest has it, a model never looks at it)
    slot, day, holiday, known       | reach as far as anything is to be forecast

A forecast is issued at an origin `o` (an index): it may use `value[:o]` and nothing later; its first lead is interval
`o` itself. `known` holds what was known ahead of time about each interval; NaN = not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamproc.values import F64, I64, Bool


@dataclass(frozen=True, slots=True)
class History:
    """A series; all arrays have one row per interval, oldest first."""

    name: str
    step_s: int  # length of an interval
    value: F64  # (n_all,), mean over the interval in the unit of the series; NaN = unknown
    slot: I64  # (n_all,), interval of the local day, 0 = midnight
    day: I64  # (n_all,), local days since 1970-01-01 (a Thursday)
    holiday: Bool  # (n_all,)
    known: F64  # (n_all, n_known)
    known_names: tuple[str, ...] = ()

    @property
    def steps_per_day(self) -> int:
        """Return how many intervals a day without a clock change has."""
        return 86_400 // self.step_s

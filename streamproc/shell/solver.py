"""The solver of the advice: HiGHS through scipy. A few variables, milliseconds; it may find nothing, never block.

What comes back is not believed: `core.advice_plan.guard` checks it without knowing how it was found.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.advice_plan import Problem
from streamproc.values import F64

TIME_LIMIT_S = 1.0  # far beyond what such a program takes; only a defect comes near it


def solve(problem: Problem) -> F64 | None:
    """Return the cheapest solution, or None when there is none within the time limit."""
    from scipy.optimize import linprog  # noqa: PLC0415 - 0.3 s to import, and many sites have no resources

    result = linprog(
        problem.cost,
        A_ub=problem.matrix if problem.bound.size else None,
        b_ub=problem.bound if problem.bound.size else None,
        bounds=np.stack([problem.lower, problem.upper], axis=1),
        method="highs",
        options={"time_limit": TIME_LIMIT_S, "presolve": True},
    )
    return None if result.x is None or not result.success else np.asarray(result.x, dtype=np.float64)

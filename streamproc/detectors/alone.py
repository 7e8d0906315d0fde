"""What the rules about data quality share: is it one PMU, or is it the grid?

A disturbance of the grid moves the PMUs around it, by amounts that fall with the electrical distance. A bad measurement
moves one PMU and nobody else. So such a rule compares a PMU with the second largest of its area:

    sizes, sorted    9.1  0.3  0.2  0.2  0.1      one alone: the others moved 30 times less
                     9.1  4.0  2.5  1.1  0.3      the grid: the second moved by half of it

PMUs that lie alike (one clock for two of them, say) are taken for the grid: to call a disturbance bad data would be the
worse mistake. With fewer than four PMUs nobody can say who is wrong.
"""

from __future__ import annotations

from streamproc.core.graph import Ops, T, unknown_if

PMU_COUNT_MIN = 4
ALONE_RATIO = 3.0  # times the second largest


def second_largest(ops: Ops[T], sizes: T) -> T:
    """Return the second largest (n, 1) of each row (n, n_pmu); `sizes` is >= 0, unknown ones count as 0."""
    zero = ops.const(0.0)
    known = ops.where(ops.isnan(sizes), zero, sizes)
    largest = ops.max(known, 1, keep=True)
    return ops.max(ops.where(ops.ge(known, largest), zero, known), 1, keep=True)


def unknown_if_few(ops: Ops[T], sizes: T, score: T) -> T:
    """Return the score, NaN where `sizes` (1, n_pmu) is known at fewer than four PMUs."""
    known = ops.sub(ops.const(1.0), ops.number(ops.isnan(sizes)))
    return unknown_if(ops, ops.ge(ops.const(PMU_COUNT_MIN - 0.5), ops.sum(known, 1, keep=True)), score)


def against_median(ops: Ops[T], values: T) -> T:
    """Return values (n, n_pmu) less the median of each row over the known PMUs."""
    return ops.sub(values, ops.median(values, 1, keep=True))


def only_if(ops: Ops[T], score: T, *conditions: T) -> T:
    """Return the score, 0 where a condition does not hold; NaN stays NaN."""
    for condition in conditions:
        score = ops.mul(score, ops.number(condition))
    return score

"""The contract of a detector's score, and the rule that turns scores into findings.

A score is in per unit of its own limit: 1.0 is at the limit, NaN is "cannot tell" (too little good data, or
the quantity is not measured). It is linear in the measured quantity, so `value = score * limit` is the
value in the rule's unit. Compare `score >= 1.0`; never negate, because NaN must neither raise nor clear.

A model gives all scores of one tick of one area, `(n_rule, n_pmu)`; row `d` belongs to `rules[d]`. This is
everything that the decide side has to know about a detector: thresholds do not leak into other files. A rule
that looks at seconds is not judged at every tick (`core.scoring`): in between, its row is NaN, "not judged",
which to the decide side is the same as "cannot tell".

The input (built by `streamproc.core.window`) is the instant to be judged and two windows that end with it:

    now        (3, n_pmu) float32, the row of the instant, as it came
    fast (n_row, 3, n_pmu) float32, one row per reporting instant, gaps of one or two rows bridged
    slow (n_row, 3, n_pmu) float32, one row per UTC second (mean of its finite values), bridged too
    quantity 0: frequency minus nominal, Hz
             1: voltage magnitude / base - 1, pu
             2: angle step, rad: the change since the last frame beyond what the reported frequency explains

NaN is a missing or bad sample: in `now` each, in the windows those of longer gaps. It is masked inside the
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from streamproc.values import F32, F64

T = TypeVar("T")

Family: TypeAlias = Literal["grid", "quality", "service"]

N_QUANTITY = 3
# Quiet data at three noise levels, 8 and 24 PMUs: the second largest score of the untrained rules stayed below 0.48.
COMPANY = 0.45
SUDDEN_S = 3.0  # a rule that looks further back cannot tell when it began
FREQUENCY, VOLTAGE, ANGLE = 0, 1, 2  # index of the quantity axis of a window


class Windows(NamedTuple, Generic[T]):
    """What a model sees of one instant: arrays, or the names of a graph's edges."""

    now: T
    fast: T
    slow: T


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of scores: what it means, how bad it is, and when it raises and clears.

    `text` is the sentence for a person, with the fields {source}, {value}, {limit}, {unit} and {window_s}.
    """

    name: str
    version: int
    family: Family
    kind: str
    priority: int  # 1 (highest) to 4
    limit: float  # in `unit`; the value is score * limit
    unit: str
    window_s: float  # how far back the score looks, s
    on_delay_ms: int
    off_delay_ms: int
    deadband_ratio: float  # clears below 1 - deadband_ratio
    text: str
    whole_area: bool = (
        False  # one score for the area, shared out to its PMUs: says nothing about any one of them
    )
    company: float = COMPANY  # from this score on another PMU is said to move, too (`core.guard`)

    @property
    def sudden(self) -> bool:
        """Return whether a raise of this rule is the beginning of a disturbance, to the frame."""
        is_quick = self.on_delay_ms == 0 and self.window_s <= SUDDEN_S
        return self.family == "grid" and is_quick and self.kind != "oscillation"


class AreaModel(Protocol):
    """The model of one area at one reporting rate: all rules, all PMUs."""

    fast_rows: int
    slow_rows: int
    rules: tuple[Rule, ...]
    digest: str
    base_v: F64  # (n_pmu,) line-to-ground volts that are 1 pu; NaN: not known
    reason: str  # why this is not simply the site's model; "" if it is
    fallback_count: int  # PMUs that are scored by the generic model although a site bundle is loaded

    def score(self, windows: Windows[F32], instant: int) -> F32:
        """Return the scores (n_rule, n_pmu) of an instant (its number on the grid).

        NaN where it cannot be told, and in the rows of rules that are not judged at this instant. Which ones
        those are depends on the number of the instant alone.
        """


Params: TypeAlias = Mapping[str, F64]
"""What a detector knows about a site after fitting: named arrays, all of them constants of the graph."""

UNIT_LIMIT = 1.0  # limits of a graph that is only built to measure levels, before its limits are known


@dataclass(frozen=True, slots=True)
class History:
    """Event-free data to fit on, as the features that a model sees, over the whole recording."""

    rate_hz: float
    fast: F64  # (n_tick, 3, n_pmu), NaN = unknown
    slow: F64  # (n_s, 3, n_pmu), means of whole UTC seconds
    first_instant: int = 0  # number of the first tick on the grid


def learnt_limit(levels: F64, margin_ratio: float, level_min: float) -> float:
    """Return median + margin * (maximum - median) of the largest level of each tick, at least `level_min`.

    `levels` is (n_tick, n_pmu), NaN = unknown. The margin is on the excess over the median, not on the
    maximum: the levels of many PMUs crowd together far from zero, and a factor on their maximum would make
    the detector deaf.
    """
    known = levels[np.isfinite(levels).any(axis=1)]
    if known.shape[0] == 0:
        return level_min
    largest = np.nanmax(known, axis=1)  # (n_tick,)
    median = float(np.median(largest))
    return max(level_min, median + margin_ratio * (float(largest.max()) - median))

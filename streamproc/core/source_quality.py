"""What the data say about themselves: missing, bad, frozen, of a wrong clock, alone. The five rules that no model brings.

A source that stands still is the hardest of them: its values are plausible, and when it moves again it jumps. Two things
tell it from a quiet grid:

    others move     a value that repeats to the last bit while another PMU of the area moves, for `STILL_S` (for
                    `STILL_FREQ_S` where only a frequency is known: that is sent in steps of a millihertz)
    the angle       a phasor must turn as far as its own frequency says; one that repeats while its frequency says that
                    it should have turned by `TURN_RAD` cannot be true

Such values are withheld from the models, so that the return raises nothing. An area that is quiet as a whole, or alone, is
believed: hiding an event is worse than an episode too many. The rule `data_frozen` tells either after `frozen_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core import quality
from streamproc.core.align import Aligned
from streamproc.core.detector import Rule
from streamproc.core.samples import ANGLE, FREQ, N_VALUE, taken
from streamproc.values import F32, F64, I64, Bool

OVER_LIMIT = 2.0  # the score of a quality rule that holds; its delay is the rule's on-delay
STILL_S, STILL_FREQ_S = 0.5, 2.0
SUSPECT_MS = 300  # who moves alone for longer is told: a disturbance reaches the others sooner
TURN_RAD = 0.05


@dataclass(frozen=True, slots=True)
class Stillness:
    """Memory between batches: the last instant, and for how many instants each PMU has repeated itself."""

    value: F64  # (n_pmu, 4)
    count: I64  # (n_pmu,)

    @classmethod
    def fresh(cls, n_pmu: int) -> Stillness:
        """Return the state before any instant."""
        return cls(np.full((n_pmu, N_VALUE), np.nan), np.zeros(n_pmu, dtype=np.int64))

    def take(self, index: I64) -> Stillness:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones."""
        fresh = Stillness.fresh(index.size)
        value = np.where((index >= 0)[:, None], self.value[np.maximum(index, 0)], fresh.value)
        return Stillness(value, taken(self.count, fresh.count, index))


def stand_still(
    state: Stillness, value: F64, rate_hz: float, nominal_hz: float
) -> tuple[Stillness, Bool, Bool]:
    """Return the state after, who repeats the instant before, and who cannot be believed: (n, n_pmu) each."""
    n = value.shape[0]
    if n == 0:
        none = np.zeros(value.shape[:2], dtype=np.bool_)
        return state, none, none
    values = np.concatenate([state.value[None], value])
    known = np.isfinite(value).any(axis=2)
    same = known & _equal(values[1:], values[:-1])
    row = np.arange(1, n + 1)[:, None]
    broken = np.maximum.accumulate(np.where(same, 0, row), axis=0)  # the last row, from 1, that was another
    count = np.where(broken > 0, row - broken, state.count + row)
    angle_known = np.isfinite(value[:, :, ANGLE])
    long = count >= np.ceil(np.where(angle_known, STILL_S, STILL_FREQ_S) * rate_hz)
    moving = known & ~same
    others = moving.sum(axis=1, keepdims=True) > 0
    turn_rad = 2.0 * np.pi * np.abs(value[:, :, FREQ] - nominal_hz) * count / rate_hz
    impossible = same & angle_known & (turn_rad >= TURN_RAD)
    after = Stillness(value[-1], count[-1])
    return after, same, np.asarray((same & long & others) | impossible)


def _equal(now: F64, before: F64) -> Bool:
    equal = (now == before) | (np.isnan(now) & np.isnan(before))
    return np.asarray(equal.all(axis=2))


def without(closed: Aligned, stuck: Bool) -> Aligned:
    """Return the instants without these values."""
    if not stuck.any():
        return closed
    return replace(closed, value=np.where(stuck[:, :, None], np.nan, closed.value))


def quality_scores(closed: Aligned, still: Bool, alone: F32) -> F64:
    """Return the scores (n, 5, n_pmu) of missing, bad, frozen, wrong clock, and who moves alone (`core.guard`)."""
    there = closed.quality & quality.DISCARDED == 0
    bad = there & (closed.quality & (quality.BAD_DATA | quality.RECEIVED_AS_BAD) != 0)
    known = np.isfinite(closed.value).any(axis=2)
    missing = np.where(there, 0.0, OVER_LIMIT)
    is_bad = np.where(there, np.where(bad, OVER_LIMIT, 0.0), np.nan)
    frozen = np.where(there & known, np.where(still, OVER_LIMIT, 0.0), np.nan)
    wrong = np.where(closed.wrong_clock, OVER_LIMIT, 0.0)
    suspect = np.where(there, np.where(alone > 0.0, OVER_LIMIT, 0.0), np.nan)
    return np.stack([missing, is_bad, frozen, wrong, suspect], axis=1)


def quality_rules(missing_ms: int, bad_ms: int, frozen_ms: int, off_delay_ms: int) -> tuple[Rule, ...]:
    """Return the five rules about the data themselves, in the order of `quality_scores`."""

    def rule(name: str, priority: int, on_delay_ms: int, text: str) -> Rule:
        return Rule(
            name=name,
            version=1,
            family="quality",
            kind=name,
            priority=priority,
            limit=on_delay_ms / 1e3,
            unit="s",
            window_s=0.0,
            on_delay_ms=on_delay_ms,
            off_delay_ms=off_delay_ms,
            deadband_ratio=0.0,
            text=text,
        )

    return (
        rule("data_missing", 3, missing_ms, "No data from {source} for more than {limit} s"),
        rule("data_bad", 3, bad_ms, "Bad or implausible data from {source} for more than {limit} s"),
        rule("data_frozen", 3, frozen_ms, "The values of {source} have stood still for more than {limit} s"),
        rule(
            "clock_wrong",
            3,
            0,
            "The clock of {source} is wrong: its frames are far from the time of the area",
        ),
        rule(
            "data_suspect",
            4,  # the least: a rule that knows what is wrong takes the lead
            SUSPECT_MS,
            "Only {source} jumped and no other PMU moved: its measurement is doubtful, and is used for no alert",
        ),
    )

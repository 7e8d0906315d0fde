"""One PMU that lies must not make an event of the grid: sudden rules need company.

A disturbance moves the whole area, each PMU by its distance from it. A broken instrument, a spike, a wrong ratio or phase
move one PMU and nobody else. So, in an area where at least three PMUs are known at an instant:

    sudden rules    raise only at instants at which a second PMU moves, too: its score in any sudden rule reaches that
                    rule's `company` level, which is learnt as what the second largest score of quiet data rarely reaches
                    (`training.anomaly`). Scores that a whole area shares do not count: one loud PMU lends them to all.
    every rule      of a PMU that moved alone is withheld for `HOLD_S`, or until it moves in company: the level to which
                    it jumped may be out of all limits

What is withheld is NaN: it neither raises nor clears. It is not silent: `data_suspect` tells of the PMU that moves alone.
A PMU of which a quality rule of the model (spike, clock, scale) says that it cannot be believed is withheld likewise.

And the other way round: a disturbance of the grid must not be filed as bad data. For `EVENT_S` from the instant at which
sudden rules move in company, what the model's quality rules say is withheld; their windows hold the disturbance by then.
It is counted from the beginning only, so that an alarm which stands for hours does not silence them.

With one or two PMUs nobody can tell who lies, and everything is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.detector import Rule
from streamproc.core.samples import taken
from streamproc.values import F32, I64, Bool

KNOWN_MIN = 3  # PMUs with a score; below, nobody can tell who lies
HOLD_S = 10.0
EVENT_S = 5.0
NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Guard:
    """Memory between batches: the last instant at which each PMU moved alone, and was said to be bad."""

    alone: I64  # (n_pmu,)
    bad: I64  # (n_pmu,)
    began: int = NEVER  # when the last disturbance began
    moving: bool = False  # the instant before was one of a disturbance

    @classmethod
    def fresh(cls, n_pmu: int) -> Guard:
        """Return the state before any instant."""
        never = np.full(n_pmu, NEVER, dtype=np.int64)
        return cls(never, never)

    def take(self, index: I64) -> Guard:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones."""
        fresh = Guard.fresh(index.size)
        return replace(
            self, alone=taken(self.alone, fresh.alone, index), bad=taken(self.bad, fresh.bad, index)
        )


def guarded(
    state: Guard, scores: F32, rules: tuple[Rule, ...], instant: I64, rate_hz: float
) -> tuple[Guard, F32, F32]:
    """Return the state after, the scores without what is not believed, and the score of who moves alone.

    `scores` (n, n_rule, n_pmu) in per unit of the limits; the last of the three is (n, n_pmu).
    """
    grid = np.array([rule.family == "grid" for rule in rules], dtype=np.bool_)
    sudden = np.array([rule.sudden for rule in rules], dtype=np.bool_)
    own = sudden & np.array([not rule.whole_area for rule in rules], dtype=np.bool_)
    company = np.array([rule.company for rule in rules], dtype=np.float32)[own]
    n, _, n_pmu = scores.shape
    blank = np.zeros((n, n_pmu), dtype=np.float32)
    if n == 0 or not own.any():
        return state, scores, blank
    over = _largest(scores[:, own])  # (n, n_pmu)
    moves = _largest(scores[:, own] / company[:, None]) >= 1.0
    enough = np.isfinite(over).sum(axis=1) >= KNOWN_MIN  # (n,)
    lone_area = (moves.sum(axis=1) < 2) & enough
    alone: Bool = (over >= 1.0) & lone_area[:, None]
    event = (over >= 1.0).any(axis=1) & ~lone_area
    state, shaken = _shaken(state, event & enough, instant, rate_hz)
    if shaken.any():
        scores = np.where(shaken[:, None, None] & ~grid[:, None], np.float32(np.nan), scores)
    quality = scores[:, ~grid]
    bad: Bool = np.asarray((quality >= 1.0).any(axis=1)) if quality.shape[1] else blank > 0
    if not (alone.any() or bad.any() or _recent(state, instant, rate_hz)):
        return state, scores, blank
    last_alone = _last(state.alone, alone, instant)
    last_bad = _last(state.bad, bad, instant)
    last_event = np.maximum.accumulate(np.where(event, instant, NEVER))[:, None]
    hold = round(HOLD_S * rate_hz)
    suspect = (instant[:, None] - last_alone < hold) & (last_alone > last_event)
    suspect |= instant[:, None] - last_bad < hold
    withheld = (grid[None, :, None] & suspect[:, None, :]) | (
        sudden[None, :, None] & lone_area[:, None, None] & (scores >= 1.0)
    )
    own_alone = np.where(last_alone[-1] > last_event[-1], last_alone[-1], NEVER)
    after = replace(state, alone=own_alone, bad=last_bad[-1])
    return after, np.where(withheld, np.float32(np.nan), scores), np.where(alone, over, blank)


def _shaken(state: Guard, event: Bool, instant: I64, rate_hz: float) -> tuple[Guard, Bool]:
    """Return the state after, and at which instants (n,) a disturbance has just begun."""
    before = np.concatenate([[state.moving], event[:-1]])
    began = np.maximum.accumulate(np.where(event & ~before, instant, state.began))
    return (
        replace(state, began=int(began[-1]), moving=bool(event[-1])),
        np.asarray(instant - began < round(EVENT_S * rate_hz)),
    )


def _largest(scores: F32) -> F32:
    """Return the largest known score over the rules (n, n_pmu); NaN where none is known."""
    found: F32 = np.fmax.reduce(scores, axis=1)
    return found


def _recent(state: Guard, instant: I64, rate_hz: float) -> bool:
    newest = max(int(state.alone.max(initial=NEVER)), int(state.bad.max(initial=NEVER)))
    return bool(instant[0] - newest < round(HOLD_S * rate_hz))


def _last(before: I64, now: Bool, instant: I64) -> I64:
    """Return per instant and PMU the last instant at which `now` held: (n, n_pmu)."""
    own = np.maximum.accumulate(np.where(now, instant[:, None], NEVER), axis=0)
    return np.maximum(own, before)

"""One PMU that lies must not make an event of the grid: who moves needs company.

A disturbance moves the whole area, each PMU by its distance from it. A broken instrument, a spike, a wrong ratio or phase
move one PMU and nobody else. So, in an area where at least three PMUs are known at an instant, a PMU over the limit of a
sudden rule is believed only if another one moves, too:

    at first      its score in some sudden rule reaches that rule's `company` level (what the largest score of quiet data
                  rarely reaches: `training.anomaly`) and `RATIO_MIN` of the score of the one that moves
    after that    a PMU that began to move alone more than `GRACE_S` ago (and has not stopped for `HOLD_S`) needs another
                  one that is over a limit itself: among many frames chance would find company for everybody

Both must have risen above all that they had within the last seconds: while a grid swings or is being taken back,
everybody is near a limit (`core.unrest`). Who rises while nobody else does moves alone, but for the first `CALM_S` of a
disturbance; who has not risen, but stands over a limit in company, is neither believed nor suspected, but withheld.

Scores that a whole area shares do not count: one loud PMU lends them to all. Who moved alone, or of whom a quality rule
of the model (spike, clock, scale) says that it cannot be believed, is a suspect: every score of it is withheld until it
has been within all its limits for `HOLD_S`, or until it moves in company. So is what the area shares, while a suspect is
there and no disturbance. What is withheld is NaN: it neither raises nor clears. It is not silent: `data_suspect` stands
as long.

And the other way round: a disturbance of the grid must not be filed as bad data. For `EVENT_S` from the instant at which
sudden rules move in company, what the model's quality rules say is withheld; their windows hold the disturbance by then.
It is counted from the beginning only, so that an alarm which stands for hours does not silence them. So long everybody
who moves is believed.

With one or two PMUs nobody can tell who lies, and everything is believed. What comes slowly (a voltage that sinks for
half a minute at one place only) is judged by its level alone: a real one looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.detector import Rule
from streamproc.core.samples import taken
from streamproc.core.unrest import quiet, risen
from streamproc.values import F32, I64, Bool

KNOWN_MIN = 3  # PMUs with a score; below, nobody can tell who lies
RATIO_MIN = 0.04  # simulated grids of 8 to 30 PMUs: the second largest has 0.05 of the largest or more
HOLD_S = 10.0
GRACE_S = 0.1  # what is far away moves a little later
EVENT_S = 5.0
CALM_S = 30.0  # what rings down has rung down
NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Guard:
    """Memory between batches: instants, per PMU unless said otherwise."""

    alone: I64  # (n_pmu,) last moved alone
    doubted: I64  # began to move alone, without a pause of `HOLD_S`
    bad: I64  # last said to be bad by a quality rule
    believed: I64  # last moved in company
    raised: I64  # last over a limit of its own
    since: I64  # began to be over limits, without a pause of `HOLD_S`
    levels: F32  # (n, n_pmu) largest scores of the last seconds, up to the step `step` (`core.unrest`)
    step: int = NEVER
    began: int = NEVER  # of the area: when the last disturbance began
    moving: bool = False  # of the area: the instant before was one of a disturbance

    @classmethod
    def fresh(cls, n_pmu: int) -> Guard:
        """Return the state before any instant."""
        never = np.full(n_pmu, NEVER, dtype=np.int64)
        return cls(never, never, never, never, never, never, quiet(n_pmu))

    def take(self, index: I64) -> Guard:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones."""
        never = np.full(index.size, NEVER, dtype=np.int64)
        names = ("alone", "doubted", "bad", "believed", "raised", "since")
        levels = quiet(index.size)
        levels[:, index >= 0] = self.levels[:, index[index >= 0]]
        return replace(
            self, levels=levels, **{name: taken(getattr(self, name), never, index) for name in names}
        )


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Which rules are what, (n_rule,) each."""

    grid: Bool
    sudden: Bool
    shared: Bool  # of the grid, one score for the area

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> _Kinds:
        """Return them in the order of the rules."""
        grid, sudden, whole = (
            np.array(values, dtype=np.bool_)
            for values in zip(*((r.family == "grid", r.sudden, r.whole_area) for r in rules), strict=True)
        )
        return cls(grid, sudden, grid & whole)


def guarded(
    state: Guard, scores: F32, rules: tuple[Rule, ...], instant: I64, rate_hz: float
) -> tuple[Guard, F32, F32]:
    """Return the state after, the scores without what is not believed, and the score of who is suspected.

    `scores` (n, n_rule, n_pmu) in per unit of the limits; the last of the three is (n, n_pmu).
    """
    n, _, n_pmu = scores.shape
    blank = np.zeros((n, n_pmu), dtype=np.float32)
    if n == 0 or not rules:
        return state, scores, blank
    kinds = _Kinds.of(rules)
    own = kinds.sudden & ~kinds.shared
    if not own.any():
        return state, scores, blank
    company = np.array([rule.company for rule in rules], dtype=np.float32)[own]
    over, near = _largest(scores[:, own]), _largest(scores[:, own] / company[:, None])
    enough = (np.isfinite(over).sum(axis=1) >= KNOWN_MIN)[:, None]
    hot: Bool = np.asarray(over >= 1.0)
    soft, firm = _company(over, near)
    levels, step, higher = risen(state.levels, state.step, over, instant, rate_hz)
    state = replace(state, levels=levels, step=step)
    together = soft & (_largest_other(np.where(higher, near, 0.0)) >= 1.0)
    joined = together & higher
    firm = firm & higher & (_largest_other(np.where(higher, over, 0.0)) >= 1.0)
    newest = np.maximum.accumulate(np.where((hot & joined).any(axis=1), instant, state.began))
    calm: Bool = instant - newest >= round(CALM_S * rate_hz)
    lonely = hot & enough & ~np.where(higher & calm[:, None], together, soft)
    hold = round(HOLD_S * rate_hz)
    fresh = instant[:, None] - _before(state.alone, lonely, instant) >= hold
    doubted = _last(state.doubted, lonely & fresh, instant)
    state = replace(state, doubted=doubted[-1])
    warned = ~fresh & (instant[:, None] - doubted >= round(GRACE_S * rate_hz))
    believed: Bool = np.asarray(hot & enough & np.where(warned, firm, joined))
    event: Bool = np.asarray((believed | (hot & ~enough)).any(axis=1))
    state, shaken = _shaken(state, event & enough[:, 0], instant, rate_hz)
    if shaken.any():
        scores = np.where(shaken[:, None, None] & ~kinds.grid[:, None], np.float32(np.nan), scores)
    raised: Bool = np.asarray((scores[:, kinds.grid & ~kinds.shared] >= 1.0).any(axis=1))
    bad: Bool = np.asarray((scores[:, ~kinds.grid] >= 1.0).any(axis=1))
    if not (raised.any() or bad.any() or _recent(state, instant, hold)):
        return state, scores, blank
    believed |= hot & shaken[:, None]  # who still swings when others have calmed down
    state, suspect, told = _suspects(state, lonely, bad, believed, raised, instant, hold)
    carried = hot & enough & soft & ~believed & ~suspect
    alone = hot & enough & ~believed & ~carried
    doubtful = (alone | suspect | carried).any(axis=1) & ~event
    withheld = kinds.grid[None, :, None] & suspect[:, None, :]
    withheld |= own[None, :, None] & carried[:, None, :]
    withheld |= (kinds.sudden | kinds.shared)[None, :, None] & doubtful[:, None, None] & (scores >= 1.0)
    known = np.fmax(over, np.float32(1.0))
    return state, np.where(withheld, np.float32(np.nan), scores), np.where(alone | told, known, blank)


def _company(over: F32, near: F32) -> tuple[Bool, Bool]:
    """Return whether another PMU moves enough for a first look, and enough after a doubt: (n, n_pmu) each."""
    other = _largest_other(over)
    in_ratio = other >= RATIO_MIN * np.nan_to_num(over)
    return np.asarray((_largest_other(near) >= 1.0) & in_ratio), np.asarray((other >= 1.0) & in_ratio)


def _largest_other(values: F32) -> F32:
    """Return for each PMU the largest known value of the others (n, n_pmu), 0 where there is none."""
    known: F32 = np.nan_to_num(values)
    if known.shape[1] < 2:
        return np.zeros_like(known)
    top = np.partition(known, -2, axis=1)[:, -2:]
    leads = np.arange(known.shape[1]) == known.argmax(axis=1)[:, None]
    found: F32 = np.where(leads, top[:, :1], top[:, 1:])
    return found


def _suspects(
    state: Guard, lonely: Bool, bad: Bool, believed: Bool, raised: Bool, instant: I64, hold: int
) -> tuple[Guard, Bool, Bool]:
    """Return the state after, who is suspected (n, n_pmu), and of whom `data_suspect` tells."""
    begins = raised & (instant[:, None] - _before(state.raised, raised, instant) >= hold)
    since = _last(state.since, begins, instant)
    last_alone, last_bad = _last(state.alone, lonely, instant), _last(state.bad, bad, instant)
    last_believed, last_raised = (
        _last(state.believed, believed, instant),
        _last(state.raised, raised, instant),
    )
    lasts = instant[:, None] - last_raised < hold
    by_itself = lasts & (last_alone >= since) & (last_alone > last_believed)
    just_bad = instant[:, None] - last_bad < hold
    still_bad = lasts & (last_bad >= since)
    after = replace(
        state,
        alone=last_alone[-1],
        bad=last_bad[-1],
        believed=last_believed[-1],
        raised=last_raised[-1],
        since=since[-1],
    )
    return after, by_itself | just_bad | still_bad, by_itself | (still_bad & ~just_bad)


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


def _recent(state: Guard, instant: I64, hold: int) -> bool:
    newest = max(int(values.max(initial=NEVER)) for values in (state.alone, state.bad, state.raised))
    return bool(instant[0] - newest < hold)


def _last(before: I64, now: Bool, instant: I64) -> I64:
    """Return per instant and PMU the last instant up to it at which `now` held: (n, n_pmu)."""
    own = np.maximum.accumulate(np.where(now, instant[:, None], NEVER), axis=0)
    return np.maximum(own, before)


def _before(before: I64, now: Bool, instant: I64) -> I64:
    """Return the same for the instants before each."""
    return np.concatenate([before[None], _last(before, now, instant)[:-1]])

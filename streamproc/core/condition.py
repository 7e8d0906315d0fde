"""From scores to edges: limit, deadband, on-delay and off-delay of every rule at every source, at frame resolution.

    score   0.5 1.2 0.5 1.2 1.2 0.95 0.95 0.85 0.85         on-delay 2 frames, deadband 0.1, off-delay 2 frames
    state    .   p   .   p   ^   #    #    #    v           p pending, ^ raise, # active, v clear

A score of 1.0 is at the limit. A condition becomes pending with the first frame at or over it (that frame is the onset),
active when it has been so for the on-delay, and inactive again when the score is known to be below `1 - deadband_ratio`
for the off-delay. All in event time, per direction (ISA-18.2, delays and deadband).

NaN is "cannot tell": it never starts, breaks, raises or clears anything; the delays go on running and are judged at the
next known frame. After more than `hold` without a known frame nobody can say that the condition lasted: a delay that
was running begins anew with the next known frame. A known score under the limit ends a pending condition.

Everything is arrays over (rule, source). While nothing is at a limit and nothing is active, a whole batch costs one
comparison; otherwise only the sources that are concerned are looked at tick by tick, so that one PMU that is out for a
week does not make the other thousand dear. The state is a value: `advance` never changes the arrays it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamproc.core.detector import Rule
from streamproc.values import F32, F64, I64, U8, Bool

RAISE, UPDATE, CLEAR = 0, 1, 2
UPDATE_GROWTH = 1.25  # say again when the peak has grown by a quarter
UPDATE_INTERVAL_NS = 1_000_000_000  # and at most once a second
NO_LIMIT_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class RuleArrays:
    """The settings of the rules as columns, ready to broadcast over sources."""

    on_delay_ns: I64  # (n_rule, 1) or (n_rule, n_source), as the two below
    off_delay_ns: I64
    clear_below: F64  # 1 - deadband_ratio
    hold_ns: int = NO_LIMIT_NS  # a delay outlives this long without a known frame

    @classmethod
    def of(cls, rules: Sequence[Rule], hold_ns: int = NO_LIMIT_NS) -> RuleArrays:
        """Return the columns of these rules."""
        ms = 1_000_000
        return cls(
            np.array([[r.on_delay_ms * ms] for r in rules], dtype=np.int64).reshape(-1, 1),
            np.array([[r.off_delay_ms * ms] for r in rules], dtype=np.int64).reshape(-1, 1),
            np.array([[1.0 - r.deadband_ratio] for r in rules], dtype=np.float64).reshape(-1, 1),
            hold_ns,
        )

    def part(self, sources: I64) -> RuleArrays:
        """Return the columns of these sources."""
        if self.on_delay_ns.shape[1] == 1:
            return self
        return RuleArrays(
            self.on_delay_ns[:, sources],
            self.off_delay_ns[:, sources],
            self.clear_below[:, sources],
            self.hold_ns,
        )


@dataclass(frozen=True, slots=True)
class ConditionState:
    """Memory of every (rule, source). Times are ns UTC, 0 = not running."""

    onset_ns: I64  # first frame at the limit, of a pending or active condition
    active: Bool
    below_ns: I64  # since when an active one is known to be below
    peak: F64  # largest score since the onset
    said_peak: F64  # as of the last raise or update
    said_ns: I64
    known_ns: I64  # last known frame of a pending or active condition

    @classmethod
    def fresh(cls, n_rule: int, n_source: int) -> ConditionState:
        """Return the state in which nothing has happened."""
        shape = (n_rule, n_source)
        ints = np.zeros(shape, dtype=np.int64)
        return cls(ints, np.zeros(shape, dtype=np.bool_), ints, np.zeros(shape), np.zeros(shape), ints, ints)

    @property
    def busy(self) -> bool:
        """Return whether any condition is pending or active."""
        return bool(self.onset_ns.any())

    def take(self, rules: I64, sources: I64) -> ConditionState:
        """Return the state for another set of rules and sources; an index of -1 is a new one."""
        old = (rules >= 0)[:, None] & (sources >= 0)[None, :]
        kept: dict[str, Any] = {}
        for name in FIELDS:
            values = getattr(self, name)
            kept[name] = np.zeros((rules.size, sources.size), dtype=values.dtype)
            if values.size:
                kept[name][old] = values[np.ix_(rules[rules >= 0], sources[sources >= 0])].ravel()
        return ConditionState(**kept)

    def part(self, sources: I64) -> ConditionState:
        """Return the columns of these sources."""
        return ConditionState(**{name: getattr(self, name)[:, sources] for name in FIELDS})

    def with_part(self, sources: I64, part: ConditionState) -> ConditionState:
        """Return the state with these columns replaced."""
        whole: dict[str, Any] = {}
        for name in FIELDS:
            whole[name] = getattr(self, name).copy()
            whole[name][:, sources] = getattr(part, name)
        return ConditionState(**whole)


FIELDS = ("onset_ns", "active", "below_ns", "peak", "said_peak", "said_ns", "known_ns")


@dataclass(frozen=True, slots=True)
class Edges:
    """What changed, in order of time, then rule, then kind, then source. All arrays are (n_edge,)."""

    tick: I64
    rule: I64
    kind: U8  # RAISE, UPDATE, CLEAR
    source: I64
    onset_ns: I64
    score: F64  # raise, update: the peak so far; clear: the score that ended it


def advance(
    state: ConditionState, rules: RuleArrays, t_ns: I64, scores: F32 | F64
) -> tuple[ConditionState, Edges]:
    """Return the state after these instants and the edges in them.

    `t_ns` is (n_tick,), increasing; `scores` is (n_tick, n_rule, n_source) in per unit of the limit, NaN = unknown.
    """
    over = scores >= 1.0  # (n_tick, n_rule, n_source)
    if not (state.busy or over.any()):
        return state, no_edges()
    sources: I64 = np.flatnonzero(state.onset_ns.any(axis=0) | over.any(axis=0).any(axis=0))
    part, edges = _each_tick(state.part(sources), rules.part(sources), t_ns, scores[:, :, sources])
    return state.with_part(sources, part), replace(edges, source=sources[edges.source])


def _each_tick(
    state: ConditionState, rules: RuleArrays, t_ns: I64, scores: F32 | F64
) -> tuple[ConditionState, Edges]:
    hot: Bool = np.asarray((scores >= 1.0).any(axis=(1, 2)))
    found: list[Edges] = []
    tick = 0
    while tick < t_ns.size:
        if not state.busy:
            ahead = np.flatnonzero(hot[tick:])
            if ahead.size == 0:
                break
            tick += int(ahead[0])
        state, edges = _one_tick(
            state, rules, tick, int(t_ns[tick]), np.asarray(scores[tick], dtype=np.float64)
        )
        found.extend(edges)
        tick += 1
    return state, _joined(found)


def _one_tick(
    state: ConditionState, rules: RuleArrays, tick: int, t_ns: int, score: F64
) -> tuple[ConditionState, list[Edges]]:
    known = np.isfinite(score)
    over = score >= 1.0
    below = score < rules.clear_below
    active, onset_ns = state.active, state.onset_ns
    lost = known & (onset_ns != 0) & (t_ns - state.known_ns > rules.hold_ns)

    starts = over & ~active & ((onset_ns == 0) | lost)
    breaks = known & ~over & ~active & (onset_ns != 0)
    onset_ns = np.where(starts, t_ns, np.where(breaks, 0, onset_ns))
    grown = np.where(known & (onset_ns != 0), np.fmax(state.peak, score), state.peak)
    peak: F64 = np.where(starts, score, grown)

    raises = over & ~active & (onset_ns != 0) & (t_ns - onset_ns >= rules.on_delay_ns)
    begins = (state.below_ns == 0) | lost
    below_ns = np.where(active & below, np.where(begins, t_ns, state.below_ns), state.below_ns)
    below_ns = np.where(known & ~below, 0, below_ns)
    clears = active & below & (t_ns - below_ns >= rules.off_delay_ns)
    updates = active & known & ~clears & (peak >= UPDATE_GROWTH * state.said_peak)
    updates &= t_ns - state.said_ns >= UPDATE_INTERVAL_NS

    edges = _edges(tick, raises, updates, clears, onset_ns, peak, score)
    says = raises | updates
    onset_after_ns = np.where(clears, 0, onset_ns)
    after = ConditionState(
        onset_ns=onset_after_ns,
        active=(active | raises) & ~clears,
        below_ns=np.where(clears | raises, 0, below_ns),
        peak=np.where(clears | breaks, 0.0, peak),
        said_peak=np.where(says, peak, state.said_peak),
        said_ns=np.where(says, t_ns, state.said_ns),
        known_ns=np.where(onset_after_ns == 0, 0, np.where(known, t_ns, state.known_ns)),
    )
    return after, edges


def _edges(
    tick: int, raises: Bool, updates: Bool, clears: Bool, onset_ns: I64, peak: F64, score: F64
) -> list[Edges]:
    kind = np.stack(
        [raises, updates, clears], axis=1
    )  # (n_rule, 3, n_source): the order in which edges are told
    rule, code, source = np.nonzero(kind)  # sorted by rule, then kind, then source
    if rule.size == 0:
        return []
    said = np.where(code == CLEAR, score[rule, source], peak[rule, source])
    ticks = np.full(rule.size, tick, dtype=np.int64)
    return [Edges(ticks, rule, code.astype(np.uint8), source, onset_ns[rule, source], said)]


def no_edges() -> Edges:
    """Return nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Edges(none, none, none.astype(np.uint8), none, none, none.astype(np.float64))


def _joined(found: list[Edges]) -> Edges:
    if not found:
        return no_edges()
    names = ("tick", "rule", "kind", "source", "onset_ns", "score")
    return Edges(*(np.concatenate([getattr(e, name) for e in found]) for name in names))


def pack_conditions(state: ConditionState) -> dict[str, bytes]:
    """Return the arrays as bytes, for a state blob; the shape is the caller's to know."""
    return {name: np.ascontiguousarray(getattr(state, name)).tobytes() for name in FIELDS}


def unpack_conditions(blob: dict[str, bytes], n_rule: int, n_source: int) -> ConditionState:
    """Return the state of `pack_conditions`; raises ValueError if the bytes do not fit the shape."""
    fresh = ConditionState.fresh(n_rule, n_source)
    arrays = {
        name: np.frombuffer(blob[name], dtype=getattr(fresh, name).dtype).reshape(n_rule, n_source)
        for name in FIELDS
    }
    return replace(fresh, **arrays)

"""Are the modes of a grid at rest damped well enough? Asked twice a minute, of the last three minutes of frequency.

    frames ── mean of 0.1 s ── window of 180 s ── modes (`mode_ambient`) ── seen before? ── class (`mode_damping`)

A mode counts if it moves the area by at least `rms_min_hz`: real grids always have weak modes that hardly any damping is
seen of, and nobody acts on half a millihertz. Of such a mode the upper end of the 90 % interval must lie below a limit at
three looks in a row (a minute), and it must not be a forced oscillation, which has a source and no damping (`mode_forced`).

The score is in the cycles that a swing takes to fade to a third, 1 / (2 pi damping), because they grow with the trouble:
5.3 at 3 % damping, 3.2 at 5 %. It belongs to the PMUs that swing at least half as much as the first; one PMU alone, where
there are more, is not a mode of the grid. Between two looks it stays. With less than three looks since the window began, or
less than 40 s of unbroken data, it is NaN: nothing is raised and nothing clears.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamproc.core.detector import Rule
from streamproc.core.disturbance import Estimate, Mode
from streamproc.core.mode_ambient import ambient
from streamproc.core.mode_damping import ESTIMATES_MIN, damping_class, followed
from streamproc.core.mode_forced import forced
from streamproc.core.mode_source import sources_by_shape
from streamproc.core.modes import LOW_HZ, Modes, bridged, usable
from streamproc.core.thinning import Thin, block_rate_hz, thinned
from streamproc.core.window import Window
from streamproc.values import F32, F64, I64, Bool

WINDOW_S, EVERY_S = 180, 30
RATE_MIN_HZ = 10.0
GAP_ROWS_MAX = 5  # 0.5 s
SPAN_MIN_S = 40.0
LOOKS = 6  # that are remembered
ENERGY_MIN = 0.1
SHAPE_MIN = 0.5  # of the largest swing
MODES_MAX, SOURCES_MAX = 4, 3
OUTSIDE = "outside"
LOW, REDUCED = 0, 1  # rows of the score


@dataclass(frozen=True, slots=True)
class DampingLimits:
    """What is too little."""

    low_ratio: float = 0.03
    reduced_ratio: float = 0.05
    rms_min_hz: float = 0.001


@dataclass(frozen=True, slots=True)
class DampingWatch:
    """What is remembered of one area. `seen` is (n_mode, LOOKS, 4): time s, damping and its interval; NaN: not seen."""

    rows: Window  # (n_row, 1, n_pmu) Hz off nominal; refilled, not packed
    thin: Thin
    score: F64  # (2, n_pmu)
    looks: int
    modes: Modes  # the known ones, as last seen
    seen: F64

    @classmethod
    def fresh(cls, n_pmu: int, rate_hz: float) -> DampingWatch:
        """Return the state before any frame."""
        rows = round(WINDOW_S * block_rate_hz(rate_hz)) if rate_hz >= RATE_MIN_HZ else 1
        score, seen = np.full((2, n_pmu), np.nan), np.zeros((0, LOOKS, 4))
        return cls(Window.empty(rows, 1, n_pmu), Thin.fresh(n_pmu), score, 0, Modes.none(n_pmu), seen)

    def take(self, index: I64) -> DampingWatch:
        """Return the state for other PMUs: `index` is the old place of each, -1 for new ones."""
        place = np.maximum(index, 0)
        known = index >= 0
        modes = replace(self.modes, shape=np.where(known, self.modes.shape[:, place], np.nan))
        score = np.where(known, self.score[:, place], np.nan)
        return replace(
            self,
            rows=self.rows.take(index, self.rows.rows),
            thin=self.thin.take(index),
            score=score,
            modes=modes,
        )

    def told(self, labels: tuple[str, ...], limits: DampingLimits) -> tuple[Mode, ...]:
        """Return the modes that are damped too little now, as an alert tells them."""
        chosen = [row for row, name in enumerate(_classes(self.seen, limits)) if name != "ok"]
        return tuple(_told(self.modes, row, labels) for row in chosen[:MODES_MAX])


def packed(state: DampingWatch) -> dict[str, Any]:
    """Return everything but the window, as plain values and real arrays."""
    modes = {name: getattr(state.modes, name) for name in ("freq_hz", "damping_ratio", "energy")}
    shape = np.stack([state.modes.shape.real, state.modes.shape.imag])
    own = {name: getattr(state, name) for name in ("thin", "score", "looks", "seen")}
    return {**own, "modes": {**modes, "shape": shape}}


def unpacked(tree: dict[str, Any], n_pmu: int, rate_hz: float) -> DampingWatch:
    """Return the state of `packed`, its window empty."""
    real, imag = tree["modes"]["shape"]
    modes = Modes(**{**tree["modes"], "shape": real + 1j * imag})
    own = {name: tree[name] for name in ("score", "looks", "seen")}
    return replace(DampingWatch.fresh(n_pmu, rate_hz), thin=Thin(**tree["thin"]), modes=modes, **own)


def watched(
    state: DampingWatch,
    instant: I64,
    t_ns: I64,
    last_second: int,
    freq_hz: F32,
    rate_hz: float,
    limits: DampingLimits,
) -> tuple[DampingWatch, F64]:
    """Return the state after these instants and the scores (n, 2, n_pmu); `last_second` is that of the instant before."""
    if rate_hz < RATE_MIN_HZ:
        return state, np.full((instant.size, 2, freq_hz.shape[1]), np.nan)
    thin, rows, at = thinned(state.thin, instant, freq_hz, rate_hz)
    state = replace(state, thin=thin, rows=state.rows.append(rows))
    second: I64 = t_ns // 1_000_000_000
    new = np.diff(second, prepend=last_second) != 0
    scores = np.repeat(state.score[None], instant.size, axis=0)
    for tick in np.flatnonzero(new & (second % EVERY_S == 0)).tolist():
        ended = state.rows.end - at.size + int(np.searchsorted(at, tick, side="right"))
        state = _looked(
            state, state.rows.ending(ended)[:, 0].astype(np.float64), int(second[tick]), rate_hz, limits
        )
        scores[tick:] = state.score
    return state, scores


def refilled(rows: Window, thin: Thin, instant: I64, freq_hz: F32, rate_hz: float) -> tuple[Window, Thin]:
    """Return the window with rows of frames that were answered before, and the block under way."""
    if rate_hz < RATE_MIN_HZ:
        return rows, thin
    thin, made, _ = thinned(thin, instant, freq_hz, rate_hz)
    return rows.append(made), thin


def _looked(
    state: DampingWatch, rows: F64, second: int, rate_hz: float, limits: DampingLimits
) -> DampingWatch:
    """Return the state after one look at a window (n_row, n_pmu)."""
    rate = block_rate_hz(rate_hz)
    known = np.flatnonzero(np.isfinite(rows).any(axis=1))
    rows = bridged(rows[known[0] :] if known.size else rows[:0], GAP_ROWS_MAX)
    if rows.shape[0] < SPAN_MIN_S * rate or not usable(rows).any():
        return replace(
            state,
            score=np.full_like(state.score, np.nan),
            looks=0,
            seen=state.seen[:0],
            modes=_some(state.modes, []),
        )
    found = ambient(rows, rate)
    strong = _rms_hz(rows, rate) * np.sqrt(found.energy) >= limits.rms_min_hz
    found = _some(found, np.flatnonzero(strong & (found.energy >= ENERGY_MIN)).tolist())
    modes, seen = _followed(state, found, second)
    high = seen[:, -1, 3]
    for row in np.flatnonzero(high < limits.reduced_ratio).tolist():
        if forced(rows, rate, float(modes.freq_hz[row, 0]))[0]:
            seen[row, -1, 1:] = np.nan
    after = replace(state, looks=state.looks + 1, modes=modes, seen=seen)
    return replace(after, score=_score(after, usable(rows), limits))


def _followed(state: DampingWatch, found: Modes, second: int) -> tuple[Modes, F64]:
    """Return the known modes with what is new of them, and the new ones; those not seen for long are forgotten."""
    same = followed(state.modes, found)
    now = np.full((same.size, 1, 4), np.nan)
    now[:, 0, 0] = second
    now[same >= 0, 0, 1:] = found.damping_ratio[same[same >= 0]]
    seen = np.concatenate([state.seen[:, 1:], now], axis=1)
    fresh = np.setdiff1d(np.arange(found.energy.size), same)
    first = np.full((fresh.size, LOOKS, 4), np.nan)
    first[:, :, 0] = second - EVERY_S * np.arange(LOOKS - 1, -1, -1)
    first[:, -1, 1:] = found.damping_ratio[fresh]
    old = _some(state.modes, range(same.size))
    place = np.flatnonzero(same >= 0)
    moved = Modes(*(getattr(old, name).copy() for name in Modes.__slots__))
    for name in Modes.__slots__:
        getattr(moved, name)[place] = getattr(found, name)[same[place]]
    every = Modes(
        *(np.concatenate([getattr(moved, name), getattr(found, name)[fresh]]) for name in Modes.__slots__)
    )
    seen = np.concatenate([seen, first])
    kept = np.flatnonzero(np.isfinite(seen[:, :, 1]).any(axis=1))
    kept = kept[np.argsort(-every.energy[kept], kind="stable")]
    return _some(every, kept.tolist()), seen[kept]


def _score(state: DampingWatch, used: Bool, limits: DampingLimits) -> F64:
    score = np.full(state.score.shape, np.nan)
    if state.looks < ESTIMATES_MIN:
        return score
    score[:, used] = 0.0
    for row, name in enumerate(_classes(state.seen, limits)):
        size = np.abs(np.nan_to_num(state.modes.shape[row]))
        members = used & (size >= SHAPE_MIN * size.max(initial=0.0))
        if name == "ok" or (members.sum() == 1 and used.sum() > 1):
            continue
        damping = state.seen[row, np.flatnonzero(np.isfinite(state.seen[row, :, 1]))[-1], 1]
        for line, limit in ((LOW, limits.low_ratio), (REDUCED, limits.reduced_ratio)):
            if line == LOW and name != "raise":
                continue
            over = max(1.0, limit / max(float(damping), 1e-3))
            score[line, members] = np.maximum(score[line, members], over)
    return score


def _classes(seen: F64, limits: DampingLimits) -> list[str]:
    return [
        damping_class(
            estimates[:, 0],
            estimates[:, 1:],
            raise_below=limits.low_ratio,
            warn_below=limits.reduced_ratio,
            persist_s=(ESTIMATES_MIN - 1) * EVERY_S,
            gap_max_s=1.5 * EVERY_S,
        )
        for estimates in seen
    ]


def _some(modes: Modes, rows: list[int] | range) -> Modes:
    index = np.array(list(rows), dtype=np.int64)
    return Modes(*(getattr(modes, name)[index] for name in Modes.__slots__))


def _rms_hz(rows: F64, rate_hz: float) -> float:
    """Return how much the PMUs move between 0.1 and 5 Hz, Hz."""
    lines = np.fft.rfft(rows[:, usable(rows)], axis=0)
    freq_hz = np.fft.rfftfreq(rows.shape[0], 1.0 / rate_hz)
    band = lines[freq_hz >= LOW_HZ]
    return float(np.sqrt(2.0 * (np.abs(band) ** 2).sum(axis=0).mean()) / rows.shape[0])


def _told(modes: Modes, row: int, labels: tuple[str, ...]) -> Mode:
    ranked = sources_by_shape(modes.shape[row])
    names = tuple(labels[pmu] for pmu in ranked.order[:SOURCES_MAX].tolist())
    return Mode(
        freq_hz=_estimate(modes.freq_hz[row]),
        damping_ratio=_estimate(modes.damping_ratio[row]),
        energy=round(float(np.clip(modes.energy[row], 0.0, 1.0)), 4),
        forced=False,
        sources=(OUTSIDE, *names) if ranked.outside else names,
    )


def _estimate(value: F64) -> Estimate:
    middle, low, high = (round(float(part), 4) for part in value)
    return Estimate(value=middle, low=low, high=high)


def damping_rules(limits: DampingLimits) -> tuple[Rule, ...]:
    """Return the two rules, in the order of the scores."""

    def rule(name: str, priority: int, ratio: float) -> Rule:
        return Rule(
            name=name,
            version=1,
            family="grid",
            kind="oscillation",
            priority=priority,
            limit=round(1.0 / (2.0 * np.pi * ratio), 4),
            unit="cycles",
            window_s=float(WINDOW_S),
            on_delay_ms=0,
            off_delay_ms=0,
            deadband_ratio=0.0,
            text=(
                f"A swing of {{source}} is damped by less than {ratio:.1%}: it takes {{value}} {{unit}} to fade to a third, "
                "limit {limit}"
            ),
        )

    return (rule("damping_low", 2, limits.low_ratio), rule("damping_reduced", 4, limits.reduced_ratio))

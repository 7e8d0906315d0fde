"""The middle of a description: when an area's disturbance is looked at, and what is shown to the one who describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamproc.core.condition import RAISE, Edges
from streamproc.core.detector import Rule
from streamproc.core.disturbance import Disturbance, Mode
from streamproc.core.event_watch import AGES_S, NONE, EventWatch
from streamproc.core.grid import to_grid
from streamproc.values import F32, I64


@dataclass(frozen=True, slots=True)
class EventView:
    """What is shown of a disturbance at one instant."""

    fast: F32  # (n_row, 3, n_pmu) as a model sees it, ending with the instant; NaN: unknown
    age: int  # rows since the onset: row `n_row - 1 - age` is the first that shows it
    onset: int  # instant of the grid
    rate_hz: float
    nominal_hz: float
    labels: tuple[str, ...]  # (n_pmu,)
    slow: bool  # begun by a rule that looks over seconds: an oscillation
    modes: tuple[Mode, ...] = ()  # known to be damped too little, before any disturbance


class Describer(Protocol):
    """Who says what a disturbance is (`streamproc.shell.event_model`)."""

    def of_area(self, beta_mw_per_hz: float | None) -> Describer:
        """Return the describer of an area; `beta_mw_per_hz`: MW that move its settled frequency by 1 Hz, if known."""

    def describe(self, view: EventView) -> Disturbance | None:
        """Return what is known by now; None if nothing can be said."""


def raises_of(edges: Edges, rules: tuple[Rule, ...], rate_hz: float) -> Mapping[int, tuple[int, bool]]:
    """Return tick -> (onset, slow) where a rule of the grid raises that can begin a disturbance."""
    found: dict[int, tuple[int, bool]] = {}
    for place in np.flatnonzero(edges.kind == RAISE).tolist():
        rule, tick = rules[int(edges.rule[place])], int(edges.tick[place])
        slow = rule.kind == "oscillation"
        if rule.family != "grid" or not (rule.sudden or slow):
            continue
        onset = int(to_grid(edges.onset_ns[place : place + 1], rate_hz)[0])
        known = found.get(tick)
        if known is None or (slow, onset) < (known[1], known[0]):
            found[tick] = (onset, slow)
    return found


def follow(
    watch: EventWatch,
    raises: Mapping[int, tuple[int, bool]],
    instants: I64,
    rate_hz: float,
    view_of: Callable[[int, EventWatch], EventView],
    describer: Describer | None,
) -> tuple[EventWatch, tuple[tuple[int, Disturbance], ...]]:
    """Return the watch after these instants and the descriptions with their ticks."""
    over = watch.onset == NONE or instants[0] - watch.onset > AGES_S[-1] * rate_hz
    if describer is None or (over and not raises):
        return watch, ()
    told: list[tuple[int, Disturbance]] = []
    for tick, instant in enumerate(instants.tolist()):
        if tick in raises:
            onset, slow = raises[tick]
            watch = watch.raised(instant if slow else onset, rate_hz, slow=slow)
        if watch.due(instant, rate_hz):
            described = describer.describe(view_of(tick, watch))
            if described is not None:
                told.append((tick, described))
                watch = watch.looked(moving=_moving(described))
    return watch, tuple(told)


def _moving(described: Disturbance) -> bool:
    """Return whether the turning point of the frequency is still to come."""
    if described.nadir_after_s is None:
        return False
    return described.ts_us - described.onset_ts_us < described.nadir_after_s.value * 1e6

"""The first mix, kept so that what was made with it can be made again: few sizes, one level, repeats possible."""

from __future__ import annotations

from typing import Any

import numpy as np

KINDS = ("line", "gen", "load", "fault", "island")
SHARES = (0.25, 0.2, 0.23, 0.25, 0.07)
ONSET_S = 2.5  # of steady state before; then a random fraction of a second
CUT_MAX = 12  # lines that may trip at once
LOAD_STEPS = (-1.0, -0.5, 0.3, 0.5)
FAULT_S = (0.05, 0.067, 0.1)
FAULT_REACTANCE_PU = (1e-3, 0.02, 0.1)


class Plain:
    """Draws one event after the other for one case."""

    def __init__(self, system: Any, case: str) -> None:  # noqa: ANN401
        self.system, self.case = system, case

    def draw(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """Return an event, None if this network has no such."""
        return draw(self.system, self.case, rng)

    def taken(self, _: dict[str, Any]) -> bool:
        """Return False: any event may come again."""
        return False

    def take(self, event: dict[str, Any]) -> None:
        """Remember nothing."""


def draw(system: Any, case: str, rng: np.random.Generator) -> dict[str, Any] | None:  # noqa: ANN401
    """Return an event, None if this network has no such."""
    kind = str(rng.choice(KINDS, p=SHARES))
    event: dict[str, Any] = {"k": kind, "t": round(ONSET_S + float(rng.random()), 3)}
    if kind == "line":
        event["dev"] = _one(system.Line.idx.v, rng)
    elif kind == "gen":
        machines = [(m, i) for m in ("GENROU", "GENCLS") for i in getattr(system, m).idx.v]
        event["model"], event["dev"] = _one(machines, rng)
    elif kind == "load":
        loads = list(zip(system.PQ.idx.v, system.PQ.bus.v, strict=True))
        event["dev"], event["bus"] = _one(loads, rng)
        event["m"] = float(rng.choice(LOAD_STEPS))
    elif kind == "fault":
        event["bus"] = _one(system.Bus.idx.v, rng)
        event["d"], event["xf"] = float(rng.choice(FAULT_S)), float(rng.choice(FAULT_REACTANCE_PU))
    else:
        cut = _cut(system, case, rng)
        if not 0 < len(cut) <= CUT_MAX:
            return None
        event["devs"], event["dev"] = cut, cut[0]
    return event


def _one(of: Any, rng: np.random.Generator) -> Any:  # noqa: ANN401
    return list(of)[int(rng.integers(len(of)))]


def _cut(system: Any, case: str, rng: np.random.Generator) -> list[Any]:  # noqa: ANN401
    """Return the lines between one area and the others; of the two-area case its ties."""
    line = system.Line
    rows = list(zip(line.idx.v, line.bus1.v, line.bus2.v, strict=True))
    if case == "kundur":
        return [i for i, a, b in rows if {int(a), int(b)} == {7, 8}]
    area = dict(zip(system.Bus.idx.v, system.Bus.area.v, strict=True))
    chosen = _one(sorted(set(area.values()), key=str), rng)
    return [i for i, a, b in rows if (area[a] == chosen) != (area[b] == chosen)]

"""From the draw to the corpus: runs, what of them is kept, and the truth beside each event."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tools.corpus.checks import why_not
from tools.corpus.network import F64, Network, described, lost_pu, nearest
from tools.corpus.simulate import DroppedError, Run, simulated
from tools.corpus.store import changes, rounded, save, turning_point

TRIES = 2.2  # runs per event wanted: what does not converge is dropped and counted
DRAWS = 20  # per event wanted: what the network does not have, or had often enough, is drawn again


class Mix(Protocol):
    """What draws events."""

    def draw(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """Return an event, None if the one drawn does not exist."""

    def taken(self, event: dict[str, Any]) -> bool:
        """Return whether there are events enough of this kind at this device."""

    def take(self, event: dict[str, Any]) -> None:
        """Remember an event that is in the corpus."""


@dataclass(slots=True)
class Collected:
    """What there is so far."""

    traces: list[F64] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # why -> runs


def collect(run: Run, mix: Mix, mva: float, wanted: int, rng: np.random.Generator) -> Collected:
    """Return the traces and events of the runs that are good."""
    found = Collected()
    for _ in range(DRAWS * wanted):
        if len(found.events) >= wanted or len(found.events) + found.dropped.total() >= TRIES * wanted:
            break
        event = mix.draw(rng)
        if event is None or mix.taken(event):
            continue
        try:
            trace, network = simulated(run, event)
        except DroppedError as reason:
            found.dropped[str(reason)] += 1
            continue
        if why := why_not(trace, event, run.fps, run.nominal_hz):
            found.dropped[why] += 1
            continue
        mix.take(event)
        add_truth(event, network, mva, [str(bus) for bus in run.pmu_bus])
        event["dv"], event["df"] = changes(trace, event["t"], run.fps)
        event["nadir_hz"], event["nadir_s"] = turning_point(trace, event["t"], run.fps, run.nominal_hz)
        found.traces.append(trace)
        found.events.append(event)
        print(f"{len(found.events)} of {wanted}: {event}", flush=True)  # noqa: T201
    return found


def add_truth(event: dict[str, Any], network: Network, mva: float, pmu_bus: list[str]) -> None:
    """Put into the event what it is, how big and where."""
    place = {bus: row for row, bus in enumerate(network.buses)}
    event["phys"], event["finer"], where = described(network, event)
    lost = lost_pu(network, event)
    event["mw"] = None if lost is None else round(lost * mva, 3)
    pmus = [place[bus] for bus in pmu_bus]
    event["near"] = nearest(network.distance_pu(), [place[bus] for bus in where], pmus)
    event.pop("p", None)
    if event["phys"] == "islanding":
        out = [str(device) for device in event.get("devs", [event["dev"]])]
        area = network.parts_without(*out)[0]
        event["island"] = [number for number, bus in enumerate(pmu_bus) if bus in area]
        event["area_buses"] = len(area)
        event["area_lacks_mw"] = round((network.load_of(area) - network.supply_of(area)) * mva, 3)


def write(path: Path, run: Run, found: Collected, network: Network, seed: int, mva: float) -> None:
    """Write the corpus."""
    place = {bus: row for row, bus in enumerate(network.buses)}
    pmus = [place[str(bus)] for bus in run.pmu_bus]
    meta = {
        "case": run.case,
        "pmu_bus": [str(bus) for bus in run.pmu_bus],
        "fps": run.fps,
        "nominal_hz": run.nominal_hz,
        "seed": seed,
        "tool": "ANDES 2.0.0",
        "mva": mva,
        "dropped": found.dropped.total(),
        "dropped_why": dict(sorted(found.dropped.items())),
        "zth": rounded(network.distance_pu()[np.ix_(pmus, pmus)], 1e-6).tolist(),
        "events": found.events,
    }
    save(path, np.array(found.traces), json.dumps(meta, default=str))

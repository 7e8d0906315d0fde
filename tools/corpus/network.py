"""What can be said of a network without simulating it: what a trip cuts off, and who is electrically near to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]

MACHINE_REACTANCE_PU = 0.3  # transient reactance that stands for every machine in the impedance matrix
SMALL_REACTANCE_PU = 1e-4  # of a branch that is given as 0
ISLAND_BUSES_MIN = 4  # a smaller part with machine and load is a plant with its own needs, not an island


@dataclass(frozen=True, slots=True)
class Network:
    """A network as graph: buses, branches (from, to, impedance in pu), where machines stand, load per bus in pu."""

    buses: tuple[str, ...]
    branches: Mapping[str, tuple[str, str, complex]]
    machines: Mapping[str, str]  # machine -> bus
    load_pu: Mapping[str, float]  # bus -> active power

    def distance_pu(self) -> F64:
        """Return the electrical distances |Zii + Zjj - 2 Zij| between all buses (n_bus, n_bus)."""
        place = {bus: row for row, bus in enumerate(self.buses)}
        admittance = np.zeros((len(self.buses), len(self.buses)), dtype=np.complex128)
        for start, stop, impedance in self.branches.values():
            i, j = place[start], place[stop]
            y = 1.0 / complex(impedance.real, impedance.imag or SMALL_REACTANCE_PU)
            admittance[i, i] += y
            admittance[j, j] += y
            admittance[i, j] -= y
            admittance[j, i] -= y
        for bus in set(self.machines.values()):
            admittance[place[bus], place[bus]] += 1.0 / complex(0.0, MACHINE_REACTANCE_PU)
        z = np.linalg.pinv(admittance)
        own = np.diag(z)
        return np.abs(own[:, None] + own[None, :] - 2.0 * z)

    def parts_without(self, branch: str) -> tuple[set[str], ...]:
        """Return the connected parts of the network when a branch is out, the smallest first."""
        joined = {bus: {bus} for bus in self.buses}
        for name, (start, stop, _) in self.branches.items():
            if name != branch and joined[start] is not joined[stop]:
                both = joined[start] | joined[stop]
                for bus in both:
                    joined[bus] = both
        return tuple(sorted({id(part): part for part in joined.values()}.values(), key=len))

    def trip(self, branch: str) -> tuple[str, str]:
        """Return what the trip of a branch is, physically, and the finer word for it."""
        parts = self.parts_without(branch)
        if len(parts) == 1:
            return "topology", "line"
        small = parts[0]
        has_machine = any(bus in small for bus in self.machines.values())
        load_pu = sum(self.load_pu.get(bus, 0.0) for bus in small)
        if has_machine and load_pu > 0.0 and len(small) >= ISLAND_BUSES_MIN:
            return "islanding", ""
        if has_machine:
            return "supply_lost", "line"
        return ("load_lost", "line") if load_pu > 0.0 else ("topology", "line")


def nearest(distance_pu: F64, places: Sequence[int], pmus: Sequence[int]) -> list[int]:
    """Return the PMUs (their numbers), nearest to any of these places first."""
    to_pmu = distance_pu[np.ix_(places, pmus)].min(axis=0)
    return [int(pmu) for pmu in np.argsort(to_pmu, kind="stable")]


def described(network: Network, event: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Return (physical kind, finer word, buses where it happens) of an event."""
    kind = event["k"]
    if kind == "fault":
        return "fault", "", [str(event["bus"])]
    if kind == "gen":
        return "supply_lost", "generator", [network.machines[str(event["dev"])]]
    if kind == "load":
        bus = str(event["bus"])
        rises = event["m"] * network.load_pu.get(bus, 0.0) > 0.0
        return ("supply_lost", "load_rise", [bus]) if rises else ("load_lost", "load", [bus])
    start, stop, _ = network.branches[str(event["dev"])]
    what, finer = ("islanding", "") if kind == "island" else network.trip(str(event["dev"]))
    return what, finer, [start, stop]

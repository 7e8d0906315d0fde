"""What can be said of a network without simulating it: what a trip cuts off, and who is electrically near to whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F64: TypeAlias = NDArray[np.float64]

MACHINE_REACTANCE_PU = 0.3  # transient reactance that stands for every machine in the impedance matrix
SMALL_REACTANCE_PU = 1e-4  # of a branch that is given as 0
ISLAND_BUSES_MIN = 4  # a smaller part with machine and load is a plant with its own needs, not an island


@dataclass(frozen=True, slots=True)
class Network:
    """A network as graph: buses, branches (from, to, impedance in pu), where machines stand, load and supply in pu."""

    buses: tuple[str, ...]
    branches: Mapping[str, tuple[str, str, complex]]
    machines: Mapping[str, str]  # machine -> bus
    load_pu: Mapping[str, float]  # bus -> active power
    supply_pu: Mapping[str, float] = field(default_factory=dict)  # machine -> active power, where it is known

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
        distance: F64 = np.abs(own[:, None] + own[None, :] - 2.0 * z)
        return distance

    def parts_without(self, *out: str) -> tuple[set[str], ...]:
        """Return the connected parts of the network when branches are out, the smallest first."""
        joined = {bus: {bus} for bus in self.buses}
        for name, (start, stop, _) in self.branches.items():
            if name not in out and joined[start] is not joined[stop]:
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
        load_pu = self.load_of(small)
        if not self.has_machine(small):
            return ("load_lost", "line") if load_pu > 0.0 else ("topology", "line")
        if load_pu > 0.0 and len(small) >= ISLAND_BUSES_MIN:
            return "islanding", ""
        lost = self.supply_pu and self.supply_of(small) < load_pu
        return ("load_lost", "line") if lost else ("supply_lost", "line")

    def has_machine(self, buses: Collection[str]) -> bool:
        """Return whether a machine stands at any of these buses."""
        return any(bus in buses for bus in self.machines.values())

    def load_of(self, buses: Collection[str]) -> float:
        """Return the active power (pu) that these buses consume."""
        return sum(self.load_pu.get(bus, 0.0) for bus in buses)

    def supply_of(self, buses: Collection[str]) -> float:
        """Return the active power (pu) of the machines at these buses."""
        return sum(power for name, power in self.supply_pu.items() if self.machines[name] in buses)

    def dark_without(self, *out: str) -> set[str]:
        """Return the buses whose values mean nothing when branches are out: alone, or in a part without a machine.

        A simulation keeps the last voltage and angle of such a bus; a PMU there would see a quiet grid.
        """
        parts = self.parts_without(*out)
        dead = [part for part in parts if len(part) == 1 or not self.has_machine(part)]
        return set().union(*dead) if len(parts) > 1 else set()


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
    if kind == "osc":
        return "oscillation", f"forced_{event['drive']}", [str(event["bus"])]
    if kind == "load":
        bus = str(event["bus"])
        rises = event["m"] * event.get("p", network.load_pu.get(bus, 0.0)) > 0.0
        return ("supply_lost", "load_rise", [bus]) if rises else ("load_lost", "load", [bus])
    start, stop, _ = network.branches[str(event["dev"])]
    what, finer = ("islanding", "") if kind == "island" else network.trip(str(event["dev"]))
    return what, finer, [start, stop]


def lost_pu(network: Network, event: Mapping[str, Any]) -> float | None:
    """Return the active power (pu) that the rest of the network lacks after an event; None where that means nothing."""
    kind = event["k"]
    if kind == "gen":
        return network.supply_pu.get(str(event["dev"]))
    if kind == "load":
        return float(event["m"] * event["p"])
    if kind != "line":
        return None
    parts = network.parts_without(str(event["dev"]))
    if len(parts) == 1 or network.trip(str(event["dev"]))[0] not in {"supply_lost", "load_lost"}:
        return None
    return network.supply_of(parts[0]) - network.load_of(parts[0])

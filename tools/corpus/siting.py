"""Where the PMUs stand: drawn with a seed, spread over the network, at plants and at loads."""

from __future__ import annotations

import numpy as np

from tools.corpus.network import Network

CANDIDATES = 4  # per place; the one farthest from all PMUs so far is taken
SHARE_MIN = 0.2  # of the PMUs at a machine, and of the PMUs at a load
TRIES = 200


def spread(network: Network, count: int, rng: np.random.Generator) -> list[int]:
    """Return the places (in `network.buses`) of so many PMUs, in the order of the network."""
    distance_pu = network.distance_pu()
    machine = {place for place, bus in enumerate(network.buses) if bus in set(network.machines.values())}
    load = {place for place, bus in enumerate(network.buses) if network.load_pu.get(bus, 0.0) > 0.0}
    wanted = SHARE_MIN * count
    chosen: list[int] = []
    for _ in range(TRIES):
        chosen = [int(rng.integers(len(network.buses)))]
        while len(chosen) < count:
            free = np.setdiff1d(np.arange(len(network.buses)), chosen)
            tried = rng.choice(free, min(CANDIDATES, len(free)), replace=False)
            chosen.append(int(tried[distance_pu[np.ix_(tried, np.array(chosen))].min(axis=1).argmax()]))
        if len(machine.intersection(chosen)) >= wanted and len(load.intersection(chosen)) >= wanted:
            break
    return sorted(chosen)

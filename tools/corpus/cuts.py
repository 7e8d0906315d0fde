"""Where a network may fall apart: sets of branches whose trip leaves two parts that can both live."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tools.corpus.network import Network

GROWTHS = 60  # areas grown from a random bus; the good ones among them are drawn from
AREA_BUSES_MIN = 4
IMBALANCE_MAX = 0.4  # of the area's load: what lacks or exceeds more than that collapses


def draw_cut(network: Network, rng: np.random.Generator, lines_max: int) -> tuple[str, ...]:
    """Return the branches between an area and the rest, empty if none was found."""
    found: dict[tuple[str, ...], int] = {}
    neighbours = _neighbours(network)
    for _ in range(GROWTHS):
        size = int(rng.integers(AREA_BUSES_MIN, max(AREA_BUSES_MIN + 1, len(network.buses) // 2 + 1)))
        area = _grown(network, neighbours, size, rng)
        cut = tuple(name for name, (a, b, _) in network.branches.items() if (a in area) != (b in area))
        if 0 < len(cut) <= lines_max and _both_live(network, cut):
            found[cut] = len(area)
    cuts = sorted(found)
    return cuts[int(rng.integers(len(cuts)))] if cuts else ()


def _neighbours(network: Network) -> Mapping[str, set[str]]:
    near: dict[str, set[str]] = {bus: set() for bus in network.buses}
    for start, stop, _ in network.branches.values():
        near[start].add(stop)
        near[stop].add(start)
    return near


def _grown(
    network: Network, neighbours: Mapping[str, set[str]], size: int, rng: np.random.Generator
) -> set[str]:
    """Return an area of about `size` buses: always the bus with the fewest ways out comes next."""
    area = {network.buses[int(rng.integers(len(network.buses)))]}
    while len(area) < size:
        border = sorted(set().union(*(neighbours[bus] for bus in area)) - area)
        if not border:
            break
        ways_out = [len(neighbours[bus] - area) - len(neighbours[bus] & area) for bus in border]
        best = [bus for bus, n in zip(border, ways_out, strict=True) if n == min(ways_out)]
        area.add(best[int(rng.integers(len(best)))])
    return area


def _both_live(network: Network, cut: tuple[str, ...]) -> bool:
    parts = network.parts_without(*cut)
    if len(parts) != 2 or len(parts[0]) < AREA_BUSES_MIN:
        return False
    for part in parts:
        load, supply = network.load_of(part), network.supply_of(part)
        if not network.has_machine(part) or load <= 0.0 or abs(supply - load) > IMBALANCE_MAX * load:
            return False
    return True

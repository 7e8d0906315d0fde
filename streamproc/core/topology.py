"""The network as operators know it, as far as the site tells it: which bus a PMU or a point is at, and what is next to it.

Only neighbourhood is asked here: two sources are near each other when their buses are at most so many lines apart.
What is not in the file is not known, and not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Topology:
    """`places`: PMU or point -> its buses (a flow has two). `lines`: bus -> the buses at the other ends."""

    places: Mapping[str, frozenset[str]] = field(default_factory=dict)
    lines: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def near(self, some: Iterable[str], others: Iterable[str], hops: int) -> bool | None:
        """Return whether any of these sources is within so many lines of any of the others; None: not known."""
        start, goal = self._buses(some), self._buses(others)
        if not start or not goal:
            return None
        reached = start
        for _ in range(hops):
            if reached & goal:
                return True
            reached = reached.union(*(self.lines.get(bus, frozenset()) for bus in reached))
        return bool(reached & goal)

    def _buses(self, sources: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self.places.get(source, frozenset()) for source in sources))


def topology_of(lines: Iterable[tuple[str, str]], places: Mapping[str, frozenset[str]]) -> Topology:
    """Return the topology of lines (bus, bus) and places."""
    ends: dict[str, set[str]] = {}
    for one, other in lines:
        ends.setdefault(one, set()).add(other)
        ends.setdefault(other, set()).add(one)
    return Topology(places, {bus: frozenset(others) for bus, others in ends.items()})

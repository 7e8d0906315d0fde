"""The only reader of clocks in the service.

Everything that decides works in event time and gets its time from the records. What is left for a clock: how
long a stage took, how long ago the position last moved, and when a heartbeat is sent. Tests put a
`ManualClock` in its place.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the shell asks of time."""

    def wall_ns(self) -> int:
        """Return UTC nanoseconds; may step back (NTP)."""

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never steps back."""


class SystemClock:
    """The clocks of this machine."""

    def wall_ns(self) -> int:
        """Return UTC nanoseconds; may step back (NTP)."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Return seconds of a clock that never steps back."""
        return time.perf_counter()


class ManualClock:
    """A clock that moves only when told; both readings move together."""

    def __init__(self, wall_ns: int = 0) -> None:
        self._wall_ns = wall_ns

    def advance(self, seconds: float) -> None:
        """Move both readings on."""
        self._wall_ns += round(seconds * 1e9)

    def wall_ns(self) -> int:
        """Return UTC nanoseconds."""
        return self._wall_ns

    def monotonic_s(self) -> float:
        """Return seconds."""
        return self._wall_ns / 1e9


SYSTEM = SystemClock()

"""When a disturbance is described: the clock of one area's disturbance, in instants of the reporting grid.

A disturbance begins with the first sudden rule that raises; its onset is the onset of that edge. It is described at
fixed ages, counted from the onset, and every 0.1 s while its frequency still moves towards its turning point. What
raises within `AGAIN_S` of the onset belongs to it. All of it follows from the edges and the numbers of the instants,
so any split into batches describes at the same instants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

AGES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
STEP_S = 0.1  # while the frequency still falls
FIRST_S = 0.3  # nothing is said of the frequency before
AGAIN_S = 10.0
NONE = -1


@dataclass(frozen=True, slots=True)
class EventWatch:
    """The disturbance of an area that is being described, if any."""

    onset: int = NONE  # instant of the grid
    moving: bool = False  # the frequency was still on its way when last looked at
    slow: bool = False  # begun by a rule that looks over seconds

    def raised(self, onset: int, rate_hz: float, *, slow: bool) -> EventWatch:
        """Return the watch after a rule raised with this onset."""
        if self.onset != NONE and onset - self.onset < AGAIN_S * rate_hz:
            return self
        return EventWatch(onset, slow=slow)

    def due(self, instant: int, rate_hz: float) -> bool:
        """Return whether the disturbance is described at this instant."""
        if self.onset == NONE:
            return False
        age = instant - self.onset
        if age in {max(1, round(s * rate_hz)) for s in AGES_S}:
            return True
        step = max(1, round(STEP_S * rate_hz))
        return self.moving and round(FIRST_S * rate_hz) <= age <= AGES_S[-1] * rate_hz and age % step == 0

    def looked(self, *, moving: bool) -> EventWatch:
        """Return the watch after a description."""
        return replace(self, moving=moving)

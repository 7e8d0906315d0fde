"""Windows of feature rows: contiguous, never copied, and never changed under the feet of whoever still holds them.

A window is the last `rows` rows of a buffer with spare room. Appending writes behind the end and returns a new value; the
old value still sees its own rows, because nobody writes there. So a batch that failed can be tried again from the state
before it, at no cost. When the room is used up, the last rows move to a new buffer (once in `SPARE` windows).

    buffer  [ . . . . | r r r r r | + + . . . ]      r: the old window   +: appended, seen only by the new one
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.values import F32

SPARE = 4  # a buffer holds this many windows


@dataclass(frozen=True, slots=True)
class Window:
    """The last `rows` rows (rows, n_quantity, n_pmu), NaN where nothing is known (also before the first row)."""

    buffer: F32
    end: int
    rows: int

    @classmethod
    def empty(cls, rows: int, n_quantity: int, n_pmu: int) -> Window:
        """Return a window that knows nothing."""
        buffer = np.full((SPARE * rows, n_quantity, n_pmu), np.nan, dtype=np.float32)
        return cls(buffer, rows, rows)

    def view(self) -> F32:
        """Return the window as a read-only view."""
        return self.ending(self.end)

    def ending(self, end: int) -> F32:
        """Return the window that ended at row `end` of the buffer (for the ticks inside a batch)."""
        part = self.buffer[end - self.rows : end]
        part.flags.writeable = False
        return part

    def append(self, new: F32) -> Window:
        """Return the window after these rows (n, n_quantity, n_pmu)."""
        count = new.shape[0]
        if count == 0:
            return self
        if self.end + count <= self.buffer.shape[0]:
            self.buffer[self.end : self.end + count] = new
            return Window(self.buffer, self.end + count, self.rows)
        fresh = np.full((max(SPARE * self.rows, self.rows + count), *new.shape[1:]), np.nan, dtype=np.float32)
        fresh[: self.rows] = self.buffer[self.end - self.rows : self.end]
        fresh[self.rows : self.rows + count] = new
        return Window(fresh, self.rows + count, self.rows)

"""Windows of feature rows: contiguous, never copied, and never changed under the feet of whoever still holds them.

A window is the last `rows` rows of a buffer with spare room. Appending writes behind the end and returns a new value; the
old value still sees its own rows, because nobody writes there. So a batch that failed can be tried again from the state
before it, at no cost. When the room is used up, the last rows move to a new buffer (once in `SPARE` windows).

    buffer  [ . . . . | r r r r r | + + . . . ]      r: the old window   +: appended, seen only by the new one

Short gaps are bridged when a row is appended: an unknown sample takes the value 1 or 2 rows before it, if that one came
itself (an angle step 0); a longer gap stays NaN. One lost frame must not blind a detector for the whole length of its
window, and two rows are short against everything that the windows look for. For this a window remembers its last two rows
as they came; like the rest of it they are refilled from the input after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.core.detector import ANGLE
from streamproc.values import F32, I64

SPARE = 4  # a buffer holds this many windows
BRIDGED_ROWS = 2  # a gap of so many rows is bridged


def bridged(last: F32, rows: F32) -> F32:
    """Return the rows (n, ...) with short gaps bridged; `last` (2, ...) came before them. Both as they came."""
    unknown = np.isnan(rows)
    if not unknown.any():
        return rows
    series = np.concatenate([last, rows])
    one, two = series[1:-1], series[:-2]
    held = np.where(np.isnan(one), two, one)
    held[..., ANGLE : ANGLE + 1, :] *= 0.0  # a step is not a level: the row after the gap brings all of it
    return np.where(unknown, held, rows)


@dataclass(frozen=True, slots=True)
class Window:
    """The last `rows` rows (rows, n_quantity, n_pmu), NaN where nothing is known (also before the first row)."""

    buffer: F32
    end: int
    rows: int
    last: F32  # (2, n_quantity, n_pmu) the newest rows as they came, not bridged

    @classmethod
    def empty(cls, rows: int, n_quantity: int, n_pmu: int) -> Window:
        """Return a window that knows nothing."""
        buffer = np.full((SPARE * rows, n_quantity, n_pmu), np.nan, dtype=np.float32)
        return cls(buffer, rows, rows, buffer[:BRIDGED_ROWS].copy())

    def view(self) -> F32:
        """Return the window as a read-only view."""
        return self.ending(self.end)

    def ending(self, end: int) -> F32:
        """Return the window that ended at row `end` of the buffer (for the ticks inside a batch)."""
        part = self.buffer[end - self.rows : end]
        part.flags.writeable = False
        return part

    def append(self, new: F32) -> Window:
        """Return the window after these rows (n, n_quantity, n_pmu), given as they came."""
        count = new.shape[0]
        if count == 0:
            return self
        filled = bridged(self.last, new)
        last = np.concatenate([self.last, new[-BRIDGED_ROWS:]])[-BRIDGED_ROWS:]
        if self.end + count <= self.buffer.shape[0]:
            self.buffer[self.end : self.end + count] = filled
            return Window(self.buffer, self.end + count, self.rows, last)
        fresh = np.full((max(SPARE * self.rows, self.rows + count), *new.shape[1:]), np.nan, dtype=np.float32)
        fresh[: self.rows] = self.buffer[self.end - self.rows : self.end]
        fresh[self.rows : self.rows + count] = filled
        return Window(fresh, self.rows + count, self.rows, last)

    def take(self, index: I64, rows: int) -> Window:
        """Return the window of another length and of other PMUs: the place of each in this window, -1 for a new one."""
        new = index < 0

        def moved(values: F32) -> F32:
            chosen = values[:, :, np.maximum(index, 0)]
            chosen[:, :, new] = np.nan
            return chosen

        kept = min(rows, self.rows)
        buffer = np.full((SPARE * rows, self.buffer.shape[1], index.size), np.nan, dtype=np.float32)
        buffer[rows - kept : rows] = moved(self.buffer[self.end - kept : self.end])
        return Window(buffer, rows, rows, moved(self.last))

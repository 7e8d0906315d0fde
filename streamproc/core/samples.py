"""Frames on their way into alignment: one row per PMU and frame, in the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from streamproc.values import F64, I64, U32

A = TypeVar("A", F64, I64)

N_VALUE = 4
FREQ, ROCOF, VOLT, ANGLE = range(N_VALUE)  # last axis of the values: Hz, Hz/s, V, rad


@dataclass(frozen=True, slots=True)
class Samples:
    """What arrived, one row per PMU and frame, in arrival order. `frame` is non-decreasing from 0."""

    frame: I64  # (n_sample,)
    column: I64  # (n_sample,) PMU
    instant: I64  # (n_frame,) grid instant of each frame
    value: F64  # (n_sample, N_VALUE)
    quality: U32  # (n_sample,)
    record: I64  # (n_frame,) index of the record that brought each frame, -1: of an earlier batch

    def of_frames(self, frames: I64) -> Samples:
        """Return only these frames, renumbered; `frames` is increasing."""
        renumber = np.full(self.instant.size, -1, dtype=np.int64)
        renumber[frames] = np.arange(frames.size)
        kept = renumber[self.frame] >= 0
        return Samples(
            renumber[self.frame[kept]],
            self.column[kept],
            self.instant[frames],
            self.value[kept],
            self.quality[kept],
            self.record[frames],
        )

    def then(self, later: Samples) -> Samples:
        """Return both, one after the other."""
        return Samples(
            np.concatenate([self.frame, later.frame + self.instant.size]),
            np.concatenate([self.column, later.column]),
            np.concatenate([self.instant, later.instant]),
            np.concatenate([self.value, later.value]),
            np.concatenate([self.quality, later.quality]),
            np.concatenate([self.record, later.record]),
        )


def no_samples() -> Samples:
    """Return nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Samples(none, none, none, np.zeros((0, N_VALUE)), np.zeros(0, dtype=np.uint32), none)


def taken(values: A, blank: A, index: I64) -> A:
    """Return `values` of the PMUs at `index`, what `blank` has where that is -1."""
    return np.where(index >= 0, values[np.maximum(index, 0)], blank) if values.size else blank

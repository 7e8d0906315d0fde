"""The power that the PMUs of an area measure, from the voltage and current phasors of their frames. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from streamproc.core.area import voltage_column
from streamproc.core.c37118 import DataBatch, Layout, PmuInfo
from streamproc.core.grid import to_grid
from streamproc.core.samples import ANGLE, VOLT
from streamproc.values import C128, F64, I64


@dataclass(frozen=True, slots=True)
class Power:
    """Arrays (n, n_pmu) on the rows of the evidence; NaN is unknown."""

    apparent_va: C128  # P + jQ of three phases, in the direction in which the current is measured
    angle_rad: F64  # of the voltage; it wraps
    voltage_v: F64


@lru_cache(maxsize=4096)
def current_column(layout: Layout) -> I64:
    """Return per PMU (n_pmu,) the phasor of the current that goes with its voltage, -1 for none.

    A CFG-3 tells phase or sequence: the first current of the voltage's own. A CFG-2 does not: the one named as the
    voltage with I for V (VALPM, IALPM), else the first current.
    """
    sizes = [len(pmu.phasor_names) for pmu in layout.pmus]
    first: I64 = np.cumsum([0, *sizes[:-1]])
    own = voltage_column(layout) - first
    chosen = [_current(pmu, volt) if volt >= 0 else -1 for pmu, volt in zip(layout.pmus, own, strict=True)]
    return np.where(np.array(chosen) >= 0, first + np.array(chosen), -1)


def _current(pmu: PmuInfo, volt: int) -> int:
    """Return the index among the PMU's own phasors of the current that goes with this voltage; -1 for none."""
    currents = [i for i, is_current in enumerate(pmu.phasor_is_current) if is_current]
    if pmu.phasor_component:
        return next((i for i in currents if pmu.phasor_component[i] == pmu.phasor_component[volt]), -1)
    wanted = pmu.phasor_names[volt].upper().replace("V", "I", 1)
    named = [i for i in currents if pmu.phasor_names[i].upper() == wanted]
    return next(iter(named or currents), -1)


def power_of(
    batches: Sequence[DataBatch],
    columns: Mapping[tuple[int, int], int],
    value: F64,
    first: int,
    rate_hz: float,
) -> Power:
    """Return the power on the rows of aligned values (n, n_pmu, N_VALUE), the first of which is the instant `first`.

    `batches` are of one stream each, `columns` has the PMU of each (IDCODE, block). What the alignment did not take, or
    what may not be used, is not known here either.
    """
    n_row, n_pmu = value.shape[:2]
    apparent = np.full((n_row, n_pmu), complex(np.nan, np.nan))
    for batch in batches:
        layout = batch.layout
        volt, current = voltage_column(layout), current_column(layout)
        has = np.flatnonzero((volt >= 0) & (current >= 0))
        row = to_grid(batch.t_ns, rate_hz) - first
        on = np.flatnonzero((row >= 0) & (row < n_row))[::-1]  # of two frames of one instant the first counts
        column = np.array([columns[layout.idcode, block] for block in has.tolist()], dtype=np.int64)
        made = 3.0 * batch.phasor[:, volt[has]] * batch.phasor[:, current[has]].conj()
        apparent[row[on][:, None], column] = made[on]
    apparent[~np.isfinite(value[:, :, VOLT])] = complex(np.nan, np.nan)
    return Power(apparent, value[:, :, ANGLE], value[:, :, VOLT])

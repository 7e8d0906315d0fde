"""Which PMU is nearest to a disturbance: every PMU as a row of numbers that compares it with the one that answers most.

Voltage and angle jump most where the disturbance is, and within the first tenths of a second; later the swing of the
machines hides it. What counts most depends on the kind (a fault pulls voltages down, lost power turns angles back), so
the chances of the kinds are in every row, too. A network gives each row a score; the highest is nearest.
"""

from __future__ import annotations

import numpy as np

from streamproc.core.deviation import median_of
from streamproc.core.event_features import Answers
from streamproc.values import F64

N_CHANCE = 4  # fault, supply_lost, load_lost, topology
NAMES = (
    *(
        "voltage_0",
        "voltage_1",
        "voltage_3",
        "voltage_deepest",
        "angle_0",
        "angle_1",
        "own_angle_0",
        "own_angle_1",
    ),
    *("frequency_0", "frequency_1", "own_frequency_1", "own_frequency_2"),
    *("same_sign_voltage", "same_sign_angle", "clear_voltage", "clear_angle", "clear_frequency", "n_pmu"),
    *("fault", "supply_lost", "load_lost", "topology"),
)


def rows(seen: Answers, chances: F64) -> F64:
    """Return (n_pmu, len(NAMES))."""
    f_known, v_known, a_known = seen.known
    own_angle = seen.angle - _median(seen.angle, a_known)
    own_freq = seen.freq - _median(seen.freq, f_known)
    deepest = np.where(-seen.low > seen.high, seen.low, seen.high)
    f_sd, v_sd, a_sd = (median_of(sd) for sd in seen.noise)
    measured = (
        *((values * v_known, v_sd) for values in (*seen.voltage[[0, 1, 3]], deepest)),
        *((values * a_known, a_sd) for values in (*seen.angle[:2], *own_angle[:2])),
        *((values * f_known, f_sd) for values in (*seen.freq[:2], *own_freq[1:3])),
    )
    n_pmu = v_known.size
    step, turn = seen.voltage[0] * v_known, seen.angle[0] * a_known
    clear = (_clear(step, v_sd), _clear(turn, a_sd), _clear(seen.freq[0] * f_known, f_sd))
    columns = [
        *(_beside_most(values, sd) for values, sd in measured),
        _same_sign(step, v_sd),
        _same_sign(turn, a_sd),
        *(np.full(n_pmu, value) for value in (*clear, np.log(max(1.0, float(v_known.sum()))))),
        *(np.full(n_pmu, chance) for chance in chances[:N_CHANCE]),
    ]
    return np.stack(columns, axis=1)


def _median(values: F64, known: F64) -> F64:
    return np.array([median_of(row[known > 0.0]) for row in values])[:, None]


def _beside_most(values: F64, sd: float) -> F64:
    """Return the logarithm of each size over the largest, both on top of the noise."""
    size = np.abs(values) + sd
    return np.asarray(np.log(size / size.max()))


def _same_sign(values: F64, sd: float) -> F64:
    """Return 1 for a value like the largest, -1 for its opposite."""
    return np.asarray(
        np.clip(values * np.sign(values[np.argmax(np.abs(values))]) / (np.abs(values).max() + sd), -1.0, 1.0)
    )


def _clear(values: F64, sd: float) -> float:
    return float(np.log1p(np.abs(values).max() / sd))

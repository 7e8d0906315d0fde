"""What goes wrong with the data of a long stream, at random times.

drop-out   one PMU sends nothing for 0.2 to 10 s; a third of them about an onset
gap        nobody sends anything for 0.2 to 2 s
noise      one PMU is twenty times as noisy for 2 to 8 s
frozen     one PMU repeats its values for 3 to 20 s
spike      about a frame in ten of one PMU is far off, for 2 to 8 s
invalid    one PMU sends any value, and STAT says so, for 1 to 8 s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.evaluation.impair import ABSENT_STAT, SPIKE_HZ, SPIKE_PU, SPIKE_RAD
from streamproc.evaluation.noise import TIERS, Signals
from streamproc.values import F64

ERROR_STAT = 0x4000  # IEEE C37.118.2-2011, table 7: bits 15-14 = 01, PMU error
# kind: (how many in 90 minutes, shortest, longest s)
EPISODES = {
    "drop-out": (36, 0.2, 10.0),
    "gap": (4, 0.2, 2.0),
    "noise": (8, 2.0, 8.0),
    "frozen": (8, 3.0, 20.0),
    "spike": (8, 2.0, 8.0),
    "invalid": (8, 1.0, 8.0),
}
MISSING = frozenset({"drop-out", "gap"})  # the others are bad data
OFTEN_S = 5400.0
FIRST_S = 20.0  # nothing is wrong before
NOISE_FACTOR, SPIKE_SHARE = 20.0, 0.1


@dataclass(frozen=True, slots=True)
class Episode:
    """Something wrong with the data: rows [start, stop) of one PMU, or of all (-1)."""

    kind: str
    pmu: int
    start: int
    stop: int


def drawn_episodes(
    n_row: int, n_pmu: int, rate_hz: float, onsets: Sequence[int], rng: np.random.Generator
) -> tuple[Episode, ...]:
    """Return the episodes of a stream with events at these rows, in order of time."""
    found = []
    for kind, (often, shortest, longest) in EPISODES.items():
        for number in range(round(often * n_row / rate_hz / OFTEN_S)):
            length = max(1, round(float(rng.uniform(shortest, longest)) * rate_hz))
            start = int(
                rng.integers(round(FIRST_S * rate_hz), max(n_row - length, round(FIRST_S * rate_hz) + 1))
            )
            if kind == "drop-out" and number % 3 == 0:
                start = max(1, int(rng.choice(onsets)) + round(float(rng.uniform(-3.0, 1.0)) * rate_hz))
            pmu = -1 if kind == "gap" else int(rng.integers(n_pmu))
            found.append(Episode(kind, pmu, start, min(start + length, n_row)))
    return tuple(sorted(found, key=lambda episode: (episode.start, episode.pmu, episode.kind)))


def spoilt(
    signals: Signals,
    episodes: Sequence[Episode],
    first: int,
    tier: str,
    held: dict[Episode, F64],
    rng: np.random.Generator,
) -> Signals:
    """Return a piece of the stream, which begins with row `first`, with its episodes.

    `held` remembers what a frozen PMU repeats into the next piece: (3,) voltage, angle, frequency.
    """
    n_row = signals.freq_hz.shape[0]
    values = [signals.voltage_pu.copy(), signals.angle_rad.copy(), signals.freq_hz.copy()]
    stat, sent = signals.stat.copy(), np.ones(n_row, dtype=np.bool_)
    for episode in episodes:
        start, stop = max(0, episode.start - first), min(n_row, episode.stop - first)
        if start >= stop:
            continue
        rows, pmu = slice(start, stop), episode.pmu
        if episode.kind == "gap":
            sent[rows] = False
        elif episode.kind == "frozen":
            still = held.setdefault(episode, np.array([value[start, pmu] for value in values]))
            for value, level in zip(values, still.tolist(), strict=True):
                value[rows, pmu] = level
        else:
            _spoil(episode.kind, values, rows, pmu, tier, rng)
            stat[rows, pmu] |= {"drop-out": ABSENT_STAT, "invalid": ERROR_STAT}.get(episode.kind, 0)
    return Signals(values[0], values[1], values[2], stat, sent)


def _spoil(
    kind: str,
    values: Sequence[F64],
    rows: slice[int, int, None],
    pmu: int,
    tier: str,
    rng: np.random.Generator,
) -> None:
    """Spoil these rows of one PMU in place."""
    n_row = rows.stop - rows.start
    sd_pu, sd_hz, sd_deg = TIERS[tier]
    most = (SPIKE_PU, SPIKE_RAD, SPIKE_HZ)
    for value, sd, spike in zip(values, (sd_pu, np.radians(sd_deg), sd_hz), most, strict=True):
        if kind == "drop-out":
            value[rows, pmu] = np.nan
        elif kind == "noise":
            value[rows, pmu] += rng.normal(0.0, NOISE_FACTOR * sd, n_row)
        elif kind == "spike":
            hit = rng.random(n_row) < SPIKE_SHARE
            value[rows, pmu] += np.where(hit, rng.uniform(-spike, spike, n_row), 0.0)
        else:  # invalid
            value[rows, pmu] = rng.uniform(0.0, 100.0, n_row)

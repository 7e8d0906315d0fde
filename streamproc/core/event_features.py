"""A disturbance as numbers that mean the same in every network: what a small model tells its kind and place from.

The deviations since the onset (`core.deviation`) are averaged over six stretches of time that depend on the age alone, so
the reporting rate does not matter; over the PMUs only quantiles, means and projections are kept, so their number does not
matter either. Amplitudes are compressed (asinh), shapes are ratios, signs are kept: generation lost and a load that rose
push the angles back everywhere, a load that is lost pushes them ahead, a switched line pushes them both ways, a fault
comes back. What is unknown is left out; what nobody knows is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from streamproc.core.deviation import Deviation, median_of, middle
from streamproc.values import F64

ANCHORS_S = (0.3, 0.5, 1.0, 2.0, 5.0)  # ages for which there is a model
EARLY_S = (0.0, 0.05, 0.1, 0.2)  # first edges of the stretches; the rest of the age is cut into three
N_STRETCH = 6
UNIT_PU, UNIT_HZ, UNIT_RAD = 2e-3, 4e-3, 4e-3  # amplitudes are linear below and logarithmic above
RATIO_MAX = 3.0
DIP_S = 0.4  # a fault is over, or at least deep, by then
SHARE = 4.0  # a PMU answers from so many sd on
SHRINK = 2.0  # what noise alone may do is taken off, in sd


@dataclass(frozen=True, slots=True)
class Answers:
    """What the PMUs do until an age: means (N_STRETCH, n_pmu) over stretches; 0 where unknown, with `known` (n_pmu,)."""

    age_s: float
    voltage: F64
    freq: F64
    angle: F64
    low: F64  # (n_pmu,) lowest and
    high: F64  # highest voltage within `DIP_S`
    dip_s: F64  # (n_pmu,) how long the voltage is below half of its lowest
    noise: F64  # (3, n_pmu) sd of one sample,
    less: F64  # (N_STRETCH,) and by how much it is less in a mean
    common_hz: F64  # (N_STRETCH,) median frequency
    wander_hz: float  # by how much the median frequency wandered before
    swing_hz: float  # sd of the frequencies against their median in the last stretch
    known: F64  # (3, n_pmu) 1: frequency, voltage, angle is known in the first and the last stretch


def edges_s(age_s: float) -> tuple[float, ...]:
    """Return the bounds of the stretches up to an age."""
    start = EARLY_S[-1]
    rest = (start + (age_s - start) * part / 3.0 for part in (1, 2, 3))
    return (*EARLY_S, *rest)


@lru_cache(maxsize=256)
def _overlaps(age_s: float, rate_hz: float, n_row: int) -> F64:
    """Return (N_STRETCH, n_row): the seconds that a row, which lasts until the next, shares with a stretch."""
    edges = np.array(edges_s(age_s))
    begin = np.arange(n_row) / rate_hz
    shared = np.minimum(edges[1:, None], begin + 1.0 / rate_hz) - np.maximum(edges[:-1, None], begin)
    overlaps: F64 = np.maximum(shared, 0.0)
    overlaps.flags.writeable = False
    return overlaps


def answers(moved: Deviation, age_s: float) -> Answers:
    """Return what the PMUs did until this age."""
    n_row = min(moved.n_row, int(np.ceil(age_s * moved.rate_hz - 1e-9)))
    overlaps = _overlaps(age_s, moved.rate_hz, n_row)
    freq, voltage, angle = (rows[:n_row] for rows in (moved.freq, moved.voltage, moved.angle))
    means, known = zip(*(_means(rows, overlaps) for rows in (freq, voltage, angle)), strict=True)
    early = voltage[: max(2, round(DIP_S * moved.rate_hz))]
    low, high = (
        np.where(np.isnan(early), 0.0, early).min(axis=0),
        np.where(np.isnan(early), 0.0, early).max(0),
    )
    with np.errstate(invalid="ignore"):
        below = (voltage < low / 2.0) & (low < -SHARE * moved.noise[1])
    common = middle(freq)
    last = freq[overlaps[-1] > 0.0] - common[overlaps[-1] > 0.0][:, None]
    return Answers(
        age_s,
        means[1],
        means[0],
        means[2],
        low,
        high,
        below.sum(axis=0) / moved.rate_hz,
        moved.noise,
        np.sqrt(1.0 / np.maximum(overlaps.sum(axis=1) * moved.rate_hz, 1.0) + 2.0 / moved.rate_hz),
        _means(common[:, None], overlaps)[0][:, 0],
        moved.wander_hz,
        float(np.sqrt(np.nanmean(last**2))) if np.isfinite(last).any() else 0.0,
        np.stack(known).astype(np.float64),
    )


def _means(rows: F64, overlaps: F64) -> tuple[F64, F64]:
    """Return the means (N_STRETCH, n) over the known rows, a stretch without any taking the one before; who is known."""
    known = np.isfinite(rows)
    weight = overlaps @ known
    means = (overlaps @ np.where(known, rows, 0.0)) / np.where(weight > 0.0, weight, 1.0)
    for stretch in range(1, means.shape[0]):
        means[stretch] = np.where(weight[stretch] > 0.0, means[stretch], means[stretch - 1])
    return means, (weight[0] > 0.0) & (weight[-1] > 0.0)


def _soft(value: F64 | float, unit: float) -> F64:
    return np.asarray(np.arcsinh(np.asarray(value) / unit))


def _spread(values: F64, known: F64) -> list[float]:
    """Return lowest, highest, median and mean of the known values."""
    chosen = values[known > 0.0]
    if not chosen.size:
        return [0.0] * 4
    return [float(chosen.min()), float(chosen.max()), median_of(chosen), float(chosen.mean())]


def _ratio(part: float, whole: float, floor: float) -> float:
    """Return part / whole within bounds, towards 0 where the whole is small."""
    return float(np.clip(part * whole / max(whole * whole + floor * floor, 1e-30), -RATIO_MAX, RATIO_MAX))


def _kept(first: F64, last: F64, noise: F64) -> float:
    """Return how much of a pattern over the PMUs is still there: 1 all, 0 nothing, -1 turned over."""
    floor = float(np.sqrt((noise**2).sum()))
    size = float(np.sqrt((first**2).sum()))
    return _ratio(float((first * last).sum()) / max(size, 1e-12), size, floor)


def _pattern(values: F64, sd: F64, unit: float) -> list[float]:
    """Return what is clear of a pattern over the PMUs: most back and ahead, one-sidedness, and how sure its mean is."""
    clear = np.sign(values) * np.maximum(np.abs(values) - SHRINK * sd, 0.0)
    ahead, back = float((np.maximum(values, 0.0) ** 2).sum()), float((np.minimum(values, 0.0) ** 2).sum())
    chance = float((sd**2).sum())
    count = max(1.0, float((sd > 0.0).sum()))
    sure = float(values.sum()) / max(float(np.sqrt(chance)), 1e-12)
    return [
        *_soft(np.array([clear.min(), clear.max()]), unit).tolist(),
        _ratio(ahead - back, max(ahead + back - chance, 0.0), chance / np.sqrt(count)),
        float(np.arcsinh(sure)),
        float(np.log1p(max(ahead + back - chance, 0.0) / max(chance, 1e-18))),
    ]


def vector(seen: Answers) -> F64:
    """Return the features (`len(NAMES)`,) of a disturbance."""
    freq, voltage, angle = (_who_knows(seen, quantity) for quantity in range(3))
    parts = [
        *_voltage_part(voltage),
        *_frequency_part(freq),
        *_angle_part(angle),
        *_noise_part(freq, voltage, angle),
    ]
    return np.array([*parts, *_clear_part(freq, voltage, angle)], dtype=np.float64)


def _who_knows(seen: Answers, quantity: int) -> Answers:
    """Return the answers of the PMUs that know a quantity; if none does, of one that answers nothing."""
    chosen = np.flatnonzero(seen.known[quantity] > 0.0)
    if chosen.size == seen.known.shape[1]:
        return seen
    none = 0.0 if not chosen.size else 1.0
    chosen = chosen if chosen.size else np.zeros(1, dtype=np.int64)
    signals = ("voltage", "freq", "angle", "low", "high", "dip_s", "known")
    kept = {name: getattr(seen, name)[..., chosen] * none for name in signals}
    return replace(seen, noise=seen.noise[:, chosen], **kept)


def _voltage_part(seen: Answers) -> list[float]:
    known = seen.known[1]
    step, later, end = seen.voltage[0], seen.voltage[3], seen.voltage[-1]
    amplitudes = [
        *_spread(seen.low, known)[:3],
        *_spread(seen.high, known)[1:3],
        *_spread(step, known),
        *_spread(later, known),
        *_spread(end, known),
    ]
    noise = seen.noise[1] * known
    worst = int(np.argmax(np.abs(step) * known))
    second = float(np.sort(np.abs(step) * known)[-2]) if known.size > 1 else 0.0
    deep = int(np.argmin(seen.low * known))
    return [
        *_soft(np.array(amplitudes), UNIT_PU).tolist(),
        float(_soft(second, UNIT_PU)),
        *(_kept(step * known, seen.voltage[n] * known, noise) for n in (1, 2, 3, -1)),
        *(
            _ratio(float(seen.voltage[n, deep]), float(seen.low[deep]), float(noise[deep]))
            for n in (2, 3, -1)
        ),
        _ratio(float(end[worst]), float(step[worst]), float(noise[worst])),
        float(np.log1p(seen.dip_s[deep] / 0.05)),
        _ratio(float((step * known).sum()), float(np.abs(step * known).sum()), float(noise.sum()) * 0.5),
    ]


def _frequency_part(seen: Answers) -> list[float]:
    known = seen.known[0]
    common = seen.common_hz
    apart = [float(np.std(row[known > 0.0])) if known.any() else 0.0 for row in seen.freq]
    widest = [float(np.abs(row * known).max()) for row in seen.freq]
    mean = [_spread(row, known)[3] for row in seen.freq]
    slope = float(common[-1] - common[3]) / (seen.age_s * 2.0 / 3.0)
    floor = median_of(seen.noise[0]) + 1e-3
    return [
        *_soft(common, UNIT_HZ).tolist(),
        *_soft(np.array(mean), UNIT_HZ).tolist(),
        float(_soft(slope, UNIT_HZ)),
        *_soft(np.array(apart), UNIT_HZ).tolist(),
        *_soft(np.array(widest), UNIT_HZ).tolist(),
        float(_soft(seen.swing_hz, UNIT_HZ)),
        _ratio(float(common[-1]), widest[-1], floor),
        _ratio(float(common[-1]), max(widest), floor),
        _ratio(mean[-1], apart[-1] + abs(mean[-1]), floor),
        _ratio(float(common[3]), float(common[-1]), floor),
        _ratio(apart[-1], max(apart), floor),
    ]


def _angle_part(seen: Answers) -> list[float]:
    known = seen.known[2]
    own = seen.angle - np.array([median_of(row[known > 0.0]) for row in seen.angle])[:, None]
    own = own * known
    step, next_step = seen.angle[0] * known, seen.angle[1] * known
    noise = seen.noise[2] * known
    return [
        *_soft(np.array([*_spread(step, known), *_spread(next_step, known)]), UNIT_RAD).tolist(),
        *_soft(np.array([*_spread(own[0], known)[:2], *_spread(own[1], known)[:2]]), UNIT_RAD).tolist(),
        *_soft(np.array([*_spread(own[3], known)[:2], *_spread(own[-1], known)[:2]]), UNIT_RAD).tolist(),
        *(
            _ratio(float(row.max() + row.min()), float(row.max() - row.min()), median_of(noise))
            for row in (step, next_step, own[0], own[-1])
        ),
        _ratio(float(step.sum()), float(np.abs(step).sum()), float(noise.sum()) * 0.5),
        _ratio(float(next_step.sum()), float(np.abs(next_step).sum()), float(noise.sum()) * 0.5),
        *(_kept(own[0], own[n], noise) for n in (1, 2, 3, -1)),
        _kept(_scaled(step, noise), _scaled(seen.voltage[0] * seen.known[1], seen.noise[1]), known),
    ]


def _scaled(values: F64, noise: F64) -> F64:
    return np.asarray(values / np.maximum(noise, 1e-9) * (noise > 0.0))


def _noise_part(freq: Answers, voltage: Answers, angle: Answers) -> list[float]:
    sd = [median_of(seen.noise[quantity]) for quantity, seen in enumerate((freq, voltage, angle))]
    share = [
        float((np.abs(rows[0]) > SHARE * noise).mean())
        for rows, noise in ((voltage.voltage, voltage.noise[1]), (angle.angle, angle.noise[2]))
    ]
    largest = (voltage.low.min(), voltage.voltage[-1][np.argmax(np.abs(voltage.voltage[-1]))])
    seen_by = [float(np.log1p(abs(value) / sd[1])) for value in largest]
    turn = float(np.log1p(np.abs(angle.angle[0]).max() / sd[2]))
    n_pmu = max(1.0, float(voltage.known[1].sum()))
    return [*(float(np.log(value)) for value in sd), *share, *seen_by, turn, float(np.log(n_pmu))]


def _clear_part(freq: Answers, voltage: Answers, angle: Answers) -> list[float]:
    """Return the patterns of the first tenth of a second, of the first two, and of the end."""
    lasts = np.diff(edges_s(freq.age_s))
    parts: list[float] = []
    for last in (2, 3):
        share = lasts[:last, None] / lasts[:last].sum()
        less = float(np.sqrt((share[:, 0] ** 2 * freq.less[:last] ** 2).sum()))
        parts += _pattern((angle.angle[:last] * share).sum(axis=0), angle.noise[2] * less, UNIT_RAD)
        parts += _pattern((voltage.voltage[:last] * share).sum(axis=0), voltage.noise[1] * less, UNIT_PU)
    parts += _pattern(voltage.voltage[-1], voltage.noise[1] * float(voltage.less[-1]), UNIT_PU)
    count = max(1.0, float(freq.known[0].sum()))
    drift = median_of(freq.noise[0]) * float(freq.less[-1]) / np.sqrt(count) + freq.wander_hz
    return [*parts, float(np.arcsinh(freq.common_hz[-1] / drift)), float(np.log(drift / UNIT_HZ))]


def names() -> tuple[str, ...]:
    """Return what each number of `vector` is, in short."""
    spread = ("min", "max", "median", "mean")
    voltage = [f"v_low_{s}" for s in spread[:3]] + ["v_high_max", "v_high_median"]
    voltage += [f"v{n}_{s}" for n in (0, 3, 5) for s in spread] + ["v0_second"]
    voltage += [f"v_kept{n}" for n in (1, 2, 3, 5)] + [f"v_deep{n}" for n in (2, 3, 5)]
    voltage += ["v_worst5", "v_dip_s", "v_sign"]
    freq = [f"f{n}" for n in range(6)] + [f"f{n}_mean" for n in range(6)] + ["f_slope"]
    freq += [f"f{n}_apart" for n in range(6)] + [f"f{n}_widest" for n in range(6)]
    freq += ["f_swing", "f_share", "f_share_max", "f_together", "f_bend", "f_apart_kept"]
    angle = [f"a{n}_{s}" for n in (0, 1) for s in spread]
    angle += [f"own{n}_{s}" for n in (0, 1, 3, 5) for s in spread[:2]] + [
        "a0_both",
        "a1_both",
        "own0_both",
        "own5_both",
    ]
    angle += ["a0_sign", "a1_sign", "own_kept1", "own_kept2", "own_kept3", "own_kept5", "a0_as_v0"]
    noise = [
        "noise_f",
        "noise_v",
        "noise_a",
        "share_v",
        "share_a",
        "seen_low",
        "seen_end",
        "seen_turn",
        "n_pmu",
    ]
    pattern = ("clear_min", "clear_max", "one_sided", "mean_sure", "power_sure")
    clear = [f"{what}_{part}" for what in ("a01", "v01", "a02", "v02", "v5") for part in pattern]
    return (*voltage, *freq, *angle, *noise, *clear, "f5_sure", "f_drift")


NAMES = names()

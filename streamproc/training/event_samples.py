"""From simulated disturbances to what a describer sees of them, over and over, each time a little different.

One sample is one event with measurement noise of a tier, on a stretch of ambient frequency, seen by some of the PMUs, at
another reporting rate, with another amplitude and speed, and told a little late. All of it is drawn from the seed, the
name of the corpus, the number of the event and the number of the sample, so that any order gives the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from streamproc.core.describe import EventView
from streamproc.core.disturbance import Kind
from streamproc.values import F32, F64, I64

BEFORE_S, AFTER_S = 3.0, 5.2  # of a sample around its onset
COURSE_S, SETTLE_S = 11.0, 3.0  # the frequency is followed so long, and settles in the last of it
TIERS = (
    (3e-4, 5e-4, 0.02),
    (1e-3, 2e-3, 0.1),
    (3e-3, 5e-3, 0.3),
)  # sd: voltage pu, frequency Hz, angle degrees
TIER_SHARES = (0.3, 0.45, 0.25)
RATES_HZ = (25.0, 30.0, 50.0, 60.0)
WANDER_PU, WANDER_S = 5e-4, 30.0
SEEN_PU, SEEN_HZ = 0.002, 0.005  # what no PMU sees beyond is no sample


@dataclass(frozen=True, slots=True)
class Labelled:
    """One simulated disturbance with its truth."""

    corpus: str
    number: int
    network: str
    device: str
    x: F64  # (n_frame, n_pmu, 3) voltage pu, angle rad, frequency Hz, no noise
    rate_hz: float
    nominal_hz: float
    onset: int  # first frame that shows it
    kind: Kind
    finer: str = ""
    near: tuple[int, ...] = ()  # PMUs, the nearest first
    mw: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a describer would be shown, until `AFTER_S` or the end of the event."""

    event: Labelled | None  # None: nothing happened
    view: EventView
    kind: Kind
    pmus: I64  # which PMUs of the event
    turning_hz: float = float("nan")  # change of the median frequency at its turning point, ambient included
    turning_s: float = float("nan")  # and when, after the onset
    settled_hz: float = float("nan")  # where it is in the end
    tier: int = 0


def seed_of(*words: object) -> list[int]:
    """Return numbers for a generator that depend on these words alone."""
    digest = sha256(repr(words).encode()).digest()
    return [int.from_bytes(digest[at : at + 4], "big") for at in (0, 4, 8)]


def samples_of(
    event: Labelled,
    ambient: Sequence[F64],
    ambient_rate_hz: float,
    count: int,
    seed: int,
    *,
    plain_first: bool = True,
) -> Iterator[Sample]:
    """Yield samples of one event; `ambient`: stretches of event-free frequency deviation, Hz.

    The first is plain if wanted: the event as it is, seen by all PMUs, with noise T2.
    """
    for number in range(count):
        rng = np.random.default_rng(seed_of(seed, event.corpus, event.number, number))
        yield _sample(event, ambient, ambient_rate_hz, rng, plain=plain_first and number == 0)


def _sample(
    event: Labelled, ambient: Sequence[F64], ambient_rate_hz: float, rng: np.random.Generator, *, plain: bool
) -> Sample:
    scale, speed, rate_hz = 1.0, 1.0, event.rate_hz
    if not plain:
        scale = float(np.exp(rng.uniform(np.log(0.25), np.log(2.5)))) if rng.random() < 0.6 else 1.0
        speed = float(np.exp(rng.uniform(np.log(0.6), np.log(1.7)))) if rng.random() < 0.6 else 1.0
        rate_hz = float(rng.choice(RATES_HZ)) if rng.random() < 0.4 else event.rate_hz
    tier = int(rng.choice(len(TIERS), p=TIER_SHARES)) if not plain else 1
    voltage, angle, freq = _moved(event, scale, speed, rate_hz)
    pmus = _chosen(voltage.shape[1], rng, plain=plain)
    voltage, angle, freq = (array[:, pmus] for array in (voltage, angle, freq))
    onset, stop = round(BEFORE_S * rate_hz), round((BEFORE_S + AFTER_S) * rate_hz)
    under = _stretch(ambient, ambient_rate_hz, freq.shape[0] + 1, rate_hz, rng)
    cut = (voltage[:stop], angle[:stop], freq[:stop])
    fast = _measured(*cut, under[: cut[0].shape[0] + 1], TIERS[tier], rate_hz, rng)
    late = _late(rate_hz, rng)
    labels = tuple(map(str, pmus))
    age = fast.shape[0] - 1 - onset - late
    view = EventView(fast, age, onset + late, rate_hz, event.nominal_hz, labels, slow=False)
    after = np.median(freq[onset:], axis=1) + under[onset + 1 :] - under[onset]
    turn = int(np.argmin(after) if event.kind == "supply_lost" else np.argmax(after))
    settled_hz = float(after[-round(SETTLE_S * rate_hz) :].mean())
    return Sample(event, view, event.kind, pmus, float(after[turn]), turn / rate_hz, settled_hz, tier)


def _moved(event: Labelled, scale: float, speed: float, rate_hz: float) -> tuple[F64, F64, F64]:
    """Return voltage pu of its own level, angle rad and frequency Hz, (n_row, n_pmu), without noise and ambient."""
    n_row = round((BEFORE_S + COURSE_S) * rate_hz)
    after_s = (np.arange(n_row) - round(BEFORE_S * rate_hz)) / rate_hz
    at = np.where(after_s < 0.0, 0.0, event.onset + after_s * speed * event.rate_hz)
    at = at[at <= event.x.shape[0] - 1]
    steady = max(0, event.onset - 2)
    lower = np.where(at == 0.0, steady, np.floor(at)).astype(np.int64)
    part = np.where(at == 0.0, 0.0, at - np.floor(at))[:, None]
    upper = np.minimum(lower + (part[:, 0] > 0.0), event.x.shape[0] - 1)
    base = event.x[steady]
    ahead = (
        2.0
        * np.pi
        * (base[:, 2] - event.nominal_hz)
        / event.rate_hz
        * (np.arange(event.x.shape[0])[:, None] - steady)
    )
    turned = np.unwrap(event.x[:, :, 1], axis=0) - ahead
    series = (event.x[:, :, 0] / base[:, 0] - 1.0, turned - turned[steady], event.x[:, :, 2] - base[:, 2])
    voltage, angle, freq = ((s[lower] * (1.0 - part) + s[upper] * part) * scale for s in series)
    return np.maximum(voltage, -0.98), angle / speed, freq


def _chosen(n_pmu: int, rng: np.random.Generator, *, plain: bool) -> I64:
    """Return some of the PMUs in any order."""
    if plain or n_pmu <= 3 or rng.random() < 0.3:
        return np.arange(n_pmu)
    count = int(np.clip(np.exp(rng.uniform(np.log(3.0), np.log(n_pmu + 1.0))), 3, n_pmu))
    return np.asarray(rng.permutation(n_pmu)[:count], dtype=np.int64)


def _stretch(
    ambient: Sequence[F64], ambient_rate_hz: float, n_row: int, rate_hz: float, rng: np.random.Generator
) -> F64:
    """Return ambient frequency at a rate, from a random place, with a random sign."""
    wanted = int(np.ceil(n_row / rate_hz * ambient_rate_hz)) + 2
    sizes = np.array([max(0, part.size - wanted) for part in ambient])
    place = int(rng.integers(int(sizes.sum())))
    which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
    start = place - int(sizes[:which].sum())
    values = ambient[which][start : start + wanted]
    at = np.arange(n_row) / rate_hz * ambient_rate_hz
    return np.asarray(np.interp(at, np.arange(wanted), values) * rng.choice([-1.0, 1.0]))


def _measured(
    voltage: F64,
    angle: F64,
    freq: F64,
    under: F64,
    tier: tuple[float, float, float],
    rate_hz: float,
    rng: np.random.Generator,
) -> F32:
    """Return feature rows (n_row, 3, n_pmu) as the stream has them; `under` begins one row earlier."""
    noise_pu, noise_hz, noise_deg = tier
    shape = freq.shape
    wander = rng.normal(0.0, WANDER_PU, shape[1]) + np.cumsum(
        rng.normal(0.0, WANDER_PU * np.sqrt(2.0 / (WANDER_S * rate_hz)), shape), axis=0
    )
    level = voltage + wander + rng.normal(0.0, noise_pu, shape)
    turn = angle + np.cumsum(np.pi * (under[1:] + under[:-1]) / rate_hz)[:, None]
    turn = turn + rng.normal(0.0, np.radians(noise_deg), shape)
    told = freq + under[1:, None] + rng.normal(0.0, noise_hz, shape)
    step = np.diff(turn, axis=0, prepend=turn[:1]) - 2.0 * np.pi * told / rate_hz
    step[0] = np.nan
    step -= 2.0 * np.pi * np.rint(step / (2.0 * np.pi))
    return np.stack([told, level, step], axis=1).astype(np.float32)


def _late(rate_hz: float, rng: np.random.Generator) -> int:
    """Return how many rows too late the onset is told."""
    draw = rng.random()
    if draw < 0.65:
        return 0
    if draw < 0.9:
        return int(rng.integers(-1, 3))
    return int(rng.integers(0, max(3, round(0.4 * rate_hz))))


def quiet_samples(ambient: Sequence[F64], ambient_rate_hz: float, count: int, seed: int) -> Iterator[Sample]:
    """Yield samples in which nothing happens, or only one PMU goes wrong: kind "unknown"."""
    for number in range(count):
        rng = np.random.default_rng(seed_of(seed, "quiet", number))
        rate_hz = float(rng.choice(RATES_HZ))
        n_row, n_pmu = round((BEFORE_S + AFTER_S) * rate_hz), int(rng.integers(1, 25))
        tier, onset = int(rng.choice(len(TIERS), p=TIER_SHARES)), round(BEFORE_S * rate_hz)
        under = _stretch(ambient, ambient_rate_hz, n_row + 1, rate_hz, rng)
        voltage, angle, freq = (np.zeros((n_row, n_pmu)) for _ in range(3))
        if n_pmu > 1 and rng.random() < 0.6:
            _spoil((voltage, angle, freq), onset, rate_hz, rng)
        fast = _measured(voltage, angle, freq, under, TIERS[tier], rate_hz, rng)
        labels = tuple(map(str, range(n_pmu)))
        view = EventView(fast, n_row - 1 - onset, onset, rate_hz, 50.0, labels, slow=False)
        yield Sample(None, view, "unknown", np.arange(n_pmu), tier=tier)


def _spoil(signals: tuple[F64, F64, F64], onset: int, rate_hz: float, rng: np.random.Generator) -> None:
    """Put what a faulty PMU or its clock makes into the last column."""
    which = int(rng.integers(3))
    size = float(np.exp(rng.uniform(np.log(0.01), np.log(0.3)))) * float(rng.choice([-1.0, 1.0]))
    rows = 10**9 if rng.random() < 0.5 else int(rng.integers(1, max(2, round(0.3 * rate_hz))))
    signals[which][onset : onset + rows, -1] += size

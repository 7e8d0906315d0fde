"""Fits everything that `core.event_model` asks: kinds, finer kinds, place, course of the frequency. And says how well.

Each network of the corpora is left out once: what was fitted on the others answers for it. From these answers come the
figures, the temperature that makes chances honest, the chance from which on a kind is told at all, and how much wider
than fitted the bands of a forecast must be. The networks that are shipped are then fitted on all corpora.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar

from streamproc.core.event_features import ANCHORS_S
from streamproc.core.event_model import FINER, LEARNT
from streamproc.core.event_net import Net, run
from streamproc.core.frequency_response import LEVELS, TARGETS
from streamproc.training.event_fit import best, choice, fit, quantiles, softmax
from streamproc.training.event_rows import Asked
from streamproc.values import F64, I64, Bool

UNKNOWN = LEARNT.index("unknown")
ACCURACY = 0.93  # where a kind is told
COVERED = 0.9
QUIET_SHARE = 0.03  # of the weight of all samples
MADE, MADE_WEIGHT = "made", 3.0  # grids that nobody built: many networks under one name
TIER_MAX = 1  # what is learnt from held-out answers is for noise up to T2
HIDDEN, DECAY, SEEDS, SEEDS_OUT = 24, 3e-3, 4, 2
COURSE_NEAR_S = (0.8, 1.3)
NEAR_SHARES = (0.7, 0.2, 0.1)
TARGET_MAX = 6.0
WIDEN = (0.7, 4.0)  # bands are widened within
# The least chance from which on a kind is told is within; less certain networks are not helped by silence.
COMMIT = (0.3, 0.6)
WARMTH = (0.0, 0.7)  # logarithm of the temperature


@dataclass(frozen=True, slots=True)
class Fitted:
    """`core.event_model.EventNets` in numpy."""

    nets: dict[str, Net]
    temperature: dict[str, float] = field(default_factory=dict)
    commit_min: dict[str, float] = field(default_factory=dict)
    widen: F64 = field(default_factory=lambda: np.ones(len(TARGETS)))

    @property
    def digest(self) -> str:
        """Return a number for the networks and what was learnt beside them."""
        parts = [repr((self.temperature, self.commit_min, self.widen.tolist())).encode()]
        for name, net in sorted(self.nets.items()):
            parts += [name.encode(), *(np.asarray(getattr(net, part)).tobytes() for part in Net.__slots__)]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def ask(self, name: str, x: F64) -> F64:
        """Return the answers of one network."""
        return run(self.nets[name], x)


def weights(rows: Sequence[Asked]) -> F64:
    """Return a weight per sample: every network and kind is heard, the larger ones more, quiet ones little."""
    keys = [(row.network, row.kind) for row in rows]
    counts = Counter(keys)
    weight = np.array([counts[key] ** -0.5 * (MADE_WEIGHT if key[0] == MADE else 1.0) for key in keys])
    quiet = np.array([row.event < 0 for row in rows])
    if quiet.any() and not quiet.all():
        weight[quiet] *= QUIET_SHARE / (1.0 - QUIET_SHARE) * weight[~quiet].sum() / weight[quiet].sum()
    return weight


def name_of(what: str, age_s: float) -> str:
    """Return the name of a network that is asked at an age."""
    return f"{what}_{age_s:g}"


def fit_nets(
    rows: Sequence[Asked], seeds: int, told: Callable[[str], object] = lambda _: None
) -> dict[str, Net]:
    """Return all networks, fitted on these samples, each the mean of so many fits."""
    nets: dict[str, Net] = {}
    for age_s in ANCHORS_S:
        chosen = [row for row in rows if age_s in row.vectors and row.kind >= 0]
        told(f"kinds at {age_s:g} s: {len(chosen)} samples")
        x = np.stack([row.vectors[age_s] for row in chosen])
        loss = choice(np.array([row.kind for row in chosen]), weights(chosen), len(LEARNT))
        nets[name_of("kind", age_s)] = fit(x, loss, len(LEARNT), HIDDEN, DECAY, range(seeds))
        lost = [row for row in chosen if row.finer >= 0 and LEARNT[row.kind] == "supply_lost"]
        x = np.stack([row.vectors[age_s] for row in lost])
        loss = choice(np.array([row.finer for row in lost]), weights(lost), len(FINER))
        nets[name_of("finer", age_s)] = fit(x, loss, len(FINER), HIDDEN // 2, DECAY, range(seeds))
    told("place")
    nets["place"] = _place([row for row in rows if row.nearest >= 0], seeds)
    told("course of the frequency")
    nets["course"] = _course(rows, seeds)
    return nets


def _place(rows: Sequence[Asked], seeds: int) -> Net:
    x = np.concatenate([row.place for row in rows])
    sizes = [row.place.shape[0] for row in rows]
    group = np.repeat(np.arange(len(rows)), sizes)
    wanted = np.concatenate([_wanted(row) for row in rows])
    weight = np.repeat(weights(rows), sizes)
    return fit(x, best(group, wanted, weight), 1, 16, 3e-4, range(seeds))


def _wanted(row: Asked) -> F64:
    """Return how much each PMU is wanted: the nearest most, the next two a little, because they are nearly as near."""
    wanted = np.zeros(row.place.shape[0])
    order = list(row.nearest_order[: len(NEAR_SHARES)])
    wanted[order] = NEAR_SHARES[: len(order)]
    return np.asarray(wanted / wanted.sum())


def _course(rows: Sequence[Asked], seeds: int) -> Net:
    chosen = [(row, part) for row in rows for part in row.courses]
    x = np.stack([part[1] for _, part in chosen])
    truth = np.clip(np.stack([part[2] for _, part in chosen]), -TARGET_MAX, TARGET_MAX)
    scale = np.array([part[3] for _, part in chosen])
    weight = np.repeat(weights(rows), [len(row.courses) for row in rows]) * scale**0.25
    return fit(x, quantiles(truth, weight, LEVELS), len(TARGETS) * len(LEVELS), 24, 3e-4, range(seeds), 400)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Answers for samples of a network by networks that have not seen it."""

    rows: list[Asked]
    nets: dict[str, Net]


def leave_out(rows: Sequence[Asked], told: Callable[[str], object] = lambda _: None) -> list[HeldOut]:
    """Return, for every network of the corpora, its samples and what was fitted on the others.

    Of a single network folds of its devices are left out, of none folds of the made grids.
    """
    networks = sorted({row.network for row in rows if row.event >= 0} - {MADE})
    if len(networks) < 2:
        return _folds_out(rows, told)
    found = []
    for network in networks:
        told(f"without {network}")
        held = [row for row in rows if row.network == network]
        found.append(HeldOut(held, fit_nets([row for row in rows if row.network != network], SEEDS_OUT)))
    return found


def _folds_out(rows: Sequence[Asked], told: Callable[[str], object], folds: int = 3) -> list[HeldOut]:
    every_made = all(row.network == MADE for row in rows if row.event >= 0)

    def fold(row: Asked) -> int:
        if row.event < 0 or (row.network == MADE and not every_made):
            return -1
        text = (row.corpus if every_made else f"{row.network} {row.device}").encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") % folds

    found = []
    for number in range(folds):
        told(f"without part {number + 1} of {folds}")
        held = [row for row in rows if fold(row) == number]
        if held:
            found.append(HeldOut(held, fit_nets([row for row in rows if fold(row) != number], SEEDS_OUT)))
    return found


def calibrated(nets: dict[str, Net], held: Sequence[HeldOut]) -> Fitted:
    """Return the networks with what the held-out answers teach."""
    temperature, commit_min = {}, {}
    for age_s in ANCHORS_S:
        logits, kind, weight = answers_of(held, age_s)
        if not kind.size:
            continue
        temperature[f"{age_s:g}"] = warmth = _temperature(logits, kind, weight)
        commit_min[f"{age_s:g}"] = _commit_min(softmax(logits / warmth), kind, weight)
    return Fitted(nets, temperature, commit_min, _widen(held))


def answers_of(held: Iterable[HeldOut], age_s: float) -> tuple[F64, I64, F64]:
    """Return logits, kinds and weights of the held-out samples at an age; every network is heard, the larger ones more."""
    logits, kinds, weight = [np.zeros((0, len(LEARNT)))], [], []
    for part in held:
        chosen = [row for row in part.rows if age_s in row.vectors and row.kind >= 0 and row.tier <= TIER_MAX]
        if chosen:
            x = np.stack([row.vectors[age_s] for row in chosen])
            logits.append(run(part.nets[name_of("kind", age_s)], x))
            kinds += [row.kind for row in chosen]
            weight += [len(chosen) ** -0.5] * len(chosen)
    return np.concatenate(logits), np.array(kinds, dtype=np.int64), np.array(weight)


def _temperature(logits: F64, kind: I64, weight: F64) -> float:
    def surprise(log_warmth: float) -> float:
        chances = softmax(logits / np.exp(log_warmth))
        return -float((weight * np.log(chances[np.arange(kind.size), kind] + 1e-9)).sum())

    return round(float(np.exp(minimize_scalar(surprise, bounds=WARMTH, method="bounded").x)), 4)


def _commit_min(chances: F64, kind: I64, weight: F64) -> float:
    """Return the least chance from which on what is told is right often enough."""
    told = chances.argmax(axis=1)
    sure = chances.max(axis=1)
    for least in np.arange(*COMMIT, 0.01):
        chosen: Bool = (sure >= least) & (told != UNKNOWN)
        if chosen.any() and (weight * (told == kind))[chosen].sum() >= ACCURACY * weight[chosen].sum():
            return round(float(least), 4)
    return COMMIT[1]


def _widen(held: Sequence[HeldOut]) -> F64:
    """Return the factor per target by which the bands must grow to cover what they promise."""
    needed: list[F64] = []
    weight: list[float] = []
    for part in held:
        chosen = [c for row in part.rows for c in row.courses if COURSE_NEAR_S[0] <= c[0] <= COURSE_NEAR_S[1]]
        if chosen:
            told = run(part.nets["course"], np.stack([c[1] for c in chosen]))
            told = np.sort(told.reshape(-1, len(TARGETS), len(LEVELS)), axis=2)
            off = np.stack([c[2] for c in chosen]) - told[:, :, 1]
            half = np.where(off > 0.0, told[:, :, 2] - told[:, :, 1], told[:, :, 1] - told[:, :, 0])
            needed += list(np.abs(off) / np.maximum(half, 1e-6))
            weight += [len(chosen) ** -0.5] * len(chosen)
    if not needed:
        return np.ones(len(TARGETS))
    order = np.argsort(np.stack(needed), axis=0)
    share = np.cumsum(np.array(weight)[order], axis=0) / sum(weight)
    place = np.argmax(share >= COVERED, axis=0)
    found = np.sort(np.stack(needed), axis=0)[place, np.arange(len(TARGETS))]
    return np.asarray(np.round(np.clip(found, *WIDEN), 4))

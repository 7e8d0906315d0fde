"""Fits the networks of `core.event_net`: L-BFGS on one of three losses, several starts, averaged.

    choice     cross-entropy: which kind
    best       cross-entropy over the members of a group: which PMU is nearest
    quantiles  pinball loss, rounded near zero: a value with its band

No step is random but the start, which is drawn from a seed: the same samples give the same network on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize

from streamproc.core.event_net import CLIP, Net, mean_of
from streamproc.values import F64, I64

Loss: TypeAlias = Callable[[F64], tuple[float, F64]]
"""Answers (n, n_out) -> loss, and its gradient (n, n_out)."""

ROUND = 0.05  # of the pinball loss


def softmax(logits: F64) -> F64:
    """Return chances (n, n_kind)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def choice(truth: I64, weight: F64, n_out: int) -> Loss:
    """Return the loss of choosing one of `n_out`."""
    wanted = np.eye(n_out)[truth]
    share = (weight / weight.sum())[:, None]

    def loss(logits: F64) -> tuple[float, F64]:
        chances = softmax(logits)
        value = -float((share * wanted * np.log(chances + 1e-12)).sum())
        return value, share * (chances - wanted)

    return loss


def best(group: I64, wanted: F64, weight: F64) -> Loss:
    """Return the loss of choosing within groups; `wanted` (n,) sums to 1 in each, `weight` is per member."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    counts = np.diff(np.append(starts, group.size))
    share = weight / weight[starts].sum()

    def loss(answers: F64) -> tuple[float, F64]:
        score = answers[:, 0]
        raised = np.exp(score - np.repeat(np.maximum.reduceat(score, starts), counts))
        chances = raised / np.repeat(np.add.reduceat(raised, starts), counts)
        value = -float((share * wanted * np.log(chances + 1e-12)).sum())
        return value, (share * (chances - wanted))[:, None]

    return loss


def quantiles(truth: F64, weight: F64, levels: Sequence[float]) -> Loss:
    """Return the pinball loss of columns of truth (n, n_truth), each at every level: answers are (n, n_truth * n_level)."""
    target = np.repeat(truth, len(levels), axis=1)
    level = np.tile(np.array(levels), truth.shape[1])
    share = weight[:, None] / weight.sum()

    def loss(answers: F64) -> tuple[float, F64]:
        off = target - answers
        size = np.abs(off)
        near = np.where(size < ROUND, size**2 / (2.0 * ROUND) + ROUND / 2.0, size)
        side = np.where(off >= 0.0, level, 1.0 - level)
        slope = np.where(size < ROUND, off / ROUND, np.sign(off))
        return float((share * side * near).sum()), -share * side * slope

    return loss


def scaling(x: F64) -> tuple[F64, F64]:
    """Return mean and sd of features; what hardly varies is not blown up."""
    return x.mean(axis=0), x.std(axis=0) + 1e-3


def fit(
    x: F64, loss: Loss, n_out: int, hidden: int, decay: float, seeds: Sequence[int], steps: int = 250
) -> Net:
    """Return the mean of the networks fitted from these seeds."""
    mean, sd = scaling(x)
    z = np.clip((x - mean) / sd, -CLIP, CLIP)
    return mean_of([_fit_one(z, (mean, sd), loss, n_out, hidden, decay, seed, steps) for seed in seeds])


def _fit_one(
    z: F64, scale: tuple[F64, F64], loss: Loss, n_out: int, hidden: int, decay: float, seed: int, steps: int
) -> Net:
    n_in = z.shape[1]
    rng = np.random.default_rng(seed)
    shapes = ((n_in, hidden), (hidden,), (hidden, n_out), (n_in, n_out), (n_out,))
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    start = [
        rng.normal(0.0, 1.0 / np.sqrt(n_in), shapes[0]),
        np.zeros(hidden),
        rng.normal(0.0, 1.0 / np.sqrt(max(1, hidden)), shapes[2]),
        *(np.zeros(shape) for shape in shapes[3:]),
    ]

    def parts(flat: F64) -> list[F64]:
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    def value(flat: F64) -> tuple[float, F64]:
        into, bias, out, straight, level = parts(flat)
        made = np.maximum(z @ into + bias, 0.0)
        told, slope = loss(made @ out + z @ straight + level)
        back = (slope @ out.T) * (made > 0.0)
        told += decay * float((into**2).sum() + (out**2).sum() + (straight**2).sum())
        slopes = (
            z.T @ back + 2.0 * decay * into,
            back.sum(axis=0),
            made.T @ slope + 2.0 * decay * out,
            z.T @ slope + 2.0 * decay * straight,
            slope.sum(axis=0),
        )
        return told, np.concatenate([part.ravel() for part in slopes])

    flat = np.concatenate([part.ravel() for part in start])
    found = minimize(value, flat, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return Net(*scale, *parts(np.asarray(found.x)))

"""Learning the weights of a blend: a rolling validation over the newest part of the past, every fold forecast unseen.

    past  |---------------- fit ----------------|-- fold 1 --|-- fold 2 --| ... |-- fold n --| until
                                                   refit        refit

Per bucket of leads the mean absolute error is minimised over weights that are not negative and sum to one, with a pull
towards weights by each member's own error: members err alike, so that a past of some weeks does not know the best mix to
two digits, and a mix that ignores a good member because another was luckier does not keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from streamproc.core.series.blend import BlendModel
from streamproc.core.series.history import History
from streamproc.core.series.model import Choosing, Recipe
from streamproc.core.series.ramp_rows import hour_steps
from streamproc.errors import DataError
from streamproc.values import F64, I64

FOLDS = 8
HELD_SHARE = 0.35  # of the past, at most
HELD_DAYS_MAX = 365
BUCKET_HOURS = (0.5, 1, 2, 3, 4, 8, 16, 24, 36)  # where a new bucket of leads begins
PULL = 0.3  # towards weights by skill alone, in per unit of the least squared error
SKILL_POWER = 4.0  # skill alone: weights like 1 / (mean squared error)^4
ROUNDS = 8  # of re-weighting towards absolute errors
ORIGINS_MAX = 400  # of a fold
WEIGHT_MIN = 0.02  # less is left out


@dataclass(frozen=True, slots=True)
class Blend:
    """The recipe of a blend; `weight` None: learnt at every fit."""

    members: tuple[Recipe, ...]
    name: str = "blend"
    weight: F64 | None = None

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Blend:
        """Return the recipe with its members settled and its weights learnt on `value[:until]`."""
        folds = fold_edges(history, until)
        early = [settled(one, history, folds[0], n_lead, origin_slots) for one in self.members]
        each, truth = roll(early, history, folds, n_lead, origin_slots)
        weight = learn(each, truth, buckets(history, n_lead))
        members = tuple(settled(one, history, until, n_lead, origin_slots) for one in self.members)
        return replace(self, members=members, weight=weight)

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> BlendModel:
        """Return the members fitted on `value[:until]`; those with weight must have enough past (DataError)."""
        ready = self if self.weight is not None else self.settle(history, until, n_lead, origin_slots)
        assert ready.weight is not None
        used = [
            (one, weight)
            for one, weight in zip(ready.members, ready.weight, strict=True)
            if weight.any() or not isinstance(one, Choosing)  # fallbacks cost nothing and are always there
        ]
        models = tuple(one.fit(history, until, n_lead, origin_slots) for one, _ in used)
        return BlendModel(self.name, models, np.stack([weight for _, weight in used]))


def settled(recipe: Recipe, history: History, until: int, n_lead: int, origin_slots: I64) -> Recipe:
    """Return the recipe with its choices made on `value[:until]`, where it has any."""
    return recipe.settle(history, until, n_lead, origin_slots) if isinstance(recipe, Choosing) else recipe


def fold_edges(history: History, until: int) -> list[int]:
    """Return where the folds of the rolling validation begin, and `until`."""
    known = np.flatnonzero(np.isfinite(history.value[:until]))
    if not known.size:
        raise DataError(f"{history.name}: no value before the end of training")
    span = min(int((until - known[0]) * HELD_SHARE), HELD_DAYS_MAX * history.steps_per_day)
    return [int(edge) for edge in np.linspace(until - span, until, FOLDS + 1).round()]


def roll(
    recipes: Sequence[Recipe], history: History, folds: list[int], n_lead: int, origin_slots: I64
) -> tuple[F64, F64]:
    """Return forecasts (n_recipe, n_origin, n_lead) and the truth (n_origin, n_lead) of all folds."""
    each: list[list[F64]] = [[] for _ in recipes]
    truth = []
    for begin, end in zip(folds[:-1], folds[1:], strict=True):
        origins = np.arange(begin, min(end, folds[-1] - n_lead + 1))
        origins = origins[np.isin(history.slot[origins], origin_slots)]
        if not len(origins):
            continue
        origins = origins[:: -(-len(origins) // ORIGINS_MAX)]
        truth.append(history.value[origins[:, None] + np.arange(n_lead)])
        for made, recipe in zip(each, recipes, strict=True):
            made.append(_or_silent(recipe, history, begin, origins, n_lead, origin_slots))
    if not truth:
        raise DataError(f"{history.name}: no origin in the newest part of the past to learn weights from")
    return np.stack([np.concatenate(made) for made in each]), np.concatenate(truth)


def _or_silent(
    recipe: Recipe, history: History, until: int, origins: I64, n_lead: int, origin_slots: I64
) -> F64:
    """Return forecasts, all NaN where the past is too short for the recipe."""
    try:
        return recipe.fit(history, until, n_lead, origin_slots).predict(history, origins, n_lead)
    except DataError:
        return np.full((len(origins), n_lead), np.nan)


def buckets(history: History, n_lead: int) -> I64:
    """Return the bucket of every lead (n_lead,)."""
    hours = (np.arange(n_lead) + 0.5) / hour_steps(history.steps_per_day)
    return np.searchsorted(np.asarray(BUCKET_HOURS), hours, side="right").astype(np.int64)


def learn(each: F64, truth: F64, bucket: I64) -> F64:
    """Return weights (n_recipe, n_lead) from forecasts (n_recipe, n_origin, n_lead)."""
    weight = np.zeros((len(each), len(bucket)))
    for one in np.unique(bucket):
        mine = bucket == one
        target = truth[:, mine].ravel()
        members = each[:, :, mine].reshape(len(each), -1)
        weight[:, mine] = _simplex(members, target)[:, None]
    return weight


def _simplex(members: F64, target: F64) -> F64:
    """Return weights (n_member,) >= 0 with sum 1 of least absolute error; a mostly silent member gets none."""
    speaks = np.isfinite(members).mean(axis=1) > 0.5
    rows = np.isfinite(target) & np.isfinite(members[speaks]).all(axis=0)
    out = np.zeros(len(members))
    if not speaks.any() or rows.sum() < 10:
        out[speaks] = 1.0 / max(int(speaks.sum()), 1)
        return out if speaks.any() else np.full(len(members), 1.0 / len(members))
    miss = (
        members[speaks][:, rows] - target[rows]
    )  # (n_speaking, n_row): the blend's error is its weighted mean
    weight = np.full(len(miss), 1.0 / len(miss))
    for _ in range(ROUNDS):
        error = np.abs(weight @ miss)
        trust = 1.0 / np.maximum(error, 0.3 * max(float(np.median(error)), 1e-12))
        gram = (miss * trust) @ miss.T / trust.sum()
        weight = _least(gram)
    weight = np.where(weight < WEIGHT_MIN, 0.0, weight)
    out[speaks] = weight / weight.sum()
    return out


def _least(gram: F64) -> F64:
    """Return the point of the simplex with the least `w' gram w`, pulled towards weights by skill alone."""
    n, square = len(gram), np.maximum(np.diag(gram), 1e-30)
    skill = (square.min() / square) ** SKILL_POWER
    pull = np.sqrt(PULL * float(square.min())) * np.eye(n)
    root = np.linalg.cholesky(
        gram + (1e-9 * float(square.sum()) + 1e-30) * np.eye(n)
    ).T  # |root w|^2 = w' gram w
    heavy = 1e3 * max(float(np.abs(root).max()), 1e-15)  # holds the sum at one
    rows = np.vstack([root, pull, np.full((1, n), heavy)])
    weight, _ = nnls(rows, np.concatenate([np.zeros(n), pull @ (skill / skill.sum()), [heavy]]))
    return np.asarray(weight / max(float(weight.sum()), 1e-12))

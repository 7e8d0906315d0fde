"""Fitting the intraday model: pooled ridge, then a ridge per part of the day on what the pooled one left.

The day-ahead forecasts it learns from are those of models that had not seen the day (`day.unseen`): fitted ones would
look better than live ones, and the model would trust their ramp too much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamproc.core.series.history import History
from streamproc.core.series.linear import DayModel, read_out
from streamproc.core.series.local_axis import places
from streamproc.core.series.ramp import RampModel, columns, joined
from streamproc.core.series.ramp_rows import RampRows, hour_steps, ramp_rows
from streamproc.core.series.rows import DayPlan, block_count
from streamproc.errors import DataError
from streamproc.training.series.choose import choose
from streamproc.training.series.day import Sample, Settings, fit_part, past_only, sample, unseen
from streamproc.training.series.plans import base_plan
from streamproc.values import F64, I64, Bool

HOURS_MAX = 4
ANCHORS = 8  # of its day-ahead models: every three hours
BLOCKS_MAX = 48  # parts of the day with weights of their own
ROWS_MAX = 40_000
ROWS_MIN = 500
LEADS_FITTED_MAX = 16  # further leads lie on the straight line between their neighbours' weights
RIDGE = 1.0
LOCAL_RIDGES = (0.1, 1.0, 10.0, 100.0, np.inf)  # inf: pooled weights only
PARTS = 16  # of the past; every fourth is held out to choose the local ridge: a refit is never older than that in life
NEIGHBOUR = 0.1  # of a row in the block before or after: tariffs switch on the half hour
ROUNDS = 1  # of re-weighting towards absolute errors
ABSOLUTE_FROM = 2.0  # median absolute errors: smaller ones count as squares; hot days must not be thrown away


@dataclass(frozen=True, slots=True)
class RampSettings:
    """What was chosen on the past and stays for refits."""

    base: Settings
    local_ridge: float


@dataclass(frozen=True, slots=True)
class RampSample:
    """Training rows: origins before `until` with everything known."""

    rows: RampRows
    ramp: F64  # (n_origin, n_lead), on the scale
    n_block: int


@dataclass(frozen=True, slots=True)
class Ramp:
    """The recipe of the intraday model."""

    name: str = "ramp"
    settings: RampSettings | None = None  # None: chosen at every fit

    def settle(self, history: History, until: int, n_lead: int, origin_slots: I64) -> Ramp:  # noqa: ARG002
        """Return the recipe with its settings chosen on `value[:until]`."""
        plans, lag, n_ramp = base_plans(history, until, n_lead)
        first = sample(history, until, plans[0])
        base = choose(first)
        made = [first, *(sample(history, until, plan) for plan in plans[1:])]
        rows = ramp_sample(history, until, made, base, lag, n_ramp)
        return replace(self, settings=RampSettings(base, _choose_local(rows)))

    def fit(self, history: History, until: int, n_lead: int, origin_slots: I64) -> RampModel:
        """Return the model fitted on `value[:until]`, for leads up to four hours; DataError when too short."""
        settings = self.settings or self.settle(history, until, n_lead, origin_slots).settings
        assert settings is not None
        plans, lag, n_ramp = base_plans(history, until, n_lead)
        made = [sample(history, until, plan) for plan in plans]
        rows = ramp_sample(history, until, made, settings.base, lag, n_ramp)
        base = DayModel("base", tuple(fit_part(one, settings.base) for one in made))
        mean, size, weight = fit_weights(rows, settings.local_ridge)
        return RampModel(self.name, base, plans[0].scale, lag, mean, size, weight)


def base_plans(history: History, until: int, n_lead: int) -> tuple[list[DayPlan], int, int]:
    """Return the plans of the day-ahead models, how old their forecasts must be, and how many leads the ramp has."""
    per_day = history.steps_per_day
    lag = hour_steps(per_day)
    n_ramp = min(n_lead, HOURS_MAX * hour_steps(per_day))
    count = block_count(per_day, ANCHORS)
    reach = per_day // count - 1 + lag + n_ramp
    return [base_plan(history, until, at * per_day // count, reach) for at in range(count)], lag, n_ramp


def ramp_sample(
    history: History, until: int, made: list[Sample], base: Settings, lag: int, n_ramp: int
) -> RampSample:
    """Return the training rows of origins whose leads lie before `until`."""
    past = past_only(history, until)
    issued = [(one.place, unseen(one, base) + one.rows.level[:, None]) for one in made]
    slots = np.array([one.plan.slot for one in made])
    start = int(np.searchsorted(places(history), min(one.place[0] for one in made))) + lag
    origins = np.arange(start, until - n_ramp + 1)
    if len(origins) < ROWS_MIN:
        raise DataError(
            f"{history.name}: {max(len(origins), 0)} past origins to learn from, {ROWS_MIN} are needed"
        )
    origins = origins[:: -(-len(origins) // ROWS_MAX)]
    planned = read_out(
        past, origins - lag, lag + n_ramp, slots, lambda at, place: _look_up(*issued[at], place)
    )
    scale, n_block = made[0].plan.scale, block_count(history.steps_per_day, BLOCKS_MAX)
    rows = ramp_rows(past, origins, n_ramp, scale, planned, n_block)
    ramp = scale.forward(past.value)[origins[:, None] + np.arange(n_ramp)] - rows.newest[:, None]
    whole = np.isfinite(planned).all(axis=1) & np.isfinite(ramp).all(axis=1)
    if whole.sum() < ROWS_MIN:
        raise DataError(
            f"{history.name}: {int(whole.sum())} past origins without gaps, {ROWS_MIN} are needed"
        )
    kept = RampRows(rows.common[whole], rows.by_lead[whole], rows.newest[whole], rows.block[whole])
    return RampSample(kept, ramp[whole], n_block)


def _look_up(place: I64, z: F64, wanted: I64) -> F64:
    at = np.minimum(np.searchsorted(place, wanted), len(place) - 1)
    return np.where((place[at] == wanted)[:, None], z[at], np.nan)


def fit_weights(made: RampSample, local_ridge: float) -> tuple[F64, F64, F64]:
    """Return mean and size (n_lead, n_column) and weights (n_lead, n_block, 1 + n_column)."""
    n_lead = made.ramp.shape[1]
    fitted = np.unique(np.linspace(0, n_lead - 1, min(n_lead, LEADS_FITTED_MAX)).round().astype(np.int64))
    solved = []
    for lead in fitted:
        raw = joined(made.rows, int(lead))
        mean, spread = raw.mean(axis=0), raw.std(axis=0)
        size = np.where(spread > 1e-9, spread, 1.0)
        x = columns(made.rows, int(lead), mean, size)
        solved.append((mean, size, _lead_weights(x, made.ramp[:, lead], made, local_ridge)))
    mean, size, weight = (np.stack(parts) for parts in zip(*solved, strict=True))
    return _between(fitted, mean, n_lead), _between(fitted, size, n_lead), _between(fitted, weight, n_lead)


def _between(fitted: I64, solved: F64, n_lead: int) -> F64:
    """Return rows for all leads (n_lead, ...), those between fitted leads on the straight line."""
    at = np.interp(np.arange(n_lead), fitted, np.arange(len(fitted)))
    low = np.floor(at).astype(np.int64)
    share = (at - low).reshape(-1, *[1] * (solved.ndim - 1))
    return np.asarray(solved[low] * (1.0 - share) + solved[np.minimum(low + 1, len(fitted) - 1)] * share)


def _lead_weights(x: F64, ramp: F64, made: RampSample, local_ridge: float) -> F64:
    """Return the weights (n_block, 1 + n_column) of one lead."""
    pooled, trust = _absolute_ridge(x, ramp)
    left = ramp - x @ pooled
    local: F64 = np.zeros((made.n_block, x.shape[1]))
    if np.isfinite(local_ridge):
        penalty = local_ridge * np.eye(x.shape[1])
        grams, sides = _by_block(x, left, trust, made)
        local = np.asarray(np.linalg.solve(grams + penalty, sides[..., None])[..., 0])
    return pooled + local


def _absolute_ridge(x: F64, ramp: F64) -> tuple[F64, F64]:
    """Return ridge weights (n_column,) and the trust (n_row,) with which squares act like absolute errors."""
    trust: F64 = np.ones(len(x))
    weight: F64 = np.zeros(x.shape[1])
    for again in range(ROUNDS + 1):
        side = (x * trust[:, None]).T
        weight = np.asarray(np.linalg.solve(side @ x + RIDGE * np.eye(x.shape[1]), side @ ramp))
        if again < ROUNDS:
            left = np.abs(ramp - x @ weight)
            trust = 1.0 / np.maximum(left, ABSOLUTE_FROM * max(float(np.median(left)), 1e-12))
            trust /= trust.mean()
    return weight, trust


def _by_block(x: F64, left: F64, trust: F64, made: RampSample) -> tuple[F64, F64]:
    """Return Gram matrices (n_block, p, p) and right sides (n_block, p); neighbouring blocks count `NEIGHBOUR`."""
    grams = np.zeros((made.n_block, x.shape[1], x.shape[1]))
    sides = np.zeros((made.n_block, x.shape[1]))
    for block in range(made.n_block):
        mine = made.rows.block == block
        side = (x[mine] * trust[mine, None]).T
        grams[block], sides[block] = side @ x[mine], side @ left[mine]
    return tuple(  # type: ignore[return-value]
        each + NEIGHBOUR * (np.roll(each, 1, axis=0) + np.roll(each, -1, axis=0)) for each in (grams, sides)
    )


def _choose_local(made: RampSample) -> float:
    """Return the local ridge with the least error on every fourth part of the past, all seasons being among them."""
    held = np.arange(len(made.ramp)) * PARTS // len(made.ramp) % 4 == 3
    early, late = _part(made, ~held), _part(made, held)
    errors = []
    for ridge in LOCAL_RIDGES:
        mean, size, weight = fit_weights(early, ridge)
        missed = [
            late.ramp[:, lead]
            - np.einsum(
                "np,np->n", columns(late.rows, lead, mean[lead], size[lead]), weight[lead, late.rows.block]
            )
            for lead in range(made.ramp.shape[1])
        ]
        errors.append(float(np.abs(missed).mean()))
    return LOCAL_RIDGES[int(np.argmin(errors))]


def _part(made: RampSample, part: Bool) -> RampSample:
    rows = made.rows
    kept = RampRows(rows.common[part], rows.by_lead[part], rows.newest[part], rows.block[part])
    return RampSample(kept, made.ramp[part], made.n_block)

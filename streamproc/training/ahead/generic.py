"""The 48-hour bundle that the package ships: fitted on made-up series, for sites that have not trained one of their own.

The series are those of `training.forecast_series` with a week on top: loads and industry do less on Saturday and Sunday.
It knows what such series share (the day, the week, that excursions come back) and nothing about a site. Its first bands
are those of the made-up errors; live ones replace them within days.
"""

from __future__ import annotations

import hashlib

import numpy as np

from streamproc.core.ahead.days import N_LEAD, PER_DAY, STEP_S
from streamproc.training.ahead.bundle import files_of
from streamproc.training.ahead.card import card_of
from streamproc.training.ahead.samples import Fleet
from streamproc.training.ahead.train import figures, train
from streamproc.training.forecast_series import means, series
from streamproc.values import F64

COMMAND = "streamproc train forecast --generic --out DIR"
DAYS = 70
N_EACH = 3
SEED = 1
MONDAY_S = 1_704_067_200  # 2024-01-01T00:00Z
ROWS_MAX = 8000
WEEKLY = ("load", "industry", "flow")


def generic_files() -> dict[str, bytes]:
    """Return the files of the generic bundle; the same bytes each time on the same machine and numpy."""
    fleet = made_fleet(N_EACH, DAYS, SEED)
    trained, made = train(fleet, SEED, ROWS_MAX)
    metrics = figures(trained, made)
    about = {
        "name": "generic",
        "version": 1,
        "command": COMMAND,
        "data": f"simulated series ({N_EACH} each of {len(fleet.names) // N_EACH} kinds)",
        "data_digest": hashlib.sha256(fleet.value.tobytes()).hexdigest(),
        "seed": SEED,
        "unit": "",
        "zone": "UTC",
        "trained_from": "2024-01-01T00:00Z",
        "trained_until": f"{DAYS} days later",
    }
    # Nobody's series are called so: a site's own use the shared part.
    return files_of(
        trained, about, metrics, card_of(trained, about, metrics, ["Simulated: not a site's figures."])
    )


def made_fleet(n_each: int, days: int, seed: int) -> Fleet:
    """Return made-up series of some weeks."""
    rng = np.random.default_rng(seed)
    names, rows = [], []
    for kind, minutes in series(n_each, days, seed).items():
        quarter = means(minutes, 15)
        factor = rng.uniform(0.6, 1.0, (n_each, 1)) if kind in WEEKLY else np.ones((n_each, 1))
        rows.append(quarter * np.where(weekend(quarter.shape[1]), factor, 1.0))
        names += [f"simulated {kind} {number}" for number in range(n_each)]
    value = np.concatenate(rows).astype(np.float32)
    n = value.shape[1] + N_LEAD
    nothing = np.zeros(n)
    return Fleet(
        tuple(names),
        MONDAY_S // STEP_S,
        value,
        nothing.astype(np.int64),
        nothing.astype(np.bool_),
        np.zeros((0, n)),
    )


def weekend(n: int) -> F64:
    """Return 1.0 on Saturdays and Sundays (n,), the first interval being on a Monday."""
    return np.asarray(np.arange(n) // PER_DAY % 7 >= 5, np.float64)

"""Bring your own ONNX: a 48-hour model made elsewhere, into a bundle that a worker loads like any other.

Declared input specification; a model takes any of these, by name:

    history (n, 1344) float32   means of the last 14 days in quarter hours, gaps filled, in the unit of the series
    near (192, 7), alike (288, 12) int64; share (288, 12)   where the like of each lead is found (`core.ahead.days`)
    same, free (192, 1), waves, clock (192, 4) float32      calendar of each lead
    known (3 k, 1536) float32   what is known ahead in spreads: itself, its means over 3 and 24 hours
    series (n,) int64           row of each series among the bundle's; the number of them for an unknown one

and gives `median` (n, 192) float32 in the unit of the series; with `known`, also `plain`, for when that is missing. Only
plain operators are accepted (`onnx_file`). Its bands are learnt from its own errors on the newest third of the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamproc.core.ahead.bands import JUDGED, Shape, block_of, shape_of
from streamproc.core.ahead.days import N_LEAD, N_ROW, days_of
from streamproc.core.ahead.rows import inputs_of
from streamproc.errors import ModelError
from streamproc.shell.models import open_session
from streamproc.shell.onnx_file import check_model
from streamproc.training.ahead.bundle import Scales, golden_inputs, inputs_expected
from streamproc.training.ahead.fit import HELD_SHARE
from streamproc.training.ahead.samples import Fleet, issues_of
from streamproc.values import F32, F64, I64

ISSUES_MAX = 400


def judged(
    model: bytes, fleet: Fleet, where: str
) -> tuple[dict[str, Any], Shape, dict[str, dict[str, float]]]:
    """Return golden vectors, bands and figures of a model on a fleet (known ahead in spreads); raises ModelError."""
    check_model(model, where)
    session = open_session(model, where)
    _check_edges(session, len(fleet.known_names), where)
    vectors, given, series = golden_inputs(fleet)
    feed = dict(given._asdict(), series=series)
    vectors["median"] = _ask(session, feed, "median", where)
    plain = "plain" if "plain" in {edge.name for edge in session.get_outputs()} else "median"
    vectors["plain"] = _ask(session, feed, plain, where)
    error, naive, number = _errors(session, fleet, where)
    mean = np.nanmean(np.abs(error), axis=0)
    base = np.nanmean(np.abs(naive), axis=0)
    figures = {
        f"PT{lead * 15}M": {
            "mae_spreads": round(float(m), 5),
            "skill_seasonal_7d": round(1.0 - float(m / b), 4),
        }
        for lead, m, b in zip(JUDGED, mean, base, strict=True)
    }
    return vectors, shape_of(error, block_of(number)), figures


def scales_of(shape: Shape, mean: F64, size: F64) -> Scales:
    """Return what the bundle keeps beside the model."""
    return Scales(shape, mean, size)


def _check_edges(session: Any, n_known: int, where: str) -> None:  # noqa: ANN401 - ONNX Runtime has no types
    expected = {name: shape for name, (_, shape) in inputs_expected(3 * n_known).items()}
    for edge in session.get_inputs():
        if edge.name not in expected:
            raise ModelError(f"{where}: input {edge.name!r} is not declared; there are {', '.join(expected)}")
        fixed = [size if isinstance(size, int) else None for size in edge.shape]
        wanted = [size if isinstance(size, int) else None for size in expected[edge.name]]
        if len(fixed) != len(wanted) or any(
            f is not None and f != w for f, w in zip(fixed, wanted, strict=True)
        ):
            raise ModelError(
                f"{where}: input {edge.name!r} is {edge.shape}, the specification says {expected[edge.name]}"
            )
    outputs = {edge.name for edge in session.get_outputs()}
    if "median" not in outputs or not outputs <= {"median", "plain"}:
        raise ModelError(f"{where}: outputs {sorted(outputs)}, expected 'median' (and 'plain')")


def _ask(session: Any, feed: dict[str, Any], name: str, where: str) -> F32:  # noqa: ANN401
    wanted = {edge.name for edge in session.get_inputs()}
    try:
        made = session.run([name], {key: array for key, array in feed.items() if key in wanted})[0]
    except Exception as error:
        raise ModelError(f"{where}: {error}") from error
    if made.shape != (len(feed["history"]), N_LEAD) or not np.isfinite(made).all():
        raise ModelError(f"{where}: {name} has shape {made.shape}, expected (n, {N_LEAD}), all finite")
    return np.asarray(made, np.float32)


def _errors(session: Any, fleet: Fleet, where: str) -> tuple[F64, F64, I64]:  # noqa: ANN401
    """Return errors of the model and of "a week ago", in spreads, and the interval's number: each (n, len(JUDGED))."""
    issues = issues_of(fleet, 0, fleet.value.shape[1], ISSUES_MAX * len(fleet.names))
    issues = issues[-max(int(HELD_SHARE * len(issues)), 1) :]
    at = np.array(JUDGED) - 1
    series = np.arange(len(fleet.names))
    errors, naives, numbers = [], [], []
    for issue in issues.tolist():
        window = slice(issue - N_ROW, issue + N_LEAD)
        days = days_of(fleet.start + issue, fleet.offset_s[window], fleet.holiday[window])
        given = inputs_of(fleet.value[:, issue - N_ROW : issue], days, np.nan_to_num(fleet.known[:, window]))
        made = _ask(session, dict(given._asdict(), series=series), "median", where)
        spread = np.maximum(given.history.std(axis=1, keepdims=True), 1e-9)
        truth = fleet.value[:, issue + at]
        errors.append((truth - made[:, at]) / spread)
        naives.append((truth - fleet.value[:, issue + at - 7 * 96]) / spread)
        numbers.append(np.broadcast_to(fleet.start + issue + at, truth.shape))
    return np.concatenate(errors), np.concatenate(naives), np.concatenate(numbers)

"""Protects the seam of training and service: a row cut from a file is the row that the stream makes, byte by byte, ONNX
says what numpy says, and nothing that comes after an issue is in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ahead_cases import (
    BERLIN,
    MONDAY,
    exogenous,
    fleet_of_loads,
    intervals,
    loaded,
    loads,
    remembered,
    run,
    stage_of,
    state_of,
    trained,
    weather,
)

from streamproc.core.ahead.days import N_LEAD, N_ROW, PER_DAY, days_of
from streamproc.core.ahead.model import KNOTS, build_numpy, curve_features
from streamproc.core.ahead.rows import N_COURSE, Inputs, fill, inputs_of, n_column, see
from streamproc.core.graph import NumpyOps
from streamproc.core.series.history import History
from streamproc.shell import ahead_model
from streamproc.shell.ahead_model import OnnxAhead
from streamproc.training.ahead.recipe import Stream
from streamproc.training.ahead.samples import Fleet, samples
from streamproc.values import F32, I64

SPRING = 1_711_846_800 // 900  # 2024-03-31T01:00Z, when Berlin's clocks go forward


class Spy:
    """A model that remembers what it was fed with."""

    def __init__(self, model: OnnxAhead) -> None:
        self.model, self.given = model, []  # type: ignore[var-annotated]
        self.digest, self.shape, self.known_names = model.digest, model.shape, model.known_names
        self.rows_of, self.ranges_of, self.scaled = model.rows_of, model.ranges_of, model.scaled

    def predict(self, given: Inputs[F32], rows: I64, *, with_known: bool) -> F32:
        self.given.append((given, with_known))
        return self.model.predict(given, rows, with_known=with_known)


def gaps(value: F32) -> F32:
    out = value.copy()
    out[0, 300:340] = np.nan
    out[1, 900:1000] = np.nan
    out[1, 900 - 7 * PER_DAY : 930 - 7 * PER_DAY] = np.nan
    out[2, -300:-295] = np.nan
    return out


def holidays(n: int) -> np.ndarray:
    made = np.zeros(n, np.bool_)
    made[8 * PER_DAY : 9 * PER_DAY] = True
    made[15 * PER_DAY : 16 * PER_DAY] = True
    return made


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("start", [MONDAY, SPRING - N_ROW - 40, SPRING - N_ROW + 130])
@pytest.mark.parametrize("holey", [False, True])
def test_a_training_row_is_the_live_row_byte_by_byte(known: bool, start: int, holey: bool) -> None:
    model = loaded(known=known)
    value = loads(3, N_ROW + 2, seed=9)
    value = gaps(value) if holey else value
    course, off = weather(N_ROW + 2 + N_LEAD), holidays(N_ROW + 2 + N_LEAD)
    issue = N_ROW + 1
    stage = stage_of(spy := Spy(model), offsets=BERLIN)
    state = state_of(remembered(value[:, : issue - 1], start))
    news = [exogenous("holiday", start, off.astype(float).tolist(), start)]
    news += [exogenous("temperature_degc", start, course.tolist(), start)] if known else []
    state = stage.learn(state, news)
    state, _, _ = run(stage, [intervals(start + issue - 1, value[:, issue - 1].tolist())], state)
    assert state.areas["north"].memory.start == start + issue
    ((given, with_known),) = spy.given
    assert with_known is known
    live = see(NumpyOps(), given, N_COURSE * len(model.known_names))
    z = curve_features(NumpyOps(), given, live)

    first = N_ROW + N_LEAD
    offset = np.concatenate([BERLIN(start + N_ROW), BERLIN(start + issue)[-1:], BERLIN(start + issue)[-1:]])
    scaled = model.scaled(course[None]) if known else np.zeros((0, first + 2))
    fleet = Fleet(("F0", "F1", "F2"), start, value, offset[: first + 2], off, scaled, model.known_names)
    cut = samples(fleet, np.array([issue]))
    at = np.array(KNOTS) - 1
    assert live.rows[:, at].astype(np.float32).tobytes() == cut.rows.tobytes()
    assert np.asarray(z, np.float32).tobytes() == cut.curve.tobytes()
    assert np.asarray(live.spread[:, 0], np.float32).tobytes() == cut.spread.tobytes()
    assert cut.rows.shape == (3, len(KNOTS), n_column(N_COURSE * int(known)))
    assert np.isfinite(cut.rows).all()


def test_a_row_of_one_series_does_not_see_the_others() -> None:
    fleet = replace(fleet_of_loads(3, 20), value=gaps(loads(3, 20 * PER_DAY)))
    whole = samples(fleet, np.array([1500]))
    for one in range(3):
        alone = samples(replace(fleet, names=("X",), value=fleet.value[one : one + 1]), np.array([1500]))
        assert alone.rows[0].tobytes() == whole.rows[one].tobytes()


def given_of(value: F32, known: np.ndarray, number: int = SPRING + 70) -> Inputs[F32]:
    return inputs_of(value, days_of(number, BERLIN(number), np.zeros(N_ROW + N_LEAD, np.bool_)), known)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("holey", [False, True])
def test_onnx_says_what_numpy_says(n: int, known: bool, holey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, fit = loaded(n, known=known), trained(n, known=known)[0]
    value = loads(5, N_ROW, seed=4) * np.array([[1.0], [1e-3], [1e3], [1.0], [1.0]], np.float32)
    value[3] = -value[3]
    value[4] = 7.0  # stands still
    value = gaps(value) if holey else value
    course = model.scaled(weather(N_ROW + N_LEAD)[None]) if known else np.zeros((0, N_ROW + N_LEAD))
    given = given_of(value, course)
    rows = np.array([0, n - 1, n, n, 0])  # n: a series that the bundle does not know
    size = np.abs(given.history).max(axis=1, keepdims=True)
    for with_known, weights in ((True, fit.full.weights), (False, fit.plain.weights)):
        made = model.predict(given, rows, with_known=with_known and known)
        wanted = build_numpy(given, rows, weights)
        assert np.isfinite(wanted).all()
        assert np.abs(made - wanted).max(axis=1) == pytest.approx(0.0, abs=1e-5 * float(size.max()))
        assert (np.abs(made - wanted) <= 1e-5 * size).all()
        monkeypatch.setattr(ahead_model, "CHUNK", 2)
        chunks = model.predict(given, rows, with_known=with_known and known)
        alone = [
            model.predict(
                given._replace(history=given.history[i : i + 1]), rows[i : i + 1], with_known=with_known
            )
            for i in range(5)
        ]
        monkeypatch.undo()
        assert (np.abs(chunks - made) <= 1e-6 * size).all()
        assert (np.abs(np.concatenate(alone) - made) <= 1e-6 * size).all()
    if known:
        full, plain = (model.predict(given, rows, with_known=w) for w in (True, False))
        assert np.abs(full - plain).max() > 1e-3


def test_a_series_of_its_own_is_not_forecast_like_an_unknown_one() -> None:
    model, weights = loaded(), trained()[0].full.weights
    assert len(weights.own) == 4
    assert (weights.own[:3] != 0.0).any(axis=(1, 2)).all()
    assert not weights.own[3].any()
    given = given_of(loads(1, N_ROW), np.zeros((0, N_ROW + N_LEAD)))
    made = [model.predict(given, model.rows_of((name,)), with_known=False) for name in ("F0", "F1", "nobody")]
    assert model.rows_of(("F2", "nobody", "F0")).tolist() == [2, 3, 0]
    assert np.abs(made[0] - made[2]).max() > 1e-3
    assert np.abs(made[0] - made[1]).max() > 1e-3


def test_values_after_the_issue_are_in_no_training_row() -> None:
    fleet = fleet_of_loads(3, 20)
    issue = 1500
    changed = fleet.value.copy()
    changed[:, issue:] = 1e6
    before, after = (samples(replace(fleet, value=v), np.array([issue])) for v in (fleet.value, changed))
    for name in ("rows", "curve", "fallback", "spread"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()
    assert (before.truth != after.truth).all()
    changed[:, : issue - N_ROW] = -5.0  # nor those before the fortnight
    assert samples(replace(fleet, value=changed), np.array([issue])).rows.tobytes() == before.rows.tobytes()


def test_values_after_the_origin_are_in_no_forecast_of_a_backtest() -> None:
    value = loads(1, 36 * PER_DAY)[0].astype(np.float64)
    row = np.arange(value.size)
    slot, day = row % PER_DAY, row // PER_DAY + 19_723
    nothing = np.zeros((value.size, 0))
    history = History("x", 900, value, slot, day, np.zeros(value.size, np.bool_), nothing, ())
    until = 30 * PER_DAY
    model = Stream().fit(history, until, N_LEAD, np.array([0]))
    origins = np.array([until, until + 37, until + 200])
    wanted = model.predict(history, origins, N_LEAD)
    assert np.isfinite(wanted).all()
    for at, said in zip(origins, wanted, strict=True):
        later = value.copy()
        later[at:] = 1e5
        changed = replace(history, value=later)
        assert model.predict(changed, np.array([at]), N_LEAD)[0].tobytes() == said.tobytes()
        again = Stream().fit(changed, until, N_LEAD, np.array([0]))
        assert again.predict(changed, np.array([at]), N_LEAD)[0].tobytes() == said.tobytes()


def test_gaps_take_the_same_quarter_hour_of_other_days() -> None:
    value = loads(1, N_ROW)
    holed = value.copy()
    holed[0, 1000:1010] = np.nan
    assert fill(holed)[0, 1000:1010].tolist() == value[0, 1000 - 672 : 1010 - 672].tolist()
    holed[0, 1000 - 672 : 1010 - 672] = np.nan
    other = np.stack([holed[0, 1000 % PER_DAY + PER_DAY * d :][:10] for d in range(14)])
    np.testing.assert_allclose(fill(holed)[0, 1000:1010], np.nanmean(other, axis=0), rtol=1e-6)
    assert (fill(np.full((1, N_ROW), np.nan, np.float32)) == 0.0).all()
    one = np.full((1, N_ROW), np.nan, np.float32)
    one[0, 5] = 3.0
    assert (fill(one) == 3.0).all()
    assert fill(value) is value

"""ONNX says what the trainer says, within 1e-5, for every exportable model of a series."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from test_series_models import made, origins_of

from streamproc.core.series.fallback import Persistence
from streamproc.core.series.linear import DayModel
from streamproc.core.series.local_axis import places
from streamproc.errors import ModelError
from streamproc.training.series.blend import Blend
from streamproc.training.series.onnx_models import export, feeds
from streamproc.training.series.pooled import Pooled
from streamproc.training.series.recipes import Ridge
from streamproc.training.series.trees import Trees

MEMBERS = (Ridge(), Ridge("kernel", curved=True), Pooled(), Trees(), Trees("trees_alone", alone=True))


@pytest.mark.parametrize("net", [False, True])
@pytest.mark.parametrize(
    "recipe", [*MEMBERS, Blend((Persistence(), *MEMBERS))], ids=lambda recipe: recipe.name
)
def test_onnx_says_what_the_trainer_says(net: bool, recipe: Blend) -> None:
    history = made(net=net, weather=True)
    origins, slots = origins_of(history, 80, (18,)), np.array([18])
    model = recipe.fit(history, int(origins[0]), 48, slots)
    if isinstance(recipe, Blend):  # the fallbacks have no graph: compare the mix of those that have
        weight = np.where(np.arange(len(model.members))[:, None] == 0, 0.0, np.maximum(model.weight, 0.05))
        model = type(model)("blend", model.members, weight / weight.sum(axis=0))
    at = places(history)[origins]
    origins = origins[
        places(history)[origins + 47] - at == 47
    ]  # the graph speaks by place: no clock change between
    session = onnxruntime.InferenceSession(export(model, 18))
    at = places(history)[origins]
    (median,) = session.run(["median"], feeds(model, history, at, 18))
    expected = model.predict(history, origins, 48)
    scale = np.abs(history.value).mean()
    assert np.isfinite(expected).all()
    assert np.abs(median[:, :48] - expected).max() < 1e-5 * scale
    alone = session.run(["median"], feeds(model, history, at[3:4], 18))[0]
    assert np.abs(alone[:, :48] - expected[3:4]).max() < 1e-5 * scale


def test_a_slot_without_a_model_is_an_error_that_says_so() -> None:
    history = made(days=60)
    model = Ridge().fit(history, 48 * 55, 48, np.array([0]))
    assert isinstance(model, DayModel)
    with pytest.raises(ModelError, match="slot 7"):
        export(model, 7)

"""Protects against a source that stands still: it is withheld, its return raises nothing, a quiet grid is believed."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest

from streamproc.config import SiteConfig
from streamproc.core.messages import Finding
from streamproc.core.samples import ANGLE, FREQ, N_VALUE, VOLT
from streamproc.core.source_quality import Stillness, stand_still
from streamproc.shell.models import ModelSet
from streamproc.simulate.fleet import Fleet, FleetSettings, Second
from streamproc.stages.score import ScoreStage
from streamproc.values import F64, TOPIC_FINDINGS, TOPIC_FRAMES, Bool, Record

RATE = 10
still = partial(stand_still, rate_hz=RATE, nominal_hz=50.0)


def values(n: int, n_pmu: int, freq_hz: float = 50.0) -> F64:
    rng = np.random.default_rng(1)
    value = np.full((n, n_pmu, N_VALUE), np.nan)
    value[:, :, FREQ] = freq_hz + 0.001 * rng.standard_normal((n, n_pmu))
    value[:, :, VOLT] = 1e5
    value[:, :, ANGLE] = rng.standard_normal((n, n_pmu))
    return value


def stuck(value: F64) -> Bool:
    return still(Stillness.fresh(value.shape[1]), value)[2]


def test_one_that_repeats_itself_while_others_move_is_withheld_after_half_a_second() -> None:
    value = values(40, 3)
    value[10:30, 1] = value[9, 1]
    expected = np.zeros((40, 3), dtype=np.bool_)
    expected[14:30, 1] = True  # the fifth repetition
    assert (stuck(value) == expected).all()


def test_a_quiet_grid_is_believed_as_a_whole_and_alone() -> None:
    for n_pmu in (1, 3):
        value = values(60, n_pmu)
        value[:, :, FREQ] = 50.0
        value[10:] = value[9]
        assert not stuck(value).any()


def test_a_phasor_that_does_not_turn_as_its_frequency_says_cannot_be_true() -> None:
    value = values(30, 1, freq_hz=50.1)
    value[10:25] = value[9]
    found = stuck(value)[:, 0]
    assert found[11:25].all()  # 0.1 Hz for 0.1 s is 0.06 rad
    assert not found[:10].any()
    assert not found[25:].any()


def test_where_only_a_frequency_is_known_it_may_stand_still_for_longer() -> None:
    value = values(60, 2)
    value[:, :, [VOLT, ANGLE]] = np.nan
    value[10:50, 0] = value[9, 0]
    assert np.flatnonzero(stuck(value)[:, 0]).tolist() == list(range(29, 50))


@pytest.mark.parametrize("cut", [1, 13, 17, 29])
def test_in_two_batches_it_is_the_same(cut: int) -> None:
    value = values(40, 3)
    value[10:30, 1] = value[9, 1]
    state, _, before = still(Stillness.fresh(3), value[:cut])
    _, _, after = still(state, value[cut:])
    assert (np.concatenate([before, after]) == stuck(value)).all()


@pytest.mark.parametrize("frozen_s", [3, 11, 30])
def test_the_return_of_a_frozen_pmu_raises_nothing_of_the_grid(frozen_s: int) -> None:
    fleet = Fleet(FleetSettings(n_pmu=4, rate_hz=RATE, seed=3))
    stage = ScoreStage(SiteConfig(), ModelSet.load(None))
    records = [b"".join(fleet.configs)]
    last: Second | None = None
    for number, second in enumerate(fleet.seconds(30 + frozen_s)):
        if 15 <= number < 15 + frozen_s and last is not None:
            for name in ("freq_hz", "rocof_hz_s", "voltage_pu", "angle_rad"):
                getattr(second, name)[:, 1] = getattr(last, name)[-1, 1]
        else:
            last = second
        records += [b"".join(frames) for frames in fleet.encode(second)]
    step = stage.step(stage.fresh(), [Record(TOPIC_FRAMES, 0, i, 0, b"a", r) for i, r in enumerate(records)])
    found = [msgspec.json.decode(o.value, type=Finding) for o in step.outputs if o.topic == TOPIC_FINDINGS]
    raised = {(f.family, f.rule, f.sources) for f in found if f.type == "raise"}
    assert not [r for r in raised if r[0] == "grid"], raised
    assert step.counts["frozen", "a"] == pytest.approx(frozen_s * RATE, abs=RATE)

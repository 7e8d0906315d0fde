"""Protects the whole path for bad data: frames in, a quality finding out that names the PMU, and nothing about the grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamproc.config import SiteConfig
from streamproc.core.messages import Finding
from streamproc.core.scoring import Plan
from streamproc.detectors.lone_jump import LoneJump
from streamproc.detectors.noise_rise import NoiseRise
from streamproc.detectors.spike import Spike
from streamproc.shell.models import ModelSet
from streamproc.simulate.fleet import Fleet, FleetSettings, Second
from streamproc.stages.score import ScoreStage
from streamproc.training.bundle import ModelSpec, write_bundle
from streamproc.values import TOPIC_FINDINGS, TOPIC_FRAMES, Record

RATE_HZ, N_PMU, BAD, START_S, STOP_S, END_S = 30, 6, 2, 20, 35, 45
ABSENT = 0x8000  # STAT: absent data tags inserted

Spoil = Callable[[Second, Second], None]  # this second, and the last one that was good


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelSet:
    """A site bundle with the quality detectors that need no training."""
    directory: Path = tmp_path_factory.mktemp("bundle")
    parts = tuple((detector, detector.generic(RATE_HZ)) for detector in (LoneJump(), Spike(), NoiseRise()))
    stations = Fleet(FleetSettings(n_pmu=N_PMU, rate_hz=RATE_HZ)).names
    spec = ModelSpec("area_0", Plan(RATE_HZ, parts), "a", stations, 60.0, np.full(N_PMU, np.nan))
    for name, content in write_bundle("site", [spec], {"command": "test"}).items():
        (directory / name).write_bytes(content)
    return ModelSet.load(directory)


def absent(now: Second, _: Second) -> None:
    now.stat[:, BAD] |= ABSENT


def stuck(now: Second, good: Second) -> None:
    for name in ("freq_hz", "rocof_hz_s", "voltage_pu", "angle_rad"):
        getattr(now, name)[:, BAD] = getattr(good, name)[-1, BAD]


def impossible(now: Second, _: Second) -> None:
    now.freq_hz[:, BAD] = 90.0


def not_a_number(now: Second, _: Second) -> None:
    now.freq_hz[:, BAD] = now.voltage_pu[:, BAD] = np.nan


def late_clock(now: Second, _: Second) -> None:
    now.angle_rad[:, BAD] += 2 * np.pi * 60 * 50e-6  # 50 us


def other_phase(now: Second, _: Second) -> None:
    now.angle_rad[:, BAD] -= 2 * np.pi / 3


def other_scale(now: Second, _: Second) -> None:
    now.voltage_pu[:, BAD] *= np.sqrt(3)


def one_value(now: Second, _: Second) -> None:
    now.voltage_pu[11, BAD] += 0.2


def trembling(now: Second, _: Second) -> None:
    now.voltage_pu[:, BAD] += np.random.default_rng(3).normal(0, 0.01, RATE_HZ)


def findings(models: ModelSet, spoil: Spoil) -> set[tuple[str, str, str]]:
    """Family, rule and PMU of every raise, with one PMU spoilt for a while."""
    fleet = Fleet(FleetSettings(n_pmu=N_PMU, rate_hz=RATE_HZ, seed=3))
    frames, good = [b"".join(fleet.configs)], None
    for number, second in enumerate(fleet.seconds(END_S)):
        if good is not None and START_S <= number < STOP_S:
            spoil(second, good)
        else:
            good = second
        frames += [b"".join(streams) for streams in zip(*fleet.encode(second), strict=True)]
    stage = ScoreStage(SiteConfig(), models)
    records = [Record(TOPIC_FRAMES, 0, offset, 0, b"a", frame) for offset, frame in enumerate(frames)]
    outputs = stage.step(stage.fresh(), records).outputs
    found = [msgspec.json.decode(o.value, type=Finding) for o in outputs if o.topic == TOPIC_FINDINGS]
    return {(f.family, f.rule, source) for f in found if f.type == "raise" for source in f.sources}


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (absent, {"data_missing", "data_bad"}),
        (stuck, {"data_frozen"}),
        (impossible, {"data_bad"}),
        (not_a_number, {"data_bad"}),
        (late_clock, {"clock_jump"}),
        (other_phase, {"phase_swapped"}),
        (other_scale, {"scale_jump", "scale_wrong"}),
        (one_value, {"data_spike"}),
        (trembling, {"noise_rise", "data_spike"}),
    ],
)
def test_a_fault_of_one_pmu_is_told_of_it_and_of_no_other(models, spoil, rules):
    found = findings(models, spoil)
    name = Fleet(FleetSettings(n_pmu=N_PMU)).names[BAD]
    assert found
    assert {rule for _, rule, _ in found} <= rules
    assert {(family, source) for family, _, source in found} == {("quality", name)}


def test_without_a_fault_nothing_is_told(models):
    assert findings(models, lambda now, good: None) == set()

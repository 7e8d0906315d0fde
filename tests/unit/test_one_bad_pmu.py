"""Protects the control room from one PMU that lies, at a calibrated site: no alert of the grid, and one about its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from streamproc.cli.evaluate import the_tools
from streamproc.config import SiteConfig
from streamproc.core.messages import Alert
from streamproc.evaluation.ambient import made_ambient
from streamproc.evaluation.corpus import Corpus
from streamproc.evaluation.noise import Signals
from streamproc.evaluation.run import alerts_of
from streamproc.evaluation.site import at_rest, calibrated

RATE_HZ, N_PMU, BAD, QUIET_S, SECONDS = 30, 6, 1, 15, 45
NOMINAL_HZ = 60.0

Lie: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.random.Generator], None]
"""Changes voltage pu, angle rad and frequency Hz of one PMU in place; then the seconds since it began, and chance."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Six PMUs at rest."""
    rng = np.random.default_rng(4)
    x = np.zeros((1, 60, N_PMU, 3), dtype=np.float32)
    x[..., 0], x[..., 1] = rng.uniform(0.97, 1.05, N_PMU), rng.uniform(-0.6, 0.6, N_PMU)
    x[..., 2] = NOMINAL_HZ
    stations = tuple(f"PMU {number}" for number in range(N_PMU))
    return Corpus("rest", "rest", "rest", stations, float(RATE_HZ), NOMINAL_HZ, x, (), "rest")


@pytest.fixture(scope="module")
def site(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle calibrated on ten quiet minutes."""
    room = tmp_path_factory.mktemp("site") / "bundle"
    made = made_ambient(float(RATE_HZ), 5)
    the_tools().write(calibrated(corpus, made, "T2", 1, the_tools(), SiteConfig()), room)
    return room


def alerts(corpus: Corpus, site: Path, lie: Lie, seed: int = 1) -> list[Alert]:
    """What the control room sees when a PMU begins to lie after fifteen quiet seconds."""
    ambient_hz = made_ambient(float(RATE_HZ), 5).stretches[0][: SECONDS * RATE_HZ]
    rest: Signals = at_rest(corpus, ambient_hz, "T2", np.random.default_rng(seed))
    voltage_pu, angle_rad, freq_hz = rest.voltage_pu.copy(), rest.angle_rad.copy(), rest.freq_hz.copy()
    begin = QUIET_S * RATE_HZ
    t_s = np.arange(voltage_pu.shape[0] - begin) / RATE_HZ
    lie(voltage_pu[begin:, BAD], angle_rad[begin:, BAD], freq_hz[begin:, BAD], t_s, np.random.default_rng(9))
    signals = replace(rest, voltage_pu=voltage_pu, angle_rad=angle_rad, freq_hz=freq_hz)
    return list(alerts_of(the_tools().make_path(SiteConfig(), site), corpus, signals))


def nothing(v, a, f, t, rng) -> None: ...


def stuck(v, a, f, t, rng) -> None:
    for values in (v, a, f):
        values[:] = values[0]


def noisy(v, a, f, t, rng) -> None:
    v += rng.normal(0, 0.01, v.size)
    f += rng.normal(0, 0.02, v.size)
    a += rng.normal(0, 0.02, v.size)


def scaled(v, a, f, t, rng) -> None:
    v *= 0.8


def scaled_a_little(v, a, f, t, rng) -> None:
    v *= 0.95


def other_phase(v, a, f, t, rng) -> None:
    a += 2 * np.pi / 3


def clock_jumped(v, a, f, t, rng) -> None:
    a += 2 * np.pi * NOMINAL_HZ * 1e-3


def clock_runs_away(v, a, f, t, rng) -> None:
    a += 2 * np.pi * NOMINAL_HZ * 10e-6 * t


def wrong_frequency(v, a, f, t, rng) -> None:
    f -= 1.0


def spikes(v, a, f, t, rng) -> None:
    for number, row in enumerate(range(0, v.size, 2 * RATE_HZ)):
        (v, a, f)[number % 3][row] += (0.2, 0.5, 0.5)[number % 3]


def dead(v, a, f, t, rng) -> None:
    v[:] = 0.0


def sinking(v, a, f, t, rng) -> None:
    v *= 1.0 - 0.2 * np.clip(t / 20.0, 0.0, 1.0)


def swinging(v, a, f, t, rng) -> None:
    f += 0.1 * np.clip(t / 10.0, 0.0, 1.0) * np.sin(np.pi * t)


LIES = (
    stuck,
    noisy,
    scaled,
    scaled_a_little,
    other_phase,
    clock_jumped,
    clock_runs_away,
    wrong_frequency,
    spikes,
    dead,
    sinking,
    swinging,
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_it_is_told_as_its_data_and_never_as_an_event(corpus, site, lie):
    found = alerts(corpus, site, lie)
    assert [(a.kind, a.rule, a.source) for a in found if a.family == "grid"] == []
    assert {source for a in found for source in a.sources} == {f"PMU {BAD}"}


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        (other_phase, "phase_swapped"),
        (clock_jumped, "clock_jump"),
        (scaled, "scale_wrong"),
        (spikes, "data_spike"),
    ],
)
def test_what_is_wrong_with_it_is_said_by_name(corpus, site, lie, kind):
    assert kind in {a.kind for a in alerts(corpus, site, lie)}


def test_without_a_lie_nothing_is_said(corpus, site):
    assert alerts(corpus, site, nothing) == []


def test_a_step_of_the_whole_area_is_an_event_on_its_first_frame(corpus, site):
    ambient_hz = made_ambient(float(RATE_HZ), 5).stretches[0][: SECONDS * RATE_HZ]
    rest = at_rest(corpus, ambient_hz, "T2", np.random.default_rng(1))
    voltage_pu, row = rest.voltage_pu.copy(), QUIET_S * RATE_HZ
    voltage_pu[row:] -= np.geomspace(0.1, 0.01, N_PMU)
    found = list(
        alerts_of(the_tools().make_path(SiteConfig(), site), corpus, replace(rest, voltage_pu=voltage_pu))
    )
    first = next(a for a in found if a.family == "grid")
    assert first.source == "PMU 0"
    assert not [a for a in found if a.family == "quality"]

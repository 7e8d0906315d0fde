"""Protects the stiffness of an area: megawatts over the settled change of frequency, only from events that tell it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import ONSET_S, ramp, steady, write_corpus

from streamproc.config import AreaTable, SiteConfig
from streamproc.errors import RecordingError
from streamproc.evaluation.beta import beta_of_others, fit_beta
from streamproc.evaluation.corpus import read_corpus
from streamproc.evaluation.frames import AREA
from streamproc.evaluation.run import with_beta

CHANGES_HZ = (-0.3, -0.2, -0.1, 0.2)
BETA = 2500.0


def corpus(path: Path, *, noise: float = 0.0, few: bool = False) -> Path:
    """Losses of a grid of 2500 MW per Hz, a line with a power that means nothing, and a loss that nobody measures."""
    rng = np.random.default_rng(1)
    chosen = CHANGES_HZ[:2] if few else CHANGES_HZ
    events = [
        {"k": "gen" if hz < 0 else "load", "t": ONSET_S, "dev": f"D{n}", "dv": 0.0, "df": abs(hz)}
        | {
            "mw": BETA * abs(hz) * (1.0 + noise * rng.normal()),
            "phys": "supply_lost" if hz < 0 else "load_lost",
        }
        for n, hz in enumerate(chosen)
    ]
    events.append(
        {"k": "line", "t": ONSET_S, "dev": "L", "dv": 0.1, "df": 0.0, "mw": 9e9, "phys": "topology"}
    )
    events.append(
        {"k": "gen", "t": ONSET_S, "dev": "G", "dv": 0.0, "df": 0.0, "mw": 5.0, "phys": "supply_lost"}
    )
    return write_corpus(path, np.stack([*(ramp(hz) for hz in chosen), steady(), steady()]), events)


def test_the_stiffness_is_power_over_the_settled_change(tmp_path):
    found = fit_beta([read_corpus(corpus(tmp_path / "a.npz"))])
    assert found.events == len(CHANGES_HZ)
    assert found.value == pytest.approx(BETA, rel=0.02)
    assert found.low <= found.value <= found.high
    noisy = fit_beta([read_corpus(corpus(tmp_path / "b.npz", noise=0.2))])
    assert noisy.high - noisy.low > 5 * (found.high - found.low)


def test_the_size_of_an_event_is_judged_with_what_others_told(tmp_path):
    made = read_corpus(corpus(tmp_path / "a.npz", noise=0.2))
    per_hz = np.array([event.mw for event in made.events[:4]]) / np.abs(CHANGES_HZ)
    assert beta_of_others(made) == {}  # two others each: too few
    twice = replace(made, x=np.concatenate([made.x] * 2), events=made.events * 2)
    told = beta_of_others(twice)
    for rest in (0, 1):
        assert told[rest] == pytest.approx(np.median(per_hz[np.arange(4) % 2 != rest]), rel=0.02)
    site = SiteConfig(area=(AreaTable(name=AREA, beta_mw_per_hz=7.0),))
    assert with_beta(site, 3.0) is site
    assert with_beta(SiteConfig(), 3.0).area[0].beta_mw_per_hz == 3.0


def test_too_few_events_are_an_error_that_says_what_is_needed(tmp_path):
    with pytest.raises(RecordingError, match="2 events can be used, 3 are needed"):
        fit_beta([read_corpus(corpus(tmp_path / "a.npz", few=True))])


def test_the_command_prints_the_line_of_the_site_file(tmp_path):
    words = [sys.executable, "-m", "streamproc", "train", "beta", str(corpus(tmp_path / "a.npz"))]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.startswith("beta_mw_per_hz = 25")
    assert (
        json.loads(subprocess.run([*words, "--json"], capture_output=True, text=True, check=True).stdout)[
            "events"
        ]
        == 4
    )

"""The detectors, written out by hand: no scanning, no import side effects.

To add one: write one file of the shape of `rocof.py` (an essay, a frozen dataclass with `rows`, `generic`,
`fit`, `calibrated`, `build`, `rules`) and add its line below. The conformance tests, training, the bundles
and the site file (`[detector.RULE]`) pick it up from this list.
"""

from __future__ import annotations

from typing import Protocol

from streamproc.core.detector import History, Params, Rule, Windows
from streamproc.core.graph import Ops, T
from streamproc.detectors.ar_residual import ArResidual
from streamproc.detectors.band_energy import BandEnergy
from streamproc.detectors.clock_drift import ClockDrift
from streamproc.detectors.frequency_limit import FrequencyLimit
from streamproc.detectors.lone_jump import LoneJump
from streamproc.detectors.low_rank import LowRank
from streamproc.detectors.mean_step import MeanStep
from streamproc.detectors.neighbours import Neighbours
from streamproc.detectors.noise_rise import NoiseRise
from streamproc.detectors.rocof import Rocof
from streamproc.detectors.spike import Spike
from streamproc.detectors.step_bank import StepBank
from streamproc.detectors.voltage_limit import VoltageLimit
from streamproc.values import F64


class Detector(Protocol):
    """One file of this folder: settings as fields, and how they become a score."""

    @property
    def name(self) -> str:
        """Return the name of the detector, unique in the list."""

    @property
    def every_s(self) -> float:
        """Return how often the score is wanted, s; 0: at every instant."""

    def rows(self, rate_hz: float, /) -> tuple[int, int]:
        """Return how many fast and slow rows the score looks at."""

    def generic(self, rate_hz: float, /) -> Params | None:
        """Return parameters that need no training, or None if there are none."""

    def fit(self, history: History, /) -> Params | None:
        """Return parameters from event-free data; learnt limits are still 1 (and usual levels 0).

        None: the detector has nothing to learn at a site, and another one does its work better there.
        """

    def calibrated(self, params: Params, levels: F64, /) -> Params:
        """Return the parameters with limits learnt from the calibration's levels (n_tick, n_rule, n_pmu)."""

    def build(self, ops: Ops[T], windows: Windows[T], params: Params, /) -> T:
        """Return the scores (n_rule, n_pmu)."""

    def rules(self, params: Params, rate_hz: float, /) -> tuple[Rule, ...]:
        """Return the rule of each row."""


DETECTORS: tuple[Detector, ...] = (
    FrequencyLimit(),
    VoltageLimit(),
    Rocof(),
    ArResidual(),
    LowRank(),
    StepBank(),
    MeanStep(),
    BandEnergy(),
    Spike(),
    LoneJump(),
    NoiseRise(),
    ClockDrift(),
    Neighbours(),
)

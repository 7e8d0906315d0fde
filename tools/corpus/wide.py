"""Disturbances of all sizes at any level of load, none twice: the mix that new corpora are made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tools.corpus.cuts import draw_cut
from tools.corpus.network import Network

SHARES: Mapping[str, float] = {"line": 0.26, "gen": 0.21, "load": 0.21, "fault": 0.26, "island": 0.06}
ONSET_S = 4.0  # of steady state before; then a random fraction of a second
LEVEL = (0.85, 1.05)  # of the load and of what the machines give, against the case
SAME_MAX = 2  # events of one kind at one device, each at a level and of a size of its own
SMALL_SHARE = 0.002  # of the case's load: a smaller machine or load is not drawn
LOST_SHARE = 0.2  # of the load steps are the whole load
STEP = (0.05, 0.5)  # part of a load
FAULT_S = (0.03, 0.15)
FAULT_REACTANCE_PU = (1e-4, 0.3)
LINES_MAX = 10  # that trip at once when an area separates
OSCILLATION_HZ = (0.15, 2.5)
AMPLITUDES: Mapping[str, tuple[float, float]] = {
    "load": (0.05, 0.4),  # part of the load
    "governor": (0.01, 0.1),  # pu of the machine
    "exciter": (0.005, 0.03),  # pu of the voltage
}


class Wide:
    """Draws one event after the other for one case."""

    def __init__(self, devices: Mapping[str, Any], network: Network, kinds: tuple[str, ...]) -> None:
        self.devices, self.network = devices, network
        shares = np.array([SHARES.get(kind, 1.0) for kind in kinds])
        self.kinds, self.shares = kinds, shares / shares.sum()
        self.seen: dict[tuple[str, str], int] = {}

    def draw(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """Return an event, None if the one drawn does not exist in this network or was often enough."""
        kind = str(rng.choice(self.kinds, p=self.shares))
        event: dict[str, Any] = {
            "k": kind,
            "t": round(ONSET_S + float(rng.random()), 4),
            "level": round(float(rng.uniform(*LEVEL)), 4),
        }
        what = getattr(self, f"_{kind}")(rng)
        return None if what is None else {**event, **what}

    def taken(self, event: Mapping[str, Any]) -> bool:
        """Return whether there are events enough of this kind at this device."""
        return self.seen.get(_device(event), 0) >= SAME_MAX

    def take(self, event: Mapping[str, Any]) -> None:
        """Remember an event that is in the corpus."""
        self.seen[_device(event)] = self.seen.get(_device(event), 0) + 1

    def _line(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"dev": _one(self.devices["lines"], rng)}

    def _gen(self, rng: np.random.Generator) -> dict[str, Any] | None:
        model, dev = _one(self.devices["machines"], rng)
        power = self.network.supply_pu.get(str(dev), 0.0)
        return {"model": model, "dev": dev} if power >= self._small_pu() else None

    def _load(self, rng: np.random.Generator) -> dict[str, Any] | None:
        dev, bus, power = _one(self.devices["loads"], rng)
        if abs(power) < self._small_pu():
            return None
        size = 1.0 if rng.random() < LOST_SHARE else _log_uniform(STEP, rng)
        sign = -1.0 if size == 1.0 or rng.random() < 0.5 else 1.0
        return {"dev": dev, "bus": bus, "m": round(sign * size, 4)}

    def _fault(self, rng: np.random.Generator) -> dict[str, Any]:
        return {
            "bus": _one(self.devices["buses"], rng),
            "d": round(float(rng.uniform(*FAULT_S)), 4),
            "xf": round(_log_uniform(FAULT_REACTANCE_PU, rng), 6),
        }

    def _island(self, rng: np.random.Generator) -> dict[str, Any] | None:
        cut = draw_cut(self.network, rng, LINES_MAX)
        names = {str(line): line for line in self.devices["lines"]}
        return {"devs": [names[name] for name in cut], "dev": names[cut[0]]} if cut else None

    def _osc(self, rng: np.random.Generator) -> dict[str, Any] | None:
        drive = str(rng.choice(tuple(AMPLITUDES)))
        if drive == "load":
            dev, bus, power = _one(self.devices["loads"], rng)
            if abs(power) < self._small_pu():
                return None
            model = "PQ"
        elif not self.devices[drive]:
            return None
        else:
            model, dev, bus = _one(self.devices[drive], rng)
        return {
            "drive": drive,
            "model": model,
            "dev": dev,
            "bus": bus,
            "f_osc": round(_log_uniform(OSCILLATION_HZ, rng), 4),
            "amp": round(_log_uniform(AMPLITUDES[drive], rng), 5),
            "amp_unit": "part of the load" if drive == "load" else "pu",
        }

    def _small_pu(self) -> float:
        return SMALL_SHARE * sum(self.network.load_pu.values())


def _device(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["k"], str(event.get("devs", event.get("dev", event.get("bus"))))


def _one(of: Any, rng: np.random.Generator) -> Any:  # noqa: ANN401
    return of[int(rng.integers(len(of)))]


def _log_uniform(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))

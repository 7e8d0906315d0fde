"""One disturbance in ANDES: load the case, switch off its own disturbances, add ours, run, resample.

Traps (ANDES 2.0.0): shipped cases carry disturbances of their own; the stop criteria end unstable runs early; fixed steps
of 1/30 s do not converge; a step of a load needs constant power; frequency comes from BusFreq, not from rotor speeds. PMU
filters are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.corpus.network import F64, Network

CASES = {
    "ieee39": "ieee39/ieee39_full.xlsx",
    "npcc": "npcc/npcc.xlsx",
    "kundur": "kundur/kundur_full.xlsx",
    "wecc": "wecc/wecc_full.xlsx",
}
STEP_S = 1.0 / 60.0
NEVER_S = 1e6
MACHINES = ("GENROU", "GENCLS")


@dataclass(frozen=True, slots=True)
class Run:
    """What is simulated: the case and where its PMUs stand."""

    case: str
    pmu_bus: tuple[Any, ...]
    fps: float
    nominal_hz: float
    length_s: float


def load_case(case: str) -> Any:  # noqa: ANN401 - ANDES has no types
    """Return the case, not yet set up."""
    import andes  # noqa: PLC0415 - only here: GPL-3.0

    andes.config_logger(40)
    return andes.load(andes.get_case(CASES[case]), setup=False, no_output=True, default_config=True)


def network_of(system: Any) -> Network:  # noqa: ANN401
    """Return the graph of a case."""
    line = system.Line
    rows = zip(line.idx.v, line.bus1.v, line.bus2.v, line.r.v, line.x.v, strict=True)
    machines: dict[str, str] = {}
    for name in MACHINES:
        model = getattr(system, name)
        machines |= {str(i): str(bus) for i, bus in zip(model.idx.v, model.bus.v, strict=True)}
    load_pu: dict[str, float] = {}
    for bus, power in zip(system.PQ.bus.v, system.PQ.p0.v, strict=True):
        load_pu[str(bus)] = load_pu.get(str(bus), 0.0) + float(power)
    branches = {str(i): (str(a), str(b), complex(r, x)) for i, a, b, r, x in rows}
    return Network(tuple(str(bus) for bus in system.Bus.idx.v), branches, machines, load_pu)


def simulated(run: Run, event: Mapping[str, Any]) -> F64 | None:
    """Return (frame, pmu, 3): voltage pu, angle rad, frequency Hz; None if the run does not reach its end."""
    system = load_case(run.case)
    _quieten(system)
    for bus in run.pmu_bus:
        system.add("BusFreq", {"idx": f"BF_{bus}", "bus": bus, "Tf": 0.02, "Tw": 0.02, "fn": run.nominal_hz})
    _disturb(system, event)
    system.config.freq = run.nominal_hz
    system.setup()
    if event["k"] == "load":  # only as constant power can it step; as impedance more runs come to their end
        load = system.PQ.config
        load.p2p, load.p2z, load.q2q, load.q2z = 1, 0, 1, 0
    if not system.PFlow.run():
        return None
    time = system.TDS.config
    time.fixt, time.tstep, time.tf, time.criteria, time.no_tqdm = 1, STEP_S, run.length_s, 0, 1
    system.TDS.init()
    system.TDS.run()
    return _sampled(system, run)


def _quieten(system: Any) -> None:  # noqa: ANN401
    """Switch off the disturbances that the case brings."""
    for place in range(system.Toggle.n):
        system.Toggle.u.v[place], system.Toggle.t.v[place] = 0, NEVER_S
    for place in range(system.Fault.n):
        system.Fault.u.v[place], system.Fault.tf.v[place], system.Fault.tc.v[place] = (
            0,
            NEVER_S,
            NEVER_S + 0.1,
        )


def _disturb(system: Any, event: Mapping[str, Any]) -> None:  # noqa: ANN401
    at = event["t"]
    if event["k"] == "fault":
        clear = at + event["d"]
        system.add("Fault", {"bus": event["bus"], "tf": at, "tc": clear, "xf": event["xf"], "rf": 0})
    elif event["k"] == "load":
        change = {"model": "PQ", "dev": event["dev"], "src": "Ppf", "attr": "v", "method": "*"}
        system.add("Alter", {**change, "amount": 1 + event["m"], "t": at})
    else:
        model = event.get("model", "Line")
        for device in event.get("devs", [event["dev"]]):
            system.add("Toggle", {"model": model, "dev": device, "t": at})


def _sampled(system: Any, run: Run) -> F64 | None:  # noqa: ANN401
    t_s = np.array(system.dae.ts.t)
    if t_s[-1] < run.length_s - 0.1:
        return None
    buses, meters = list(system.Bus.idx.v), list(system.BusFreq.bus.v)
    places = [buses.index(bus) for bus in run.pmu_bus]
    values = system.dae.ts.y
    columns = (
        np.array(values[:, [system.Bus.v.a[i] for i in places]]),
        np.array(values[:, [system.Bus.a.a[i] for i in places]]),
        np.array(values[:, [system.BusFreq.f.a[meters.index(bus)] for bus in run.pmu_bus]]) * run.nominal_hz,
    )
    frames_s = np.arange(int(run.length_s * run.fps)) / run.fps
    return np.stack([_resampled(frames_s, t_s, column) for column in columns], axis=2)


def _resampled(frames_s: F64, t_s: F64, column: F64) -> F64:
    return np.stack([np.interp(frames_s, t_s, pmu) for pmu in column.T], axis=1)


def pmu_buses(buses: Sequence[Any], count: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Return the buses with a PMU, in the order of the network."""
    return tuple(buses[i] for i in sorted(rng.choice(len(buses), count, replace=False)))

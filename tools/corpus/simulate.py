"""One disturbance in ANDES: load the case, switch off its own disturbances, add ours, run, resample.

An event with a `level` (`tools.corpus.wide`) is run at that part of the case's load, and every load is an impedance
whatever the event: a step then changes the impedance, active and reactive. One without is of the first mix: a step of a
load makes all loads constant powers.

Traps (ANDES 2.0.0): shipped cases carry disturbances of their own; the stop criteria end unstable runs early; fixed steps
of 1/30 s do not converge; a step of a load needs constant power; frequency comes from BusFreq, not from rotor speeds. PMU
filters are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.corpus.checks import sees_dark
from tools.corpus.network import F64, Network

CASES = {
    "ieee39": "ieee39/ieee39_full.xlsx",
    "npcc": "npcc/npcc.xlsx",
    "kundur": "kundur/kundur_full.xlsx",
    "wecc": "wecc/wecc_full.xlsx",
    "ieee14": "ieee14/ieee14_full.xlsx",
}
STEP_S = 1.0 / 60.0
NEVER_S = 1e6
MACHINES = ("GENROU", "GENCLS")
SETPOINTS = {"governor": ("TurbineGov", "paux0"), "exciter": ("Exciter", "vref0")}  # group, what is modulated
IMPEDANCE = ("Req", "Xeq")  # of a load, or rather its admittance: power is Req v^2


class DroppedError(Exception):
    """A run that is no event; the text says why."""


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
    """Return the graph of a case; what the machines give is known once the power flow is solved."""
    line = system.Line
    rows = zip(line.idx.v, line.bus1.v, line.bus2.v, line.r.v, line.x.v, strict=True)
    machines = {str(i): str(bus) for _, i, bus, _, _ in _machines(system)}
    load_pu: dict[str, float] = {}
    for bus, power in zip(system.PQ.bus.v, system.PQ.p0.v, strict=True):
        load_pu[str(bus)] = load_pu.get(str(bus), 0.0) + float(power)
    branches = {str(i): (str(a), str(b), complex(r, x)) for i, a, b, r, x in rows}
    buses = tuple(str(bus) for bus in system.Bus.idx.v)
    return Network(buses, branches, machines, load_pu, _supply_pu(system) if system.PFlow.converged else {})


def _machines(system: Any) -> list[tuple[str, Any, Any, Any, float]]:  # noqa: ANN401
    """Return (model, name, bus, its generator in the power flow, its share of that) of every machine."""
    found: list[tuple[str, Any, Any, Any, float]] = []
    for name in MACHINES:
        of = getattr(system, name)
        rows = zip(of.idx.v, of.bus.v, of.gen.v, of.gammap.v, strict=True)
        found += [(name, i, bus, gen, float(share)) for i, bus, gen, share in rows]
    return found


def _supply_pu(system: Any) -> dict[str, float]:  # noqa: ANN401
    solved: dict[Any, float] = {}
    for model in (system.PV, system.Slack):
        solved |= dict(zip(model.idx.v, map(float, model.p.v), strict=True))
    return {str(i): share * solved[gen] for _, i, _, gen, share in _machines(system)}


def solved_case(case: str) -> tuple[Network, dict[str, Any], float]:
    """Return a case at its own level as network, the devices that events are drawn from, and its base in MVA."""
    system = load_case(case)
    system.setup()
    system.PFlow.run()
    places = {i: bus for _, i, bus, _, _ in _machines(system)}
    devices: dict[str, Any] = {
        "buses": list(system.Bus.idx.v),
        "lines": list(system.Line.idx.v),
        "loads": list(zip(system.PQ.idx.v, system.PQ.bus.v, map(float, system.PQ.p0.v), strict=True)),
        "machines": [(model, i) for model, i, *_ in _machines(system)],
    }
    for drive, (group, _) in SETPOINTS.items():
        models = [model for model in system.groups[group].models.values() if model.n]
        devices[drive] = [
            (model.class_name, i, places[machine])
            for model in models
            for i, machine in zip(model.idx.v, model.syn.v, strict=True)
        ]
    return network_of(system), devices, float(system.config.mva)


def simulated(run: Run, event: dict[str, Any]) -> tuple[F64, Network]:
    """Return (frame, pmu, 3): voltage pu, angle rad, frequency Hz, and the network as it was; raises DroppedError."""
    system = load_case(run.case)
    _quieten(system)
    if "level" in event:
        _scale(system, event["level"])
    for bus in run.pmu_bus:
        system.add("BusFreq", {"idx": _meter(bus), "bus": bus, "Tf": 0.02, "Tw": 0.02, "fn": run.nominal_hz})
    _disturb(system, event)
    system.config.freq = run.nominal_hz
    system.setup()
    if event["k"] == "load" and "level" not in event:  # only as constant power can Ppf step
        load = system.PQ.config
        load.p2p, load.p2z, load.q2q, load.q2z = 1, 0, 1, 0
    if not system.PFlow.run():
        raise DroppedError("power flow")
    network = network_of(system)
    if "level" in event and sees_dark(network, event, run.pmu_bus):
        raise DroppedError("PMU in the dark")
    if event["k"] == "load":
        event["p"] = float(system.PQ.get(src="p0", idx=event["dev"], attr="v"))
    time = system.TDS.config
    time.fixt, time.tstep, time.tf, time.criteria, time.no_tqdm = 1, STEP_S, run.length_s, 0, 1
    system.TDS.init()
    if event["k"] == "osc":
        system.TDS.callpert = _oscillation(system, event)
    system.TDS.run()
    return _sampled(system, run), network


def _meter(bus: Any) -> str:  # noqa: ANN401
    """Return the name of our frequency meter: a case may bring its own, for its own nominal frequency."""
    return f"corpus_{bus}"


def _scale(system: Any, level: float) -> None:  # noqa: ANN401
    """Put loads and machines at a part of what the case gives."""
    for model, fields in ((system.PQ, ("p0", "q0")), (system.PV, ("p0",)), (system.Slack, ("p0",))):
        for name in fields:
            values = getattr(model, name).v
            for place in range(model.n):
                values[place] = values[place] * level


def _oscillation(system: Any, event: Mapping[str, Any]) -> Callable[[float, Any], None]:  # noqa: ANN401
    """Return what ANDES calls before each step: it moves a load or a set point as a sine from the onset on."""
    model = getattr(system, event["model"])
    at = list(model.idx.v).index(event["dev"])
    names = IMPEDANCE if event["drive"] == "load" else (SETPOINTS[event["drive"]][1],)
    fields = [getattr(model, name).v for name in names]
    quiet = [float(field[at]) for field in fields]
    turn = 2.0 * np.pi * event["f_osc"]

    def move(t_s: float, _: Any) -> None:  # noqa: ANN401
        wave = event["amp"] * float(np.sin(turn * max(0.0, float(t_s) - event["t"])))
        for field, value in zip(fields, quiet, strict=True):
            field[at] = value * (1.0 + wave) if event["drive"] == "load" else value + wave

    return move


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
        change = {
            "model": "PQ",
            "dev": event["dev"],
            "attr": "v",
            "method": "*",
            "amount": 1 + event["m"],
            "t": at,
        }
        for field in IMPEDANCE if "level" in event else ("Ppf",):
            system.add("Alter", {**change, "src": field})
    elif event["k"] != "osc":
        model = event.get("model", "Line")
        for device in event.get("devs", [event["dev"]]):
            system.add("Toggle", {"model": model, "dev": device, "t": at})


def _sampled(system: Any, run: Run) -> F64:  # noqa: ANN401
    t_s = np.array(system.dae.ts.t)
    if t_s.size == 0 or t_s[-1] < run.length_s - 0.1:
        raise DroppedError("does not reach its end")
    buses, meters = list(system.Bus.idx.v), list(system.BusFreq.idx.v)
    places = [buses.index(bus) for bus in run.pmu_bus]
    values = system.dae.ts.y
    columns = (
        np.array(values[:, [system.Bus.v.a[i] for i in places]]),
        np.array(values[:, [system.Bus.a.a[i] for i in places]]),
        np.array(values[:, [system.BusFreq.f.a[meters.index(_meter(bus))] for bus in run.pmu_bus]])
        * run.nominal_hz,
    )
    frames_s = np.arange(int(run.length_s * run.fps)) / run.fps
    return np.stack([_resampled(frames_s, t_s, column) for column in columns], axis=2)


def _resampled(frames_s: F64, t_s: F64, column: F64) -> F64:
    return np.stack([np.interp(frames_s, t_s, pmu) for pmu in column.T], axis=1)


def pmu_buses(buses: Sequence[Any], count: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Return the buses with a PMU, in the order of the network."""
    return tuple(buses[i] for i in sorted(rng.choice(len(buses), count, replace=False)))

"""`python -m tools.corpus --case npcc --events 48 --pmus 24 --fps 30 --seed 1 --out npcc24_30.npz`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tools.corpus.draw import draw
from tools.corpus.network import F64, Network, described, nearest
from tools.corpus.simulate import CASES, Run, load_case, network_of, pmu_buses, simulated
from tools.corpus.store import changes, rounded, save, turning_point

TRIES = 2.2  # draws per event wanted: what does not converge is dropped and counted
DEVIATION_MAX_HZ = 3.0  # beyond it the network has collapsed


def main() -> None:
    """Make one corpus."""
    parser = argparse.ArgumentParser(prog="tools.corpus", description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), required=True)
    parser.add_argument("--events", type=int, default=48)
    parser.add_argument("--pmus", type=int, default=12)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--nominal-hz", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    system = load_case(args.case)
    run = Run(
        args.case,
        pmu_buses(list(system.Bus.idx.v), args.pmus, rng),
        args.fps,
        args.nominal_hz,
        args.seconds,
    )
    traces, events, dropped = collect(system, run, args.events, rng)
    network = network_of(system)
    place = {bus: row for row, bus in enumerate(network.buses)}
    pmus = [place[str(bus)] for bus in run.pmu_bus]
    distance_pu = network.distance_pu()
    for event in events:
        add_truth(event, network, distance_pu, pmus)
    meta = {
        "case": run.case,
        "pmu_bus": [str(bus) for bus in run.pmu_bus],
        "fps": run.fps,
        "nominal_hz": run.nominal_hz,
        "seed": args.seed,
        "tool": "ANDES 2.0.0",
        "dropped": dropped,
        "zth": rounded(distance_pu[np.ix_(pmus, pmus)], 1e-6).tolist(),
        "events": events,
    }
    save(args.out, np.array(traces), json.dumps(meta, default=str))
    print(f"{args.out}: {len(events)} events, {dropped} runs dropped")  # noqa: T201


def collect(
    system: Any,  # noqa: ANN401
    run: Run,
    wanted: int,
    rng: np.random.Generator,
) -> tuple[list[F64], list[dict[str, Any]], int]:
    """Return the traces and events of the runs that came to their end, and how many did not."""
    traces: list[F64] = []
    events: list[dict[str, Any]] = []
    dropped = 0
    for _ in range(int(TRIES * wanted)):
        if len(traces) >= wanted:
            break
        event = draw(system, run.case, rng)
        if event is None:
            continue
        trace = simulated(run, event)
        if (
            trace is None
            or not np.isfinite(trace).all()
            or np.abs(trace[:, :, 2] - run.nominal_hz).max() > DEVIATION_MAX_HZ
        ):
            dropped += 1
            continue
        event["dv"], event["df"] = changes(trace, event["t"], run.fps)
        event["nadir_hz"], event["nadir_s"] = turning_point(trace, event["t"], run.fps, run.nominal_hz)
        traces.append(trace)
        events.append(event)
        print(f"{len(events)} of {wanted}: {event}", flush=True)  # noqa: T201
    return traces, events, dropped


def add_truth(event: dict[str, Any], network: Network, distance_pu: F64, pmus: list[int]) -> None:
    """Put into the event what it is and where."""
    place = {bus: row for row, bus in enumerate(network.buses)}
    event["phys"], event["finer"], where = described(network, event)
    event["near"] = nearest(distance_pu, [place[bus] for bus in where], pmus)


if __name__ == "__main__":
    main()

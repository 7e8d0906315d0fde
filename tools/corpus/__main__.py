"""`python -m tools.corpus make --case npcc --events 48 --pmus 24 --fps 30 --seed 1 --mix wide --out npcc24_30.npz`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tools.corpus.collect import collect, write
from tools.corpus.draw import KINDS, Plain
from tools.corpus.simulate import CASES, Run, load_case, pmu_buses, solved_case
from tools.corpus.siting import spread
from tools.corpus.wide import SHARES, Wide


def main() -> None:
    """Make one corpus."""
    args = arguments().parse_args()
    rng = np.random.default_rng(args.seed)
    network, devices, mva = solved_case(args.case)
    buses = devices["buses"]
    began = time.monotonic()
    if args.mix == "wide":
        sites = tuple(buses[place] for place in spread(network, args.pmus, rng))
        mix: Plain | Wide = Wide(devices, network, tuple(args.kinds))
    else:
        sites = pmu_buses(buses, args.pmus, rng)
        mix = Plain(load_case(args.case), args.case)
    run = Run(args.case, sites, args.fps, args.nominal_hz, args.seconds)
    found = collect(run, mix, mva, args.events, rng)
    write(args.out, run, found, network, args.seed, mva)
    took_s = time.monotonic() - began
    print(  # noqa: T201
        f"{args.out}: {len(found.events)} events, {found.dropped.total()} runs dropped {dict(found.dropped)}, {took_s:.0f} s"
    )


def arguments() -> argparse.ArgumentParser:
    """Return what the command takes."""
    parser = argparse.ArgumentParser(prog="tools.corpus", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["make"], default="make")
    parser.add_argument("--case", choices=sorted(CASES), required=True)
    parser.add_argument("--events", type=int, default=48)
    parser.add_argument("--pmus", type=int, default=12)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--nominal-hz", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--mix", choices=["plain", "wide"], default="plain")
    parser.add_argument(
        "--kinds", nargs="+", choices=[*KINDS, "osc"], default=list(SHARES), help="of the wide mix"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()

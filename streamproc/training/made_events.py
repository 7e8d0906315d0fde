"""Disturbances of made grids (`training.made_grid`), simulated: machines that swing against each other behind one network.

All events of a grid run side by side. In every step the network is solved for the voltages that rotors and loads of constant
power give, then the rotors move. A fault is an admittance to ground for a while; a machine, a load or a line that trips
changes the network for good. What a PMU reports as frequency is the speed of its voltage's angle, smoothed over a few
hundredths of a second. Runs that fall apart are left out: they teach nothing about a grid that holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamproc.core.disturbance import Kind
from streamproc.training.event_samples import SEEN_HZ, SEEN_PU, Labelled, seed_of
from streamproc.training.made_grid import Grid, grid_of
from streamproc.values import C128, F64, I64, Bool

STEP_HZ = 120.0
RATE_HZ = 30.0
BEFORE_S, RUN_S = 0.6, 12.0
EVENTS = 16  # of a grid
PMUS = (3, 24)
LEAVES_PU = 0.7  # below this voltage a load of constant power becomes an impedance
SOLVES = 3  # of the network in a step
APART_RAD, APART_HZ = 3.0, 2.5  # further, a run has fallen apart
HUNTS, HUNTS_HZ = 0.15, 0.002  # sd of the common frequency in the end, by which governors hunt


@dataclass(frozen=True, slots=True)
class Change:
    """What happens in one run."""

    kind: Kind
    finer: str
    device: str
    buses: tuple[int, ...]  # where
    network: C128  # (n_bus, n_bus) impedance afterwards, machines and loads of constant impedance included
    during: C128  # and until `clear`
    clear: int  # steps after the onset
    running: F64  # (n_gen,) share of each machine that is left
    load: C128  # (n_bus,) of constant power, afterwards


def made_events(count: int, seed: int) -> Iterator[Labelled]:
    """Yield the events of so many grids."""
    for number in range(count):
        rng = np.random.default_rng(seed_of(seed, "grid", number))
        grid = grid_of(rng)
        changes = [change for change in (_change(grid, rng) for _ in range(EVENTS)) if change is not None]
        if changes:
            yield from _labelled(grid, changes, number, rng)


def _impedance(
    grid: Grid, lines: C128, running: F64, load: C128, fault: tuple[int, complex] | None = None
) -> C128:
    matrix = lines.copy()
    machines = grid.machines
    np.add.at(matrix, (machines.bus, machines.bus), machines.admittance * running)
    np.einsum("ii->i", matrix)[:] += np.conj(load * (1.0 - grid.constant)) / np.abs(grid.voltage) ** 2
    if fault is not None:
        matrix[fault[0], fault[0]] += fault[1]
    return np.asarray(np.linalg.inv(matrix), dtype=np.complex128)


def _change(grid: Grid, rng: np.random.Generator) -> Change | None:
    what = rng.choice(["fault", "machine", "load", "line"], p=[0.22, 0.24, 0.24, 0.3])
    running, load = np.ones(grid.machines.bus.size), grid.load.copy()
    lines = grid.admittance()
    if what == "machine":
        which = int(rng.integers(running.size))
        running[which] = float(rng.choice([0.0, rng.uniform(0.2, 0.8)]))
        after = _impedance(grid, lines, running, load)
        place = (int(grid.machines.bus[which]),)
        return Change("supply_lost", "generator", f"g{which}", place, after, after, 0, running, load)
    if what == "load":
        return _load_change(grid, lines, running, load, rng)
    if what == "line":
        return _line_trip(grid, running, load, rng)
    bus = int(rng.integers(grid.n_bus))
    strength = 1.0 / np.abs(np.diag(_impedance(grid, lines, running, load))[bus])
    shunt = -1j * strength * float(np.exp(rng.uniform(np.log(0.08), np.log(20.0))))
    during = _impedance(grid, lines, running, load, (bus, shunt))
    trips = int(np.flatnonzero((grid.ends == bus).any(axis=1))[0]) if rng.random() < 0.25 else -1
    if trips >= 0 and np.unique(grid.parts(trips)).size > 1:
        trips = -1
    after = _impedance(grid, grid.admittance(trips), running, load)
    clear = int(rng.integers(round(0.05 * STEP_HZ), round(0.2 * STEP_HZ)))
    return Change("fault", "", f"b{bus}", (bus,), after, during, clear, running, load)


def _load_change(
    grid: Grid, lines: C128, running: F64, load: C128, rng: np.random.Generator
) -> Change | None:
    served = np.flatnonzero(load.real > 0.05)
    if not served.size:
        return None
    bus = int(rng.choice(served))
    part = float(rng.choice([-1.0, -rng.uniform(0.2, 1.0), rng.uniform(0.2, 0.8)]))
    load[bus] *= 1.0 + part
    after = _impedance(grid, lines, running, load)
    kind: Kind = "supply_lost" if part > 0.0 else "load_lost"
    finer = "load_rise" if part > 0.0 else "load"
    return Change(kind, finer, f"l{bus}", (bus,), after, after, 0, running, load)


def _line_trip(grid: Grid, running: F64, load: C128, rng: np.random.Generator) -> Change | None:
    """Return a line's trip; what it cuts off without machines or without loads is lost, other parts are not made."""
    which = int(rng.integers(grid.line.size))
    label = grid.parts(which)
    names, counts = np.unique(label, return_counts=True)
    kind: Kind = "topology"
    lines = grid.admittance(which)
    if names.size > 1:
        cut: Bool = label == names[np.argmin(counts)]
        machines: Bool = cut[grid.machines.bus]
        if machines.any() and (load[cut].real > 0.05).any():
            return None
        kind = "supply_lost" if machines.any() else "load_lost"
        running[machines] = 0.0
        load[cut] = 0.0
        lines[cut, cut] += 1e-3  # what is dead keeps a voltage of 0
    after = _impedance(grid, lines, running, load)
    place = (int(grid.ends[which, 0]), int(grid.ends[which, 1]))
    return Change(kind, "line", f"a{which}", place, after, after, 0, running, load)


def _labelled(grid: Grid, changes: list[Change], number: int, rng: np.random.Generator) -> Iterator[Labelled]:
    starts = rng.integers(round(BEFORE_S * STEP_HZ), round((BEFORE_S + 0.2) * STEP_HZ), len(changes))
    x = simulate(grid, changes, starts, rng)
    distance = grid.distances()
    for place, (change, start) in enumerate(zip(changes, starts.tolist(), strict=True)):
        onset = int(np.ceil(start * RATE_HZ / STEP_HZ - 1e-9))
        alive = np.flatnonzero((x[place, -1, :, 0] > 0.3) & np.isfinite(x[place]).all(axis=(0, 2)))
        count = int(np.clip(np.exp(rng.uniform(*np.log(PMUS))), 1, alive.size)) if alive.size else 0
        chosen = rng.permutation(alive)[:count]
        seen = x[place][:, chosen]
        if count < 2 or _fell_apart(seen, grid.nominal_hz) or not _visible(seen, onset):
            continue
        near = np.argsort(distance[list(change.buses)][:, chosen].min(axis=0), kind="stable")
        yield Labelled(
            corpus=f"made_{number}",
            number=place,
            network="made",
            device=f"{number} {change.device}",
            x=seen,
            rate_hz=RATE_HZ,
            nominal_hz=grid.nominal_hz,
            onset=onset,
            kind=change.kind,
            finer=change.finer,
            near=tuple(near.tolist()),
        )


def _fell_apart(x: F64, nominal_hz: float) -> bool:
    angle = np.unwrap(x[:, :, 1], axis=0)
    apart = angle - np.median(angle, axis=1, keepdims=True)
    off_hz = np.abs(np.median(x[:, :, 2], axis=1) - nominal_hz)
    common = np.median(x[:, :, 2], axis=1) - nominal_hz
    hunts = np.std(common[-round(3.0 * RATE_HZ) :]) > HUNTS * np.abs(common).max() + HUNTS_HZ
    runs = np.abs(apart - apart[0]).max() > APART_RAD or off_hz.max() > APART_HZ
    return bool(runs or hunts or x[-1, :, 0].min() < 0.6)


def _visible(x: F64, onset: int) -> bool:
    moved = np.abs(x[onset : onset + round(5.0 * RATE_HZ)] - x[onset - 2]).max(axis=(0, 1))
    return bool(moved[0] >= SEEN_PU or moved[2] >= SEEN_HZ)


def simulate(grid: Grid, changes: list[Change], starts: I64, rng: np.random.Generator) -> F64:
    """Return (n_run, n_frame, n_bus, 3): voltage pu, angle rad, frequency Hz."""
    machines, n_run, n_bus = grid.machines, len(changes), grid.n_bus
    rest = _impedance(grid, grid.admittance(), np.ones(machines.bus.size), grid.load)
    network = np.repeat(rest[None], n_run, axis=0)
    running, load = (
        np.ones((n_run, machines.bus.size)),
        np.repeat(grid.load[None], n_run, axis=0) * grid.constant,
    )
    state = _Rotors(grid, n_run)
    voltage = np.repeat(grid.voltage[None], n_run, axis=0)
    lag = 1.0 - np.exp(-1.0 / STEP_HZ / rng.uniform(0.012, 0.05))
    speed, angle = np.zeros((n_run, n_bus)), np.angle(voltage)
    every, frames = round(STEP_HZ / RATE_HZ), []
    for step in range(round(RUN_S * STEP_HZ)):
        for run, (change, start) in enumerate(zip(changes, starts.tolist(), strict=True)):
            if step == start:
                network[run], running[run], load[run] = (
                    change.during,
                    change.running,
                    change.load * grid.constant,
                )
            if step == start + change.clear:
                network[run] = change.network
        voltage = _solved(network, state.current(running), load, voltage)
        turned = np.angle(voltage)
        change_rad = np.angle(np.exp(1j * (turned - angle)))
        speed += lag * (change_rad * STEP_HZ / (2.0 * np.pi) - speed)
        angle = turned
        if step % every == 0:
            frames.append(np.stack([np.abs(voltage), turned, speed + grid.nominal_hz], axis=2))
        state.move(voltage, running)
    return np.stack(frames, axis=1)


def _solved(network: C128, current: C128, load: C128, voltage: C128) -> C128:
    """Return the voltages for these currents of machines, with loads of constant power."""
    if not load.any():
        return np.asarray((network @ current[:, :, None])[:, :, 0])
    for _ in range(SOLVES):
        size = np.abs(voltage)
        weak = np.minimum(size / LEAVES_PU, 1.0) ** 2
        drawn = np.conj(load * weak / np.where(size > 1e-6, voltage, 1e-6))
        voltage = (network @ (current - drawn)[:, :, None])[:, :, 0]
    return voltage


class _Rotors:
    """The machines of all runs, (n_run, n_gen) each."""

    def __init__(self, grid: Grid, n_run: int) -> None:
        self._grid, self._machines = grid, grid.machines
        shape = (n_run, grid.machines.bus.size)
        self._size = np.broadcast_to(np.abs(grid.machines.rotor), shape).copy()
        self._angle = np.broadcast_to(np.angle(grid.machines.rotor), shape).copy()
        self._speed, self._valve, self._turbine = (np.zeros(shape) for _ in range(3))
        self._at = np.eye(grid.n_bus)[grid.machines.bus]
        self._held = np.abs(grid.voltage[grid.machines.bus])

    def current(self, running: F64) -> C128:
        """Return what the machines feed into each bus."""
        rotor = self._size * np.exp(1j * self._angle) * self._machines.admittance * running
        return np.asarray(rotor @ self._at)

    def move(self, voltage: C128, running: F64) -> None:
        """Let one step pass."""
        machines, grid, dt = self._machines, self._grid, 1.0 / STEP_HZ
        rotor = self._size * np.exp(1j * self._angle)
        at = voltage[:, machines.bus]
        electric = (rotor * np.conj((rotor - at) * machines.admittance)).real
        weight = machines.inertia * running + 1e-9
        mean = (self._speed * weight).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
        self._valve += dt / machines.valve_s * (-machines.gain * self._speed - self._valve)
        self._turbine += dt / machines.turbine_s * (self._valve - self._turbine)
        driven = (
            machines.power + machines.fast_share * self._valve + (1.0 - machines.fast_share) * self._turbine
        )
        damped = machines.damping * (self._speed - mean) + grid.droop * machines.rating * self._speed
        self._speed += dt / machines.inertia * (driven - electric - damped)
        self._angle += dt * 2.0 * np.pi * grid.nominal_hz * self._speed
        wanted = np.abs(machines.rotor) + machines.field_gain * (self._held - np.abs(at))
        self._size += dt / machines.field_s * (wanted - self._size)
        np.clip(self._size, 0.5, 2.5, out=self._size)

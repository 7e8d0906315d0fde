"""Grids that nobody built: random networks with machines, governors and loads, at a steady state.

Whoever learns from four networks learns the four networks. These are many: buses scattered on a map and tied to their
neighbours, generators of all sizes, meshed or not, stiff or weak. A grid is drawn like this, in per unit of its mean load:

    lines      each bus to the nearest one there, then more to near neighbours, some twice; reactance grows with distance
    load flow  angles and voltages of the linear load flow are taken as the truth; what they inject into the exact network
               are the generators and loads (so there is no mismatch, and nothing to iterate)
    strength   all reactances are scaled until the widest angle of a line is as drawn
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamproc.values import C128, F64, I64, Bool

BUSES = (7, 48)
WIDEST_DEG = (4.0, 28.0)  # of a line, at rest
BULK = 0.5  # share of grids that are tied to a large one


@dataclass(frozen=True, slots=True)
class Machines:
    """Generators, (n_gen,) each, per unit of the grid's base."""

    bus: I64
    admittance: C128  # behind which the voltage of the rotor stands
    rotor: C128  # that voltage at rest
    power: F64
    inertia: F64  # 2 H
    damping: F64  # against the mean speed
    gain: F64  # of the governor, 0: it has none
    valve_s: F64
    turbine_s: F64
    fast_share: F64  # of the turbine; below 0: water goes the wrong way at first
    field_s: F64
    field_gain: F64  # of the voltage regulator
    rating: F64


@dataclass(frozen=True, slots=True)
class Grid:
    """A network at rest."""

    nominal_hz: float
    ends: I64  # (n_line, 2)
    line: C128  # (n_line,) admittance
    voltage: C128  # (n_bus,)
    load: C128  # (n_bus,) consumed
    constant: float  # share of the load that is constant power; the rest is an impedance
    droop: float  # of the load with the frequency
    machines: Machines

    @property
    def n_bus(self) -> int:
        """Return the number of buses."""
        return self.voltage.size

    def admittance(self, without: int = -1) -> C128:
        """Return the bus admittance matrix of the lines, one of them left out."""
        lines = np.arange(self.line.size) != without
        return admittance_of(self.n_bus, self.ends[lines], self.line[lines])

    def distances(self) -> F64:
        """Return the electrical distance |Zii + Zjj - 2 Zij| between buses."""
        matrix = self.admittance()
        np.add.at(matrix, (self.machines.bus, self.machines.bus), self.machines.admittance)
        z = np.linalg.inv(matrix)
        own = np.diag(z)
        return np.asarray(np.abs(own[:, None] + own[None] - z - z.T))

    def parts(self, without: int) -> I64:
        """Return for each bus the number of its part of the grid once a line is open."""
        label = np.arange(self.n_bus)
        keep = np.arange(self.line.size) != without
        for _ in range(self.n_bus):
            before = label.copy()
            for a, b in self.ends[keep].tolist():
                label[a] = label[b] = min(label[a], label[b])
            if (label == before).all():
                break
        return label


def admittance_of(n_bus: int, ends: I64, line: C128) -> C128:
    """Return the bus admittance matrix."""
    matrix = np.zeros((n_bus, n_bus), dtype=np.complex128)
    for (a, b), y in zip(ends.tolist(), line.tolist(), strict=True):
        matrix[a, a] += y
        matrix[b, b] += y
        matrix[a, b] -= y
        matrix[b, a] -= y
    return matrix


def grid_of(rng: np.random.Generator) -> Grid:
    """Return a grid."""
    n_core = int(np.exp(rng.uniform(*np.log(BUSES))))
    ends, length = _lines(n_core, rng)
    gens = rng.permutation(n_core)[: max(2, round(n_core * rng.uniform(0.12, 0.35)))]
    ends, length, gens, n_bus = _behind_transformers(ends, length, gens, n_core, rng)
    reactance = (0.15 + length / length.mean()) * np.exp(rng.normal(0.0, 0.35, length.size))
    active, reactive = _demand(n_bus, n_core, gens, rng)
    angle, widest = _angles(n_bus, ends, reactance, active)
    scale = np.radians(rng.uniform(*WIDEST_DEG)) / widest
    reactance, angle = reactance * scale, angle * scale
    size = _sizes(n_bus, ends, reactance, reactive, gens, rng)
    voltage = size * np.exp(1j * angle)
    line = 1.0 / (reactance * (1j + 1.0 / rng.uniform(4.0, 15.0, reactance.size)))
    injected = voltage * np.conj(admittance_of(n_bus, ends, line) @ voltage)
    is_gen: Bool = np.isin(np.arange(n_bus), gens)
    local = np.where(
        is_gen & (rng.random(n_bus) < 0.3), rng.uniform(0.1, 0.6, n_bus) * np.abs(injected.real), 0.0
    )
    load = np.where(is_gen, local * (1.0 + 0.2j), -injected)
    machines = _machines(gens, voltage[gens], (injected + load)[gens], rng)
    nominal_hz = float(rng.choice([50.0, 60.0]))
    constant, droop = float(rng.choice([0.0, 1.0, rng.random()])), rng.uniform(0.0, 1.5)
    return Grid(nominal_hz, ends, line, voltage, load, constant, droop, machines)


def _lines(n_bus: int, rng: np.random.Generator) -> tuple[I64, F64]:
    """Return the ends of the lines and their lengths."""
    at = rng.random((n_bus, 2)) * np.array([1.0, rng.uniform(0.3, 1.0)])
    away = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    pairs = [(bus, int(np.argmin(away[bus, :bus]))) for bus in range(1, n_bus)]
    more, twice = rng.uniform(0.2, 1.2), rng.uniform(0.0, 0.4)
    for bus in range(n_bus):
        near = [
            other
            for other in np.argsort(away[bus])[1:5].tolist()
            if {(bus, other), (other, bus)}.isdisjoint(pairs)
        ]
        pairs += [(bus, other) for other in near[: int(rng.poisson(more))]]
    pairs += [pair for pair in pairs if rng.random() < twice]
    ends = np.array(pairs, dtype=np.int64)
    return ends, away[ends[:, 0], ends[:, 1]]


def _behind_transformers(
    ends: I64, length: F64, gens: I64, n_bus: int, rng: np.random.Generator
) -> tuple[I64, F64, I64, int]:
    """Return the lines with some generators moved to a bus of their own."""
    own = rng.random(gens.size) < rng.uniform(0.0, 1.0)
    added = np.arange(n_bus, n_bus + int(own.sum()))
    ends = np.concatenate([ends, np.stack([gens[own], added], axis=1)])
    length = np.concatenate([length, rng.uniform(0.2, 0.8, added.size) * length.mean()])
    moved = gens.copy()
    moved[own] = added
    return ends, length, moved, n_bus + added.size


def _demand(n_bus: int, n_core: int, gens: I64, rng: np.random.Generator) -> tuple[F64, F64]:
    """Return what is injected, active (sum 0) and reactive."""
    loaded = (
        (rng.random(n_bus) < rng.uniform(0.4, 0.95))
        & (np.arange(n_bus) < n_core)
        & ~np.isin(np.arange(n_bus), gens)
    )
    loaded[int(rng.choice(np.setdiff1d(np.arange(n_core), gens)))] = True
    demand = np.where(loaded, np.exp(rng.normal(0.0, 0.7, n_bus)), 0.0)
    demand /= demand[loaded].mean()
    share = np.exp(rng.normal(0.0, 0.6, gens.size))
    active = -demand
    active[gens] += demand.sum() * share / share.sum()
    return active, -demand * rng.uniform(0.0, 0.4, n_bus)


def _angles(n_bus: int, ends: I64, reactance: F64, active: F64) -> tuple[F64, float]:
    """Return the angles of the linear load flow and the widest over a line."""
    matrix = admittance_of(n_bus, ends, (1.0 / reactance).astype(np.complex128)).real
    angle = np.linalg.pinv(matrix) @ active
    return angle, max(1e-6, float(np.abs(angle[ends[:, 0]] - angle[ends[:, 1]]).max()))


def _sizes(n_bus: int, ends: I64, reactance: F64, reactive: F64, gens: I64, rng: np.random.Generator) -> F64:
    """Return voltages: held at generators, elsewhere as the reactive demand pulls them down."""
    matrix = admittance_of(n_bus, ends, (1.0 / reactance).astype(np.complex128)).real
    size = np.zeros(n_bus)
    size[gens] = rng.uniform(0.99, 1.05, gens.size)
    free = np.setdiff1d(np.arange(n_bus), gens)
    size[free] = np.linalg.solve(matrix[np.ix_(free, free)], (reactive - matrix @ size)[free])
    return np.asarray(np.clip(size, 0.9, 1.08))


def _machines(gens: I64, voltage: C128, made: C128, rng: np.random.Generator) -> Machines:
    n_gen = gens.size
    rating = np.maximum(np.abs(made), 0.3 * np.abs(made).mean()) * rng.uniform(1.05, 1.7, n_gen)
    if rng.random() < BULK:  # one of them stands for the rest of an interconnection
        rating[int(rng.integers(n_gen))] *= np.exp(rng.uniform(np.log(3.0), np.log(60.0)))
    admittance = 1.0 / (1j * rng.uniform(0.15, 0.4, n_gen) / rating)
    hydro = rng.random(n_gen) < rng.choice([0.0, 0.3, 0.9])
    governed = rng.random(n_gen) < rng.uniform(0.4, 1.0)
    slow = np.exp(rng.uniform(np.log(0.3), np.log(8.0), n_gen))
    return Machines(
        bus=gens,
        admittance=admittance,
        rotor=voltage + np.conj(made / voltage) / admittance,
        power=made.real,
        inertia=2.0 * rating * rng.uniform(2.0, 7.0, n_gen),
        damping=rating * rng.uniform(1.0, 15.0, n_gen),
        gain=np.where(governed, rating * rng.uniform(8.0, 30.0) * rng.uniform(0.5, 1.2, n_gen), 0.0),
        valve_s=rng.uniform(0.08, 0.6, n_gen),
        turbine_s=np.where(hydro, rng.uniform(0.4, 1.5, n_gen), slow),
        fast_share=np.where(hydro, -rng.uniform(0.2, 1.0, n_gen), rng.uniform(0.1, 0.6, n_gen)),
        field_s=rng.uniform(1.0, 6.0, n_gen),
        field_gain=rng.uniform(0.0, 4.0, n_gen),
        rating=rating,
    )

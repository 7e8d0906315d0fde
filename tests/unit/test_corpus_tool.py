"""Protects the truth beside simulated disturbances: what a trip is, who is near, what the file holds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tools.corpus.network import MACHINE_REACTANCE_PU, Network, described, nearest
from tools.corpus.store import changes, save, turning_point


def line(start: str, stop: str, reactance: float = 0.1) -> tuple[str, str, complex]:
    return start, stop, complex(0.0, reactance)


NETWORK = Network(
    buses=("g", "a", "b", "c", "d", "x", "y", "z", "w"),
    branches={
        "plant": line("g", "a"),
        "ab": line("a", "b"),
        "ab2": line("a", "b"),
        "feeder": line("b", "c"),
        "tie": line("a", "x"),
        "xy": line("x", "y"),
        "yz": line("y", "z"),
        "zw": line("z", "w"),
        "spare": line("b", "d"),
    },
    machines={"G1": "g", "G2": "x"},
    load_pu={"b": 1.0, "c": 0.5, "y": 0.3},
)


@pytest.mark.parametrize(
    ("branch", "what"),
    [
        ("plant", ("supply_lost", "line")),
        ("ab", ("topology", "line")),
        ("feeder", ("load_lost", "line")),
        ("tie", ("islanding", "")),
        ("spare", ("topology", "line")),
    ],
)
def test_a_trip_is_what_it_cuts_off(branch, what):
    assert NETWORK.trip(branch) == what
    kind, finer, where = described(NETWORK, {"k": "line", "dev": branch})
    assert (kind, finer) == what
    assert where == list(NETWORK.branches[branch][:2])


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ({"k": "gen", "dev": "G2"}, ("supply_lost", "generator", ["x"])),
        ({"k": "load", "bus": "b", "m": 0.3}, ("supply_lost", "load_rise", ["b"])),
        ({"k": "load", "bus": "b", "m": -1.0}, ("load_lost", "load", ["b"])),
        ({"k": "fault", "bus": "c"}, ("fault", "", ["c"])),
        ({"k": "island", "dev": "tie"}, ("islanding", "", ["a", "x"])),
    ],
)
def test_other_events_are_named_by_what_they_do_to_the_balance(event, what):
    assert described(NETWORK, event) == what


def test_electrical_distance_is_that_of_the_circuit():
    chain = Network(("1", "2", "3"), {"l": line("1", "2", 0.2), "m": line("2", "3", 0.3)}, {"G": "1"}, {})
    found = chain.distance_pu()
    # the machine's path to ground carries nothing between two buses: only what lies between them counts
    np.testing.assert_allclose(found, [[0.0, 0.2, 0.5], [0.2, 0.0, 0.3], [0.5, 0.3, 0.0]], atol=1e-9)
    assert pytest.approx(0.3) == MACHINE_REACTANCE_PU
    assert nearest(found, [2], [0, 1, 2]) == [2, 1, 0]
    assert nearest(found, [0, 2], [1, 2]) == [1, 0]


def test_the_figures_beside_an_event_are_those_of_its_trace():
    trace = np.zeros((300, 2, 3))
    trace[:, :, 0], trace[:, :, 2] = 1.0, 60.0
    trace[60:, 1, 0] = 0.9
    trace[60:90, :, 2] = 59.8
    assert changes(trace, 2.0, 30.0) == pytest.approx((0.1, 0.2))
    assert turning_point(trace, 2.0, 30.0, 60.0) == pytest.approx((59.8, 0.0))


def test_the_file_is_read_without_pickle_and_close_to_what_was_written(tmp_path):
    x = np.random.default_rng(1).normal(1.0, 0.1, (2, 50, 3, 3))
    save(tmp_path / "c.npz", x, json.dumps({"case": "t"}))
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        assert file["X"].dtype == np.float32
        np.testing.assert_allclose(file["X"], x, atol=1e-5)
        assert json.loads(str(file["meta"])) == {"case": "t"}
    first = (tmp_path / "c.npz").read_bytes()
    save(tmp_path / "c.npz", x, json.dumps({"case": "t"}))
    assert (tmp_path / "c.npz").read_bytes() == first

"""Protects the truth beside simulated disturbances: what a trip is, who is near, what the file holds."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tools.corpus.checks import sees_dark, why_not
from tools.corpus.collect import Collected, add_truth, write
from tools.corpus.cuts import draw_cut
from tools.corpus.network import MACHINE_REACTANCE_PU, Network, described, lost_pu, nearest
from tools.corpus.simulate import Run
from tools.corpus.siting import spread
from tools.corpus.store import ROUND, changes, save, turning_point
from tools.corpus.wide import AMPLITUDES, SAME_MAX, Wide


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


SOLVED = replace(NETWORK, supply_pu={"G1": 0.9, "G2": 0.7})


@pytest.mark.parametrize(
    ("event", "lost"),
    [
        ({"k": "gen", "dev": "G1"}, 0.9),
        ({"k": "load", "bus": "b", "m": 0.3, "p": 1.0}, 0.3),
        ({"k": "load", "bus": "b", "m": -1.0, "p": 1.0}, -1.0),
        ({"k": "load", "bus": "b", "m": 0.5, "p": -0.4}, -0.2),  # a load that gives: more of it is a surplus
        ({"k": "line", "dev": "plant"}, 0.9),
        ({"k": "line", "dev": "feeder"}, -0.5),
        ({"k": "line", "dev": "ab"}, None),
        ({"k": "line", "dev": "tie"}, None),  # an island has a balance of its own
        ({"k": "fault", "bus": "c"}, None),
    ],
)
def test_what_the_network_lacks_is_counted(event, lost):
    assert lost_pu(SOLVED, event) == (None if lost is None else pytest.approx(lost))


def test_a_plant_that_gives_less_than_its_neighbours_take_is_a_loss_of_load():
    weak = replace(SOLVED, load_pu={**SOLVED.load_pu, "g": 2.0})
    assert weak.trip("plant") == ("load_lost", "line")
    assert lost_pu(weak, {"k": "line", "dev": "plant"}) == pytest.approx(-1.1)


def test_a_pmu_in_the_dark_is_known_before_the_run():
    assert sees_dark(
        NETWORK, {"k": "line", "dev": "plant"}, ["g"]
    )  # alone with its machine: its values stand still
    assert not sees_dark(NETWORK, {"k": "line", "dev": "plant"}, ["a"])
    assert sees_dark(NETWORK, {"k": "line", "dev": "feeder"}, ["c", "a"])
    assert not sees_dark(NETWORK, {"k": "line", "dev": "tie"}, ["x", "w"])
    assert sees_dark(NETWORK, {"k": "line", "dev": "xy"}, ["z"])  # three buses and no machine
    assert not sees_dark(NETWORK, {"k": "fault", "bus": "c"}, ["c"])


def quiet_trace() -> np.ndarray:
    trace = np.zeros((300, 2, 3))
    trace[:, :, 0], trace[:, :, 2] = 1.0, 60.0
    return trace


@pytest.mark.parametrize(
    ("rows", "column", "value", "why"),
    [
        (slice(100, 110), 0, 0.1, ""),  # the fault itself
        (slice(150, 300), 0, 0.1, "voltage"),
        (slice(150, 300), 0, 2.5, "voltage"),
        (slice(100, 110), 2, 64.0, "frequency"),
        (slice(20, 300), 2, 60.2, "unsteady before"),
        (slice(100, 101), 1, np.nan, "not finite"),
    ],
)
def test_a_run_that_is_no_event_is_left_out_with_its_reason(rows, column, value, why):
    trace = quiet_trace()
    trace[rows, 1, column] = value
    assert why_not(trace, {"k": "fault", "t": 3.3, "d": 0.1}, 30.0, 60.0) == why


RING = Network(
    buses=tuple(f"{area}{n}" for area in "pq" for n in range(5)),
    branches={
        **{
            f"{area}{n}-{(n + 1) % 5}": line(f"{area}{n}", f"{area}{(n + 1) % 5}")
            for area in "pq"
            for n in range(5)
        },
        "tie1": line("p0", "q0"),
        "tie2": line("p1", "q1"),
    },
    machines={"P": "p3", "Q": "q3"},
    load_pu={"p2": 1.0, "q2": 1.0},
    supply_pu={"P": 1.1, "Q": 0.9},
)


def test_an_area_is_cut_off_only_where_both_parts_can_live():
    rng = np.random.default_rng(1)
    assert draw_cut(RING, rng, 2) == ("tie1", "tie2")
    assert draw_cut(replace(RING, supply_pu={"P": 2.0, "Q": 0.0}), rng, 2) == ()
    assert draw_cut(RING, rng, 1) == ()


def test_pmus_stand_apart_at_plants_and_at_loads_and_the_seed_says_where():
    sites = spread(RING, 4, np.random.default_rng(5))
    assert sites == spread(RING, 4, np.random.default_rng(5))
    names = {RING.buses[place] for place in sites}
    assert len(names) == 4
    assert names & {"p3", "q3"}
    assert names & {"p2", "q2"}
    assert {name[0] for name in names} == {"p", "q"}


DEVICES = {
    "buses": list(RING.buses),
    "lines": list(RING.branches),
    "loads": [("LP", "p2", 1.0), ("LQ", "q2", 1.0)],
    "machines": [("GENROU", "P"), ("GENROU", "Q")],
    "governor": [("TGOV1", "T", "p3")],
    "exciter": [],
}


def test_the_wide_mix_has_every_kind_and_no_device_too_often():
    mix, rng = (
        Wide(DEVICES, RING, ("line", "gen", "load", "fault", "island", "osc")),
        np.random.default_rng(2),
    )
    kinds, sizes = set(), []
    for _ in range(400):
        event = mix.draw(rng)
        if event is None or mix.taken(event):
            continue
        mix.take(event)
        kinds.add(event["k"])
        assert 0.85 <= event["level"] <= 1.05
        assert 4.0 <= event["t"] <= 5.0
        if event["k"] == "load":
            sizes.append(event["m"])
            assert -1.0 <= event["m"] <= 0.5
        if event["k"] == "osc":
            low, high = AMPLITUDES[event["drive"]]
            assert low <= event["amp"] <= high
            assert event["drive"] != "exciter"  # there is none
    assert kinds == {"line", "gen", "load", "fault", "island", "osc"}
    assert len(sizes) == SAME_MAX * 2
    assert max(mix.seen.values()) == SAME_MAX


def test_the_meta_holds_the_truth_and_is_read_back(tmp_path):
    event = {"k": "load", "t": 4.2, "dev": "LP", "bus": "p2", "m": -0.5, "p": 1.0, "dv": 0.1, "df": 0.2}
    cut = {"k": "island", "t": 4.2, "dev": "tie1", "devs": ["tie1", "tie2"], "dv": 0.1, "df": 0.2}
    sites = ("p2", "p4", "q0")
    for one in (event, cut):
        add_truth(one, RING, 100.0, list(sites))
    assert (event["phys"], event["finer"], event["mw"], event["near"][0]) == ("load_lost", "load", -50.0, 0)
    assert (cut["phys"], cut["mw"], cut["near"][0]) == ("islanding", None, 2)
    assert abs(cut["area_lacks_mw"]) == pytest.approx(10.0)
    assert cut["island"] in ([0, 1], [2])
    found = Collected([np.ones((50, 3, 3))] * 2, [event, cut], Counter(voltage=2, frequency=1))
    write(tmp_path / "c.npz", Run("ring", sites, 30.0, 60.0, 2.0), found, RING, 7, 100.0)
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        assert file["X"].shape == (2, 50, 3, 3)
    assert meta["dropped"] == 3
    assert meta["dropped_why"] == {"frequency": 1, "voltage": 2}
    assert (meta["pmu_bus"], meta["mva"], meta["seed"]) == (list(sites), 100.0, 7)
    zth = np.array(meta["zth"])
    assert zth.shape == (3, 3)
    np.testing.assert_allclose(zth, zth.T)
    assert [sorted(one["near"]) for one in meta["events"]] == [[0, 1, 2]] * 2


def test_rounding_is_finer_than_a_hundredth_of_a_thousandth():
    assert max(ROUND) / 2 < 1e-5

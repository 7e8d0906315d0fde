"""Protects "Where it comes from": who feeds an oscillation stands first, by power where it is measured, else by shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import fromstring

import msgspec
import numpy as np
import pytest

from streamproc.config import SiteConfig
from streamproc.core.c37118 import CFG2, Book, Configuration, encode_configuration, encode_data
from streamproc.core.disturbance import Estimate, Mode
from streamproc.shell.explain.origin import origin_of
from streamproc.shell.explain.page import page
from streamproc.shell.explain.power import current_column
from streamproc.shell.explain.sources import Explained, from_recordings, save
from streamproc.simulate.fleet import Fleet, FleetSettings
from streamproc.values import TOPIC_FRAMES, Record

START_S = 1_700_000_010
MODE_HZ, RATE_HZ, N_PMU = 0.5, 30, 6
SWING_HZ = np.array([0.06, 0.15, 0.11, -0.08, -0.13, -0.09])
FEEDER, LOUDEST, SILENT = 0, 1, 4  # SILENT sends its current as absent
FEED_W_HZ = np.where(
    np.arange(N_PMU) == FEEDER, 9e8, -6e7
)  # who gives power when the frequency is high feeds
LINE_W_RAD = np.array([3.0, -2.0, 1.0, -4.0, 2.0, 1.0]) * 1e7  # what only goes to and fro
BASE_V = 230e3 / np.sqrt(3.0)


def swung(*, currents: bool) -> Iterator[Record]:
    """An oscillation that grows within 3 s from second 20 on, which the feeder drives and all others damp."""
    rng = np.random.default_rng(5)
    t_s = np.arange(60 * RATE_HZ) / RATE_HZ
    turn = 2 * np.pi * MODE_HZ
    size = np.clip((t_s - 20.0) / 3.0, 0.0, 1.0)[:, None]
    freq = size * SWING_HZ * np.sin(turn * t_s)[:, None]
    angle = 2 * np.pi * np.cumsum(freq, axis=0) / RATE_HZ
    power = 2e8 + FEED_W_HZ * freq + LINE_W_RAD * angle + rng.normal(0.0, 1e5, freq.shape)
    volt = (
        BASE_V
        * (1.0 + rng.normal(0.0, 3e-4, freq.shape))
        * np.exp(1j * (angle + rng.normal(0, 3e-4, freq.shape)))
    )
    current = ((power + 5e7j) / (3.0 * volt)).conj()
    current[:, SILENT] = complex(np.nan, np.nan)
    plain = Fleet(FleetSettings(n_pmu=N_PMU, rate_hz=RATE_HZ)).layouts[0]
    pmus = plain.pmus
    if not currents:
        only = {"phasor_names": ("VPOS",), "phasor_is_current": (False,), "phasor_factor": (1.0,)}
        pmus = tuple(replace(pmu, **only) for pmu in pmus)
    (config,) = encode_configuration(Configuration(CFG2, plain.idcode, 1_000_000, RATE_HZ, pmus, START_S))
    phasor = np.stack([volt, current], axis=2)[:, :, : 1 + currents].reshape(t_s.size, -1)
    t_ns = START_S * 10**9 + np.rint(t_s * 1e9).astype(np.int64)
    noisy = 60.0 + freq + rng.normal(0.0, 5e-4, freq.shape)
    frames = encode_data(
        Book().learn(config)[0].layouts[plain.idcode],
        t_ns,
        noisy,
        rocof_hz_s=np.gradient(freq, axis=0) * RATE_HZ,
        phasor=phasor,
    )
    yield Record(TOPIC_FRAMES, 0, 0, START_S * 1000, b"swing", config)
    for at_ns, frame in zip(t_ns.tolist(), frames, strict=True):
        yield Record(TOPIC_FRAMES, 0, 0, at_ns // 1_000_000, b"swing", frame)


def explained(folder: Path, records: Iterator[Record]) -> Explained:
    file = folder / "swing.c37"
    save(list(records), file)
    return from_recordings(SiteConfig(), None, "latest", [file], area="swing")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    return explained(tmp_path_factory.mktemp("measured"), swung(currents=True))


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    return explained(tmp_path_factory.mktemp("unmeasured"), swung(currents=False))


def html_of(found: Explained, **changed: object) -> str:
    alert = msgspec.structs.replace(found.alert, **changed)
    return page([*found.story.told[:-1], alert], found.evidence, (), found.commands, found.notes)


def table(html: str) -> list[list[str]]:
    root = fromstring(html)
    rows = [row for t in root.iter("table") if t.get("class") == "origin" for row in t.iter("tr")]
    return [["".join(cell.itertext()) for cell in row] for row in rows[1:]]


def test_who_feeds_an_oscillation_stands_first_though_others_swing_more(measured: Explained) -> None:
    assert measured.alert.kind == "frequency_jump"  # a sudden rule saw it first
    assert measured.alert.disturbance.kind == "oscillation"
    labels = measured.evidence.labels
    html = html_of(measured)
    assert table(html) == [["1", labels[FEEDER], "1.00"]]
    assert "By the dissipating energy flow of the swing of 0.5 Hz" in html
    assert "currents are measured out of the plant into the network" in html
    assert "Not ranked for want of current phasors, or for gaps: 1 of 6 PMUs." in html
    assert "It may also come from outside the observed area." in html
    assert np.isnan(measured.evidence.power.apparent_va[:, SILENT]).all()
    assert np.nanmedian(measured.evidence.power.apparent_va[:, FEEDER]) == pytest.approx(2e8 + 5e7j, rel=0.05)


def test_where_all_that_is_measured_takes_energy_in_the_source_is_outside(measured: Explained) -> None:
    power = measured.evidence.power
    apparent = np.where(np.arange(N_PMU) == FEEDER, complex(np.nan, np.nan), power.apparent_va)
    evidence = replace(measured.evidence, power=replace(power, apparent_va=apparent))
    found = origin_of(measured.alert, evidence)
    assert found.sources.outside
    html = page([measured.alert], evidence)
    assert table(html) == [["1", "outside the observed area", ""]]
    assert "No PMU clearly feeds it" in html


def test_a_gap_that_is_short_is_crossed_and_a_long_one_makes_unknown(measured: Explained) -> None:
    power = measured.evidence.power
    for rows, known in ((10, 5), (20, 4)):
        cut = [getattr(power, name).copy() for name in ("apparent_va", "angle_rad", "voltage_v")]
        for values in cut:
            values[500 : 500 + rows, FEEDER] = np.nan
        found = origin_of(measured.alert, replace(measured.evidence, power=type(power)(*cut)))
        assert found.measured == known
        assert (FEEDER in found.sources.order) == (known == 5)


def test_without_currents_amplitude_and_lead_rank(unmeasured: Explained) -> None:
    html = html_of(unmeasured)
    names = [name for _, name, _ in table(html)]
    assert next(n for n in names if n.startswith("STATION")) == unmeasured.evidence.labels[LOUDEST]
    assert "By amplitude and phase lead of the swing of 0.5 Hz, because the power of no PMU is known" in html
    assert np.isnan(unmeasured.evidence.power.apparent_va).all()


def test_other_alerts_and_a_grid_at_rest_have_no_such_table(measured: Explained, tmp_path: Path) -> None:
    none = {"disturbance": None}
    assert "Where it comes from" not in html_of(measured, kind="voltage_low", rule="voltage_low", **none)
    freq_hz = np.full_like(measured.evidence.freq_hz, 60.0)
    alert = msgspec.structs.replace(measured.alert, **none)
    assert origin_of(alert, replace(measured.evidence, freq_hz=freq_hz)) is None


@pytest.mark.parametrize("told_hz", [MODE_HZ, None])
def test_the_mode_that_the_alert_tells_is_taken_and_else_one_is_looked_for(
    measured: Explained, told_hz: float
) -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6)
    modes = (Mode(freq_hz=estimate, damping_ratio=estimate, energy=0.5),) if told_hz else ()
    told = measured.alert.disturbance
    disturbance = msgspec.structs.replace(told, modes=modes) if told is not None else None
    found = origin_of(msgspec.structs.replace(measured.alert, disturbance=disturbance), measured.evidence)
    assert found.freq_hz == pytest.approx(MODE_HZ, abs=0.01)
    assert found.sources.order.tolist() == [FEEDER]


def damped(damping: float, seconds: int) -> Iterator[Record]:
    """A fleet of which the first PMUs swing against the others, driven by noise."""
    rng = np.random.default_rng(1)
    n, w = seconds * 10, 2 * np.pi * 0.6 / 10
    radius = np.exp(-damping * w)
    swing, drive = np.zeros(n + 1000), rng.normal(size=n + 1000)
    for row in range(2, swing.size):
        swing[row] = drive[row] + 2 * radius * np.cos(w) * swing[row - 1] - radius**2 * swing[row - 2]
    swing = 4e-3 * swing[1000:] / swing[1000:].std()
    fleet = Fleet(FleetSettings(n_pmu=4, rate_hz=10, seed=3, start_ns=START_S * 10**9))
    yield Record(TOPIC_FRAMES, 0, 0, START_S * 1000, b"swing", b"".join(fleet.configs))
    parts = (swing[:, None] * [1.0, 0.7, -0.8, -0.6]).reshape(seconds, 10, 4)
    for second, part in zip(fleet.seconds(seconds), parts, strict=True):
        second.freq_hz[:] += part
        for t_ns, frame in zip(second.t_ns.tolist(), fleet.encode(second)[0], strict=True):
            yield Record(TOPIC_FRAMES, 0, 0, t_ns // 1_000_000, b"swing", frame)


def test_the_page_of_a_swing_that_hardly_fades_is_whole(tmp_path: Path) -> None:
    found = explained(tmp_path, damped(0.006, 240))
    assert found.alert.rule in {"damping_low", "damping_reduced"}
    html = html_of(found)
    assert "Where it comes from" in html
    assert table(html)
    assert {"frequency", "scores"} <= {svg.get("data-name") for svg in fromstring(html).iter("svg")}


RULES = (
    "damping_low",
    "damping_reduced",
    "data_spike",
    "clock_jump",
    "noise_rise",
    "clock_drift",
    "disagrees_voltage",
)


@pytest.mark.parametrize("family", ["grid", "quality"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_the_models_do_not_have_leaves_the_rest_of_the_page(
    measured: Explained, rule: str, family: str
) -> None:
    known = [replace(r, name="gone") if r.name == rule else r for r in measured.evidence.rules]
    evidence = replace(measured.evidence, rules=tuple(known))
    kind = "oscillation" if rule.startswith("damping") else rule
    alert = msgspec.structs.replace(measured.alert, rule=rule, rules=(rule,), kind=kind, family=family)
    root = fromstring(page([alert], evidence))
    names = {svg.get("data-name") for svg in root.iter("svg")}
    assert {"frequency", "voltage", "angle", "scores"} <= names
    assert not [name for name in names if name and rule.replace("_", " ") in name]


def chosen(names: tuple[str, ...], component: tuple[int, ...] = ()) -> list[int]:
    like = Fleet(FleetSettings(n_pmu=1)).layouts[0].pmus[0]
    is_current = tuple(name.upper().startswith("I") for name in names)
    pmu = replace(like, phasor_names=names, phasor_is_current=is_current, phasor_component=component)
    layout = replace(Fleet(FleetSettings(n_pmu=2)).layouts[0], pmus=(pmu, pmu))
    return current_column(layout).tolist()


def test_the_current_is_that_of_the_phase_of_the_voltage() -> None:
    assert chosen(("VA", "VB", "IB", "IA")) == [3, 7]
    assert chosen(("VALPM", "I1LPM", "IALPM")) == [2, 5]
    assert chosen(("BUS 1 V", "IFEEDER", "IOTHER")) == [1, 4]
    assert chosen(("VA", "V1", "IA", "I1"), (4, 1, 4, 1)) == [3, 7]
    assert chosen(("VA", "IB"), (4, 5)) == [-1, -1]
    assert chosen(("IA",)) == [-1, -1]

"""Protects `streamproc explain`: the page says what the alert says, at the right times, and it needs nothing else."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import msgspec
import numpy as np
import orjson
import pytest

from streamproc.cli.root import app
from streamproc.config import AreaTable, SiteConfig
from streamproc.core.disturbance import Disturbance, Estimate, Mode, Response
from streamproc.core.messages import Alert, encode
from streamproc.errors import StreamprocError
from streamproc.pipeline import run
from streamproc.shell.explain import sources
from streamproc.shell.explain.evidence import PRE_S, relative_angle
from streamproc.shell.explain.facts import SHOWN_MAX, facts_of, forecasts_of
from streamproc.shell.explain.hint import replay_hint
from streamproc.shell.explain.kafka import Found
from streamproc.shell.explain.page import page
from streamproc.shell.explain.plot import delay_words, line_path, spread, tick_words, ticks
from streamproc.shell.explain.sources import Explained, from_recordings, save
from streamproc.shell.offline import make_path
from streamproc.shell.recording import read_recording
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import ScadaPoints, catalogue
from streamproc.values import TOPIC_ALERTS, TOPIC_FRAMES, TOPIC_SCADA, Record

DATA = Path(__file__).parents[1] / "data"
PCAPS = DATA / "c37118_pcaps"
FOUR = PCAPS / "C37.118_4in1PMU_TCP.pcap"
STEP_S = 3198.5  # of the real frequency, where it jumps
START_S = 1_700_000_000
TRIP = FleetSettings(
    n_pmu=20,
    start_ns=START_S * 10**9,
    events=(
        GridEvent("generator_trip", 25.0, at=0.3, size=0.3),
        GridEvent("drop_out", 29.0, duration_s=5.0, pmu=6),
    ),
)


@dataclass
class Plot:
    """One figure, read back from the page."""

    svg: Element

    def axis(self, name: str) -> tuple[list[float], bool]:
        words = self.svg.attrib[f"data-{name}"].split()
        return [float(word) for word in words[:4]], words[-1] == "log"

    def seconds(self, px: float) -> float:
        (low, high, start, stop), _ = self.axis("x")
        return low + (px - start) / (stop - start) * (high - low)

    def value(self, px: float) -> float:
        (low, high, start, stop), is_log = self.axis("y")
        share = (px - start) / (stop - start)
        return low * (high / low) ** share if is_log else low + share * (high - low)

    def line(self, name: str) -> list[list[tuple[float, float]]]:
        """Return (s, value) of each unbroken stretch of a trace."""
        (path,) = [p for p in self.svg.iter("path") if p.get("data-name") == name]
        return [
            [(self.seconds(x), self.value(y)) for x, y in stretch] for stretch in stretches(path.attrib["d"])
        ]

    def names(self) -> list[str]:
        return [p.attrib["data-name"] for p in self.svg.iter("path") if "data-name" in p.attrib]

    def marks(self) -> dict[str, float]:
        """Return the times of the vertical lines, from their pixels."""
        found = {}
        for path in self.svg.iter("path"):
            kind = path.get("class", "").removeprefix("mark ")
            if path.get("class", "").startswith("mark "):
                x = float(re.match(r"M([-0-9.]+) ", path.attrib["d"])[1])
                found[kind] = self.seconds(x)
                assert float(path.get("data-s", found[kind])) == pytest.approx(found[kind], abs=1e-3)
        return found


def stretches(d: str) -> list[list[tuple[float, float]]]:
    """Return the points of a path in pixels, one list for each `M`."""
    found: list[list[tuple[float, float]]] = []
    for piece in d.split("M")[1:]:
        x, y = (int(word) for word in re.match(r"(-?\d+) (-?\d+)", piece).groups())
        points = [(x / 10, y / 10)]
        steps = re.findall(r"-?\d+", piece.partition("l")[2])
        for dx, dy in zip(steps[::2], steps[1::2], strict=True):
            x, y = x + int(dx), y + int(dy)
            points.append((x / 10, y / 10))
        found.append(points)
    return found


def plots(html: str) -> dict[str, Plot]:
    return {
        svg.attrib["data-name"]: Plot(svg)
        for svg in fromstring(html).iter("svg")
        if "data-name" in svg.attrib
    }


def html_of(explained: Explained) -> str:
    story = explained.story
    return page(story.told, story.evidence, story.points, explained.commands, explained.notes)


def explained_fleet(folder: Path, settings: FleetSettings, seconds: int, wanted: str = "latest") -> Explained:
    """Return the explanation of an alert of a simulated fleet, through a file as a person would have it."""
    file = folder / "fleet.c37"
    save(list(fleet_records(Fleet(settings), "fleet", seconds)), file)
    return from_recordings(SiteConfig(), None, wanted, [file], area="fleet")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give 150 s of the real frequency around its step."""
    file = tmp_path_factory.mktemp("real") / "step.csv"
    with gzip.open(DATA / "gsf_openpdc_freq" / "freq_80min.csv.gz", "rt") as lines:
        head = next(lines)
        kept = [line for line in lines if abs(float(line.split(",")[0]) - STEP_S) < 75.0]
    file.write_text(head + "".join(kept))
    return file


def id_of(records: Iterable[Record], **wanted: str) -> str:
    """Return the id of the first alert of which this is true, as the path without any of our doing gives it."""
    outputs = run(make_path(SiteConfig()), records)
    alerts = (orjson.loads(output.value) for output in outputs if output.topic == TOPIC_ALERTS)
    return next(str(a["alert_id"]) for a in alerts if all(a[name] == value for name, value in wanted.items()))


@pytest.fixture(scope="module")
def explained(real: Path) -> dict[str, Explained]:
    """Give the alerts of real recordings: a step of frequency, an oscillation, lost and bad data."""
    chosen = {
        "step": (real, {"family": "grid"}),
        "oscillation": (PCAPS / "c37_1100_clean_tcp.pcap", {"kind": "oscillation"}),
        "missing": (FOUR, {"kind": "data_missing"}),
        "bad": (FOUR, {"kind": "data_bad"}),
        "unclean": (PCAPS / "c37_pmu_unclean.pcap", {"kind": "data_missing"}),
    }
    return {
        name: from_recordings(SiteConfig(), None, id_of(read_recording(file), **wanted)[:12], [file])
        for name, (file, wanted) in chosen.items()
    }


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Explained:
    """Give a loss of generation in a fleet of 20 PMUs of which one is silent for a time."""
    wanted = id_of(fleet_records(Fleet(TRIP), "fleet", 40), family="grid")
    return explained_fleet(tmp_path_factory.mktemp("trip"), TRIP, 60, wanted)


EACH = ("step", "oscillation", "missing", "bad", "unclean")


@pytest.mark.parametrize("name", EACH)
def test_the_page_says_the_sentence_of_the_alert(explained: dict[str, Explained], name: str) -> None:
    found = explained[name]
    root = fromstring(html_of(found))
    assert "".join(root.find(".//h1").itertext()) == found.story.told[-1].message
    assert root.find(".//title").text == found.story.told[-1].message


@pytest.mark.parametrize("name", EACH)
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(
    explained: dict[str, Explained], name: str
) -> None:
    html = html_of(explained[name])
    root = fromstring(html)  # XML, so it is well-formed HTML, too
    assert html.startswith("<!DOCTYPE html>\n<html")
    for foreign in ("http:", "https:", "<link", "<script src", "@import", "<img", "<iframe", "<object"):
        assert foreign not in html, foreign
    assert set(re.findall(r"url\([^)]*\)", html)) <= {"url(#hatch)"}
    assert not [e for e in root.iter() if {"src", "href", "xlink:href", "onload"} & set(e.attrib)]
    assert "None" not in html.partition("<main>")[2].partition("</main>")[0]
    assert "nan" not in re.sub(r"[a-zA-Z-]+nan|nan[a-z]+", "", html.partition("<main>")[2]).lower()


@pytest.mark.parametrize("name", EACH)
def test_the_same_alert_gives_the_same_bytes(explained: dict[str, Explained], name: str) -> None:
    assert html_of(explained[name]) == html_of(explained[name])


def test_the_same_recording_gives_the_same_bytes(explained: dict[str, Explained], real: Path) -> None:
    again = from_recordings(SiteConfig(), None, "latest", [real])
    assert html_of(again) == html_of(explained["step"])


def test_the_traces_reach_from_ten_seconds_before_the_onset_to_twenty_after_it(trip: Explained) -> None:
    found = plots(html_of(trip))
    assert {"frequency", "voltage", "angle", "scores", "map"} <= set(found)
    for name in ("frequency", "voltage", "angle"):
        assert found[name].axis("x")[0][:2] == [-10.0, 20.0]
        for pmu in found[name].names():
            points = [point for stretch in found[name].line(pmu) for point in stretch]
            assert points[0][0] == pytest.approx(-10.0, abs=0.01)
            assert points[-1][0] == pytest.approx(20.0, abs=0.01)


def test_the_traces_are_what_was_measured(trip: Explained) -> None:
    evidence = trip.evidence
    plot = plots(html_of(trip))["frequency"]
    source = trip.story.told[-1].source
    drawn = [point for stretch in plot.line(source) for point in stretch]
    column = evidence.labels.index(source)
    for at_s, hz in drawn[:: len(drawn) // 50]:
        row = int(np.argmin(np.abs(evidence.t_s - at_s)))
        assert hz == pytest.approx(evidence.freq_hz[row, column], abs=0.002)
    assert min(hz for _, hz in drawn) == pytest.approx(59.68, abs=0.03)  # the nadir of the simulation


@pytest.mark.parametrize("name", EACH)
def test_the_marks_are_at_the_times_of_the_alert(explained: dict[str, Explained], name: str) -> None:
    alert, first = explained[name].story.told[-1], explained[name].story.told[0]
    late_s = (first.ts_us - alert.onset_ts_us) / 1e6
    assert first.seq == 1
    for plot in plots(html_of(explained[name])).values():
        marks = plot.marks()
        assert marks["onset"] == pytest.approx(0.0, abs=1e-3)
        low, high = plot.axis("x")[0][:2]
        if low <= late_s <= high:
            assert marks["told"] == pytest.approx(late_s, abs=1e-3)


def test_an_alert_that_came_later_says_by_how_much(explained: dict[str, Explained]) -> None:
    html = html_of(explained["missing"])
    assert "first alert, +1000 ms" in html
    assert "first alert 1000 ms later" in html
    assert "onset and first alert" in html_of(explained["step"])


def test_the_leading_rule_is_over_its_limit_when_the_alert_is_raised(
    explained: dict[str, Explained], trip: Explained
) -> None:
    for found in (*(explained[name] for name in EACH), trip):
        alert, first = found.story.told[-1], found.story.told[0]
        line = plots(html_of(found))["scores"].line(first.rule.replace("_", " "))
        told_s = (first.ts_us - alert.onset_ts_us) / 1e6
        at_once = [
            np.interp(told_s, *np.array(s).T) for s in line if s[0][0] - 0.01 <= told_s <= s[-1][0] + 0.01
        ]
        assert max(at_once) >= 0.97, alert.message
        before = [score for stretch in line for at_s, score in stretch if -1.0 < at_s < -0.1]
        assert max(before, default=0.0) < 1.0 or alert.kind == "oscillation"


def test_the_scores_are_those_that_were_judged(trip: Explained) -> None:
    alert, evidence = trip.story.told[-1], trip.evidence
    assert evidence.digest == alert.model_digest
    row = [rule.name for rule in evidence.rules].index(alert.rule)
    after = evidence.t_s >= 0.0
    assert np.nanmax(evidence.scores[after, row]) == pytest.approx(alert.score, rel=1e-4)


def test_the_pmus_stand_in_the_order_of_their_answers(trip: Explained) -> None:
    facts = facts_of(trip.story.told[-1], trip.evidence)
    delays = [answer.delay_ms for answer in facts.answers if answer.delay_ms is not None]
    assert delays == sorted(delays)
    soon = [a.source for a in facts.answers if a.delay_ms is not None and a.delay_ms <= delays[0] + 100]
    assert trip.story.told[-1].source in soon, (
        "which of those that moved within 0.1 s was the loudest is the alert's to say"
    )
    assert len(facts.shown) == SHOWN_MAX
    largest = {item.quantity: item for item in facts.largest}
    assert largest["frequency"].change == pytest.approx(-0.32, abs=0.03)
    assert {trip.evidence.labels.index(item.source) for item in facts.largest} <= set(facts.shown)


def test_what_is_unknown_is_a_gap(trip: Explained) -> None:
    silent = trip.evidence.labels[6]
    trouble = {t.source: t for t in facts_of(trip.story.told[-1], trip.evidence).troubles}
    assert set(trouble) == {silent}
    assert trouble[silent].unusable == 150
    html = html_of(trip)
    assert "19 of 20 PMUs complete and good" in html
    plot = plots(html)["frequency"]
    assert silent in plot.names(), "the PMU must be one of those in colour for this test"
    before, after = plot.line(silent)
    assert before[-1][0] == pytest.approx(4.0, abs=0.05)
    assert after[0][0] == pytest.approx(9.0, abs=0.05)


def test_a_path_begins_anew_behind_a_gap_and_a_point_alone_is_a_dot() -> None:
    x = np.arange(8.0)
    y = np.array([1.0, 2.0, np.nan, 4.0, np.nan, np.nan, 7.0, 8.0])
    assert line_path(x, y) == "M0 10l10 10M30 40h0M60 70l10 10"
    assert line_path(x, y, step=2) == "M0 10l10 10 20 20M60 70l10 10"
    assert line_path(x, np.full(8, np.nan)) == ""
    assert line_path(x, np.zeros(8)) == "M0 0l70 0"


def test_before_and_after_a_recording_nothing_is_said_to_be_missing(explained: dict[str, Explained]) -> None:
    found = explained["oscillation"]
    assert [note for note in found.notes if "frames begin" in note]
    assert [note for note in found.notes if "frames end" in note]
    missing = [rule.name for rule in found.evidence.rules].index("data_missing")
    assert not (found.evidence.scores[:, missing] >= 1.0).any()


def test_one_pmu_without_voltage_is_a_page_without_voltage_angle_and_map(
    explained: dict[str, Explained],
) -> None:
    found = plots(html_of(explained["step"]))
    assert {"frequency", "scores"} <= set(found)
    assert not {"voltage", "angle", "map"} & set(found)
    assert explained["step"].story.told[0].onset_ts_us == pytest.approx(STEP_S * 1e6, abs=1e5)


def test_two_hundred_pmus_are_twelve_lines_a_band_and_a_map(tmp_path: Path) -> None:
    events = (GridEvent("line_trip", 14.0, at=0.3, size=0.3),)
    settings = FleetSettings(n_pmu=200, start_ns=START_S * 10**9, events=events)
    found = explained_fleet(tmp_path, settings, 37)
    begin = time.perf_counter()
    html = html_of(found)
    assert time.perf_counter() - begin < 5.0
    assert len(html) < 1_500_000
    drawn = plots(html)
    for name in ("frequency", "voltage", "angle"):
        assert len(drawn[name].names()) == SHOWN_MAX
        assert [p for p in drawn[name].svg.iter("path") if p.get("class") == "band"]
    rows = [g for g in drawn["map"].svg.iter("g") if g.find("title") is not None]
    assert len(rows) == 200
    height = float(drawn["map"].svg.attrib["viewBox"].split()[3])
    assert height < 700
    names = [float(text.attrib["y"]) for text in drawn["map"].svg.iter("text") if text.get("class") == "name"]
    assert np.diff(names).min() >= 10.0, "names of rows lie over each other"


def test_names_beside_lines_never_overlap() -> None:
    places = spread(np.array([50.0, 50.0, 51.0, 10.0, 190.0, 190.0]), 12.5, 16.0, 196.0)
    assert np.diff(np.sort(places)).min() >= 12.5 - 1e-9
    assert places.min() >= 16.0 - 1e-9
    assert places.max() <= 196.0 + 1e-9
    assert places[3] < places[0] < places[2] < places[4]


def test_an_axis_has_round_numbers() -> None:
    assert ticks(59.66, 60.02) == pytest.approx([59.7, 59.8, 59.9, 60.0])
    assert tick_words(ticks(-10.0, 20.0, 6), sign=True) == ["−10", "−5", "0", "+5", "+10", "+15", "+20"]
    assert tick_words(ticks(-0.25, 1.0, 6), sign=True)[:3] == ["−0.25", "0.00", "+0.25"]
    assert ticks(0.1, 30.0, log=True) == [0.1, 1.0, 10.0]


def test_a_delay_is_told_in_milliseconds_and_a_long_one_in_seconds() -> None:
    assert [delay_words(ms) for ms in (0.0, 33.33, 1000.0, 12_500.0, 60_000.0)] == [
        *("0 ms", "+33 ms", "+1000 ms", "+12.5 s", "+60 s")
    ]


def test_angles_are_compared_without_the_turn_of_the_grid_and_without_whole_turns() -> None:
    rate_hz, n = 30.0, 900
    deviation = np.full((n, 3), 0.7, dtype=np.float32)
    turn = 2 * np.pi * 0.7 * np.arange(n) / rate_hz
    own = np.stack([np.zeros(n), np.full(n, 2.0), np.where(np.arange(n) < 450, 3.0, 3.3)], axis=1)
    angle = np.angle(np.exp(1j * (turn[:, None] + own)))
    angle[100:400, 1] = np.nan
    found = relative_angle(angle, deviation, rate_hz, np.arange(n) < 300)
    assert np.abs(found[:300, [0, 2]]).max() < 0.01
    assert found[500:, 2] == pytest.approx(np.full(400, np.degrees(0.3)), abs=0.01)
    assert np.isnan(found[100:400, 1]).all()
    assert found[500:, 1] == pytest.approx(np.zeros(400), abs=0.01)


def test_an_unknown_id_names_the_ids_that_are_there(explained: dict[str, Explained]) -> None:
    with pytest.raises(StreamprocError) as error:
        from_recordings(SiteConfig(), None, "zz", [FOUR])
    assert "no id of an alert in C37.118_4in1PMU_TCP.pcap begins with 'zz'" in str(error.value)
    known = explained["bad"].story.told[0].alert_id
    assert f"{known}  2008-08-01T16:10:02.140Z  recording  data_bad, PMU2" in str(error.value)


def test_the_beginning_of_several_ids_is_refused_with_all_of_them(tmp_path: Path) -> None:
    events = tuple(GridEvent("drop_out", 3.0 + 4 * n, duration_s=2.5, pmu=n % 3) for n in range(12))
    settings = FleetSettings(n_pmu=3, rate_hz=10, start_ns=START_S * 10**9, events=events)
    file = tmp_path / "fleet.c37"
    save(list(fleet_records(Fleet(settings), "fleet", 60)), file)
    site = SiteConfig()
    short = msgspec.structs.replace(site, decide=msgspec.structs.replace(site.decide, group_window_ms=500))
    with pytest.raises(StreamprocError) as unknown:
        from_recordings(short, None, "none", [file])
    ids = re.findall(r"^  ([0-9a-f]{32})  ", str(unknown.value), re.MULTILINE)
    first = next(c for c in "0123456789abcdef" if sum(known.startswith(c) for known in ids) > 1)
    with pytest.raises(StreamprocError) as error:
        from_recordings(short, None, first, [file])
    mine = [known for known in ids if known.startswith(first)]
    assert f"{first!r} begins the ids of {len(mine)} alerts of fleet.c37; give more of it" in str(error.value)
    assert all(known in str(error.value) for known in mine)
    assert from_recordings(short, None, mine[0][:12], [file]).story.told[0].alert_id == mine[0]


def test_a_recording_without_an_alert_says_so() -> None:
    with pytest.raises(StreamprocError, match=r"there is no alert in framecapture\.PmuCapture"):
        from_recordings(SiteConfig(), None, "latest", [DATA / "pmu_capture" / "framecapture.PmuCapture"])


def from_topics(monkeypatch: pytest.MonkeyPatch, told: list[Alert], found: Found) -> Explained:
    """Return the explanation that these records of a broker give."""

    async def read_told(site: SiteConfig, wanted: str) -> list[Alert]:
        return told

    async def read_around(site: SiteConfig, alert: Alert) -> Found:
        return found

    monkeypatch.setattr(sources, "read_told", read_told)
    monkeypatch.setattr(sources, "read_around", read_around)
    return asyncio.run(sources.from_broker(SiteConfig(), None, "latest"))


def test_the_frames_of_a_broker_give_the_page_of_the_recording(
    trip: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tuple(fleet_records(Fleet(TRIP), "fleet", 60))
    found = from_topics(monkeypatch, trip.story.told, Found(records, None))
    assert found.notes == ()
    assert found.commands[0] == f"streamproc explain {trip.alert.alert_id}"
    assert page(found.story.told, found.evidence) == page(trip.story.told, trip.evidence)


def test_frames_that_retention_has_cut_are_drawn_and_said_to_be_cut(
    trip: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = list(fleet_records(Fleet(TRIP), "fleet", 60))
    kept = tuple(r for r in records if r.topic != TOPIC_FRAMES or r.ts_ms >= (START_S + 20) * 1000)
    found = from_topics(monkeypatch, trip.story.told, Found(kept, (2, 77, (START_S + 20) * 10**6)))
    assert (
        "Older records are gone: partition 2 begins with offset 77, 5 s before the onset." in found.notes[0]
    )
    assert "The frames begin 5.0 s before the onset." in found.notes
    points = [p for s in plots(html_of(found))["frequency"].line(trip.alert.source) for p in s]
    assert points[0][0] == pytest.approx(-5.0, abs=0.1)


def test_frames_that_do_not_raise_the_alert_again_are_drawn_with_a_warning(
    trip: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = msgspec.structs.replace(trip.alert, alert_id="f" * 32, model_digest="ab" * 32)
    found = from_topics(monkeypatch, [other], Found(tuple(fleet_records(Fleet(TRIP), "fleet", 60)), None))
    assert "do not raise the alert of this id" in found.notes[-1]
    assert "another bundle, or other PMUs" in html_of(found)


def test_what_a_describer_said_is_on_the_page_and_the_nadir_in_the_trace(trip: Explained) -> None:
    alert = trip.story.told[0]
    told = tuple(
        msgspec.structs.replace(alert, seq=1 + n, disturbance=described(alert, age_s, nadir_hz))
        for n, (age_s, nadir_hz) in enumerate([(0.5, 59.60), (1.0, 59.65), (2.0, 59.68)])
    )
    html = page(told, trip.evidence)
    root = fromstring(html)
    text = " ".join(" ".join(root.itertext()).split())
    for words in (
        "Supply lost, 88% sure, perhaps generator (60%)",
        "1,240 MW (nine times of ten from 900 to 1,610)",
        "59.680 Hz (nine times of ten from 59.660 to 59.700)",
        "0.35 Hz (nine times of ten from 0.33 to 0.37), damping 6.0% (3.0% to 9.0%), most at STATION 01",
        "Cleared after 83 ms",
        "Islands STATION 01, STATION 02",
        "dashed, told at +0.5 s: 59.600 Hz",
        "solid, told at +2.0 s: 59.680 Hz",
    ):
        assert words in text, words
    assert [f.told_s for f in forecasts_of(told)] == [0.5, 2.0]
    plot = plots(html)["frequency"]
    early, late = [rect for rect in plot.svg.iter("rect") if "forecast" in rect.get("class", "")]
    for rect, nadir_hz in ((early, 59.60), (late, 59.68)):
        left, top, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert plot.value(top) == pytest.approx(nadir_hz + 0.02, abs=1e-3)
        assert plot.value(top + height) == pytest.approx(nadir_hz - 0.02, abs=1e-3)
        assert plot.seconds(left) == pytest.approx(2.9, abs=0.01)
        assert plot.seconds(left + width) == pytest.approx(5.4, abs=0.01)


def described(alert: Alert, age_s: float, nadir_hz: float) -> Disturbance:
    return Disturbance(
        onset_ts_us=alert.onset_ts_us,
        ts_us=alert.onset_ts_us + round(age_s * 1e6),
        kind="supply_lost",
        confidence=0.88,
        chances={"supply_lost": 0.88, "load_lost": 0.02, "topology": 0.1},
        finer="generator",
        finer_confidence=0.6,
        size_mw=Estimate(value=1240.0, low=900.0, high=1610.0),
        rocof_hz_s=-0.13,
        nadir_hz=Estimate(value=nadir_hz, low=nadir_hz - 0.02, high=nadir_hz + 0.02),
        nadir_after_s=Estimate(value=3.9, low=2.9, high=5.4),
        place=("STATION 06",),
        responses=(Response(source="STATION 06", delay_ms=0.0), Response(source="STATION 07", delay_ms=33.0)),
        modes=(
            Mode(
                freq_hz=Estimate(value=0.35, low=0.33, high=0.37),
                damping_ratio=Estimate(value=0.06, low=0.03, high=0.09),
                energy=0.8,
                sources=("STATION 01",),
            ),
        ),
        clearing_ms=83.0,
        islands=(("STATION 01", "STATION 02"), ("STATION 20",)),
        model_digest="ab" * 32,
    )


def test_the_order_that_the_alert_tells_is_that_of_the_page(trip: Explained) -> None:
    alert = trip.story.told[0]
    known = msgspec.structs.replace(alert, disturbance=described(alert, 2.0, 59.68))
    answers = facts_of(known, trip.evidence).answers
    assert [(a.source, a.delay_ms) for a in answers[:2]] == [("STATION 06", 0.0), ("STATION 07", 33.0)]


def test_a_name_from_the_wire_is_shown_and_not_carried_out(trip: Explained) -> None:
    alert = msgspec.structs.replace(
        trip.story.told[0], message="<script>alert(1)</script> & \x1b[31m", source='"><b>\x00', area="<area>"
    )
    html = page([alert], trip.evidence, commands=["echo '<&>'"], notes=["<note>"])
    root = fromstring(html)
    assert "".join(root.find(".//h1").itertext()) == "<script>alert(1)</script> & ?[31m"
    assert len(root.findall(".//script")) == 1
    assert not root.findall(".//b")


def test_an_alert_is_found_again_by_what_it_says_of_its_replay(explained: dict[str, Explained]) -> None:
    alert = explained["step"].story.told[-1]
    hint = replay_hint(alert)
    assert (hint.topic, hint.key) == (TOPIC_FRAMES, "recording")
    assert (hint.from_ts_us, hint.to_ts_us) == (
        alert.onset_ts_us - 10_000_000,
        alert.onset_ts_us + 20_000_000,
    )
    assert hint.command == f"streamproc explain {alert.alert_id}"
    command = explained["step"].commands[0]
    assert command.startswith(hint.command + " --recording ")
    assert command in html_of(explained["step"])


def test_an_alert_about_a_point_shows_its_values_and_limits(tmp_path: Path) -> None:
    points = ScadaPoints("city", seed=1, pivot_ns=START_S * 10**9)
    file = tmp_path / "points.ndjson"
    site = SiteConfig(area=(AreaTable(name="city"),), point=catalogue("city"))
    batches = (points.batch((START_S + 60 * minute) * 10**9) for minute in range(-90, 45))
    file.write_bytes(b"".join(encode(batch) + b"\n" for batch in batches))
    found = from_recordings(site, None, "latest", [file])
    alert = found.story.told[-1]
    html = html_of(found)
    plot = plots(html)[alert.source]
    values = [value for stretch in plot.line(alert.source) for _, value in stretch]
    assert max(values) >= alert.limit > min(values)
    assert plot.axis("x")[0][:2] == [-60.0, 20.0]
    (limit,) = [p for p in plot.svg.iter("path") if p.get("class") == "limit"][:1]
    at = float(re.match(r"M[0-9.]+ ([0-9.]+)H", limit.attrib["d"])[1])
    assert plot.value(at) == pytest.approx(alert.limit, rel=0.01)
    assert replay_hint(alert).topic == TOPIC_SCADA


def test_an_alert_of_which_no_frames_are_left_is_a_page_without_figures(trip: Explained) -> None:
    html = page(trip.story.told, None, notes=["No frames of this area were seen around the onset."])
    assert not plots(html)
    assert "No frames of this area" in html
    assert trip.story.told[-1].source in html


def test_saved_records_are_a_recording_again(tmp_path: Path) -> None:
    settings = FleetSettings(n_pmu=2, start_ns=START_S * 10**9)
    records = list(fleet_records(Fleet(settings), "north", 2))
    file = tmp_path / "cut.c37"
    assert save(records, file) == file.stat().st_size
    again = list(read_recording(file, area="north"))
    frames = [r.value for r in records if r.topic == TOPIC_FRAMES]
    assert frames[-60:] == [r.value for r in again if r.topic == TOPIC_FRAMES][-60:]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        app([str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_command_writes_a_page_and_says_where(
    here: Path, explained: dict[str, Explained], capfd: pytest.CaptureFixture[str]
) -> None:
    known = explained["missing"].story.told[0].alert_id
    assert typed("explain", known[:9], "--recording", FOUR) == 0
    told = capfd.readouterr()
    assert told.out == f"explain-{known[:12]}.html\n"
    assert "note: The frames end 14.5 s after the onset" in told.err
    assert "No data from PMU1 and 3 others" in (here / told.out.strip()).read_text()


def test_the_command_prints_the_facts_as_json(
    here: Path, explained: dict[str, Explained], capfd: pytest.CaptureFixture[str]
) -> None:
    known = explained["missing"].story.told[0].alert_id
    assert typed("explain", known, "--recording", FOUR, "--json", "-q") == 0
    told = capfd.readouterr()
    tree = orjson.loads(told.out)
    assert told.err == ""
    assert tree["alert"]["alert_id"] == known
    assert tree["page"] is None
    assert [answer["source"] for answer in tree["facts"]["answers"]] == ["PMU1", "PMU2", "PMU3", "PMU4"]
    assert tree["facts"]["judged"][0]["rule"]["name"] in {"data_missing", "data_bad"}
    assert tree["replay"]["from_ts_us"] == tree["alert"]["onset_ts_us"] - int(PRE_S * 1e6)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("explain", "zz", "--recording", FOUR), 1, "no id of an alert"),
        (("explain", "latest", "--recording", "none.pcap"), 1, "there is no such file"),
        (("explain", "latest", "--bootstrap", "127.0.0.1:1"), 1, "no Kafka answers at 127.0.0.1:1"),
        (("explain", "latest", "--recording", FOUR, "--out", "no/such/folder.html"), 1, "cannot be written"),
        (("explain", "latest", "--recording", FOUR, "--save", "x.c37"), 2, "nothing to save"),
        (("explain",), 2, ""),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(
    here: Path, capfd: pytest.CaptureFixture[str], words: tuple[object, ...], code: int, said: str
) -> None:
    assert typed(*words) == code
    told = capfd.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not list(here.iterdir())

"""Protects the path as a whole: the same bytes in, however split, give the same bytes out; and true events are found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from streamproc import pipeline
from streamproc.config import SiteConfig
from streamproc.core.messages import encode
from streamproc.shell.demo_script import compare, events
from streamproc.shell.offline import make_path
from streamproc.shell.recording import read_recording
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import RISING_FEEDER, ScadaPoints, catalogue, resources
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_FINDINGS,
    TOPIC_FORECASTS,
    TOPIC_FRAMES,
    TOPIC_SCADA,
    TOPIC_SETPOINTS,
    Output,
    Record,
)

DATA = Path(__file__).parents[1] / "data"
NOW_NS = 1_700_000_000_000_000_000
EVENTS = (
    GridEvent("line_trip", 8.0, at=0.6, size=0.3),
    GridEvent("drop_out", 14.0, duration_s=4.0, pmu=1),
)


def outputs(
    records: Sequence[Record], cuts: Sequence[int] = (), config: SiteConfig | None = None
) -> list[Output]:
    path = make_path(config or SiteConfig())
    bounds = [0, *sorted(cuts), len(records)]
    return [output for first, stop in pairwise(bounds) for output in path.feed(records[first:stop])]


def by_topic(made: Sequence[Output]) -> dict[str, list[Output]]:
    """Return the outputs as a broker keeps them: in order within a topic, in none between topics."""
    return {topic: [o for o in made if o.topic == topic] for topic in {o.topic for o in made}}


def alerts_of(made: Sequence[Output]) -> list[dict[str, object]]:
    return [orjson.loads(output.value) for output in made if output.topic == TOPIC_ALERTS]


def fleet(*what: GridEvent, seconds: int = 25) -> tuple[Fleet, list[Record]]:
    settings = FleetSettings(n_pmu=6, start_ns=NOW_NS, events=what)
    return Fleet(settings), list(fleet_records(Fleet(settings), "fleet", seconds))


def mixed() -> list[Record]:
    """Return frames with an event and SCADA batches, by their times, with a bad record among them."""
    _, frames = fleet(*EVENTS)
    points = ScadaPoints("fleet", 1, NOW_NS)
    times = [NOW_NS + minute * 60_000_000_000 for minute in range(-190, 1)]
    batches = [
        Record(TOPIC_SCADA, 0, i, t // 1_000_000, b"fleet", encode(points.batch(t)))
        for i, t in enumerate(times)
    ]
    bad_ms = NOW_NS // 1_000_000 + 5000
    bad = [
        Record(TOPIC_SCADA, 0, 900, bad_ms, b"fleet", b"{"),
        Record(TOPIC_FRAMES, 0, 901, bad_ms, b"fleet", b"\xaa\x01"),
    ]
    return sorted([*batches, *frames, *bad], key=lambda record: record.ts_ms)


@pytest.mark.parametrize("name", ["C37.118_4in1PMU_TCP.pcap", "c37_pmu_unclean.pcap"])
def test_a_real_capture_split_at_random_gives_byte_equal_outputs(name: str) -> None:
    records = list(read_recording(DATA / "c37118_pcaps" / name))
    whole = outputs(records)
    assert alerts_of(whole)
    for seed in range(3):
        rng = random.Random(seed)
        cuts = rng.sample(range(1, len(records)), rng.choice([1, 7, 100]))
        assert by_topic(outputs(records, cuts)) == by_topic(whole)


def test_frames_and_measurements_together_split_at_random_give_byte_equal_outputs() -> None:
    config = SiteConfig(point=catalogue("fleet"), resource=resources())
    records = mixed()
    whole = outputs(records, config=config)
    assert {o.topic for o in whole} >= {TOPIC_FINDINGS, TOPIC_ALERTS, TOPIC_FORECASTS, TOPIC_SETPOINTS}
    assert {o.topic for o in whole} >= {f"{TOPIC_FRAMES}.dlq", f"{TOPIC_SCADA}.dlq"}
    rng = random.Random(7)
    cuts = rng.sample(range(1, len(records)), 40)
    assert by_topic(outputs(records, cuts, config)) == by_topic(whole)
    assert by_topic(outputs(records, range(1, len(records)), config)) == by_topic(whole)


def test_a_line_trip_is_one_alert_at_its_first_frame_and_a_drop_out_one_of_quality() -> None:
    _, records = fleet(*EVENTS)
    raised = [alert for alert in alerts_of(outputs(records)) if alert["seq"] == 1]
    assert [alert["family"] for alert in raised] == ["grid", "quality"]
    assert [alert["onset_ts_us"] for alert in raised] == [
        (NOW_NS + s * 1_000_000_000) // 1000 for s in (8, 14)
    ]
    assert raised[1]["source"] == "STATION 02"


def test_the_scripted_events_of_the_demo_are_all_found_with_their_onsets() -> None:
    made = Fleet(FleetSettings(start_ns=NOW_NS, events=events()[:3]))
    records = list(fleet_records(Fleet(made.settings), "fleet", 60))
    found = compare(made.truths(), alerts_of(outputs(records)), NOW_NS + 60_000_000_000)
    assert [event.truth.kind for event in found] == ["generator_trip", "drop_out", "line_trip"]
    assert all(event.alert is not None for event in found)
    assert max(abs(event.onset_error_s) for event in found) < 0.05


def test_a_quiet_fleet_says_nothing() -> None:
    _, records = fleet(seconds=60)
    assert alerts_of(outputs(records)) == []


def test_a_rising_feeder_is_forecast_over_its_limit_and_the_storage_is_advised() -> None:
    config = SiteConfig(point=catalogue("fleet"), resource=resources())
    made = outputs(mixed(), config=config)
    forecasts = [orjson.loads(o.value) for o in made if o.topic == TOPIC_FORECASTS]
    last = [f for f in forecasts if f["series"] == RISING_FEEDER][-1]
    assert last["method"] == "model"
    assert max(last["quantiles"]["P90"]) > 12.0
    advice = [orjson.loads(o.value) for o in made if o.topic == TOPIC_SETPOINTS][-1]
    assert advice["advice_only"] is True
    assert advice["forward"][0]["resource"] == "BAT1"


def test_a_csv_takes_the_same_way_as_frames(tmp_path: Path) -> None:
    t_s = np.arange(0, 30, 1 / 30)
    rng = np.random.default_rng(1)
    freq = 60 + rng.normal(0, 5e-4, t_s.size)
    freq[600:] -= 0.6
    lines = [f"{t:.6f},{f:.5f}" for t, f in zip(t_s, freq, strict=True)]
    path = tmp_path / "step.csv"
    path.write_text("time_s,NORTH_freq_hz\n" + "\n".join(lines) + "\n")
    (raised,) = [a for a in alerts_of(outputs(list(read_recording(path, area="north")))) if a["seq"] == 1]
    assert (raised["area"], raised["source"]) == ("north", "NORTH")
    assert raised["onset_ts_us"] == 20_000_000


def test_run_takes_any_number_of_records_at_a_time() -> None:
    _, records = fleet(*EVENTS)
    by_one = by_topic(list(pipeline.run(make_path(SiteConfig()), iter(records), 1)))
    assert by_one == by_topic(list(pipeline.run(make_path(SiteConfig()), iter(records), 10_000)))

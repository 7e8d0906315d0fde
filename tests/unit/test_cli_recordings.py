"""Protects the commands by which strangers judge detection: `score`, `simulate`, `replay` and `ack`, as they are typed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from streamproc.cli.root import app
from streamproc.config import BrokerTable, SiteConfig
from streamproc.core.messages import Operator
from streamproc.pipeline import run
from streamproc.shell.memory_broker import MemoryBroker
from streamproc.shell.offline import make_path
from streamproc.shell.operator import send
from streamproc.shell.recording import read_recording
from streamproc.values import TOPIC_ALERTS, TOPIC_FRAMES, TOPIC_OPERATOR

DATA = Path(__file__).parents[1] / "data"


def typed(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        app([str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_score_prints_exactly_the_values_of_the_alerts_topic(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    pcap = DATA / "c37118_pcaps" / "C37.118_4in1PMU_TCP.pcap"
    assert typed("score", pcap, "--area", "north") == 0
    told = capfdbinary.readouterr()
    outputs = run(make_path(SiteConfig()), read_recording(pcap, area="north"))
    expected = [output.value for output in outputs if output.topic == TOPIC_ALERTS]
    assert told.out.splitlines() == expected
    assert {orjson.loads(line)["area"] for line in expected} == {"north"}
    assert b"1342 frames" in told.err


def test_score_quietly_says_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert typed("score", DATA / "c37118_pcaps" / "C37.118_1PMU_UDP.pcap", "--quiet") == 0
    assert capfd.readouterr().err == ""


def test_the_only_area_of_a_site_file_is_that_of_the_recording(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[[area]]\nname = "south"\nposition = "desk-2"\n')
    assert typed("score", DATA / "c37118_pcaps" / "C37.118_4in1PMU_TCP.pcap", "--config", site) == 0
    alerts = [orjson.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {(alert["area"], alert["position"]) for alert in alerts} == {("south", "desk-2")}


@pytest.mark.parametrize(
    ("name", "words"),
    [("none.csv", "there is no such file"), ("Sample1344.PmuCapture", "IEEE 1344")],
)
def test_a_recording_that_cannot_be_read_is_one_sentence_and_exit_code_one(
    name: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed("score", DATA / "pmu_capture" / name) == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith("streamproc: ")
    assert words in told.err
    assert len(told.err.splitlines()) == 1


def test_a_simulated_fleet_is_written_the_same_twice_and_its_event_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "a.c37", tmp_path / "b.c37"]
    for file in files:
        assert (
            typed("simulate", "pmu", "--out", file, "--seconds", 20, "--pmus", 5, "--event", "line_trip@10")
            == 0
        )
    assert files[0].read_bytes() == files[1].read_bytes()
    truth = orjson.loads(capfd.readouterr().out.splitlines()[0])
    assert truth["kind"] == "line_trip"
    assert typed("score", files[0], "-q") == 0
    first = orjson.loads(capfd.readouterr().out.splitlines()[0])
    assert (first["family"], first["onset_ts_us"]) == ("grid", truth["start_ts_us"])


def test_simulated_points_are_a_recording_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert typed("simulate", "scada", "--out", tmp_path / "points.ndjson", "--hours", 0.5) == 0
    assert typed("score", tmp_path / "points.ndjson") == 0
    assert "0 frames, 0 alert transitions" in capfd.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "pmu"),
        ("simulate", "pmu", "--out", "x.c37", "--event", "earthquake@5"),
        ("replay", "x.csv", "--speed", "fast"),
        ("demo", "--broker", "rabbit"),
    ],
)
def test_a_wrong_call_is_exit_code_two(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert typed(*words) == 2
    assert capfd.readouterr().err


def test_replay_and_ack_reach_a_broker(capfd: pytest.CaptureFixture[str]) -> None:
    async def values(bootstrap: str, topic: str, count: int) -> list[tuple[bytes | None, bytes | None]]:
        async with AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            found = [await asyncio.wait_for(anext(consumer), 10.0) for _ in range(count)]
        return [(record.key, record.value) for record in found]

    recording = DATA / "pmu_capture" / "framecapture.PmuCapture"
    with MemoryBroker() as broker:
        broker.start()
        assert typed("replay", recording, "--to", broker.bootstrap, "--speed", "max", "--area", "north") == 0
        assert "496 records sent" in capfd.readouterr().err
        sent = asyncio.run(values(broker.bootstrap, TOPIC_FRAMES, 495))
        expected = [
            (r.key, r.value) for r in read_recording(recording, area="north") if r.topic == TOPIC_FRAMES
        ]
        assert sent == expected
        site = SiteConfig(broker=BrokerTable(bootstrap=broker.bootstrap))
        said = Operator(action="acknowledge", alert_id="a" * 32, user="op1", comment="seen", ts_us=1)
        asyncio.run(send(site, said))
        ((key, value),) = asyncio.run(values(broker.bootstrap, TOPIC_OPERATOR, 1))
        assert typed("ack", "a" * 32, "--bootstrap", broker.bootstrap) == 1  # nobody raised it
    message = orjson.loads(value or b"")
    assert key == b"a" * 32
    assert (message["action"], message["user"], message["comment"]) == ("acknowledge", "op1", "seen")

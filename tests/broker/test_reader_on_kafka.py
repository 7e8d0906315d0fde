"""Protects the readers on a real broker: alerts once, groups that go on, dead letters whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streamproc.cli.root import app
from streamproc.errors import ShellError
from streamproc.reader import ConflictError, Reader, Transition

pytestmark = pytest.mark.broker


def alert(identity: str, seq: int, message: str = "m") -> tuple[bytes, bytes]:
    value = {
        "alert_id": identity,
        "seq": seq,
        "state": "UNACK",
        "priority": 2,
        "family": "grid",
        "message": message,
    }
    return identity.encode(), json.dumps(value | {"ts_us": 1_000_000}).encode()


def read(kafka: str, topic: str, count: int | None = None, **options: Any) -> list[Transition]:
    async def run() -> list[Transition]:
        found: list[Transition] = []
        async with Reader(kafka, topic=topic, follow=count is not None, **options) as reader:
            async for transition in reader:
                found.append(transition)
                if len(found) == count:
                    break
        return found

    return asyncio.run(run())


def test_duplicates_are_given_out_once(kafka: str, topics: Any) -> None:
    topic = topics.create("alerts", 2)
    topics.fill(topic, [alert("a", 1), alert("a", 1), alert("b", 1), alert("a", 2), alert("a", 1)])
    topics.fill(topic, [alert("b", 1), alert("c", 1)], partition=1)  # another worker, after a rebalance
    assert sorted((t.id, t.seq) for t in read(kafka, topic)) == [("a", 1), ("a", 2), ("b", 1), ("c", 1)]


def test_differing_bytes_are_raised(kafka: str, topics: Any) -> None:
    topic = topics.create("alerts")
    topics.fill(topic, [alert("a", 1), alert("a", 1, "another")])
    with pytest.raises(ConflictError, match="a seq 1 came twice with different bytes"):
        read(kafka, topic)


def test_a_group_goes_on_where_it_stopped_and_remembers_what_it_gave_out(kafka: str, topics: Any) -> None:
    topic = topics.create("alerts")
    group = topic + ".reader"
    topics.fill(topic, [alert("a", 1), alert("a", 2)])
    assert [t.seq for t in read(kafka, topic, group=group)] == [1, 2]
    topics.fill(topic, [alert("a", 1), alert("a", 2), alert("a", 3)])
    assert [t.seq for t in read(kafka, topic, group=group)] == [3]
    assert topics.committed(group, topic) == 5
    assert read(kafka, topic, group=group) == []


def test_what_is_no_transition_is_counted_and_left_away(kafka: str, topics: Any) -> None:
    topic = topics.create("alerts")
    topics.fill(
        topic,
        [
            (b"k", b"not json"),
            (b"k", None),
            (b"k", b"[1]"),
            (b"k", b'{"alert_id": 3, "seq": 1}'),
            alert("a", 1),
        ],
    )

    async def run() -> tuple[list[str], int]:
        async with Reader(kafka, topic=topic, follow=False) as reader:
            return [t.id async for t in reader], reader.foreign_count

    assert asyncio.run(run()) == (["a"], 3)


def test_another_topic_with_its_own_id_field_works_too(kafka: str, topics: Any) -> None:
    topic = topics.create("setpoints")
    topics.fill(topic, [(b"r", b'{"recommendation_id":"r","seq":1}')] * 2)
    assert [t.id for t in read(kafka, topic, id_field="recommendation_id")] == ["r"]


def test_a_missing_topic_is_one_sentence(kafka: str, topics: Any) -> None:
    with pytest.raises(ShellError, match=f"there is no topic {topics.prefix}absent at {kafka}"):
        read(kafka, topics.prefix + "absent")


def site_file(tmp_path: Path, kafka: str, prefix: str) -> str:
    file = tmp_path / "site.toml"
    file.write_text(f'[broker]\nbootstrap = "{kafka}"\ntopic_prefix = "{prefix}"\n')
    return str(file)


def run_command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        app(words)
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_the_alerts_command_prints_each_transition_once(
    kafka: str, topics: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topics.create("grid.alerts.v1")
    topics.fill(topic, [alert("a", 1, "too\x1b[31m low"), alert("a", 1, "too\x1b[31m low")])
    file = site_file(tmp_path, kafka, topics.prefix)
    code, out, _ = run_command(capsys, "alerts", "-c", file)
    assert (code, out) == (0, "1970-01-01T00:00:01.000Z  P2 UNACK  grid     too?[31m low\n")
    code, out, _ = run_command(capsys, "alerts", "-c", file, "--json")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1]


def test_dead_letters_are_listed_and_shown_with_their_origin(
    kafka: str, topics: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topics.create("grid.scada.measurements.v1.dlq")
    producer = Producer({"bootstrap.servers": kafka})
    for n in range(3):
        headers = {"reason": "not_json", "detail": f"byte {n}", "topic": "grid.scada.measurements.v1"}
        headers |= {"partition": "2", "offset": str(40 + n), "time": "2026-11-03T06:00:00Z"}
        producer.produce(topic, b"{\x00" * (n + 1), b"north", headers=headers)
    assert producer.flush(30) == 0
    file = site_file(tmp_path, kafka, topics.prefix)
    code, out, _ = run_command(capsys, "dlq", "ls", "-c", file)
    assert code == 0
    assert f"not_json               grid.scada.measurements.v1/2/41  byte 1  [{topic}/0/1]" in out
    assert out.splitlines()[-1] == "       3  not_json               grid.scada.measurements.v1"
    code, out, _ = run_command(capsys, "dlq", "ls", "-c", file, "--json", "--last", "2")
    assert [(x["reason"], x["offset"], x["size"]) for x in json.loads(out)] == [
        ("not_json", 41, 4),
        ("not_json", 42, 6),
    ]
    code, out, _ = run_command(capsys, "dlq", "show", f"{topic}/0/2", "-c", file, "--json")
    assert bytes.fromhex(json.loads(out)["value_hex"]) == b"{\x00" * 3
    code, out, _ = run_command(capsys, "dlq", "show", f"{topic}/0/2", "-c", file)
    assert "origin   grid.scada.measurements.v1/2/42" in out
    assert "7b 00 7b 00 7b 00" in out
    code, _, err = run_command(capsys, "dlq", "show", f"{topic}/0/99", "-c", file)
    assert code == 1
    assert err == f"streamproc: there is no dead letter {topic}/0/99: `streamproc dlq ls` prints the places\n"
    code, out, _ = run_command(capsys, "dlq", "ls", "-c", file, "--topic", "grid.alerts.v1")
    assert out == "no dead letters\n"

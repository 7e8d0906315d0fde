"""Protects the records beside a bad one: a stage that raises and an output that is refused cost one record, not a batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_rig import Site, differences, expected, until

pytestmark = pytest.mark.broker


@pytest.fixture
def site(topics: Any, tmp_path: Path) -> Iterator[Site]:
    made = Site(topics, tmp_path)
    yield made
    made.close()


def test_a_stage_that_raises_costs_the_record_that_makes_it_raise(site: Site) -> None:
    site.create()
    words = {p: [f"id{n}" for n in range(300)] for p in range(4)}
    words[0][117] = "boom-a"
    words[2][3] = "flaky-b"
    words[2][299] = "boom-c"
    for partition, given in words.items():
        site.fill(given, partition)
    site.start()
    wanted = expected(words)
    until("all outputs", lambda: site.end_of("out") >= len(wanted))
    until("both dead letters", lambda: site.end_of("in.dlq") >= 2)
    until("the commit", lambda: site.committed() == [250, 250, 249, 250])
    assert differences(site.outputs(), wanted) == []
    assert site.dead_letters() == {"boom-a:117": "poison", "boom-c:299": "poison"}
    assert site.workers[0].poll() is None


def test_an_output_that_the_broker_refuses_costs_the_record_that_made_it(site: Site) -> None:
    # A limit of batches, as Kafka means it: small outputs that are sent together exceed it too, and must not be lost.
    site.create(**{"max.message.bytes": "1500"})
    words = {p: [f"id{n}" for n in range(300)] for p in range(4)}
    words[1][42] = "big-a"
    words[3][0] = "big-b"
    for partition, given in words.items():
        site.fill(given, partition)
    site.start()
    wanted = expected(words)
    until("both dead letters", lambda: site.end_of("in.dlq") >= 2)
    until("the commit", lambda: site.committed() == [250] * 4)
    until("all outputs", lambda: site.outputs().keys() >= wanted.keys())
    assert differences(site.outputs(), wanted) == []
    assert site.dead_letters() == {"big-a:42": "output_refused", "big-b:0": "output_refused"}
    assert site.workers[0].poll() is None


def test_if_nothing_can_be_written_the_worker_ends_with_one_line_and_commits_nothing(site: Site) -> None:
    # Neither the output nor its dead letter (65 KiB and its headers) nor anything else: the topics take 200 bytes.
    site.create(**{"max.message.bytes": "100"})
    site.topics.delete([site.prefix + "in.dlq"])
    site.topics.create("in.dlq", 1, {"max.message.bytes": "100"})
    site.fill([f"id{n}" for n in range(50)], 0)
    (worker,) = site.start()
    assert worker.wait(40) == 1
    lines = [line for line in site.said().splitlines() if line.startswith("streamproc: ")]
    assert len(lines) == 2
    assert re.match(
        r"streamproc: not even the dead letter of a record can be written: .*in\.dlq refuses", lines[1]
    )
    assert "Traceback" not in site.said()
    assert site.committed() == [None] * 4
    assert site.end_of("out") == 0

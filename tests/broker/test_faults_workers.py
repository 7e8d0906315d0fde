"""Protects against loss when workers come and go: killed, joining, leaving; every id is there, duplicates are equal."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_rig import Site, differences, kill, until

pytestmark = pytest.mark.broker

KILLS = 20


@pytest.fixture
def site(topics: Any, tmp_path: Path) -> Iterator[Site]:
    made = Site(topics, tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_twenty_kills_in_the_middle_of_batches_lose_nothing_and_change_nothing(site: Site) -> None:
    site.create()
    chance = random.Random(3)
    site.start(count=2)
    with site.load(per_second=2000) as load:
        for number in range(KILLS):
            before = site.end_of("out")
            until("work between two kills", lambda before=before: site.end_of("out") > before + 300)
            # Somewhere in the tenths of a second that hold stepping, publishing, blobs and commits.
            time.sleep(chance.random() * 0.3)
            kill(site.workers[number])
            site.start()
    until("everything answered", lambda: site.outputs().keys() >= load.expected().keys(), 60, 1.0)
    assert differences(site.outputs(), load.expected()) == []
    assert site.end_of("out") > len(load.expected()), "no kill hit a batch: this run has proved nothing"


@pytest.mark.slow
def test_a_stage_with_two_inputs_says_one_thing_about_each_record_through_kills(
    topics: Any, tmp_path: Path
) -> None:
    site = Site(topics, tmp_path, inputs=("left", "right"), partitions=1)
    try:
        site.create()
        chance = random.Random(4)
        site.start("merge", count=2)
        with site.load(per_second=1000) as load:
            for number in range(6):
                before = site.end_of("out")
                until("work between two kills", lambda before=before: site.end_of("out") > before + 200)
                time.sleep(chance.random() * 0.3)
                kill(site.workers[number])
                site.start("merge")
        words = {f"{word}:{n}" for sent in load.sent.values() for n, word in enumerate(sent)}
        until("everything answered", lambda: site.outputs().keys() >= words, 60, 1.0)
        found = site.outputs()
        assert found.keys() == words
        assert [key for key, values in found.items() if len(values) > 1] == []
        numbers = sorted(json.loads(next(iter(values)))["number"] for values in found.values())
        assert numbers == list(range(1, len(words) + 1))
    finally:
        site.close()


@pytest.mark.slow
def test_a_second_worker_joins_and_leaves_under_load(site: Site) -> None:
    site.create()
    site.start()
    with site.load(per_second=2000) as load:
        until("the first works", lambda: site.end_of("out") > 500)
        (second,) = site.start()
        until("the second works", lambda: "partitions=2" in site.said(1))
        before = site.end_of("out")
        until("both work", lambda: site.end_of("out") > before + 1000)
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
        before = site.end_of("out")
        until("the first works on alone", lambda: site.end_of("out") > before + 1000)
    wanted = load.expected()
    until("everything answered", lambda: site.outputs().keys() >= wanted.keys(), 40, 0.5)
    assert differences(site.outputs(), wanted) == []
    repeated = site.end_of("out") - len(wanted)
    assert repeated == 0, "workers that part in peace hand over exactly"


def test_a_drained_worker_leaves_within_its_time_commits_and_leaves_no_file(site: Site) -> None:
    site.create()
    site.fill([f"id{n}" for n in range(500)])
    (worker,) = site.start()
    until("all outputs", lambda: site.end_of("out") >= 500)
    started_s = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(12) == 0
    assert time.monotonic() - started_s < 10
    assert site.committed()[0] == 450
    assert list(site.cwd.iterdir()) == []
    assert list(site.tmp.iterdir()) == []


def test_a_second_signal_ends_it_at_once_and_a_hanging_stage_ends_itself(site: Site) -> None:
    site.create()
    site.worker["stall_timeout_ms"] = 3000
    site.fill(["id0", "hang"])
    (worker,) = site.start()
    until("it works", lambda: "partitions taken over" in site.said())
    assert worker.wait(15) == 1
    assert "the event loop hangs" in site.said()
    assert site.committed()[0] is None

    site.worker["stall_timeout_ms"] = 60_000
    site.topics.fill(site.prefix + "in", [(b"k", b"slow%d:1" % n) for n in range(400)], partition=1)
    site.topics.delete([site.prefix + "out"])
    (worker,) = site.start()
    until("it works", lambda: "slow work" in site.said())
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    worker.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    assert worker.wait(5) == 1
    assert time.monotonic() - started_s < 4

"""Protects against a broker that goes: restarted, the worker goes on and nothing is lost; gone for good, the worker ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_rig import Site, differences, until

pytestmark = pytest.mark.broker


@pytest.fixture
def site(own_kafka: Any, topics_at: Any, tmp_path: Path) -> Iterator[Site]:
    made = Site(topics_at(own_kafka.bootstrap), tmp_path)
    # Three seconds of session are left to the broker before it may register again after a kill.
    made.broker |= {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000, "rebalance_timeout_ms": 8000}
    yield made
    made.close()


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(site: Site, own_kafka: Any) -> None:
    site.create()
    (worker,) = site.start()
    with site.load(per_second=1000) as load:
        until("it works", lambda: site.end_of("out") > 1000)
        own_kafka.kill()
        time.sleep(1.0)
        own_kafka.start()
        before = site.end_of("out")
        until("it works again", lambda: site.end_of("out") > before + 1000)
    wanted = load.expected()
    until("everything answered", lambda: site.outputs().keys() >= wanted.keys(), 40, 0.5)
    assert differences(site.outputs(), wanted) == []
    until("the commit moves again", lambda: sum(n or 0 for n in site.committed()) > len(wanted) - 4 * 51, 20)
    assert worker.poll() is None, site.said()[-2000:]


@pytest.mark.slow
def test_if_the_broker_stays_away_the_worker_ends_with_one_line(site: Site, own_kafka: Any) -> None:
    site.create()
    site.broker["delivery_timeout_ms"] = 3000
    (worker,) = site.start()
    with site.load(per_second=500):
        until("it works", lambda: site.end_of("out") > 200)
        own_kafka.pause()  # it accepts connections and answers nothing
        try:
            assert worker.wait(30) == 1
        finally:
            own_kafka.resume()
    lines = [line for line in site.said().splitlines() if line.startswith("streamproc: ")]
    assert len(lines) == 2
    assert "took nothing within 3 s" in lines[1]
    assert "Traceback" not in site.said()

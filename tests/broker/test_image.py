"""Protects what the image runs: docker-compose.yml played without a container engine, on a real Apache Kafka.

Read-only root, uid 65532, no capabilities, nothing of this repository in sight but the site file.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from deploy_rig import AS_ROOT, HERE, ROOT, installed, needs_namespaces, run

pytestmark = [pytest.mark.slow, pytest.mark.broker]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Play the composition once; give what was seen."""
    needs_namespaces()
    installed()
    report = tmp_path_factory.mktemp("composition") / "report.json"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["unshare", *AS_ROOT, "--net", "--mount", sys.executable, HERE / "composition.py", report, 5]
    run(words, env)
    return dict(json.loads(report.read_text()))


def test_the_command_runs_as_nobody_and_can_write_nothing_but_tmp(seen: dict[str, Any]) -> None:
    inside = seen["inside"]
    assert inside["uid"] == (65532 if not AS_ROOT else 0)
    assert set(inside["caps"]) == {"0" * 16}
    assert inside["no_new_privs"] == "1"
    assert inside["refused"].pop("/tmp/x") == ""
    assert set(inside["refused"].values()) == {"Read-only file system"}, inside
    assert not inside["tree"], "the repository can be seen from inside"


def test_topics_are_made_once_and_then_everything_is_as_wanted(seen: dict[str, Any]) -> None:
    code, said = seen["topics"]
    assert code == 0, said
    assert "created" in said
    code, said = seen["check"]
    assert code == 0, said
    assert "FAIL" not in said


def test_kafka_with_the_settings_of_the_file_is_reached_by_both_its_addresses(seen: dict[str, Any]) -> None:
    assert seen["cluster_id"] == 16
    code, said = seen["hosts_own_port"]
    assert code == 0, said


def test_the_service_becomes_ready_and_the_health_check_of_the_image_agrees(seen: dict[str, Any]) -> None:
    assert seen["ready"], seen["log"]
    assert seen["health"][0] == 0, seen["health"]
    assert seen["health_after"] != 0


def test_the_fleet_and_the_points_come_in(seen: dict[str, Any]) -> None:
    assert seen["records"], seen["log"]
    assert seen["senders_live"] == {"fleet": None, "points": None}


def test_it_drains_on_sigterm_within_the_grace_period(seen: dict[str, Any]) -> None:
    assert seen["exit_code"] == 0, seen["log"]
    assert seen["drain_s"] < 15

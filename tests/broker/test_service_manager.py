"""Protects `Type=notify`: a live worker tells its manager that it is ready, that it lives, and that it ends."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest
from fault_rig import until
from live_rig import Live

pytestmark = pytest.mark.broker


def test_a_live_worker_is_ready_beats_and_stops(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        name = f"streamproc-{uuid.uuid4().hex}"  # in the abstract name space: a path may be too long for a socket
        link.bind(f"\0{name}")
        link.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")

        def count(line: str) -> int:
            try:
                while True:
                    told.append(link.recv(4096).decode())
            except BlockingIOError:
                return sum(line in words.splitlines() for words in told)

        live = Live(kafka, tmp_path)
        try:
            live.start()
            until("the manager heard that it is ready", lambda: count("READY=1") > 0)
            until("the manager heard three beats more", lambda: count("READY=1") >= 4)
            assert count("STOPPING=1") == 0
        finally:
            live.end()
        assert count("STOPPING=1") == 1
    assert told[0].startswith("WATCHDOG=1\nSTATUS=")
    assert all("WATCHDOG=1" in words for words in told[:-1]), told
    assert told[-1] == "STOPPING=1\nSTATUS=draining"

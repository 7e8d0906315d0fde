"""Protects the test broker itself: it answers after `start`, comes back at its address, leaves no process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamproc.errors import ShellError
from streamproc.shell.kafka_broker import KafkaBroker, answers, find_java, free_port, kafka_libs

pytestmark = pytest.mark.broker
ROOT = Path(__file__).resolve().parents[2]


def alive(pid: int) -> bool:
    """A zombie is not alive: nobody has read its exit code yet, but it holds nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_records_written_before_a_kill_are_there_after_the_restart(
    own_kafka: KafkaBroker, topics_at: Any
) -> None:
    address = own_kafka.bootstrap
    topics = topics_at(address)
    topic = topics.create("kept", partitions=2)
    topics.fill(topic, [(b"k", b"v%d" % n) for n in range(100)])
    own_kafka.kill()
    assert not answers(address)
    own_kafka.start()
    assert own_kafka.bootstrap == address
    assert [m.value() for m in topics.read(topic)] == [b"v%d" % n for n in range(100)]


def test_the_broker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from streamproc.shell.kafka_broker import KafkaBroker\n"
        "broker = KafkaBroker(sys.argv[1], cache_dir=sys.argv[2], heap_mb=256).start()\n"
        "print(broker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "data"), str(ROOT / ".cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    # The kernel's signal is on its way when the parent is reaped; the descriptor says when the broker has
    # gone.
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([watch], [], [], 20)
    os.close(watch)
    assert not alive(pid)


def test_a_missing_java_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        ShellError, match=r"needs Java 17 or newer: install it, for example: apt-get install \S+$"
    ):
        find_java()


def test_an_old_java_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ShellError, match=r"needs Java 17, \S+/java is 11: install it"):
        find_java()


def test_a_missing_maven_is_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ShellError, match="fetched with Maven: install it, for example: apt-get install maven"
    ):
        kafka_libs(tmp_path)


def test_a_fetch_that_fails_leaves_no_half_set_of_jars(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(ShellError, match=r"Maven cannot fetch Apache Kafka .* no route to host"):
        kafka_libs(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("libs*"))


def test_a_broker_that_cannot_run_says_why(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, cache_dir=ROOT / ".cache", properties={"node.id": "minus one"})
    with pytest.raises(ShellError, match="cannot format"):
        broker.start()
    assert broker.pid is None


def test_nobody_answers_on_a_free_port() -> None:
    assert not answers(f"127.0.0.1:{free_port()}", timeout_s=0.5)


def test_the_command_says_where_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "kafka-4.1.1").symlink_to(ROOT / ".cache" / "kafka-4.1.1")
    command = [sys.executable, "-m", "streamproc", "broker", "--cache", str(cache), "--heap-mb", "256"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    ) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert answers(address)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
    assert not answers(address)
    assert [path.name for path in cache.iterdir()] == ["kafka-4.1.1"]

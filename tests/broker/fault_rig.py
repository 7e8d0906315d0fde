"""What the fault tests share: a site on a real Kafka, worker processes to be killed, and what must stand in the topic.

The expected outputs come from the stage itself, run over the same records without any broker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from sum_stage import SumStage

from streamproc.values import Record

WORKER = Path(__file__).with_name("fault_worker.py")
ROOT = Path(__file__).resolve().parents[2]
QUIET = {"log_level": 0}


class Site:
    """Topics under one prefix, one consumer group, and its workers."""

    def __init__(
        self, topics: Any, home: Path, *, inputs: Sequence[str] = ("in",), partitions: int = 4
    ) -> None:
        self.topics, self.home, self.inputs, self.partitions = topics, home, inputs, partitions
        self.prefix = topics.prefix
        self.group = f"{self.prefix}group"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.broker: dict[str, Any] = {
            "bootstrap": topics.bootstrap,
            "group": self.group,
            "topic_prefix": self.prefix,
            # Kafka's own floor of 6 s is lowered on the fixture's broker: twenty kills need not take two minutes.
            "session_timeout_ms": 1500,
            "heartbeat_interval_ms": 400,
            "rebalance_timeout_ms": 4000,
            "snapshot_interval_ms": 300,
            "max_batch_records": 200,
        }
        self.worker: dict[str, Any] = {"http_port": 0}
        self._consumer = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": "look", **QUIET})

    def create(self, **out_settings: str) -> None:
        """Make the topics of the site."""
        for name in self.inputs:
            self.topics.create(name, self.partitions)
            self.topics.create(f"{name}.dlq")
        self.topics.create("out", 2, out_settings)
        self.topics.create("grid.state.v1", 1, {"cleanup.policy": "compact"})
        self.topics.create("grid.health.v1")

    def start(self, kind: str = "sum", count: int = 1) -> list[subprocess.Popen[bytes]]:
        """Start worker processes; their words go to files in `home`."""
        site = self.home / "site.json"
        site.write_text(json.dumps({"broker": self.broker, "worker": self.worker}))
        started = []
        for _ in range(count):
            with (self.home / f"worker{len(self.workers)}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, str(WORKER), str(site), kind],
                    env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.tmp)},
                    cwd=self.cwd,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self.workers.append(process)
            started.append(process)
        return started

    @property
    def cwd(self) -> Path:
        """Where the workers run: nothing may be left there."""
        path = self.home / "cwd"
        path.mkdir(exist_ok=True)
        return path

    @property
    def tmp(self) -> Path:
        """Their directory for temporary files."""
        path = self.home / "tmp"
        path.mkdir(exist_ok=True)
        return path

    def said(self, number: int = -1) -> str:
        """Return what a worker has written to its log."""
        return (self.home / f"worker{number % len(self.workers)}.log").read_text(errors="replace")

    def fill(self, words: Sequence[str], partition: int = 0, topic: str = "in") -> None:
        """Send records "WORD:NUMBER"."""
        values = [(b"k", f"{word}:{n}".encode()) for n, word in enumerate(words)]
        self.topics.fill(self.prefix + topic, values, partition=partition, ts_ms=1_000_000)

    @contextmanager
    def load(self, per_second: int) -> Iterator[Load]:
        """Send records to all inputs and partitions at a steady rate, in a thread, until the block ends."""
        load = Load(self, per_second)
        load.thread.start()
        try:
            yield load
        finally:
            load.stop.set()
            load.thread.join(30)

    def end_of(self, name: str) -> int:
        """Return how many records stand in a topic (all partitions)."""
        full = self.prefix + name
        parts = self._consumer.list_topics(full, timeout=30).topics[full].partitions
        return sum(
            self._consumer.get_watermark_offsets(TopicPartition(full, p), timeout=30, cached=False)[1]
            for p in parts
        )

    def outputs(self) -> dict[str, set[str]]:
        """Return every different value by key that stands in the output topic."""
        found: dict[str, set[str]] = {}
        for message in self.topics.read(self.prefix + "out"):
            found.setdefault((message.key() or b"").decode(), set()).add((message.value() or b"").decode())
        return found

    def dead_letters(self) -> dict[str, str]:
        """Return reason by original value."""
        return {
            (m.value() or b"").decode(): dict(m.headers() or [])["reason"].decode()
            for m in self.topics.read(self.prefix + "in.dlq")
        }

    def committed(self) -> list[int | None]:
        """Return the committed offsets of the first input."""
        return [
            self.topics.committed(self.group, self.prefix + self.inputs[0], p) for p in range(self.partitions)
        ]

    def close(self) -> None:
        """End what still runs."""
        for process in self.workers:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._consumer.close()


class Load:
    """A steady stream of records "SENT:NUMBER" to each partition of each input."""

    def __init__(self, site: Site, per_second: int) -> None:
        self.site = site
        self.sent: dict[tuple[str, int], list[str]] = {
            (topic, p): [] for topic in site.inputs for p in range(site.partitions)
        }
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(per_second,), daemon=True)
        self._failed: list[str] = []

    def _run(self, per_second: int) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.site.topics.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                **QUIET,
            }
        )
        # Of today: a broker that was killed forgets producers whose last record is older than a day, and would take
        # their repetitions for new records.
        now_ms = round(time.time() * 1000)
        pause_s = 0.05
        each = max(1, round(per_second * pause_s / len(self.sent)))
        while not self.stop.wait(pause_s):
            for (topic, partition), words in self.sent.items():
                for _ in range(each):
                    word = f"{topic}-{partition}-{len(words)}"
                    value = f"{word}:{len(words)}".encode()
                    producer.produce(
                        self.site.prefix + topic,
                        value,
                        b"k",
                        partition,
                        timestamp=now_ms,
                        on_delivery=self._note,
                    )
                    words.append(word)
            producer.poll(0)
        assert producer.flush(60) == 0

    def _note(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))

    def expected(self) -> dict[str, set[str]]:
        """Return what `SumStage` says about all that was sent."""
        assert not self._failed, self._failed[:3]
        return expected({partition: words for (_, partition), words in self.sent.items()})


def expected(words: dict[int, Sequence[str]]) -> dict[str, set[str]]:
    """Return {key: {value}} of the stage over these words per partition, without a broker."""
    found: dict[str, set[str]] = {}
    for partition, given in words.items():
        stage = SumStage()
        stage.flaky_left = 0
        # The number in a record is its place among all that was sent, also when others are set aside.
        records = [
            Record("in", partition, n, 1_000_000, b"k", f"{word}:{n}".encode())
            for n, word in enumerate(given)
            if not word.startswith(("boom", "big"))
        ]
        for output in stage.step(stage.fresh(), records).outputs:
            found[output.key.decode()] = {output.value.decode()}
    return found


def until(what: str, true: Callable[[], bool], timeout_s: float = 40.0, pause_s: float = 0.1) -> None:
    """Wait for a condition of the outside world; fail by name."""
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(pause_s)


def all_of(found: dict[str, set[str]], wanted: dict[str, set[str]]) -> bool:
    """Return whether every wanted key is there."""
    return wanted.keys() <= found.keys()


def differences(found: dict[str, set[str]], wanted: dict[str, set[str]]) -> list[str]:
    """Return what is missing, foreign, or said in two ways; empty when all is well."""
    told = [f"missing {key}" for key in wanted.keys() - found.keys()]
    told += [f"foreign {key}" for key in found.keys() - wanted.keys()]
    told += [
        f"{key}: {sorted(found[key])[:3]}"
        for key in found.keys() & wanted.keys()
        if found[key] != wanted[key]
    ]
    return sorted(told)[:10]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process as `kill -9` does."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)

"""What the tests of the live worker share: `streamproc run` on topics of its own, a sender, and a tap on what comes out.

Nothing here looks into the worker: it is a child process, known by its site file, its topics and its HTTP side.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from fault_rig import until
from prometheus_client.parser import text_string_to_metric_families

from streamproc.config import BrokerTable, SiteConfig, WorkerTable
from streamproc.shell.demo_script import site_toml
from streamproc.shell.topics import apply_topics
from streamproc.simulate.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"log_level": 0}
RECORD_SIZE_MAX = 20_000_000  # bytes that our producer and a raised topic take
ADDRESS = re.compile(r"metrics at (http://\S+?)/metrics")


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that stands in an input topic; `reason` is why it must be refused, "" for a good one."""

    topic: str
    partition: int
    offset: int
    ts_ms: int
    value: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Came:
    """A record that came out, with the wall time at which the tap saw it."""

    at_ms: float
    topic: str  # without the prefix
    ts_ms: int
    key: bytes
    value: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """Return the message in it."""
        return json.loads(self.value)


class Live:
    """Topics under a prefix of their own, and one worker over them."""

    def __init__(self, bootstrap: str, home: Path, **tables: Any) -> None:
        self.bootstrap, self.home = bootstrap, home
        self.prefix = f"l{uuid.uuid4().hex[:8]}."
        broker = BrokerTable(bootstrap=bootstrap, group=f"{self.prefix}workers", topic_prefix=self.prefix)
        self.config = SiteConfig(broker=broker, worker=WorkerTable(http_port=0), **tables)
        self.site_path, self.log_path = home / "site.toml", home / "worker.log"
        self.site_path.write_text(site_toml(self.config))
        self.url = ""
        self._worker: subprocess.Popen[bytes] | None = None
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
        apply_topics(self.config)

    def allow_size(self, topic: str, size: int) -> None:
        """Let a topic take records of this many bytes."""
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.prefix + topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(timeout=30)

    def start(self) -> None:
        """Start the worker and return when it is ready."""
        with self.log_path.open("wb") as log:
            self._worker = subprocess.Popen(
                self.command("run", "-c", str(self.site_path)),
                env=self.environment,
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until("the worker says where it listens", self._listens)
        until("the worker is ready", lambda: self.status("/readyz") == 200)

    def kill(self) -> None:
        """Kill the worker by its own pid: no word, no commit."""
        assert self._worker is not None
        self._worker.kill()
        self._worker.wait()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of our commands."""
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def command(self, *words: str) -> list[str]:
        """Return a command line of streamproc."""
        return [sys.executable, "-m", "streamproc", *words]

    def said(self) -> list[str]:
        """Return the lines that the worker has written."""
        return self.log_path.read_text(errors="replace").splitlines()

    def logged(self) -> list[dict[str, Any]]:
        """Return its log, which is JSON but for the words to a person: "streamproc: ..."."""
        return [json.loads(line) for line in self.said() if not line.startswith("streamproc: ")]

    def status(self, path: str) -> int:
        """Return the HTTP status of a path of the worker; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def exposed(self) -> bytes:
        """Return the text of /metrics."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as reply:
            return bytes(reply.read())

    def content_type(self) -> str:
        """Return what /metrics says that it is."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as reply:
            return str(reply.headers["Content-Type"])

    def end(self) -> None:
        """End the worker by its own pid, and take the topics away."""
        worker = self._worker
        if worker is not None and worker.poll() is None:
            worker.terminate()
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        names = [n for n in self._admin.list_topics(timeout=30).topics if n.startswith(self.prefix)]
        for future in self._admin.delete_topics(names).values():
            future.result(timeout=30)

    def _listens(self) -> bool:
        assert self._worker is not None
        assert self._worker.poll() is None, "\n".join(self.said()[-5:])
        found = ADDRESS.search("\n".join(self.said()))
        self.url = found.group(1) if found else ""
        return found is not None


class Series:
    """One reading of /metrics, by a parser that is not ours."""

    def __init__(self, text: bytes) -> None:
        self._samples = [
            s for family in text_string_to_metric_families(text.decode()) for s in family.samples
        ]

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the values of a series by one of its labels, zeros left out."""
        found: Counter[str] = Counter()
        for sample in self._samples:
            if sample.name == name:
                found[sample.labels[label]] += sample.value  # type: ignore[assignment]
        return {value: amount for value, amount in found.items() if amount}

    def total(self, name: str) -> float:
        """Return the sum of a series over its labels."""
        return sum(s.value for s in self._samples if s.name == name)

    def label_values(self) -> dict[tuple[str, str], set[str]]:
        """Return every value of every label of every series of ours."""
        found: dict[tuple[str, str], set[str]] = {}
        for sample in self._samples:
            for label, value in sample.labels.items():
                if sample.name.startswith("streamproc_"):
                    found.setdefault((sample.name, label), set()).add(value)
        return found

    def share_within(self, stage: str, limit_s: float) -> float:
        """Return the share of a stage's durations that took at most `limit_s`, an edge of its buckets."""
        name = "streamproc_stage_duration_seconds_bucket"
        counts = {
            float(s.labels["le"]): s.value
            for s in self._samples
            if s.name == name and s.labels["stage"] == stage
        }
        return counts[limit_s] / counts[float("inf")]


class Feed:
    """Sends records with the time of now (or their own), and knows where each of them stands."""

    def __init__(self, live: Live) -> None:
        self.sent: list[Sent] = []
        self._prefix = live.prefix
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": live.bootstrap,
                "acks": "all",
                "linger.ms": 0,
                "message.max.bytes": RECORD_SIZE_MAX,
                **QUIET,
            }
        )

    def send(self, topic: str, key: str, value: bytes | None, *, ts_ms: int = 0, reason: str = "") -> None:
        """Send one record; same key, same partition, in order."""
        ts_ms = ts_ms or time.time_ns() // 1_000_000

        def note(error: object, message: Message) -> None:
            if error is not None:
                self._failed.append(str(error))
                return
            place = (int(message.partition() or 0), int(message.offset() or 0))
            self.sent.append(Sent(topic, *place, ts_ms, value or b"", reason))

        self._producer.produce(self._prefix + topic, value, key.encode(), timestamp=ts_ms, on_delivery=note)
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when all is acknowledged."""
        assert self._producer.flush(60) == 0
        assert not self._failed, self._failed[:3]

    def count(self, topic: str, reason: str | None = None) -> int:
        """Return how many records were sent to a topic, of one reason or all."""
        return sum(s.topic == topic and reason in {None, s.reason} for s in self.sent)

    def play(self, fleet: Fleet, topic: str, area: str, seconds: int, each: Callable[[int], None]) -> None:
        """Send a fleet at the pace of its own time, one record per instant; `each` is called after each."""
        self.send(topic, area, b"".join(fleet.configs))
        for number, (t_ns, frames) in enumerate(fleet.instants(seconds)):
            until(f"the time of instant {number}", lambda t=t_ns: time.time_ns() >= t, pause_s=0.002)
            self.send(topic, area, b"".join(frames), ts_ms=t_ns // 1_000_000)
            each(number)
        self.flush()


class Background(ABC):
    """Does something again and again in a thread, until the block ends."""

    def __init__(self, pause_s: float = 0.1) -> None:
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @abstractmethod
    def once(self) -> None:
        """Do it."""

    def _run(self) -> None:
        while not self._stop.is_set():
            self.once()
            self._stop.wait(self._pause_s)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


class Tap(Background):
    """Reads output topics from their beginning, as they grow."""

    def __init__(self, live: Live, topics: Sequence[str]) -> None:
        super().__init__(pause_s=0.0)
        self._prefix = live.prefix
        self._found: list[Came] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": live.bootstrap,
                "group.id": f"{live.prefix}tap",
                "enable.auto.commit": False,
            }
            | QUIET
        )
        self._consumer.assign([TopicPartition(live.prefix + topic, 0, 0) for topic in topics])

    def once(self) -> None:
        """Take one record."""
        message = self._consumer.poll(0.1)
        if message is None or message.error() is not None:
            return
        headers = {name: (value or b"").decode() for name, value in message.headers() or []}
        topic = str(message.topic()).removeprefix(self._prefix)
        key, value = message.key() or b"", message.value() or b""
        self._found.append(Came(time.time() * 1e3, topic, message.timestamp()[1], key, value, headers))

    def of(self, topic: str) -> list[Came]:
        """Return what came in a topic so far."""
        return [came for came in list(self._found) if came.topic == topic]

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._consumer.close()


class Probes(Background):
    """Asks both probes of a worker again and again."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live
        self.answers: Counter[tuple[str, int]] = Counter()

    def once(self) -> None:
        """Ask both."""
        for path in ("/livez", "/readyz"):
            self.answers[path, self._live.status(path)] += 1

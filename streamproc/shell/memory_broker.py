"""The in-memory development broker: librdkafka's mock cluster inside our own process.

It speaks Kafka's protocol on a loopback port, is ready in milliseconds, needs no Java and keeps nothing on
disk. It is for `streamproc demo` and for trying things out. It is not Apache Kafka: it has no compaction and
no CreateTopics (a topic appears when it is first used), and each partition keeps a few megabytes at most, so
no test of ours takes its word for what Kafka does.

It lives as long as the object does; `stop` ends it, and with the process it is gone in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from streamproc.errors import ShellError

NAME = "in-memory development broker"
PARTITION_COUNT = (
    4  # of every topic; fixed in librdkafka's mock cluster (rdkafka_mock.c, defaults.partition_cnt)
)


class MemoryBroker:
    """One mock node; also a context manager. Every topic gets `PARTITION_COUNT` partitions."""

    def __init__(self) -> None:
        self._cluster: Any = None
        self._bootstrap = ""

    @property
    def bootstrap(self) -> str:
        """Return "127.0.0.1:PORT"; known while the broker runs."""
        if self._cluster is None:
            raise ShellError(f"the {NAME} is not running")
        return self._bootstrap

    def start(self, topics: Iterable[str] = ()) -> MemoryBroker:
        """Start it and make these topics exist."""
        if self._cluster is not None:
            return self
        try:
            from confluent_kafka import Producer  # noqa: PLC0415  (an optional part: the extra `demo`)
        except ImportError as error:
            raise ShellError(f"the {NAME} needs confluent-kafka: pip install confluent-kafka") from error
        self._cluster = Producer(
            {
                "bootstrap.servers": "in-memory",  # replaced by the mock cluster's own address
                "test.mock.num.brokers": 1,
                "topic.metadata.refresh.interval.ms": -1,
                "log_level": 3,
            }
        )
        nodes = self._cluster.list_topics(timeout=10).brokers.values()
        self._bootstrap = next(f"{node.host}:{node.port}" for node in nodes)
        for topic in topics:
            self._cluster.list_topics(topic, timeout=10)
        return self

    def stop(self) -> None:
        """End it; whatever it held is gone."""
        self._cluster = None

    def __enter__(self) -> MemoryBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

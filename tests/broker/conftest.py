"""A real Apache Kafka for the tests of this folder: started once, or the user's own through KAFKA_BOOTSTRAP.

`kafka` is the bootstrap address, shared by all tests; `topics` makes topics under a prefix of its own, fills
and reads them; `own_kafka` is a broker of one test alone, to kill and restart.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from streamproc.shell.kafka_broker import KafkaBroker, answers

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
QUIET = {"log_level": 0}  # librdkafka would write about every broker that goes, which is what tests are about


class Topics:
    """Makes, fills and reads topics of one test; every name starts with a prefix that no other test has."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self._admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})

    def create(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create `<prefix><name>` and return that full name."""
        full = self.prefix + name
        new = NewTopic(full, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        self._admin.create_topics([new])[full].result(timeout=30)
        # The controller answers before the broker's own view has it.
        while len(self._admin.list_topics(full, timeout=30).topics[full].partitions) < partitions:
            pass
        return full

    def fill(
        self,
        topic: str,
        records: Iterable[tuple[bytes | None, bytes | None]],
        *,
        partition: int = 0,
        ts_ms: int = 0,
    ) -> None:
        """Send (key, value) pairs to one partition of a full topic name; all are acknowledged."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 5, **QUIET})
        failed: list[str] = []

        def note(error: object, _message: Message) -> None:
            if error is not None:
                failed.append(str(error))

        for key, value in records:
            stamp = {"timestamp": ts_ms} if ts_ms else {}
            while True:
                try:
                    producer.produce(topic, value, key, partition=partition, on_delivery=note, **stamp)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0
        assert not failed, failed[:3]

    def read(self, topic: str) -> list[Message]:
        """Return every record that stands in a full topic name now, partition by partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"read-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **QUIET,
            }
        )
        found: list[Message] = []
        try:
            parts = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            for number in sorted(parts):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
                if high == low:
                    continue
                consumer.assign([TopicPartition(topic, number, low)])
                # The last offset may be a transaction marker or compacted away; position tells when the end
                # is reached.
                while consumer.position([TopicPartition(topic, number)])[0].offset < high:
                    message = consumer.poll(30)
                    assert message is not None, (
                        f"{topic}/{number}: no record within 30 s before offset {high}"
                    )
                    assert message.error() is None, message.error()
                    found.append(message)
                consumer.unassign()
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str, partition: int = 0) -> int | None:
        """Return the committed offset of a group, or None."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, **QUIET})
        try:
            offset = consumer.committed([TopicPartition(topic, partition)], timeout=30)[0].offset
        finally:
            consumer.close()
        return offset if offset >= 0 else None

    def settings(self, topic: str) -> Mapping[str, str]:
        """Return the settings in force of a full topic name."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = self._admin.describe_configs([resource])[resource].result(timeout=30)
        return {name: entry.value for name, entry in found.items()}

    def delete(self, names: Iterable[str]) -> None:
        """Delete those of these full topic names that exist."""
        there = self._admin.list_topics(timeout=30).topics
        doomed = [name for name in names if name in there]
        for future in self._admin.delete_topics(doomed).values() if doomed else ():
            future.result(timeout=30)

    def close(self) -> None:
        """Delete every topic under the prefix, also those that the code under test has made."""
        there = self._admin.list_topics(timeout=30).topics
        self.delete([name for name in there if name.startswith(self.prefix)])


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a real Apache Kafka; what the fixture started it also stops."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        assert answers(given.split(",", maxsplit=1)[0]), f"no Kafka answers at KAFKA_BOOTSTRAP={given}"
        yield given
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), cache_dir=CACHE) as broker:
        yield broker.bootstrap


@pytest.fixture
def topics(kafka: str) -> Iterator[Topics]:
    """Give topics of this test alone on the shared broker."""
    made = Topics(kafka)
    yield made
    made.close()


@pytest.fixture
def topics_at() -> type[Topics]:
    """Give the class, for a broker of the test's own: `topics_at(bootstrap)`."""
    return Topics


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """Give a broker of this test alone, to kill, freeze and restart."""
    with KafkaBroker(tmp_path / "kafka", cache_dir=CACHE, heap_mb=256) as broker:
        yield broker

"""Protects the in-memory development broker: it speaks Kafka to our client and is gone when stopped."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamproc.errors import ShellError
from streamproc.shell.kafka_broker import answers
from streamproc.shell.memory_broker import PARTITION_COUNT, MemoryBroker


def test_what_is_sent_is_read_in_a_group_and_committed() -> None:
    async def there_and_back(bootstrap: str) -> tuple[list[bytes], int, int]:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
        await producer.start()
        for n in range(10):
            await producer.send_and_wait("t", b"%d" % n, key=b"k", partition=1)
        await producer.stop()
        consumer = AIOKafkaConsumer(
            "t",
            bootstrap_servers=bootstrap,
            group_id="g",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        found = [await consumer.getone() for _ in range(10)]
        await consumer.commit()
        (partition,) = {p for p in consumer.assignment() if p.partition == 1}
        committed = await consumer.committed(partition)
        count = len(consumer.partitions_for_topic("t"))
        await consumer.stop()
        return [m.value for m in found], committed, count

    with MemoryBroker() as broker:
        broker.start(["t"])
        values, committed, count = asyncio.run(there_and_back(broker.bootstrap))
    assert values == [b"%d" % n for n in range(10)]
    assert committed == 10
    assert count == PARTITION_COUNT


def test_it_is_gone_when_stopped() -> None:
    broker = MemoryBroker().start(["a", "b"])
    address = broker.bootstrap
    assert answers(address)
    broker.stop()
    assert not answers(address)
    with pytest.raises(ShellError, match="the in-memory development broker is not running"):
        _ = broker.bootstrap

"""State blobs: the part of a stage's state that outlives a window, on a compacted topic.

One key per group, stage and partition. The value is `Stage.pack`; the headers say where it stands:

    format      b"1"; another one is not ours: the stage starts from the input
    sequence    counts the blobs of one key over all owners; the highest is in force
    next/TOPIC  the offset from which a successor speaks
    read/TOPIC  the offset from which it reads, to refill windows in silence (<= next)
    pending     how many bytes at the end of the value are outputs that may not have been sent yet

**Pending outputs.** A stage with several inputs merges them in the order in which they happened to arrive;
that order is in no topic. So its outputs are written down here *before* they are published. A successor
publishes them again, byte for byte, instead of deciding anew with the records in another order.

**Reading back** goes from the end of the topic in doubling steps: the newest blobs of all live keys are in
the last seconds of it, and only a key that never was makes us look at all of it. A worker that was frozen and
wakes up after it lost its partitions may still write one blob; its sequence is soon passed, and every blob is
consistent in itself: an older one costs repetition, not truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streamproc.config import BrokerTable
from streamproc.errors import ShellError, StateError
from streamproc.shell.site_file import client_settings
from streamproc.values import TOPIC_STATE, Output

FORMAT = b"1"
SCAN_RECORDS_FIRST = 64  # read back from the end; doubled until every key is found
_FETCH_TIMEOUT_MS = 500


@dataclass(frozen=True, slots=True)
class Blob:
    """One packed state and where it stands."""

    sequence: int
    next_offsets: Mapping[str, int]
    read_offsets: Mapping[str, int]
    state: bytes
    pending: tuple[Output, ...] = field(default=())


def blob_key(group: str, stage: str, partition: int) -> bytes:
    """Return the key of a stage's blob for one partition."""
    return f"{group}/{stage}/{partition}".encode()


def encode_blob(key: bytes, blob: Blob, ts_ms: int) -> Output:
    """Return the record that holds a blob."""
    pending = msgspec.msgpack.encode(blob.pending) if blob.pending else b""
    headers = [
        ("format", FORMAT),
        ("sequence", b"%d" % blob.sequence),
        ("pending", b"%d" % len(pending)),
        *((f"next/{topic}", b"%d" % offset) for topic, offset in sorted(blob.next_offsets.items())),
        *((f"read/{topic}", b"%d" % offset) for topic, offset in sorted(blob.read_offsets.items())),
    ]
    return Output(TOPIC_STATE, key, blob.state + pending, ts_ms, tuple(headers))


def decode_blob(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Blob:
    """Return the blob of a record; raise StateError if it is not ours."""
    found = dict(headers)
    if value is None or found.get("format") != FORMAT:
        raise StateError(f"a state blob of format {found.get('format', b'(none)')!r}, expected {FORMAT!r}")
    try:
        cut = len(value) - int(found["pending"])
        pending = msgspec.msgpack.decode(value[cut:], type=tuple[Output, ...]) if cut < len(value) else ()
        return Blob(
            sequence=int(found["sequence"]),
            next_offsets=_offsets(found, "next/"),
            read_offsets=_offsets(found, "read/"),
            state=value[:cut],
            pending=pending,
        )
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise StateError(f"a damaged state blob: {error!r}") from error


class StateStore:
    """Reads blobs back from the state topic; writing is the publisher's work."""

    def __init__(self, broker: BrokerTable, client_id: str = "streamproc") -> None:
        self._broker, self._client_id = broker, client_id

    async def load(self, keys: Iterable[bytes]) -> dict[bytes, Blob | StateError]:
        """Return the blob in force of every key that has one; a StateError in its place if it is not ours."""
        wanted = set(keys)
        consumer = AIOKafkaConsumer(
            client_id=f"{self._client_id}-state",
            enable_auto_commit=False,
            max_partition_fetch_bytes=8 * 1024 * 1024,
            fetch_max_wait_ms=100,
            **client_settings(self._broker),
        )
        place = TopicPartition(self._broker.topic_prefix + TOPIC_STATE, 0)
        try:
            await consumer.start()
            consumer.assign([place])
            return await _scan(consumer, place, wanted)
        except (KafkaError, OSError) as error:
            raise ShellError(f"the states cannot be read from {place.topic}: {error!r}") from error
        finally:
            await consumer.stop()


async def _scan(
    consumer: AIOKafkaConsumer, place: TopicPartition, wanted: set[bytes]
) -> dict[bytes, Blob | StateError]:
    found: dict[bytes, Blob | StateError] = {}
    low = (await consumer.beginning_offsets([place]))[place]
    end = (await consumer.end_offsets([place]))[place]
    step = SCAN_RECORDS_FIRST
    while end > low and wanted - found.keys():
        start = max(low, end - step)
        newer = set(found)
        for record in await _read(consumer, place, start, end):
            if record.key in wanted and record.key not in newer:
                found[record.key] = _newest(found.get(record.key), _decoded(record))
        end, step = start, step * 2
    return found


async def _read(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int
) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    consumer.seek(place, start)
    while await consumer.position(place) < end:
        for some in (await consumer.getmany(place, timeout_ms=_FETCH_TIMEOUT_MS)).values():
            records += (record for record in some if record.offset < end)
    return records


def _decoded(record: ConsumerRecord) -> Blob | StateError:
    try:
        return decode_blob(record.value, record.headers)
    except StateError as error:
        return error


def _newest(known: Blob | StateError | None, read: Blob | StateError) -> Blob | StateError:
    # In one step records are read in their order: on a tie, and against what is not ours, the later counts.
    if isinstance(known, Blob) and isinstance(read, Blob):
        return known if known.sequence > read.sequence else read
    return read


def _offsets(headers: Mapping[str, bytes], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): int(at) for name, at in headers.items() if name.startswith(prefix)}

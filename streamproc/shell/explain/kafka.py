"""An alert and the records around its onset, read from Kafka: no group is joined, nothing is committed.

Frames are found by their time stamps, which are their own times. They are deleted by these, too: what retention has
taken is said with the offsets that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamproc.config import SiteConfig
from streamproc.core.iso_time import iso_time
from streamproc.core.messages import Alert, decode
from streamproc.errors import ShellError
from streamproc.reader import Reader
from streamproc.shell.config_feed import ConfigFeed
from streamproc.shell.explain.find import LATEST, chosen
from streamproc.shell.explain.hint import Replay, replay_hint
from streamproc.shell.site_file import client_settings
from streamproc.shell.topics import wire_name
from streamproc.values import TOPIC_ALERTS, TOPIC_CONFIG, TOPIC_FRAMES, Record

WINDOWS_S = 300.0  # what the windows of the models hold, and what refills them, before the first trace
AFTER_S = 5.0  # instants close later than their time, and records may stand in another order
NAMED_MAX = 8  # partitions named in a message


@dataclass(frozen=True, slots=True)
class Found:
    """The records of one area in a range of time. `since`: the partition, offset and time where they begin."""

    records: tuple[Record, ...]
    since: tuple[int, int, int] | None  # partition, offset, us; None: no older record was deleted


async def read_told(config: SiteConfig, wanted: str) -> list[Alert]:
    """Return the transitions of one alert, as many as the topic still has; raises StreamprocError."""
    settings = client_settings(config.broker)
    bootstrap = settings.pop("bootstrap_servers")
    topic = wire_name(config, TOPIC_ALERTS)
    told: dict[str, list[Alert]] = {}
    seen: dict[str, Alert] = {}
    async with Reader(bootstrap, topic=topic, follow=False, **settings) as reader:
        async for transition in reader:
            alert = decode(Alert, transition.raw)
            if not isinstance(alert, Alert):
                continue  # of another schema version
            is_new = alert.alert_id not in seen
            seen.setdefault(alert.alert_id, alert)
            if wanted == LATEST and is_new:
                told = {}
            if alert.alert_id in told or (is_new and (wanted == LATEST or alert.alert_id.startswith(wanted))):
                told.setdefault(alert.alert_id, []).append(alert)
    return told[chosen(wanted, list(told), seen, f"{topic} at {bootstrap}")]


async def read_around(config: SiteConfig, alert: Alert) -> Found:
    """Return configurations and records of the alert's area, from before the windows to after the page."""
    hint = replay_hint(alert)
    lead_s = WINDOWS_S if hint.topic == TOPIC_FRAMES else 0.0
    from_ms, to_ms = hint.from_ts_us // 1000 - round(lead_s * 1e3), hint.to_ts_us // 1000
    try:
        found = await _read(config, hint, max(0, from_ms), to_ms + round(AFTER_S * 1e3))
    except (KafkaError, OSError) as error:
        raise ShellError(f"no Kafka answers at {config.broker.bootstrap}: {error}") from error
    if hint.topic != TOPIC_FRAMES:
        return found
    feed = ConfigFeed(config.broker, (TOPIC_CONFIG,), "streamproc-explain")
    try:
        await feed.start()
        configurations = feed.since(0)
    finally:
        await feed.stop()
    return Found((*configurations, *found.records), found.since)


async def _read(config: SiteConfig, hint: Replay, from_ms: int, to_ms: int) -> Found:
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **client_settings(config.broker))
    try:
        await consumer.start()
        partitions = await _partitions(config, hint.topic)
        consumer.assign(partitions)
        low = await consumer.beginning_offsets(partitions)
        high = await consumer.end_offsets(partitions)
        times = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
        starts = {place: found.offset for place, found in times.items() if found is not None}
        left = {place for place, start in starts.items() if start < high[place]}
        for place in left:
            consumer.seek(place, starts[place])
        mine: list[ConsumerRecord] = []
        while left:
            batches = await consumer.getmany(*left, timeout_ms=500, max_records=2000)
            for place, records in batches.items():
                mine += [r for r in records if r.key == hint.key.encode() and from_ms <= r.timestamp <= to_ms]
                if records and records[-1].timestamp > to_ms:
                    left.discard(place)
            left = {place for place in left if await consumer.position(place) < high[place]}
        if not mine:
            ranges = [await _range(consumer, place, low[place], high[place]) for place in partitions]
            raise ShellError(_nothing(config, hint, from_ms, to_ms, ranges))
    finally:
        await consumer.stop()
    mine.sort(key=lambda r: r.timestamp)  # stable: else as they stand in their partition
    records = tuple(Record(hint.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in mine)
    first = TopicPartition(mine[0].topic, mine[0].partition)
    # What begins with the first record that is left may have lost what was before.
    cut = low[first] > 0 and starts[first] == low[first]
    return Found(records, (first.partition, low[first], mine[0].timestamp * 1000) if cut else None)


async def _partitions(config: SiteConfig, topic: str) -> list[TopicPartition]:
    name = wire_name(config, topic)
    admin = AIOKafkaAdminClient(**client_settings(config.broker))
    try:
        await admin.start()
        described = await admin.describe_topics([name])
    finally:
        await admin.close()
    numbers = sorted(p["partition"] for found in described for p in found["partitions"])
    if not numbers:
        raise ShellError(f"there is no topic {name} at {config.broker.bootstrap}")
    return [TopicPartition(name, number) for number in numbers]


async def _range(
    consumer: AIOKafkaConsumer, place: TopicPartition, low: int, high: int
) -> tuple[int, int, int, list[int]]:
    """Return partition, offsets, and the times of its first and last record, if they can be read."""
    times = []
    for offset in (low, high - 1) if low < high else ():
        consumer.seek(place, offset)
        for records in (await consumer.getmany(place, timeout_ms=2000, max_records=1)).values():
            times += [record.timestamp for record in records[:1]]
    return place.partition, low, high, times


def _nothing(
    config: SiteConfig,
    hint: Replay,
    from_ms: int,
    to_ms: int,
    ranges: Sequence[tuple[int, int, int, list[int]]],
) -> str:
    """Return why there is nothing to draw, with the offsets that are left."""
    lines = []
    for partition, low, high, times in ranges[:NAMED_MAX]:
        span = " to ".join(iso_time(ms * 1_000_000) for ms in times)
        held = f"offsets {low} to {high - 1}, {span}" if high > low else f"nothing, its next offset is {high}"
        lines.append(f"  partition {partition} holds {held}")
    more = len(ranges) - NAMED_MAX
    if more > 0:
        lines.append(f"  and {more} more partitions")
    gone = any(low > 0 for _, low, _, _ in ranges)
    why = (
        "what was older was deleted (retention counts by the records' own times)"
        if gone
        else "nothing was deleted: they were never sent, or under another key"
    )
    topic = wire_name(config, hint.topic)
    return (
        f"{topic} holds no record of area {hint.key!r} from {iso_time(from_ms * 1_000_000)} to "
        f"{iso_time(to_ms * 1_000_000)}; {why}:\n" + "\n".join(lines) + "\n"
        "  with a recording of that time: streamproc explain ALERT_ID --recording FILE"
    )

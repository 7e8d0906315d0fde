"""The whole service on a real broker says what the path says offline, in messages that keep their schemas, once for a
reader whatever is killed, and writes to no input."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fault_rig import until
from jsonschema import Draft202012Validator
from live_rig import ROOT, Came, Feed, Tap
from path_rig import CITY, GRID, INPUTS, OUTPUTS, TABLES, Offline, Site, scenario

from streamproc.reader import ConflictError, Reader, Transition
from streamproc.shell.topics import wanted_topics
from streamproc.simulate.scada import RELIEF, RISING_FEEDER
from streamproc.values import (
    TOPIC_ALERTS,
    TOPIC_CARDS,
    TOPIC_FINDINGS,
    TOPIC_FORECASTS,
    TOPIC_HEALTH,
    TOPIC_INTERVALS,
    TOPIC_OPERATOR,
    TOPIC_SETPOINTS,
    TOPIC_STATE,
    Record,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SCHEMAS = {
    TOPIC_FINDINGS: "finding",
    TOPIC_ALERTS: "alert",
    TOPIC_CARDS: "card",
    TOPIC_FORECASTS: "forecast",
    TOPIC_SETPOINTS: "setpoint",
    TOPIC_HEALTH: "health",
}
SERVICE = b'"family":"service"'  # of a finding that only a worker can make: an area is silent, or heard
QUANTILES = ("P05", "P10", "P25", "P50", "P75", "P90", "P95")
IDS = {TOPIC_FINDINGS: ("finding_id",), TOPIC_ALERTS: ("alert_id", "seq"), TOPIC_CARDS: ("card_id", "seq")}
IDS |= {TOPIC_FORECASTS: ("series", "horizon", "issued_at_us"), TOPIC_SETPOINTS: ("recommendation_id", "seq")}
IDS[TOPIC_HEALTH] = ("worker", "stage", "partition", "seq")


class Watcher:
    """A neighbour with a `Reader`: with a group it goes on where it stopped, each time it is asked to."""

    def __init__(self, site: Site, group: str | None = None) -> None:
        self.found: list[Transition] = []
        self.conflicts: list[str] = []
        self._bootstrap, self._topic = site.bootstrap, site.prefix + TOPIC_ALERTS
        self._group = None if group is None else site.prefix + group

    def read_on(self) -> None:
        """Read what stands in the alerts topic now."""
        asyncio.run(self._read_on())

    async def _read_on(self) -> None:
        async with Reader(self._bootstrap, topic=self._topic, group=self._group, follow=False) as reader:
            try:
                async for transition in reader:
                    self.found.append(transition)
            except ConflictError as error:
                self.conflicts.append(str(error))
            assert reader.foreign_count == 0


@dataclass(frozen=True)
class Run:
    """What went in, what came out of three workers of which two were killed, and what is said offline."""

    offline: Offline
    sent: Counter[str]
    came: dict[str, list[Came]]
    ends: dict[str, int]
    watcher: Watcher  # has read on after each part
    newcomer: Watcher  # has read once, at the end
    exit_code: int

    @property
    def prefix(self) -> str:
        return str(self.offline.config.broker.topic_prefix)

    def messages(self, topic: str) -> list[Any]:
        return [came.json for came in self.came[topic]]

    def copies(self, topic: str) -> dict[tuple[Any, ...], list[bytes]]:
        """Every copy of each message, by what identifies it."""
        found: dict[tuple[Any, ...], list[bytes]] = {}
        for value in (came.value for came in self.came[topic]):
            found.setdefault(identity(topic, value), []).append(value)
        return found

    @property
    def acknowledged(self) -> list[Any]:
        """The transitions of the alert that was acknowledged, as the reader gave them out."""
        assert self.offline.acknowledgement is not None
        key = self.offline.acknowledgement.key
        return [t.value for t in self.newcomer.found if t.id.encode() == key]


def identity(topic: str, value: bytes) -> tuple[Any, ...]:
    message = json.loads(value)
    return tuple(message[name] for name in IDS[topic])


@pytest.fixture(scope="module")
def run(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    parts = scenario()
    site = Site(kafka, tmp_path_factory.mktemp("path"))
    try:
        offline = Offline(site.config, parts).run()
        yield played(site, offline)
    finally:
        site.end()


def played(site: Site, offline: Offline) -> Run:
    """Three parts for three workers: the first two are killed with outputs that they have not committed."""
    feed, watcher = Feed(site), Watcher(site, "watcher")
    with Tap(site, OUTPUTS) as tap:
        site.start()
        send(feed, offline.parts[0])
        until("the first part is behind the worker", lambda: site.is_settled(tap))
        assert offline.acknowledgement is not None
        send(feed, [offline.acknowledgement])
        until("the acknowledgement is told and saved", lambda: saved(site, tap, offline.counts[0]))
        watcher.read_on()
        send(feed, offline.parts[1])
        until(
            "the second part is alerted", lambda: len(tap.of(TOPIC_ALERTS)) >= offline.counts[1], pause_s=0.01
        )
        site.kill()
        watcher.read_on()
        site.start()
        until("the successor is where the first one was", lambda: site.is_settled(tap))
        n_found = count_found(tap)
        send(feed, offline.parts[2])
        until("it has begun the third part", lambda: count_found(tap) > n_found, pause_s=0.01)
        site.kill()
        site.start()
        until("everything is behind the third worker", lambda: site.is_settled(tap))
        exit_code = site.drain()
        ends = {topic: sum(site.ends(topic)) for topic in site.topic_names()}
        until("the tap has all", lambda: all(len(tap.of(topic)) == ends[topic] for topic in OUTPUTS))
    newcomer = Watcher(site)
    watcher.read_on()
    newcomer.read_on()
    return Run(
        offline=offline,
        sent=Counter(s.topic for s in feed.sent),
        came={topic: tap.of(topic) for topic in OUTPUTS},
        ends=ends,
        watcher=watcher,
        newcomer=newcomer,
        exit_code=exit_code,
    )


def send(feed: Feed, records: Sequence[Record]) -> None:
    for record in records:
        feed.send(record.topic, (record.key or b"").decode(), record.value, ts_ms=record.ts_ms)
    feed.flush()


def saved(site: Site, tap: Tap, n_alert: int) -> bool:
    """Whether the last snapshot is of now: until the next one, a kill leaves everything to be said again."""
    return len(tap.of(TOPIC_ALERTS)) == n_alert and site.has_committed(TOPIC_OPERATOR)


def count_found(tap: Tap) -> int:
    """How many findings the stages have told so far."""
    return sum(SERVICE not in came.value for came in tap.of(TOPIC_FINDINGS))


def test_the_alerts_are_those_of_the_offline_path_byte_for_byte(run: Run) -> None:
    wanted = {identity(TOPIC_ALERTS, value): {value} for value in run.offline.values(TOPIC_ALERTS)}
    assert {key: set(values) for key, values in run.copies(TOPIC_ALERTS).items()} == wanted
    told = {(a["area"], a["family"], a["state"]) for a in run.messages(TOPIC_ALERTS)}
    assert {(GRID, "grid", "UNACK"), (GRID, "quality", "UNACK"), (CITY, "grid", "UNACK")} <= told


@pytest.mark.parametrize("topic", [TOPIC_FINDINGS, TOPIC_FORECASTS])
def test_findings_and_forecasts_are_those_of_the_offline_path_byte_for_byte(run: Run, topic: str) -> None:
    wanted = {identity(topic, value): {value} for value in run.offline.values(topic)}
    found = {key: set(values) for key, values in run.copies(topic).items() if SERVICE not in values[0]}
    assert found == wanted


def test_what_an_operator_acknowledges_is_told_as_acknowledged_and_ends_as_normal(run: Run) -> None:
    assert run.offline.acknowledgement is not None
    said = json.loads(run.offline.acknowledgement.value or b"")
    states = [alert["state"] for alert in run.acknowledged]
    assert list(dict.fromkeys(states)) == ["UNACK", "ACKED", "NORM"]
    acked = run.acknowledged[states.index("ACKED")]
    assert (acked["ack_by"], acked["ack_comment"]) == (said["user"], said["comment"])
    others = {a["state"] for a in run.messages(TOPIC_ALERTS) if a["alert_id"] != said["alert_id"]}
    assert "ACKED" not in others


def test_the_watched_series_is_forecast_by_the_model_with_ordered_quantiles(run: Run) -> None:
    about = [
        f for f in run.messages(TOPIC_FORECASTS) if f["series"] == RISING_FEEDER and f["horizon"] == "PT1H"
    ]
    assert {(f["area"], f["unit"]) for f in about} == {(CITY, "MW")}
    by_model = [f for f in about if f["method"] == "model"]
    assert len(by_model) > 30
    for forecast in by_model:
        bands = np.array([forecast["quantiles"][name] for name in QUANTILES])
        assert bands.shape[1] == len(forecast["valid_ts_us"]) > 0
        assert (np.diff(bands, axis=0) >= 0).all()
        assert bands[-1].max() > bands[0].min()


def test_the_crossing_of_a_limit_leads_to_a_recommendation_that_names_the_alert(run: Run) -> None:
    (alert_id,) = {a["alert_id"] for a in run.messages(TOPIC_ALERTS) if a["area"] == CITY}
    about = [s for s in run.messages(TOPIC_SETPOINTS) if any(alert_id in fact for fact in s["evidence"])]
    assert about
    storage = next(r for r in TABLES["resource"] if r.point == RELIEF)
    for setpoint in about:
        assert setpoint["action"] in {"ISSUE", "UPDATE"}
        assert (setpoint["advice_only"], setpoint["area"]) == (True, CITY)
        (move,) = setpoint["forward"]
        assert move["resource"] == storage.id
        assert storage.value_min <= move["value"] <= storage.value_max
        (effect,) = [e for e in setpoint["expected_effect"] if e["point"] == RISING_FEEDER]
        assert effect["change"] < 0


@pytest.mark.parametrize("topic", OUTPUTS)
def test_every_message_keeps_its_schema_and_has_no_field_beside_it(run: Run, topic: str) -> None:
    schema = json.loads((ROOT / "schemas" / f"{SCHEMAS[topic]}.v1.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    messages = run.messages(topic)
    assert messages
    wrong = [error.message for message in messages for error in validator.iter_errors(message)]
    assert wrong[:5] == []
    assert {name for message in messages for name in message} <= schema["properties"].keys()


def test_the_messages_are_of_every_kind(run: Run) -> None:
    assert {f["type"] for f in run.messages(TOPIC_FINDINGS)} == {
        "raise",
        "update",
        "clear",
        "watermark",
        "describe",
    }
    assert {f["family"] for f in run.messages(TOPIC_FINDINGS)} >= {"grid", "quality"}
    assert {s["action"] for s in run.messages(TOPIC_SETPOINTS)} >= {"ISSUE", "UPDATE"}
    assert {f["method"] for f in run.messages(TOPIC_FORECASTS)} == {"model", "persistence", "fallback"}
    stages = {"score", "scada", "ahead", "decide", "annunciate", "advise"}
    assert {h["stage"] for h in run.messages(TOPIC_HEALTH)} == stages
    cards = run.messages(TOPIC_CARDS)
    assert {a["alert_id"] for a in run.messages(TOPIC_ALERTS)} >= {c["parent"] for c in cards if c["parent"]}
    assert cards


@pytest.mark.parametrize("topic", OUTPUTS)
def test_what_is_said_twice_is_said_in_the_same_bytes(run: Run, topic: str) -> None:
    assert [key for key, values in run.copies(topic).items() if len(set(values)) > 1] == []


def test_the_kills_made_the_successors_say_things_again(run: Run) -> None:
    for topic in (TOPIC_ALERTS, TOPIC_FINDINGS):
        assert max(map(len, run.copies(topic).values())) > 1, topic
    assert len({h["worker"] for h in run.messages(TOPIC_HEALTH)}) == 3


def test_a_reader_that_reads_on_over_two_kills_has_each_transition_once(run: Run) -> None:
    wanted = Counter(identity(TOPIC_ALERTS, value) for value in run.offline.values(TOPIC_ALERTS))
    assert set(wanted.values()) == {1}
    for reader in (run.watcher, run.newcomer):
        assert reader.conflicts == []
        assert Counter((t.id, t.seq) for t in reader.found) == wanted
        assert {t.raw for t in reader.found} == set(run.offline.values(TOPIC_ALERTS))


def test_a_reader_has_the_transitions_of_an_alert_in_their_order(run: Run) -> None:
    for reader in (run.watcher, run.newcomer):
        seqs: dict[str, list[int]] = {}
        for transition in reader.found:
            seqs.setdefault(transition.id, []).append(transition.seq)
        assert all(found == list(range(1, len(found) + 1)) for found in seqs.values()), seqs


def test_the_inputs_hold_what_was_sent_and_no_record_more(run: Run) -> None:
    assert {topic: run.ends[topic] for topic in INPUTS} == dict(run.sent)
    assert run.sent.keys() == set(INPUTS)


def test_nothing_is_refused_and_no_topic_is_made(run: Run) -> None:
    assert {name: end for name, end in run.ends.items() if name.endswith(".dlq") and end} == {}
    wanted = {topic.name.removeprefix(run.prefix) for topic in wanted_topics(run.offline.config)}
    assert run.ends.keys() == wanted
    written = {name for name, end in run.ends.items() if end}
    assert written == {*INPUTS, *OUTPUTS, TOPIC_INTERVALS, TOPIC_STATE}


def test_the_last_worker_ends_when_asked(run: Run) -> None:
    assert run.exit_code == 0

"""Protects `streamproc check` on a real Kafka with TLS, SASL and ACLs: each refusal has its own line, nothing changes."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from streamproc.config import BrokerTable, SiteConfig, WorkerTable
from streamproc.core.messages import Health, encode
from streamproc.shell.checks import reach as check_reach
from streamproc.shell.checks.line import Line
from streamproc.shell.checks.site import check_all
from streamproc.shell.checks.topics import check_cluster
from streamproc.shell.kafka_broker import KafkaBroker, free_port
from streamproc.shell.topics import apply_topics, wanted_topics

pytestmark = pytest.mark.broker
CACHE = Path(__file__).resolve().parents[2] / ".cache"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True, slots=True)
class Secured:
    """One broker with three doors: open for the operator, TLS with login, and one advertised wrongly."""

    kafka: KafkaBroker
    admin: AdminClient
    ca_file: Path
    secure_port: int
    astray_port: int

    def site(self, user: str = "worker", **broker: Any) -> SiteConfig:
        """Return the site of a user behind the door with TLS and login."""
        table: dict[str, Any] = {
            "bootstrap": f"localhost:{self.secure_port}",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": user,
            "sasl_password": "env:CHECK_PASSWORD",
            "ca_file": str(self.ca_file),
        }
        return SiteConfig(broker=BrokerTable(**(table | broker)), worker=WorkerTable(http_port=0))

    def open_site(self, **broker: Any) -> SiteConfig:
        """Return a site behind the open door, which may do everything."""
        table = {"bootstrap": self.kafka.bootstrap, **broker}
        return SiteConfig(broker=BrokerTable(**table), worker=WorkerTable(http_port=0))

    def allow(self, user: str, *granted: tuple[ResourceType, str, AclOperation]) -> None:
        """Let a user do all this."""
        bindings = [
            AclBinding(
                kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", may, AclPermissionType.ALLOW
            )
            for kind, name, may in granted
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(timeout=30)

    def set(self, topic: str, key: str, value: str) -> None:
        """Set a setting of a topic."""
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(timeout=30)


def make_certificate(home: Path) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    (home / "both.pem").write_text((home / "key.pem").read_text() + (home / "cert.pem").read_text())


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    make_certificate(home)
    plain, secure, astray, controller = (free_port() for _ in range(4))
    here = "127.0.0.1"
    door = "listener.name.sasl_ssl"
    properties = {
        "listeners": f"PLAINTEXT://{here}:{plain},SASL_SSL://{here}:{secure},ASTRAY://{here}:{astray},"
        f"CONTROLLER://{here}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{here}:{plain},SASL_SSL://localhost:{secure},"
        f"ASTRAY://kafka-0.invalid:{astray}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,ASTRAY:PLAINTEXT",
        "controller.quorum.voters": f"1@{here}:{controller}",
        f"{door}.ssl.keystore.type": "PEM",
        f"{door}.ssl.keystore.location": str(home / "both.pem"),
        f"{door}.sasl.enabled.mechanisms": "PLAIN",
        f"{door}.plain.sasl.jaas.config": f'{LOGIN} user_worker="right" user_guest="right";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with KafkaBroker(
        home / "kafka", cache_dir=CACHE, port=plain, properties=properties, heap_mb=256
    ) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        found = Secured(kafka, admin, home / "cert.pem", secure, astray)
        apply_topics(found.open_site())
        yield found


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_PASSWORD", "right")


def looked(config: SiteConfig) -> list[Line]:
    return asyncio.run(check_all(config))


def reached(config: SiteConfig) -> list[tuple[str, str, str]]:
    return [(x.check, x.level, x.detail) for x in asyncio.run(check_reach.check_reach(config.broker))]


def asked(config: SiteConfig) -> list[Line]:
    return asyncio.run(check_cluster(config, time.time_ns() // 1000)).lines


def asked_until(config: SiteConfig, holds: Callable[[list[Line]], bool]) -> list[Line]:
    """Return the lines of which this holds, or the last: the controller answers before the broker has it."""
    for _ in range(20):
        lines = asked(config)
        if holds(lines):
            break
        time.sleep(0.1)
    return lines


def about(lines: list[Line], check: str) -> list[tuple[str, str]]:
    return [(line.level, line.detail) for line in lines if line.check == check]


def test_looking_changes_nothing_not_even_on_a_new_cluster(secured: Secured) -> None:
    def standing() -> tuple[list[str], list[str], dict[str, str]]:
        topics = secured.admin.list_topics(timeout=30).topics
        groups = secured.admin.list_consumer_groups().result(timeout=30).valid
        resource = ConfigResource(ConfigResource.Type.TOPIC, "grid.alerts.v1")
        settings = secured.admin.describe_configs([resource])[resource].result(timeout=30)
        return sorted(topics), sorted(g.group_id for g in groups), {k: v.value for k, v in settings.items()}

    before = standing()
    lines = looked(secured.open_site())
    looked(secured.open_site(topic_prefix="absent."))
    assert standing() == before
    assert "__consumer_offsets" not in before[0]
    assert {line.level for line in lines if line.check != "clock"} == {"OK"}
    assert about(lines, "topics") == [("OK", "22 of 22 are there with their partitions")]
    assert "no broker coordinates it" in about(lines, "group")[0][1]


def test_login_told_apart_from_reachability(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, login, nodes = reached(secured.site())
    assert login == ("login", "OK", "user worker (PLAIN): accepted")
    assert nodes[:2] == ("nodes", "OK")

    def last(config: SiteConfig) -> tuple[str, str, str]:
        return reached(config)[-1]

    check, level, told = last(secured.site(sasl_mechanism="SCRAM-SHA-256"))
    assert (check, level, "the broker has no such mechanism" in told) == ("login", "FAIL", True)
    open_door = {"sasl_mechanism": None, "sasl_username": None, "sasl_password": None}
    check, level, told = last(secured.site(security_protocol="SSL", **open_door))
    assert (check, level) == ("login", "FAIL")
    assert "without a login: the broker closed the connection at the first request" in told
    check, level, told = last(secured.open_site(bootstrap=f"127.0.0.1:{secured.secure_port}"))
    assert (check, level) == ("kafka", "FAIL")
    check, level, told = last(secured.site(ca_file=None))
    assert (check, level, "its certificate is refused" in told) == ("tls", "FAIL", True)
    check, level, told = last(secured.site(bootstrap=secured.kafka.bootstrap))
    assert (check, level, "the TLS handshake failed" in told) == ("tls", "FAIL", True)
    monkeypatch.setenv("CHECK_PASSWORD", "wrong")
    check, level, told = last(secured.site())
    assert (check, level) == ("login", "FAIL")
    assert told.startswith("user worker (PLAIN): refused by the broker (")
    assert "wrong" not in told


def test_a_broker_that_is_advertised_where_nobody_finds_it(secured: Secured) -> None:
    check, level, told = reached(secured.open_site(bootstrap=f"127.0.0.1:{secured.astray_port}"))[-1]
    assert (check, level) == ("nodes", "FAIL")
    assert f"broker 1 is advertised as kafka-0.invalid:{secured.astray_port}, which cannot be reached" in told


def test_a_broker_that_hangs_is_given_up_in_time(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_reach, "KAFKA_TIMEOUT_S", 1.0)
    secured.kafka.pause()
    try:
        begin_s = time.monotonic()
        found = reached(secured.open_site())[-1]
        assert time.monotonic() - begin_s < 3
    finally:
        secured.kafka.resume()
    assert found[:2] == ("kafka", "FAIL")
    assert "accepts, but has not answered within 1 s" in found[2]


def test_permissions_are_told_topic_by_topic(secured: Secured) -> None:
    lines = asked(secured.site(user="guest"))
    refused = dict(reversed(row) for row in about(lines, "access"))
    assert refused["user guest has no DESCRIBE, READ, WRITE on grid.alerts.v1"] == "FAIL"
    assert len(refused) == 22
    assert about(lines, "group") == [("FAIL", "streamproc: this user may not join it (no READ on the group)")]
    names = [topic.name for topic in wanted_topics(secured.site())]
    mute = {"grid.alerts.v1", "grid.pmu.frames.v1"}
    kind, group = ResourceType.TOPIC, ResourceType.GROUP
    secured.allow("worker", *((kind, name, AclOperation.READ) for name in names))
    secured.allow("worker", *((kind, name, AclOperation.WRITE) for name in names if name not in mute))
    lines = asked_until(secured.site(), lambda lines: len(about(lines, "access")) == 1)
    assert about(lines, "access") == [("FAIL", "user worker has no WRITE on grid.alerts.v1")]
    assert about(lines, "policy") == [("WARN", "the settings of 22 topics may not be read: not compared")]
    secured.allow(
        "worker", (kind, "grid.alerts.v1", AclOperation.WRITE), (group, "streamproc", AclOperation.READ)
    )
    secured.allow("worker", *((kind, name, AclOperation.DESCRIBE_CONFIGS) for name in names))
    lines = asked_until(secured.site(), lambda lines: {line.level for line in lines} == {"OK"})
    assert {line.level for line in lines} == {"OK"}


def test_policies_topics_and_partitions_that_differ(secured: Secured) -> None:
    config = secured.open_site(topic_prefix="b.")
    apply_topics(config)
    secured.set("b.grid.alerts.v1", "cleanup.policy", "delete")
    secured.set("b.grid.state.v1", "max.message.bytes", "1000000")
    secured.set("b.grid.findings.v1", "retention.ms", "60000")
    secured.set("b.grid.health.v1", "max.message.bytes", "5000")
    secured.admin.delete_topics(["b.grid.setpoints.v1"])["b.grid.setpoints.v1"].result(timeout=30)
    changed = secured.open_site(topic_prefix="b.", partitions=6)
    lines = asked_until(changed, lambda lines: len(about(lines, "policy")) == 4)
    assert set(about(lines, "policy")) == {
        ("WARN", "b.grid.findings.v1: retention.ms is 60000, wanted 2592000000"),
        ("FAIL", "b.grid.alerts.v1: cleanup.policy is delete, wanted compact,delete"),
        ("WARN", "b.grid.health.v1: max.message.bytes is 5000, records of up to 1000000 bytes can come"),
        ("FAIL", "b.grid.state.v1: max.message.bytes is 1000000, wanted 33554432"),
    }
    told = dict(reversed(row) for row in about(lines, "topics"))
    assert told["1 of 22 do not exist: b.grid.setpoints.v1"] == "FAIL"
    assert told["b.grid.pmu.frames.v1 has 4 partitions, wanted 6"] == "FAIL"


def test_the_newest_heartbeat_of_a_running_service(secured: Secured) -> None:
    producer = Producer({"bootstrap.servers": secured.kafka.bootstrap, "log_level": 0})

    def beat(ts_us: int) -> tuple[str, str]:
        health = Health(worker="w:1", stage="score", partition=0, seq=1, ts_us=ts_us)
        producer.produce("grid.health.v1", encode(health), b"w:1/score/0", partition=0)
        assert producer.flush(30) == 0
        (found,) = about(asked(secured.open_site()), "workers")
        return found

    now_us = time.time_ns() // 1000
    level, told = beat(now_us - 120_000_000)
    assert (level, "the newest heartbeat (w:1) is 12" in told) == ("WARN", True)
    assert beat(time.time_ns() // 1000)[0] == "OK"
    level, told = beat(now_us + 60_000_000)
    assert (level, "ahead of this clock" in told) == ("WARN", True)

"""Protects the topics: planned, made and altered as wanted on a real broker, and no more than that."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from streamproc.cli.root import app
from streamproc.config import BrokerTable, SiteConfig
from streamproc.errors import ShellError
from streamproc.shell.kafka_broker import free_port
from streamproc.shell.topics import apply_topics, plan_topics, wanted_topics

pytestmark = pytest.mark.broker


@pytest.fixture
def site(kafka: str, topics: Any) -> SiteConfig:
    return SiteConfig(broker=BrokerTable(bootstrap=kafka, topic_prefix=topics.prefix))


def test_an_empty_broker_lacks_every_topic_and_after_apply_nothing(site: SiteConfig) -> None:
    before = plan_topics(site)
    assert {t.name for t in before.missing} == {t.name for t in wanted_topics(site)}
    assert not before.changes
    apply_topics(site)
    after = plan_topics(site)
    assert after.is_empty, after.lines()
    assert apply_topics(site).is_empty


def test_a_setting_that_differs_is_altered_and_foreign_ones_stay(site: SiteConfig, topics: Any) -> None:
    name = topics.create("grid.health.v1", 1, {"retention.ms": "5", "flush.messages": "77"})
    todo = plan_topics(site)
    assert ("retention.ms", "5", "86400000") in {
        (c.key, c.found, c.wanted) for c in todo.changes if c.topic == name
    }
    apply_topics(site)
    after = plan_topics(site)
    assert after.is_empty, after
    assert topics.settings(name)["flush.messages"] == "77"
    assert topics.settings(name)["retention.ms"] == "86400000"


def test_another_partition_count_is_named_and_left_alone(site: SiteConfig, topics: Any) -> None:
    name = topics.create("grid.pmu.frames.v1", 2)
    done = apply_topics(site)
    assert [(c.topic, c.key, c.found, c.wanted) for c in done.conflicts] == [(name, "partitions", "2", "4")]
    assert plan_topics(site).conflicts == done.conflicts


def test_a_record_from_the_future_reaches_our_topics(site: SiteConfig, topics: Any) -> None:
    apply_topics(site)
    topics.fill(topics.prefix + "grid.scada.measurements.v1", [(b"north", b"{}")], ts_ms=4_102_444_800_000)
    (message,) = topics.read(topics.prefix + "grid.scada.measurements.v1")
    assert message.timestamp()[1] == 4_102_444_800_000


def test_no_broker_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = SiteConfig(broker=BrokerTable(bootstrap=address))
    with pytest.raises(ShellError, match=f"no Kafka answers at {address}: "):
        plan_topics(config)
    with pytest.raises(SystemExit) as end:
        app(["topics", "plan", "--bootstrap", address])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(f"streamproc: no Kafka answers at {address}: ")


def test_the_commands_tell_people_and_scripts(
    site: SiteConfig, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.toml"
    broker = f'[broker]\nbootstrap = "{site.broker.bootstrap}"\ntopic_prefix = "{site.broker.topic_prefix}"\n'
    file.write_text(broker)

    def run(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as end:
            app([*words, "-c", str(file)])
        return end.value.code, capsys.readouterr().out

    code, text = run("topics", "plan")
    assert code == 1
    assert (
        f"+ {site.broker.topic_prefix}grid.alerts.v1: 1 partitions, compact,delete, retention unlimited"
        in text
    )
    code, text = run("check")
    assert code == 1
    assert "OK    login" in text
    assert "FAIL  topics" in text
    code, text = run("topics", "apply", "--json")
    assert code == 0
    assert len(json.loads(text)["missing"]) == len(wanted_topics(site))
    assert run("topics", "plan") == (0, f"{len(wanted_topics(site))} topics are as wanted\n")
    code, text = run("check", "--json")
    assert code == 0
    levels = {c["check"]: c["level"] for c in json.loads(text)["checks"]}
    assert {levels[check] for check in ("config", "login", "topics", "policy", "access")} == {"OK"}


def test_three_replicas_mean_two_in_sync() -> None:
    config = msgspec.convert({"broker": {"replication_factor": 3}}, SiteConfig)
    assert {t.settings["min.insync.replicas"] for t in wanted_topics(config)} == {"2"}

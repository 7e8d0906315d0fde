"""Protects the published contract: schemas, examples and the AsyncAPI document are what the code says, and agree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from streamproc import pipeline, values
from streamproc.cli import root
from streamproc.config import SiteConfig
from streamproc.core.messages import MESSAGES, decode, encode
from streamproc.core.wire import Refusal
from streamproc.shell.offline import make_path
from streamproc.shell.schema_files import asyncapi, examples, files, schema_of
from streamproc.shell.topics import INPUTS, TOPICS, wanted_topics
from streamproc.simulate.events import GridEvent
from streamproc.simulate.fleet import Fleet, FleetSettings, fleet_records
from streamproc.simulate.scada import ScadaPoints, catalogue, resources
from streamproc.values import Output, Record

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        root.app(words)
    return int(end.value.code or 0)


def test_the_committed_files_are_what_the_code_makes() -> None:
    committed = {str(p.relative_to(SCHEMAS)): p.read_text() for p in SCHEMAS.rglob("*.json")}
    assert committed == files(), "run `streamproc schema write schemas`"


@pytest.mark.parametrize("name", MESSAGES)
def test_the_schema_is_valid_and_its_example_fits(name: str) -> None:
    Draft202012Validator.check_schema(schema_of(name))
    example = json.loads((SCHEMAS / "examples" / f"{name}.v1.json").read_text())
    Draft202012Validator(schema_of(name)).validate(example)
    assert decode(MESSAGES[name], json.dumps(example).encode()) == examples()[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_the_schema_refuses_what_the_code_refuses(name: str) -> None:
    example = msgspec.to_builtins(examples()[name])
    validator = Draft202012Validator(schema_of(name))
    required = schema_of(name)["required"]
    assert required
    for field in required:
        broken = {key: value for key, value in example.items() if key != field}
        assert not validator.is_valid(broken)
        assert not isinstance(decode(MESSAGES[name], json.dumps(broken).encode()), MESSAGES[name])


def test_asyncapi_names_every_topic_with_its_policy_and_message() -> None:
    document = asyncapi()
    assert document["asyncapi"].startswith("3.")
    wanted = {*TOPICS, *(topic + values.DLQ_SUFFIX for topic in INPUTS)}
    assert set(document["channels"]) == wanted
    for topic, channel in document["channels"].items():
        assert channel["address"] == topic
        assert channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"]
        (message,) = channel["messages"].values()
        assert message.get("headers" if topic.endswith(values.DLQ_SUFFIX) else "bindings")
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in wanted
    for name, reference in document["components"]["schemas"].items():
        assert (SCHEMAS / reference["$ref"]).resolve().is_file(), name


def test_asyncapi_says_key_partitions_and_policy_as_the_topics_are_made() -> None:
    wanted = {topic.name: topic for topic in wanted_topics(SiteConfig())}
    channels = asyncapi()["channels"]
    assert set(channels) == set(wanted)
    for topic, channel in channels.items():
        kafka = channel["bindings"]["kafka"]
        settings = kafka["topicConfiguration"]
        assert ",".join(settings["cleanup.policy"]) == wanted[topic].settings["cleanup.policy"]
        assert str(settings["retention.ms"]) == wanted[topic].settings["retention.ms"]
        assert kafka["partitions"] == wanted[topic].partition_count
        assert "Key: " in channel["description"]
        (message,) = channel["messages"].values()
        if "$ref" in message["payload"]:
            name = message["payload"]["$ref"].rsplit("/", 1)[1]
            assert name in MESSAGES


def test_asyncapi_fits_the_official_schema() -> None:
    # The schema of AsyncAPI 3.0.0 as published in the package @asyncapi/specs 6.11.1 (Apache-2.0).
    official = Path(__file__).resolve().parents[1] / "data" / "asyncapi" / "asyncapi-3.0.0.json.gz"
    schema = json.loads(gzip.decompress(official.read_bytes()))
    Draft7Validator(schema).validate(asyncapi())
    broken = asyncapi() | {"channels": {"x": {"address": 7}}}
    assert not Draft7Validator(schema).is_valid(broken)


@pytest.fixture(scope="module")
def sent() -> list[Output]:
    """What the real path sends of a fleet with an event, and of points of which one passes its limit."""
    start_ns = 1_700_000_000_000_000_000
    settings = FleetSettings(
        n_pmu=4, start_ns=start_ns, events=(GridEvent("line_trip", 8.0, at=0.6, size=0.3),)
    )
    points = ScadaPoints("fleet", 1, start_ns)
    times = [start_ns + minute * 60_000_000_000 for minute in range(-190, 1)]
    batches = [
        Record(values.TOPIC_SCADA, 0, i, t // 1_000_000, b"fleet", encode(points.batch(t)))
        for i, t in enumerate(times)
    ]
    config = SiteConfig(point=catalogue("fleet"), resource=resources())
    path = make_path(config)
    return list(pipeline.run(path, [*batches, *fleet_records(Fleet(settings), "fleet", 20)]))


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        (values.TOPIC_FINDINGS, "finding"),
        (values.TOPIC_ALERTS, "alert"),
        (values.TOPIC_FORECASTS, "forecast"),
        (values.TOPIC_SETPOINTS, "setpoint"),
    ],
)
def test_what_the_service_really_sends_fits_its_schema(sent: list[Output], topic: str, name: str) -> None:
    mine = [output for output in sent if output.topic == topic]
    assert mine, f"nothing was sent to {topic}: nothing would be tested"
    validator = Draft202012Validator(schema_of(name))
    for output in mine:
        tree = json.loads(output.value)
        validator.validate(tree)
        assert not isinstance(decode(MESSAGES[name], output.value), Refusal)
        assert list(tree) == sorted(tree), "keys are in order: the same message is the same bytes"


def test_the_command_says_which_files_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "write", str(tmp_path)]) == 0
    assert run(["schema", "check", str(tmp_path)]) == 0
    (tmp_path / "alert.v1.schema.json").write_text("{}")
    (tmp_path / "asyncapi.json").unlink()
    capsys.readouterr()
    assert run(["schema", "check", str(tmp_path)]) == 1
    assert "missing or different: alert.v1.schema.json, asyncapi.json;" in capsys.readouterr().err


@pytest.mark.parametrize("name", MESSAGES)
def test_the_command_shows_what_is_committed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "show", name]) == 0
    assert capsys.readouterr().out == (SCHEMAS / f"{name}.v1.schema.json").read_text()
    assert run(["schema", "show", name, "--example"]) == 0
    assert capsys.readouterr().out == (SCHEMAS / "examples" / f"{name}.v1.json").read_text()

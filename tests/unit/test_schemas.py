"""Protects the published contract: schemas, examples and the AsyncAPI document are what the code says, and agree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from streamproc import values
from streamproc.core.messages import MESSAGES, decode
from streamproc.shell.schema_files import asyncapi, examples, files, schema_of
from streamproc.shell.topics import INPUTS, TOPICS

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


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
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in wanted
    for name, reference in document["components"]["schemas"].items():
        assert (SCHEMAS / reference["$ref"]).resolve().is_file(), name


def test_asyncapi_fits_the_official_schema() -> None:
    # The schema of AsyncAPI 3.0.0 as published in the package @asyncapi/specs 6.11.1 (Apache-2.0).
    official = Path(__file__).resolve().parents[1] / "data" / "asyncapi" / "asyncapi-3.0.0.json.gz"
    schema = json.loads(gzip.decompress(official.read_bytes()))
    Draft7Validator(schema).validate(asyncapi())
    broken = asyncapi() | {"channels": {"x": {"address": 7}}}
    assert not Draft7Validator(schema).is_valid(broken)

"""Two questions to Kafka that aiokafka does not put: what may this user do with a topic, and with a group.

Metadata version 8 and DescribeGroups version 3 return the authorised operations as bits numbered by
`org.apache.kafka.common.acl.AclOperation`. A broker without an authoriser says that everything is allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10  # AclOperation
OPERATIONS = {READ: "READ", WRITE: "WRITE", DESCRIBE: "DESCRIBE", DESCRIBE_CONFIGS: "DESCRIBE_CONFIGS"}
NODES_MAX = 50  # of a cluster; more are not asked
_NOT_IT = (14, 15, 16)  # coordinator loading, not available, another one
NOT_TOLD = -(2**31)  # the broker gives no operations

_TEXT = String("utf-8")


class _MetadataResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT))),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", _TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataQuestion(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(_TEXT)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _GroupsQuestion(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(_TEXT)), ("include_authorized_operations", Boolean))


class _AskTopics(Request[_MetadataQuestion]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, struct: type[_MetadataQuestion]) -> _MetadataQuestion:
        return struct(self._names, False, False, True)


class _AskGroup(Request[_GroupsQuestion]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, struct: type[_GroupsQuestion]) -> _GroupsQuestion:
        return struct([self._group], True)


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as the cluster describes it; `error_code` as in Kafka's protocol, 0 for none."""

    error_code: int
    partitions: tuple[Mapping[str, Any], ...] = ()
    allowed: int = NOT_TOLD


@dataclass(frozen=True, slots=True)
class GroupFound:
    """A consumer group as its coordinator describes it."""

    error_code: int
    state: str = ""
    members: tuple[str, ...] = field(default=())  # "client_id at host"
    allowed: int = NOT_TOLD


def may(allowed: int, operation: int) -> bool:
    """Return whether the bits hold this operation; a broker that says nothing has not refused it."""
    return allowed == NOT_TOLD or bool(allowed >> operation & 1)


async def ask_topics(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, TopicFound]:
    """Return each of these topics as it is; none is created by asking."""
    reply = await admin._send_request(_AskTopics(list(names)))
    return {
        topic["name"]: TopicFound(
            topic["error_code"], tuple(topic["partitions"]), topic["authorized_operations"]
        )
        for topic in reply.to_object()["topics"]
    }


async def ask_group(admin: AIOKafkaAdminClient, group: str) -> GroupFound | None:
    """Return the group as its coordinator has it; None if no broker says that it is the one.

    Every broker is asked. FindCoordinator would be shorter, but on a new cluster it makes the topic
    `__consumer_offsets`: looking must not change anything.
    """
    nodes = [node.nodeId for node in admin._client.cluster.brokers()][:NODES_MAX]
    replies = await asyncio.gather(*(admin._send_request(_AskGroup(group), node) for node in nodes))
    for reply in replies:
        found = reply.to_object()["groups"][0]
        if found["error_code"] not in _NOT_IT:
            members = tuple(f"{one['client_id']} at {one['client_host']}" for one in found["members"])
            return GroupFound(found["error_code"], found["state"], members, found["authorized_operations"])
    return None

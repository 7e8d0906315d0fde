"""The messages of `inference.proto` as classes, from its compiled description beside it (`inference.binpb`).

Not from generated Python: that runs only with the protobuf release that it was generated for.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"

_pool = descriptor_pool.DescriptorPool()
_pool.Add(
    descriptor_pb2.FileDescriptorProto.FromString(
        (resources.files("streamproc.shell.serve") / "inference.binpb").read_bytes()
    )
)


def message(name: str) -> Any:  # noqa: ANN401 - protobuf makes the class
    """Return the class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")

"""Compiles `inference.proto` into the description that the gRPC side reads: `python -m tools.inference_proto`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROTO = Path(__file__).resolve().parents[1] / "streamproc" / "shell" / "serve" / "inference.proto"


def compiled(proto: Path = PROTO) -> bytes:
    """Return the FileDescriptorProto of a file as bytes."""
    from google.protobuf import descriptor_pb2  # noqa: PLC0415 - development only
    from grpc_tools import protoc  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        code = protoc.main(["protoc", f"-I{proto.parent}", f"--descriptor_set_out={out}", proto.name])
        if code:
            raise SystemExit(code)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
        return bytes(files.file[0].SerializeToString(deterministic=True))


if __name__ == "__main__":
    PROTO.with_suffix(".binpb").write_bytes(compiled())
    sys.stdout.write(f"{PROTO.with_suffix('.binpb')}\n")

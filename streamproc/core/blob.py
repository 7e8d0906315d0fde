"""State blobs: trees of plain values and arrays as compressed MessagePack, the same bytes for the same state."""

from __future__ import annotations

import zlib
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
import numpy as np

from streamproc.errors import StateError

_ARRAY = 1  # extension type: dtype, shape, bytes
SIZE_MAX = 64 << 20  # bytes after decompression


def pack_tree(kind: str, tree: dict[str, Any]) -> bytes:
    """Return the blob of a state; `kind` names stage and version and is checked on the way back."""
    return zlib.compress(msgspec.msgpack.encode({"kind": kind, "tree": _plain(tree)}), 1)


def unpack_tree(kind: str, blob: bytes, *older: str) -> dict[str, Any]:
    """Return the tree of `pack_tree`; raises StateError for a foreign, damaged or too large blob.

    `older`: kinds of before an upgrade that the reader understands too.
    """
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(blob, SIZE_MAX)
        content = msgspec.msgpack.Decoder(ext_hook=_array).decode(raw)
        found, tree = content["kind"], content["tree"]
    except (zlib.error, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the state blob cannot be read: {error}") from error
    if found not in {kind, *older}:
        raise StateError(f"the state blob is {found!r}, expected {kind!r}")
    return dict(tree)


def _plain(node: Any) -> Any:  # noqa: ANN401 - a tree of anything that a state holds
    if isinstance(node, np.ndarray):
        head = msgspec.msgpack.encode((node.dtype.str, node.shape))
        return msgspec.msgpack.Ext(_ARRAY, bytes([len(head)]) + head + np.ascontiguousarray(node).tobytes())
    if is_dataclass(node) and not isinstance(node, type):
        return {f.name: _plain(getattr(node, f.name)) for f in fields(node)}
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return node


def _array(code: int, content: memoryview) -> Any:  # noqa: ANN401
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code}")
    size = content[0]
    dtype, shape = msgspec.msgpack.decode(content[1 : 1 + size])
    return np.frombuffer(content[1 + size :], dtype=np.dtype(dtype)).reshape(shape)

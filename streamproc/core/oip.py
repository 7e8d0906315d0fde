"""Tensors of the Open Inference Protocol v2: JSON and binary bodies into arrays, arrays into answers.

The binary form (the protocol's "binary tensor data extension"): a body is the JSON header, `Inference-Header-Content-Length`
bytes of it, followed by the raw little-endian bytes of every tensor whose `binary_data_size` it names, in their order.

JSON has no NaN. In FP32 and FP64 tensors `null` stands for it, in requests and in answers: unknown, as everywhere here.

What does not fit the model is refused with the name of the tensor, the value and the rule; nothing is converted silently: a
string is not a number, a number with a fraction is not an integer, and 7 columns are not 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeGuard

import numpy as np
import orjson
from numpy.typing import NDArray

from streamproc.errors import RequestError

DATATYPES: dict[str, str] = {
    "BOOL": "|b1",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
KINDS = {
    "b": "b",
    "i": "iu",
    "u": "iu",
    "f": "iuf",
}  # kind of a datatype -> kinds of JSON numbers that it takes
ELEMENTS_MAX = 16 * 1024 * 1024  # of one tensor
RANK_MAX = 8


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model. A size of -1 is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as model metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Request:
    """One inference: arrays by name, which outputs are wanted (() all) and which of them as bytes."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] | bool = False  # names; True: all
    id: str = ""
    timeout_us: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def parse(body: bytes, specs: Sequence[TensorSpec], header_bytes: int | None = None) -> Request:
    """Return the request of a body; raises RequestError. `header_bytes`: the Inference-Header-Content-Length, if given."""
    if header_bytes is not None and not 0 < header_bytes <= len(body):
        raise RequestError(
            400, f"Inference-Header-Content-Length: {header_bytes}, the body has {len(body)} bytes"
        )
    head, rest = (body, b"") if header_bytes is None else (body[:header_bytes], body[header_bytes:])
    try:
        tree = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400, f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from error
    if not isinstance(tree, dict):
        raise RequestError(400, f"an object is expected, not {type(tree).__name__}")
    inputs = _inputs(_objects(tree, "inputs"), specs, rest)
    parameters = _parameters(tree, "the request")
    names, binary = _outputs(_objects(tree, "outputs"))
    identity = tree.get("id", "")
    if not isinstance(identity, str):
        raise RequestError(400, "id: a string is expected")
    return Request(
        inputs,
        names,
        True if parameters.get("binary_data_output") is True else binary,
        identity,
        timeout_of(parameters),
        parameters,
    )


def timeout_of(parameters: Mapping[str, Any]) -> int | None:
    """Return the parameter `timeout` in microseconds, None without one; raises RequestError."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0:
        raise RequestError(400, f"parameters.timeout: {timeout!r:.40}, microseconds above 0 are expected")
    return timeout


def checked(
    name: str, datatype: str, shape: Sequence[int], specs: Mapping[str, TensorSpec]
) -> tuple[TensorSpec, tuple[int, ...]]:
    """Return the spec and the shape of a tensor that fits it; raises RequestError."""
    spec = specs.get(name)
    if spec is None:
        raise RequestError(400, f"inputs: {name!r:.80} is no input of the model, it has {sorted(specs)}")
    if datatype != spec.datatype:
        raise RequestError(400, f"inputs.{name}.datatype: {datatype!r:.20}, the model takes {spec.datatype}")
    sizes = tuple(shape)
    fits = len(sizes) == len(spec.shape) and all(w in (-1, n) for n, w in zip(sizes, spec.shape, strict=True))
    if not fits:
        raise RequestError(
            400,
            f"inputs.{name}.shape: {list(sizes[:RANK_MAX])}, the model takes {list(spec.shape)} (-1: any)",
        )
    if prod(sizes) > ELEMENTS_MAX:
        raise RequestError(413, f"inputs.{name}: {prod(sizes)} elements, at most {ELEMENTS_MAX}")
    return spec, sizes


def complete(inputs: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec]) -> None:
    """Raise RequestError unless every input of the model is there."""
    missing = [spec.name for spec in specs if spec.name not in inputs]
    if missing:
        raise RequestError(400, f"inputs: {missing} are missing")


def from_bytes(name: str, spec: TensorSpec, shape: tuple[int, ...], raw: bytes) -> NDArray[Any]:
    """Return the array of raw little-endian bytes; raises RequestError."""
    dtype = np.dtype(DATATYPES[spec.datatype])
    wanted = prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise RequestError(400, f"inputs.{name}: {len(raw)} bytes, shape and datatype say {wanted}")
    return np.frombuffer(raw, dtype).reshape(shape)


def from_numbers(name: str, spec: TensorSpec, shape: tuple[int, ...], data: object) -> NDArray[Any]:
    """Return the array of a (nested or flat) list of JSON numbers; raises RequestError."""
    dtype = np.dtype(DATATYPES[spec.datatype])
    if not isinstance(data, list):
        raise RequestError(400, f"inputs.{name}.data: a list is expected, not {type(data).__name__}")
    try:
        array = np.asarray(data)
        if array.dtype.kind == "O" and dtype.kind == "f" and _numbers_or_null(data):
            array = np.asarray(data, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise RequestError(400, f"inputs.{name}.data: its rows are not of one length") from error
    if array.size and array.dtype.kind not in KINDS[dtype.kind]:
        raise RequestError(
            400,
            f"inputs.{name}.data: only numbers that fit {spec.datatype}"
            + (" (null: unknown)" if dtype.kind == "f" else ""),
        )
    if array.size != prod(shape) or (array.ndim > 1 and array.shape != shape):
        raise RequestError(
            400,
            f"inputs.{name}.data: {array.size} numbers of shape {list(array.shape)}, shape says {list(shape)}",
        )
    return _cast(name, spec, array, dtype).reshape(shape)


def _cast(name: str, spec: TensorSpec, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind in "iu" and array.size:
        info = np.iinfo(dtype)
        if int(array.min()) < info.min or int(array.max()) > info.max:
            raise RequestError(400, f"inputs.{name}.data: a number is outside {spec.datatype}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f" and not np.array_equal(np.isinf(cast), np.isinf(array.astype(np.float64))):
        raise RequestError(400, f"inputs.{name}.data: a number is too large for {spec.datatype}")
    return cast


def _numbers_or_null(data: list[Any]) -> bool:
    return all(
        _numbers_or_null(item) if isinstance(item, list) else item is None or type(item) in (int, float)
        for item in data
    )


def _objects(tree: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = tree.get(key, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RequestError(400, f"{key}: a list of objects is expected")
    return items


def _parameters(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(400, f"parameters of {where}: an object is expected")
    return parameters


def _inputs(items: list[dict[str, Any]], specs: Sequence[TensorSpec], rest: bytes) -> dict[str, NDArray[Any]]:
    known = {spec.name: spec for spec in specs}
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for item in items:
        name, datatype, sizes = item.get("name"), item.get("datatype"), item.get("shape")
        if not isinstance(name, str) or not isinstance(datatype, str) or not _is_shape(sizes):
            raise RequestError(400, "inputs: each has a name, a datatype and a shape of sizes from 0 up")
        if name in arrays:
            raise RequestError(400, f"inputs: {name!r:.80} stands there twice")
        spec, shape = checked(name, datatype, sizes, known)
        size = _parameters(item, "inputs").get("binary_data_size")
        if size is None:
            arrays[name] = from_numbers(name, spec, shape, item.get("data"))
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - at:
            raise RequestError(
                400,
                f"inputs.{name}.parameters.binary_data_size: {size!r:.40}, {len(rest) - at} bytes are left",
            )
        arrays[name] = from_bytes(name, spec, shape, rest[at : at + size])
        at += size
    if at != len(rest):
        raise RequestError(400, f"the body: {len(rest) - at} bytes belong to no input")
    complete(arrays, specs)
    return arrays


def _is_shape(sizes: object) -> TypeGuard[list[int]]:
    return (
        isinstance(sizes, list)
        and len(sizes) <= RANK_MAX
        and all(type(size) is int and 0 <= size < 2**31 for size in sizes)
    )


def _outputs(items: list[dict[str, Any]]) -> tuple[tuple[str, ...], frozenset[str]]:
    names = tuple(item.get("name") for item in items)
    if not all(isinstance(name, str) for name in names):
        raise RequestError(400, "outputs: each has a name")
    binary = (item["name"] for item in items if _parameters(item, "outputs").get("binary_data") is True)
    return names, frozenset(binary)  # type: ignore[return-value]


def chosen(request: Request, specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Return the outputs that a request wants; raises RequestError."""
    known = {spec.name: spec for spec in specs}
    unknown = [name for name in request.outputs if name not in known]
    if unknown:
        raise RequestError(400, f"outputs: {unknown!r:.80} is no output of the model, it has {sorted(known)}")
    return [known[name] for name in request.outputs] if request.outputs else list(specs)


def answer(
    model: str, version: str, request: Request, specs: Sequence[TensorSpec], arrays: Sequence[NDArray[Any]]
) -> tuple[bytes, int | None]:
    """Return the body of an answer and the length of its JSON part if bytes follow it, else None."""
    outputs, blobs = [], []
    for spec, array in zip(specs, arrays, strict=True):
        dtype = np.dtype(DATATYPES[spec.datatype])
        flat = np.ascontiguousarray(array, dtype)
        told: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        if request.binary is True or (request.binary is not False and spec.name in request.binary):
            raw = flat.tobytes()
            told["parameters"] = {"binary_data_size": len(raw)}
            blobs.append(raw)
        else:
            told["data"] = flat.reshape(-1)  # orjson writes NaN and infinity as null
        outputs.append(told)
    tree: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id:
        tree["id"] = request.id
    head = orjson.dumps(tree, option=orjson.OPT_SERIALIZE_NUMPY, default=_as_list)
    return (head, None) if not blobs else (b"".join([head, *blobs]), len(head))


def _as_list(value: object) -> Any:  # noqa: ANN401 - whatever orjson writes
    """Return what orjson has no numpy writer for, such as FP16, as a list."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64).tolist() if value.dtype.kind == "f" else value.tolist()
    raise TypeError(type(value).__name__)

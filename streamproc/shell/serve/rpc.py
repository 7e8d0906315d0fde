"""The gRPC side of the Open Inference Protocol v2.

Requests come as `raw_input_contents` (what clients send) or as typed contents; answers are always raw, as the protocol asks
of a server that was asked raw, and as every client reads. The deadline of a call is that of gRPC: a call that is cancelled
leaves the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from streamproc import __version__
from streamproc.core.oip import DATATYPES, Request, TensorSpec, checked, complete, from_bytes
from streamproc.errors import RequestError
from streamproc.shell.serve.catalogue import Served
from streamproc.shell.serve.clients import Clients
from streamproc.shell.serve.door import Door
from streamproc.shell.serve.wire import SERVICE, ModelInferRequest, ModelInferResponse, message

log = logging.getLogger(__name__)

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}

Method = Callable[[Any, Any], Awaitable[Any]]


class RpcDoor(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Calls of gRPC into the door."""

    def __init__(self, door: Door, clients: Clients, *, ready: Callable[[], bool]) -> None:
        self._door, self._clients, self._ready = door, clients, ready
        methods: dict[str, Method] = {
            "ServerLive": self._live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        self._handlers = {
            f"/{SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(
                self._guarded(method, open_to_all=name in {"ServerLive", "ServerReady"}),
                request_deserializer=(
                    ModelInferRequest if name == "ModelInfer" else message(f"{name}Request")
                ).FromString,
                response_serializer=lambda made: made.SerializeToString(),
            )
            for name, method in methods.items()
        }

    def service(self, handler_call_details: Any) -> Any:  # noqa: ANN401 - grpc has no types
        """Return the handler of a method, None when it is not ours."""
        return self._handlers.get(handler_call_details.method)

    def _guarded(self, method: Method, *, open_to_all: bool) -> Method:
        async def guarded(request: Any, context: Any) -> Any:  # noqa: ANN401
            begun_s = time.perf_counter()
            name = getattr(request, "model_name", "") or getattr(request, "name", "")
            label = name if name in self._door.catalogue.models else ""
            status = 499  # cancelled by the client
            self._door.meter.open.inc()
            try:
                made = await self._admitted(method, request, context, open_to_all)
                status = 200
                return made
            except RequestError as error:
                status = error.status
                await context.abort(CODES.get(status, grpc.StatusCode.UNKNOWN), str(error))
            finally:
                self._door.meter.open.dec()
                self._door.meter.answered("grpc", label, status, time.perf_counter() - begun_s)

        return guarded

    async def _admitted(self, method: Method, request: Any, context: Any, open_to_all: bool) -> Any:  # noqa: ANN401
        if open_to_all:
            return await method(request, context)
        told: Mapping[str, str] = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        names = (context.auth_context() or {}).get("x509_common_name", [b""])
        # The port of a peer differs with each connection: "ipv4:127.0.0.1:5000".
        peer = context.peer().rpartition(":")[0]
        client = self._clients.of(told, peer, names[0].decode("utf-8", "replace"))
        client.enter()
        try:
            return await method(request, context)
        except RequestError:
            raise
        except Exception as error:  # a bug of ours is an answer to the client and a trace in the log
            log.exception("gRPC call")
            raise RequestError(500, "an error of the server; its log says more") from error
        finally:
            client.leave()

    async def _live(self, _request: Any, _context: Any) -> Any:  # noqa: ANN401
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, _request: Any, _context: Any) -> Any:  # noqa: ANN401
        return message("ServerReadyResponse")(ready=self._ready())

    async def _model_ready(self, request: Any, _context: Any) -> Any:  # noqa: ANN401
        self._door.model(request.name, request.version)
        return message("ModelReadyResponse")(ready=self._ready())

    async def _server_metadata(self, _request: Any, _context: Any) -> Any:  # noqa: ANN401
        return message("ServerMetadataResponse")(name="streamproc", version=__version__, extensions=[])

    async def _model_metadata(self, request: Any, _context: Any) -> Any:  # noqa: ANN401
        told = self._door.model(request.name, request.version).as_json()
        return message("ModelMetadataResponse")(**told)

    async def _infer(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        model = self._door.model(request.model_name, request.model_version)
        left_s = context.time_remaining()
        asked = Request(
            _inputs(request, model),
            tuple(output.name for output in request.outputs),
            True,
            request.id,
            None if left_s is None else max(1, int(left_s * 1e6)),
        )
        specs, arrays = await self._door.infer(model, asked)
        made = ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
        for spec, array in zip(specs, arrays, strict=True):
            made.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            made.raw_output_contents.append(
                np.ascontiguousarray(array, np.dtype(DATATYPES[spec.datatype])).tobytes()
            )
        return made


def _inputs(request: Any, model: Served) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(400, f"raw_input_contents: {len(raw)}, there are {len(request.inputs)} inputs")
    known = {spec.name: spec for spec in model.inputs}
    arrays: dict[str, NDArray[Any]] = {}
    for place, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise RequestError(400, f"inputs: {tensor.name!r:.80} stands there twice")
        spec, shape = checked(tensor.name, tensor.datatype, tensor.shape, known)
        if any(size < 0 for size in shape):
            raise RequestError(400, f"inputs.{tensor.name}.shape: a size below 0")
        made = from_bytes(tensor.name, spec, shape, raw[place]) if raw else _typed(tensor, spec, shape)
        arrays[tensor.name] = made
    complete(arrays, model.inputs)
    return arrays


def _typed(tensor: Any, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401
    field = CONTENTS.get(spec.datatype)
    if field is None:
        raise RequestError(400, f"inputs.{spec.name}: {spec.datatype} comes in raw_input_contents only")
    numbers = np.array(getattr(tensor.contents, field))
    if numbers.size != int(np.prod(shape)):
        raise RequestError(
            400, f"inputs.{spec.name}.{field}: {numbers.size} numbers, shape says {list(shape)}"
        )
    dtype = np.dtype(DATATYPES[spec.datatype])
    if dtype.kind in "iu" and numbers.size:
        info = np.iinfo(dtype)
        if int(numbers.min()) < info.min or int(numbers.max()) > info.max:
            raise RequestError(400, f"inputs.{spec.name}: a number is outside {spec.datatype}")
    return numbers.astype(dtype).reshape(shape)

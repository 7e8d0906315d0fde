"""What is inside an ONNX file, read without the onnx package: enough to refuse what we do not trust.

A worker has no onnx package (it is a build tool). Before bytes reach ONNX Runtime, this reads the protobuf
wire format (field number << 3 | type) of ModelProto just deep enough for four rules:

    only operators that our models are made of, of the default domain (trees: ai.onnx.ml)
    no sub-graphs (Loop, If, Scan), no model-local functions
    no external data: a model must not make the runtime open other files
    an opset that we have tested

Field numbers from onnx.proto3: ModelProto graph=7 opset_import=8 functions=25; GraphProto node=1
initializer=5 sparse_initializer=15; NodeProto op_type=4 attribute=5 domain=7; AttributeProto t=5 g=6
tensors=10 graphs=11; TensorProto external_data=13 data_location=14; OperatorSetIdProto domain=1 version=2.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.errors import ModelError

ALLOWED = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "Conv",
        "Div",
        "Erf",
        "Exp",
        "Flatten",
        "Gather",
        "GatherElements",
        "Gemm",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "IsNaN",
        "LayerNormalization",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Not",
        "Pow",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "TopK",
        "Transpose",
        "TreeEnsembleRegressor",
        "Unsqueeze",
        "Where",
    ]
)
TREES = b"ai.onnx.ml"  # for boosted trees alone: no other of its operators is on the list
DOMAINS = (b"", b"ai.onnx", TREES)
OPSET_MIN, OPSET_MAX = 17, 21
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def check_model(model: bytes, where: str) -> None:
    """Raise ModelError, naming `where`, unless the model keeps the four rules."""
    opset = 0
    for number, value in _fields(model, where):
        if number == 7:
            _check_graph(_bytes(value, where), where)
        elif number == 8:
            opset = max(opset, _opset(_bytes(value, where), where))
        elif number == 25:
            raise ModelError(f"{where}: holds model-local functions; only plain operators are accepted")
    if not OPSET_MIN <= opset <= OPSET_MAX:
        raise ModelError(f"{where}: opset {opset}, accepted {OPSET_MIN} to {OPSET_MAX}")


def _opset(entry: bytes, where: str) -> int:
    fields = dict(_fields(entry, where))
    domain = fields.get(1, b"")
    if domain not in DOMAINS:
        raise ModelError(f"{where}: operator domain {domain!r} is not accepted")
    if domain == TREES:
        return 0  # counts by itself
    version = fields.get(2, 0)
    return version if isinstance(version, int) else 0


def _check_graph(graph: bytes, where: str) -> None:
    for number, value in _fields(graph, where):
        if number == 1:
            _check_node(_bytes(value, where), where)
        elif number == 5:
            _check_tensor(_bytes(value, where), where)
        elif number == 15:
            raise ModelError(f"{where}: sparse initializers are not accepted")


def _check_node(node: bytes, where: str) -> None:
    for number, value in _fields(node, where):
        if number == 4 and (operator := _bytes(value, where).decode("utf-8", "replace")) not in ALLOWED:
            raise ModelError(f"{where}: operator {operator!r} is not on the list of accepted operators")
        if number == 7 and value not in DOMAINS:
            raise ModelError(f"{where}: operator domain {value!r} is not accepted")
        if number == 5:
            for inner, content in _fields(_bytes(value, where), where):
                if inner in (6, 11):
                    raise ModelError(f"{where}: sub-graphs are not accepted")
                if inner in (5, 10):
                    _check_tensor(_bytes(content, where), where)


def _check_tensor(tensor: bytes, where: str) -> None:
    for number, value in _fields(tensor, where):
        if number == 13 or (number == 14 and value != 0):
            raise ModelError(f"{where}: external data is not accepted")


def _bytes(value: int | bytes, where: str) -> bytes:
    if isinstance(value, int):
        raise ModelError(f"{where}: not an ONNX file")
    return value


def _fields(buffer: bytes, where: str) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message; fixed-width numbers come as bytes."""
    at, end = 0, len(buffer)
    while at < end:
        tag, at = _varint(buffer, at, where)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(buffer, at, where)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, at = _varint(buffer, at, where)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ModelError(f"{where}: not an ONNX file")
        if at + size > end:
            raise ModelError(f"{where}: the ONNX file is cut short")
        yield tag >> 3, buffer[at : at + size]
        at += size


def _varint(buffer: bytes, at: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(buffer):
            raise ModelError(f"{where}: the ONNX file is cut short")
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelError(f"{where}: not an ONNX file")

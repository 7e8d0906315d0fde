"""Protects the tensors of the Open Inference Protocol: what is read, what is refused and why, what is written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.oip import DATATYPES, TensorSpec, answer, chosen, parse
from streamproc.errors import RequestError

X = TensorSpec("x", "FP32", (-1, 3))
N = TensorSpec("n", "INT32", (2,))
Y = TensorSpec("y", "FP32", (-1, 2))


def body(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2.5, None]}
    return orjson.dumps({"inputs": [{**tensor, **changes}]})


def test_numbers_flat_or_nested_and_null_for_unknown() -> None:
    for data in ([1, 2.5, None], [[1, 2.5, None]]):
        read = parse(body(data=data), [X]).inputs["x"]
        assert read.dtype == np.float32
        assert np.array_equal(read, np.array([[1, 2.5, np.nan]], dtype=np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "z"}, "'z' is no input of the model, it has ['x']"),
        ({"datatype": "FP64"}, "'FP64', the model takes FP32"),
        ({"shape": [1, 2]}, "[1, 2], the model takes [-1, 3]"),
        ({"shape": [3]}, "[3], the model takes [-1, 3]"),
        ({"shape": [-1, 3]}, "a shape of sizes from 0 up"),
        ({"shape": [1.0, 3]}, "a shape of sizes from 0 up"),
        ({"data": [1, 2]}, "2 numbers"),
        ({"data": [[1, 2], [3]]}, "not of one length"),
        ({"data": ["1", "2", "3"]}, "only numbers that fit FP32"),
        ({"data": [True, False, True]}, "only numbers that fit FP32"),
        ({"data": [1, 2, {}]}, "only numbers that fit FP32"),
        ({"data": [1, 2, 1e300]}, "too large for FP32"),
        ({"data": None}, "a list is expected"),
        ({"parameters": {"binary_data_size": 12}}, "0 bytes are left"),
        ({"parameters": [1]}, "an object is expected"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_rule(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(body(**changes), [X])
    assert refused.value.status == 400
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"[]", "an object is expected"),
        (b'{"inputs": [1]}', "a list of objects"),
        (b'{"inputs": []}', "['x'] are missing"),
        (b'{"inputs": [], "id": 3}', "['x'] are missing"),
        (b'{"inputs": "x"}', "a list of objects"),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=r".") as refused:
        parse(raw, [X])
    assert says in str(refused.value)


def test_integers_are_integers() -> None:
    def sent(data: list[Any]) -> bytes:
        return orjson.dumps({"inputs": [{"name": "n", "shape": [2], "datatype": "INT32", "data": data}]})

    assert parse(sent([1, -2]), [N]).inputs["n"].tolist() == [1, -2]
    for data in ([1.5, 2], [2**31, 0], [None, 1]):
        with pytest.raises(RequestError):
            parse(sent(data), [N])


def test_bytes_behind_the_header() -> None:
    values = np.array([[1, 2, 3]], dtype="<f4")
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True, "timeout": 5000}})
    read = parse(head + values.tobytes(), [X], len(head))
    assert np.array_equal(read.inputs["x"], values)
    assert read.binary is True
    assert read.timeout_us == 5000
    with pytest.raises(RequestError, match="1 bytes belong to no input"):
        parse(head + values.tobytes() + b"!", [X], len(head))
    with pytest.raises(RequestError, match="bytes are left"):
        parse(head + values.tobytes()[:-1], [X], len(head))
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse(head, [X], len(head) + 1)


def test_an_answer_in_both_forms() -> None:
    made = np.array([[1.5, np.nan]], dtype=np.float32)
    asked = parse(body(), [X])
    told, head_bytes = answer("m", "2", asked, [Y], [made])
    assert head_bytes is None
    assert orjson.loads(told) == {
        "model_name": "m",
        "model_version": "2",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, None]}],
    }
    wanted = orjson.loads(body())
    wanted["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    asked = parse(orjson.dumps(wanted), [X])
    told, head_bytes = answer("m", "2", asked, [Y], [made])
    assert head_bytes is not None
    assert told[head_bytes:] == made.tobytes()
    assert orjson.loads(told[:head_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 8}


def test_only_outputs_that_exist() -> None:
    wanted = orjson.loads(body())
    wanted["outputs"] = [{"name": "q"}]
    with pytest.raises(RequestError, match="'q'"):
        chosen(parse(orjson.dumps(wanted), [X]), [Y])


@given(st.sampled_from(sorted(DATATYPES)), st.integers(0, 5), st.data())
def test_whatever_is_written_as_bytes_is_read_back(datatype: str, rows: int, data: st.DataObject) -> None:
    dtype = np.dtype(DATATYPES[datatype])
    raw = data.draw(st.binary(min_size=rows * dtype.itemsize, max_size=rows * dtype.itemsize))
    if datatype == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    spec = TensorSpec("t", datatype, (-1,))
    tensor = {
        "name": "t",
        "shape": [rows],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(raw)},
    }
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    asked = parse(head + raw, [spec], len(head))
    told, head_bytes = answer("m", "1", asked, [spec], [asked.inputs["t"]])
    assert told[head_bytes:] == raw


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(tree: Any) -> None:
    try:
        raw = orjson.dumps(tree)
    except TypeError:  # an integer beyond 64 bits
        return
    for specs in ([X], []):
        with suppress(RequestError):  # anything else fails the test
            parse(raw, specs)

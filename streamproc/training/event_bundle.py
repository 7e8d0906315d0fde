"""The bundle that says what a disturbance is, as files in memory.

    manifest.toml   [bundle] format, name, version, created_from; [learnt] temperatures, least chances, widening; one
                    [[net]] per network with its digest, features and answers
    <name>.onnx     the graph of one network: `x` (n, n_in) -> `y` (n, n_out)
    golden.npz      for every network features `<name>.x` and what the numpy reference answers, `<name>.y`

The same networks give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

import numpy as np
import onnx
import tomli_w
from onnx import TensorProto, helper

from streamproc.core import event_place
from streamproc.core.event_features import NAMES
from streamproc.core.event_model import FINER, LEARNT
from streamproc.core.event_net import Net, build, run
from streamproc.core.frequency_response import LEVELS, TARGETS
from streamproc.core.frequency_response import NAMES as COURSE_NAMES
from streamproc.training.events import Fitted
from streamproc.training.onnx_graph import IR_VERSION, OPSET, OnnxOps

FORMAT = "streamproc-events/1"
GOLDEN_ROWS = 3


def emit(net: Net, name: str) -> bytes:
    """Return one network as an ONNX file."""
    ops = OnnxOps()
    answer = build(ops, "x", net)
    ops.nodes.append(helper.make_node("Identity", [answer], ["y"]))
    n_in, n_out = net.straight.shape
    graph = helper.make_graph(
        ops.nodes,
        "streamproc",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", n_out])],
        initializer=list(ops.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="streamproc"
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, {"streamproc.net": name})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def write_bundle(name: str, fitted: Fitted, created_from: Mapping[str, str]) -> dict[str, bytes]:
    """Return file name -> bytes."""
    files: dict[str, bytes] = {}
    golden: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    tables = []
    for net_name, exact in sorted(fitted.nets.items()):
        net = rounded(exact)
        file = f"{net_name}.onnx"
        files[file] = emit(net, net_name)
        row, column = np.meshgrid(np.arange(GOLDEN_ROWS), np.arange(net.mean.size), indexing="ij")
        # A product with the golden ratio, modulo 1, spreads evenly and never repeats.
        spread = np.modf((row * 97.0 + column * 31.0 + 1.0) * 0.6180339887498949)[0] * 5.0 - 2.5
        golden[f"{net_name}.x"] = (
            np.round(net.mean + net.sd * spread, 6).astype(np.float32).astype(np.float64)
        )
        golden[f"{net_name}.y"] = run(net, golden[f"{net_name}.x"])
        tables.append(
            {
                "name": net_name,
                "file": file,
                "digest": hashlib.sha256(files[file]).hexdigest(),
                "features": list(features_of(net_name)),
                "answers": list(answers_of(net_name)),
            }
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **golden)  # type: ignore[arg-type]
    files["golden.npz"] = buffer.getvalue()
    manifest = {
        "bundle": {
            "format": FORMAT,
            "name": name,
            "version": 1,
            "opset": OPSET,
            "golden": "golden.npz",
            "created_from": dict(created_from),
        },
        "learnt": {
            "temperature": fitted.temperature,
            "commit_min": fitted.commit_min,
            "widen": fitted.widen.tolist(),
        },
        "net": tables,
    }
    files["manifest.toml"] = tomli_w.dumps(manifest).encode()
    return files


def rounded(net: Net) -> Net:
    """Return the network with numbers that float32 holds exactly, as in the graph."""
    parts = (np.asarray(getattr(net, part)) for part in Net.__slots__)
    return Net(*(part.astype(np.float32).astype(np.float64) for part in parts))


def features_of(net_name: str) -> tuple[str, ...]:
    """Return what the columns of its input are."""
    known = {"place": event_place.NAMES, "course": COURSE_NAMES}
    return known.get(net_name, NAMES)


def answers_of(net_name: str) -> tuple[str, ...]:
    """Return what the columns of its output are."""
    if net_name == "course":
        return tuple(f"{target}_{level:g}" for target in TARGETS for level in LEVELS)
    known = {"place": ("nearness",), "kind": tuple(map(str, LEARNT)), "finer": FINER}
    return known[net_name.split("_", maxsplit=1)[0]]

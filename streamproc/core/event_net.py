"""The small network that answers all questions about a disturbance: one hidden layer beside a linear part.

    z = clip((x - mean) / sd, -6, 6)
    y = max(z A + a, 0) B + z C + b

It is written over the operations of `core.graph`, so the ONNX graph that a worker runs and the numpy reference are the
same expression. Several networks that were fitted apart and are averaged are one wider network of this form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamproc.core.graph import NumpyOps, Ops, T
from streamproc.values import F64

CLIP = 6.0


@dataclass(frozen=True, slots=True)
class Net:
    """The numbers of one network."""

    mean: F64  # (n_in,)
    sd: F64  # (n_in,)
    into: F64  # (n_in, n_hidden)
    bias: F64  # (n_hidden,)
    out: F64  # (n_hidden, n_out)
    straight: F64  # (n_in, n_out)
    level: F64  # (n_out,)


def build(ops: Ops[T], x: T, net: Net) -> T:
    """Return the answers (n, n_out) to features (n, n_in)."""
    zero, top = ops.const(0.0), ops.const(-CLIP)
    scaled = ops.mul(ops.sub(x, ops.const(net.mean)), ops.const(1.0 / net.sd))
    above = ops.maximum(scaled, top)
    z = ops.sub(zero, ops.maximum(ops.sub(zero, above), top))
    hidden = ops.maximum(ops.add(ops.matmul(z, ops.const(net.into)), ops.const(net.bias)), zero)
    straight = ops.add(ops.matmul(z, ops.const(net.straight)), ops.const(net.level))
    return ops.add(ops.matmul(hidden, ops.const(net.out)), straight)


def run(net: Net, x: F64) -> F64:
    """Return the answers in float64: the reference."""
    return np.asarray(build(NumpyOps(), np.asarray(x, dtype=np.float64), net), dtype=np.float64)


def mean_of(nets: Sequence[Net]) -> Net:
    """Return the network that gives the mean of the answers of networks with the same scaling."""
    first, share = nets[0], 1.0 / len(nets)
    return Net(
        first.mean,
        first.sd,
        np.concatenate([net.into for net in nets], axis=1),
        np.concatenate([net.bias for net in nets]),
        np.concatenate([net.out for net in nets]) * share,
        np.sum([net.straight for net in nets], axis=0) * share,
        np.sum([net.level for net in nets], axis=0) * share,
    )

"""Normalisation layers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fovea.engines.native.rules.rule import Rule
from fovea.ops import LRN, GroupNorm, LayerNorm, Normalize

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["NORMS"]


def rows_and_channels(node: Node) -> tuple[int, int]:
    """Positions of one sample, and channels."""
    *spatial, channels = node.input_shapes[0]
    return math.prod(size or 0 for size in spatial), channels or 0


# --- the pixel half of preprocessing


def normalize_numbers(op: Normalize, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset for every channel: (x scale - mean) / std = x factor + offset."""
    mean, std = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (op.mean, op.std))
    return op.scale / std, -mean / std


def normalize_forward(low: Lowering, node: Node) -> None:
    """y = x factor + offset, straight from uint8 pixels where the input has them."""
    assert isinstance(node.op, Normalize)
    rows, channels = rows_and_channels(node)
    x = low.raw_input(node)
    if x is None or x.dtype not in ("float32", "uint8"):
        x = low.input(node)
    factor, offset = (low.constant(v) for v in normalize_numbers(node.op, channels))
    dtype = "float32" if x is None else x.dtype
    reversed_ = int(node.op.order == "bgr")
    low.emit(f"normalize_{dtype}", [low.output(node)], [x, factor, offset], [rows, channels, reversed_])


def normalize_backward(low: Lowering, node: Node) -> None:
    """dx = dy factor, in the input's order of channels."""
    assert isinstance(node.op, Normalize)
    rows, channels = rows_and_channels(node)
    factor, _ = normalize_numbers(node.op, channels)
    dx, reversed_ = low.grad_input(node), node.op.order == "bgr"
    constants = [low.constant(factor[::-1] if reversed_ else factor), low.constant(np.zeros(channels))]
    low.emit("normalize_float32", [dx], [low.grad(node), *constants], [rows, channels, int(reversed_)])
    low.add_grad(node, 0, dx)


# --- within a sample


def units(node: Node) -> list[int]:
    """Units of one sample (its positions, or the whole), then positions, channels and groups of each."""
    rows, channels = rows_and_channels(node)
    return [1, rows, channels, node.op.groups] if isinstance(node.op, GroupNorm) else [rows, 1, channels, 1]


def groupnorm_forward(low: Lowering, node: Node) -> None:
    """Mean and 1/sigma of every group stay for backward."""
    assert isinstance(node.op, (GroupNorm, LayerNorm))
    ints = units(node)
    saved = low.buffer(2 * ints[0] * ints[3])
    low.saved[node.name] = saved
    ins = [low.input(node), low.parameter(node, "weight"), low.parameter(node, "bias")]
    low.emit("groupnorm", [low.output(node), saved], ins, ints, (node.op.eps,))


def groupnorm_backward(low: Lowering, node: Node) -> None:
    """Parameters first: they are sums over everything; then the input."""
    ints, saved, dy, x = units(node), low.saved[node.name], low.grad(node), low.input(node)
    grads = [low.grad_parameter(node, "weight"), low.grad_parameter(node, "bias")]
    if any(grads):
        low.emit("groupnorm_parameters", grads, [dy, x, saved], ints)
    if low.needs(node):
        dx = low.grad_input(node)
        low.emit("groupnorm_backward", [dx], [dy, x, low.parameter(node, "weight"), saved], ints)
        low.add_grad(node, 0, dx)


def lrn_numbers(node: Node) -> tuple[list[int], list[float]]:
    """What the kernels of LRN take: rows, channels, size; alpha / size, beta, k."""
    assert isinstance(node.op, LRN)
    return [*rows_and_channels(node), node.op.size], [node.op.alpha / node.op.size, node.op.beta, node.op.k]


def lrn_forward(low: Lowering, node: Node) -> None:
    """y = x (k + alpha / size sum x^2)^-beta."""
    low.emit("lrn", [low.output(node)], [low.input(node)], *lrn_numbers(node))


def lrn_backward(low: Lowering, node: Node) -> None:
    """Every channel is in the windows of its neighbours."""
    dx = low.grad_input(node)
    low.emit("lrn_backward", [dx], [low.grad(node), low.input(node)], *lrn_numbers(node))
    low.add_grad(node, 0, dx)


# --- one weight per channel


def channel_forward(low: Lowering, node: Node) -> None:
    """PReLU and LayerScale."""
    ins = [low.input(node), low.parameter(node, "weight")]
    low.emit(node.op.kind, [low.output(node)], ins, rows_and_channels(node))


def channel_backward(low: Lowering, node: Node) -> None:
    """The input's gradient and the weight's in one pass."""
    dx = low.grad_input(node) if low.needs(node) else None
    ins = [low.grad(node), low.input(node), low.parameter(node, "weight")]
    low.emit(f"{node.op.kind}_backward", [dx, low.grad_parameter(node, "weight")], ins, rows_and_channels(node))
    if dx is not None:
        low.add_grad(node, 0, dx)


NORMS = {
    "layernorm": Rule(groupnorm_forward, groupnorm_backward),
    "groupnorm": Rule(groupnorm_forward, groupnorm_backward),
    "lrn": Rule(lrn_forward, lrn_backward),
    "prelu": Rule(channel_forward, channel_backward),
    "layerscale": Rule(channel_forward, channel_backward),
    "normalize": Rule(normalize_forward, normalize_backward),
}

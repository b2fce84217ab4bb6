"""Ops that slide windows: convolution, its transpose, dense layers (a 1x1 convolution), pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fovea.engines.native.rules.rule import Rule
from fovea.errors import EngineError
from fovea.ops import AvgPool, Conv, ConvTranspose, Dense, MaxPool
from fovea.ops.window import Axis

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = ["WINDOWS", "conv_ints"]

_POINT = Axis(1, 1, 1, 1, 1, 0, 0)


def three(node: Node, axes: Sequence[Axis]) -> list[Axis]:
    """Geometry over three axes; leading axes of size 1 are added."""
    if len(axes) > 3:
        raise EngineError(
            node.name, f"expected 1 to 3 spatial axes in the native engine, got {len(axes)}; use the reference engine"
        )
    return [_POINT] * (3 - len(axes)) + list(axes)


def geometry(axes: Sequence[Axis]) -> list[int]:
    """in, out, kernel, stride, dilation, pad_lo, three numbers each."""
    fields = ("input", "output", "kernel", "stride", "dilation", "pad_lo")
    return [getattr(axis, field) for field in fields for axis in axes]


def conv_ints(node: Node) -> list[int]:
    """groups, C_in, C_out and the geometry of the convolution that the node is, or that it transposes."""
    op, channels = node.op, node.input_shapes[0][-1] or 0
    if isinstance(op, Dense):
        positions = Axis(*(math.prod(size or 0 for size in node.input_shapes[0][:-1]),) * 2, 1, 1, 1, 0, 0)
        return [1, channels, op.out_channels, *geometry([_POINT, _POINT, positions])]
    if isinstance(op, ConvTranspose):
        return [op.groups, op.out_channels, channels, *geometry(three(node, op.windows(node.input_shapes[0])))]
    assert isinstance(op, Conv)
    return [op.groups, channels, op.out_channels, *geometry(three(node, op.windows(node.input_shapes[0])))]


# --- convolution and dense


def conv_forward(low: Lowering, node: Node) -> None:
    """y = x * weight + bias."""
    x, weight, bias = low.input(node), low.parameter(node, "weight"), low.parameter(node, "bias")
    low.emit("conv_forward", [low.output(node)], [x, weight, bias], [*conv_ints(node), 0], (0.0, 0.0))


def conv_backward(low: Lowering, node: Node) -> None:
    """dx = dy * weight transposed; dweight and dbias as sums over positions."""
    ints, dy = [*conv_ints(node), 0], low.grad(node)
    _grad_weight(low, node, ints, low.input(node), dy)
    if low.needs(node):
        dx = low.grad_input(node)
        low.emit("conv_backward_data", [dx], [dy, low.parameter(node, "weight"), None], ints, (0.0, 0.0))
        low.add_grad(node, 0, dx)


def _grad_weight(low: Lowering, node: Node, ints: list[int], x: Operand, dy: Operand) -> None:
    weight, bias = low.grad_parameter(node, "weight"), low.grad_parameter(node, "bias")
    if weight is not None:
        low.emit("conv_backward_weight", [weight, bias], [x, dy], ints, (0.0, 0.0))
    elif bias is not None:
        grad_bias(low, node, bias, dy)


def grad_bias(low: Lowering, node: Node, bias: Operand, dy: Operand) -> None:
    """dbias = sum of dy over samples and positions."""
    *spatial, channels = node.output_shapes[0]
    low.emit("column_sum", [bias], [dy], [math.prod(size or 0 for size in spatial), channels or 0])


# --- transposed convolution: the passes of the convolution that it transposes, the other way round


def transpose_forward(low: Lowering, node: Node) -> None:
    """What that convolution's backward-data pass does to a gradient."""
    x, weight, bias = low.input(node), low.parameter(node, "weight"), low.parameter(node, "bias")
    low.emit("conv_backward_data", [low.output(node)], [x, weight, bias], [*conv_ints(node), 0], (0.0, 0.0))


def transpose_backward(low: Lowering, node: Node) -> None:
    """dx is that convolution of dy; dweight has dy as its input and x as the gradient of its output."""
    ints, dy = [*conv_ints(node), 0], low.grad(node)
    weight, bias = low.grad_parameter(node, "weight"), low.grad_parameter(node, "bias")
    if weight is not None:
        low.emit("conv_backward_weight", [weight, None], [dy, low.input(node)], ints, (0.0, 0.0))
    if bias is not None:
        grad_bias(low, node, bias, dy)
    if low.needs(node):
        dx = low.grad_input(node)
        low.emit("conv_forward", [dx], [dy, low.parameter(node, "weight"), None], ints, (0.0, 0.0))
        low.add_grad(node, 0, dx)


# --- pooling


def pool_ints(node: Node) -> list[int]:
    """C, then the geometry."""
    assert isinstance(node.op, (MaxPool, AvgPool))
    shape = node.input_shapes[0]
    return [shape[-1] or 0, *geometry(three(node, node.op.windows(shape)))]


def maxpool_forward(low: Lowering, node: Node) -> None:
    """y = maximum of each window; which tap won is stored for backward, in a byte where that is enough."""
    ints = pool_ints(node)
    dtype = "uint8" if math.prod(ints[7:10]) <= 256 else "int32"
    x, y = low.input(node), low.output(node)
    index = low.buffer(y.elements, dtype) if low.differentiated(node) else None
    low.saved[node.name] = index
    low.emit(f"maxpool_{dtype}", [y, index], [x], ints)


def maxpool_backward(low: Lowering, node: Node) -> None:
    """dx = dy where the tap won, masked by the pooled values when the ReLU before it leaves that to this rule."""
    index, dx = low.saved[node.name], low.grad_input(node)
    assert index is not None
    gate = low.value(node) if node.inputs[0].node in low.fusions.gated else None
    low.emit(f"maxpool_{index.dtype}_backward", [dx], [low.grad(node), index, gate], pool_ints(node))
    low.add_grad(node, 0, dx)


def avgpool_ints(node: Node) -> list[int]:
    """The geometry, then the divisors along each of three axes."""
    assert isinstance(node.op, AvgPool)
    counts: list[Sequence[int]] = [list(one) for one in node.op.counts(node.input_shapes[0])]
    counts = [[1]] * (3 - len(counts)) + counts
    return [*pool_ints(node), *(count for axis in counts for count in axis)]


def avgpool_forward(low: Lowering, node: Node) -> None:
    """y = mean of each window."""
    low.emit("avgpool", [low.output(node)], [low.input(node)], avgpool_ints(node))


def avgpool_backward(low: Lowering, node: Node) -> None:
    """Every element of a window gets an equal share."""
    dx = low.grad_input(node)
    low.emit("avgpool_backward", [dx], [low.grad(node)], avgpool_ints(node))
    low.add_grad(node, 0, dx)


WINDOWS = {
    "conv": Rule(conv_forward, conv_backward),
    "dense": Rule(conv_forward, conv_backward),
    "convtranspose": Rule(transpose_forward, transpose_backward),
    "maxpool": Rule(maxpool_forward, maxpool_backward),
    "avgpool": Rule(avgpool_forward, avgpool_backward),
}

"""Depthwise 3x3 convolutions on the output of a batch norm that is never stored, in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fovea.engines.native.program import Buffer
from fovea.engines.native.rules.fused import highest
from fovea.engines.native.rules.norm import rows_and_channels
from fovea.engines.native.rules.window import conv_ints, grad_bias
from fovea.ops import BatchNorm

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = [
    "limits",
    "normed_depthwise",
    "normed_depthwise_backward",
    "normed_macs",
    "normed_pointwise_backward",
    "pass_gradient",
    "pointwise_pays",
    "statistics",
    "statistics_of",
]

PIECES = 64
"""As many as there are sums of a batch norm."""
SPLIT_ROWS = 7
"""Rows of outputs of a piece, at least: its neighbours normalise two rows of its inputs once more."""

LEAST_PIXELS = 8192
MOST_WEIGHTS = 1 << 14
"""A pointwise convolution goes through the norm behind it with so many pixels of a batch, and so few weights."""


def statistics(norm: Node, low: Lowering, node: Node) -> None:
    """Mean and variance of the batch, where the convolution before did not take them; no output."""
    assert isinstance(norm.op, BatchNorm)
    if norm.name in low.fusions.measured:
        return
    outs, ins, reals = statistics_of(norm, low)
    low.emit("batchnorm_statistics", outs, [low.input(norm), *ins], rows_and_channels(norm), reals)


def statistics_of(norm: Node, low: Lowering) -> tuple[list[Operand], list[Operand], tuple[float, float]]:
    """What whoever takes the statistics of a batch norm writes and reads, and its eps and momentum."""
    assert isinstance(norm.op, BatchNorm)
    low.saved[norm.name] = saved = Buffer(4 * rows_and_channels(norm)[1], per_sample=False)
    outs: list[Operand] = [saved, low.stored(norm, "running_mean"), low.stored(norm, "running_var")]
    ins: list[Operand] = [low.parameter(norm, "weight"), low.parameter(norm, "bias")]
    return outs, ins, (norm.op.eps, norm.op.momentum)


def _sizes(conv: Node, low: Lowering) -> list[int]:
    """Height, width, channels, those of the outputs, stride, pieces of one image."""
    ints = conv_ints(conv)
    splits = max(1, min(ints[7] // SPLIT_ROWS, -(-PIECES // low.spec.batch_size)))
    return [ints[4], ints[5], ints[1], ints[7], ints[8], ints[13], splits]


def normed_macs(ints: Sequence[int]) -> int:
    """Multiplications of one pass for one sample, by the ints of the instruction."""
    return 9 * ints[2] * ints[3] * ints[4]


def limits(clamp: Node | None) -> tuple[float, float]:
    """Of the values behind a batch norm and its clamp."""
    return (-math.inf, math.inf) if clamp is None else (0.0, highest(clamp))


def normed_depthwise(norm: Node, clamp: Node | None, behind: Node | None, low: Lowering, node: Node) -> None:
    """z = clamp(norm(x)) * weight + bias, and the statistics of z for the batch norm ``behind``."""
    outs: list[Operand] = [None, None, None]
    affine: list[Operand] = [None, None]
    reals = (0.0, 0.0)
    if behind is not None:
        outs, affine, reals = statistics_of(behind, low)
    ins = [low.input(norm), low.saved[norm.name], low.parameter(node, "weight"), low.parameter(node, "bias"), *affine]
    low.emit("normed_depthwise", [low.output(node), *outs], ins, _sizes(node, low), (*limits(clamp), *reals))


def normed_depthwise_backward(norm: Node, clamp: Node | None, behind: Node | None, low: Lowering, node: Node) -> None:
    """From the gradient of z those of weight, gamma and beta, and that of x through the statistics.

    Where the batch norm ``behind`` handed down the gradient behind its clamp, that of z is made on the way.
    """
    gradient, grads, means, ins = backward_operands(norm, low, node)
    if behind is not None and behind.name in low.fusions.through:
        ins += [low.value(node), low.saved[behind.name], low.saved[f"{behind.name}.means"]]
    else:
        ins += [None, None, None]
    low.emit("normed_depthwise_backward", [gradient, *grads, means], ins, _sizes(node, low), limits(clamp))
    pass_gradient(norm, gradient, means, low)


def backward_operands(norm: Node, low: Lowering, node: Node) -> tuple[Buffer, list[Operand], Buffer, list[Operand]]:
    """Of a convolution that read through a norm: the gradient behind the norm's clamp; those of weight, gamma and beta;
    the means that the gradient through the norm needs; what is read. The bias, if there is one, has its gradient then.
    """
    dz, x, saved = low.grad(node), low.input(norm), low.saved[norm.name]
    if (bias := low.grad_parameter(node, "bias")) is not None:
        grad_bias(low, node, bias, dz)
    gradient, means = low.grad_input(node), Buffer(2 * rows_and_channels(norm)[1], per_sample=False)
    grads: list[Operand] = [
        low.grad_parameter(node, "weight"),
        low.grad_parameter(norm, "weight"),
        low.grad_parameter(norm, "bias"),
    ]
    ins: list[Operand] = [dz, x, saved, low.parameter(node, "weight")]
    return gradient, grads, means, ins


def pass_gradient(norm: Node, gradient: Buffer, means: Buffer, low: Lowering) -> None:
    """From the gradient behind a norm's clamp to the node before it: as it is, where that goes through the norm."""
    if norm.name in low.fusions.through:
        low.saved[f"{norm.name}.means"] = means
        low.add_grad(norm, 0, gradient)
    elif low.needs(norm):
        low.node = norm.name
        dx = low.grad_input(norm)
        ins = [gradient, low.input(norm), low.saved[norm.name], means]
        low.emit("batchnorm_gradient", [dx], ins, rows_and_channels(norm), inplace=((0, 0),))
        low.add_grad(norm, 0, dx)


def pointwise_pays(conv: Node, capacity: int) -> bool:
    """Whether partial sums of the weight's gradient are small beside the pixels that they are summed over."""
    (height, width, inputs), outputs = conv.input_shapes[0], conv.output_shapes[0][-1]
    pixels = capacity * (height or 0) * (width or 0)
    return pixels >= LEAST_PIXELS and (inputs or 0) * (outputs or 0) <= MOST_WEIGHTS


def normed_pointwise_backward(norm: Node, low: Lowering, node: Node) -> None:
    """The gradients of input and weight from the gradient behind the norm's clamp, through the norm."""
    positions, outputs = rows_and_channels(norm)
    ins = [low.grad(node), low.value(node), low.saved[norm.name], low.saved[f"{norm.name}.means"], low.input(node)]
    dx = low.grad_input(node) if low.needs(node) else None
    outs = [dx, low.grad_parameter(node, "weight")]
    sizes = [positions, conv_ints(node)[1], outputs]
    low.emit("normed_pointwise_backward", outs, [*ins, low.parameter(node, "weight")], sizes)
    if dx is not None:
        low.add_grad(node, 0, dx)

"""Pointwise convolutions between batch norms, in training: they normalise what they read, and take the statistics of
what they write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.engines.native.rules.inverted import is_pointwise
from fovea.engines.native.rules.normed import backward_operands, limits, pass_gradient, statistics_of
from fovea.engines.native.rules.window import conv_ints

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = ["between_norms", "between_norms_backward", "pays_between"]

LEAST_PIXELS = 2048
"""Of a batch: fewer pixels are few pieces, and stay in a cache between the passes."""
MOST_WEIGHTS = 1 << 16
"""They stay in the second-level cache beside a run of pixels, and so does a piece's sum of their gradient."""


def pays_between(conv: Node, capacity: int) -> bool:
    """Whether a node is a pointwise convolution with many pixels and few weights."""
    if not is_pointwise(conv):
        return False
    (height, width, inputs), outputs = conv.input_shapes[0], conv.output_shapes[0][-1]
    return capacity * (height or 0) * (width or 0) >= LEAST_PIXELS and (inputs or 0) * (outputs or 0) <= MOST_WEIGHTS


def _sizes(conv: Node) -> list[int]:
    """Positions of one sample, channels in and out."""
    _, inputs, outputs, *sizes = conv_ints(conv)
    return [sizes[1] * sizes[2], inputs, outputs]


def between_norms(norm: Node | None, clamp: Node | None, behind: Node | None, low: Lowering, node: Node) -> None:
    """z = clamp(norm(x)) * weight + bias, and the statistics of z for the batch norm ``behind``; both are optional."""
    outs: list[Operand] = [None, None, None]
    affine: list[Operand] = [None, None]
    reals = (0.0, 0.0)
    if behind is not None:
        outs, affine, reals = statistics_of(behind, low)
    x, saved = (low.input(node), None) if norm is None else (low.input(norm), low.saved[norm.name])
    ins = [x, saved, low.parameter(node, "weight"), low.parameter(node, "bias"), *affine]
    low.emit("pointwise_between_norms", [low.output(node), *outs], ins, _sizes(node), (*limits(clamp), *reals))


def between_norms_backward(norm: Node, clamp: Node | None, low: Lowering, node: Node) -> None:
    """From the gradient of z those of weight, gamma and beta, and that of x through the statistics."""
    gradient, grads, means, ins = backward_operands(norm, low, node)
    low.emit("pointwise_between_norms_backward", [gradient, *grads, means], ins, _sizes(node), limits(clamp))
    pass_gradient(norm, gradient, means, low)

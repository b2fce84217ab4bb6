"""Ops that move or pick elements, and reductions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engines.native.rules.rule import IDENTITY, Rule, no_gradient, same_value

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["RESHAPES"]


def globalavgpool_forward(low: Lowering, node: Node) -> None:
    """y = mean over all positions."""
    *spatial, channels = node.input_shapes[0]
    positions = math.prod(size or 0 for size in spatial)
    low.emit("reduce_sum", [low.output(node)], [low.input(node)], [1, positions, channels or 0], (1.0 / positions,))


def globalavgpool_backward(low: Lowering, node: Node) -> None:
    """Every position gets an equal share."""
    *spatial, channels = node.input_shapes[0]
    positions = math.prod(size or 0 for size in spatial)
    dx = low.grad_input(node)
    low.emit("reduce_sum_backward", [dx], [low.grad(node)], [1, positions, channels or 0], (1.0 / positions,))
    low.add_grad(node, 0, dx)


RESHAPES = {
    "flatten": IDENTITY,
    "reshape": IDENTITY,
    "stopgradient": Rule(same_value, no_gradient),
    "globalavgpool": Rule(globalavgpool_forward, globalavgpool_backward),
}

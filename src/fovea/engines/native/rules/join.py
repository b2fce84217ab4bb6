"""Sums and products of several activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.engines.native.rules.rule import Rule

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["JOINS"]


def add_forward(low: Lowering, node: Node) -> None:
    """Pairwise, from the left."""
    size = low.size_of_output(node)
    total = low.input(node, 0)
    for index in range(1, len(node.inputs)):
        last = index == len(node.inputs) - 1
        result = low.output(node) if last else low.buffer(size)
        low.emit("add", [result], [total, low.input(node, index)], [size, 0], inplace=(0, 0))
        total = result


def add_backward(low: Lowering, node: Node) -> None:
    """Every input gets the gradient itself."""
    for index in range(len(node.inputs)):
        low.add_grad(node, index, low.grad(node))


JOINS = {"add": Rule(add_forward, add_backward)}

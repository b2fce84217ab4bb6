"""The type of a lowering rule: how one kind of op becomes instructions, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.graph.graph import Node

__all__ = ["Emit", "Rule", "no_gradient", "same_value"]

Emit = Callable[["Lowering", "Node"], None]


class Rule(NamedTuple):
    """``forward`` writes the node's outputs; ``backward`` hands on gradients of inputs, writes those of parameters."""

    forward: Emit
    backward: Emit


def same_value(low: Lowering, node: Node) -> None:
    """The output is the input itself: no instruction."""
    from fovea.graph.graph import Ref

    low.values[Ref(node.name)] = low.raw_input(node)


def same_gradient(low: Lowering, node: Node) -> None:
    """The gradient passes as it is."""
    low.add_grad(node, 0, low.grad(node))


def no_gradient(low: Lowering, node: Node) -> None:
    """Nothing passes."""


IDENTITY = Rule(same_value, same_gradient)

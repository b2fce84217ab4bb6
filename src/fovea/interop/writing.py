"""What exports share: a walk over a graph, in which every rule knows the model's numbers and how each value lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore

__all__ = ["Array", "Value", "Writing", "rules_into"]

Array = npt.NDArray[Any]
R = TypeVar("R", bound=Callable[..., Any])


@dataclass(frozen=True)
class Value:
    """What a value is called there. ``first``: N,C,*spatial; else the axes lie as ours, N,*spatial,C. One spatial axis
    or more."""

    name: str
    first: bool


class Writing:
    """Rules ask for inputs in the order that they need, and give outputs with theirs."""

    target: ClassVar[str]
    """Follows "cannot be written" in errors."""

    def __init__(self, where: str, graph: Graph, store: ParameterStore) -> None:
        self.where, self.graph, self.store = where, graph, store
        self.values: dict[Ref, Value] = {}

    def refuse(self, node: Node, why: str) -> ModelFileError:
        """The error for a node that cannot be written; raise it."""
        kind = node.op.kind
        return ModelFileError(self.where, f"node {node.name!r} ({kind}) cannot be written {self.target}: {why}")

    def array(self, node: Node, name: str) -> Array:
        """A parameter or buffer of a node."""
        path = f"{node.name}.{name}"
        return self.store.parameters[path] if path in self.store.parameters else self.store.buffers[path]

    def weight(self, node: Node) -> dict[str, Array]:
        """Weight, and bias where there is one, of a product with the axes usual there: out,in,*kernel (in,out,*kernel
        where it is transposed)."""
        arrays = {"weight": np.moveaxis(self.array(node, "weight"), (-1, -2), (0, 1))}
        if f"{node.name}.bias" in self.store.parameters:
            arrays["bias"] = self.array(node, "bias")
        return arrays

    def input(self, node: Node, index: int = 0) -> Value:
        """An input in whatever order it has."""
        return self.values[node.inputs[index]]

    @staticmethod
    def axis(axis: int, ndim: int, first: bool) -> int:
        """The number there of one of our axes (of N,*spatial,C)."""
        axis %= ndim
        if not first or axis == 0 or ndim <= 2:
            return axis
        return 1 if axis == ndim - 1 else axis + 1


def rules_into(table: dict[str, R]) -> Callable[..., Callable[[R], R]]:
    """A decorator for the rules of a table: the function that it is put on is the rule of the kinds that it names."""

    def rule(*kinds: str) -> Callable[[R], R]:
        def entered(function: R) -> R:
            table.update(dict.fromkeys(kinds, function))
            return function

        return entered

    return rule

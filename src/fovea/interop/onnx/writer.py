"""The state of an export: ONNX nodes so far, and for every value of ours the ONNX value and its axis order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore
from fovea.interop.writing import Array, Value, Writing

__all__ = ["OPSET", "Writer"]

OPSET = 18
"""New enough for resizing as Pillow does it (antialias), old enough for runtimes of the last years."""


class Writer(Writing):
    """A walk that leaves nodes and weights of an ONNX graph behind."""

    target = "as ONNX"

    def __init__(self, where: str, graph: Graph, store: ParameterStore, ends: Sequence[str] = ()) -> None:
        """``ends``: what the file's own inputs and outputs are called; no value of the network takes such a name."""
        super().__init__(where, graph, store)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._count = 0
        self._taken = set(ends)
        self._converted: dict[tuple[str, bool], str] = {}

    def emit(self, operator: str, inputs: Sequence[str], name: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Append a node; the name of its first output (others are numbered from there)."""
        self._count += 1
        own = name or f"{operator.lower()}_{self._count}"
        while not name and own in self.graph.nodes:  # what is written between nodes leaves their names to them
            own += "_"
        name, *further = self._free(own, [f".{index}" for index in range(1, outputs)])
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name, *further], name=f"{name}/{operator}", **given)
        )
        return name

    def end(self, value: str, name: str) -> None:
        """Give a value as the output of that name."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"{name}/Identity"))

    def name(self, wanted: str) -> str:
        """A name that no value of the file has yet: the one that is wanted, or with underscores behind it."""
        return self._free(wanted)[0]

    def _free(self, wanted: str, endings: Sequence[str] = ()) -> list[str]:
        while not self._taken.isdisjoint(names := [wanted, *(wanted + ending for ending in endings)]):
            wanted += "_"
        self._taken.update(names)
        return names

    def constant(self, name: str, array: Array) -> str:
        """An initializer."""
        self._count += 1
        unique = self.name(f"{name}_{self._count}" if name in self._taken else name)
        whole = np.asarray(array, order="C")  # ascontiguousarray would make one axis of none
        self.weights.append(numpy_helper.from_array(whole, unique))
        return unique

    def integers(self, *values: int) -> str:
        """An initializer of whole numbers."""
        self._count += 1
        return self.constant(f"sizes_{self._count}", np.array(values, np.int64))

    # --- axis order

    def first(self, node: Node, index: int = 0) -> str:
        """An input as N,C,*spatial."""
        return self.ordered(self.input(node, index), len(node.input_shapes[index]) + 1, True)

    def plain(self, node: Node, index: int = 0) -> str:
        """An input as N,*spatial,C."""
        return self.ordered(self.input(node, index), len(node.input_shapes[index]) + 1, False)

    def ordered(self, value: Value, ndim: int, first: bool) -> str:
        """A value in one of the two orders; transposed once, however often it is asked for."""
        if value.first == first or ndim <= 2:
            return value.name
        key = (value.name, first)
        if key not in self._converted:
            perm = [0, ndim - 1, *range(1, ndim - 1)] if first else [0, *range(2, ndim), 1]
            self._converted[key] = self.emit("Transpose", [value.name], perm=perm)
        return self._converted[key]

    def give(self, node: Node, name: str, first: bool, index: int = 0) -> None:
        """Say where an output of a node is."""
        self.values[Ref(node.name, index)] = Value(name, first)

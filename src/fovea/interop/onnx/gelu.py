"""GELU as files before opset 20 write it, ``x * 0.5 * (1 + erf(x / sqrt 2))``, becomes one node again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from fovea.interop.onnx.values import Array

__all__ = ["with_gelu"]


def with_gelu(graph: onnx.GraphProto, weights: Mapping[str, Array]) -> list[onnx.NodeProto]:
    """The nodes of a graph in order, each such product as one Gelu. Its parts go when nobody else reads them."""
    if not any(node.op_type == "Erf" for node in graph.node):
        return list(graph.node)
    search = _Search(graph, weights)
    replaced: dict[str, onnx.NodeProto] = {}
    dropped: set[str] = set()
    for node in graph.node:
        found = search.product_of(node) if node.op_type == "Erf" else None
        if found is not None:
            x, parts = found
            last = parts.pop()
            replaced[last] = onnx.helper.make_node("Gelu", [x], [last], name=search.maker[last].name)
            dropped.update(parts)
    rest = (node for node in graph.node if not dropped.intersection(node.output))
    return [replaced.get(node.output[0] if node.output else "", node) for node in rest]


class _Search:
    def __init__(self, graph: onnx.GraphProto, weights: Mapping[str, Array]) -> None:
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.ends = {one.name for one in graph.output}
        self.weights = weights

    def product_of(self, erf: onnx.NodeProto) -> tuple[str, list[str]] | None:
        """x, and the values from the erf on whose last is the GELU of x; None when it is something else."""
        x = self._scaled(erf.input[0], math.sqrt(0.5))
        if x is None:
            return None
        values = [erf.output[0]]
        after = self._next(values[-1], "Add")
        if after is None or not self._is(self._other(after, values[-1]), 1.0):
            return None
        values.append(after.output[0])
        wanted = [x, "half"]
        while wanted:
            after = self._next(values[-1], "Mul")
            if after is None:
                return None
            factor = self._other(after, values[-1])
            if len(wanted) == 2 and self._scaled(factor, 0.5) == x:
                wanted = []
            elif factor in wanted:
                wanted.remove(factor)
            elif "half" in wanted and self._is(factor, 0.5):
                wanted.remove("half")
            else:
                return None
            values.append(after.output[0])
        return x, values

    def _next(self, value: str, operator: str) -> onnx.NodeProto | None:
        """The one node that reads a value, if it is of that kind."""
        readers = self.readers.get(value, [])
        if len(readers) != 1 or value in self.ends or readers[0].op_type != operator or len(readers[0].input) != 2:
            return None
        return readers[0]

    @staticmethod
    def _other(node: onnx.NodeProto, value: str) -> str:
        first, second = node.input
        return str(second if first == value else first)

    def _scaled(self, value: str, factor: float) -> str | None:
        """The x of ``x * factor`` or ``x / (1 / factor)``."""
        node = self.maker.get(value)
        if node is None or len(node.input) != 2:
            return None
        first, second = node.input
        if node.op_type == "Mul" and self._is(first, factor):
            return str(second)
        if (node.op_type == "Mul" and self._is(second, factor)) or (
            node.op_type == "Div" and self._is(second, 1 / factor)
        ):
            return str(first)
        return None

    def _is(self, value: str, number: float) -> bool:
        held = self._number(value)
        return held is not None and math.isclose(held, number, rel_tol=1e-4)

    def _number(self, value: str) -> float | None:
        """A constant of one element."""
        array, node = self.weights.get(value), self.maker.get(value)
        if array is None and node is not None and node.op_type == "Constant" and len(node.attribute) == 1:
            given = onnx.helper.get_attribute_value(node.attribute[0])
            if isinstance(given, float):
                return given
            if isinstance(given, onnx.TensorProto) and math.prod(given.dims) == 1:
                array = onnx.numpy_helper.to_array(given)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

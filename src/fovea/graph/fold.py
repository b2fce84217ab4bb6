"""Batch norm with running statistics is a scale and a shift by channel: the convolution before it takes them in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore
from fovea.ops import BatchNorm, Conv, Dense

__all__ = ["folded"]


def folded(graph: Graph, store: ParameterStore) -> tuple[Graph, ParameterStore]:
    """The same function at inference, without the batch norms that directly follow a convolution or dense layer.

    ``w' = w g`` and ``b' = beta + (b - mean) g`` with ``g = gamma / sqrt(var + eps)``; the store is a copy.
    """
    norms = {norm.inputs[0].node: norm for node in graph.nodes.values() if (norm := _norm_behind(graph, node))}
    moved = {norm.name: Ref(name) for name, norm in norms.items()}
    entries = [
        (
            node.name,
            replace(node.op, use_bias=True) if node.name in norms else node.op,  # type: ignore[type-var]
            tuple(moved.get(ref.node, ref) for ref in node.inputs),
        )
        for node in graph.nodes.values()
        if node.name not in moved
    ]
    outputs = tuple(moved.get(ref.node, ref) for ref in graph.outputs)
    result = Graph.from_nodes(entries, graph.inputs, outputs)
    numbers = ParameterStore.for_graph(result, store.seed)
    values = {path: array for path, array in store.tensors().items() if path in numbers.tensors()}
    for name, norm in norms.items():
        values |= _taken_in(name, norm, store)
    numbers.load(values)
    return result, numbers


def _norm_behind(graph: Graph, node: Node) -> Node | None:
    readers = [other for other in graph.nodes.values() for ref in other.inputs if ref.node == node.name]
    alone = len(readers) == 1 and all(ref.node != node.name for ref in graph.outputs)
    fits = isinstance(node.op, (Conv, Dense)) and alone and isinstance(readers[0].op, BatchNorm)
    return readers[0] if fits else None


def _taken_in(name: str, norm: Node, store: ParameterStore) -> dict[str, np.ndarray]:
    assert isinstance(norm.op, BatchNorm)
    gamma, beta = (store.parameters[f"{norm.name}.{one}"].astype(np.float64) for one in ("weight", "bias"))
    mean, var = (store.buffers[f"{norm.name}.running_{one}"].astype(np.float64) for one in ("mean", "var"))
    factor = gamma / np.sqrt(var + norm.op.eps)
    bias = store.parameters.get(f"{name}.bias", np.zeros(len(mean), np.float32))
    return {
        f"{name}.weight": store.parameters[f"{name}.weight"] * factor,
        f"{name}.bias": beta + (bias - mean) * factor,
    }

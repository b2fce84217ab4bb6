"""A graph with one more layer in front."""

from __future__ import annotations

from typing import Any

from fovea.graph.graph import Graph, Ref
from fovea.graph.objective import free_name
from fovea.ops.base import Op

__all__ = ["behind"]


def behind(graph: Graph, op: Op, dtype: str, name: str = "preprocess") -> Graph:
    """The graph behind ``op``, a layer that changes no shape, as the node ``name``: its first input has that dtype."""
    source, added = graph.inputs[0], free_name(name, graph.nodes)
    entries: list[Any] = []
    for node in graph.nodes.values():
        if node.name == source:
            entries.append((source, type(node.op)(graph.shape(source), dtype), ()))  # type: ignore[call-arg]
            entries.append((added, op, (Ref(source),)))
        else:
            refs = tuple(Ref(added) if ref.node == source else ref for ref in node.inputs)
            entries.append((node.name, node.op, refs))
    outputs = tuple(Ref(added) if ref.node == source else ref for ref in graph.outputs)
    return Graph.from_nodes(entries, graph.inputs, outputs)

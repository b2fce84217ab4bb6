"""Layers of a Keras file in the order of our nodes, where names are unknown: by class, in the order that Keras counts.

Keras lists the layers of a model by their distance from the output, farthest first; of equally far ones, that which a
walk from the output meets first (in Keras Applications the shortcut, whose names come first in the alphabet). The
newest of its formats keeps the order within each class only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Graph, Node

__all__ = ["KERAS_EPS", "by_class", "keras_order"]

KERAS_EPS = 1e-3
"""Of a BatchNormalization that says nothing else."""


def keras_order(graph: Graph, known: Mapping[str, str]) -> list[Node]:
    """The nodes with parameters in the order in which Keras would list them; ``known``: their names, if any, there."""
    distance: dict[str, int] = dict.fromkeys(graph.nodes, 0)
    for node in reversed(list(graph.nodes.values())):
        for ref in node.inputs:
            distance[ref.node] = max(distance[ref.node], distance[node.name] + 1)
    met: dict[str, int] = {}
    pending = [ref.node for ref in reversed(graph.outputs)]
    while pending:
        name = pending.pop()
        if name not in met:
            met[name] = len(met)
            pending += [ref.node for ref in reversed(graph.node(name).inputs)]
    nodes = [node for node in graph.nodes.values() if node.parameters and node.name in met]
    return sorted(nodes, key=lambda node: (-distance[node.name], known.get(node.name, ""), met[node.name]))


def by_class(
    graph: Graph,
    layers: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    kinds: Mapping[str, str],
    known: Mapping[str, str],
) -> dict[str, str]:
    """Node -> layer: the first convolution of ours is the file's first, and so on; fewer where one class runs out."""
    queues: dict[str, list[str]] = {}
    for name, arrays in layers.items():
        queues.setdefault(_class(arrays, kinds.get(name, "")), []).append(name)
    found = {}
    for node in keras_order(graph, known):
        wanted = [one for one in _classes(node) if queues.get(one)]
        if wanted:
            found[node.name] = queues[wanted[0]].pop(0)
    return {node.name: found[node.name] for node in graph.nodes.values() if node.name in found}


def _class(arrays: Mapping[str, npt.NDArray[Any]], kind: str) -> str:
    if kind == "depthwise_conv2d":
        return "depthwise"
    if "running_mean" in arrays:
        return "batchnorm"
    if "layer_scale" in arrays:
        return "layerscale"
    dimensions = np.ndim(arrays.get("weight", 0))
    return "norm" if dimensions < 2 else "dense" if dimensions == 2 else "conv"


def _classes(node: Node) -> tuple[str, ...]:
    """Where a node's layer may stand, likeliest first: a dense layer may be stored as a 1x1 convolution."""
    kind = node.op.kind
    if kind == "conv":
        return ("depthwise", "conv") if getattr(node.op, "groups", 1) > 1 else ("conv",)
    return {"dense": ("dense", "conv"), "batchnorm": ("batchnorm",), "layerscale": ("layerscale",)}.get(kind, ("norm",))

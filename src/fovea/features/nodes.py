"""Which value of a network a name stands for: behind the normalisation and activation that belong to the layer."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.errors import ConfigError, GraphError
from fovea.graph.graph import Graph, Node
from fovea.graph.head import find_head

__all__ = ["ACTIVATIONS", "behind", "penultimate", "taken_nodes"]

ACTIVATIONS = frozenset({
    "relu", "relu6", "leakyrelu", "prelu", "sigmoid", "tanh", "silu", "gelu", "hardsigmoid", "hardswish", "elu", "selu",
    "softplus", "mish", "clip",
})  # fmt: skip
"""Kinds of op that end a layer."""
_NORMS = frozenset({"batchnorm", "layernorm", "groupnorm", "lrn", "layerscale"})
_NOTHING = frozenset({"dropout", "stochasticdepth", "stopgradient"})
"""Kinds that do nothing at inference."""


def penultimate(graph: Graph) -> str:
    """The node whose value the classifier reads: the features. What does nothing at inference (dropout) is left out.

    Raises GraphError when no dense or 1x1-convolution layer stands before the output (``fovea.graph.head``).
    """
    node = graph.node(find_head(graph).features.node)
    while node.op.kind in _NOTHING and node.inputs:
        node = graph.node(node.inputs[0].node)
    return node.name


def behind(graph: Graph, name: str) -> str:
    """The node that ends the layer ``name``: its activation, where batch norm or a residual addition stand between too.

    Without an activation on the one way ahead it is the normalisation behind the layer, else the layer itself (the
    linear layers of MobileNetV2, say). Raises GraphError with near names for an unknown one.
    """
    readers: dict[str, list[str]] = {}
    for ref, names in graph.consumers().items():
        readers.setdefault(ref.node, []).extend(names)
    node = last = graph.node(name)
    outputs = {ref.node for ref in graph.outputs}
    while node.op.kind not in ACTIVATIONS:
        ahead = readers.get(node.name, [])
        if len(ahead) != 1 or node.name in outputs:
            return last.name
        node = graph.node(ahead[0])
        if node.op.kind in _NORMS and last.op.kind != "add":
            last = node
        elif node.op.kind not in ACTIVATIONS | _NORMS | _NOTHING and not _residual(node):
            return last.name
    return node.name


def _residual(node: Node) -> bool:
    return node.op.kind == "add" and len(set(node.input_shapes)) == 1


def taken_nodes(graph: Graph, layers: str | Sequence[str] | None) -> dict[str, str]:
    """For every name asked for the node whose value is taken; None asks for the features that the classifier reads.

    A name is that of a node, or of a scope ("stage1.block0"), which stands for its last node. Raises ConfigError for
    what is no list of names, GraphError with near names for an unknown one.
    """
    if layers is None:
        name = penultimate(graph)
        return {name: name}
    names = [layers] if isinstance(layers, str) else layers
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError("codes", f"expected layers as a list of names, got {layers!r}; see model.summary()")
    return {name: _taken(graph, name) for name in names}


def _taken(graph: Graph, name: str) -> str:
    inside = [node.name for node in graph.nodes.values() if node.name.startswith(name + ".")]
    if name not in graph.nodes and inside:
        return behind(graph, inside[-1])
    if graph.node(name).op.kind in ("input", "constant"):
        raise GraphError(name, f"expected a layer, got an {graph.node(name).op.kind}; see model.summary()")
    return behind(graph, name)

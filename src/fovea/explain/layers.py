"""Which feature map a CAM method looks at: the last one that still has space, unless one is named."""

from __future__ import annotations

import math

from fovea.errors import GraphError
from fovea.graph.graph import Graph, Ref

__all__ = ["chosen_layer", "default_layer", "layers_with_space", "shared_layer"]

_POOLS = ("maxpool", "avgpool", "adaptiveavgpool", "pad", "resize", "dropout", "stopgradient")
"""Not feature maps of their own: they thin out, enlarge or pass on what a convolution made."""


def layers_with_space(graph: Graph, node: Ref) -> list[str]:
    """Nodes between the input and ``node`` whose output has more than one position, in order; sizes must be closed."""
    source = graph.inputs[0]
    axes = len(graph.shape(source))
    part = graph.pruned([node])
    reached = {source}
    found = []
    for one in part.nodes.values():
        if any(ref.node in reached for ref in one.inputs):
            reached.add(one.name)
            shape = one.output_shapes[0]
            if len(shape) == axes and _positions(graph, one.name) > 1:
                found.append(one.name)
    return found


def default_layer(graph: Graph, node: Ref) -> str | None:
    """The last convolutional feature map that still has space, behind its norm and activation and before its pooling;
    None where a network has no such map.

    Where the score itself lies in a map (an element of a detector's or a segmentation's output) it is the last of the
    coarsest maps: what follows looks at few positions of its own. Networks without a convolution have none: their
    "space" is the picture itself.
    """
    spatial = layers_with_space(graph, node)
    seen = any("conv" in graph.node(name).op.kind for name in spatial)
    maps = [name for name in spatial if graph.node(name).op.kind not in _POOLS]
    if not seen or not maps:
        return None
    if node.node in spatial:
        coarsest = min(_positions(graph, name) for name in maps)
        maps = [name for name in maps if _positions(graph, name) == coarsest]
    return maps[-1]


def shared_layer(graph: Graph, first: Ref, second: Ref) -> str | None:
    """The last feature map of the size of ``first`` that both are made of: where a detector's branches for the class
    and for the sides of a box part. None where they share none."""
    both, size = set(graph.pruned([second]).nodes), graph.shape(first)[:-1]
    maps = [name for name in layers_with_space(graph, first) if name in both and graph.shape(name)[:-1] == size]
    maps = [name for name in maps if graph.node(name).op.kind not in _POOLS]
    return maps[-1] if maps else None


def _positions(graph: Graph, name: str) -> int:
    return math.prod(size or 0 for size in graph.shape(name)[:-1])


def chosen_layer(graph: Graph, node: Ref, layer: str | None, where: str) -> str:
    """The named layer, checked, or the default one. Raises GraphError with near names, or for a map without space."""
    if layer is None:
        found = default_layer(graph, node)
        if found is None:
            raise GraphError(
                where, "expected a network with a convolutional feature map, got none with space; choose a method "
                "without a layer, integrated_gradients, say",
            )  # fmt: skip
        return found
    one = graph.node(layer)
    spatial = layers_with_space(graph, node)
    if one.name not in spatial:
        last = default_layer(graph, node) or "none"
        raise GraphError(
            where, f"expected a layer with space on the way to the score, got {layer} with output "
            f"{('N', *one.output_shapes[0])}; the last one is {last}",
        )  # fmt: skip
    return layer
